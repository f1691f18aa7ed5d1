"""Residual branches that say the same whatever they are given, taken out with their modules.

A branch of which every unit is gone still runs its norms, its projections and an activation, to put out zeros, or the
bias of its last layer. What is constant at every position and for every input is known from the walk over the
graph that finds dead channels; such a module is replaced by its constant.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from espalier._ground.example import Example, arguments
from espalier._ground.modes import evaluating
from espalier.compaction._edits import BranchEdit
from espalier.errors import RequestError, UnknownNameError
from espalier.graph._context import modules_of
from espalier.graph._exporting import exported
from espalier.graph._interpreter import walk
from espalier.graph._value import Constants, Value

Still = tuple[BranchEdit, Constants]


class Constant(nn.Module):
    """A module that is gone: it puts out one number for every channel, whatever it is given.

    Attributes:
        constant: Of size 1 on every axis but that of the channels, so that it broadcasts.
        nones: So many None follow it in a tuple; below zero, it is the output itself.
    """

    constant: Tensor

    def __init__(self, constant: Tensor, nones: int) -> None:
        super().__init__()
        self.register_buffer("constant", constant)
        self.nones = nones

    def forward(self, *_: object, **__: object) -> Tensor | tuple[Tensor | None, ...]:
        """The constant."""
        return self.constant if self.nones < 0 else (self.constant, *[None] * self.nones)


def still_branches(model: nn.Module, example: Example) -> list[Still]:
    """The outermost modules with parameters whose output never changes, and what it is.

    Args:
        model: The compact model. Not modified.
        example: Inputs to run.
    """
    if not any(p.dim() > 1 and not p.any() for p in model.parameters()):
        return []  # without a matrix of zeros there is none, and no need to look
    positional, named = arguments(example)
    program = exported(model, positional, named)
    tensors = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    inputs = tuple(t for t in pytree.tree_leaves((positional, named)) if isinstance(t, Tensor))
    with evaluating(model), torch.no_grad():
        values = walk(program, tensors, inputs).context.values
    outputs = _outputs(program.graph_module.graph)
    forms = _forms(model, example)
    found: dict[str, Still] = {}
    for path in sorted(outputs, key=lambda p: p.count(".")):
        inside = any(path.startswith(f"{one}.") for one in found)
        if (
            inside
            or path not in forms
            or not any(True for _ in model.get_submodule(path).parameters())
        ):
            continue
        one = [_constant(values.get(node)) for node in outputs[path]]
        if len(one) == 1 and one[0] is not None:
            shape, const = one[0]
            found[path] = BranchEdit(module=path, shape=shape, nones=forms[path]), const
    return list(found.values())


def _outputs(graph: torch.fx.Graph) -> dict[str, list[str]]:
    """Module -> the nodes inside that something outside uses."""
    inside = {node: set(modules_of(node)) - {""} for node in graph.nodes}
    found: dict[str, list[str]] = {}
    for node in graph.nodes:
        for path in inside[node]:
            if any(path not in inside[user] for user in node.users):
                found.setdefault(path, []).append(node.name)
    return found


def _constant(value: Value | None) -> tuple[tuple[int, ...], Constants] | None:
    if value is None or len(value.factors) != 1 or len(value.factors[0].dims) != 1:
        return None
    (factor,) = value.factors
    if np.isnan(factor.const).any():
        return None
    shape = tuple(s if d == factor.dims[0] else 1 for d, s in enumerate(value.shape))
    return shape, factor.const


def _forms(model: nn.Module, example: Example) -> dict[str, int]:
    """Module called once, that puts out a tensor (-1) or one and n times None (n)."""
    seen: dict[str, list[int | None]] = {}
    handles = []
    for path, module in model.named_modules():

        def note(_: nn.Module, __: object, output: object, path: str = path) -> None:
            many = output if isinstance(output, tuple) else (output,)
            plain = isinstance(many[0], Tensor) and all(part is None for part in many[1:])
            form = len(many) - 1 if isinstance(output, tuple) else -1
            seen.setdefault(path, []).append(form if plain else None)

        handles.append(module.register_forward_hook(note))
    positional, named = arguments(example)
    try:
        with evaluating(model), torch.no_grad():
            model(*positional, **named)
    finally:
        for handle in handles:
            handle.remove()
    return {path: f[0] for path, f in seen.items() if path and len(f) == 1 and f[0] is not None}


def remove_(model: nn.Module, edit: BranchEdit, constant: Tensor | None = None) -> None:
    """Replace a module by its constant, zeros unless it is given (those of a file come later), in place.

    Raises:
        UnknownNameError: No such module.
        RequestError: It is the whole model.
    """
    parent, _, name = edit.module.rpartition(".")
    try:
        module, above = model.get_submodule(edit.module), model.get_submodule(parent)
    except AttributeError as error:
        raise UnknownNameError(f"{edit.module}: no such module") from error
    if not name:
        raise RequestError("the whole model cannot be a branch that is removed")
    like = next(module.parameters(), torch.empty(0))
    filled = (
        like.new_zeros(edit.shape) if constant is None else constant.to(like).reshape(edit.shape)
    )
    above._modules[name] = Constant(filled.detach(), edit.nones).train(module.training)
