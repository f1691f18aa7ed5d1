"""Hard concrete gates against the closed forms of the paper, and the method that trains them."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.budgets import shared
from espalier.errors import RequestError
from espalier.methods import L0, Setting
from espalier.methods._gates import units_of
from espalier.methods._hard_concrete import HardConcrete, location
from espalier.sets import Alone, Along, Columns, Coupled, Filters, Product, Unstructured
from espalier.sets._along import STAYS

GATE = HardConcrete()
SITES = torch.linspace(-6, 6, 13, dtype=torch.float64)


# ---- the distribution -------------------------------------------------------------------------------


def noise(count, seed=0):
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_gate_of_log_alpha_zero_is_open_with_probability_0_832():
    # σ(2/3 · log 11), since −γ/ζ = 1/11: 11^(2/3) / (1 + 11^(2/3))
    exact = 11 ** (2 / 3) / (1 + 11 ** (2 / 3))
    assert float(GATE.probability(torch.zeros(1, dtype=torch.float64))) == pytest.approx(
        exact, abs=1e-15
    )
    assert round(exact, 3) == 0.832


@pytest.mark.parametrize("gate", [GATE, HardConcrete(beta=0.5, gamma=-0.3, zeta=1.2)])
def test_as_many_sampled_gates_are_open_as_the_probability_says(gate):
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000  # every quantile once
    for site in SITES:
        opened = gate.sample(site, u).ne(0).double().mean()
        assert float(opened) == pytest.approx(float(gate.probability(site)), abs=1e-5)


def test_random_noise_gives_the_moments_of_the_quantiles():
    """The mean and the second moment of z over torch's noise are those of quadrature over u."""
    even = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    drawn = noise(400_000)
    for site, power in itertools.product(SITES[3:10], (1, 2)):
        exact = GATE.sample(site, even).pow(power).mean()
        sampled = GATE.sample(site, drawn).pow(power).mean()
        assert float(sampled) == pytest.approx(float(exact), abs=4 * 0.5 / math.sqrt(400_000))


def test_the_slope_is_the_derivative_of_the_probability():
    at = SITES.clone().requires_grad_()
    (exact,) = torch.autograd.grad(GATE.probability(at).sum(), at)
    torch.testing.assert_close(GATE.slope(SITES), exact)


def test_the_test_time_gate_is_the_sample_at_temperature_one_of_even_odds():
    at_one = HardConcrete(beta=1.0)
    half = torch.tensor(0.5, dtype=torch.float64)
    torch.testing.assert_close(GATE.test_time(SITES), at_one.sample(SITES, half))
    assert GATE.test_time(torch.tensor([-9.0, 0.0, 9.0])).tolist() == [0.0, 0.5, 1.0]


def test_noise_is_kept_a_millionth_from_its_ends():
    u, site = torch.tensor([0.0, 1.0]), torch.tensor([20.0, -20.0])
    assert GATE.sample(site, u).tolist() == [1.0, 0.0]  # logit(1e-6) is -13.8, logit(0) infinite


# ---- a small problem --------------------------------------------------------------------------------


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))


def convolutions():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten()
    )


def adam(groups):
    return torch.optim.Adam(groups, lr=1e-2)


def weights_plan(model):
    return esp.plan(model, keep={"0.weight": 20, "2.weight": 6})


def shared_plan(model):
    return esp.plan(model, density=0.2, allocation=shared)


def shared_filters_plan(model):
    return esp.plan(model, density=0.3, allocation=shared, set=Filters(), include=["*"])


def filters_plan(model):
    return esp.plan(model, keep={"0.weight": 4, "2.weight": 1}, set=Filters())


class Loop:
    """A user's own loop on a small regression."""

    def __init__(self, method, model=None, make_plan=weights_plan, lr=1e-2, held=None):
        self.model = model or network()
        self.plan = make_plan(self.model)
        setting = Setting(optimizer=adam, lr=lr, held=held or {})
        self.handle = method.attach(self.model, self.plan, setting)
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(64, 10, generator=generator)
        self.y = self.x[:, :3].sum(1, keepdim=True)

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
        gates = [self.handle.log_alpha, self.handle.duals]
        return [t.detach().clone() for t in (*self.model.parameters(), *gates)]


def at(handle, log_alpha):
    with torch.no_grad():
        handle.log_alpha.fill_(log_alpha)
    return handle


def step(handle):
    """One step without an optimiser's."""
    handle.log_alpha.grad = None
    handle.add_gradients_()
    handle.step(0.0)


# ---- the gated model --------------------------------------------------------------------------------


def test_wide_open_gates_are_the_dense_model_and_closed_ones_leave_the_biases():
    loop = Loop(L0())
    for mode in (True, False):
        gated = at(loop.handle, 60.0).trained().train(mode)
        torch.testing.assert_close(gated(loop.x), loop.model(loop.x), rtol=0, atol=0)
        at(loop.handle, -60.0)
        gone = loop.model[2](loop.model[1](loop.model[0].bias * torch.ones(64, 1))).detach()
        bias_only = loop.model[2].bias.expand_as(gone)
        torch.testing.assert_close(gated(loop.x), bias_only, rtol=0, atol=0)


def test_a_weight_gets_its_gate_times_the_gradient_of_the_product_and_the_gate_the_weights():
    loop = Loop(L0())
    handle, model = loop.handle, loop.model.eval()
    z = GATE.test_time(handle.log_alpha.detach())
    products = {
        name: value.detach().requires_grad_() for name, value in handle._gated.gated(z).items()
    }
    torch.func.functional_call(model, products, (loop.x,)).square().sum().backward()
    handle.trained()(loop.x).square().sum().backward()
    spread = handle._units.spread(z)
    for name, product in products.items():
        w = model.get_parameter(name)
        torch.testing.assert_close(w.grad, spread[name] * product.grad)
    pull = torch.cat(
        [(products[n].grad * model.get_parameter(n).detach()).flatten() for n in loop.plan.names]
    )
    site = handle.log_alpha.detach().clone().requires_grad_()
    (dz,) = torch.autograd.grad(GATE.test_time(site).sum(), site)
    torch.testing.assert_close(handle.log_alpha.grad, pull * dz)


def test_training_draws_new_gates_for_every_call_and_evaluation_none():
    loop = Loop(L0(droprate=0.5))
    gated = loop.handle.trained().train()
    assert not torch.equal(gated(loop.x), gated(loop.x))
    loop.model.eval()  # the model's own mode decides
    assert torch.equal(gated(loop.x), gated(loop.x))


def test_batchnorm_goes_on_counting_through_the_gates():
    model = convolutions()
    handle = L0().attach(model, filters_plan_of(model), Setting(optimizer=adam))
    alone = copy.deepcopy(model).train()
    x = torch.randn(8, 2, 8, 8, generator=torch.Generator().manual_seed(2))
    at(handle, 60.0).trained().train()(x)
    alone(x)
    assert int(model[1].num_batches_tracked) == 1
    assert torch.equal(model[1].running_mean, alone[1].running_mean)
    assert not model[1].running_mean.requires_grad


def filters_plan_of(model):
    return esp.plan(model, keep={"0.weight": 3, "3.weight": 2}, set=Filters())


def coupled_plan_of(model):
    return esp.plan(
        model, density=0.5, set=Filters(), example_input=torch.zeros(1, 2, 8, 8), exclude=["3.*"]
    )


def test_coupled_channels_have_one_gate_for_filter_bias_and_batchnorm():
    model = convolutions()
    plan = coupled_plan_of(model)
    units = units_of(plan, torch.device("cpu"))
    z = torch.arange(1.0, 7.0)
    spread = units.spread(z)
    assert set(spread) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    for name, gates in spread.items():
        whole = gates.expand_as(model.get_parameter(name))
        assert torch.equal(whole.reshape(6, -1).amax(1), z), name
    masks = {name: torch.ones_like(model.get_parameter(name)) > 0 for name in spread}
    assert units.counts(masks).tolist() == [2 * 9 + 3.0] * 6


def test_the_gates_of_a_product_lie_part_after_part_and_what_stays_has_a_gate_of_one():
    coupled = Coupled(
        sizes=(2, 1),
        keep=(1, 1),
        members={"a": Along(0, (0, 1)), "b": Along(1, (1, STAYS, 0, 2))},
    )
    product = Product(
        parts=(Alone("w", (2, 3), Unstructured(), 2), coupled),
        shapes={"w": (2, 3), "a": (2, 5), "b": (3, 4)},
    )
    units = units_of(product, torch.device("cpu"))
    spread = units.spread(torch.arange(10.0, 19.0))
    assert spread["w"].tolist() == [[10.0, 11.0, 12.0], [13.0, 14.0, 15.0]]
    assert spread["a"].tolist() == [[16.0], [17.0]]
    assert spread["b"].tolist() == [[17.0, 1.0, 16.0, 18.0]]
    assert units.sizes == (6, 2, 1)
    assert units.limits.tolist() == pytest.approx([2 / 6, 1 / 2, 1.0])
    assert units.shares(torch.ones(9)).tolist() == pytest.approx([1.0, 1.0, 1.0])


# ---- the price --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make_plan", [weights_plan, shared_plan, filters_plan, shared_filters_plan]
)
@pytest.mark.parametrize("penalty", [None, 0.7])
def test_the_pull_on_the_gates_is_the_gradient_of_the_priced_expectation(make_plan, penalty):
    loop = Loop(L0(penalty=penalty), make_plan=make_plan)
    handle, plan = loop.handle, loop.plan
    with torch.no_grad():
        handle.log_alpha.normal_(generator=torch.Generator().manual_seed(5))
        if penalty is None:
            handle.duals.copy_(torch.arange(1.0, 1 + len(handle.duals)))
    site = handle.log_alpha.detach().clone().requires_grad_()
    p = handle._units.spread(GATE.probability(site))
    mean = {n: p[n].expand(e.shape).mean() for n, e in plan.entries.items()}
    total = sum(e.numel for e in plan.entries.values())
    whole = sum(mean[n] * e.numel for n, e in plan.entries.items()) / total
    if penalty is not None:
        priced = penalty * whole
    elif plan.shared is not None:
        priced = handle.duals[0] * whole
    else:
        priced = (handle.duals * torch.stack(list(mean.values()))).sum()
    priced.backward()
    handle.log_alpha.grad = None
    handle.add_gradients_()
    torch.testing.assert_close(handle.log_alpha.grad, site.grad)
    handle.log_alpha.grad = handle.log_alpha.grad.clone()  # that of another backward
    handle.add_gradients_()
    torch.testing.assert_close(handle.log_alpha.grad, 2 * site.grad)


def test_a_dual_variable_climbs_by_the_excess_and_starts_again_once_the_budget_is_met():
    for restarts, after in ((True, 0.0), (False, None)):
        loop = Loop(L0(dual_lr=0.1, restarts=restarts))
        handle = at(loop.handle, 0.0)
        step(handle)
        p = float(GATE.probability(torch.zeros(1)))
        first = [0.1 * (p - 20 / 160), 0.1 * (p - 6 / 16)]
        assert handle.duals.tolist() == pytest.approx(first)
        step(at(handle, -10.0))
        closed = float(GATE.probability(torch.tensor(-10.0)))
        left = [d + 0.1 * (closed - keep) for d, keep in zip(first, (0.125, 0.375), strict=True)]
        expected = left if after is None else [after, after]
        assert handle.duals.tolist() == pytest.approx(expected, abs=1e-7)
        for _ in range(10):
            step(at(handle, -10.0))
        assert handle.duals.tolist() == [0.0, 0.0]  # a price is never negative


def test_log_alpha_stays_within_its_bound():
    loop = Loop(L0(bound=3.0))
    step(at(loop.handle, 7.0))
    assert loop.handle.log_alpha.detach().eq(3.0).all()
    step(at(loop.handle, -7.0))
    assert loop.handle.log_alpha.detach().eq(-3.0).all()


# ---- the cut ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_plan", [weights_plan, shared_plan, filters_plan])
@pytest.mark.parametrize("steps", [0, 60])
def test_a_cut_keeps_exactly_the_budget(make_plan, steps):
    loop = Loop(L0(dual_lr=0.5), make_plan=make_plan).run(steps)
    plan, handle = loop.plan, loop.handle
    cut = handle.target()
    assert plan.contains(cut.values)
    kept = {n: plan.entries[n].set.occupied(cut.free[n]).sum() for n in plan.names}
    if plan.shared is None:
        assert {n: int(k) for n, k in kept.items()} == {n: e.keep for n, e in plan.entries.items()}
    else:
        assert int(sum(kept.values())) == plan.shared.limit
    handle.hard_prune_()
    assert plan.contains(dict(loop.model.named_parameters()))
    assert handle.trained() is loop.model
    assert handle.nothing_to_cut()


def test_a_cut_of_coupled_channels_keeps_exactly_the_budget_and_takes_along_what_reads_them():
    model = convolutions()
    plan = coupled_plan_of(model)
    handle = L0().attach(model, plan, Setting(optimizer=adam))
    handle.hard_prune_()
    gone = model[0].weight.detach().flatten(1).eq(0).all(1)
    assert int(gone.sum()) == 6 - plan.coupled.keep[0]
    assert model[1].weight.detach()[gone].eq(0).all()
    assert model[3].weight.detach()[:, gone].eq(0).all()


def test_an_open_filter_stays_before_a_closed_one_of_larger_norm():
    loop = Loop(L0(), make_plan=filters_plan)
    with torch.no_grad():
        loop.model[0].weight.copy_(torch.linspace(1, 30, 16).reshape(16, 1).expand(16, 10))
        loop.handle.log_alpha.fill_(-2.5)  # closed at test time, and open with probability 0.29
        loop.handle.log_alpha[:4] = 1.0
    kept = loop.handle.target().free["0.weight"].any(1)
    assert kept.tolist() == [True] * 4 + [False] * 12


def test_where_fewer_gates_are_open_than_may_be_the_likeliest_others_stay_at_zero():
    loop = Loop(L0())
    with torch.no_grad():
        loop.model[0].weight.fill_(1.0)
        loop.handle.log_alpha.fill_(-8.0)
        loop.handle.log_alpha[:5] = 1.0
        loop.handle.log_alpha[100:115] = -4.0
    cut = loop.handle.target()
    assert cut.free["0.weight"].flatten().nonzero().flatten().tolist() == [
        *range(5),
        *range(100, 115),
    ]
    assert int(cut.values["0.weight"].count_nonzero()) == 5


def test_with_a_penalty_the_gates_alone_decide():
    loop = Loop(L0(penalty=1.0))
    with torch.no_grad():
        loop.handle.log_alpha.fill_(-8.0)
        loop.handle.log_alpha[:50] = 8.0
    loop.handle.hard_prune_()
    assert int(loop.model[0].weight.count_nonzero()) == 50
    assert int(loop.model[2].weight.count_nonzero()) == 0


def test_the_cut_is_the_gated_model_where_no_more_gates_are_open_than_may_be():
    loop = Loop(L0())
    with torch.no_grad():
        loop.handle.log_alpha.fill_(-8.0)
        loop.handle.log_alpha[:20] = 1.0
        loop.handle.log_alpha[160:166] = 0.5
    gated = loop.handle.trained().eval()(loop.x)
    with loop.handle.hard_pruned():
        torch.testing.assert_close(loop.model(loop.x), gated)


def test_looking_at_the_cut_changes_nothing():
    loop = Loop(L0()).run(7)
    before = loop.bytes()
    with loop.handle.hard_pruned():
        assert loop.plan.contains(dict(loop.model.named_parameters()))
    assert all(map(torch.equal, before, loop.bytes()))


def test_after_the_cut_the_zeros_are_held_and_the_rest_is_trained():
    loop = Loop(L0()).run(7)
    loop.handle.hard_prune_()
    before = loop.model[0].weight.detach().clone()
    free = loop.handle.masks["0.weight"]
    loop.run(5)
    after = loop.model[0].weight.detach()
    assert after[~free].eq(0).all()
    assert not torch.equal(before, after)
    with loop.handle.hard_pruned():
        assert torch.equal(loop.model[0].weight, after)


def test_zeros_of_earlier_stages_are_held_and_their_gates_closed():
    mask = torch.arange(160).reshape(16, 10) % 2 == 0
    bias = torch.arange(16) > 3
    loop = Loop(L0(), held={"0.weight": mask, "0.bias": bias})
    assert loop.handle.log_alpha.detach()[:160][~mask.flatten()].eq(-10.0).all()
    assert loop.handle.log_alpha.detach()[:160][mask.flatten()].gt(0).all()
    loop.run(5)
    assert loop.model[0].weight.detach()[~mask].eq(0).all()
    free = loop.handle.target().free
    assert not free["0.weight"][~mask].any()
    assert torch.equal(free["0.bias"], bias)


# ---- what it keeps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [L0(dual_lr=0.5), L0(penalty=0.3)], ids=["budget", "penalty"])
@pytest.mark.parametrize("cut", [False, True])
def test_five_steps_saved_loaded_and_five_more_are_ten_to_the_bit(method, cut):
    torch.manual_seed(3)
    first = Loop(method)
    torch.manual_seed(4)
    first.run(20)
    if cut:
        first.handle.hard_prune_()
    saved = copy.deepcopy(
        [first.model.state_dict(), first.handle.optimizer.state_dict(), first.handle.state_dict()]
    )
    drawn = torch.get_rng_state()
    first.run(20)
    second = Loop(method)
    second.model.load_state_dict(saved[0])
    second.handle.optimizer.load_state_dict(saved[1])
    second.handle.load_state_dict(saved[2])
    torch.set_rng_state(drawn)
    second.run(20)
    assert all(map(torch.equal, first.bytes(), second.bytes()))
    assert first.handle.updates == second.handle.updates
    assert len(first.handle.updates) == (1 if cut else 2)


def test_no_state_is_on_the_graph_or_shares_memory_and_the_models_own_is_as_ever():
    loop = Loop(L0()).run(25)
    memory = {p.untyped_storage().data_ptr() for p in loop.handle.trained().parameters()}
    memory.add(loop.handle.duals.untyped_storage().data_ptr())
    state = loop.handle.state_dict()
    for value in (state["log_alpha"], state["duals"]):
        assert not value.requires_grad
        assert value.untyped_storage().data_ptr() not in memory
    assert list(loop.model.state_dict()) == list(network().state_dict())


def test_the_evidence_is_what_a_cut_would_take_of_the_gated_weights():
    loop = Loop(L0()).run(20)
    (update,) = loop.handle.updates
    z = GATE.test_time(loop.handle.log_alpha.detach())
    with torch.no_grad():
        gated, cut = loop.handle._gated.gated(z), loop.handle.target().values
    for name, layer in update.layers.items():
        assert layer.weight == pytest.approx(float(gated[name].norm()))
        assert layer.violation == pytest.approx(float((gated[name] - cut[name]).norm()))
    assert loop.handle.certificate().total_violation == pytest.approx(update.violation)
    loop.handle.hard_prune_()
    said = loop.handle.certificate()
    assert said.outcome is esp.methods.Outcome.FORCED
    assert said.forced[0].total == pytest.approx(update.violation)


def test_with_a_penalty_the_evidence_is_its_price_and_nothing_is_open():
    (update,) = Loop(L0(penalty=0.25)).run(20).handle.updates
    assert (update.rho, update.slack, update.violation) == (0.25, 0.0, 0.0)


# ---- where it arrives -------------------------------------------------------------------------------


class Regression(Loop):
    """Five of forty weights make y; the design is well conditioned, so the best support is known."""

    def __init__(self, method):
        torch.manual_seed(0)
        model = nn.Linear(40, 1, bias=False)
        super().__init__(method, model, lambda m: esp.plan(m, keep={"weight": 5}))
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(400, 40, generator=generator)
        self.truth = torch.zeros(40)
        self.truth[::8] = torch.tensor([1.0, -1.5, 2.0, 0.8, -1.2])
        self.y = (self.x @ self.truth)[:, None] + 0.1 * torch.randn(400, 1, generator=generator)


def test_a_budget_recovers_the_known_support_of_sparse_least_squares():
    torch.manual_seed(7)
    loop = Regression(L0(dual_lr=0.05)).run(600)
    loop.handle.hard_prune_()
    assert torch.equal(loop.model.weight[0] != 0, loop.truth != 0)
    loop.run(200)
    torch.testing.assert_close(loop.model.weight[0].detach(), loop.truth, atol=0.1, rtol=0)


def test_the_expected_density_meets_the_budget():
    torch.manual_seed(7)
    loop = Regression(L0(dual_lr=0.05)).run(600)
    assert float(loop.handle.shares()) == pytest.approx(5 / 40, abs=0.02)


def test_a_higher_penalty_leaves_fewer_weights():
    left = []
    for penalty in (0.0, 1.0, 30.0, 1000.0):
        torch.manual_seed(7)
        loop = Regression(L0(penalty=penalty)).run(400)
        left.append(int(loop.handle.target().free["weight"].sum()))
    assert left == sorted(left, reverse=True)
    assert left[0] > left[1]
    assert left[1] >= 5 > left[3]


# ---- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("penalty", -1.0), ("dual_lr", 0.0), ("droprate", 1.0), ("lr", 0.0), ("bound", -1.0)),
        *(("beta", 0.0), ("gamma", 0.0), ("zeta", 1.0), ("penalty", math.nan)),
    ],
)
def test_a_number_outside_its_range_is_refused_by_name(name, value):
    with pytest.raises(RequestError, match=f"^L0: {name}={value}; give "):
        L0(**{name: value})


def test_other_sets_are_refused():
    model = convolutions()
    plan = esp.plan(model, density=0.5, set=Columns())
    with pytest.raises(
        RequestError, match=r"0\.weight: there are gates for weights and for filters"
    ):
        L0().attach(model, plan, Setting(optimizer=adam))


def test_sharded_parameters_are_refused():
    model = network()
    model[0].weight.placements = ()
    with pytest.raises(RequestError, match=r"0\.weight: sharded; .* not FSDP"):
        L0().attach(model, weights_plan(model), Setting(optimizer=adam))


def test_decay_and_the_learning_rate_of_the_weights_leave_the_gates_alone():
    def decaying(groups):
        return torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.5)

    model = network()
    handle = L0(lr=3.0).attach(model, weights_plan(model), Setting(optimizer=decaying, lr=1e-2))
    weights, gates = handle.optimizer.param_groups
    assert (weights["lr"], weights["weight_decay"]) == (1e-2, 0.5)
    assert (gates["lr"], gates["weight_decay"]) == (pytest.approx(3e-2), 0.0)
    assert location(0.1) == pytest.approx(math.log(9))
