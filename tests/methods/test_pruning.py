"""The handle in a training loop: what it adds, holds, cuts, keeps and gives back."""

import copy

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.errors import NonFiniteError, RequestError
from espalier.solvers._algebra import difference
from espalier.solvers._storage import Packed, pack_bits, unpack_bits

KEEP = {"0.weight": 20, "2.weight": 6}


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1)).to(dtype)


class Loop:
    """A user's own loop on a small regression."""

    def __init__(self, solver, make_optimizer=None, steps=None, dtype=torch.float32):
        self.model = network(dtype)
        make = make_optimizer or (lambda p: torch.optim.Adam(p, lr=1e-2))
        self.optimizer = make(self.model.parameters())
        plan = esp.plan(self.model, keep=KEEP)
        self.pruning = esp.Pruning(self.model, plan, solver, self.optimizer, steps)
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(64, 10, generator=generator, dtype=dtype)
        self.y = self.x[:, :3].sum(1, keepdim=True)
        self.done = 0

    def loss(self):
        return (self.model(self.x) - self.y).square().mean()

    def run(self, steps):
        for _ in range(steps):
            loss = self.loss()
            loss.backward()
            self.pruning.add_gradients_()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.pruning.step(loss)
        return self

    def bytes(self):
        return [p.detach().clone() for p in self.model.parameters()]

    def weights(self):
        return {n: self.model.get_parameter(n).detach() for n in KEEP}


def step(pruning, loss):
    """One step without a data gradient, and without an optimiser's."""
    for parameter in pruning.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    pruning.add_gradients_()
    pruning.step(loss)


SOLVERS = {
    "slr": esp.Constrained(solver=esp.SLR(step=0.05), cadence=3),
    "slr-adam-decoupled-settled": esp.Constrained(
        solver=esp.SLR(rho=10.0),
        cadence=3,
        metric=esp.metrics.AdamMoment(),
        decoupled=True,
        settle=0.7,
    ),
    "slr-fisher": esp.Constrained(solver=esp.SLR(), cadence=3, metric=esp.metrics.Fisher()),
    "admm": esp.Constrained(solver=esp.ADMM(), cadence=3),
    "admm-geometric": esp.Constrained(
        solver=esp.ADMM(rho=0.01, rho_schedule=esp.solvers.GeometricRho()), cadence=3
    ),
    "admm-staged": esp.Constrained(
        solver=esp.ADMM(rho=0.01, rho_schedule=esp.solvers.StagedRho(updates=3)), cadence=2
    ),
    "admm-activations": esp.Constrained(
        solver=esp.ADMM(), cadence=3, metric=esp.metrics.Activations()
    ),
    "penalty": esp.Constrained(solver=esp.Penalty(), cadence=3),
    "gradual": esp.Constrained(solver=esp.Gradual(), cadence=3),
    "gradual-rounds": esp.Constrained(
        solver=esp.Gradual(), cadence=3, opening=esp.solvers.Rounds(3)
    ),
    "oneshot": esp.Constrained(solver=esp.OneShot(), cadence=3),
}
each_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())


@pytest.mark.parametrize("name", ["slr", "admm", "penalty"])
def test_the_pull_is_the_gradient_of_the_augmented_lagrangian(name):
    """After five updates: grad = ∂/∂W [⟨Λ, W−Z⟩ + ρ/2‖W−Z‖²] = Λ + ρ(W−Z), by autograd."""
    loop = Loop(SOLVERS[name], steps=None).run(15)
    state = loop.pruning._stored.state()
    for parameter in loop.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    loop.pruning.add_gradients_()
    for layer in KEEP:
        w = loop.model.get_parameter(layer).detach().requires_grad_()
        g = w - state.z[layer]
        ((state.multiplier[layer] * g).sum() + state.rho / 2 * g.square().sum()).backward()
        torch.testing.assert_close(loop.model.get_parameter(layer).grad, w.grad)
    assert loop.model[0].bias.grad.eq(0).all()


def test_the_decoupled_pull_is_the_proximal_step_of_the_same_lagrangian():
    loop = Loop(
        esp.Constrained(solver=esp.ADMM(rho=5.0), cadence=3, decoupled=True),
        lambda p: torch.optim.SGD(p, lr=0.1),
    ).run(4)
    state, before = loop.pruning._stored.state(), {n: w.clone() for n, w in loop.weights().items()}
    loop.pruning.step(0.0)  # decoupled: it owes the gradients nothing
    for n, w in loop.weights().items():
        lam, z, rho, lr = state.multiplier[n], state.z[n], state.rho, 0.1
        torch.testing.assert_close(w + lr * (lam + rho * (w - z)), before[n])


@each_solver
def test_no_state_is_on_the_graph_or_shares_memory_with_the_model(solver):
    loop = Loop(solver, steps=20).run(7)
    model_memory = {p.untyped_storage().data_ptr() for p in loop.model.parameters()}

    def visit(value):
        if isinstance(value, torch.Tensor):
            assert not value.requires_grad
            assert value.grad_fn is None
            assert value.numel() == 0 or value.untyped_storage().data_ptr() not in model_memory
        elif isinstance(value, dict):
            for item in value.values():
                visit(item)

    visit(loop.pruning.state_dict())


@each_solver
def test_five_steps_saved_loaded_and_five_more_are_ten_to_the_bit(solver):
    whole = Loop(solver, steps=20).run(10)
    half = Loop(solver, steps=20).run(5)
    saved = copy.deepcopy(half.pruning.state_dict())
    model, optimizer = copy.deepcopy((half.model.state_dict(), half.optimizer.state_dict()))
    resumed = Loop(solver, steps=20)
    resumed.model.load_state_dict(model)
    resumed.optimizer.load_state_dict(optimizer)
    resumed.pruning.load_state_dict(saved)
    resumed.run(5)
    assert all(torch.equal(a, b) for a, b in zip(whole.bytes(), resumed.bytes(), strict=True))
    assert [u.event() for u in whole.pruning.updates] == [
        u.event() for u in resumed.pruning.updates
    ]


@each_solver
def test_evaluating_as_if_cut_gives_the_weights_back_to_the_bit(solver):
    loop = Loop(solver, steps=20).run(4)
    before, seen = loop.bytes(), []

    def evaluate():
        seen.append(loop.pruning.plan.contains(loop.weights()))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), loop.pruning.hard_pruned():
        evaluate()
    assert seen == [True]
    assert all(torch.equal(a, b) for a, b in zip(before, loop.bytes(), strict=True))


OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "decay": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.5),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_after_the_cut_the_zeros_are_zero_after_every_step(make):
    loop = Loop(esp.Constrained(solver=esp.SLR(step=0.05), cadence=3), make).run(7)
    loop.pruning.hard_prune_()
    counts = {n: int(w.count_nonzero()) for n, w in loop.weights().items()}
    assert counts == KEEP
    for _ in range(20):
        loop.run(1)
        assert loop.pruning.plan.contains(loop.weights())
    said = loop.pruning.certificate()
    assert (said.outcome, said.total_violation) == (esp.methods.Outcome.FORCED, 0.0)
    assert said.forced[0].step == 7


def test_settling_holds_the_plans_own_count_from_its_moment_on():
    loop = Loop(
        esp.Constrained(solver=esp.SLR(), cadence=2, settle=0.5, opening=esp.solvers.Constant()),
        steps=20,
    )
    for step in range(1, 21):
        loop.run(1)
        assert loop.pruning.plan.contains(loop.weights()) == (step >= 10)


def test_gradual_pruning_reaches_the_count_and_never_lets_a_zero_back():
    loop = Loop(
        esp.Constrained(solver=esp.Gradual(), cadence=2, opening=esp.solvers.Cubic(until=0.8)),
        steps=20,
    )
    zeros = {n: torch.zeros_like(w, dtype=torch.bool) for n, w in loop.weights().items()}
    for _ in range(20):
        loop.run(1)
        for n, w in loop.weights().items():
            assert (w[zeros[n]] == 0).all()
            zeros[n] |= w == 0
    assert {n: int((~z).sum()) for n, z in zeros.items()} == KEEP


def test_the_budget_closes_as_the_schedule_says():
    loop = Loop(
        esp.Constrained(
            solver=esp.ADMM(), cadence=2, opening=esp.solvers.Cubic(until=0.5), settle=None
        ),
        steps=20,
    ).run(12)
    slacks = [u.slack for u in loop.pruning.updates]
    assert slacks == pytest.approx([(1 - t / 10) ** 3 for t in (2, 4, 6, 8)] + [0.0, 0.0])
    nonzeros = [int((z != 0).sum()) for z in loop.pruning._stored.state().z.values()]
    assert nonzeros == list(KEEP.values())


def test_nothing_settles_before_the_budget_has_closed():
    solver = esp.Constrained(
        solver=esp.ADMM(), cadence=1, opening=esp.solvers.Cubic(until=0.8), settle=0.2
    )
    loop = Loop(solver, steps=20)
    for step in range(1, 21):
        loop.run(1)
        assert bool(loop.pruning.masks) == (step >= 16)


def test_one_shot_does_not_settle_by_itself():
    loop = Loop(esp.OneShot(), steps=40).run(40)
    assert not loop.pruning.masks


def test_without_planned_steps_the_plans_budget_holds_from_the_start():
    loop = Loop(esp.Constrained(solver=esp.SLR(), cadence=2)).run(4)
    assert [u.slack for u in loop.pruning.updates] == [0.0, 0.0]


def test_f_is_the_mean_loss_of_the_interval_or_the_probes():
    loop = Loop(esp.Constrained(solver=esp.Penalty(), cadence=2))
    for loss in (1.0, 3.0, 5.0, 6.0):
        step(loop.pruning, torch.tensor(loss))
    assert [u.loss for u in loop.pruning.updates] == [2.0, 5.5]
    model = network()
    probed = esp.Pruning(
        model,
        esp.plan(model, keep=KEEP),
        esp.Constrained(solver=esp.SLR(), cadence=1),
        probe=lambda: 7.0,
    )
    step(probed, 1.0)
    assert probed.updates[0].loss == 7.0


def test_a_nan_loss_stops_with_one_clear_error():
    loop = Loop(esp.Constrained(solver=esp.SLR(), cadence=2)).run(1)
    with pytest.raises(NonFiniteError, match=r"loss is nan at step 2; lower"):
        step(loop.pruning, float("nan"))


def test_what_cannot_work_says_what_to_do():
    model = network()
    plan = esp.plan(model, keep=KEEP)
    with pytest.raises(RequestError, match="optimizer=optimizer"):
        esp.Pruning(model, plan, esp.Constrained(solver=esp.SLR(), metric=esp.metrics.AdamMoment()))
    with pytest.raises(RequestError, match="optimizer=optimizer"):
        esp.Pruning(model, plan, esp.Constrained(solver=esp.SLR(), decoupled=True))
    with pytest.raises(RequestError, match="steps=0; give"):
        esp.Pruning(model, plan, esp.SLR(), steps=0)
    pruning = esp.Pruning(model, plan, esp.SLR())
    with pytest.raises(RequestError, match=r"0\.weight: no gradient.*backward"):
        pruning.add_gradients_()
    with pytest.raises(RequestError, match="SLR cannot go on as ADMM"):
        esp.Pruning(model, plan, esp.ADMM()).load_state_dict(pruning.state_dict())


def test_adam_moments_of_an_optimizer_without_them_are_refused():
    loop = Loop(
        esp.Constrained(solver=esp.SLR(), cadence=1, metric=esp.metrics.AdamMoment()),
        lambda p: torch.optim.SGD(p, 0.1, 0.9),
    )
    with pytest.raises(RequestError, match="SGD; choose Fisher"):
        loop.run(1)


def test_it_trains_in_bfloat16():
    loop = Loop(esp.Constrained(solver=esp.SLR(step=0.05), cadence=2), dtype=torch.bfloat16).run(8)
    assert loop.pruning._stored.offset["0.weight"].dtype is torch.float32
    loop.pruning.hard_prune_()
    loop.run(2)
    assert loop.model[0].weight.dtype is torch.bfloat16
    assert loop.pruning.plan.contains(loop.weights())


def test_at_density_a_tenth_the_state_is_at_most_one_and_a_quarter_copies():
    model = nn.Linear(512, 512, bias=False)
    plan = esp.plan(model, density=0.1)
    pruning = esp.Pruning(model, plan, esp.Constrained(solver=esp.SLR(), cadence=1))
    model.weight.grad = torch.zeros_like(model.weight)
    pruning.add_gradients_()
    pruning.step(1.0)

    def size(value):
        if isinstance(value, torch.Tensor):
            return value.numel() * value.element_size()
        return sum(map(size, value.values())) if isinstance(value, dict) else 0

    copies = size(pruning.state_dict()) / (4 * model.weight.numel())
    assert 1.1 < copies <= 1.25


def test_penalty_is_the_value_whose_gradient_is_added():
    loop = Loop(esp.Constrained(solver=esp.ADMM(), cadence=2)).run(5)
    state = loop.pruning._stored.state()
    g = difference(loop.weights(), state.z)
    expected = sum((state.multiplier[n] * g[n]).sum() + 0.05 * g[n].square().sum() for n in g)
    assert loop.pruning.penalty() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (3, 5), (2, 3, 4), (0,)])
def test_packing_gives_back_the_tensor(shape):
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(shape, generator=generator).clamp_min(0)
    packed = Packed.pack(dense)
    assert torch.equal(packed.unpack(), dense)
    assert torch.equal(unpack_bits(pack_bits(dense != 0), shape), dense != 0)
    assert packed.bits.numel() == -(-dense.numel() // 8)


def test_one_shot_is_not_certified_for_a_cut_that_takes_most_of_the_weights():
    loop = Loop(SOLVERS["oneshot"], steps=30).run(30)
    certificate = loop.pruning.certificate()
    w, cut = loop.weights(), loop.pruning.plan.project(loop.weights())
    for name in KEEP:
        taken = float((w[name] - cut[name]).norm() / w[name].norm())
        assert certificate.violation[name] == pytest.approx(taken)
    assert certificate.outcome is not esp.methods.Outcome.CONVERGED
