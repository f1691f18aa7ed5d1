"""The verdict says what happened, and what is true of the method."""

import json
from dataclasses import replace

import pytest

from espalier.methods import (
    Certificate,
    Course,
    Figures,
    Forced,
    LayerUpdate,
    Outcome,
    Taken,
    Update,
    certify,
)
from espalier.solvers import SLR, Gradual, OneShot
from espalier.tasks import Goal

PULLS, WAITS, CUTS = SLR().approach, OneShot().approach, Gradual().approach
LOSS = Goal(name="loss", unit="", higher_is_better=False)


def update(violation, *, loss=0.1, slack=0.0, first=True, second=None, weight=10.0, step=1):
    layer = LayerUpdate(weight=weight, violation=violation, z_change=0.5, multiplier_change=0.25)
    return Update(
        step=step, k=1, slack=slack, rho=0.1, s=0.01, loss=loss,
        condition_3=first, condition_8=second, layers={"fc.weight": layer},
    )  # fmt: skip


def took(total):
    return Taken(weight={"fc.weight": 10.0}, violation={"fc.weight": 10.0 * total})


def forced(total, step=60):
    return (Forced(step=step, total=total, layers={"fc.weight": total}),)


def course(violations=(), *, ahead=0.0, steps=100, approach=PULLS, **more):
    updates = [update(v) for v in violations]
    return Course(approach=approach, steps=steps, updates=updates, ahead=took(ahead), **more)


@pytest.mark.parametrize(
    ("course", "outcome"),
    [
        (course([5.0, 1.0, 0.05], ahead=0.005), Outcome.CONVERGED),
        (course([5.0, 4.0, 3.0, 2.0, 1.0], ahead=0.1), Outcome.BUDGET_SPENT),
        (course([5.0, 2.0, 2.0, 2.0, 2.0], ahead=0.2), Outcome.STALLED),
        (course([5.0, 0.05], forced=forced(0.005), done=True), Outcome.CONVERGED),
        (course([5.0, 2.0, 2.0, 2.0, 2.0], forced=forced(0.2), done=True), Outcome.FORCED),
        (course([5.0], forced=forced(0.47), done=True), Outcome.FORCED),
        (course([], forced=forced(0.6), done=True, approach=WAITS), Outcome.FORCED),
        (course([0.5] * 8, done=True, approach=CUTS), Outcome.FORCED),
        (course([float("nan")], ahead=0.1), Outcome.NON_FINITE),
        (course([5.0], finite=False), Outcome.NON_FINITE),
        (course([], steps=0, ahead=0.9), Outcome.BUDGET_SPENT),
        (course([], steps=0, forced=forced(0.0, step=0), done=True), Outcome.FORCED),
        (course([], ahead=0.4), Outcome.BUDGET_SPENT),
    ],
)
def test_the_outcome_follows_what_was_taken_and_when(course, outcome):
    assert certify(course).outcome is outcome


def test_a_violation_that_rests_while_the_budget_closes_is_not_a_stall():
    resting = replace(course(ahead=0.2), updates=[update(2.0, slack=0.5) for _ in range(8)])
    assert certify(resting).outcome is Outcome.BUDGET_SPENT


@pytest.mark.parametrize("approach", [WAITS, CUTS])
@pytest.mark.parametrize("ahead", [0.0, 0.4])
@pytest.mark.parametrize("cut", [(), forced(0.0), forced(0.4)])
def test_a_method_without_a_violation_neither_converges_nor_stalls(approach, ahead, cut):
    said = certify(course([2.0] * 8, ahead=ahead, forced=cut, approach=approach, done=not ahead))
    assert said.outcome in (Outcome.FORCED, Outcome.BUDGET_SPENT)
    assert "rho" not in said.sentence
    assert said.sentence.endswith(approach.sentence)


def test_of_gradual_cuts_the_largest_is_told():
    said = certify(course([0.5, 0.25, 0.125], approach=CUTS, done=True))
    assert said.sentence.startswith(
        "3 updates took up to 5.00% of the weights' norm each (step 1). Gradual"
    )


def test_forcing_is_told_with_its_step_its_norm_and_its_cost():
    figures = Figures(goal=Goal(), before=0.971, after=0.848, end=0.939)
    said = certify(course([5.0], forced=forced(0.47), figures=figures, done=True))
    assert said.sentence.startswith(
        "Forced at step 60: took 47.00% of the weights' norm and 12.3 points of accuracy, of which 9.1 came back."
    )
    assert said.forced[0].layers == {"fc.weight": 0.47}


def test_little_norm_but_half_the_accuracy_is_not_converged():
    little = course([5.0, 0.01], forced=forced(0.004), done=True)
    assert certify(little).outcome is Outcome.CONVERGED
    half = replace(little, figures=Figures(goal=Goal(), before=0.98, after=0.49))
    assert certify(half).outcome is Outcome.FORCED
    worse = replace(little, figures=Figures(goal=LOSS, before=0.1, after=0.2))
    assert certify(worse).outcome is Outcome.FORCED
    better = replace(little, figures=Figures(goal=LOSS, before=0.2, after=0.1))
    assert certify(better).outcome is Outcome.CONVERGED


def test_a_loss_that_was_zero_before_is_worse_whatever_it_is_after():
    figures = Figures(goal=LOSS, before=0.0, after=5.0, end=5.0)
    found = certify(course([0.05], forced=forced(0.005), done=True, figures=figures))
    assert found.outcome is Outcome.FORCED


def test_evaluations_stand_on_either_side_of_the_moment():
    seen = Figures(goal=Goal())
    for step, figure, was in ((5, 0.9, False), (10, 0.97, False), (15, 0.8, True), (20, 0.9, True)):
        seen = seen.then(step, figure, forced=was)
    assert (seen.before, seen.before_step, seen.after, seen.after_step) == (0.97, 10, 0.8, 15)
    assert (seen.end, seen.cost) == (0.9, pytest.approx(0.17))


def test_the_largest_of_several_forcings_is_told_and_the_rest_in_sum():
    cuts = (*forced(0.03, step=20), *forced(0.4, step=60), *forced(0.02, step=90))
    said = certify(course([1.0], forced=cuts, done=True)).sentence
    assert said.startswith(
        "Forced at step 60: took 40.00% of the weights' norm (5.00% more at other"
    )


def test_conditions_are_counted_only_where_they_were_asked():
    asked = [update(1.0, first=True), update(1.0, first=False, second=True)]
    assert certify(replace(course(), updates=asked)).conditions == (0.5, 1.0)
    assert certify(replace(course(), updates=[update(1.0, first=None)])).conditions == (None, None)


def test_layers_are_relative_to_their_weights_and_zero_once_nothing_is_left():
    assert certify(course(ahead=0.2)).violation == {"fc.weight": 0.2}
    assert certify(course(ahead=0.2, done=True)).violation == {"fc.weight": 0.0}
    empty = Taken(weight={"fc.weight": 0.0}, violation={"fc.weight": 0.0})
    assert certify(replace(course(), ahead=empty)).total_violation == 0.0


def test_an_update_and_a_certificate_survive_json():
    one = update(1.5, second=False)
    assert Update.from_event(json.loads(json.dumps(one.event()))) == one
    figures = Figures(goal=LOSS, before=0.1, after=0.2, end=0.15)
    said = certify(course([1.0], forced=forced(0.3), figures=figures, advice=("too short",)))
    assert Certificate.from_dict(json.loads(json.dumps(said.to_dict()))) == said


def test_the_last_figure_may_come_from_a_later_stage():
    figures = Figures(goal=Goal(), before=0.9, after=0.5, end=0.5)
    said = certify(course([1.0], forced=forced(0.3), figures=figures))
    assert "40.0 points of accuracy." in said.sentence
    assert "40.0 points of accuracy, of which 30.0 came back." in said.ended(0.8).sentence
