r"""Filters chosen by conditional entropy: those stay that together say most of what the network decides.

Legend: X_f ``bins`` of filter f's mean activation on an image; Y the class that the network gives it;
S the filters chosen so far; cells the distinct values of X_S among the images.

    H(Y | X_S) = Σ_cells p(cell) · H(Y | cell)          in nats, by counting
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from espalier._ground.example import call
from espalier._ground.modes import evaluating
from espalier.errors import RequestError
from espalier.methods._at_start import CutFirst
from espalier.tasks import Task


@dataclass(frozen=True, kw_only=True)
class FilterEntropy(CutFirst):
    r"""2PFPCE's filter selection: one after the other, the filter that leaves least of :math:`H(Y \mid X_S)`.

    Layer by layer, on the network as it stands when the stage begins; then masked training. For plans of
    ``filters``. Once no filter adds anything (with few images a handful tells them all apart) the choice begins
    anew with those that are left, so that every filter has a rank.

    Args:
        batches: Of the training inputs, from which the entropies are counted.
        bins: Equal intervals of a filter's range in which its activation is counted.

    Source: Min, Wang, Chen, Xu & Lin 2018, "2PFPCE: Two-Phase Filter Pruning Based on Conditional Entropy"
    (arXiv:1809.02220).
    """

    name = "filter_entropy"
    title = "Filter entropy (2PFPCE)"
    sentence = (
        "Cut the filters that say least of what the network decides, by conditional entropy (2018)"
    )

    batches: Annotated[int, Ge(1)] = 32
    bins: Annotated[int, Ge(2)] = 32

    def scores(self, model: nn.Module, names: Sequence[str], task: Task) -> dict[str, Tensor]:
        """A filter's rank, the largest for the first chosen, spread over its weights by their squares.

        Raises:
            RequestError: The model decides among no classes.
        """
        seen: dict[str, list[Tensor]] = {}
        hooks = [
            model.get_submodule(name.rpartition(".")[0]).register_forward_hook(_means(seen, name))
            for name in names
            if model.get_parameter(name).dim() > 1
        ]
        decided = []
        try:
            with evaluating(model), torch.no_grad():
                for example in islice(task.inputs("train", self.batches), self.batches):
                    output = call(model, example)
                    if not isinstance(output, Tensor) or output.dim() != 2:
                        raise RequestError(
                            "filter_entropy needs outputs of one row of class scores a sample; choose another method"
                        )
                    decided.append(output.argmax(1))
        finally:
            for hook in hooks:
                hook.remove()
        y = torch.cat(decided)
        found = {}
        for name in names:
            w = model.get_parameter(name).detach()
            found[name] = torch.zeros_like(w)
            if name in seen:
                chosen = order(binned(torch.cat(seen[name]), self.bins), y)
                rank = torch.zeros(len(chosen), device=w.device)
                rank[chosen] = torch.arange(len(chosen), 0, -1.0, device=w.device)
                squares = w.square().flatten(1)
                share = squares / squares.sum(1, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)
                found[name] = (share * rank[:, None]).reshape(w.shape)
        return found


def binned(x: Tensor, bins: int) -> Tensor:
    """Which of equal intervals of its column's range each value lies in; integers (N, F).

    >>> binned(torch.tensor([[0.0, 1.0], [0.4, 1.0], [1.0, 1.0]]), 2).tolist()
    [[0, 0], [0, 0], [1, 0]]
    """
    low, high = x.amin(0), x.amax(0)
    along = (x - low) / (high - low).where(high > low, 1.0)
    return (along * bins).long().clamp(max=bins - 1)


def conditional_entropy(y: Tensor, cells: Tensor) -> float:
    """H(Y | cell) in nats, both integers >= 0, shape (N,).

    >>> round(conditional_entropy(torch.tensor([0, 1, 0, 0]), torch.tensor([0, 0, 1, 1])), 4)
    0.3466
    """
    classes = int(y.max()) + 1
    joint = torch.bincount(cells * classes + y).double() / len(y)
    p = torch.bincount(cells).double() / len(y)
    return _entropy(joint) - _entropy(p)


def order(x: Tensor, y: Tensor) -> list[int]:
    """The filters in the order in which they are chosen; ties go to the lower index.

    Args:
        x: Bins, integers (N, F).
        y: Classes, integers (N,).
    """
    left, chosen = list(range(x.shape[1])), []
    nothing = torch.zeros_like(y)
    cells, now, begun = nothing, conditional_entropy(y, nothing), False
    while left:
        tried = [_joined(cells, x[:, f]) for f in left]
        entropies = [conditional_entropy(y, each) for each in tried]
        best = min(range(len(left)), key=entropies.__getitem__)
        if begun and entropies[best] >= now - 1e-12:  # nobody says anything that S does not say
            cells, now, begun = nothing, conditional_entropy(y, nothing), False
            continue
        cells, now, begun = tried[best], entropies[best], True
        chosen.append(left.pop(best))
    return chosen


def _joined(cells: Tensor, bins: Tensor) -> Tensor:
    """The cells of both together, numbered from 0."""
    both = cells * (int(bins.max()) + 1) + bins
    numbers: Tensor = both.unique(return_inverse=True)[1]  # type: ignore[no-untyped-call]
    return numbers


def _entropy(p: Tensor) -> float:
    return float(-torch.special.xlogy(p, p).sum())


def _means(seen: dict[str, list[Tensor]], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
    """A hook that keeps a layer's outputs, averaged over positions: (batch, filters)."""

    def see(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.setdefault(name, []).append(output.flatten(2).mean(2) if output.dim() > 2 else output)

    return see
