"""The networks of the papers: filters that are zero go, and what is left computes the same."""

import pytest
import torch
from torch import nn

from espalier import compact, models

CASES = {
    "yolov3_tiny": ({"classes": 2}, (64, 64), "module_list.4.Conv2d"),
    "yolov3_spp": ({"classes": 2}, (32, 32), "module_list.44.Conv2d"),
    "ufld": (
        {"size": (32, 64), "rows": 3, "cells": 5, "auxiliary": True},
        (32, 64),
        "model.layer2.0.conv1",
    ),
}


def widths(model):
    return {n: m.out_channels for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}


@pytest.mark.parametrize("name", CASES)
def test_half_of_the_filters_of_a_layer_go_with_proof(name):
    arguments, size, layer = CASES[name]
    torch.manual_seed(0)
    model = models.build(name, **arguments).eval()
    convolution = model.get_submodule(layer)
    half = convolution.out_channels // 2
    with torch.no_grad():
        convolution.weight[:half] = 0
        for norm in model.modules():  # what BatchNorm adds to a map of zeros is no obstacle
            if isinstance(norm, nn.BatchNorm2d):
                norm.bias.zero_()
        if convolution.bias is not None:
            convolution.bias.zero_()
    small = compact(model, torch.rand(1, 3, *size))
    assert small.proof.holds
    before, after = widths(model), widths(small.model)
    assert after[layer] == before[layer] - half
    assert small.after.parameters < small.before.parameters
