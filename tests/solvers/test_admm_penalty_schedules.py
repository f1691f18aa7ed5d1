"""ADMM, its ρ schedules, the penalty method and the budget's schedules, by hand."""

import math

import pytest
import torch

from espalier.solvers import (
    ADMM,
    Constant,
    CosineRho,
    Cubic,
    GeometricRho,
    Gradual,
    Observed,
    OneShot,
    Penalty,
    Pulling,
    Rounds,
    StagedRho,
)
from problems import TopK, random_weights


def draw(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [random_weights(generator) for _ in range(count)]


def test_admm_is_its_three_lines_in_the_scaled_form():
    """Z = Π(W + U), U ← U + W − Z, transcribed with U = Λ/ρ."""
    weights, constraint, rho = draw(5), TopK(4), 0.3
    solver = ADMM(rho=rho)
    state = solver.init(weights[0], constraint)
    u = {n: torch.zeros_like(t) for n, t in weights[0].items()}
    for w in weights[1:]:
        state, _ = solver.update(w, state, constraint, Observed(loss=0.0))
        z = constraint.project({n: w[n] + u[n] for n in w})
        u = {n: u[n] + w[n] - z[n] for n in w}
        torch.testing.assert_close(state.z, z)
        torch.testing.assert_close(state.multiplier, {n: rho * u[n] for n in u})


@pytest.mark.parametrize("rescale", [True, False])
def test_geometric_rho_keeps_lambda_or_as_the_authors_u(rescale):
    w0, w1 = draw(2)
    schedule = GeometricRho(factor=1.3, maximum=1.0, rescale_dual=rescale)
    solver = ADMM(rho=0.1, rho_schedule=schedule)
    plain, _ = ADMM(rho=0.1).update(
        w1, ADMM(rho=0.1).init(w0, TopK(4)), TopK(4), Observed(loss=0.0)
    )
    state, _ = solver.update(w1, solver.init(w0, TopK(4)), TopK(4), Observed(loss=0.0))
    assert state.rho == pytest.approx(0.13)
    grown = 1.0 if rescale else 1.3
    torch.testing.assert_close(
        state.multiplier, {n: grown * m for n, m in plain.multiplier.items()}
    )
    for _ in range(20):
        state, _ = solver.update(w1, state, TopK(4), Observed(loss=0.0))
    assert state.rho == pytest.approx(1.0)


@pytest.mark.parametrize("rescale", [True, False])
def test_cosine_rho_rises_to_its_maximum_and_keeps_lambda_or_u(rescale):
    schedule = CosineRho(maximum=0.5, updates=4, rescale_dual=rescale)
    solver, weights = ADMM(rho=0.1, rho_schedule=schedule), draw(8)
    state, rhos = solver.init(weights[0], TopK(4)), []
    u = {n: torch.zeros_like(w) for n, w in weights[0].items()}
    for w in weights[1:]:
        z = TopK(4).project({n: w[n] + u[n] for n in w})
        old, (state, _) = state.rho, solver.update(w, state, TopK(4), Observed(loss=0.0))
        u = {n: (u[n] + w[n] - z[n]) * (old / state.rho if rescale else 1.0) for n in w}
        torch.testing.assert_close(state.multiplier, {n: state.rho * u[n] for n in u})
        rhos.append(state.rho)
    half = [0.1 + 0.4 * (1 - math.cos(math.pi * k / 4)) / 2 for k in (1, 2, 3, 4, 4, 4, 4)]
    assert rhos == pytest.approx(half)


def test_staged_rho_restarts_from_the_weights_of_the_last_stage():
    solver = ADMM(rho=1e-3, rho_schedule=StagedRho(factor=10, updates=2, stages=2))
    weights = draw(7)
    state = solver.init(weights[0], TopK(4))
    rhos = []
    for k, w in enumerate(weights[1:], start=1):
        state, _ = solver.update(w, state, TopK(4), Observed(loss=0.0))
        rhos.append(round(state.rho, 9))
        if k == 2:
            torch.testing.assert_close(state.z, TopK(4).project(w))
            assert all((m == 0).all() for m in state.multiplier.values())
    assert rhos == [1e-3, 1e-2, 1e-2, 1e-2, 1e-2, 1e-2]


def test_the_penalty_method_forgets_everything_but_the_weights():
    weights = draw(4)
    solver = Penalty()
    state = solver.init(weights[0], TopK(4))
    for w in weights[1:]:
        state, _ = solver.update(w, state, TopK(4), Observed(loss=0.0))
        torch.testing.assert_close(state.z, TopK(4).project(w))
    assert all((m == 0).all() for m in state.multiplier.values())


def test_gradual_holds_and_one_shot_does_nothing():
    (w,) = draw(1)
    state, _ = Gradual().update(w, Gradual().init(w, TopK(4)), TopK(4), Observed(loss=0.0))
    assert {n: int(m.sum()) for n, m in state.held.items()} == {"a": 4, "b": 4}
    assert not isinstance(state, Pulling)
    state, _ = OneShot().update(w, OneShot().init(w, TopK(4)), TopK(4), Observed(loss=0.0))
    assert not state.held
    assert not isinstance(state, Pulling)


def test_admm_finds_the_best_support_of_a_small_least_squares():
    """Sparse least squares with orthonormal columns: enumerable, and its optimum is a top-k."""
    generator = torch.Generator().manual_seed(4)
    a = torch.linalg.qr(torch.randn(12, 6, generator=generator, dtype=torch.float64))[0]
    b = torch.randn(12, generator=generator, dtype=torch.float64)
    constraint, solver = TopK(2), ADMM(rho=1.0)
    w = {"w": torch.zeros(6, dtype=torch.float64)}
    state = solver.init(w, constraint)
    for _ in range(200):  # the exact minimiser of ½‖Aw−b‖² + ⟨Λ, w⟩ + ρ/2‖w−z‖², AᵀA = I
        w = {"w": (a.T @ b - state.multiplier["w"] + state.rho * state.z["w"]) / (1 + state.rho)}
        state, _ = solver.update(w, state, constraint, Observed(loss=0.0))
    best = min(
        (float((a[:, [i, j]] @ (a[:, [i, j]].T @ b) - b).square().sum()), {i, j})
        for i in range(6)
        for j in range(i)
    )
    assert set(state.z["w"].nonzero().flatten().tolist()) == best[1]
    torch.testing.assert_close(w["w"], state.z["w"], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("schedule", "progress", "slack"),
    [
        (Constant(), 0.0, 0.0),
        (Cubic(0.5), 0.0, 1.0),
        (Cubic(0.5), 0.25, 0.125),
        (Cubic(0.5), 0.5, 0.0),
        (Cubic(0.5), 1.0, 0.0),
        (Rounds(2, until=1.0), 0.0, 1.0),
        (Rounds(2, until=1.0), 0.49, 1.0),
        (Rounds(2, until=1.0), 0.5, 1 / 3),
        (Rounds(2, until=1.0), 1.0, 0.0),
        (Rounds(4, until=0.5), 0.5, 0.0),
    ],
)
def test_slack_runs_from_dense_to_the_plan(schedule, progress, slack):
    assert schedule.slack(progress, 0.25) == pytest.approx(slack)
