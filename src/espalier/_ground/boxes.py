"""Boxes (x1, y1, x2, y2): how much two of them share, and which of several that overlap stays."""

import torch
from torch import Tensor


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of every pair.

    Args:
        one: (N, 4), any unit; x2 ≥ x1 and y2 ≥ y1.
        other: (M, 4), the same unit, dtype and device.

    Returns:
        (N, M) in [0, 1]; 0 for two boxes without area.

    Example:
        >>> overlaps(torch.tensor([[0., 0., 2., 2.]]), torch.tensor([[1., 0., 3., 2.], [5., 5., 6., 6.]]))
        tensor([[0.3333, 0.0000]])
    """
    corner = torch.maximum(one[:, None, :2], other[None, :, :2])
    opposite = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = (opposite - corner).clamp(min=0).prod(dim=2)
    area = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1) for boxes in (one, other)]
    union = area[0][:, None] + area[1][None] - shared
    return shared / union.clamp(min=torch.finfo(shared.dtype).tiny)


def suppressed(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Greedy non-maximum suppression: a box goes if it shares more than ``threshold`` with a better one that stays.

    Args:
        boxes: (N, 4).
        scores: (N,).
        threshold: Of intersection over union, in [0, 1].

    Returns:
        int64: the indices that stay, the best first; of equal scores the lower index.

    Example:
        >>> boxes = torch.tensor([[0., 0., 2., 2.], [0., 0., 2., 1.9], [5., 5., 6., 6.]])
        >>> suppressed(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist()
        [1, 2]
    """
    order = torch.sort(scores, descending=True, stable=True).indices
    over = (overlaps(boxes[order], boxes[order]) > threshold).cpu()
    stays = torch.ones(len(order), dtype=torch.bool)
    for rank in range(len(order)):
        if stays[rank]:
            stays[rank + 1 :] &= ~over[rank, rank + 1 :]
    return order[stays.to(order.device)]


def suppressed_by_class(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """The same within each class: boxes of two classes never suppress one another.

    Args:
        boxes: (N, 4), finite.
        scores: (N,).
        labels: int64 (N,), ≥ 0.
        threshold: Of intersection over union.

    Returns:
        As :func:`suppressed`.
    """
    if not len(boxes):
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    # Classes moved apart share nothing, so that one pass serves all of them.
    apart = (boxes.max() - boxes.min() + 1) * labels.to(boxes.dtype)
    return suppressed(boxes + apart[:, None], scores, threshold)
