"""What a loop does wrong is an error at the first step; what it may do is none."""

import copy
import threading

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.errors import BudgetError, RequestError, ShapeError, UnknownNameError
from espalier.methods import L0, Constrained, Setting


def network(width=8):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, width), nn.Tanh(), nn.Linear(width, 2))


class Loop:
    """A user's own loop; what it does between backward and the handle's step is the test's."""

    def __init__(self, solver=None, optimizer=None, model=None, given=True, **settings):
        self.model = model or network()
        make = optimizer or (lambda p: torch.optim.SGD(p, lr=0.05))
        self.optimizer = make(self.model.parameters())
        settings = {"cadence": 2, "settle": None, "opening": esp.solvers.Constant()} | settings
        plan = esp.plan(self.model, density=0.25)
        moves = self.optimizer if given else None
        self.handle = esp.Pruning(self.model, plan, solver or esp.SLR(), moves, **settings)
        self.x = torch.randn(16, 12, generator=torch.Generator().manual_seed(1))

    def loss(self):
        return (self.model(self.x) - self.x[:, :2]).square().mean()

    def backward(self, scale=1.0):
        loss = self.loss()
        (scale * loss).backward()
        return loss.detach()

    def step(self):
        self.optimizer.zero_grad()
        loss = self.backward()
        self.handle.add_gradients_()
        self.optimizer.step()
        self.handle.step(loss)


def gating():
    loop = Loop()
    setting = Setting(optimizer=lambda groups: torch.optim.Adam(groups, lr=1e-2))
    loop.handle = L0().attach(loop.model, esp.plan(loop.model, density=0.25), setting)
    loop.optimizer = loop.handle.optimizer
    return loop


# ---- the pull ---------------------------------------------------------------------------------------

PULLED = {
    "slr": Loop,
    "without the optimiser": lambda: Loop(given=False),
    "fisher": lambda: Loop(esp.Gradual(), metric=esp.metrics.Fisher()),
    "rigl": lambda: Loop(esp.solvers.RigL(), steps=10),
    "l0": gating,
}


@pytest.mark.parametrize("kind", PULLED)
def test_a_pull_that_was_never_added_is_an_error_at_the_first_step(kind):
    loop = PULLED[kind]()
    loss = loop.backward()
    loop.optimizer.step()
    with pytest.raises(RequestError, match=r"step 1: add_gradients_\(\) was not called"):
        loop.handle.step(loss)


@pytest.mark.parametrize("kind", PULLED)
def test_a_pull_added_twice_to_one_steps_gradients_is_an_error(kind):
    loop = PULLED[kind]()
    loop.backward()
    loop.handle.add_gradients_()
    loop.backward()  # of the next part of an accumulated batch
    with pytest.raises(RequestError, match="called twice for one step"):
        loop.handle.add_gradients_()


@pytest.mark.parametrize("solver", [esp.OneShot(), esp.Gradual()])
def test_a_method_without_a_pull_need_not_be_asked_for_one(solver):
    loop = Loop(solver)
    for _ in range(4):
        loop.handle.step(loop.backward())


def test_a_settled_handle_need_not_be_asked_for_a_pull():
    loop = Loop()
    loop.step()
    loop.handle.hard_prune_()
    for _ in range(3):
        loop.handle.step(loop.backward())


def test_accumulated_gradients_skipped_steps_and_evaluations_are_no_misuse():
    loop = Loop()
    for _ in range(3):
        loop.optimizer.zero_grad()
        for _ in range(4):
            loss = loop.backward()
        loop.handle.add_gradients_()
        loop.optimizer.step()
        loop.handle.step(loss)
        with loop.handle.hard_pruned(), torch.no_grad(), loop.handle.hard_pruned():
            loop.loss()
        # A step left out by hand, and one that a scaler left out: the handle's step may come or not.
        for counted in (False, True):
            loop.optimizer.zero_grad()
            loss = loop.backward()
            loop.handle.add_gradients_()
            if counted:
                loop.handle.step(loss)


def after(loop):
    loop.optimizer.zero_grad()
    loss = loop.backward()
    loop.optimizer.step()
    loop.handle.add_gradients_()
    loop.handle.step(loss)


def anew(loop):
    loop.backward()
    loop.handle.add_gradients_()
    loop.optimizer.zero_grad()
    loop.backward()
    loop.optimizer.step()


def uncounted(loop):
    for _ in range(2):
        loop.optimizer.zero_grad()
        loop.backward()
        loop.handle.add_gradients_()
        loop.optimizer.step()


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (after, r"add_gradients_\(\) was called after optimizer\.step\(\)"),
        (anew, "the pull is lost"),
        (uncounted, r"step\(\) was not called"),
    ],
)
def test_a_loop_in_another_order_is_an_error_at_the_first_step(order, told):
    with pytest.raises(RequestError, match=told):
        order(Loop())


@pytest.mark.parametrize("to_none", [True, False])
def test_steps_before_the_first_that_is_constrained_are_no_misuse(to_none):
    loop = Loop()
    for _ in range(3):
        loop.optimizer.zero_grad(set_to_none=to_none)
        loop.backward()
        loop.optimizer.step()
    for _ in range(2):
        loop.optimizer.zero_grad(set_to_none=to_none)
        loss = loop.backward()
        loop.handle.add_gradients_()
        loop.optimizer.step()
        loop.handle.step(loss)


def test_two_handles_of_one_optimiser_may_both_look_at_its_first_step():
    loop = Loop()
    plan = esp.plan(loop.model, density=0.5)
    other = esp.Pruning(loop.model, plan, esp.SLR(), loop.optimizer, advise=False)
    loss = loop.backward()
    for handle in (loop.handle, other):
        handle.add_gradients_()
    loop.optimizer.step()
    for handle in (loop.handle, other):
        handle.step(loss)


@pytest.mark.parametrize("loss", ["1", torch.ones(3)])
def test_a_loss_that_is_no_number_is_an_error_at_the_first_step(loss):
    loop = Loop(given=False)
    loop.backward()
    loop.handle.add_gradients_()
    with pytest.raises(RequestError, match="give one number"):
        loop.handle.step(loss)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_the_closures_of_lbfgs_work(search):
    loop = Loop(optimizer=lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=4, line_search_fn=search))

    def closure():
        loop.optimizer.zero_grad()
        loss = loop.loss()
        loss.backward()
        loop.handle.add_gradients_()
        return loss

    for _ in range(5):
        loop.handle.step(loop.optimizer.step(closure))
    assert len(loop.handle.updates) == 2


# ---- the gradient scaler ----------------------------------------------------------------------------


class Scaler:
    """torch.amp.GradScaler on the CPU, whose states and arithmetic it uses."""

    def __init__(self, **settings):
        self.scaler = torch.amp.GradScaler("cpu", **settings)

    def run(self, loop, steps, *, unscale, inf_at=()):
        for step in range(steps):
            loop.optimizer.zero_grad()
            loss = loop.loss()
            self.scaler.scale(loss).backward()
            if step in inf_at:
                loop.model[0].weight.grad[0, 0] = float("inf")
            if unscale:
                self.scaler.unscale_(loop.optimizer)
            loop.handle.add_gradients_()
            self.scaler.step(loop.optimizer)
            self.scaler.update()
            loop.handle.step(loss.detach())


MAKERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "fused": lambda p: torch.optim.Adam(p, lr=1e-2, fused=True),
}
each_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


@each_optimizer
@pytest.mark.parametrize("scale", [2.0, 65536.0])
def test_a_scaler_without_unscale_is_an_error_at_the_first_step(make, scale):
    loop = Loop(optimizer=make)
    with pytest.raises(RequestError, match=r"unscale_\(optimizer\) before add_gradients_"):
        Scaler(init_scale=scale).run(loop, 1, unscale=False)


@each_optimizer
@pytest.mark.parametrize("inf_at", [(), (0, 1, 3)])
def test_a_scaler_that_unscales_first_is_none_whatever_steps_it_leaves_out(make, inf_at):
    loop = Loop(optimizer=make, metric=esp.metrics.Fisher())
    Scaler().run(loop, 6, unscale=True, inf_at=inf_at)
    assert len(loop.handle.updates) == 3


def test_adams_moments_may_be_late_by_the_steps_that_a_scaler_leaves_out():
    loop = Loop(optimizer=MAKERS["adam"], metric=esp.metrics.AdamMoment(), cadence=1)
    Scaler().run(loop, 4, unscale=True, inf_at=(0, 1))
    assert len(loop.handle.updates) == 4


def test_clipping_after_the_pull_is_not_taken_for_a_scaler():
    loop = Loop()
    for largest in (1e-3, 0.1, 1e9):
        loop.optimizer.zero_grad()
        loss = loop.backward()
        loop.handle.add_gradients_()
        nn.utils.clip_grad_norm_(loop.model.parameters(), largest)
        loop.optimizer.step()
        loop.handle.step(loss)


def test_once_the_gradients_are_known_to_be_unscaled_nothing_looks_at_them_any_more():
    loop = Loop()
    loop.step()
    assert not loop.optimizer._optimizer_step_pre_hooks
    assert not loop.optimizer._optimizer_step_post_hooks


def test_rigl_leaves_out_the_update_of_a_step_that_a_scaler_leaves_out():
    loop = Loop(esp.solvers.RigL(), steps=10)
    Scaler().run(loop, 6, unscale=True, inf_at=(3,))
    assert [update.step for update in loop.handle.updates] == [2, 6]


def test_a_model_wrapped_by_torch_compile_is_pruned_by_its_own_plan():
    loop = Loop(model=torch.compile(network(), backend="eager"), steps=4)
    loop.step()
    assert loop.handle.model is loop.model._orig_mod


@pytest.mark.parametrize("other", ["sgd", [torch.zeros(1)]])
def test_what_is_no_optimiser_is_refused(other):
    model = network()
    with pytest.raises(RequestError, match="give the torch optimiser"):
        esp.Pruning(model, esp.plan(model, density=0.5), esp.SLR(), other, advise=False)


# ---- the optimiser ----------------------------------------------------------------------------------


def test_an_optimiser_that_does_not_hold_what_is_constrained_is_refused_by_name():
    model, other = network(), network()
    plan = esp.plan(model, density=0.25)
    for moved in (other.parameters(), model[0].parameters()):
        with pytest.raises(RequestError, match=r"does not hold (0\.weight, )?2\.weight, which"):
            esp.Pruning(model, plan, esp.SLR(), torch.optim.SGD(moved, lr=0.1), decoupled=True)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_metric_that_the_optimiser_cannot_give_is_an_error_at_the_first_step(momentum):
    loop = Loop(
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=momentum),
        metric=esp.metrics.AdamMoment(),
        cadence=50,
    )
    with pytest.raises(RequestError, match=r"exp_avg_sq.*SGD; choose Fisher"):
        loop.step()


def test_a_metric_of_activations_that_saw_none_is_an_error_and_not_the_identity():
    loop = Loop(metric=esp.metrics.Activations())
    loop.model.eval()
    loop.step()
    with pytest.raises(RequestError, match=r"0\.weight: the metric Activations has seen no input"):
        loop.step()


# ---- the model --------------------------------------------------------------------------------------


def test_a_layer_replaced_after_the_handle_was_made_is_an_error_at_the_next_call():
    loop = Loop()
    loop.step()
    loop.model[2] = nn.Linear(8, 2)
    loop.backward()
    for call in (loop.handle.add_gradients_, loop.handle.certificate, loop.handle.hard_prune_):
        with pytest.raises(RequestError, match=r"2\.weight was replaced after the handle was made"):
            call()
    del loop.model[2]
    with pytest.raises(RequestError, match=r"2\.weight was replaced"):
        loop.handle.step(0.0)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.b.weight = self.a.weight


def test_two_keeps_of_one_tied_tensor_are_refused():
    model = Tied()
    with pytest.raises(RequestError, match=r"keep: 'a\.weight' and 'b\.weight' are one tensor"):
        esp.plan(model, keep={"a.weight": 3, "b.weight": 9})
    assert esp.plan(model, keep={"b.weight": 9}).entries["a.weight"].keep == 9
    assert esp.plan(model, keep={"a.weight": 9, "b.weight": 9}).entries["a.weight"].keep == 9
    apart = nn.ModuleDict({"a": nn.Linear(6, 6, bias=False), "b": nn.Linear(6, 6, bias=False)})
    both = esp.plan(apart, keep={"a.weight": 3, "b.weight": 9})
    with pytest.raises(RequestError, match=r"a\.weight and b\.weight are one tensor"):
        esp.Pruning(model, both, esp.SLR(), advise=False)


# ---- as if cut --------------------------------------------------------------------------------------


def test_nothing_is_cut_or_trained_inside_hard_pruned_and_the_weights_come_back():
    loop = Loop()
    loop.step()
    before = copy.deepcopy(loop.model.state_dict())
    for call in (
        loop.handle.hard_prune_,
        loop.handle.add_gradients_,
        lambda: loop.handle.step(0.0),
    ):
        with (
            loop.handle.hard_pruned(),
            pytest.raises(RequestError, match=r"inside hard_pruned\(\)"),
        ):
            call()
    assert all(torch.equal(w, before[n]) for n, w in loop.model.state_dict().items())
    loop.handle.hard_prune_()
    assert loop.handle.nothing_to_cut()


def test_of_two_threads_in_hard_pruned_the_second_is_refused_and_the_weights_come_back():
    loop = Loop()
    before = copy.deepcopy(loop.model.state_dict())
    inside, leave, said = threading.Event(), threading.Event(), []

    def first():
        with loop.handle.hard_pruned():
            inside.set()
            leave.wait(10)

    def second():
        try:
            with loop.handle.hard_pruned():
                said.append("entered")
        except RequestError as error:
            said.append(str(error))

    one = threading.Thread(target=first)
    one.start()
    assert inside.wait(10)
    two = threading.Thread(target=second)
    two.start()
    two.join(10)
    leave.set()
    one.join(10)
    assert len(said) == 1
    assert "another thread" in said[0]
    assert all(torch.equal(w, before[n]) for n, w in loop.model.state_dict().items())
    with loop.handle.hard_pruned():  # and it is free again
        assert loop.handle.nothing_to_cut()


# ---- states -----------------------------------------------------------------------------------------


def states():
    narrow = Loop(model=network(4)).handle.state_dict()
    dense = esp.Pruning(network(), esp.plan(network(), density=0.5), esp.SLR(), advise=False)
    part = esp.Pruning(
        network(), esp.plan(network(), include=["0.weight"], density=0.25), esp.SLR(), advise=False
    )
    good = Loop().handle.state_dict()
    return {
        "empty": ({}, "a state of nothing"),
        "of a model": (network().state_dict(), "a state of nothing"),
        "of another solver": (Loop(esp.ADMM()).handle.state_dict(), "a state of ADMM cannot"),
        "of another width": (narrow, "is not|in the shape|of density"),
        "of another budget": (dense.state_dict(), r"of density 0\.5 cannot go on to the density 0\.25"),
        "of fewer tensors": (part.state_dict(), r"multipliers of 0\.weight, and"),
        "cut short": (
            {k: v for k, v in Loop().handle.state_dict().items() if k != "stored"},
            "the state lacks stored",
        ),
        "nothing": (None, "not one of such a handle"),
        "of damaged parts": ({**good, "stored": {}}, "not one of such a handle"),
        "without its losses": ({**good, "loss": {}}, "not one of such a handle"),
        "of a negative count": ({**good, "count": -5}, "count is -5"),
        "of damaged updates": ({**good, "updates": [{}]}, "not one of such a handle"),
        "of masks that are none": ({**good, "masks": {"0.weight": 3.0}}, "are 3.0, no tensor"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", states())
def test_an_empty_or_foreign_state_is_refused_and_changes_nothing(kind):
    saved, told = states()[kind]
    loop = Loop()
    for _ in range(3):
        loop.step()
    before = str(loop.handle.state_dict())
    with pytest.raises((RequestError, ShapeError, UnknownNameError), match=told):
        loop.handle.load_state_dict(saved)
    assert str(loop.handle.state_dict()) == before


def test_a_state_of_another_shape_at_the_same_density_is_refused():
    a, b = nn.Linear(4, 8, bias=False), nn.Linear(8, 4, bias=False)
    one, other = (
        esp.Pruning(m, esp.plan(m, density=0.25), esp.SLR(), advise=False) for m in (a, b)
    )
    with pytest.raises(RequestError, match=r"in the shape \(8, 4\), and here it is \(4, 8\)"):
        other.load_state_dict(one.state_dict())


def test_a_state_of_an_earlier_version_is_read():
    loop, again = Loop(), Loop()
    for _ in range(3):
        loop.step()
    saved = loop.handle.state_dict()
    for newer in ("forced", "figures", "density"):
        del saved[newer]
    again.handle.load_state_dict(saved)
    assert again.handle.certificate().steps == 3


@pytest.mark.parametrize("settings", [
    {"solver": "slr"}, {"metric": "fisher"}, {"opening": 0.5}, {"settle": "x"},
])  # fmt: skip
def test_settings_of_another_kind_are_refused_by_name(settings):
    with pytest.raises(RequestError, match=f"^{next(iter(settings))}="):
        Constrained(**settings)


@pytest.mark.parametrize("method", [esp.SLR, "slr", Constrained(solver=esp.SLR)])
def test_what_is_no_method_is_refused(method):
    model = network()
    with pytest.raises(RequestError, match="give a solver, such as"):
        esp.Pruning(model, esp.plan(model, density=0.25), method, advise=False)


@pytest.mark.parametrize("figure", [{"density": "0.1"}, {"density": True}, {"macs": [1]}])
def test_a_figure_that_is_no_number_is_refused(figure):
    with pytest.raises(BudgetError, match="give a number"):
        esp.plan(network(), **figure)


@pytest.mark.parametrize("steps", [0, -1, 2.5, float("nan"), True])
def test_steps_are_a_positive_integer(steps):
    model = network()
    with pytest.raises(RequestError, match="steps="):
        esp.Pruning(model, esp.plan(model, density=0.25), esp.SLR(), steps=steps)


@pytest.mark.parametrize("settings", [
    {"cadence": 0}, {"cadence": float("nan")}, {"settle": float("nan")}, {"settle": -0.1},
    {"settle": float("inf")},
])  # fmt: skip
def test_settings_that_are_no_numbers_in_range_are_refused(settings):
    with pytest.raises(RequestError, match=next(iter(settings))):
        esp.Constrained(**settings)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("make", [
    lambda x: esp.SLR(rho=x), lambda x: esp.SLR(step=x), lambda x: esp.SLR(M=x), lambda x: esp.SLR(r=x),
    lambda x: esp.ADMM(rho=x), lambda x: esp.Penalty(rho=x), lambda x: esp.solvers.RigL(alpha=x),
    lambda x: esp.solvers.GeometricRho(factor=x), lambda x: esp.solvers.StagedRho(factor=x),
    lambda x: esp.solvers.Cubic(until=x), lambda x: L0(dual_lr=x), lambda x: L0(penalty=x),
    lambda x: esp.methods.DualAveraging(l1=x), lambda x: esp.methods.GradualFreezing(fraction=x),
    lambda x: esp.metrics.Fisher(beta=x), lambda x: esp.runs.SearchBits(guard=x),
])  # fmt: skip
def test_no_choice_takes_nan_infinity_or_a_negative_number(make, value):
    with pytest.raises(RequestError, match="give"):
        make(value)
