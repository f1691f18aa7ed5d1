"""Figures of a model over a data loader: the protocol of metrics, and the one built in."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from espalier.errors import RequestError


@runtime_checkable
class Figure(Protocol):
    """What torchmetrics' metrics are, and anything else with these three methods."""

    def update(self, preds: Any, target: Any) -> None:
        """Take in one batch."""

    def compute(self) -> Any:
        """The figure over all batches since the last reset: a number, or a tensor of one."""

    def reset(self) -> None:
        """Forget all batches."""


class Accuracy:
    """The fraction of labels whose logit is among the largest; logits that are not finite are wrong.

    Args:
        top: How many of the largest logits count: 1 or, as ImageNet has it, 5.

    Example:
        >>> import torch
        >>> figure = Accuracy()
        >>> figure.update(torch.eye(3), torch.tensor([0, 1, 1]))
        >>> round(figure.compute(), 4)
        0.6667
    """

    def __init__(self, top: int = 1) -> None:
        if top < 1:
            raise RequestError(f"top={top}; give at least 1")
        self.top = top
        self.right = self.seen = 0

    def update(self, preds: Any, target: Any) -> None:
        """Logits (N, classes, …) and labels (N, …)."""
        fits = (
            isinstance(preds, Tensor)
            and isinstance(target, Tensor)
            and preds.dim() >= 2
            and preds.shape[:1] + preds.shape[2:] == target.shape
            and not target.is_floating_point()
        )
        if not fits:
            got = " and ".join(
                f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                for value in (preds, target)
            )
            raise RequestError(
                f"accuracy needs logits (N, classes) and integer labels (N,), and got {got}; give "
                "metrics= of your own, or predict= to take the logits out of the model's output"
            )
        # NaN counts as the largest of all, which would make a broken model right on some class.
        best = preds.topk(min(self.top, preds.shape[1]), dim=1).indices
        right = (best == target.unsqueeze(1)).any(dim=1) & preds.isfinite().all(dim=1)
        self.right, self.seen = self.right + int(right.sum()), self.seen + target.numel()

    def compute(self) -> float:
        """In [0, 1]."""
        return self.right / self.seen if self.seen else float("nan")

    def reset(self) -> None:
        """Forget all batches."""
        self.right = self.seen = 0


def number(name: str, value: Any) -> float:
    """What a metric computed, as a float.

    Raises:
        RequestError: It is not one number.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise RequestError(
            f"metric {name!r} computes {got}; give one whose compute() is one number (an average "
            "over classes, say)"
        ) from error
