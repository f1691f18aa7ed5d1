"""Modules whose statistics run over channels, found by what they compute.

LayerNorm, RMSNorm, global response norm, GroupNorm in one group: their statistics count every channel,
one of zeros too, so a smaller one is only the same function if it goes on counting the zeros. A module
that treats all channels alike can be given them back: behind the channels that stay, in any order. That
is the property looked for here, on random numbers; the names and the code of modules do not matter.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from espalier.graph._context import module_of
from espalier.graph._labels import Ids

_STATISTICS = {
    *("mean", "var", "std", "var_mean", "layer_norm", "native_layer_norm"),
    *("rms_norm", "_fused_rms_norm", "group_norm", "native_group_norm"),
}
_FEW = 3
"""Positions that a trial has along axes that are no channel."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm:
    """A module whose statistics run over channels that may go.

    Attributes:
        module: Its path.
        axis: The axis of the channels in its input and output, counted from the front.
        size: How many channels there are.
        classes: Their classes, of every call of the module.
    """

    module: str
    axis: int
    size: int
    classes: Ids


def norm_axes(model: nn.Module, program: ExportedProgram) -> dict[str, int]:
    """The modules with a statistic that treat all channels alike: path -> axis of the channels.

    Such a module takes one tensor to one of the same shape; its parameters and buffers are vectors of
    one length n (axes of size 1 beside it do not matter). Permuting the channels of the input
    and the vectors permutes the output, and every channel depends on the others.

    Args:
        model: Not modified.
        program: Its graph; the module's inputs have the shapes that stand there.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    found = {}
    for path, shape in _entries(program).items():
        module = modules.get(path)
        if module is not None:
            axis = _axis(module, shape)
            if axis is not None:
                found[path] = axis
    return found


def _entries(program: ExportedProgram) -> dict[str, tuple[int, ...]]:
    """The shape of what enters each module in whose own code a statistic stands."""
    wanted, first = set(), {}
    signature = program.graph_signature
    own = {*signature.inputs_to_parameters, *signature.inputs_to_buffers}
    for node in program.graph_module.graph.nodes:
        path = module_of(node)
        if node.op != "call_function" or not path:
            continue
        if isinstance(node.target, torch._ops.OpOverload):
            if node.target._schema.name.partition("::")[2] in _STATISTICS:
                wanted.add(path)
        entry = None if path in first else _entering(node, path, own)
        if isinstance(entry, Tensor):
            first[path] = tuple(int(s) for s in entry.shape)
    return {path: shape for path, shape in first.items() if path in wanted}


def _entering(node: torch.fx.Node, path: str, own: set[str]) -> object:
    outside = (n for n in node.all_input_nodes if module_of(n) != path and n.name not in own)
    return next((n.meta.get("val") for n in outside), None)


@torch.no_grad()
def _axis(module: nn.Module, shape: Sequence[int]) -> int | None:
    """The axis of the channels, None where the module is not of the kind."""
    held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    lengths = {max(t.shape, default=1) for t in held.values()}
    if len(lengths) > 1 or any(sum(s > 1 for s in t.shape) > 1 for t in held.values()):
        return None
    length = lengths.pop() if lengths else None
    for axis in (len(shape) - 1, 1):
        if 0 < axis < len(shape) and (shape[axis] == length or not held) and shape[axis] > 1:
            small = [s if d == axis else min(s, _FEW) for d, s in enumerate(shape)]
            try:
                if _alike(copy.deepcopy(module).eval(), held, small, axis):
                    return axis
            except Exception:  # whatever the module's own code raises: it is not of the kind
                continue
    return None


def _alike(trial: nn.Module, held: Mapping[str, Tensor], shape: Sequence[int], axis: int) -> bool:
    generator = torch.Generator().manual_seed(0)
    like = next(iter(held.values()), torch.empty(0))

    def draw(size: Sequence[int]) -> Tensor:
        return torch.randn(*size, generator=generator).to(like.device, like.dtype)

    x = draw(shape)
    vectors = {name: draw(tensor.shape) for name, tensor in held.items()}
    order = torch.randperm(shape[axis], generator=generator).to(like.device)
    permuted = {name: _permuted(tensor, order) for name, tensor in vectors.items()}
    out = torch.func.functional_call(trial, vectors, (x,))
    if not isinstance(out, Tensor) or out.shape != x.shape:
        return False
    moved = torch.func.functional_call(trial, permuted, (x.index_select(axis, order),))
    # One channel doubled: a statistic over the channels carries that into all the others.
    other = x.clone()
    other.select(axis, 0).mul_(2)
    changed = torch.func.functional_call(trial, vectors, (other,)) != out
    mixed = bool(changed.select(axis, 1).any())
    return mixed and torch.allclose(moved, out.index_select(axis, order), rtol=1e-3, atol=1e-4)


def _permuted(vector: Tensor, order: Tensor) -> Tensor:
    axes = [d for d, size in enumerate(vector.shape) if size > 1]
    return vector.index_select(axes[0], order) if axes else vector
