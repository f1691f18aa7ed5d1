"""Docstrings use Sphinx's marks for mathematics and references; the site is Markdown."""

import re
from typing import Any

import griffe

_BLOCK = re.compile(r"^([ \t]*)\.\. math::[ \t]*(.*(?:\n(?:\1[ \t]+\S.*|[ \t]*$))*)", re.MULTILINE)
_EXAMPLE = re.compile(r"^([ \t]*)Example:$", re.MULTILINE)
_INLINE = re.compile(r":math:`([^`]+)`")
_REFERENCE = re.compile(r":(?:class|meth|func|mod|attr|data|exc):`~?([^`]+)`")


class Markdown(griffe.Extension):
    """``.. math::`` to ``$$``, ``:math:`` to ``$``, and ``:class:`` to code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each object once it is complete."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text: str) -> str:
    """The docstring with Sphinx's marks replaced.

    >>> to_markdown("Keep :math:`k` of :class:`Filters`.")
    'Keep $k$ of `Filters`.'
    """
    text = _EXAMPLE.sub(r"\1Examples:", text)  # griffe knows doctests by the plural alone
    text = _BLOCK.sub(_display, text)
    text = _INLINE.sub(r"$\1$", text)
    return _REFERENCE.sub(r"`\1`", text)


def _display(found: re.Match[str]) -> str:
    indent, body = found.group(1), found.group(2)
    formula = " ".join(line.strip() for line in body.splitlines() if line.strip())
    return f"{indent}$$\n{indent}{formula}\n{indent}$$\n"
