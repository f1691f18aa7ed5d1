"""Widths by the clock: with a clock made of arithmetic the answer is known."""

import pytest
import torch
from torch import nn

from espalier.errors import BudgetError
from espalier.measure import layer_costs
from espalier.measure._latency import Latency, LatencyTable, Spread
from espalier.search import _latency as latency_budget
from espalier.search._latency import plan_for_latency


def _net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)
    )


@pytest.fixture
def arithmetic(monkeypatch):
    """A machine whose latency is 1,000 MACs of overhead and then the MACs."""

    def latency(models, example, *, batches, threads, rounds):
        ((runtime, group),) = models.items()
        assert (batches, threads, rounds) == ([1], [1], 15)
        seconds = {name: 1000 + layer_costs(m, example).total for name, m in group.items()}
        first = next(iter(seconds.values()))
        rows = tuple(
            Latency(
                runtime=runtime, model=name, batch=1, threads=1,
                seconds=Spread(low=s, median=s, high=s),
                speedup=Spread(low=first / s, median=first / s, high=first / s),
            )
            for name, s in seconds.items()
        )  # fmt: skip
        return LatencyTable(rows=rows, rounds=rounds)

    monkeypatch.setattr(latency_budget, "latency", latency)


def test_it_finds_the_widest_model_that_meets_the_target(arithmetic):
    model, x = _net(), torch.zeros(2, 8)
    dense = layer_costs(model, x).total
    found = plan_for_latency(model, x, 0.5, runtime=lambda module: module, trials=12)
    met = 1000 + found.plan.macs_left
    assert met <= 0.5 * (1000 + dense)
    one_unit = 64 + 8  # what the next unit of the first or the last hidden layer costs at most
    assert met > 0.5 * (1000 + dense) - one_unit
    assert [trial.latency.median <= 0.5 for trial in found.trials].count(True) >= 1


def test_a_target_that_overhead_forbids_is_refused_with_what_was_measured(arithmetic):
    with pytest.raises(BudgetError, match=r"not met: the narrowest model tried, with 0\.8%"):
        plan_for_latency(_net(), torch.zeros(2, 8), 0.15, runtime=lambda module: module)


@pytest.mark.parametrize("target", [0.0, 1.0, -1, 2])
def test_a_target_is_a_fraction(target):
    with pytest.raises(BudgetError, match=r"give a fraction in \(0, 1\)"):
        plan_for_latency(_net(), torch.zeros(2, 8), target)
