"""Held zeros are exactly zero after every step, whatever moves the weights."""

import pytest
import torch
from torch import nn

from espalier.errors import ShapeError, UnknownNameError
from espalier.methods._holding import MaskHolder, hold_

OPTIMIZERS = {
    "sgd momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd weight decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "adam weight decay": lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9),
}


def trained(optimizer_name: str, dtype=torch.float32, holding: bool = True):
    """A small net with momentum already built up; yields it after each of 20 steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)).to(dtype)
    x, y = torch.randn(32, 8, dtype=dtype), torch.randn(32, 3, dtype=dtype)
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())

    def step():
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()

    for _ in range(5):
        step()
    masks = {name: torch.rand(p.shape) < 0.4 for name, p in model.named_parameters() if p.ndim == 2}
    holder = MaskHolder(model.named_parameters(), masks, optimizer)
    if not holding:
        holder.remove()
    return model, masks, step, holder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masked_weights_are_exactly_zero_after_every_step(name, dtype):
    model, masks, step, _ = trained(name, dtype)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for _ in range(20):
        step()
        for n, mask in masks.items():
            outside = model.get_parameter(n)[~mask]
            assert torch.equal(outside, torch.zeros_like(outside))
            assert not outside.signbit().any()
    for n, mask in masks.items():
        assert (model.get_parameter(n)[mask] != before[n][mask]).any()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_zeros_move_when_nothing_holds_them(name):
    """The claim above is not empty: the same training without the holder fills the zeros."""
    model, masks, step, _ = trained(name, holding=False)
    step()
    assert all((model.get_parameter(n)[~m] != 0).any() for n, m in masks.items())


def test_a_context_holds_inside_and_not_after():
    model, masks, step, holder = trained("adam")
    with holder:
        step()
        assert all((model.get_parameter(n)[~m] == 0).all() for n, m in masks.items())
    step()
    assert any((model.get_parameter(n)[~m] != 0).any() for n, m in masks.items())
    holder.remove()


def test_hold_changes_nothing_inside_the_mask():
    w = torch.tensor([1.5, -2.0, 3.0, -0.0])
    hold_({"w": w}, {"w": torch.tensor([True, False, True, True])})
    assert w.tolist() == [1.5, 0.0, 3.0, 0.0]
    assert not w.signbit().any()


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_masks_of_bool_and_of_the_parameters_dtype_do_the_same(dtype):
    w = nn.Parameter(torch.arange(1.0, 7.0).reshape(2, 3).T)
    hold_({"w": w}, {"w": torch.tensor([[1, 0], [0, 1], [1, 1]]).to(dtype)})
    assert w.tolist() == [[1, 0], [0, 5], [3, 6]]
    assert w.requires_grad
    assert w.grad_fn is None


def test_no_masks_touch_nothing():
    w = torch.ones(2)
    hold_({"w": w}, {})
    assert w.tolist() == [1, 1]


def test_a_diverged_weight_is_not_hidden_by_its_mask():
    w = torch.tensor([float("inf"), 1.0])
    hold_({"w": w}, {"w": torch.tensor([False, True])})
    assert not w.isfinite().all()


def test_a_mask_for_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'conv1.weigth'.*did you mean 'conv1.weight'"):
        hold_({"conv1.weight": torch.ones(2)}, {"conv1.weigth": torch.ones(2)})


def test_a_mask_that_would_broadcast_is_refused():
    with pytest.raises(ShapeError, match=r"w: a mask of shape \(1,\) .* shape \(3,\)"):
        hold_({"w": torch.ones(3)}, {"w": torch.ones(1, dtype=torch.bool)})
