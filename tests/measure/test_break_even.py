"""The break-even on a clock that we wind ourselves, the sparse form, and the rule."""

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.errors import BudgetError, RequestError
from espalier.measure._break_even import BreakEven, CompressedRows, break_even
from espalier.measure._latency import Spread
from espalier.planning import above_break_even


class Clock:
    """Time passes only when a form is called."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def takes(self, seconds):
        def form(layer):
            def prepare(inputs, threads):
                def call():
                    self.now += seconds(float((layer.weight != 0).double().mean()))

                return call

            return prepare

        return form


def test_the_break_even_is_where_the_costs_cross():
    """Dense 1 s, sparse 2.22 s times the density: ADMM-NN's own model, so 55 % pruned."""
    clock = Clock()
    found = break_even(
        nn.Linear(40, 25), clock.takes(lambda density: 2.22 * density), rounds=3, clock=clock,
        dense=clock.takes(lambda density: 1.0), fractions=[0.3, 0.5, 0.54, 0.55, 0.56, 0.9],
    )  # fmt: skip
    assert found.fraction == 0.55
    assert found.ratio == pytest.approx(1 / 0.45)
    assert found.speedups[0.9].median == pytest.approx(1 / 0.222)


def test_a_sparse_form_that_is_never_faster_has_none():
    clock = Clock()
    found = break_even(
        nn.Linear(4, 4), clock.takes(lambda density: 2.0), dense=clock.takes(lambda density: 1.0),
        rounds=2, clock=clock,
    )  # fmt: skip
    assert found.fraction is None
    assert found.ratio is None


def test_a_lucky_ratio_below_a_slow_one_does_not_count():
    speeds = {0.5: 1.2, 0.7: 0.9, 0.9: 1.0, 0.95: 3.0}
    found = BreakEven(speedups={f: Spread(low=s, median=s, high=s) for f, s in speeds.items()})
    assert found.fraction == 0.9


@pytest.mark.parametrize("bias", [True, False])
def test_the_sparse_form_computes_what_the_layer_does(bias):
    torch.manual_seed(0)
    layer = nn.Linear(7, 5, bias=bias)
    with torch.no_grad():
        layer.weight[layer.weight < 0] = 0
    x = torch.randn(3, 7)
    assert torch.allclose(CompressedRows(layer)(x), layer(x), atol=1e-6)


def test_layers_below_the_break_even_are_dense_again():
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10), nn.Linear(10, 10))
    plan = esp.plan(model, keep={"0.weight": 50, "1.weight": 45, "2.weight": 10})
    made = above_break_even(plan, 0.55)
    assert made.names == ("1.weight", "2.weight")
    assert {row.name: row.reason for row in made.skipped}["0.weight"].startswith("50 % pruned")
    assert made.counts().all_params.nonzero == 100 + 45 + 10 + 30
    assert above_break_even(plan, 0.5).names == plan.names


def test_what_has_no_break_even_is_refused():
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(BudgetError, match=r"most is 0\.weight with 50%"):
        above_break_even(esp.plan(model, density=0.5), 0.9)
    with pytest.raises(BudgetError, match="0 to 1"):
        above_break_even(esp.plan(model, density=0.5), 1.5)
    shared = esp.plan(model, density=0.5, allocation=esp.budgets.shared)
    with pytest.raises(BudgetError, match="share one budget"):
        above_break_even(shared, 0.5)
    with pytest.raises(RequestError, match=r"in \[0, 1\)"):
        break_even(nn.Linear(2, 2), fractions=[1.0])
