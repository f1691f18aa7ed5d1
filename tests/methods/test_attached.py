"""An attached handle does what the explicit calls do, bit for bit, whatever the loop does with gradients."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.errors import RequestError
from espalier.methods import L0, Setting

STEPS = 24


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 2))


X = torch.randn(16, 12, generator=torch.Generator().manual_seed(1))


def loss_of(model, scale=1.0):
    return scale * (model(X) - X[:, :2]).square().mean()


def pruning_of(model, optimizer, solver=None, **settings):
    settings = {"cadence": 2, "steps": STEPS} | settings
    plan = esp.plan(model, density=0.25)
    return esp.Pruning(model, plan, solver or esp.SLR(), optimizer, advise=False, **settings)


def explicit(make, solver=None, **settings):
    """Two accumulated halves, clipped, with the calls in the loop."""
    model = network()
    optimizer = make(model.parameters())
    pruning = pruning_of(model, optimizer, solver, **settings)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(model)
        for _ in range(2):
            loss_of(model, 0.5).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        pruning.add_gradients_()
        optimizer.step()
        pruning.step(loss)
    return model, pruning


def attached(make, solver=None, **settings):
    """The same loop without a call in it."""
    model = network()
    optimizer = make(model.parameters())
    pruning = pruning_of(model, optimizer, solver, **settings)
    with pruning.attached(optimizer, loss=lambda: loss):
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = loss_of(model)
            for _ in range(2):
                loss_of(model, 0.5).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
    return model, pruning


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def grouped(parameters):
    first, *rest = parameters
    return torch.optim.SGD([{"params": [first], "lr": 0.02}, {"params": rest}], lr=0.05)


MAKERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "groups": grouped,
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "one by one": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=False),
    "foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
}
USES = {
    "slr": {},
    "slr as released": {"solver": esp.solvers.SLRReleased(), "settle": 0.5},
    "admm": {"solver": esp.ADMM()},
    "rigl": {"solver": esp.solvers.RigL(), "opening": esp.solvers.Constant(), "settle": None},
    "fisher": {"metric": esp.metrics.Fisher()},
    "decoupled": {"decoupled": True, "settle": None},
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_weights_are_those_of_the_explicit_calls_with_every_optimiser(make):
    (one, calls), (other, hooks) = explicit(make), attached(make)
    assert same(one, other)
    assert calls.updates == hooks.updates
    assert hooks.certificate() == calls.certificate()
    assert hooks.nothing_to_cut()


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_the_weights_are_those_of_the_explicit_calls_with_every_solver_and_metric(use):
    (one, calls), (other, hooks) = explicit(MAKERS["sgd"], **use), attached(MAKERS["sgd"], **use)
    assert same(one, other)
    assert calls.updates == hooks.updates
    assert len(hooks.updates) > 3


def test_adams_metric_reads_the_moments_of_the_optimiser_it_is_attached_to():
    use = {"metric": esp.metrics.AdamMoment()}
    assert same(explicit(MAKERS["adam"], **use)[0], attached(MAKERS["adam"], **use)[0])


def test_a_method_with_gates_of_its_own_can_be_attached():
    made = []
    for hooked in (False, True):
        model = network()
        setting = Setting(optimizer=lambda groups: torch.optim.Adam(groups, lr=1e-2), steps=STEPS)
        torch.manual_seed(3)
        handle = L0().attach(model, esp.plan(model, density=0.25), setting)
        if hooked:
            handle.attach()
        for _ in range(STEPS):
            handle.optimizer.zero_grad()
            loss = loss_of(handle.trained())
            loss.backward()
            if not hooked:
                handle.add_gradients_()
            handle.optimizer.step()
            if not hooked:
                handle.step(loss)
        handle.hard_prune_()
        made.append((model, handle.state_dict()["count"]))
    assert same(made[0][0], made[1][0])
    assert made[0][1] == made[1][1] == STEPS


# ---- the loss ---------------------------------------------------------------------------------------


def blind(**settings):
    model = network()
    optimizer = MAKERS["sgd"](model.parameters())
    pruning = pruning_of(model, optimizer, **settings)
    with pruning.attached(optimizer):
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
    return model, pruning


@pytest.mark.parametrize("solver", [esp.SLR(), esp.solvers.SLRReleased()])
def test_without_a_loss_condition_three_is_not_asked_and_the_certificate_says_so(solver):
    _, pruning = blind(solver=solver, settle=0.5, opening=esp.solvers.Cubic())
    assert {update.condition_3 for update in pruning.updates} == {None}
    assert {update.loss for update in pruning.updates} == {None}
    certificate = pruning.certificate()
    assert certificate.conditions[0] is None
    assert certificate.conditions[1] is not None
    assert "Condition (3) was not asked at any update: no loss was told" in certificate.sentence
    assert pruning.nothing_to_cut()


def test_a_solver_without_conditions_says_nothing_of_them():
    _, pruning = blind(solver=esp.ADMM())
    assert "Condition" not in pruning.certificate().sentence


def test_a_probe_answers_condition_three_where_no_loss_is_told():
    model = network()
    optimizer = MAKERS["sgd"](model.parameters())

    def probe():
        with torch.no_grad():
            return loss_of(model).item()

    made = []
    for calls in (True, False):
        model = network()
        optimizer = MAKERS["sgd"](model.parameters())
        pruning = pruning_of(model, optimizer, probe=probe)
        if not calls:
            pruning.attach(optimizer)
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            if calls:
                pruning.add_gradients_()
            optimizer.step()
            if calls:
                pruning.step(loss)
        made.append((model, pruning))
    assert same(made[0][0], made[1][0])
    assert made[0][1].updates == made[1][1].updates
    assert {update.condition_3 for update in made[1][1].updates} <= {True, False}


def test_a_loss_told_at_some_updates_is_asked_of_there():
    model = network()
    optimizer = MAKERS["sgd"](model.parameters())
    pruning = pruning_of(model, optimizer, settle=None)
    told = iter([None] * (STEPS // 2) + [1.0] * (STEPS // 2))
    with pruning.attached(optimizer, loss=lambda: next(told)):
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
    assert [u.condition_3 for u in pruning.updates[:6]] == [None] * 6
    assert None not in {u.condition_3 for u in pruning.updates[6:]}
    assert "at 6 of 12 updates" in pruning.certificate().sentence


# ---- closures, scalers, several optimisers ----------------------------------------------------------


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_closures_pull_at_every_evaluation_and_tell_their_loss(search, to_none, named):
    made = []
    for calls in (True, False):
        model = network()
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4, line_search_fn=search)
        pruning = pruning_of(model, optimizer, steps=None, cadence=1)
        if not calls:
            pruning.attach(optimizer)

        def closure(calls=calls, model=model, optimizer=optimizer, pruning=pruning):
            optimizer.zero_grad(set_to_none=to_none or calls)
            loss = loss_of(model)
            loss.backward()
            if calls:
                pruning.add_gradients_()
            return loss

        for _ in range(5):
            loss = optimizer.step(closure=closure) if named else optimizer.step(closure)
            if calls:
                pruning.step(loss)
        made.append((model, pruning))
    assert same(made[0][0], made[1][0])
    assert made[0][1].updates == made[1][1].updates


@pytest.mark.parametrize("kind", ["sgd", "adam", "fused"])
@pytest.mark.parametrize("unscale", [True, False])
def test_a_scaler_need_not_unscale_first_and_the_steps_it_leaves_out_are_left_out(kind, unscale):
    overflows = (0, 3, 4)
    model = network()
    optimizer = MAKERS[kind](model.parameters())
    pruning = pruning_of(model, optimizer, metric=esp.metrics.Fisher())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with pruning.attached(optimizer):
        for step in range(STEPS):
            optimizer.zero_grad()
            scaler.scale(loss_of(model)).backward()
            if step in overflows:
                model[0].weight.grad[0, 0] = float("inf")
            if unscale:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
    assert pruning.certificate().steps == STEPS - len(overflows)

    plain = network()
    optimizer = MAKERS[kind](plain.parameters())
    calls = pruning_of(plain, optimizer, metric=esp.metrics.Fisher())
    for _ in range(STEPS - len(overflows)):
        optimizer.zero_grad()
        loss_of(plain).backward()
        calls.add_gradients_()
        optimizer.step()
        calls.step()
    assert same(model, plain)


def test_a_step_without_any_gradient_is_not_counted():
    model = network()
    optimizer = MAKERS["sgd"](model.parameters())
    pruning = pruning_of(model, optimizer)
    with pruning.attached(optimizer):
        optimizer.step()
        loss_of(model).backward()
        optimizer.step()
    assert pruning.certificate().steps == 1


@pytest.mark.parametrize("solver", [esp.SLR(), esp.Gradual(), esp.solvers.RigL()])
def test_several_optimisers_are_as_one_with_their_groups(solver):
    fixed = {"opening": esp.solvers.Constant()}
    one = network()
    single = torch.optim.SGD(
        [{"params": one[0].parameters(), "lr": 0.02}, {"params": one[2].parameters()}], lr=0.05
    )
    pruning = pruning_of(one, single, solver, **fixed)
    two = network()
    parts = [
        torch.optim.SGD(two[0].parameters(), lr=0.02), torch.optim.SGD(two[2].parameters(), lr=0.05)
    ]  # fmt: skip
    other = pruning_of(two, None, solver, **fixed)
    bystander = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pruning.attached(single), other.attached(*parts, bystander):
        for _ in range(STEPS):
            for model, optimizers in ((one, [single]), (two, [*parts, bystander])):
                for optimizer in optimizers:
                    optimizer.zero_grad()
                loss_of(model).backward()
                for optimizer in optimizers:
                    optimizer.step()
    assert len(pruning.updates) == len(other.updates) > 3
    assert other.nothing_to_cut()
    # What RigL grows, one optimiser has moved once by then; of several, the first one's zeros were held before.
    assert same(one, two) or isinstance(solver, esp.solvers.RigL)


def test_a_method_for_one_optimiser_refuses_several():
    model = network()
    made = []

    def make(groups):
        made.append(torch.optim.SGD(groups, lr=0.1))
        return made[0]

    handle = L0().attach(model, esp.plan(model, density=0.25), Setting(optimizer=make))
    part = torch.optim.SGD(model[0].parameters(), lr=0.1)
    handle.attach(made[0], part)
    loss_of(handle.trained()).backward()
    with pytest.raises(RequestError, match="works with one optimizer"):
        made[0].step()


# ---- what is refused --------------------------------------------------------------------------------


class EightBit(torch.optim.Optimizer):
    """Keeps what Adam keeps, coded: no √v̂ to read."""

    def __init__(self, parameters, key="exp_avg_sq"):
        super().__init__(parameters, {"lr": 1e-2})
        self.key = key

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p][self.key] = torch.zeros(p.shape, dtype=torch.uint8)
                p.add_(p.grad.sign(), alpha=-group["lr"])


@pytest.mark.parametrize("key", ["exp_avg_sq", "state2"])
def test_optimisers_of_eight_bits_are_attached_to_and_have_no_metric_of_adam(key):
    model = network()
    optimizer = EightBit(model.parameters(), key)
    with pruning_of(model, optimizer).attached(optimizer):
        loss_of(model).backward()
        optimizer.step()
    fresh = EightBit(model.parameters(), key)
    moments = pruning_of(model, fresh, metric=esp.metrics.AdamMoment())
    with moments.attached(fresh), pytest.raises(RequestError, match="EightBit; choose Fisher"):
        fresh.step()


class Wrapper(torch.optim.Optimizer):
    """As Accelerate's, Fabric's and Lightning's: the optimiser is its ``optimizer``."""

    def __init__(self, optimizer):
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups

    def step(self, closure=None):
        return self.optimizer.step(closure)


def test_a_wrapped_optimiser_is_hooked_inside_its_wrapper():
    model = network()
    optimizer = MAKERS["adam"](model.parameters())
    wrapped = Wrapper(Wrapper(optimizer))
    pruning = pruning_of(model, wrapped, metric=esp.metrics.AdamMoment())
    with pruning.attached(wrapped):
        loss_of(model).backward()
        wrapped.step()
    assert pruning.optimizer is optimizer
    assert pruning.certificate().steps == 1


class Hookless(torch.optim.Optimizer):
    """As timm's Lookahead: it has the hooks and never calls them."""

    def __init__(self, inner):
        self._optimizer_step_pre_hooks = OrderedDict()
        self._optimizer_step_post_hooks = OrderedDict()
        self._inner, self.param_groups = inner, inner.param_groups

    def step(self, closure=None):
        return self._inner.step(closure)


def test_an_optimiser_that_does_not_call_its_hooks_is_refused_by_name():
    model = network()
    optimizer = Hookless(MAKERS["sgd"](model.parameters()))
    with pytest.raises(RequestError, match="Hookless does not call the hooks"):
        pruning_of(model, None).attach(optimizer)


def test_what_cannot_be_attached_to_is_refused():
    model = network()
    optimizer, other = (MAKERS["sgd"](model.parameters()) for _ in range(2))
    part = torch.optim.SGD(model[0].parameters(), lr=0.1)
    with pytest.raises(RequestError, match="no optimizer to attach to"):
        pruning_of(model, None).attach()
    with pytest.raises(RequestError, match="made with another optimizer"):
        pruning_of(model, optimizer).attach(other)
    with pytest.raises(RequestError, match=r"does not hold 2\.weight"):
        pruning_of(model, None).attach(part)
    with pytest.raises(RequestError, match="give the torch optimiser"):
        pruning_of(model, None).attach("sgd")
    pruning = pruning_of(model, optimizer)
    pruning.attach()
    with pytest.raises(RequestError, match="attached already"):
        pruning.attach()


def test_calls_in_the_loop_of_an_attached_handle_are_refused():
    model = network()
    optimizer = MAKERS["sgd"](model.parameters())
    pruning = pruning_of(model, optimizer)
    pruning.attach()
    loss_of(model).backward()
    for call in (pruning.add_gradients_, lambda: pruning.step(0.0)):
        with pytest.raises(RequestError, match="leave out the call"):
            call()


def test_a_detached_handle_leaves_no_hook_and_takes_the_calls_again():
    model = network()
    optimizer = MAKERS["sgd"](model.parameters())
    pruning = pruning_of(model, optimizer)
    with pytest.raises(KeyError), pruning.attached():
        raise KeyError
    assert not optimizer._optimizer_step_pre_hooks
    pruning.detach()
    loss_of(model).backward()
    pruning.add_gradients_()
    optimizer.step()
    pruning.step(1.0)
    assert not optimizer._optimizer_step_post_hooks
    assert pruning.certificate().steps == 1


def test_retraining_on_after_the_cut_holds_the_zeros():
    model = network()
    optimizer = MAKERS["adam"](model.parameters())
    pruning = pruning_of(model, optimizer)
    with pruning.attached():
        pruning.hard_prune_()
        for _ in range(5):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
            assert pruning.nothing_to_cut()
