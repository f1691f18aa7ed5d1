"""What every handle keeps to, whatever its method: cutting, holding, and being saved."""

import copy

import pytest
import torch
from torch import nn

import espalier as esp
from espalier._ground.tree import load_tree, save_tree
from espalier.methods import SSL, Keeping, Lasso
from espalier.solvers import SLR, Rounds

STEPS = 24
OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
}


def pruning(method, density=0.25):
    def make(model, optimizer, held):
        plan = esp.plan(model, density=density)
        return esp.Pruning(model, plan, method, optimizer, steps=STEPS, held=held)

    return make


def slr(**settings):
    return esp.Constrained(solver=SLR(), cadence=3, **settings)


def keeping(model, optimizer, held):
    return Keeping(model, esp.plan(model, density=0.25), held, optimizer)


def freezing(model, optimizer, held):
    plan = esp.quantise_plan(model, 2)
    return esp.methods.Freezing(model, plan, optimizer, steps=STEPS, rounds=4, held=held)


HANDLES = {
    "slr": pruning(slr(settle=None)),
    "slr, settled": pruning(slr(settle=0.25, opening=Rounds(rounds=2, until=0.2))),
    "slr, decoupled": pruning(slr(settle=None, decoupled=True)),
    "slr, wider than what is held": pruning(slr(settle=None), density=0.9),
    "admm": pruning(esp.Constrained(solver=esp.ADMM(), cadence=3, settle=None)),
    "penalty": pruning(esp.Constrained(solver=esp.Penalty(), cadence=3, settle=None)),
    "gradual": pruning(esp.Constrained(solver=esp.Gradual(), cadence=3)),
    "rigl": pruning(esp.Constrained(solver=esp.solvers.RigL(), cadence=3)),
    "one shot": pruning(esp.OneShot()),
    "one shot of channels": lambda model, optimizer, held: esp.Pruning(
        model,
        esp.plan(model, set=esp.sets.Filters(), include=["0.weight"], density=0.5),
        esp.OneShot(),
        optimizer,
        held=held,
    ),
    "on levels": lambda model, optimizer, held: esp.Pruning(
        model, esp.quantise_plan(model, 2), slr(settle=None), optimizer, steps=STEPS, held=held
    ),
    "ssl, proximal": lambda model, optimizer, held: Lasso(
        model, esp.plan(model, density=0.25), SSL(filters=0.5, shapes=0.5), optimizer, held
    ),
    "ssl, sub-gradient": lambda model, optimizer, held: Lasso(
        model,
        esp.plan(model, density=0.25),
        SSL(filters=0.1, proximal=False, threshold=0.4, onto_plan=True),
        optimizer,
        held,
    ),
    "freezing": freezing,
    "keeping": keeping,
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 2))


def begin(make, optimizer="adamw"):
    """A model of which half of one bias and a quarter of one tensor are zero, and held."""
    model = network()
    generator = torch.Generator().manual_seed(1)
    held = {
        "0.bias": torch.arange(8) % 2 == 0,
        "0.weight": torch.rand(8, 12, generator=generator) > 0.25,
    }
    with torch.no_grad():
        for name, mask in held.items():
            model.get_parameter(name).mul_(mask)
    moves = OPTIMIZERS[optimizer](model.parameters())
    return model, moves, make(model, moves, held), held


def train(model, optimizer, handle, count, begin=0):
    for step in range(begin, begin + count):
        x = torch.randn(16, 12, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss = (handle.trained()(x) - x[:, :2].sign()).square().mean()
        loss.backward()
        handle.add_gradients_()
        optimizer.step()
        handle.step(loss)


def bytes_of(model):
    return {name: p.detach().numpy().tobytes() for name, p in model.named_parameters()}


@pytest.mark.parametrize("kind", HANDLES)
@pytest.mark.parametrize("steps", [0, 7, STEPS])
def test_as_if_cut_now_and_back_to_the_bit(kind, steps):
    model, optimizer, handle, _ = begin(HANDLES[kind])
    train(model, optimizer, handle, steps)
    with torch.no_grad():
        model.get_parameter("2.bias")[0] = -0.0
    before, kept = bytes_of(model), copy.deepcopy(handle.state_dict())
    inside = {}

    def evaluate():
        with handle.hard_pruned():
            assert handle.nothing_to_cut()
            inside.update(bytes_of(model))
            raise ZeroDivisionError  # a failing evaluation leaves the weights as they were, too

    with pytest.raises(ZeroDivisionError):
        evaluate()
    assert bytes_of(model) == before
    assert str(handle.state_dict()) == str(kept)
    handle.hard_prune_()
    assert bytes_of(model) == inside


@pytest.mark.parametrize("kind", HANDLES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_after_the_cut_what_is_not_free_keeps_its_bytes_through_any_optimiser(kind, optimizer):
    model, optimizer, handle, _ = begin(HANDLES[kind], optimizer)
    train(model, optimizer, handle, 10)  # so that there is momentum to move the zeros
    handle.hard_prune_()
    free = {name: mask.clone() for name, mask in handle.target().free.items()}
    then = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, optimizer, handle, 4, begin=10)
    for name, mask in free.items():
        now = model.get_parameter(name).detach()
        assert now[~mask].numpy().tobytes() == then[name][~mask].numpy().tobytes(), name
        if kind != "freezing" and mask.any():
            assert not torch.equal(now[mask], then[name][mask])  # the others train on
    assert not torch.equal(model.get_parameter("2.bias"), then["2.bias"])


@pytest.mark.parametrize("kind", HANDLES)
def test_after_the_cut_the_target_is_what_is_there(kind):
    model, optimizer, handle, _ = begin(HANDLES[kind])
    train(model, optimizer, handle, 10)
    handle.hard_prune_()
    first, second = handle.target(), None
    for name, value in first.values.items():
        assert torch.equal(value, model.get_parameter(name))
    assert handle.nothing_to_cut()
    handle.hard_prune_()
    second = handle.target()
    assert all(torch.equal(first.free[name], second.free[name]) for name in first.free)
    assert all(torch.equal(first.free[name], mask) for name, mask in handle.masks.items())


@pytest.mark.parametrize("kind", HANDLES)
def test_what_earlier_stages_hold_stays_zero_before_and_after_the_cut(kind):
    model, optimizer, handle, held = begin(HANDLES[kind])
    for step in range(STEPS + 4):
        if step == STEPS:
            handle.hard_prune_()
        train(model, optimizer, handle, 1, begin=step)
        for name, mask in held.items():
            assert not model.get_parameter(name)[~mask].any(), (step, name)
    assert bool(model.get_parameter("0.bias").any())


@pytest.mark.parametrize("kind", HANDLES)
@pytest.mark.parametrize("at", [0, 5, 15, "cut"])
def test_saved_to_a_file_and_read_back_it_goes_on_to_the_same_bytes(tmp_path, kind, at):
    steps = 12 if at == "cut" else at

    def first_part():
        parts = begin(HANDLES[kind])
        train(*parts[:3], steps)
        if at == "cut":
            parts[2].hard_prune_()
        return parts

    def second_part(parts):
        train(*parts[:3], STEPS - steps, begin=steps)
        parts[2].hard_prune_()
        return bytes_of(parts[0]), [update.event() for update in parts[2].updates]

    straight = second_part(first_part())
    half = first_part()
    save_tree(tmp_path / "half.safetensors", [part.state_dict() for part in half[:3]])
    again = begin(HANDLES[kind])
    for part, saved in zip(again[:3], load_tree(tmp_path / "half.safetensors"), strict=True):
        part.load_state_dict(saved)
    assert second_part(again) == straight


def test_a_state_of_another_method_is_refused():
    saved = begin(freezing)[2].state_dict()
    with pytest.raises(
        esp.errors.RequestError, match="a state of Freezing cannot go on as Keeping"
    ):
        begin(keeping)[2].load_state_dict(saved)
