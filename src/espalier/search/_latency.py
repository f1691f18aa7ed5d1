"""Widths that meet a latency: found by measuring compact models, since arithmetic does not say."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from espalier import budgets
from espalier._ground.example import Example
from espalier._ground.searching import Stepwise, bisection, searched
from espalier.compaction import compact
from espalier.errors import BudgetError
from espalier.measure._latency import Spread, latency
from espalier.measure._runtimes import Prepare, eager
from espalier.methods._holding import hold_
from espalier.planning import Plan
from espalier.planning._request import Allocation, Request
from espalier.planning._several import channel_plans
from espalier.sets import Channels, Filters, Set

MULTIPLES = (1, 8, 16, 32)
"""Widths that kernels may like: vector registers hold 8 or 16 numbers, and tiles some of those."""


@dataclass(frozen=True, kw_only=True)
class LatencyTrial:
    """One set of widths that was measured.

    Attributes:
        macs: Fraction of the dense multiply-accumulates asked for.
        multiple: What its widths are divisible by.
        macs_left: Multiply-accumulates of the compact model, one sample.
        latency: Seconds over the dense model's of the same round.
    """

    macs: float
    multiple: int
    macs_left: int
    latency: Spread

    @property
    def price(self) -> float:
        """Seconds for each multiply-accumulate, in a unit that trials of one search share."""
        return self.latency.median / max(1, self.macs_left)


@dataclass(frozen=True, kw_only=True)
class LatencyPlan:
    """A plan that meets a latency, and what was measured on the way.

    Attributes:
        plan: Of the trial that met the target in the median with the most multiply-accumulates.
        trials: In order.
    """

    plan: Plan
    trials: tuple[LatencyTrial, ...]


def plan_for_latency(
    model: nn.Module,
    example_input: Example,
    target: float,
    *,
    batch: int = 1,
    threads: int = 1,
    runtime: Callable[[nn.Module], Prepare] = eager,
    set: Set | None = None,
    allocation: Allocation = budgets.uniform,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    multiple: int = 1,
    minimum: int = 1,
    trials: int = 7,
    rounds: int = 15,
    clock: Callable[[], float] | None = None,
) -> LatencyPlan:
    r"""The widest channels, one fraction of all or ranked, whose compact model takes at most ``target``.

    .. math:: \max m \quad\text{s.t.}\quad
              \operatorname{median} \frac{t(\text{compact}(m, q))}{t(\text{dense})} \le \tau, \qquad
              q = \arg\min_{q'} \frac{t(\text{compact}(\tau, q'))}{\text{MACs}(\text{compact}(\tau, q'))}

    What a width costs is decided by the runtime's kernels, which work on 8 or 16 channels at a time or on one:
    so first the multiples q that widths may have are measured against each other, at the fraction τ of the
    multiply-accumulates; then the fraction m is found by bisection, with the q that makes arithmetic cheapest.
    At each trial the model is compacted and timed against the dense one, in turns. The clock's noise is the
    answer's: ``trials`` shows the quartiles.

    Args:
        model: Any device; not modified.
        example_input: One batch, samples along the first axis of every tensor in it.
        target: τ, a fraction in (0, 1) of the dense model's seconds per call.
        batch: Samples a call.
        threads: Threads a call may use.
        runtime: What times a module: ``eager``, ``compiled``, your own, or ONNX Runtime by
            ``functools.partial(espalier.export.in_onnx_runtime, example=example_input)``.
        set: ``Filters()`` (the default) or ``Channels()``.
        allocation: As for :func:`espalier.plan`: one fraction of every group, or a ranking of all.
        include: As for :func:`espalier.plan`.
        exclude: Likewise.
        multiple: Widths stay divisible by it; it and those of 1, 8, 16 and 32 that are multiples of it compete.
        minimum: As for :func:`espalier.plan`.
        trials: Models measured with the chosen multiple, at least 1; each halves the interval.
        rounds: Of each measurement.
        clock: Seconds; ``None``: those of this process alone (``time.process_time``) on one thread of a CPU, which
            other programs hardly lengthen, else those that pass.

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
    if not isinstance(shape, Filters | Channels):
        raise BudgetError(f"{shape.name} takes out no whole channels; give Filters() or Channels()")
    multiples = sorted({multiple, *(each for each in MULTIPLES if each % max(1, multiple) == 0)})
    plans = channel_plans(model, example_input, set=shape, include=include, exclude=exclude)
    dense = runtime(model)
    alone = threads == 1 and all(p.device.type == "cpu" for p in model.parameters())
    told = clock or (time.process_time if alone else time.perf_counter)

    def measured(small: nn.Module) -> Spread:
        contestants = {"": {"compact": runtime(small), "dense": dense}}
        table = latency(
            contestants,
            example_input,
            batches=[batch],
            threads=[threads],
            rounds=rounds,
            clock=told,
        )
        return table.rows[1].speedup  # seconds of compact over those of dense, round by round

    def request(macs: float, multiple: int) -> Request:
        return Request(
            density=None, macs=macs, bytes=None, keep=None, multiple=multiple, minimum=minimum,
            allocation=allocation,
        )  # fmt: skip

    plans.met(request(1.0, multiple))  # what is wrong with the request is said now
    done: dict[tuple[float, int], LatencyTrial] = {}
    best: tuple[int, Plan] | None = None
    refusal = ""

    def tried(macs: float, multiple: int) -> LatencyTrial | None:
        """The trial; none where the smallest widths cost more."""
        nonlocal best, refusal
        if (macs, multiple) in done:
            return done[macs, multiple]
        try:
            found = plans.met(request(macs, multiple))
        except BudgetError as error:
            refusal = str(error)
            return None
        left, small = found.plan.macs_left or 0, found.compact
        # With few widths to choose from, two fractions may come to the same model: it is measured once.
        same = (x.latency for x in done.values() if (x.multiple, x.macs_left) == (multiple, left))
        took = next(same, None) or measured(
            _cut(model, found.plan, example_input) if small is None else small
        )
        trial = LatencyTrial(macs=macs, multiple=multiple, macs_left=left, latency=took)
        done[macs, multiple] = trial
        if took.median <= target and (best is None or left > best[0]):
            best = left, found.plan
        return trial

    compared = [tried(target, each) for each in multiples]
    known = [trial for trial in compared if trial is not None]
    chosen = min(known, key=lambda trial: trial.price).multiple if known else multiple

    def spare(macs: float) -> float:
        """By how much the compact model is faster than it must be."""
        trial = tried(macs, chosen)
        return math.inf if trial is None else target - trial.latency.median

    low, high = (target, 1.0) if spare(target) >= 0 else (0.0, target)
    left = 0.5 ** (trials - 1) * (high - low)
    searched(Stepwise(bisection(low, high, until=left)), spare)
    measurements = tuple(done.values())
    if best is None:
        raise BudgetError(_unmet(target, measurements, refusal))
    return LatencyPlan(plan=best[1], trials=measurements)


@torch.no_grad()
def _cut(model: nn.Module, made: Plan, example: Example) -> nn.Module:
    """A compact model of the planned widths."""
    cut = copy.deepcopy(model)
    parameters = dict(cut.named_parameters())
    masks = made.support(parameters)
    hold_(parameters, masks | made.implied(masks, parameters))
    return compact(cut, example, zero_constants=True).model


def _unmet(target: float, done: Sequence[LatencyTrial], refusal: str) -> str:
    if not done:
        return f"a latency of {target:g} of the dense model's: no widths could be tried: {refusal}"
    last = min(done, key=lambda trial: trial.macs_left)
    spread = last.latency
    return (
        f"a latency of {target:g} of the dense model's is not met: the narrowest model tried, with "
        f"{last.macs:.1%} of the multiply-accumulates, takes {spread.median:.2f} ({spread.low:.2f} to "
        f"{spread.high:.2f}); prune more layers, or give more"
    )
