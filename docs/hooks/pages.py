"""What the site's pages need beyond Markdown: mathematics as MathML, and the README as first page.

MathML is drawn by the browser itself, so that no page loads a script or a font from anywhere.
"""

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert

_MATHS = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<latex>.*?)\\[)\]]</(?P=tag)>',
    re.DOTALL,
)
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)#]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The first page is the README, its links turned from the repository's to the site's."""
    if page.file.src_uri != "index.md":
        return markdown
    with open("README.md", encoding="utf-8") as readme:
        return _LINK.sub(_of_the_site, readme.read())


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Every formula that arithmatex has found, as MathML."""
    return _MATHS.sub(lambda found: _mathml(found, page.file.src_uri), html)


def _of_the_site(link: re.Match[str]) -> str:
    text, path, anchor = link.group(1), link.group(2), link.group(3) or ""
    if path.startswith("docs/") and path.endswith(".md"):
        return f"[{text}]({path.removeprefix('docs/')}{anchor})"
    return text  # a file of the repository that is no page of the site


def _mathml(found: re.Match[str], page: str) -> str:
    latex = unescape(found.group("latex")).strip()
    display = "block" if found.group("open") == "[" else "inline"
    try:
        return convert(latex, display=display)
    except Exception as error:  # whatever the converter trips over, the build must name the page
        raise ValueError(f"{page}: cannot render the formula {latex!r}: {error!r}") from error
