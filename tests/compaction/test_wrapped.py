"""Wrappers are left off, and weights that are computed become ordinary ones before they are cut."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import espalier as esp
from espalier.compaction import apply_edits, compact
from espalier.errors import RequestError
from espalier.graph import channel_graph


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()


def masked(model):
    prune.ln_structured(model[0], "weight", 0.5, 2, 0)
    prune.custom_from_mask(model[0], "bias", model[0].weight_mask[:, 0, 0, 0])
    return model


def computing(how, model):
    how(model[0])
    return model


COMPUTED = {
    "prune": lambda: masked(net()),
    "spectral_norm": lambda: computing(spectral_norm, net()),
    "weight_norm": lambda: computing(weight_norm, net()),
    "spectral parametrization": lambda: computing(parametrizations.spectral_norm, net()),
    "weight parametrization": lambda: computing(parametrizations.weight_norm, net()),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("how", COMPUTED)
def test_a_computed_weight_is_cut_as_an_ordinary_one(how):
    model, x = COMPUTED[how](), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        model[2].weight[:, :4] = 0  # nothing reads what is not masked, either
    before, names = model(x).detach(), set(model.state_dict())
    small = compact(model, x)
    assert small.model[0].out_channels <= 4
    assert type(small.model[0].weight) is nn.Parameter
    assert torch.allclose(small.model(x), before, atol=1e-5)
    assert set(model.state_dict()) == names  # the caller's computes its weight as before
    assert torch.allclose(model(x), before)
    again = apply_edits(COMPUTED[how](), small.edits)
    assert again[0].weight.shape == small.model[0].weight.shape


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
@pytest.mark.parametrize("how", COMPUTED)
def test_a_plan_refuses_a_computed_weight_by_name(how):
    with pytest.raises(RequestError, match=r"0\.weight: computed by .*\(?torch\.nn\.utils"):
        esp.plan(COMPUTED[how](), density=0.05)
    made = esp.plan(COMPUTED[how](), density=0.05, exclude=["0.*"])
    assert list(made.entries) == ["2.weight"]


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapped_model_is_planned_and_compacted_as_itself(wrap):
    model, x = net(), torch.randn(2, 3, 8, 8)
    made = esp.plan(wrap(model), set=esp.sets.Filters(), density=0.5, example_input=x)
    assert "0.weight" in made.entries
    with torch.no_grad():
        model[0].weight[:4], model[0].bias[:4] = 0, 0
    assert compact(wrap(model), x).model[0].out_channels == 4


def test_filters_of_the_last_layer_are_not_taken_unasked():
    model = esp.models.build("lenet5")
    with pytest.raises(RequestError, match="the model's own outputs"):
        esp.plan(model, density=0.3, set=esp.sets.Filters())
    last = list(esp.plan(model, density=0.3).entries)[-1]
    rest = esp.plan(model, density=0.3, set=esp.sets.Filters(), exclude=[last])
    assert last not in rest.entries
    asked = esp.plan(model, density=0.3, set=esp.sets.Filters(), include=["*"])
    assert last in asked.entries


def test_a_graph_of_another_model_is_refused():
    graph = channel_graph(
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)), torch.zeros(2, 3)
    )
    with pytest.raises(RequestError, match="another model"):
        compact(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.zeros(2, 3), graph=graph)
