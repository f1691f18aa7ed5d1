"""RigL: what it drops, what it grows, when it stops, and what never changes."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import espalier as esp
from espalier.errors import NonFiniteError, RequestError
from espalier.methods import MaskHolder
from espalier.sets import Filters, NOfM
from espalier.solvers import Constant, Cubic, Observed, RigL
from espalier.solvers._rigl import moved
from problems import TopK, random_weights

KEEP = {"0.weight": 20, "2.weight": 6}


def seen(gradients, progress=0.1):
    return Observed(loss=0.0, gradients=gradients, progress=progress)


def draw(seed):
    return random_weights(torch.Generator().manual_seed(seed))


class Loop:
    """A user's own loop on a small regression; the model starts on its plan."""

    def __init__(self, solver, cadence=3, steps=20, cut=True, **settings):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))
        self.plan = esp.plan(self.model, keep=KEEP)
        if cut:
            for name, z in self.plan.project(dict(self.model.named_parameters())).items():
                self.model.get_parameter(name).data.copy_(z)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)
        self.pruning = solver and esp.Pruning(
            self.model, self.plan, solver, self.optimizer, steps, cadence=cadence, **settings
        )
        self.x = torch.randn(64, 10, generator=torch.Generator().manual_seed(1))
        self.y = self.x[:, :3].sum(1, keepdim=True)

    def loss(self):
        return (self.model(self.x) - self.y).square().mean()

    def step(self):
        loss = self.loss()
        loss.backward()
        if self.pruning:
            self.pruning.add_gradients_()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.pruning:
            self.pruning.step(loss)

    def run(self, steps):
        for _ in range(steps):
            self.step()
        return self

    def bytes(self):
        return [p.detach().clone() for p in self.model.parameters()]

    def held(self):
        return {name: mask.clone() for name, mask in self.pruning.masks.items()}


# ---- one drop and one grow -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("w", "active", "gradient", "fraction", "expected"),
    [
        # the smaller of two goes, the largest gradient of the inactive comes, whatever its sign
        ([3, 1, 0, 0], [1, 1, 0, 0], [9, 1, 2, -4], 0.5, [1, 0, 0, 1]),
        # of equally small weights the lower index stays
        ([2, -2, 2, 0], [1, 1, 1, 0], [0, 0, 0, 1], 0.34, [1, 1, 0, 1]),
        # of equal gradients the lower index grows
        ([3, 1, 0, 0], [1, 1, 0, 0], [0, 0, 5, -5], 0.5, [1, 0, 1, 0]),
        # what was dropped is inactive and grows back if its gradient is the largest
        ([3, 1, 0, 0], [1, 1, 0, 0], [0, 7, 5, 5], 0.5, [1, 1, 0, 0]),
        # an active weight of exactly zero goes first, and no inactive one passes for it
        ([0, 0, 4, 5], [0, 1, 1, 1], [1, 0, 0, 0], 0.34, [1, 0, 1, 1]),
        ([0, 0, 4, 5], [0, 1, 1, 1], [9, 0, 0, 0], 0.33, [0, 1, 1, 1]),
        # a gradient that is zero everywhere still fills the count, lowest index first
        ([3, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], 0.5, [1, 1, 0, 0]),
        # fractions of a weight are dropped by none
        ([3, 1, 0, 0], [1, 1, 0, 0], [0, 0, 5, 5], 0.49, [1, 1, 0, 0]),
        # all may go at once, and none
        ([3, 1, 0, 0], [1, 1, 0, 0], [1, 2, 3, 4], 1.0, [0, 0, 1, 1]),
        ([3, 1, 2, 4], [1, 1, 1, 1], [1, 2, 3, 4], 0.5, [1, 1, 1, 1]),
        ([0, 0, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4], 0.5, [0, 0, 0, 0]),
    ],
)
def test_the_smallest_go_and_the_largest_gradients_come(w, active, gradient, fraction, expected):
    mask = moved(
        torch.tensor(w, dtype=torch.float64),
        torch.tensor(active, dtype=torch.bool),
        torch.tensor(gradient, dtype=torch.float64),
        fraction,
    )
    assert mask.int().tolist() == expected


@settings(deadline=None, max_examples=200)
@given(data=st.data(), n=st.integers(1, 40), fraction=st.floats(0, 1))
def test_counts_never_change_and_only_the_fraction_moves(data, n, fraction):
    few = st.integers(-3, 3)  # many ties
    w, g = (torch.tensor(data.draw(st.lists(few, min_size=n, max_size=n))).double() for _ in "wg")
    active = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    after = moved(w, active, g, fraction)
    count = int(active.sum())
    assert int(after.sum()) == count
    dropped = active & ~after
    assert int(dropped.sum()) == int((after & ~active).sum()) <= int(fraction * count)
    stayed, came = active & after, after & ~active
    if dropped.any() and stayed.any():
        regrown = int(fraction * count) - int(dropped.sum())
        smaller = (w[stayed].abs() < w[dropped].abs().max()).sum()
        assert smaller <= regrown  # a smaller one stays only by growing back
    if came.any():
        assert g[came].abs().min() >= g[~after].abs().max()


def test_two_updates_are_algorithm_1_by_plain_loops():
    """Sorted lists and index sets, tensor by tensor, in float64."""
    solver, weights = RigL(alpha=0.6, until=0.8), [draw(s) for s in range(3)]
    state = solver.init(weights[0], TopK(4))
    active = {n: set(m.flatten().nonzero().flatten().tolist()) for n, m in state.held.items()}
    for k, progress in ((1, 0.2), (2, 0.4)):
        w, g = weights[k], draw(10 + k)
        state, conditions = solver.update(w, state, TopK(4), seen(g, progress))
        assert (conditions.first, conditions.second, state.k) == (None, None, k)
        drop = math.floor(0.3 * (1 + math.cos(math.pi * progress / 0.8)) * 4)
        assert drop == {1: 2, 2: 1}[k]
        for n in w:
            value, slope = w[n].flatten().tolist(), g[n].flatten().tolist()
            going = sorted(active[n], key=lambda i, v=value: abs(v[i]))[:drop]
            active[n] -= set(going)
            rest = sorted(set(range(len(slope))) - active[n], key=lambda i, v=slope: -abs(v[i]))
            active[n] |= set(rest[:drop])
            assert set(state.held[n].flatten().nonzero().flatten().tolist()) == active[n]


# ---- when ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "fraction"),
    [(0.0, 0.3), (0.25, 0.225), (0.375, 0.15), (0.5, 0.075), (0.7499999, 0.0), (0.75, 0.0), (1, 0)],
)
def test_the_fraction_falls_by_half_a_cosine_to_nothing(progress, fraction):
    assert RigL().fraction(progress) == pytest.approx(fraction, abs=1e-9)


def test_nothing_moves_from_t_end_on():
    loop = Loop(RigL(alpha=0.5, until=0.5), cadence=2, steps=20)
    masks = []
    for _ in range(10):
        loop.run(2)
        masks.append(loop.held())
    changes = [any(not torch.equal(a[n], b[n]) for n in a) for a, b in pairwise(masks)]
    assert any(changes[:3])
    assert not any(changes[3:])  # the update at step 10 of 20 is at T_end


# ---- in a loop -----------------------------------------------------------------------------------


def test_every_tensor_keeps_its_count_and_the_weights_stay_in_the_plan():
    loop = Loop(RigL(alpha=0.5), steps=60)
    first, moves = loop.held(), 0
    for _ in range(20):
        loop.run(3)
        held = loop.held()
        assert {n: int(m.sum()) for n, m in held.items()} == KEEP
        assert loop.plan.contains(dict(loop.model.named_parameters()))
        moves += any(not torch.equal(first[n], held[n]) for n in held)
    assert moves > 10
    cut = loop.pruning.target()
    assert all(torch.equal(cut.free[n], m) for n, m in loop.held().items())


def test_it_sees_the_data_gradient_of_the_last_step_dense():
    loop = Loop(RigL(), cadence=2).run(1)
    weights = {n: loop.model.get_parameter(n) for n in KEEP}
    expected = dict(
        zip(KEEP, torch.autograd.grad(loop.loss(), list(weights.values())), strict=True)
    )
    found = {}

    class Watching(RigL):
        def update(self, w, state, constraint, seen):
            found.update(seen.gradients)
            return super().update(w, state, constraint, seen)

    loop.pruning.solver = Watching()
    loop.step()  # zeroes the gradients before the update
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], expected[n]) for n in expected)
    assert (found["0.weight"][~loop.pruning.masks["0.weight"]] != 0).any()


def test_what_grows_starts_at_zero_and_what_grows_back_keeps_its_value():
    """The step of the update is a new weight's first: along the gradient it was chosen by."""
    loop = Loop(RigL(alpha=0.5), cadence=3).run(2)
    before, weights = loop.held(), {n: loop.model.get_parameter(n) for n in KEEP}
    assert all((w[~before[n]] == 0).all() for n, w in weights.items())
    stepped = {}
    loop.optimizer.register_step_post_hook(
        lambda *_: stepped.update({n: w.detach().clone() for n, w in weights.items()})
    )
    loop.step()  # the update
    after = loop.held()
    assert any((after[n] & ~before[n]).any() for n in KEEP)
    assert all(torch.equal(w.detach(), stepped[n] * after[n]) for n, w in weights.items())


def test_without_movement_it_is_masked_training_to_the_bit():
    """α = 0 drops nothing, so the first mask is held to the end: one-shot, then training."""
    loop = Loop(RigL(alpha=0.0), steps=20).run(20)
    static = Loop(None)
    masks = static.plan.support(dict(static.model.named_parameters()))
    with MaskHolder(static.model.named_parameters(), masks, static.optimizer):
        static.run(20)
    assert all(torch.equal(a, b) for a, b in zip(loop.bytes(), static.bytes(), strict=True))


@pytest.mark.parametrize(
    "solver", [RigL(alpha=0.5), RigL(random_start=3)], ids=["largest", "random"]
)
def test_seven_steps_saved_loaded_and_eight_more_are_fifteen_to_the_bit(solver):
    whole, half = Loop(solver).run(15), Loop(solver).run(7)
    saved = copy.deepcopy(half.pruning.state_dict())
    model, optimizer = copy.deepcopy((half.model.state_dict(), half.optimizer.state_dict()))
    resumed = Loop(solver)
    resumed.model.load_state_dict(model)
    resumed.optimizer.load_state_dict(optimizer)
    resumed.pruning.load_state_dict(saved)
    resumed.run(8)
    assert all(torch.equal(a, b) for a, b in zip(whole.bytes(), resumed.bytes(), strict=True))
    assert all(torch.equal(whole.held()[n], m) for n, m in resumed.held().items())


def test_its_state_is_off_the_graph_and_shares_no_memory():
    w = {n: t.requires_grad_() for n, t in draw(0).items()}
    state = RigL().init(w, TopK(4))
    state, _ = RigL().update(w, state, TopK(4), seen(draw(1)))
    memory = {t.untyped_storage().data_ptr() for t in w.values()}
    assert all(m.grad_fn is None and m.dtype == torch.bool for m in state.held.values())
    assert not memory & {m.untyped_storage().data_ptr() for m in state.held.values()}


# ---- where it starts -----------------------------------------------------------------------------


def test_a_random_start_has_the_counts_of_the_plan_and_is_its_seeds():
    w = draw(0)
    one, same, other = (RigL(random_start=s).init(w, TopK(4)).held for s in (1, 1, 2))
    largest = RigL().init(w, TopK(4)).held
    assert all(int(m.sum()) == 4 for m in one.values())
    assert all(torch.equal(one[n], same[n]) for n in w)
    assert any(not torch.equal(one[n], other[n]) for n in w)
    assert any(not torch.equal(one[n], largest[n]) for n in w)
    assert all(torch.equal(m, TopK(4).support(w)[n]) for n, m in largest.items())


def test_a_shared_budget_keeps_the_counts_of_its_first_selection():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))
    plan = esp.plan(model, density=0.2, allocation=esp.budgets.shared)
    first = plan.support(dict(model.named_parameters()))
    pruning = esp.Pruning(model, plan, RigL(), steps=10, cadence=1)
    model(torch.ones(4, 10)).square().sum().backward()
    pruning.add_gradients_()
    pruning.step(1.0)
    assert {n: int(m.sum()) for n, m in pruning.masks.items()} == {
        n: int(m.sum()) for n, m in first.items()
    }


# ---- what it refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [Filters(), NOfM(2, 4)], ids=["filters", "2:4"])
def test_a_set_that_ties_weights_together_is_refused_at_once(shape):
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    plan = esp.plan(model, density=0.5, set=shape, include=["0.weight"])
    with pytest.raises(RequestError, match=r"0\.weight: RigL moves single weights"):
        esp.Pruning(model, plan, RigL(), steps=10)


def test_a_run_of_unknown_length_and_a_budget_that_moves_are_refused():
    with pytest.raises(RequestError, match="steps="):
        Loop(RigL(), steps=None).run(3)
    with pytest.raises(RequestError, match="opening"):
        Loop(RigL(), cut=False, opening=Cubic()).run(3)
    assert Loop(RigL(), opening=Constant()).run(3).held()


def test_growing_what_an_earlier_stage_holds_at_zero_is_refused():
    loop = Loop(RigL(alpha=1.0), steps=100)
    zeros = {n: w != 0 for n, w in dict(loop.model.named_parameters()).items() if n in KEEP}
    loop.pruning = esp.Pruning(
        loop.model, loop.plan, RigL(alpha=1.0), loop.optimizer, 100, cadence=3, held=zeros
    )
    with pytest.raises(RequestError, match="earlier stage"):
        loop.run(9)


def test_a_gradient_that_is_not_finite_is_refused():
    with pytest.raises(NonFiniteError, match="gradient"):
        moved(
            torch.ones(3), torch.tensor([True, False, False]), torch.tensor([0, 1, math.nan]), 1.0
        )


@pytest.mark.parametrize("wrong", [{"alpha": -0.1}, {"alpha": 1.1}, {"until": 0}, {"until": 1.1}])
def test_a_number_outside_its_range_is_refused(wrong):
    with pytest.raises(RequestError, match=next(iter(wrong))):
        RigL(**wrong)
