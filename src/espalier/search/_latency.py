"""Widths that meet a latency: found by measuring compact models, since arithmetic does not say."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from espalier._ground.searching import Stepwise, bisection, searched
from espalier.compaction import compact
from espalier.errors import BudgetError
from espalier.measure._latency import Spread, latency
from espalier.measure._runtimes import Prepare, eager
from espalier.methods._holding import hold_
from espalier.planning import Plan, plan
from espalier.sets import Channels, Filters, Set


@dataclass(frozen=True, kw_only=True)
class LatencyTrial:
    """One set of widths that was measured.

    Attributes:
        macs: Fraction of the dense multiply-accumulates asked for.
        macs_left: Multiply-accumulates of the compact model, one sample.
        latency: Seconds over the dense model's of the same round.
    """

    macs: float
    macs_left: int
    latency: Spread


@dataclass(frozen=True, kw_only=True)
class LatencyPlan:
    """A plan that meets a latency, and what was measured on the way.

    Attributes:
        plan: Of the widest trial that met the target in the median.
        trials: In order.
    """

    plan: Plan
    trials: tuple[LatencyTrial, ...]


def plan_for_latency(
    model: nn.Module,
    example_input: Tensor,
    target: float,
    *,
    batch: int = 1,
    threads: int = 1,
    runtime: Callable[[nn.Module], Prepare] = eager,
    set: Set | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    multiple: int = 1,
    minimum: int = 1,
    trials: int = 7,
    rounds: int = 15,
) -> LatencyPlan:
    r"""The widest channels, one fraction of all, whose compact model takes at most ``target``.

    .. math:: \max m \quad\text{s.t.}\quad
              \operatorname{median} \frac{t(\text{compact}(m))}{t(\text{dense})} \le \tau

    m, the fraction of multiply-accumulates, is found by bisection; at each the model is cut,
    compacted and timed against the dense one, in turns. The clock's noise is the answer's: ``trials``
    shows the quartiles.

    Args:
        model: Any device; not modified.
        example_input: One batch, samples along the first axis.
        target: τ, a fraction in (0, 1) of the dense model's seconds per call.
        batch: Samples a call.
        threads: Threads a call may use.
        runtime: What times a module: ``eager``, ``compiled``, your own, or ONNX Runtime by
            ``functools.partial(espalier.export._runtimes.in_onnx_runtime, example=example_input)``.
        set: ``Filters()`` (the default) or ``Channels()``.
        include: As for :func:`espalier.plan`.
        exclude: Likewise.
        multiple: Likewise.
        minimum: Likewise.
        trials: Models measured, at least 1; each halves the interval.
        rounds: Of each measurement.

    Raises:
        BudgetError: A target outside (0, 1), or one that the smallest widths do not meet.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 256))
        >>> found = plan_for_latency(net, torch.zeros(4, 256), 0.9, batch=4, trials=2, rounds=2)
        >>> len(found.trials) >= 2
        True
    """
    if not 0.0 < target < 1.0:
        raise BudgetError(f"target={target}; give a fraction in (0, 1) of the dense latency")
    if trials < 1:
        raise BudgetError(f"trials={trials}; give at least 1")

    shape = Filters() if set is None else set

    def planned(macs: float) -> Plan:
        return plan(
            model, set=shape, macs=macs, example_input=example_input, include=include,
            exclude=exclude, multiple=multiple, minimum=minimum,
        )  # fmt: skip

    def measured(made: Plan) -> Spread:
        contestants = {
            "": {"compact": runtime(_cut(model, made, example_input)), "dense": runtime(model)}
        }
        table = latency(
            contestants, example_input, batches=[batch], threads=[threads], rounds=rounds
        )
        return table.rows[1].speedup  # seconds of compact over those of dense, round by round

    if not isinstance(shape, Filters | Channels):
        raise BudgetError(f"{shape.name} takes out no whole channels; give Filters() or Channels()")
    planned(1.0)  # what is wrong with the request is said now
    best: Plan | None = None
    done: list[LatencyTrial] = []

    def spare(macs: float) -> float:
        """By how much the compact model is faster than it must be."""
        nonlocal best
        try:
            made = planned(macs)
        except BudgetError:  # narrower than the smallest widths
            return math.inf
        trial = LatencyTrial(macs=macs, macs_left=made.macs_left or 0, latency=measured(made))
        done.append(trial)
        met = trial.latency.median <= target
        best = made if met else best
        return target - trial.latency.median

    searched(Stepwise(bisection(0.0, 1.0, until=0.5**trials)), spare)
    if best is None:
        raise BudgetError(_unmet(target, done))
    return LatencyPlan(plan=best, trials=tuple(done))


@torch.no_grad()
def _cut(model: nn.Module, made: Plan, example: Tensor) -> nn.Module:
    """A compact model of the planned widths."""
    cut = copy.deepcopy(model)
    parameters = dict(cut.named_parameters())
    masks = made.support(parameters)
    hold_(parameters, masks | made.implied(masks, parameters))
    return compact(cut, example, zero_constants=True).model


def _unmet(target: float, done: list[LatencyTrial]) -> str:
    if not done:
        return (
            f"a latency of {target:g} of the dense model's: no widths were tried; give more trials"
        )
    last = min(done, key=lambda trial: trial.macs_left)
    spread = last.latency
    return (
        f"a latency of {target:g} of the dense model's is not met: the narrowest model tried, with "
        f"{last.macs:.1%} of the multiply-accumulates, takes {spread.median:.2f} ({spread.low:.2f} to "
        f"{spread.high:.2f}); prune more layers, or give more"
    )
