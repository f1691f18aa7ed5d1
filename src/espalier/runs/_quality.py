r"""Pruning by quality thresholds: cut what is small beside its layer's spread, train on, cut again.

Legend (paper → here): q_l ``quality`` of layer l, σ_l the standard deviation of its weights that are not zero;
weights below q_l σ_l go. D_o, D_r dropout rates before and after, C_o, C_r connections before and after.

Han, Pool, Tran & Dally, "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015
(arXiv:1506.02626), §3.1 to §3.4 and §5 (sensitivity).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from espalier._ground.safetensors import read_tensors
from espalier._ground.types import Masks, Weights
from espalier.methods import HoldFromStart
from espalier.methods._holding import as_if_cut
from espalier.planning import Plan
from espalier.runs._aims import Planned, read_decided
from espalier.runs._folder import RunFolder
from espalier.runs._stage import Stage
from espalier.runs._standard import Procedure
from espalier.search import Stepwise, bisection, searched
from espalier.sets import Shared, Unstructured, Within
from espalier.tasks import Task

HALVINGS = 8
"""Of the interval in which a layer's quality is looked for."""


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """The weights above their layers' quality thresholds, as scanned at the start of a round.

    Keeps ``scan-K.json`` (the qualities, the spreads, the dropout rates) and ``scan-K.safetensors`` (the masks).

    Attributes:
        planned: The plan; decided in the first round.
        number: j, from 1.
        of: n: after round j the density is d^{j/n}.
        procedure: The settings.
    """

    planned: Planned
    number: int
    of: int
    procedure: "QualityThreshold"

    def decide(self, run: RunFolder, model: nn.Module, task: Task) -> Within:
        """Scan and choose: the round cuts, and trains what is left."""
        if self.number == 1:
            self.planned.decide(run, model, task)
        plan, how = self.planned.recall(run, model), self.procedure
        w = {name: model.get_parameter(name).detach() for name in plan.names}
        sigma = {name: spread_of(x) for name, x in w.items()}
        figure = task.guard(how.images)
        sign = 1.0 if task.goal.higher_is_better else -1.0
        quality = scan(w, sigma, lambda: sign * figure(model), how.drop)
        units = {name: quality[name] * sigma[name] for name in w}
        if how.onto_plan:
            masks = above(w, units, plan.density ** (self.number / self.of))
        else:
            masks = {name: (x.abs() >= units[name]) & (x != 0) for name, x in w.items()}
        before = (
            {n: m.p for n, m in model.named_modules() if isinstance(m, nn.Dropout)}
            if self.number == 1
            else _read(run, 1)["dropout_before"]
        )
        dropout = adjusted(model, masks, before) if how.dropout else before
        run.write_weights(f"scan-{self.number}.safetensors", masks)
        run.write_json(
            f"scan-{self.number}.json",
            {"quality": quality, "sigma": sigma, "dropout": dropout, "dropout_before": before,
             "left": {name: int(mask.sum()) for name, mask in masks.items()}},
        )  # fmt: skip
        return self.recall(run, model)

    def preview(self, model: nn.Module) -> Plan | None:
        """The plan, if there is one without looking at the weights: whose weights, and how many."""
        return self.planned.preview(model)

    def recall(self, run: RunFolder, model: nn.Module) -> Within:
        """The same masks; the dropout rates are put into the model."""
        for name, rate in _read(run, self.number)["dropout"].items():
            model.get_submodule(name).p = rate
        device = next(model.parameters()).device
        masks = read_tensors(run / f"scan-{self.number}.safetensors")
        return Within({name: mask.to(device) for name, mask in masks.items()})


@dataclass(frozen=True, kw_only=True)
class QualityThreshold(Procedure):
    r"""Iterative pruning by :math:`|w| < q_l \sigma_l`, the q of each layer found by a sensitivity scan.

    .. math:: q_l = \max\{q : \text{to cut layer } l \text{ alone at } q \sigma_l \text{ costs at most drop}\}

    Every round begins with a scan and a cut of trained weights, so the run wants ``pretrain``, and trains the
    epochs it says ``rounds`` times. Small steps (a tenth of the pretraining's rate) are the paper's.

    Args:
        rounds: n, how often it is cut and trained again, >= 1.
        drop: The largest loss of the goal's figure, on training data, that a layer's cut alone may cost.
        images: Training samples on which the scan looks.
        onto_plan: Multiply all thresholds by one factor, so that round j ends at the density d^{j/n} of the
            plan: the scan says how the layers share it. False: the thresholds as scanned, the paper's rule.
        dropout: Lower the rates of ``nn.Dropout`` with the connections before them, D_o √(C_r/C_o).

    Source: Han et al. 2015 (arXiv:1506.02626).

    Example:
        >>> from espalier.training import Training
        >>> one = Stage(name="prune", training=Training(epochs=3), aim=Planned(lambda model: model), cut=True)
        >>> [(s.name, s.cut) for s in QualityThreshold(rounds=3).stages(one, seed=0)]
        [('round-1', True), ('round-2', True), ('prune', True)]
    """

    name = "quality_threshold"
    title = "Quality threshold (Han)"
    sentence = (
        "Cut what is small beside its layer's spread, train on, cut again; shares by a scan (2015)"
    )

    rounds: Annotated[int, Ge(1)] = 3
    drop: Annotated[float, Gt(0)] = 0.01
    images: Annotated[int, Ge(1)] = 2000
    onto_plan: bool = True
    dropout: bool = True

    def stages(self, prune: Stage, seed: int) -> list[Stage]:
        """The rounds; the last is the one asked for."""
        planned = prune.aim
        assert isinstance(planned, Planned)
        found = []
        for j in range(1, self.rounds + 1):
            aim = Scanned(planned=planned, number=j, of=self.rounds, procedure=self)
            one = replace(prune, aim=aim, method=HoldFromStart(), title=self.title)
            last = j == self.rounds
            found.append(one if last else replace(one, name=f"round-{j}", goal=None, figure=None))
        return found


def spread_of(w: Tensor) -> float:
    """σ: the standard deviation of the weights that are not zero; 1 where there are fewer than two."""
    nonzero = w[w != 0].double()
    return float(nonzero.std(correction=0)) or 1.0 if nonzero.numel() > 1 else 1.0


@torch.no_grad()
def scan(
    w: Weights, sigma: Mapping[str, float], figure: Callable[[], float], drop: float
) -> dict[str, float]:
    """By layer the largest q at which cutting it alone costs at most ``drop``, by bisection.

    Args:
        w: The model's own weights; each is cut for a moment, and then as before.
        sigma: σ by name.
        figure: What the model is worth as it is; higher is better.
        drop: In the figure's unit.
    """
    whole, found = figure(), {}
    for name, x in w.items():
        unit = float(x.abs().max()) / 2**HALVINGS

        def spare(level: int, name: str = name, x: Tensor = x, unit: float = unit) -> float:
            with as_if_cut(w, {name: x.abs() >= level * unit}):
                return drop - (whole - figure())

        search = Stepwise(bisection(0, 2**HALVINGS, until=1))
        searched(search, spare)
        # A layer that bears nothing still has a scale.
        found[name] = (search.answer or 0) * unit / sigma[name] or 2.0**-HALVINGS
    return found


def above(w: Weights, units: Mapping[str, float], density: float) -> dict[str, Tensor]:
    """The largest |w| in units of q_l σ_l, over all layers together, as many as the density says.

    So the thresholds are c q_l σ_l for one c; one weight at least stays in each layer.

    >>> w = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([10.0, 30.0])}
    >>> above(w, {"a": 1.0, "b": 20.0}, density=0.5)
    {'a': tensor([False,  True]), 'b': tensor([False,  True])}
    """
    count = round(density * sum(x.numel() for x in w.values()))
    shared = Shared(Unstructured(), dict.fromkeys(w, 1), limit=max(count, len(w)))
    h = {name: torch.full_like(x, units[name] ** -2) for name, x in w.items()}
    return shared.support(w, h)


def adjusted(model: nn.Module, masks: Masks, before: Mapping[str, float]) -> dict[str, float]:
    """D_r = D_o √(C_r/C_o) for every ``nn.Dropout``, C of the pruned layer defined before it."""
    rates, share = {}, 1.0
    for name, module in model.named_modules():
        weight = masks.get(f"{name}.weight")
        if weight is not None:
            share = int(weight.sum()) / weight.numel()
        if name in before and isinstance(module, nn.Dropout):
            rates[name] = before[name] * math.sqrt(share)
    return rates


def _read(run: RunFolder, number: int) -> dict[str, Any]:
    return read_decided(run / f"scan-{number}.json", "dropout", "dropout_before")
