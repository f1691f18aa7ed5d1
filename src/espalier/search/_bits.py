"""How few bits each layer can do with, under a guard on the accuracy."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from espalier._ground.searching import Stepwise, searched
from espalier.errors import RequestError
from espalier.measure import LayerKind, layer_kinds


@dataclass(frozen=True, kw_only=True)
class BitTrial:
    """One assignment of bits that was tried.

    Attributes:
        bits: By parameter name.
        metric: What ``evaluate`` said of it.
        accepted: Whether it was within the guard.
    """

    bits: Mapping[str, int]
    metric: float
    accepted: bool


@dataclass(frozen=True, kw_only=True)
class BitSearch:
    """What was found, and all that was tried.

    Attributes:
        bits: The last accepted assignment; all at ``high`` if none was.
        metric: What ``evaluate`` said of it.
        reference: The metric without quantisation.
        guard: The largest drop allowed.
        tried: In the order of trial.
    """

    bits: Mapping[str, int]
    metric: float
    reference: float
    guard: float
    tried: tuple[BitTrial, ...]

    @property
    def met(self) -> bool:
        """Whether the guard holds."""
        return self.metric >= self.reference - self.guard

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        tried = [
            {"bits": dict(t.bits), "metric": t.metric, "accepted": t.accepted} for t in self.tried
        ]
        return {
            "bits": dict(self.bits), "metric": self.metric, "met": self.met,
            "reference": self.reference, "guard": self.guard, "tried": tried,
        }  # fmt: skip


def search_bits(
    names: Sequence[str],
    evaluate: Callable[[Mapping[str, int]], float],
    *,
    reference: float,
    guard: float,
    low: int = 1,
    high: int = 8,
) -> BitSearch:
    """Give each layer in turn the fewest bits with which the metric falls by at most ``guard``.

    All layers begin with ``high`` bits. The first goes to ``low`` and up again a bit at a time until the
    drop is within the guard, and keeps what it has then; the next follows, and so on. Every assignment
    that is kept was itself evaluated, those of the layers before it included, so the guard holds for the
    whole of it and not for each layer alone. At most ``len(names) · (high − low) + 1`` evaluations; no
    randomness of its own.

    Args:
        names: The parameters, those first that should have the fewest bits (:func:`fc_first`).
        evaluate: Bits by parameter name to the metric, higher is better: of the quantised model, with
            or without training.
        reference: The metric without quantisation.
        guard: The largest drop of it, >= 0.
        low: The fewest bits tried, >= 1.
        high: The most, >= ``low``.

    Raises:
        RequestError: Numbers out of range, or no names.

    Source: Ren et al. 2019, *ADMM-NN*, §4: few bits for fully connected layers first, more until nothing
    is lost; convolutions need more.

    Example:
        >>> found = search_bits(["fc", "conv"], lambda bits: 0.9 + 0.01 * min(bits["conv"], 3),
        ...                     reference=0.93, guard=0.0, high=4)
        >>> found.bits, found.met, len(found.tried)
        ({'fc': 1, 'conv': 3}, True, 5)
    """
    if not names or guard < 0 or not 1 <= low <= high:
        raise RequestError(
            f"names={list(names)}, guard={guard}, low={low}, high={high}; give at least one name, "
            "guard >= 0 and 1 <= low <= high"
        )
    tried: list[BitTrial] = []

    def score(bits: Mapping[str, int]) -> float:
        metric = evaluate(bits)
        tried.append(BitTrial(bits=bits, metric=metric, accepted=metric >= reference - guard))
        return metric - (reference - guard)

    searched(Stepwise(fewest_bits(names, low, high)), score)
    best = ([tried[0]] + [trial for trial in tried if trial.accepted])[-1]
    return BitSearch(
        bits=best.bits, metric=best.metric, reference=reference, guard=guard, tried=tuple(tried)
    )


def fewest_bits(
    names: Sequence[str], low: int, high: int
) -> Generator[dict[str, int], float, dict[str, int]]:
    """The assignments that :func:`search_bits` tries; a score of 0 or more is within the guard.

    >>> search = Stepwise(fewest_bits(["fc", "conv"], low=1, high=3))
    >>> [tuple(t.candidate.values()) for t in searched(search, lambda bits: bits["conv"] - 3)]
    [(3, 3), (1, 3), (1, 1), (1, 2)]
    """
    best = dict.fromkeys(names, high)
    yield best
    for name in names:
        for count in range(low, best[name]):
            tried = {**best, name: count}
            if (yield tried) >= 0:
                best = tried
                break
    return best


def fc_first(model: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    """The order of the search: linear layers, the largest first, then all else, the largest first.

    >>> fc_first(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(2, 9)), ["0.weight", "1.weight"])
    ('1.weight', '0.weight')
    """
    kinds = layer_kinds(model)
    size = {name: model.get_parameter(name).numel() for name in names}
    linear = (LayerKind.LINEAR, LayerKind.LINEAR_TRANSPOSE)
    return tuple(sorted(names, key=lambda name: (kinds[name] not in linear, -size[name])))
