"""|W| of each layer before and after, as images (the SLR paper's Figure 5)."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from espalier.report._numbers import count, percent
from espalier.report._runs import Run

_ROWS, _COLUMNS = 160, 480  # pixels of an image, at most
_HEIGHT = 150  # of an image on the page, CSS pixels, at most
_SHOWN = 12  # layers
_INK = np.array([[226, 238, 233], [122, 188, 171], [22, 116, 101], [4, 44, 40]], dtype=float)


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """One layer before and after.

    Attributes:
        name: the parameter.
        note: shape, what one pixel is, how much is left.
        before: data URI of a PNG; ``None`` when the dense weights were not saved.
        after: data URI of a PNG.
        width: of an image on the page, CSS pixels, where there is room.
        height: of an image on the page, CSS pixels.
        top: the value of |W| drawn darkest.
    """

    name: str
    note: str
    before: str | None
    after: str
    width: int
    height: int
    top: float


def heatmaps(run: Run) -> tuple[list[Heatmap], int]:
    """The layers' images in the model's order, and how many layers were left out for length."""
    names = list(run.got("layers")) or list(run.plan)
    after = {n: w for n, w in run.tensors(names, "weights.safetensors").items() if w.numel() > 1}
    before = run.tensors(list(after), "before.safetensors")
    shown = sorted(sorted(after, key=lambda n: -after[n].numel())[:_SHOWN], key=list(after).index)
    pictures = [_heatmap(name, before.get(name), after[name]) for name in shown]
    return pictures, len(after) - len(shown)


def _heatmap(name: str, before: Tensor | None, after: Tensor) -> Heatmap:
    after_view, block = _pooled(after)
    before_view = None
    if before is not None and before.shape == after.shape:
        before_view = _pooled(before)[0]
    views = [view for view in (before_view, after_view) if view is not None]
    top = max(float(np.quantile(view, 0.995)) for view in views)
    top = top or max(float(view.max()) for view in views) or 1.0
    rows, columns = after_view.shape
    shape = "×".join(map(str, after.shape))
    each = "one weight a pixel" if block == (1, 1) else f"{block[0]}×{block[1]} weights a pixel"
    left = int(torch.count_nonzero(after))
    note = f"{shape} · {each} · {count(left)} weights, {percent(left / after.numel())} left"
    scale = min(_HEIGHT / rows, _COLUMNS / columns)
    return Heatmap(
        name=name,
        note=note,
        before=None if before_view is None else _png(before_view, top),
        after=_png(after_view, top),
        width=max(round(columns * scale), min(_COLUMNS, 3 * _HEIGHT) if columns > rows else 60),
        height=max(round(rows * scale), 48),
        top=top,
    )


def _pooled(w: Tensor) -> tuple[np.ndarray, tuple[int, int]]:
    """|W| as the matrix (O, I·kh·kw), averaged over blocks until it fits; and the block."""
    matrix = w.detach().abs().nan_to_num(0.0, 0.0, 0.0)
    matrix = matrix.reshape(w.shape[0], -1) if w.ndim > 1 else matrix.reshape(1, -1)
    rows, columns = matrix.shape
    high, wide = -(-rows // _ROWS), -(-columns // _COLUMNS)
    pooled = F.avg_pool2d(matrix[None], (high, wide), ceil_mode=True, count_include_pad=False)[0]
    return pooled.numpy().astype(float), (high, wide)


def _png(view: np.ndarray, top: float) -> str:
    """White where every weight of the pixel is zero; else from pale to dark with √|W|."""
    level = np.sqrt(np.clip(view / top, 0.0, 1.0)) * (len(_INK) - 1)
    below = np.minimum(level.astype(int), len(_INK) - 2)
    part = (level - below)[..., None]
    rgb = (1 - part) * _INK[below] + part * _INK[below + 1]
    rgb[view == 0] = 255
    buffer = io.BytesIO()
    Image.fromarray(np.round(rgb).astype(np.uint8)).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def heat_stops() -> Sequence[str]:
    """The stops of the colour scale, for the page's key."""
    return ["#" + "".join(f"{int(c):02x}" for c in stop) for stop in _INK]
