"""RDA and proximal SGD against the paper's own recursions, and RDA as a method."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from espalier import planning
from espalier.errors import NonFiniteError, RequestError
from espalier.methods import RDA, SDA, DualAveraging, ProxSGD, Setting
from espalier.methods._rda import draw_

DOUBLE = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def go(optimizer, w, gradients):
    """The iterates, one after each gradient."""
    for g in gradients:
        w.grad = g.clone()
        optimizer.step()
        yield w.detach().clone()


def soft(x, threshold):
    return x.sign() * (x.abs() - threshold).clamp(min=0)


# ---- the optimisers -----------------------------------------------------------------------------


def test_three_steps_of_rda_are_those_by_hand():
    """γ = 1/2, λ = 1: means (3, −1), (2, 1), (2, −1); w = −2√t soft(ḡ, 1)."""
    w = nn.Parameter(torch.tensor([9.0, 9.0], dtype=DOUBLE))
    gradients = torch.tensor([[3.0, -1.0], [1.0, 3.0], [2.0, -5.0]], dtype=DOUBLE)
    first, second, third = go(RDA([w], gamma=0.5, l1=1.0), w, gradients)
    assert first.tolist() == [-4.0, 0.0]
    assert second.tolist() == [-2 * math.sqrt(2), 0.0]
    assert third.tolist() == pytest.approx([-2 * math.sqrt(3), 0.0], abs=1e-15)


def test_without_l1_it_is_the_recursion_of_lemma_1():
    """w_{t+1} = √((t−1)/t) w_t − g_t/(γ√t), whatever w_1 was."""
    w, gamma = nn.Parameter(draw(5)), 0.7
    expected = w.detach().clone()
    gradients = draw(40, 5, seed=1)
    for t, found in enumerate(go(RDA([w], gamma=gamma), w, gradients), start=1):
        expected = math.sqrt((t - 1) / t) * expected - gradients[t - 1] / (gamma * math.sqrt(t))
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_rda_at_lambda_zero_is_sda_and_sda_is_minus_root_t_over_gamma_times_the_mean():
    gamma, gradients = 0.7, draw(20, 5, seed=1)
    one, two = nn.Parameter(draw(5)), nn.Parameter(draw(5, seed=9))  # whatever w_1 was
    first, second = SDA([one], gamma=gamma), RDA([two], gamma=gamma)
    both = zip(go(first, one, gradients), go(second, two, gradients), strict=True)
    for t, (sda, rda) in enumerate(both, start=1):
        assert torch.equal(sda, rda)
        mean = gradients[:t].mean(0)
        torch.testing.assert_close(sda, -math.sqrt(t) / gamma * mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("gamma", "l1"), [(0.2, 0.3), (1.0, 0.1), (0.2, 0.1), (0.2, 0.0)])
def test_a_stage_may_begin_with_the_weights_as_they_are(gamma, l1):
    """soft of the new mean at the new λ, over the new γ, is the weight before; of both kinds of group."""
    w, b = nn.Parameter(draw(200)), nn.Parameter(draw(7, seed=3))
    optimizer = RDA([{"params": [w], "l1": 0.3}, {"params": [b], "centred": True}], gamma=1.0)
    for seed in range(5):
        w.grad, b.grad = draw(200, seed=10 + seed), draw(7, seed=20 + seed)
        optimizer.step()
    before, t = (w.detach().clone(), b.detach().clone()), optimizer.state[w]["t"]
    optimizer.restage_(gamma=gamma, l1=l1)
    mean = optimizer.state[w]["mean"]
    torch.testing.assert_close(-math.sqrt(t) / gamma * soft(mean, l1), before[0])
    assert torch.equal(mean.abs() <= l1, before[0] == 0)
    centre, drift = optimizer.state[b]["centre"], optimizer.state[b]["mean"]
    torch.testing.assert_close(centre - math.sqrt(t) / gamma * drift, before[1])
    assert [group["l1"] for group in optimizer.param_groups] == [l1, 0.0]
    with pytest.raises(RequestError, match="gamma > 0"):
        optimizer.restage_(gamma=0.0, l1=l1)


def test_zeros_of_rda_stay_under_noise_where_those_of_prox_sgd_come_and_go():
    """Springs at 0 with noisy gradients, σ > λ: |ḡ| falls below λ for good; a single |g| > λ frees the other."""
    l1, zeros = 0.5, {}
    for name in ("rda", "prox_sgd"):
        w = nn.Parameter(torch.ones(500, dtype=DOUBLE))
        optimizer = RDA([w], gamma=1.0, l1=l1) if name == "rda" else ProxSGD([w], lr=1.0, l1=l1)
        seen = []
        for t in range(400):
            w.grad = 0.1 * w.detach() + draw(500, seed=100 + t)
            optimizer.step()
            seen.append(w.detach() == 0)
        left = sum(int((a & ~b).sum()) for a, b in itertools.pairwise(seen[200:]))
        zeros[name] = (float(seen[-1].double().mean()), left)
    assert zeros["rda"] == (1.0, 0)
    assert zeros["prox_sgd"][0] < 0.9
    assert zeros["prox_sgd"][1] > 1000


def test_centred_it_is_the_same_recursion_around_the_first_weights():
    """Lemma 1 holds for w − w_1; and the first weights are kept, not the first minibatch's gradient."""
    w, gamma = nn.Parameter(draw(5)), 0.7
    centre, moved = w.detach().clone(), torch.zeros(5, dtype=DOUBLE)
    gradients = draw(40, 5, seed=1)
    for t, found in enumerate(go(RDA([w], gamma=gamma, centred=True), w, gradients), start=1):
        moved = math.sqrt((t - 1) / t) * moved - gradients[t - 1] / (gamma * math.sqrt(t))
        torch.testing.assert_close(found, centre + moved, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("l1", [0.0, 0.3])
def test_begun_at_t0_it_goes_on_from_the_first_weights(l1):
    """A zero gradient leaves soft of a mean that is t_0/(t_0 + 1) of the one whose iterate is w_1."""
    w, gamma, t = nn.Parameter(draw(6)), 0.7, 100
    first = w.detach().clone()
    mean = -gamma / math.sqrt(t) * first - l1 * first.sign()
    torch.testing.assert_close(-math.sqrt(t) / gamma * soft(mean, l1), first)
    (found,) = go(RDA([w], gamma=gamma, l1=l1, start=t), w, [torch.zeros(6, dtype=DOUBLE)])
    torch.testing.assert_close(found, -math.sqrt(t + 1) / gamma * soft(mean * t / (t + 1), l1))


def test_a_weight_is_zero_iff_its_mean_gradient_is_at_most_lambda():
    """Eq. 18, also at equality and in float32, from the first step on; the zeros are +0.0."""
    grid = torch.arange(-8, 9, dtype=torch.float32) / 8  # equality at ±1/2 is exact
    w = nn.Parameter(torch.ones(17))
    for found in go(RDA([w], gamma=0.3, l1=0.5), w, [grid, grid.flip(0) * 0 + grid, grid]):
        assert torch.equal(found == 0, grid.abs() <= 0.5)
        assert not found[found == 0].signbit().any()


def test_prox_sgd_is_zero_iff_the_weight_over_its_step_less_the_gradient_is_at_most_lambda():
    """Eq. 19."""
    w, l1, lr = nn.Parameter(draw(200)), 0.8, 0.6
    gradients = draw(4, 200, seed=1)
    optimizer = ProxSGD([w], lr=lr, l1=l1)
    before = w.detach().clone()
    for t, found in enumerate(go(optimizer, w, gradients), start=1):
        alpha = lr / math.sqrt(t)
        assert torch.equal(found == 0, (before / alpha - gradients[t - 1]).abs() <= l1)
        assert 0 < int((found == 0).sum()) < 200
        assert not found[found == 0].signbit().any()
        before = found


def test_steps_of_prox_sgd_are_those_by_hand():
    """α = 1/2, 1/2/√4 at t = 4; and 1/2 throughout without annealing."""
    w = nn.Parameter(torch.tensor([1.0, -1.0, 0.25], dtype=DOUBLE))
    (found,) = go(ProxSGD([w], lr=0.5, l1=1.0), w, torch.tensor([[-1.0, 1.0, 1.0]], dtype=DOUBLE))
    assert found.tolist() == [1.0, -1.0, 0.0]
    zeros = torch.zeros(4, 1, dtype=DOUBLE)
    for anneal, lost in ((True, sum(0.5 / math.sqrt(t) for t in (1, 2, 3, 4))), (False, 2.0)):
        w = nn.Parameter(torch.tensor([3.0], dtype=DOUBLE))
        *_, last = go(ProxSGD([w], lr=0.5, l1=1.0, anneal=anneal), w, zeros)
        assert last.item() == pytest.approx(3.0 - lost, abs=1e-14)


def lasso():
    """min ½‖Aw − b‖²/n + λ‖w‖₁ by coordinate descent to the last bit but a few."""
    a, truth, l1 = draw(40, 8, seed=3), torch.zeros(8, dtype=DOUBLE), 0.3
    truth[:3] = torch.tensor([2.0, -1.5, 1.0])
    b = a @ truth + 0.1 * draw(40, seed=4)
    w = torch.zeros(8, dtype=DOUBLE)
    for _ in range(500):
        for j in range(8):
            rest = b - a @ w + a[:, j] * w[j]
            w[j] = soft(a[:, j] @ rest / 40, l1) / (a[:, j] @ a[:, j] / 40)
    return a, b, l1, w


@pytest.mark.parametrize("kind", ["rda", "prox_sgd"])
def test_both_find_the_optimum_of_a_lasso(kind):
    """The zeros of coordinate descent exactly, its values nearly: RDA's regret falls as 1/√t."""
    a, b, l1, optimum = lasso()
    assert 0 < int((optimum == 0).sum()) < 8
    w = nn.Parameter(torch.ones(8, dtype=DOUBLE))
    optimizer = (
        RDA([w], gamma=0.3, l1=l1) if kind == "rda" else ProxSGD([w], lr=0.3, l1=l1, anneal=False)
    )
    average = torch.zeros_like(optimum)
    for t in range(20_000 if kind == "rda" else 500):
        w.grad = a.T @ (a @ w.detach() - b) / 40
        optimizer.step()
        average += (w.detach() - average) / (t + 1)
    found = average if kind == "rda" else w.detach()
    tolerance = 2e-2 if kind == "rda" else 1e-10
    torch.testing.assert_close(found, optimum, rtol=0, atol=tolerance)
    assert torch.equal(w.detach() == 0, optimum == 0)


def test_a_parameter_without_a_gradient_is_left_alone_and_a_closure_is_called():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = RDA([used, unused], gamma=1.0, l1=0.1)

    def closure():
        optimizer.zero_grad()
        loss = used.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert unused.tolist() == [1.0, 1.0]
    assert used.tolist() == pytest.approx([-0.9, -0.9])


def test_a_schedule_of_the_learning_rate_is_refused_and_a_constant_one_is_not():
    for factor, refused in ((1.0, False), (0.5, True)):
        w = nn.Parameter(torch.ones(2))
        optimizer = RDA([w], gamma=4.0)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step, f=factor: f**step)
        w.grad = torch.ones(2)
        optimizer.step()
        scheduler.step()
        if refused:
            with pytest.raises(RequestError, match=r"schedule set lr=0\.125"):
                optimizer.step()
        else:
            optimizer.step()


@pytest.mark.parametrize(
    "wrong", [{"l1": -1.0}, {"gamma": 0.0}, {"l1": 0.1, "centred": True}, {"l1": math.nan}]
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(RequestError, match=r"give|set one"):
        RDA([nn.Parameter(torch.ones(1))], **wrong)


def test_half_precision_is_refused():
    with pytest.raises(RequestError, match="float32"):
        RDA([nn.Parameter(torch.ones(1, dtype=torch.bfloat16))])


# ---- the initialisation -------------------------------------------------------------------------


def test_the_first_weights_are_uniform_within_both_readings_of_formula_29():
    """Var = s²/k with the √3, s²/(3k) without; k = in_channels · width² for a convolution."""
    weight = torch.empty(400, 3, 5, 5, dtype=DOUBLE)
    for he, bound in ((True, 2 * math.sqrt(3 / 75)), (False, 2 / math.sqrt(75))):
        draw_(weight, 2.0, torch.Generator().manual_seed(0), he=he)
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.999 * bound
        assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.02)


# ---- the method ---------------------------------------------------------------------------------


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.norm, self.b = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(torch.relu(self.norm(self.a(x))))


def attach(model=None, density=0.25, setting=None, **settings):
    model = model or Small()
    plan = planning.plan(model, density=density)
    setting = setting or Setting(optimizer=refuse, lr=0.5, steps_per_epoch=4)
    return model, DualAveraging(**settings).attach(model, plan, setting)


def refuse(_):
    raise AssertionError("the stage's rule is not to be used")


def train(model, handle, first, steps):
    for step in range(first, first + steps):
        x = draw(16, 6, seed=step).float()
        handle.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long())
        loss.backward()
        handle.add_gradients_()
        handle.optimizer.step()
        handle.step(loss)


def test_only_what_the_constraint_names_is_thresholded_and_the_rest_keeps_its_first_values():
    model, handle = attach(l1=1e3)
    train(model, handle, 0, 1)
    assert not model.a.weight.any()
    assert not model.b.weight.any()
    assert model.a.bias.all()
    assert model.norm.weight.all()
    model, handle = attach(l1=1e3)
    before, gradients = model.norm.weight.detach().clone(), []
    model.norm.weight.register_hook(gradients.append)
    train(model, handle, 0, 1)
    torch.testing.assert_close(model.norm.weight.detach(), before - 0.5 * gradients[0])


def test_zeros_are_exact_and_a_cut_changes_nothing():
    model, handle = attach(l1=0.01, gamma=0.5)
    train(model, handle, 0, 20)
    weights = {n: model.get_parameter(n).detach().clone() for n in handle.constraint.names}
    zeros = sum(int((w == 0).sum()) for w in weights.values())
    assert 0 < zeros < 72
    assert handle.nothing_to_cut()
    with handle.hard_pruned():
        assert all(torch.equal(model.get_parameter(n), w) for n, w in weights.items())
    handle.hard_prune_()
    train(model, handle, 20, 10)
    assert all(not model.get_parameter(n)[w == 0].any() for n, w in weights.items())
    assert any(not torch.equal(model.get_parameter(n), w) for n, w in weights.items())


def test_onto_the_plan_the_cut_meets_the_budget_and_violation_is_what_it_takes():
    model, handle = attach(l1=1e-4, onto_plan=True, report_every=5, density=0.25)
    train(model, handle, 0, 5)
    assert not handle.nothing_to_cut()
    w = {n: model.get_parameter(n).detach() for n in handle.constraint.names}
    z = handle.constraint.project(w)
    for name, layer in handle.updates[-1].layers.items():
        assert layer.violation == pytest.approx(float((w[name] - z[name]).norm()), rel=1e-6)
    handle.hard_prune_()
    train(model, handle, 5, 5)
    kept = sum(int(model.get_parameter(n).count_nonzero()) for n in handle.constraint.names)
    assert kept == 18
    assert handle.nothing_to_cut()


def test_updates_come_as_often_as_asked_and_without_violation():
    model, handle = attach(l1=1e-3, report_every=5)
    train(model, handle, 0, 12)
    assert [u.step for u in handle.updates] == [5, 10]
    assert all(u.violation == 0 for u in handle.updates)
    verdict = handle.certificate()
    assert verdict.outcome.value == "stalled"  # λ leaves more than the plan has
    assert "held" not in verdict.sentence


def test_stages_begin_with_their_epoch():
    """Four steps an epoch: λ and γ of the next step."""
    model, handle = attach(l1=((0, 0.1), (1, 0.2), (3, 0.0)), gamma=((0, 2.0), (2, 1.0)))
    seen = []
    for step in range(14):
        seen.append(
            (handle.optimizer.param_groups[0]["l1"], handle.optimizer.param_groups[1]["gamma"])
        )
        train(model, handle, step, 1)
    assert seen == [(0.1, 2.0)] * 4 + [(0.2, 2.0)] * 4 + [(0.2, 1.0)] * 4 + [(0.0, 1.0)] * 2
    assert all(group["l1"] == 0.0 for group in handle.optimizer.param_groups[1:])


def test_the_stages_of_tables_9_and_10_are_a_schedule_of_gamma():
    """Three stages of 100 epochs: CIFAR-10 γ = 1, 0.2, 0.05; CIFAR-100 γ = 0.28, 0.21, 0.08."""
    for gammas in ((1.0, 0.2, 0.05), (0.28, 0.21, 0.08)):
        setting = Setting(optimizer=refuse, lr=0.5, steps_per_epoch=1)
        stages = tuple(zip((0, 100, 200), gammas, strict=True))
        _, handle = attach(l1=1e-6, gamma=stages, setting=setting)
        seen = {}
        for epoch in range(300):
            seen[epoch] = handle.optimizer.param_groups[0]["gamma"]
            handle.step(0.0)
        assert [seen[e] for e in (0, 99, 100, 199, 200, 299)] == [g for g in gammas for _ in (0, 1)]


def test_a_stage_multiplies_the_weights_unless_it_keeps_them():
    """γ → γ/4: in the next step, whose gradient is 0, all weights are 4 √(t/(t−1)) (t−1)/t times as large."""
    for keeps in (False, True):
        model, handle = attach(l1=0.0, gamma=((0, 2.0), (1, 0.5)), keeps_weights=keeps)
        train(model, handle, 0, 4)
        before = model.a.weight.detach().clone()
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        handle.optimizer.step()
        factor = math.sqrt(5 / 4) * 4 / 5
        wanted = before * (factor if keeps else 4 * factor)
        torch.testing.assert_close(model.a.weight.detach(), wanted)


# ---- adaptive sparse retraining -----------------------------------------------------------------


def zeros_of(model, handle):
    return {n: model.get_parameter(n).detach() == 0 for n in handle.constraint.names}


def test_once_retraining_has_begun_what_is_zero_stays_so_and_t_and_the_mean_go_on():
    settings = {"l1": ((0, 0.02), (2, 0.0)), "gamma": 0.5}
    model, handle = attach(retrain_from=2, **settings)
    free, other = attach(**settings)
    train(model, handle, 0, 8)
    train(free, other, 0, 8)
    at = zeros_of(model, handle)
    assert 0 < sum(int(z.sum()) for z in at.values()) < 72
    assert all(
        torch.equal(at[n], z) for n, z in zeros_of(free, other).items()
    )  # the same until then
    assert handle.retraining
    train(model, handle, 8, 8)
    train(free, other, 8, 8)
    after = zeros_of(model, handle)
    assert all((after[n] | ~at[n]).all() for n in at)  # with λ = 0 nothing but the mask holds them
    assert sum(int(z.sum()) for z in zeros_of(free, other).values()) == 0
    assert handle.optimizer.state[model.a.weight]["t"] == 16
    assert any(model.get_parameter(n).any() for n in at)


def test_retraining_is_adaptive_what_becomes_zero_later_stays_so_too():
    model, handle = attach(retrain_from=0, l1=0.01, gamma=0.5)
    count = [0]
    for step in range(40):
        held = zeros_of(model, handle)
        train(model, handle, step, 1)
        now = zeros_of(model, handle)
        assert all((now[n] | ~held[n]).all() for n in now)
        count.append(sum(int(z.sum()) for z in now.values()))
    assert count == sorted(count)
    assert 0 < count[1] < count[-1]


def test_gamma_is_one_over_the_learning_rate_unless_given():
    assert attach()[1].optimizer.param_groups[0]["gamma"] == 2.0
    assert attach(gamma=0.3)[1].optimizer.param_groups[0]["gamma"] == 0.3


def test_first_weights_are_drawn_from_the_seed_where_asked():
    def weights(seed, scale):
        setting = Setting(optimizer=refuse, lr=0.5, seed=seed)
        model, _ = attach(scale=scale, setting=setting)
        return model.a.weight.detach().clone(), model.a.bias.detach().clone()

    assert torch.equal(weights(1, 2.0)[0], weights(1, 2.0)[0])
    assert not torch.equal(weights(1, 2.0)[0], weights(2, 2.0)[0])
    assert torch.equal(weights(1, None)[0], Small().a.weight)
    assert torch.equal(weights(1, 2.0)[1], Small().a.bias)


def test_zeros_of_earlier_stages_stay():
    model = Small()
    mask = torch.zeros_like(model.a.weight, dtype=torch.bool)
    mask[:4] = True
    setting = Setting(optimizer=refuse, lr=0.5, held={"a.weight": mask})
    model, handle = attach(model, setting=setting, l1=0.0, scale=1.0)
    assert not model.a.weight[4:].any()
    train(model, handle, 0, 3)
    assert not model.a.weight[4:].any()
    assert model.a.weight[:4].all()


def test_resume_is_exact_to_the_bit():
    settings = {"l1": ((0, 1e-3), (2, 5e-3)), "gamma": 0.5, "report_every": 4, "retrain_from": 1}
    model, handle = attach(**settings)
    train(model, handle, 0, 6)
    saved = copy.deepcopy((model.state_dict(), handle.optimizer.state_dict(), handle.state_dict()))
    train(model, handle, 6, 9)
    again, other = attach(**settings)
    again.load_state_dict(saved[0])
    other.optimizer.load_state_dict(saved[1])
    other.load_state_dict(saved[2])
    train(again, other, 6, 9)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert handle.updates == other.updates


def test_what_cannot_be_is_refused():
    for wrong in (
        {"l1": -1.0}, {"l1": ((1, 0.1),)}, {"l1": ()}, {"l1": ((0, 0.1), (0, 0.2))}, {"gamma": 0.0},
        {"scale": 0.0}, {"report_every": 0},
    ):  # fmt: skip
        with pytest.raises(RequestError, match="give"):
            DualAveraging(**wrong)
    with pytest.raises(RequestError, match="steps_per_epoch"):
        attach(l1=((0, 0.1), (1, 0.2)), setting=Setting(optimizer=refuse))
    _, handle = attach(report_every=1)
    with pytest.raises(NonFiniteError, match="raise gamma"):
        handle.step(math.nan)
