"""Widths by the clock: with a clock made of arithmetic the answer is known."""

import time
from math import ceil

import pytest
import torch
from torch import nn

from espalier.errors import BudgetError
from espalier.graph import channel_graph
from espalier.measure import layer_costs
from espalier.measure._latency import Latency, LatencyTable, Spread, latency
from espalier.planning import Per, Ranking
from espalier.planning import _channels as channels
from espalier.search import _latency as latency_budget
from espalier.search._latency import plan_for_latency


def _net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)
    )


def _machine(monkeypatch, seconds_of):
    """A machine whose calls take as long as a function of the module says; it counts them."""
    called = []

    def latency(models, example, *, batches, threads, rounds, clock):
        ((runtime, group),) = models.items()
        assert (batches, threads, rounds, clock) == ([1], [1], 15, time.process_time)
        called.append(group)
        seconds = {name: seconds_of(m, example) for name, m in group.items()}
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
    return called


@pytest.fixture
def arithmetic(monkeypatch):
    """A machine whose latency is 1,000 MACs of overhead and then the MACs."""
    return _machine(monkeypatch, lambda model, x: 1000 + layer_costs(model, x).total)


@pytest.fixture
def sixteens(monkeypatch):
    """A machine that computes on 16 features at a time, used or not."""

    def seconds(model, x):
        linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
        return sum(ceil(m.in_features / 16) * ceil(m.out_features / 16) for m in linears)

    return _machine(monkeypatch, seconds)


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
    with pytest.raises(BudgetError, match=r"not met: the narrowest model tried, with 0\.5%"):
        plan_for_latency(_net(), torch.zeros(2, 8), 0.15, runtime=lambda module: module)


@pytest.mark.parametrize("target", [0.0, 1.0, -1, 2])
def test_a_target_is_a_fraction(target):
    with pytest.raises(BudgetError, match=r"give a fraction in \(0, 1\)"):
        plan_for_latency(_net(), torch.zeros(2, 8), target)


def test_widths_are_multiples_of_what_the_kernels_take_at_a_time(sixteens):
    found = plan_for_latency(
        _net(), torch.zeros(2, 8), 0.7, runtime=lambda module: module, trials=1
    )
    kept = [entry.keep for entry in found.plan.entries.values() if len(entry.shape) == 2]
    # Dense, it computes 4 + 16 + 4 tiles; at .7 of the MACs 53 features of 64 need as many, 48 of them 3 + 9 + 3.
    assert kept == [48, 48]


def test_a_multiple_that_is_asked_for_holds_whatever_is_cheaper(sixteens):
    found = plan_for_latency(
        _net(), torch.zeros(2, 8), 0.7, runtime=lambda module: module, multiple=5
    )
    assert {trial.multiple for trial in found.trials} == {5}
    kept = [entry.keep for entry in found.plan.entries.values() if len(entry.shape) == 2]
    assert all(keep % 5 == 0 or keep == 64 for keep in kept)


def test_a_model_is_traced_once_and_equal_widths_are_measured_once(sixteens, monkeypatch):
    traced = []

    def graph(model, example):
        traced.append(model)
        return channel_graph(model, example)

    monkeypatch.setattr(channels, "channel_graph", graph)
    found = plan_for_latency(_net(), torch.zeros(2, 8), 0.7, runtime=lambda module: module)
    assert len(traced) == 1
    assert len(sixteens) == len({(t.multiple, t.macs_left) for t in found.trials})
    assert len(sixteens) < len(found.trials)


def test_ranked_units_meet_a_latency_too(arithmetic):
    model, x = _net(), torch.zeros(2, 8)
    with torch.no_grad():
        model[0].weight[:32] = 0.01  # half of the first layer's units hardly matter
    ranked = Ranking(per=Per.UNIT, relative=False)
    found = plan_for_latency(model, x, 0.6, runtime=lambda module: module, allocation=ranked)
    first, second = (e.keep for e in found.plan.entries.values() if len(e.shape) == 2)
    assert first < second


class _Named(nn.Module):
    """Takes its input by name."""

    def __init__(self):
        super().__init__()
        self.net = _net()

    def forward(self, *, features):
        return self.net(features)


def test_keyword_inputs_are_timed():
    x = {"features": torch.zeros(2, 8)}
    table = latency({"": {"dense": _Named()}}, x, batches=[3], threads=[1], rounds=2, turn=0.0)
    assert [row.batch for row in table.rows] == [3]


def test_keyword_inputs_are_planned_for(monkeypatch):
    _machine(monkeypatch, lambda model, x: layer_costs(model, x).total)
    x = {"features": torch.zeros(2, 8)}
    model = _Named()
    found = plan_for_latency(model, x, 0.5, runtime=lambda module: module)
    assert found.plan.macs_left <= 0.5 * layer_costs(model, x).total


def test_where_no_widths_are_allowed_the_reason_is_said(arithmetic):
    with pytest.raises(
        BudgetError, match=r"no widths could be tried: macs .* the smallest widths leave"
    ):
        plan_for_latency(
            _net(), torch.zeros(2, 8), 0.3, runtime=lambda module: module, minimum=60, trials=2
        )
