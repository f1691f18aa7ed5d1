"""The verdict says what the updates show."""

import json

import pytest

from espalier.methods._certificate import LayerUpdate, Outcome, Update, certify


def update(violation, *, loss=0.1, slack=0.0, first=True, second=None, weight=10.0):
    layer = LayerUpdate(weight=weight, violation=violation, z_change=0.5, multiplier_change=0.25)
    return Update(
        step=1, k=1, slack=slack, rho=0.1, s=0.01, loss=loss,
        condition_3=first, condition_8=second, layers={"fc.weight": layer},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("violations", "held", "outcome"),
    [
        ([5.0, 1.0, 0.05], False, Outcome.CONVERGED),
        ([5.0, 4.0, 3.0, 2.0, 1.0], False, Outcome.BUDGET_SPENT),
        ([5.0, 2.0, 2.0, 2.0, 2.0], False, Outcome.STALLED),
        ([5.0, 2.0, 2.0, 2.0, 2.0], True, Outcome.CONVERGED),
        ([float("nan")], False, Outcome.NON_FINITE),
        ([], False, Outcome.BUDGET_SPENT),
    ],
)
def test_the_outcome_follows_the_violations(violations, held, outcome):
    assert certify([update(v) for v in violations], held=held).outcome is outcome


def test_a_violation_that_rests_while_the_budget_closes_is_not_a_stall():
    updates = [update(2.0, slack=0.5) for _ in range(8)]
    assert certify(updates, held=False).outcome is Outcome.BUDGET_SPENT


def test_conditions_are_counted_only_where_they_were_asked():
    updates = [update(1.0, first=True), update(1.0, first=False, second=True)]
    assert certify(updates, held=False).conditions == (0.5, 1.0)
    assert certify([update(1.0, first=None)], held=False).conditions == (None, None)


def test_layers_are_relative_to_their_weights_and_zero_once_held():
    assert certify([update(2.0)], held=False).violation == {"fc.weight": 0.2}
    assert certify([update(2.0)], held=True).violation == {"fc.weight": 0.0}
    assert certify([update(0.0, weight=0.0)], held=False).total_violation == 0.0


def test_an_update_survives_json():
    one = update(1.5, second=False)
    assert Update.from_event(json.loads(json.dumps(one.event()))) == one
    assert json.loads(json.dumps(certify([one], held=False).to_dict()))["outcome"] == "budget_spent"
