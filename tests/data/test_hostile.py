"""Images and arrays that claim more than they are: refused, or read in the memory that the answer takes."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from espalier.data import _folder as folder
from espalier.data._mnist import read_idx
from espalier.errors import DataError


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (7, 900)])
def test_a_long_image_is_cut_as_if_the_whole_of_it_had_been_resized(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "long.png")
    size = 20
    shorter = min(shape)
    high, wide = (max(size, round(side * size / shorter)) for side in shape)
    whole = Image.fromarray(pixels).resize((wide, high), Image.Resampling.BILINEAR)
    left, top = (wide - size) // 2, (high - size) // 2
    wanted = np.asarray(whole.crop((left, top, left + size, top + size))).astype(int)
    found = folder._cropped(folder.read_image(tmp_path / "long.png"), size)
    assert np.abs(found - wanted).max() <= 1  # in steps of 255; the box is a float32


def test_nothing_larger_than_the_answer_is_made_of_a_long_image(tmp_path, monkeypatch):
    Image.new("L", (1, 60_000)).save(tmp_path / "long.png")
    made = []
    resize = Image.Image.resize

    def seen(self, size, *args, **kwargs):
        made.append(size)
        return resize(self, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", seen)
    folder._cropped(folder.read_image(tmp_path / "long.png"), 224)
    assert made == [(224, 224)]


def test_an_eps_by_the_name_of_png_is_never_handed_to_ghostscript(tmp_path, monkeypatch):
    monkeypatch.setattr(
        EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("Ghostscript was run")
    )
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    (tmp_path / "a.png").write_bytes(eps)
    with pytest.raises(DataError, match="neither PNG nor JPEG"):
        folder.read_image(tmp_path / "a.png")


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    Image.new("1", (100, 101)).save(tmp_path / "a.png")
    monkeypatch.setattr(folder, "MAX_PIXELS", 10_000)
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match="100×101 pixels, and at most 10,000"):
        folder.read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "shape", [(1, 28, 28), (400, 4096, 4096), (2**32 - 1, 2**32 - 1, 9), (0, 5, 5)]
)
def test_of_a_gzip_bomb_no_more_is_unpacked_than_its_header_says(tmp_path, shape):
    head = struct.pack(">4B3I", 0, 0, 8, 3, *shape)
    (tmp_path / "bomb").write_bytes(gzip.compress(head) + gzip.compress(bytes(1 << 24)) * 40)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"and more|bytes are read"):
        read_idx(tmp_path / "bomb", 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 23


def test_a_gzip_stream_that_cannot_hold_what_it_claims_is_not_unpacked(tmp_path):
    head = struct.pack(">4B3I", 0, 0, 8, 3, 1000, 1000, 1000)
    (tmp_path / "short").write_bytes(gzip.compress(head + bytes(1000)))
    with pytest.raises(DataError, match="a gzip stream of this length holds"):
        read_idx(tmp_path / "short", 3)
