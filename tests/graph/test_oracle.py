"""Torch-Pruning's groups on public families, as a second opinion."""

import warnings

import pytest
import torch
from torch import nn

from espalier.graph import channel_graph

tp = pytest.importorskip("torch_pruning")


def theirs(model, example, layer):
    """Torch-Pruning: (weight name, axis) -> indices that go with output channel 0 of a layer."""
    names = {id(module): name for name, module in model.named_modules()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces parameters outside modules
        graph = tp.DependencyGraph().build_dependency(model, example_inputs=example)
    kind = (
        tp.prune_conv_out_channels if isinstance(layer, nn.Conv2d) else tp.prune_linear_out_channels
    )
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        kind = tp.prune_depthwise_conv_out_channels
    found = {}
    for dependency, indices in graph.get_pruning_group(layer, kind, idxs=[0]):
        module = dependency.target.module
        if id(module) not in names or not isinstance(getattr(module, "weight", None), nn.Parameter):
            continue
        inputs = "in_channels" in dependency.handler.__name__
        depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        matrix = isinstance(module, (nn.Conv2d, nn.Linear))
        axis = 1 if inputs and matrix and not depthwise else 0
        found.setdefault((f"{names[id(module)]}.weight", axis), set()).update(map(int, indices))
    return found


def ours(graph, name):
    """The same from the channel graph."""
    wanted = graph.couplings(f"{name}.weight")[0].item()
    unit = next(u for g in graph.groups for u in g.units if u.id == wanted)
    return {
        (s.name, s.axis): set(s.indices)
        for s in (*unit.producers, *unit.consumers)
        if s.name.endswith(".weight")
    }


CNN = {
    "resnet18": ["conv1", "layer1.0.conv1", "layer2.0.downsample.0", "layer4.1.conv2"],
    "densenet121": ["features.conv0", "features.denseblock1.denselayer2.conv2"],
    "mobilenet_v2": ["features.2.conv.0.0", "features.3.conv.1.0", "features.18.0"],
    "mobilenet_v3_small": ["features.0.0", "features.4.block.1.0", "features.4.block.2.fc1"],
}


@pytest.mark.parametrize("name", CNN)
def test_units_agree_with_torch_pruning_on(vision, name):
    model = vision.torchvision.models.get_model(name, weights=None).eval()
    example = torch.randn(2, 3, 64, 64)
    graph = channel_graph(model, example)
    for layer in CNN[name]:
        assert ours(graph, layer) == theirs(model, example, model.get_submodule(layer)), layer


def test_units_agree_with_torch_pruning_on_a_vision_transformer(vision):
    model = vision.timm.create_model("vit_tiny_patch16_224", num_classes=10, depth=2, img_size=32)
    example = torch.randn(2, 3, 32, 32)
    graph = channel_graph(model.eval(), example)
    hidden = "blocks.0.mlp.fc1"
    assert ours(graph, hidden) == theirs(model, example, model.get_submodule(hidden))
    assert graph.may_go(f"{hidden}.weight").all()
    # The width of the residual stream is coupled likewise; LayerNorm runs over it and counts on.
    stream = "blocks.0.mlp.fc2"
    agreed = theirs(model, example, model.get_submodule(stream))
    assert agreed.items() <= ours(graph, stream).items()
    assert graph.may_go(f"{stream}.weight").all()


def test_the_oracle_rejects_a_wrong_coupling(vision):
    model = vision.torchvision.models.resnet18(weights=None).eval()
    example = torch.randn(2, 3, 64, 64)
    found = theirs(model, example, model.layer1[0].conv1)
    assert ours(channel_graph(model, example), "layer1.1.conv1") != found
