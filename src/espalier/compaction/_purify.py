"""Network purification and unused path removal under an accuracy guard."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

import torch
from rich.table import Table
from torch import nn

from espalier._ground.example import Example
from espalier._ground.modes import evaluating
from espalier._ground.searching import Stepwise, bisection
from espalier._ground.wrapping import plain
from espalier.compaction._fixed_point import Layers, judged, purified
from espalier.compaction._purification import Reading, Thresholds, weak_as_empty
from espalier.errors import RequestError
from espalier.graph._groups import ChannelGraph
from espalier.graph._trace import channel_graph
from espalier.measure import SparsityReport, counts

Evaluate = Callable[[nn.Module], float]
"""From a model, in evaluation mode, to its score; higher is better."""

CEILING = Thresholds(column=1.0, fraction=1.0, energy=1.0, filter=1.0)
"""The highest thresholds that are tried: the layer's own means, and any number of columns."""

Levels = Mapping[str, int]
"""How high each threshold stands, in steps from 0 (off) to the ceiling."""

_STEPS = 64
_DECADES = 6.0  # from a millionth of the ceiling; the paper publishes no values
_ORDER = ("filter", "column", "energy", "fraction")


@dataclass(frozen=True, kw_only=True, eq=False)
class Purified:
    """A purified model, and what that took and cost.

    Attributes:
        model: A copy with more zeros; nothing in it is physically smaller yet.
        thresholds: The highest that keep the guard.
        max_drop: The guard, as given.
        score_before: What ``evaluate`` said of the model as given.
        score_after: What it says of this one: at least ``score_before − max_drop``.
        before: Weights left under every way of counting, in the model as given; ``conv_only`` is
            the paper's.
        after: The same now.
        channels: How many classes of channels are gone.
        evaluations: How many models were evaluated.
    """

    model: nn.Module = field(repr=False)
    thresholds: Thresholds
    max_drop: float
    score_before: float
    score_after: float
    before: SparsityReport = field(repr=False)
    after: SparsityReport = field(repr=False)
    channels: int
    evaluations: int

    def table(self, title: str = "Purified") -> Table:
        """Weights left and compression, before and after, under every way of counting."""
        table = Table(title=title, caption="conv_only is the count of the P-RM paper")
        for header in ("counted", "total", "left before", "", "left after", ""):
            table.add_column(header, justify="left" if header == "counted" else "right")
        for (name, was), (_, now) in zip(self.before, self.after, strict=True):
            table.add_row(
                name, f"{was.total:,}",
                f"{was.nonzero:,}", f"{was.compression:.2f}×",
                f"{now.nonzero:,}", f"{now.compression:.2f}×",
            )  # fmt: skip
        return table

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON, the model left out."""
        return {
            "thresholds": asdict(self.thresholds),
            "max_drop": self.max_drop,
            "score": {"before": self.score_before, "after": self.score_after},
            "counts": {"before": self.before.to_dict(), "after": self.after.to_dict()},
            "channels": self.channels,
            "evaluations": self.evaluations,
        }


def purify(
    model: nn.Module,
    example_input: Example,
    evaluate: Evaluate,
    *,
    max_drop: float = 0.001,
    ceiling: Thresholds = CEILING,
    reading: Reading = weak_as_empty,
    layers: Iterable[str] | None = None,
    graph: ChannelGraph | None = None,
) -> Purified:
    """Remove weak columns, channels and filters, and every path they leave unused.

    The rules are those of P-RM (:mod:`espalier.compaction._purification`), applied to coupled
    channels until nothing changes (:func:`espalier.compaction._fixed_point.purified`). The
    thresholds are searched for by bisection: all four together, then each further by itself, as
    high as the guard allows. Every model that is kept has been evaluated, so the guard holds
    whether or not the score falls steadily; that the thresholds are the highest possible rests on
    its doing so. There is no retraining, and nothing is random.

    Args:
        model: Hard-pruned, after its last training. Not modified.
        example_input: As :func:`~espalier.graph.channel_graph` takes it.
        evaluate: The score of a model, given in evaluation mode: on data kept apart from the test
            set, which would otherwise choose the thresholds.
        max_drop: How much the score may fall, in its own unit; 0 or more.
        ceiling: The highest thresholds to try; one that is zero turns its rule off.
        reading: How weak columns count: ``weak_as_empty`` (A) or ``weak_alone`` (B).
        layers: Names of the weights that are judged; all of convolutions and linear layers by
            default. Others lose only what becomes unused.
        graph: Of this model, if it is known already, or with more classes frozen.

    Raises:
        RequestError: The model cannot be exported, ``max_drop`` is negative, or the score of the
            model as given is no number.
        UnknownNameError: ``layers`` names no such weight.

    Source: Ma, Yuan, Lin et al. 2019 (arXiv:1905.00136), §3.2 and Algorithm 1. It publishes no
    thresholds and no search.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> with torch.no_grad():
        ...     _ = net[0].weight[1].fill_(1e-9), net[0].bias[1].fill_(0.0)
        >>> found = purify(net, torch.zeros(1, 2), lambda m: -abs(m[0].weight[2].norm().item()), max_drop=0)
        >>> found.channels >= 1, found.score_after >= found.score_before
        (True, True)
    """
    if not max_drop >= 0:
        raise RequestError(f"max_drop={max_drop}; give 0 or more")
    model = plain(model)
    graph = channel_graph(model, example_input) if graph is None else graph
    guard = _Guard(model, judged(model, graph, layers), reading, evaluate, max_drop)
    levels: Levels = dict.fromkeys(_ORDER, 0)
    best = guard.attempt(_at(ceiling, levels))
    if best is None:
        return guard.untouched()
    for moving in (_ORDER, *((name,) for name in _ORDER)):
        # All four move together first, so that none takes all that the guard allows before the others.
        # ``low`` was evaluated and keeps the guard; ``_STEPS + 1`` is past the ceiling.
        low = max(levels[name] for name in moving)
        search = Stepwise(bisection(low, _STEPS + 1, until=1))
        while (level := search.ask()) is not None:
            candidate = {**levels, **dict.fromkeys(moving, level)}
            found = guard.attempt(_at(ceiling, candidate))
            if found is not None:
                best, levels = found, candidate
            search.tell(level, -1.0 if found is None else 0.0)
    return best


class _Guard:
    """Models purified and evaluated, none of them twice."""

    def __init__(
        self,
        model: nn.Module,
        layers: Layers,
        reading: Reading,
        evaluate: Evaluate,
        max_drop: float,
    ) -> None:
        self._model, self._layers, self._reading = model, layers, reading
        self._evaluate, self._max_drop = evaluate, max_drop
        self._scores: dict[str, float] = {}
        self._before = self._score(model)
        if not math.isfinite(self._before):
            raise RequestError(f"evaluate gives {self._before} for the model; give a finite score")

    def attempt(self, thresholds: Thresholds) -> Purified | None:
        """The purified model, if it keeps the guard."""
        found, gone = purified(self._model, self._layers, thresholds, self._reading)
        score = self._score(found)
        if not score >= self._before - self._max_drop:
            return None
        return self._result(found, thresholds, score, len(gone))

    def untouched(self) -> Purified:
        """Where even the exact part rounds to a lower score, and none is allowed."""
        return self._result(copy.deepcopy(self._model), Thresholds(), self._before, 0)

    def _result(
        self, model: nn.Module, thresholds: Thresholds, score: float, channels: int
    ) -> Purified:
        return Purified(
            model=model,
            thresholds=thresholds,
            max_drop=self._max_drop,
            score_before=self._before,
            score_after=score,
            before=counts(self._model),
            after=counts(model),
            channels=channels,
            evaluations=len(self._scores),
        )

    def _score(self, model: nn.Module) -> float:
        # By its bits: neighbouring thresholds often give the same model, and evaluating is what
        # costs.
        key = _fingerprint(model)
        if key not in self._scores:
            with evaluating(model), torch.no_grad():
                self._scores[key] = float(self._evaluate(model))
        return self._scores[key]


def _at(ceiling: Thresholds, levels: Levels) -> Thresholds:
    """Below the ceiling by equal factors in the energies, by equal steps in the fraction; 0 is off."""
    share = {name: level / _STEPS for name, level in levels.items()}
    low = {name: 10 ** (_DECADES * (one - 1)) if one else 0.0 for name, one in share.items()}
    return Thresholds(
        column=ceiling.column * low["column"],
        fraction=ceiling.fraction * share["fraction"],
        energy=ceiling.energy * low["energy"],
        filter=ceiling.filter * low["filter"],
    )


def _fingerprint(model: nn.Module) -> str:
    digest = sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
