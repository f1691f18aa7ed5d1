"""Latency of several models, measured side by side: interleaved in one process, with its spread.

A machine's speed drifts (clocks, neighbours, heat). So no model is measured on its own: in every
round each has its turn, and ratios are taken within a round, where both stood side by side. The order of
the turns is drawn anew in every round, so that no model always follows the same other one, and its caches
and idle threads.
"""

import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from espalier._ground.example import Example, repeated
from espalier.errors import RequestError
from espalier.measure._runtimes import Prepare, eager

_WARM_UP = 2  # the last of these calls says how often a turn repeats


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median and quartiles.

    >>> Spread.of([1.0, 2.0, 3.0, 4.0, 5.0])
    Spread(low=2.0, median=3.0, high=4.0)
    """

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least two values."""
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low=low, median=median, high=high)


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One model in one setting.

    Attributes:
        runtime: "eager" …, the outer key.
        model: "dense" …, the inner key.
        batch: Samples per call.
        threads: Threads a call may use.
        seconds: Per call.
        speedup: Seconds of the runtime's first model over this one's in the same round; > 1 is faster.
    """

    runtime: str
    model: str
    batch: int
    threads: int
    seconds: Spread
    speedup: Spread


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """What was measured, in the order in which it was asked for.

    Attributes:
        rows: One for each batch size, number of threads, runtime and model.
        rounds: Rounds of each setting.
    """

    rows: tuple[Latency, ...]
    rounds: int

    @property
    def unsteady(self) -> int:
        """Settings whose seconds have quartiles further apart than half their median."""
        spreads = [row.seconds for row in self.rows]
        return sum(spread.high - spread.low > spread.median / 2 for spread in spreads)

    def roofline(self, macs: Mapping[str, int]) -> tuple[str, ...]:
        """The ratio of arithmetic against the ratio that was measured, one sentence per model.

        Args:
            macs: Multiply-accumulates that each model really executes for one sample, by its name;
                zeros that are multiplied count. The first model must be there.
        """
        said: dict[str, str] = {}
        first = self.rows[0].model
        for row in self.rows:
            if row.model == first or row.model not in macs or not macs[row.model]:
                continue
            found = [r.speedup.median for r in self.rows if r.model == row.model]
            ratio = macs[first] / macs[row.model]
            said[row.model] = _sentence(row.model, first, ratio, min(found), max(found))
        return tuple(said.values())


def _sentence(model: str, first: str, ratio: float, low: float, high: float) -> str:
    if abs(ratio - 1) < 0.01:
        return (
            f"{model} executes as many multiply-accumulates as {first} (zeros in place save none) and "
            f"runs {low:.2f} to {high:.2f}× as fast: how far that is from 1 is mostly noise"
        )
    return (
        f"{model} executes {ratio:.2f}× fewer multiply-accumulates than {first} and runs {low:.2f} to "
        f"{high:.2f}× as fast: {low / ratio:.0%} to {high / ratio:.0%} of the ratio of arithmetic, for "
        "memory traffic and the cost of a call count too"
    )


def latency(
    models: Mapping[str, Mapping[str, nn.Module | Prepare]],
    example: Example,
    *,
    batches: Sequence[int] = (1, 32),
    threads: Sequence[int | None] = (1, None),
    rounds: int = 15,
    turn: float = 0.01,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyTable:
    """Time models against each other: in every round each has one turn, in an order drawn anew.

    Args:
        models: Runtime → name → a module, run eagerly (a copy, in evaluation mode, on its own
            device), or a :data:`~espalier.measure._runtimes.Prepare`. The first model of each
            runtime is what its others are compared with.
        example: One batch, samples along the first axis of every tensor in it; repeated to each batch size.
        batches: Sizes, ≥ 1.
        threads: Numbers of threads, ≥ 1; None is all that this process may use.
        rounds: ≥ 2.
        turn: Seconds that a turn should last at least; a call is repeated within it.
        clock: Seconds.

    Returns:
        A row for each setting. PyTorch's number of threads is restored.

    Raises:
        RequestError: Nothing to measure, or a number out of range.

    Example:
        >>> nets = {"eager": {"dense": nn.Linear(8, 8), "compact": nn.Linear(8, 2)}}
        >>> table = latency(nets, torch.zeros(1, 8), batches=[4], threads=[1], rounds=2, turn=0)
        >>> [(row.model, row.batch) for row in table.rows]
        [('dense', 4), ('compact', 4)]
    """
    numbers = list(dict.fromkeys(_cores() if n is None else n for n in threads))
    if not any(models.values()) or not batches or not numbers:
        raise RequestError("nothing to measure: give a model, an example, a batch size, threads")
    if min(batches) < 1 or min(numbers) < 1 or rounds < 2:
        raise RequestError(
            f"batches={list(batches)}, threads={list(threads)}, rounds={rounds}; "
            "give batches and threads >= 1, rounds >= 2"
        )
    rows: list[Latency] = []
    for batch in dict.fromkeys(batches):
        inputs = repeated(example, batch)
        for number in numbers:
            with _threads(number), torch.inference_mode():
                calls = {
                    (runtime, name): _contestant(model)(inputs, number)
                    for runtime, group in models.items()
                    for name, model in group.items()
                }
                seconds = _race(calls, rounds, turn, clock)
            for (runtime, name), own in seconds.items():
                other = seconds[runtime, next(iter(models[runtime]))]
                # Round by round, since both stood side by side there; the ratio of two medians
                # would let a slow minute of the machine count for one of them alone.
                speedup = [a / b if b else 1.0 for a, b in zip(other, own, strict=True)]
                rows.append(
                    Latency(
                        runtime=runtime, model=name, batch=batch, threads=number,
                        seconds=Spread.of(own), speedup=Spread.of(speedup),
                    )
                )  # fmt: skip
    return LatencyTable(rows=tuple(rows), rounds=rounds)


Key = tuple[str, str]


def _race(
    calls: Mapping[Key, Callable[[], object]],
    rounds: int,
    turn: float,
    clock: Callable[[], float],
) -> dict[Key, list[float]]:
    """Seconds per call of every contestant in every round."""

    def timed(call: Callable[[], object], times: int) -> float:
        start = clock()
        for _ in range(times):
            call()
        return (clock() - start) / times

    repeats = {}
    for key, call in calls.items():
        # The first call pays for what is done once (allocation, tuning); only the last is
        # believed.
        alone = [timed(call, 1) for _ in range(_WARM_UP)][-1]
        repeats[key] = max(1, round(turn / alone)) if alone > 0 else 1
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    # A generator of its own: whoever measures must not change what the program draws next.
    order, draw = list(calls), random.Random(0)
    for _ in range(rounds):
        draw.shuffle(order)
        for key in order:
            calls[key]()  # not timed: caches and threads are those of the one before
            seconds[key].append(timed(calls[key], repeats[key]))
    return seconds


def _contestant(model: nn.Module | Prepare) -> Prepare:
    return eager(model) if isinstance(model, nn.Module) else model


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
