"""SLR against a straight-line transcription of the paper, and against its limits."""

from dataclasses import replace

import pytest
import torch

from espalier.solvers import ADMM, SLR, Observed, Penalty, SLRReleased
from espalier.solvers._slr import SLRState
from problems import TopK, random_weights


def norm_sum(tensors):
    return sum(float(t.norm()) for t in tensors)


def transcribed(w_k, loss_k, keep, rho, s0, M, r, printed=False, accept=None):  # noqa: N803
    """Algorithm 1 for one run: w_k, loss_k are W^k and f(W^k), k = 0, 1, …; two tensors, float64.

    Written without the solver's helpers, from eqs. (3)-(11), steps in the order in which they are used.
    """
    project = TopK(keep).project_list

    def lagrangian(f, w, z, lam):
        out = f
        for wi, zi, li in zip(w, z, lam, strict=True):
            out += float((li * (wi - zi)).sum()) + rho / 2 * float((wi - zi).square().sum())
        return out

    z = project(w_k[0])
    lam = [torch.zeros_like(t) for t in w_k[0]]
    s, last, norm0 = s0, None, None
    history = []
    for k in range(1, len(w_k)):
        w, w_old = w_k[k], w_k[k - 1]
        alpha = 1 - 1 / (M * k ** (1 - 1 / k**r))
        three = k == 1 or (
            lagrangian(loss_k[k], w, z, lam) < lagrangian(loss_k[k - 1], w_old, z, lam)
        )
        n_w_zold = norm_sum([a - b for a, b in zip(w, z, strict=True)])
        numerator = norm0 if printed else last
        if three:
            if numerator and n_w_zold:
                s = alpha * s * numerator / n_w_zold
            lam = [x + s * (a - b) for x, a, b in zip(lam, w, z, strict=True)]
            last = n_w_zold or last
        z_new = project([a + x / rho for a, x in zip(w, lam, strict=True)])
        eight = lagrangian(0.0, w, z_new, lam) < lagrangian(0.0, w, z, lam)
        n_w_z = norm_sum([a - b for a, b in zip(w, z_new, strict=True)])
        numerator = norm0 if printed else last
        if eight:
            if numerator and n_w_z:
                s = alpha * s * numerator / n_w_z
            lam = [x + s * (a - b) for x, a, b in zip(lam, w, z_new, strict=True)]
            last = n_w_z or last
        z, norm0 = z_new, n_w_z
        history.append((z, lam, s, three, eight))
    return history


@pytest.mark.parametrize("printed", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_six_updates_are_the_papers_equations(seed, printed):
    generator = torch.Generator().manual_seed(seed)
    weights = [random_weights(generator) for _ in range(7)]
    losses = torch.rand(7, generator=generator, dtype=torch.float64).tolist()
    expected = transcribed(
        [list(w.values()) for w in weights], losses, 5, 0.1, 0.05, 20.0, 0.3, printed
    )
    solver = SLR(rho=0.1, step=0.05, M=20.0, r=0.3, printed_steps=printed)
    constraint = TopK(5)
    state = solver.init(weights[0], constraint)
    seen = set()
    for w, loss, (z, lam, s, three, eight) in zip(weights[1:], losses[1:], expected, strict=True):
        state, conditions = solver.update(w, state, constraint, Observed(loss=loss))
        assert (conditions.first, conditions.second) == (three, eight)
        assert state.step == pytest.approx(s, rel=1e-12)
        torch.testing.assert_close(list(state.z.values()), z, rtol=0, atol=1e-14)
        torch.testing.assert_close(list(state.multiplier.values()), lam, rtol=1e-12, atol=1e-14)
        seen |= {(three, eight)}
    assert len(seen) > 1 or seed  # both outcomes of the conditions are exercised by seed 0


def test_the_printed_and_the_ordered_step_differ():
    """The transcription would not notice a switch that does nothing."""
    generator = torch.Generator().manual_seed(0)
    weights = [random_weights(generator) for _ in range(4)]
    steps = []
    for printed in (False, True):
        solver = SLR(step=0.05, printed_steps=printed)
        state = solver.init(weights[0], TopK(5))
        for w in weights[1:]:
            state, _ = solver.update(w, state, TopK(5), Observed(loss=0.0))
        steps.append(state.step)
    assert steps[0] != pytest.approx(steps[1], rel=1e-3)


@pytest.mark.parametrize(
    ("k", "alpha"), [(1, 0.99667), (5, 0.99737), (10, 0.99792), (50, 0.99906), (100, 0.99939)]
)
def test_alpha_is_the_papers(k, alpha):
    assert SLR(M=300, r=0.1).alpha(k) == pytest.approx(alpha, abs=1e-5)


def test_alpha_hardly_decays_over_a_hundred_updates():
    product = 1.0
    for k in range(1, 101):
        product *= SLR(M=300, r=0.1).alpha(k)
    assert product == pytest.approx(0.89, abs=0.005)


def run(solver, *, steps, seed=0, **changed):
    """Updates of a solver on weights drawn in advance; ``changed`` are set in its state before each."""
    generator = torch.Generator().manual_seed(seed)
    weights = [random_weights(generator) for _ in range(steps + 1)]
    state = solver.init(weights[0], TopK(4))
    for w in weights[1:]:
        state, _ = solver.update(w, replace(state, **changed), TopK(4), Observed(loss=0.0))
    return state


IMPOSSIBLE = {
    "loss": -1e30,
    "penalty_terms": 0.0,
}  # a past after which whatever comes is no decrease


def test_with_the_first_condition_refused_and_s_equal_rho_it_is_admm():
    """Refuse (3): Λ' = Λ, Z = Π(W + Λ/ρ). Accept (8) with s = ρ: Λ + ρ(W − Z). That is ADMM's update.

    s stays ρ when the norm it would follow is forgotten.
    """
    slr = run(SLR(rho=0.2, step=0.2), steps=5, norm=0.0, **IMPOSSIBLE)
    admm = run(ADMM(rho=0.2), steps=5)
    torch.testing.assert_close(slr.z, admm.z, rtol=0, atol=1e-14)
    torch.testing.assert_close(slr.multiplier, admm.multiplier, rtol=0, atol=1e-14)


def test_with_both_conditions_accepted_and_s_equal_rho_it_is_the_symmetric_admm():
    """Both half-steps with s = ρ: Λ' = Λ + ρ(W − Z), Z⁺ = Π(W + Λ'/ρ), Λ⁺ = Λ' + ρ(W − Z⁺)."""
    generator = torch.Generator().manual_seed(3)
    w0, w1 = random_weights(generator), random_weights(generator)
    rho, constraint = 0.2, TopK(4)
    solver = SLR(rho=rho, step=rho, M=1e12)
    state = solver.init(w0, constraint)
    z0 = constraint.project(w0)
    state, conditions = solver.update(w1, state, constraint, Observed(loss=0.0))
    half = {n: rho * (w1[n] - z0[n]) for n in w1}
    z1 = constraint.project({n: w1[n] + half[n] / rho for n in w1})
    assert conditions.first
    assert conditions.second
    torch.testing.assert_close(state.z, z1)
    ratio = norm_sum([w1[n] - z0[n] for n in w1]) / norm_sum([w1[n] - z1[n] for n in w1])
    full = {n: half[n] + rho * ratio * (w1[n] - z1[n]) for n in w1}
    torch.testing.assert_close(state.multiplier, full, rtol=1e-9, atol=1e-12)


def test_with_step_zero_it_is_the_penalty_method():
    slr, penalty = run(SLR(), steps=4, step=0.0), run(Penalty(), steps=4)
    torch.testing.assert_close(slr.z, penalty.z, rtol=0, atol=0)
    assert all((m == 0).all() for m in slr.multiplier.values())


def test_a_first_violation_of_zero_leaves_the_step_as_it_was():
    """With an open budget Z⁰ = W⁰, ‖g‖ = 0; eq. (5) taken literally would make s zero for ever."""
    generator = torch.Generator().manual_seed(0)
    w = random_weights(generator)
    open_, closed = TopK(10**6), TopK(4)
    solver = SLR(step=0.05)
    state = solver.init(w, open_)
    state, _ = solver.update(w, state, open_, Observed(loss=1.0))
    assert state.step == 0.05
    assert all((m == 0).all() for m in state.multiplier.values())
    state, conditions = solver.update(random_weights(generator), state, closed, Observed(loss=0.5))
    assert conditions.second
    assert state.step > 0.01
    assert any((m != 0).any() for m in state.multiplier.values())


def test_both_refused_leaves_the_multiplier_alone():
    generator = torch.Generator().manual_seed(0)
    w = random_weights(generator)
    solver, constraint = SLR(), TopK(4)
    state = solver.init(w, constraint)
    state, _ = solver.update(w, state, constraint, Observed(loss=0.0))
    z_is_exact = constraint.project({n: w[n] + state.multiplier[n] / solver.rho for n in w})
    state = replace(state, z=z_is_exact, **IMPOSSIBLE)
    after, conditions = solver.update(w, state, constraint, Observed(loss=0.0))
    assert not conditions.first  # the loss "rose"
    assert not conditions.second  # Z is already the minimiser: nothing decreased
    torch.testing.assert_close(after.multiplier, state.multiplier, rtol=0, atol=0)
    assert after.step == state.step > 0


@pytest.mark.parametrize("seed", range(20))
def test_condition_8_holds_whenever_z_moved(seed):
    """Z^k is the exact minimiser of L(W^k, ·, Λ'), and Z^{k−1} was feasible."""
    generator = torch.Generator().manual_seed(seed)
    solver, constraint = SLR(step=0.1), TopK(3)
    state: SLRState = solver.init(random_weights(generator), constraint)
    for _ in range(4):
        old = state.z
        state, conditions = solver.update(
            random_weights(generator), state, constraint, Observed(loss=0.0)
        )
        moved = any(not torch.equal(state.z[n], old[n]) for n in old)
        assert conditions.second == moved


def test_steps_keep_the_length_of_the_multipliers_move():
    """s_new ‖g_new‖ = α s_old ‖g_old‖: every accepted half-step moves Λ by (nearly) one length."""
    state = run(SLR(rho=0.1, step=0.01, M=300), steps=30)
    generator = torch.Generator().manual_seed(0)
    g0 = [run_w - z for run_w, z in _first_violation(generator)]
    assert state.step * state.norm == pytest.approx(0.01 * norm_sum(g0), rel=0.2)


def _first_violation(generator):
    w0, w1 = random_weights(generator), random_weights(generator)
    z0 = TopK(4).project(w0)
    return [(w1[n], z0[n]) for n in w1]


def test_the_released_code_scales_its_pull_with_every_accepted_half_step():
    """METHODS: 1.1, 1.2, 1.3 with s = 0.01, ρ = 0.1 and a step that stays."""
    solver = SLRReleased(rho=0.1, step=0.01, M=1e12)
    generator = torch.Generator().manual_seed(0)
    w = random_weights(generator)
    state = solver.init(w, TopK(4))
    assert all((z == 0).all() for z in state.z.values())
    state, conditions = solver.update(w, state, TopK(4), Observed(loss=5.0))
    assert conditions.first  # forced at k = 1
    assert not conditions.second  # CE_prev = 0 at the first check
    assert state.pull_scale == pytest.approx(1.1)
    assert state.k == 2
    torch.testing.assert_close(state.multiplier, {n: 0.01 * w[n] for n in w})  # s⁰ W, for Z⁰ = 0
    state, conditions = solver.update(w, state, TopK(4), Observed(loss=6.0))
    assert not conditions.first  # it compares the losses alone


def test_while_the_budget_closes_condition_8_is_asked_of_a_feasible_point():
    """Z of the wider budget is nearer to W than any feasible Z: to compare with it would refuse (8)."""
    generator = torch.Generator().manual_seed(0)
    w = random_weights(generator)
    solver, narrow = SLR(step=0.01), TopK(2)
    state = solver.init(w, TopK(7))
    narrow.moved = True
    nudged = {name: t + 0.01 for name, t in w.items()}
    _, conditions = solver.update(nudged, state, narrow, Observed(loss=0.0))
    assert conditions.second
    narrow.moved = False
    _, conditions = solver.update(nudged, state, narrow, Observed(loss=0.0))
    assert not conditions.second
