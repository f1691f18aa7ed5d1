"""Convolutions that standardise their weights before every call, found by what they compute.

Each filter is standardised by itself, over all its inputs: the mean and the variance count every input channel,
one whose weights are zero too. A smaller convolution is the same function if it goes on counting those; and may be
given them behind those that stay, if it treats all input channels alike.
"""

import copy

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from espalier.graph._context import module_of

_STATISTICS = {"mean", "var", "std", "var_mean", "_native_batch_norm_legit", "instance_norm"}
AXIS = 1
"""Of a weight: its input channels."""


def standardising(model: nn.Module, program: ExportedProgram) -> dict[str, int]:
    """The convolutions in whose own code a statistic stands, and that treat all input channels alike.

    Args:
        model: Not modified.
        program: Its graph.

    Returns:
        Path -> the axis of the weight that the statistic counts.
    """
    wanted = {
        module_of(node)
        for node in program.graph_module.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload)
        and node.target._schema.name.partition("::")[2] in _STATISTICS
    }
    return {
        path: AXIS
        for path, module in model.named_modules()
        if path in wanted and isinstance(module, nn.modules.conv._ConvNd) and _alike(module)
    }


@torch.no_grad()
def _alike(module: nn.modules.conv._ConvNd) -> bool:
    weight = module._parameters.get("weight")
    if weight is None or module.groups > 1 or module.transposed or weight.shape[AXIS] < 2:
        return False
    generator = torch.Generator().manual_seed(0)
    sizes = [d * (k - 1) + 2 for k, d in zip(weight.shape[2:], module.dilation, strict=True)]

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(weight.device, weight.dtype)

    x, w = draw(2, weight.shape[AXIS], *sizes), draw(*weight.shape)
    order = torch.randperm(weight.shape[AXIS], generator=generator).to(weight.device)
    try:
        trial = copy.deepcopy(module).eval()
        out = torch.func.functional_call(trial, {"weight": w}, (x,))
        permuted = {"weight": w.index_select(AXIS, order)}
        moved = torch.func.functional_call(trial, permuted, (x.index_select(1, order),))
    except Exception:  # whatever the module's own code raises: it is not of the kind
        return False
    return isinstance(out, Tensor) and torch.allclose(moved, out, rtol=1e-3, atol=1e-4)
