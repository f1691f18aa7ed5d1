"""YOLOv3's loss, and boxes out of its maps.

Legend, per anchor a and cell (column cx, row cy) of a map with stride s pixels:

    t = (tx, ty, tw, th, to, t1 … tC)   what the network says
    bx = s (σ(tx) + cx)    by = s (σ(ty) + cy)      the box's centre, pixels
    bw = pw exp(tw)        bh = ph exp(th)          its size, of the anchor's (pw, ph)
    σ(to)                                           is there an object
    σ(tc)                                           is it of class c

Source: Redmon & Farhadi 2018, sections 2.1 to 2.3, and darknet's ``yolo_layer.c`` for what the paper leaves out: the
weight 2 − w h of a box that fills the fraction w h of the picture, and the gradient of every term.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from espalier._ground.boxes import overlaps, suppressed_by_class
from espalier.models import Head

Target = Mapping[str, Tensor]
"""Of one picture: ``boxes`` (n, 4) x1, y1, x2, y2 in pixels, ``labels`` (n,), ``crowd`` (n,)."""


def yolo_loss(
    maps: Sequence[Tensor],
    heads: Sequence[Head],
    targets: Sequence[Target],
    size: tuple[int, int],
    ignore: float = 0.7,
) -> Tensor:
    r"""Sum of squares and cross-entropies of all cells, the mean over pictures.

    Each true box has one anchor, the one of all maps whose shape overlaps it most, in the cell of its centre. There

    .. math:: (2 - wh)\big[\mathrm{bce}(\hat t_{xy}) + \tfrac12 (t_{wh} - \hat t_{wh})^2\big]
              + \mathrm{bce}(t_o, 1) + \sum_c \mathrm{bce}(t_c, [c = \hat c])

    and everywhere else bce(t_o, 0), but where the box predicted overlaps a true one by more than ``ignore``.

    Args:
        maps: One of each head, (N, A·(5 + C), H, W).
        heads: Their anchors.
        targets: One of each picture.
        size: (height, width) of the pictures, pixels.
        ignore: Intersection over union in [0, 1].

    Returns:
        A scalar on the graph.
    """
    total = maps[0].new_zeros(())
    for output, head in zip(maps, heads, strict=True):
        t, stride = _cells(output, head), size[0] / output.shape[2]
        wanted = torch.zeros_like(t[..., 4])
        counted = torch.ones_like(wanted)
        boxes = _boxes(t.detach(), head, stride)
        for n, target in enumerate(targets):
            real = ~target["crowd"]
            true, labels = target["boxes"][real], target["labels"][real]
            if len(target["boxes"]):
                near = overlaps(boxes[n].reshape(-1, 4), target["boxes"]).amax(dim=1)
                counted[n] = (near <= ignore).to(t.dtype).view_as(counted[n])
            if not len(true):
                continue
            extent = true[:, 2:] - true[:, :2]
            mine, anchor = _assigned(extent, head)
            true, labels, extent = true[mine], labels[mine], extent[mine].clamp(min=1e-3)
            centre = (true[:, :2] + true[:, 2:]) / 2 / stride
            column = centre[:, 0].long().clamp(0, t.shape[3] - 1)
            row = centre[:, 1].long().clamp(0, t.shape[2] - 1)
            said = t[n, anchor, row, column]
            inside = centre - torch.stack([column, row], dim=1)
            weight = 2 - extent.prod(dim=1) / (size[0] * size[1])
            anchors = extent.new_tensor(head.anchors)[anchor]
            place = _bce(said[:, :2], inside.clamp(0, 1)).sum(dim=1)
            form = 0.5 * (said[:, 2:4] - (extent / anchors).log()).square().sum(dim=1)
            kinds = _bce(said[:, 5:], F.one_hot(labels, head.classes).to(t.dtype))
            total = total + (weight * (place + form)).sum() + kinds.sum()
            wanted[n, anchor, row, column] = counted[n, anchor, row, column] = 1
        total = total + (counted * _bce(t[..., 4], wanted)).sum()
    return total / len(targets)


def yolo_boxes(
    maps: Sequence[Tensor],
    heads: Sequence[Head],
    size: tuple[int, int],
    score: float = 0.005,
    overlap: float = 0.45,
    most: int = 300,
) -> list[dict[str, Tensor]]:
    """What the network sees in each picture, after suppression within each class.

    Args:
        maps: One of each head.
        heads: Their anchors.
        size: (height, width) of the pictures, pixels.
        score: What σ(to) σ(tc) must be more than.
        overlap: Above it the lesser of two boxes of a class goes.
        most: Boxes per picture that are looked at, the best.

    Returns:
        By picture ``boxes`` (n, 4) in pixels, within it; ``scores`` (n,), falling; ``labels`` (n,).
    """
    boxes, scores = [], []
    for output, head in zip(maps, heads, strict=True):
        t = _cells(output, head)
        boxes.append(_boxes(t, head, size[0] / output.shape[2]).flatten(1, 3))
        scores.append((t[..., 4:5].sigmoid() * t[..., 5:].sigmoid()).flatten(1, 3))
    limit = boxes[0].new_tensor([size[1], size[0], size[1], size[0]])
    found = []
    for place, sure in zip(torch.cat(boxes, 1), torch.cat(scores, 1), strict=True):
        # Neither boxes of no size nor scores that are no numbers are boxes: a broken model sees nothing.
        place = torch.nan_to_num(place).minimum(limit).clamp(min=0)
        best, flat = torch.nan_to_num(sure, nan=0.0).flatten().topk(min(most, sure.numel()))
        flat = flat[best > score]
        where, label = flat // sure.shape[1], flat % sure.shape[1]
        stays = suppressed_by_class(place[where], best[: len(flat)], label, overlap)
        found.append(
            {
                "boxes": place[where][stays],
                "scores": best[: len(flat)][stays],
                "labels": label[stays],
            }
        )
    return found


def _cells(output: Tensor, head: Head) -> Tensor:
    """(N, A·(5 + C), H, W) to (N, A, H, W, 5 + C)."""
    n, _, rows, columns = output.shape
    cells = output.reshape(n, len(head.anchors), 5 + head.classes, rows, columns)
    return cells.permute(0, 1, 3, 4, 2)


def _boxes(t: Tensor, head: Head, stride: float) -> Tensor:
    """(N, A, H, W, 4) as x1, y1, x2, y2, pixels."""
    rows, columns = torch.meshgrid(
        torch.arange(t.shape[2], device=t.device), torch.arange(t.shape[3], device=t.device),
        indexing="ij",
    )  # fmt: skip
    centre = (t[..., :2].sigmoid() + torch.stack([columns, rows], dim=-1)) * stride
    # exp of what an untrained network says may overflow; no picture is e^10 anchors wide.
    extent = t.new_tensor(head.anchors)[:, None, None] * t[..., 2:4].clamp(max=10).exp()
    return torch.cat([centre - extent / 2, centre + extent / 2], dim=-1)


def _assigned(extent: Tensor, head: Head) -> tuple[Tensor, Tensor]:
    """Which true boxes are this head's, and the anchor of each, by the overlap of shapes at one centre."""
    every = extent.new_tensor(head.every)
    own = [head.every.index(anchor) for anchor in head.anchors]
    best = overlaps(F.pad(extent, (2, 0)), F.pad(every, (2, 0))).argmax(dim=1)
    mine = torch.isin(best, best.new_tensor(own))
    places = best.new_tensor([own.index(n) if n in own else 0 for n in range(len(every))])
    return mine, places[best[mine]]


def _bce(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of σ(logits), elementwise."""
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


def heads_of(model: Any) -> list[Head]:
    """The heads of a model, in the order of its maps; none of another kind of detector."""
    return [module for module in model.modules() if isinstance(module, Head)]
