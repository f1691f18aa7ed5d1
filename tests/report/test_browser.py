"""The page as a browser shows it: nothing complains, everything has a size, no sideways scrolling."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed to open the page in"),
]
# A page around the page: it measures what is in its frame and writes that into itself.
AROUND = """<!DOCTYPE html><body style="margin:0"><pre id="seen"></pre>
<iframe id="f" src="{page}" style="width:{width}px;height:{height}px;border:0"></iframe><script>
document.getElementById("f").onload = event => {{
  const inside = event.target.contentDocument;
  for (const hidden of inside.querySelectorAll("details")) hidden.open = true;
  const sizes = [...inside.querySelectorAll("img, figure > svg")].map(picture => {{
    const box = picture.getBoundingClientRect();
    return [box.width, box.height, picture.naturalWidth ?? 1];
  }});
  document.getElementById("seen").textContent = JSON.stringify({{
    sizes, wide: inside.documentElement.scrollWidth, high: inside.documentElement.scrollHeight,
    title: inside.title }});
}};
</script>"""


def browse(folder: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--hide-scrollbars", "--enable-logging=stderr", "--allow-file-access-from-files",
        f"--user-data-dir={folder / 'profile'}", *options, url,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def measured(folder: Path, page: Path, width: int) -> dict[str, Any]:
    around = folder / "around.html"
    around.write_text(AROUND.format(page=page.as_uri(), width=width, height=3000))
    done = browse(folder, around.as_uri(), "--dump-dom", "--virtual-time-budget=8000")
    seen = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert seen is not None
    return json.loads(unescape(seen[1]))


def test_the_page_opens_without_complaint_and_is_not_blank(
    methods_page: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "page.png"
    options = (f"--screenshot={picture}", "--window-size=1280,6000")
    done = browse(tmp_path, methods_page.as_uri(), *options)
    assert complaints(done) == []
    with Image.open(picture) as image:
        assert image.size == (1280, 6000)
        colours = image.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 500


def test_text_stands_out_from_the_page_light_and_dark(one_page: Path, tmp_path: Path) -> None:
    for scheme, is_dark in ((0, True), (1, False)):  # Blink's kDark and kLight
        picture = tmp_path / f"{scheme}.png"
        scheme_option = f"--blink-settings=preferredColorScheme={scheme}"
        options = (scheme_option, f"--screenshot={picture}", "--window-size=1280,2500")
        browse(tmp_path, one_page.as_uri(), *options)
        with Image.open(picture) as image:
            grey = image.convert("L").resize((640, 1250)).tobytes()
        page = sorted(grey)[len(grey) // 2]  # most of a page is paper
        assert (page < 60) == is_dark
        assert max(grey) - min(grey) > 180


def test_figures_take_their_ink_from_the_style_sheet(one_page: Path) -> None:
    drawings = re.findall(r"<svg.*?</svg>", one_page.read_text(encoding="utf-8"), re.DOTALL)
    assert "var(--soft)" in "".join(drawings)
    assert not re.search("#1d2421|#59625d|#a3aaa5|#e9ebe7", "".join(drawings))


def test_a_page_that_fetches_something_does_make_it_complain(
    one_page: Path, tmp_path: Path
) -> None:
    page = tmp_path / "fetching.html"
    text = one_page.read_text(encoding="utf-8")
    page.write_text(text.replace("<header>", '<header><img src="other.png">'), encoding="utf-8")
    picture = tmp_path / "page.png"
    done = browse(tmp_path, page.as_uri(), f"--screenshot={picture}", "--window-size=800,600")
    assert complaints(done)


@pytest.mark.parametrize("width", [1280, 420])
def test_every_picture_has_a_size_and_nothing_scrolls_sideways(
    methods_page: Path, tmp_path: Path, width: int
) -> None:
    seen = measured(tmp_path, methods_page, width)
    assert seen["title"] == "lenet5 on mnist · Espalier"
    assert len(seen["sizes"]) > 20
    assert all(min(size) > 0 for size in seen["sizes"])
    assert max(size[0] for size in seen["sizes"]) <= width
    assert seen["wide"] <= width
