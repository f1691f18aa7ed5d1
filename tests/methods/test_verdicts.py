"""What the handles certify of real runs: the sentence that is true of each."""

import re

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.errors import AdviceWarning, RequestError
from espalier.methods import L0, Constrained, DualAveraging, Freezing, Keeping, Outcome, Setting
from espalier.tasks import Goal

STEPS = 24


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 2))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05)


def pruning(solver, density=0.25, cadence=3, **settings):
    def make(model):
        plan = esp.plan(model, density=density)
        return esp.Pruning(
            model, plan, solver, sgd(model.parameters()), STEPS, cadence=cadence, **settings
        )

    return make


def attached(method):
    return lambda model: method.attach(
        model, esp.plan(model, density=0.25), Setting(optimizer=sgd, steps=STEPS, lr=0.05)
    )


def keeping(model):
    plan = esp.plan(model, density=0.25)
    esp.Pruning(model, plan, esp.OneShot()).hard_prune_()
    held = {n: model.get_parameter(n).detach() != 0 for n in plan.names}
    return Keeping(model, plan, held, sgd(model.parameters()))


def freezing(model):
    plan = esp.quantise_plan(model, 1)
    return Freezing(model, plan, sgd(model.parameters()), steps=STEPS, rounds=4)


def train(handle, steps):
    for step in range(steps):
        x = torch.randn(16, 12, generator=torch.Generator().manual_seed(step))
        handle.optimizer.zero_grad()
        loss = (handle.trained()(x) - x[:, :2]).square().mean()
        loss.backward()
        handle.add_gradients_()
        handle.optimizer.step()
        handle.step(loss)
    return handle


NEVER_LED = {
    "one shot": (pruning(esp.OneShot()), rf"^Forced at step {STEPS}: took \d\d\.\d\d% .* One-shot"),
    "gradual": (
        pruning(esp.Gradual(), cadence=2),
        r"^\d+ updates took up to \d+\.\d\d% of the weights' norm each .* Gradual pruning cuts",
    ),
    "rigl": (
        pruning(esp.solvers.RigL()),
        r"^8 updates took .* Forced before the first step: took \d\d\.\d\d% .* RigL holds",
    ),
    "keeping": (
        keeping,
        r"^Forced at step \d+: took 0\.00% .* The zeros of earlier stages were held",
    ),
    "freezing": (
        freezing,
        r"^Forced .* \(\d+\.\d\d% more at other times\)\. Gradual freezing puts",
    ),
}


@pytest.mark.parametrize("kind", NEVER_LED)
def test_a_method_that_leads_the_weights_nowhere_says_what_it_did(kind):
    make, told = NEVER_LED[kind]
    handle = train(make(network()), STEPS)
    before = handle.certificate()
    assert before.outcome in (Outcome.FORCED, Outcome.BUDGET_SPENT)
    handle.hard_prune_()
    said = handle.certificate()
    assert said.outcome is Outcome.FORCED
    assert said.total_violation == 0.0
    assert "rho" not in before.sentence + said.sentence
    assert re.search(told, said.sentence), said.sentence


@pytest.mark.parametrize("make", [
    pruning(esp.SLR(), density=0.05), pruning(esp.OneShot(), density=0.05),
    pruning(esp.Gradual(), density=0.05), attached(L0()),
])  # fmt: skip
def test_a_network_that_was_never_trained_and_cut_is_not_converged(make):
    handle = make(network())
    assert handle.certificate().outcome is Outcome.BUDGET_SPENT
    assert handle.certificate().sentence.startswith("Nothing was trained yet, and a cut would take")
    handle.hard_prune_()
    said = handle.certificate()
    assert said.outcome is Outcome.FORCED
    assert said.sentence.startswith("Forced before the first step: took ")
    assert said.forced[0].total > 0.3


def averaged(l1):
    handle = train(attached(DualAveraging(l1=l1, start=1))(network()), STEPS)
    handle.hard_prune_()
    return handle.certificate()


def test_dual_averaging_is_told_that_its_zeros_are_its_thresholds():
    said = averaged(l1=10.0)
    assert said.outcome is Outcome.CONVERGED
    assert said.forced[0].total == 0.0
    assert said.sentence.endswith("how many are zero is for lambda to say.")


def test_dual_averaging_that_leaves_more_than_the_plan_is_not_converged():
    said = averaged(l1=1e-6)
    assert said.outcome is Outcome.STALLED
    assert "That leaves 100.00% of the weights, off the plan, which has 25.00%." in said.sentence
    assert said.sentence.endswith("Raise l1.")


def test_what_was_trained_after_the_zeros_were_forced_is_not_said_to_have_come_before():
    handle = pruning(esp.SLR())(network())
    handle.hard_prune_()
    assert train(handle, STEPS).certificate().why == "Nothing had been trained by then."


def test_nothing_is_judged_inside_hard_pruned():
    handle = pruning(esp.SLR(), settle=None)(network())
    for call in (handle.certificate, lambda: handle.evaluated(0.5)):
        with handle.hard_pruned(), pytest.raises(RequestError, match=r"inside hard_pruned\(\)"):
            call()


def test_l0_that_falls_short_is_told_of_its_own_settings():
    handle = train(attached(L0(dual_lr=1e-6))(network()), STEPS)
    handle.hard_prune_()
    said = handle.certificate()
    assert said.outcome is Outcome.FORCED
    assert "rho" not in said.sentence


def test_weights_pulled_all_the_way_are_converged_and_the_cut_took_next_to_nothing():
    strong = pruning(esp.Penalty(rho=450.0), cadence=1, settle=None, opening=esp.solvers.Constant())
    handle = strong(network())
    for group in handle.optimizer.param_groups:
        group["lr"] = (
            2e-3  # so that a step goes nine tenths of the way; what stays is the gradient over rho
        )
    train(handle, STEPS)
    before = handle.certificate()
    assert before.outcome is Outcome.CONVERGED
    handle.hard_prune_()
    said = handle.certificate()
    assert said.outcome is Outcome.CONVERGED
    assert said.forced[0].total == pytest.approx(before.total_violation)
    assert said.total_violation == 0.0


def test_the_verdict_is_frozen_where_the_weights_settle():
    handle = pruning(esp.SLR(rho=1e-4), settle=0.5)(network())
    train(handle, 11)
    w = {n: handle.model.get_parameter(n).detach().clone() for n in handle.plan.names}
    handle.evaluated(0.9)
    train(handle, 1)  # and settles
    z = {n: handle.model.get_parameter(n).detach() for n in w}
    handle.evaluated(0.6)
    at_once = handle.certificate()
    (forced,) = at_once.forced
    assert forced.step == 12
    for name in w:  # w is a step of training older than what was projected
        assert forced.layers[name] == pytest.approx(
            float((w[name] - z[name]).norm() / w[name].norm()), abs=0.05
        )
    train(handle, 12)
    handle.evaluated(0.8)
    handle.hard_prune_()
    said = handle.certificate()
    assert said.forced == at_once.forced
    assert said.outcome is Outcome.FORCED
    assert said.sentence.startswith(
        f"Forced at step 12: took {forced.total:.2%} of the weights' norm and 30.0 points of accuracy, "
        "of which 20.0 came back. The violation"
    )


def test_figures_of_other_goals_are_told_in_their_unit():
    handle = pruning(esp.OneShot())(network())
    goal = Goal(name="perplexity", unit="", higher_is_better=False)
    train(handle, 3)
    handle.evaluated(20.0, goal)
    handle.hard_prune_()
    handle.evaluated(31.5, goal)
    assert "; perplexity 20 before, 31.5 after. One-shot" in handle.certificate().sentence


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["0.weight", "0.bias"])
@pytest.mark.parametrize("cut", [False, True])
def test_of_weights_that_are_not_finite_there_is_no_verdict(value, where, cut):
    handle = train(pruning(esp.SLR())(network()), 6)
    if cut:
        handle.hard_prune_()
    with torch.no_grad():
        handle.model.get_parameter(where)[0] = value
    said = handle.certificate()
    assert said.outcome is Outcome.NON_FINITE
    assert said.sentence.startswith("The weights are not finite, so there is no verdict.")


def test_what_was_forced_survives_a_resume():
    handle = train(pruning(esp.SLR(), settle=0.5)(network()), 14)
    handle.evaluated(0.7)
    again = pruning(esp.SLR(), settle=0.5)(network())
    again.model.load_state_dict(handle.model.state_dict())
    again.load_state_dict(handle.state_dict())
    assert again.certificate() == handle.certificate()


# ---- before the hour is spent -----------------------------------------------------------------------


def test_missing_steps_are_warned_of_where_the_budget_closes_or_the_weights_settle():
    model = network()
    plan = esp.plan(model, density=0.25)
    with pytest.warns(
        AdviceWarning, match="not given, so the whole budget .* and the weights never"
    ):
        esp.Pruning(model, plan, esp.SLR())
    with pytest.warns(AdviceWarning, match="not given, so the weights never settle; give"):
        esp.Pruning(model, plan, esp.SLR(), opening=esp.solvers.Constant())
    for fine in (
        esp.OneShot(),
        esp.Constrained(opening=esp.solvers.Constant(), settle=None),
    ):
        assert esp.Pruning(model, plan, fine).advice == ()


def test_too_few_updates_before_settling_are_warned_of_with_a_cadence_that_has_enough():
    model = network()
    plan = esp.plan(model, density=0.25)
    with pytest.warns(AdviceWarning) as caught:
        handle = esp.Pruning(model, plan, esp.SLR(), steps=110)
    assert [str(w.message) for w in caught] == [
        "110 steps at cadence 20 make 2 updates before the weights settle at step 60, and fewer than about 20 "
        "hardly move them; give cadence=2, or more steps"
    ]  # fmt: skip
    assert caught[0].filename == __file__
    assert handle.certificate().advice == handle.advice
    assert esp.Pruning(model, plan, esp.SLR(), steps=110, cadence=2).advice == ()
    assert esp.Pruning(model, plan, esp.OneShot(), steps=110).advice == ()


@pytest.mark.parametrize("steps", [1, 20, 110, 937, 5000])
@pytest.mark.parametrize("cadence", [1, 7, 20, 469])
@pytest.mark.parametrize("settle", [None, 0.1, 0.45, 1.0])
def test_the_updates_that_advice_counts_are_those_that_are_made(steps, cadence, settle):
    method = esp.Constrained(solver=esp.Gradual(), cadence=cadence, settle=settle)
    made = 0
    for step in range(cadence, steps + 1, cadence):
        if method.settles_at(step, steps, 0.25):
            break
        made += 1
    told = method.advice(steps)
    assert bool(told) == (made < 20)
    assert not told or f" make {made} update" in told[0]
    better = re.search(r"give cadence=(\d+)", told[0]) if told else None
    if better:
        again = esp.Constrained(solver=esp.Gradual(), cadence=int(better[1]), settle=settle)
        assert again.advice(steps) == ()


def test_advice_on_any_number_of_steps_takes_no_time():
    """Asked step by step this would not end."""
    assert Constrained(cadence=20).advice(10**30) == ()
