"""The diagonals are what their definitions say, seen from a handle in a loop."""

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.errors import RequestError


def test_adams_metric_is_the_root_of_its_second_moment():
    w = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.Adam([w], lr=0.0, betas=(0.9, 0.5))
    gauge = esp.metrics.AdamMoment().gauge(nn.Module(), ("w",), optimizer)
    assert gauge.diagonal({"w": w}) is None  # before the first step every direction is alike
    w.grad = torch.tensor([2.0, 4.0])
    optimizer.step()
    torch.testing.assert_close(gauge.diagonal({"w": w})["w"], torch.tensor([2.0, 8.0]).sqrt())


def test_the_fisher_metric_is_the_running_mean_of_squared_gradients():
    gauge = esp.metrics.Fisher(beta=0.75).gauge(nn.Module(), ("w",), None)
    assert gauge.diagonal({}) is None
    gauge.observe({"w": torch.tensor([2.0, 0.0])})
    gauge.observe({"w": torch.tensor([0.0, 4.0])})
    torch.testing.assert_close(gauge.diagonal({})["w"], torch.tensor([3.0, 4.0]))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(3, 2), (5, 3)),
        (nn.Linear(3, 2), (5, 4, 3)),
        (nn.Conv2d(3, 2, 3), (5, 3, 6, 7)),
        (nn.Conv1d(3, 2, 3), (5, 3, 6)),
        (nn.Conv3d(3, 2, 2), (2, 3, 4, 5, 6)),
    ],
)
def test_the_activation_metric_is_the_mean_square_of_each_input_feature(layer, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3
    model = nn.Sequential(layer)
    gauge = esp.metrics.Activations().gauge(model, ("0.weight",), None)
    model(x)
    axis = x.dim() - 1 if isinstance(layer, nn.Linear) else 1
    expected = torch.stack([c.square().mean() for c in x.unbind(axis)])
    h = gauge.diagonal({"0.weight": layer.weight})["0.weight"]
    assert h.shape == layer.weight.shape
    for i in range(3):
        torch.testing.assert_close(h[1, i].flatten()[-1], expected[i])
    gauge.close()
    assert not layer._forward_pre_hooks


def test_a_grouped_filter_sees_its_own_groups_inputs():
    layer = nn.Conv2d(4, 6, 1, groups=2)
    model = nn.Sequential(layer)
    gauge = esp.metrics.Activations().gauge(model, ("0.weight",), None)
    model(torch.arange(1.0, 5.0).reshape(1, 4, 1, 1))
    h = gauge.diagonal({"0.weight": layer.weight})["0.weight"].flatten(1)
    assert h.tolist() == [[1.0, 4.0]] * 3 + [[9.0, 16.0]] * 3


def test_evaluation_batches_do_not_count():
    model = nn.Sequential(nn.Linear(2, 2))
    gauge = esp.metrics.Activations().gauge(model, ("0.weight",), None)
    model.eval()(torch.ones(3, 2))
    assert gauge.diagonal({"0.weight": model[0].weight}) is None


def test_a_parameter_without_inputs_is_refused_by_name():
    with pytest.raises(RequestError, match=r"0\.weight: .* got Embedding"):
        esp.metrics.Activations().gauge(nn.Sequential(nn.Embedding(3, 2)), ("0.weight",), None)


def test_a_metric_changes_what_is_cut():
    """Weight 0 is larger, weight 1 has the larger gradient: the plain norm keeps 0, Fisher keeps 1."""
    kept = {}
    for metric in (esp.metrics.Identity(), esp.metrics.Fisher()):
        model = nn.Sequential(nn.Linear(2, 1, bias=False))
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor([[2.0, 1.0]]))
        plan = esp.plan(model, keep={"0.weight": 1})
        pruning = esp.Pruning(model, plan, esp.Penalty(), metric=metric)
        model[0].weight.grad = torch.tensor([[1.0, 10.0]])
        pruning.add_gradients_()
        with pruning.hard_pruned():
            kept[type(metric).__name__] = model[0].weight.flatten().tolist()
    assert kept == {"Identity": [2.0, 0.0], "Fisher": [0.0, 1.0]}
