"""BatchNorm statistics are measured anew, and nothing else changes."""

import pytest
import torch
from torch import nn

from espalier.errors import RequestError
from espalier.training._batchnorm import reestimate_, reestimated


def network():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, momentum=0.3), nn.Dropout(0.9), nn.Flatten(),
        nn.Linear(12, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4, track_running_stats=False),
    )  # fmt: skip
    model[2].eval()
    for _ in range(3):
        model(torch.randn(5, 2, 4, 4))
    return model


def batches(count=4):
    generator = torch.Generator().manual_seed(1)
    return [3 * torch.randn(6, 2, 4, 4, generator=generator) + 1 for _ in range(count)]


def everything(model):
    modes = [module.training for module in model.modules()]
    momenta = [getattr(module, "momentum", None) for module in model.modules()]
    return modes, momenta, {k: v.clone() for k, v in model.state_dict().items()}


def test_statistics_become_the_mean_over_the_batches():
    model = network()
    reestimate_(model, iter(batches()))
    outputs = [model[0](batch).transpose(0, 1).flatten(1) for batch in batches()]
    mean = torch.stack([o.mean(1) for o in outputs]).mean(0)
    var = torch.stack([o.var(1) for o in outputs]).mean(0)
    torch.testing.assert_close(model[1].running_mean, mean.detach())
    torch.testing.assert_close(model[1].running_var, var.detach())


def test_only_statistics_change():
    model = network()
    modes, momenta, state = everything(model)
    reestimate_(model, batches())
    assert everything(model)[:2] == (modes, momenta)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, state[k])}
    assert changed == {
        f"{layer}.{name}"
        for layer in (1, 5)
        for name in ("running_mean", "running_var", "num_batches_tracked")
    }


def test_it_does_not_depend_on_what_was_there_nor_on_dropout():
    one, two = network(), network()
    two[1].running_mean.fill_(1e6)
    one.train()
    two.train()
    torch.manual_seed(5)
    reestimate_(one, batches())
    torch.manual_seed(6)
    reestimate_(two, batches())
    assert torch.equal(one[5].running_var, two[5].running_var)


def test_the_context_restores_every_bit_also_when_it_raises():
    model = network()
    modes, momenta, state = everything(model)

    def used(fail):
        with reestimated(model, batches()):
            assert not torch.equal(model[1].running_mean, state["1.running_mean"])
            if fail:
                raise KeyError

    used(fail=False)
    with pytest.raises(KeyError):
        used(fail=True)
    after = everything(model)
    assert after[:2] == (modes, momenta)
    assert all(torch.equal(v, state[k]) for k, v in after[2].items())


def test_no_input_is_refused_and_changes_nothing():
    model = network()
    state = everything(model)[2]
    with pytest.raises(RequestError, match="at least one batch"):
        reestimate_(model, [])
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_a_batch_the_model_cannot_take_changes_nothing():
    model = network()
    modes, momenta, state = everything(model)
    with pytest.raises(RuntimeError):
        reestimate_(model, [*batches(2), torch.zeros(1)])
    after = everything(model)
    assert after[:2] == (modes, momenta)
    assert all(torch.equal(v, state[k]) for k, v in after[2].items())


def test_a_model_without_batchnorm_is_not_even_run():
    reestimate_(nn.Linear(2, 2), [torch.zeros(999)])
