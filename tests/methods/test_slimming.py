"""Network slimming: the price on γ, and whose channels stay."""

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.errors import RequestError
from espalier.methods import Setting, Slimming
from espalier.sets import Filters
from espalier.training import Training
from training.problem import Points, network, prune_run, stopped_at, timeless, weights_of

GAMMA = {"1": [3.0, -5.0, 0.1, 0.2], "4": [1.0, -0.3, 0.05]}


def small():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3),
        nn.ReLU(), nn.Flatten(), nn.Linear(12, 2),
    )  # fmt: skip
    for name, values in GAMMA.items():
        model.get_parameter(f"{name}.weight").data = torch.tensor(values)
    return model


def plan_of(model, keep=(2, 2)):
    x = torch.randn(2, 1, 6, 6)
    include = {"0.weight": keep[0], "3.weight": keep[1]}
    return esp.plan(model, set=Filters(), keep=include, example_input=x)


def attached(method, model=None, plan=None, lr=0.1):
    model = model or small()
    setting = Setting(optimizer=lambda p: torch.optim.SGD(p, lr=lr))
    return model, method.attach(model, plan or plan_of(model), setting)


def left(model):
    return [[bool(x) for x in model.get_parameter(f"{n}.weight").detach()] for n in GAMMA]


def test_the_gradient_of_the_price_is_its_sign():
    model, handle = attached(Slimming(l1=0.25))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    handle.add_gradients_()
    assert model[1].weight.grad.tolist() == [1.25, 0.75, 1.25, 1.25]
    for name in ("0.weight", "1.bias", "7.weight"):
        assert bool((model.get_parameter(name).grad == 1).all())


def test_the_plans_counts_of_largest_scales_stay_in_each_layer():
    model, handle = attached(Slimming(shared=False))
    handle.hard_prune_()
    assert left(model) == [[True, True, False, False], [True, True, False]]
    assert plan_of(small()).contains(dict(model.named_parameters()))


def test_shared_the_largest_scales_of_all_layers_stay():
    """|γ| of 5, 3, 1, 0.3 are the four largest; at (1, 2) the three largest leave one in the second."""
    model, handle = attached(Slimming())
    handle.hard_prune_()
    assert left(model) == [[True, True, False, False], [True, True, False]]
    model, handle = attached(Slimming(), plan=plan_of(small(), (1, 2)))
    handle.hard_prune_()
    assert left(model) == [[True, True, False, False], [True, False, False]]


def test_shared_or_not_every_layer_keeps_one():
    model = small()
    model[4].weight.data *= 1e-3
    model, handle = attached(Slimming(), model, plan_of(model, (2, 1)))
    handle.hard_prune_()
    assert left(model) == [[True, True, False, False], [True, False, False]]


def test_a_channel_takes_all_that_runs_through_it_and_compaction_proves_it():
    model, handle = attached(Slimming(shared=False))
    handle.hard_prune_()
    assert handle.nothing_to_cut()
    gone = [model[0].weight[2:], model[0].bias[2:], model[1].bias[2:], model[3].weight[:, 2:]]
    assert not any(bool(p.any()) for p in [*gone, model[7].weight[:, 8:]])
    compact = esp.compact(model.eval(), torch.randn(2, 1, 6, 6))
    assert compact.model[0].weight.shape == (2, 1, 3, 3)
    assert compact.model[3].weight.shape == (2, 2, 3, 3)


def test_it_reaches_the_known_optimum_of_the_price():
    """min ½(γ − a)² + λ|γ| over γ alone is soft(a, λ); by sub-gradient steps to within one of them."""
    model = small()
    a = torch.tensor([3.0, -5.0, 0.1, 0.2])
    model[1].weight.data.normal_(generator=torch.Generator().manual_seed(0))
    _, handle = attached(Slimming(l1=0.5), model, lr=0.01)
    for _ in range(1500):
        model.zero_grad()
        loss = 0.5 * (model[1].weight - a).square().sum() + 0.0 * sum(
            p.sum() for p in model.parameters()
        )
        loss.backward()
        handle.add_gradients_()
        handle.optimizer.step()
        handle.step(loss)
    torch.testing.assert_close(
        model[1].weight.detach(), nn.functional.softshrink(a, 0.5), rtol=0, atol=0.01
    )


def test_killed_in_the_middle_it_ends_with_the_same_bytes(tmp_path, monkeypatch):
    def plan(model):
        x = Points().x[:4]
        return esp.plan(model, set=Filters(), keep={"0.weight": 5}, example_input=x)

    def run(name, **more):
        torch.manual_seed(0)
        return prune_run(
            network(), Points(), plan, Slimming(l1=0.01), folder=tmp_path / name,
            prune=Training(epochs=8), retrain=Training(epochs=1), checkpoint_every=4, **more,
        )  # fmt: skip

    whole = run("whole")
    with stopped_at(monkeypatch, "espalier.training._loop.train_step", 54):
        run("half")
    again = run("half", resume=True)
    assert weights_of(again.model) == weights_of(whole.model)
    assert timeless(again.result) == timeless(whole.result)
    assert int(whole.model[0].weight.any(1).sum()) == 5


def test_what_has_no_scales_or_no_channels_is_refused():
    model = small()
    with pytest.raises(RequestError, match="slimming takes whole channels out"):
        attached(Slimming(), model, esp.plan(model, density=0.5))
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    plan = esp.plan(
        plain, set=Filters(), keep={"0.weight": 2}, example_input=torch.randn(2, 1, 6, 6)
    )
    with pytest.raises(RequestError, match=r"0\.weight: no BatchNorm scales its channels"):
        attached(Slimming(), plain, plan)
