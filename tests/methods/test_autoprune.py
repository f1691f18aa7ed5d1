"""AutoPrune: the literal rule, every estimator, what comes back, budgets met, and the optimum of a known problem."""

import copy

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.budgets import shared
from espalier.data import ImageSet
from espalier.errors import RequestError
from espalier.methods import AutoPrune, LeakyReLU, Linear, ReLU, Setting, Softplus
from espalier.methods._gates import Units
from espalier.methods._straight_through import gate, signs
from espalier.methods._switched import Scale
from espalier.sets import Filters
from espalier.solvers import Constant
from espalier.tasks import Classification

DOUBLE = torch.float64
ESTIMATORS = {"linear": Linear(), "relu": ReLU(), "leaky": LeakyReLU(0.25), "softplus": Softplus()}


# ---- the switch -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "slopes"),
    [
        ("linear", [1, 1, 1]),
        ("relu", [0, 0, 1]),
        ("leaky", [0.25, 1, 1]),
        ("softplus", [1 / (1 + torch.e**2), 0.5, 1 / (1 + torch.e**-2)]),
    ],
)
def test_the_slope_of_every_estimator_is_the_papers(name, slopes):
    m = torch.tensor([-2.0, 0.0, 2.0], dtype=DOUBLE)
    assert ESTIMATORS[name].slope(m).tolist() == pytest.approx(slopes, abs=1e-15)


def test_softplus_has_the_derivative_of_log_one_plus_exp():
    m = torch.linspace(-6, 6, 13, dtype=DOUBLE).requires_grad_()
    (exact,) = torch.autograd.grad(torch.nn.functional.softplus(m).sum(), m)
    torch.testing.assert_close(Softplus().slope(m.detach()), exact)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_weight_is_switched_and_its_parameter_hears_the_sign_and_not_the_size(name):
    """t = w·h(m), ∂/∂w = G·h(m), ∂/∂m = G·sgn(w)·h'(m), by hand."""
    w = torch.tensor([3.0, -0.001, -2.0, 0.0], dtype=DOUBLE, requires_grad=True)
    m = torch.tensor([0.5, 0.5, -1.0, -1.0], dtype=DOUBLE, requires_grad=True)
    grad = torch.tensor([0.25, 0.25, 0.5, -0.5], dtype=DOUBLE)
    t = gate(w, m, ESTIMATORS[name])
    assert t.tolist() == [3.0, -0.001, 0.0, 0.0]
    assert not t.detach()[2:].signbit().any()
    t.backward(grad)
    assert w.grad.tolist() == [0.25, 0.25, 0.0, 0.0]
    slope = ESTIMATORS[name].slope(m.detach())
    assert m.grad.tolist() == (torch.tensor([0.25, -0.25, -0.5, -0.5]) * slope).tolist()


def test_a_filters_parameter_hears_the_sum_over_its_weights():
    w = torch.tensor([[1.0, -2.0], [3.0, 4.0]], requires_grad=True)
    m = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    gate(w, m, LeakyReLU(0.5)).backward(torch.tensor([[1.0, 3.0], [5.0, 7.0]]))
    assert m.grad.tolist() == [[1.0 - 3.0], [(5.0 + 7.0) * 0.5]]


def test_a_weight_at_zero_counts_as_positive():
    assert signs(torch.tensor([-1.0, -0.0, 0.0, 2.0])).tolist() == [-1.0, 1.0, 1.0, 1.0]


# ---- the price that meets a budget ------------------------------------------------------------------


def units(rates, sizes):
    return Units(where={}, sizes=sizes, rates=torch.tensor(rates), limits=torch.ones(len(sizes)))


def test_the_threshold_is_the_smallest_that_leaves_no_more_than_the_limit():
    m = torch.tensor([0.5, 3.0, -1.0, 2.0, 1.0, 9.0, 8.0])
    found = units([0.2] * 5 + [0.5] * 2, (5, 2)).threshold(m, torch.tensor([0.4, 1.0]))
    assert found.tolist() == [1.0, 0.0]  # 3 and 2 stay of the first budget; the second has room


def test_units_of_unequal_cost_are_taken_from_the_top_until_the_limit():
    found = units([0.5, 0.3, 0.2], (3,)).threshold(
        torch.tensor([3.0, 2.0, 1.0]), torch.tensor([0.8])
    )
    assert found.tolist() == [1.0]
    found = units([0.5, 0.3, 0.2], (3,)).threshold(
        torch.tensor([3.0, 2.0, 1.0]), torch.tensor([0.6])
    )
    assert found.tolist() == [2.0]


# ---- a small problem --------------------------------------------------------------------------------


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))


def sgd(groups):
    return torch.optim.SGD(groups, lr=0.05)


def adam(groups):
    return torch.optim.Adam(groups, lr=1e-2)


def weights_plan(model):
    return esp.plan(model, keep={"0.weight": 20, "2.weight": 6})


def shared_plan(model):
    return esp.plan(model, density=0.2, allocation=shared)


def filters_plan(model):
    return esp.plan(model, keep={"0.weight": 4, "2.weight": 1}, set=Filters())


def shared_filters_plan(model):
    return esp.plan(model, density=0.3, allocation=shared, set=Filters(), include=["*.weight"])


def x_and_y(seed=1):
    x = torch.randn(64, 10, generator=torch.Generator().manual_seed(seed))
    return x, x[:, :3].sum(1, keepdim=True)


class Regression:
    """A task of regression whose data can be parted; it remembers which batches were asked of whom."""

    steps_per_epoch = 3

    def __init__(self, rows=None, asked=None):
        self.rows = rows if rows is not None else torch.arange(60)
        self.asked = asked if asked is not None else []
        self.x = torch.randn(60, 10, generator=torch.Generator().manual_seed(5))
        self.y = self.x[:, :3].sum(1, keepdim=True)

    def parted(self, fraction):
        at = round(60 * (1 - fraction))
        return Regression(self.rows[:at]), Regression(self.rows[at:], self.asked)

    def batches(self, epoch, start=0):
        for step in range(start, 3):
            self.asked.append((epoch, step))
            yield self.rows[step::3]

    def loss(self, model, rows):
        return (model(self.x[rows]) - self.y[rows]).square().mean()


class Loop:
    """A user's own loop on a small regression."""

    def __init__(self, method, make_plan=weights_plan, optimizer=adam, task=None, **setting):
        self.model = network()
        self.plan = make_plan(self.model)
        self.task = task
        given = Setting(optimizer=optimizer, lr=1e-2, task=task, **setting)
        self.handle = method.attach(self.model, self.plan, given)
        self.x, self.y = x_and_y()

    def run(self, steps):
        self.handle.trained().train()
        for _ in range(steps):
            self.handle.optimizer.zero_grad()
            loss = (self.handle.trained()(self.x) - self.y).square().mean()
            loss.backward()
            self.handle.add_gradients_()
            self.handle.optimizer.step()
            self.handle.step(loss)
        return self

    def bytes(self):
        gates = [self.handle.m, self.handle.prices]
        return [t.detach().clone() for t in (*self.model.parameters(), *gates)]


# ---- two losses in turn -----------------------------------------------------------------------------


def test_a_step_of_m_is_the_papers_rule_on_held_out_data_after_the_step_of_w():
    """m ← m − η/σ (G sgn(w) + μ r) h'(m), G on the held-out batch at the new W; and W has no part of it."""
    task, rule = Regression(), LeakyReLU(0.25)
    method = AutoPrune(penalty=0.3, held_out=0.5, estimator=rule, start=0.2, lr=1)
    loop = Loop(method, optimizer=sgd, task=task)
    with torch.no_grad():
        loop.handle.m[:40] = -0.1  # some are off
    m = loop.handle.m.detach().clone()
    before = [p.detach().clone() for p in loop.model.parameters()]
    names = [n for n, _ in loop.model.named_parameters()]
    z = dict(zip(("0.weight", "2.weight"), m.split((160, 16)), strict=True))
    z = {n: each.reshape(loop.model.get_parameter(n).shape) for n, each in z.items()}

    def switched(weights):
        made = {n: w.clone() for n, w in zip(names, weights, strict=True)}
        return {n: (w * (z[n] > 0) if n in z else w).requires_grad_() for n, w in made.items()}

    # W: plain SGD on the training data through the open switches
    t = switched(before)
    loss = (torch.func.functional_call(loop.model, t, (loop.x,)) - loop.y).square().mean()
    grads = torch.autograd.grad(loss, list(t.values()))
    wanted = {
        n: w - 0.05 * g * (z[n] > 0 if n in z else 1.0)
        for n, w, g in zip(names, before, grads, strict=True)
    }
    # M: on the first batch of the other half
    part = task.parted(0.5)[1]
    t = switched(list(wanted.values()))
    rows = part.rows[0::3]
    loss = (
        (torch.func.functional_call(loop.model, t, (part.x[rows],)) - part.y[rows]).square().mean()
    )
    g = torch.autograd.grad(loss, [t["0.weight"], t["2.weight"]])
    pull = torch.cat(
        [
            (each * signs(wanted[n])).flatten()
            for n, each in zip(("0.weight", "2.weight"), g, strict=True)
        ]
    )
    gradient = (pull + 0.3 / 176) * rule.slope(m)
    moved = m - 0.05 * gradient / gradient.square().mean().sqrt()

    loop.run(1)
    for name, p in loop.model.named_parameters():
        torch.testing.assert_close(p.detach(), wanted[name])
    torch.testing.assert_close(loop.handle.m.detach(), moved)


def test_the_weights_learn_from_what_m_does_not_see():
    task = Regression()
    method = AutoPrune(held_out=0.25)
    rest, part = method.trains_on(task), method.held_out_of(task)
    assert not set(rest.rows.tolist()) & set(part.rows.tolist())
    assert len(rest.rows) + len(part.rows) == 60
    assert AutoPrune(held_out=0.0).trains_on(task) is task


def test_classification_parts_its_training_images_and_leaves_the_test_images_alone():
    labels = torch.arange(40) % 4
    images = ImageSet(
        images=torch.arange(40.0).reshape(40, 1, 1, 1), labels=labels, classes=tuple("abcd")
    )
    task = Classification(images, images, batch_size=16, seed=0)
    rest, part = task.parted(0.3)
    assert set(rest.train.images.flatten().tolist()) | set(
        part.train.images.flatten().tolist()
    ) == set(map(float, range(40)))
    assert torch.equal(part.train.labels.bincount(), torch.full((4,), 3))
    assert (len(rest.train), len(part.train), part.batch_size) == (28, 12, 12)
    assert rest.test is task.test
    with pytest.raises(RequestError, match="give a fraction"):
        task.parted(1.0)


def test_m_learns_as_often_as_the_cadence_says_from_batches_in_order():
    loop = Loop(AutoPrune(cadence=2, held_out=0.5), task=Regression()).run(10)
    assert loop.task.asked == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_without_held_out_data_both_learn_from_one_pass():
    """The limit: held_out 0 is the rule on the training batch itself, at the W before its step."""
    loop = Loop(AutoPrune(penalty=0.0, held_out=0.0, start=0.5, by_size=False, lr=1), optimizer=sgd)
    (loop.handle.trained()(loop.x) - loop.y).square().mean().backward()
    weights = [loop.model.get_parameter(n) for n in ("0.weight", "2.weight")]
    pull = torch.cat(
        [(p.grad * signs(p.detach())).flatten() for p in weights]
    )  # all are on: G = ∂L/∂w
    loop.run(1)
    moved = 0.05 * pull / pull.square().mean().sqrt()
    torch.testing.assert_close(loop.handle.m.detach(), 0.5 - moved)


def test_held_out_data_need_a_task_that_can_be_parted():
    with pytest.raises(RequestError, match="held_out=0"):
        Loop(AutoPrune())
    with pytest.raises(RequestError, match=r"parted\(fraction\)"):
        AutoPrune().trains_on(object())


def test_how_far_m_moves_goes_by_the_gradient_whatever_the_weights_optimiser_and_the_losss_scale():
    """Sensitivity consistency: Adam's scale for each unit would move a unit of hardly any gradient as far as any."""
    moved = {}
    for scale in (1.0, 1e-3):
        loop = Loop(AutoPrune(penalty=0.0, held_out=0.0, start=0.1, by_size=False), optimizer=adam)
        before = loop.handle.m.detach().clone()
        z = [p.detach().clone().requires_grad_() for p in loop.model.parameters()]
        names = [n for n, _ in loop.model.named_parameters()]
        output = torch.func.functional_call(loop.model, dict(zip(names, z, strict=True)), (loop.x,))
        g = torch.autograd.grad((output - loop.y).square().mean(), [z[0], z[2]])
        wanted = torch.cat(
            [(each * signs(w)).flatten() for each, w in zip(g, (z[0], z[2]), strict=True)]
        )
        (scale * (loop.handle.trained()(loop.x) - loop.y).square().mean()).backward()
        loop.handle.add_gradients_()
        loop.handle.optimizer.step()
        loop.handle.step(0.0)
        moved[scale] = before - loop.handle.m.detach()
        assert float(wanted.abs().max() / wanted.abs().min()) > 1e3
        ratio = moved[scale] / wanted
        torch.testing.assert_close(moved[scale], wanted * ratio.median(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(moved[1.0], moved[1e-3], rtol=1e-4, atol=1e-6)


def test_every_budget_has_a_scale_of_its_own_the_root_mean_square_of_the_last_steps():
    scale = Scale(units([0.2] * 5, (3, 2)))
    g = torch.tensor([3.0, 0.0, 4.0, 1e-6, -1e-6])
    one, two = (25 / 3) ** 0.5, 1e-6
    torch.testing.assert_close(scale(g), g / torch.tensor([one, one, one, two, two]))
    later = scale(2 * g)[0]  # mean square 1 · 0.99 · 0.01 + 4 · 0.01, over 1 − 0.99²
    assert float(later) == pytest.approx(6 / (one * ((0.0099 + 0.04) / 0.0199) ** 0.5))
    assert scale(0 * g).isfinite().all()
    fresh = Scale(units([0.2] * 5, (3, 2)))
    assert not fresh(torch.zeros(5)).any()  # and not 0/0


# ---- limits -----------------------------------------------------------------------------------------


def test_at_no_price_with_all_switches_on_it_is_plain_training():
    loop = Loop(AutoPrune(penalty=0.0, held_out=0.0, start=1e3), optimizer=sgd).run(10)
    plain, (x, y) = network(), x_and_y()
    optimizer = sgd(plain.parameters())
    for _ in range(10):
        optimizer.zero_grad()
        (plain(x) - y).square().mean().backward()
        optimizer.step()
    for mine, theirs in zip(loop.model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("erodes", [False, True])
def test_weights_that_are_off_wait_unless_they_are_to_erode(erodes):
    def decaying(groups):
        return torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=0.1)

    method = AutoPrune(penalty=0.0, held_out=0.0, start=1e3, erodes=erodes)
    loop = Loop(method, optimizer=decaying).run(3)
    before = loop.model[0].weight.detach().clone()
    with torch.no_grad():
        loop.handle.m[:80] = -1e3
    loop.run(3)
    after = loop.model[0].weight.detach()
    assert torch.equal(before[:8], after[:8]) is not erodes
    assert not torch.equal(before[8:], after[8:])


def test_with_relu_nothing_comes_back_and_with_leaky_something_does():
    came = {}
    for name in ("relu", "leaky"):
        method = AutoPrune(
            held_out=0.5, estimator=ESTIMATORS[name], opening=Constant(), settle=None, lr=10
        )
        loop = Loop(
            method, make_plan=shared_plan, task=Regression()
        )  # of Adam, whose momentum M has not
        came[name] = loop.run(60).handle.recovery
    assert came["relu"].returns == came["relu"].recovered == 0
    assert came["leaky"].returns > 0
    assert came["leaky"].recovered > 0
    assert came["leaky"].opened <= 35
    assert came["leaky"].ever_closed >= 176 - 35


class Springs(nn.Module):
    """f = ½ Σ (w_i − c_i)²: the weights themselves are the outputs."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(4, 1, bias=False)

    def forward(self, x):
        return x * self.line.weight[0]


def test_at_the_optimum_of_springs_a_weight_stays_on_where_decay_times_its_size_is_above_the_price():
    """min ½(w − c)² + ½λw²: w* = c/(1+λ), G = w* − c = −λw*, so m grows iff λ|w*| > μ r: sizes decide."""
    decay, price = 0.5, 0.6
    c = torch.tensor([[2.0, -1.0, 0.5, -0.2]])
    model = Springs()
    with torch.no_grad():
        model.line.weight.copy_(c / (1 + decay))
    method = AutoPrune(penalty=price, held_out=0.0, start=0.5, by_size=False, estimator=ReLU())

    def decaying(groups):
        return torch.optim.SGD(groups, lr=0.1, weight_decay=decay)

    plan = esp.plan(model, density=0.5)
    handle = method.attach(model, plan, Setting(optimizer=decaying, lr=0.1))
    for _ in range(300):
        handle.optimizer.zero_grad()
        (0.5 * (handle.trained()(torch.ones(1, 4)) - c).square().sum()).backward()
        handle.add_gradients_()
        handle.optimizer.step()
        handle.step(0.0)
    wanted = decay * c.abs() / (1 + decay) > price / 4
    assert wanted.tolist() == [[True, True, True, False]]
    assert torch.equal(handle.opened, wanted[0])
    handle.hard_prune_()
    torch.testing.assert_close(model.line.weight.detach(), c / (1 + decay) * wanted)


# ---- budgets and the cut ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make_plan", [weights_plan, shared_plan, filters_plan, shared_filters_plan]
)
def test_no_more_units_are_on_than_the_budget_of_the_moment_allows(make_plan):
    method = AutoPrune(held_out=0.0, lr=3, settle=None)
    loop = Loop(method, make_plan=make_plan, steps=40)
    for _ in range(40):
        loop.run(1)
        assert (loop.handle.shares() <= loop.handle._limits() * (1 + 1e-5)).all()
    assert torch.equal(loop.handle._limits(), loop.handle._units.limits)


@pytest.mark.parametrize("make_plan", [weights_plan, shared_plan, filters_plan])
@pytest.mark.parametrize("steps", [0, 60])
def test_a_cut_keeps_exactly_the_budget(make_plan, steps):
    loop = Loop(AutoPrune(held_out=0.0), make_plan=make_plan).run(steps)
    plan, handle = loop.plan, loop.handle
    cut = handle.target()
    assert plan.contains(cut.values)
    kept = {n: int(plan.entries[n].set.occupied(cut.free[n]).sum()) for n in plan.names}
    if plan.shared is None:
        assert kept == {n: e.keep for n, e in plan.entries.items()}
    else:
        assert sum(kept.values()) == plan.shared.limit
    handle.hard_prune_()
    assert plan.contains(dict(loop.model.named_parameters()))
    assert handle.trained() is loop.model
    assert handle.nothing_to_cut()


def test_the_cut_takes_the_units_of_largest_m_whatever_their_size():
    loop = Loop(AutoPrune(held_out=0.0), make_plan=filters_plan)
    with torch.no_grad():
        loop.model[0].weight.copy_(torch.linspace(1, 30, 16).reshape(16, 1).expand(16, 10))
        loop.handle.m[:16] = torch.linspace(1, -1, 16)
    assert loop.handle.target().free["0.weight"].any(1).tolist() == [True] * 4 + [False] * 12


def test_with_a_penalty_the_switches_alone_decide():
    loop = Loop(AutoPrune(penalty=1.0, held_out=0.0))
    with torch.no_grad():
        loop.handle.m.fill_(-1.0)
        loop.handle.m[:50] = 1.0
    loop.handle.hard_prune_()
    assert int(loop.model[0].weight.count_nonzero()) == 50
    assert int(loop.model[2].weight.count_nonzero()) == 0


def test_m_is_fixed_when_it_is_time_and_the_weights_are_tuned_on():
    loop = Loop(AutoPrune(held_out=0.0, settle=0.5), make_plan=shared_plan, steps=40).run(19)
    assert not loop.handle.nothing_to_cut()
    loop.run(1)
    assert loop.handle.nothing_to_cut()
    masks = {n: m.clone() for n, m in loop.handle.masks.items()}
    before, m = loop.model[0].weight.detach().clone(), loop.handle.m.detach().clone()
    loop.run(20)
    after = loop.model[0].weight.detach()
    assert after[~masks["0.weight"]].eq(0).all()
    assert not torch.equal(before, after)
    assert torch.equal(m, loop.handle.m)


def test_looking_at_the_cut_changes_nothing():
    loop = Loop(AutoPrune(held_out=0.0)).run(7)
    before = loop.bytes()
    with loop.handle.hard_pruned():
        assert loop.plan.contains(dict(loop.model.named_parameters()))
    assert all(map(torch.equal, before, loop.bytes()))


def test_zeros_of_earlier_stages_are_held_and_stay_off():
    mask = torch.arange(160).reshape(16, 10) % 2 == 0
    loop = Loop(AutoPrune(held_out=0.0, lr=10), held={"0.weight": mask}).run(20)
    assert not loop.handle.opened[:160][~mask.flatten()].any()
    assert loop.model[0].weight.detach()[~mask].eq(0).all()
    assert not loop.handle.target().free["0.weight"][~mask].any()


def test_filters_that_are_off_feed_compaction():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten()
    )
    x = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    plan = esp.plan(model, density=0.5, set=Filters(), example_input=x[:1], exclude=["3.*"])
    handle = AutoPrune(held_out=0.0, lr=3).attach(model, plan, Setting(optimizer=adam, steps=20))
    handle.trained().train()
    for _ in range(20):
        handle.optimizer.zero_grad()
        loss = handle.trained()(x).square().mean()
        loss.backward()
        handle.add_gradients_()
        handle.optimizer.step()
        handle.step(loss)
    handle.hard_prune_()
    model.eval()
    small = esp.compact(model, x[:1])
    assert small.model[0].weight.shape[0] == plan.coupled.keep[0]
    torch.testing.assert_close(small.model(x), model(x))


# ---- what it keeps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("held_out", [0.0, 0.5])
@pytest.mark.parametrize("penalty", [None, 0.3])
@pytest.mark.parametrize("cut", [False, True])
def test_steps_saved_loaded_and_more_are_the_same_to_the_bit(held_out, penalty, cut):
    method = AutoPrune(held_out=held_out, penalty=penalty, lr=10, settle=None)

    def make():
        return Loop(method, make_plan=shared_plan, task=Regression(), steps=60)

    first = make().run(13)  # between two records of evidence
    if cut:
        first.handle.hard_prune_()
    saved = copy.deepcopy(
        [first.model.state_dict(), first.handle.optimizer.state_dict(), first.handle.state_dict()]
    )
    first.run(20)
    second = make()
    second.model.load_state_dict(saved[0])
    second.handle.optimizer.load_state_dict(saved[1])
    second.handle.load_state_dict(saved[2])
    second.run(20)
    assert all(map(torch.equal, first.bytes(), second.bytes()))
    assert first.handle.updates == second.handle.updates
    assert first.handle.recovery == second.handle.recovery


def test_no_state_is_on_the_graph_or_shares_memory_and_the_models_own_is_as_ever():
    loop = Loop(AutoPrune(held_out=0.0)).run(5)
    before = loop.handle.state_dict()
    kept = copy.deepcopy(before)
    loop.run(5)
    for name in ("m", "prices"):
        assert not before[name].requires_grad
        assert torch.equal(before[name], kept[name])
    assert all(torch.equal(before["returns"][n], kept["returns"][n]) for n in kept["returns"])
    assert list(loop.model.state_dict()) == list(network().state_dict())


def test_the_certificate_says_what_came_back():
    loop = Loop(AutoPrune(held_out=0.0, lr=10), make_plan=shared_plan).run(40)
    assert str(loop.handle.recovery) in loop.handle.certificate().sentence


@pytest.mark.parametrize(
    "wrong", [{"held_out": 1.0}, {"lr": 0}, {"start": 0}, {"settle": 0}, {"cadence": 0}]
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(RequestError, match="give"):
        AutoPrune(**wrong)
