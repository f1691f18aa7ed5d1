"""Any weight may go: irregular sparsity."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from espalier._types import Keep
from espalier.sets._set import GroupSet


@dataclass(frozen=True)
class Unstructured(GroupSet):
    """At most ``keep`` nonzero weights, anywhere."""

    def check(self, shape: Sequence[int], *, groups: int = 1) -> None:  # noqa: D102
        return

    def units(self, shape: Sequence[int]) -> int:  # noqa: D102
        return prod(shape)

    def nonzeros(self, shape: Sequence[int], keep: Keep) -> int:  # noqa: D102
        assert isinstance(keep, int)
        return keep

    def keep_for(self, shape: Sequence[int], density: float) -> int:  # noqa: D102
        return max(1, round(density * prod(shape)))

    def scores(self, w: Tensor, metric: Tensor | None = None) -> Tensor:  # noqa: D102
        magnitude = w.detach().abs().flatten().float()
        return magnitude if metric is None else magnitude.square() * metric.flatten()

    def spread(self, chosen: Tensor, shape: Sequence[int]) -> Tensor:  # noqa: D102
        return chosen.reshape(tuple(shape))

    def contains(self, w: Tensor, keep: Keep) -> bool:  # noqa: D102
        assert isinstance(keep, int)
        return int(torch.count_nonzero(w)) <= keep
