"""What the model reads in other runs than the one that was exported.

Auxiliary heads run in training alone, a branch may ask for the size of its input. Modules that the
exported forward leaves out may still read, there, channels that it has; so a run in training mode
and runs at other sizes are watched, and where one uses such a module it is exported too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from espalier._ground.modes import undisturbed
from espalier._ground.sizes import Call, other_sizes
from espalier.errors import RequestError
from espalier.graph._exporting import exported
from espalier.graph._interpreter import OUTPUT, Walk, walk
from espalier.graph._labels import Ids

Axis = tuple[str, int]


def freeze_elsewhere(found: Walk, model: nn.Module, call: Call) -> None:
    """Freeze the channels that only other runs read, or return."""
    silent = _left_out(found, model)
    if not silent:
        return
    tensors = {name for name in found.unused if name.rpartition(".")[0] in silent}
    done: set[tuple[bool, frozenset[str]]] = set()
    for training, where, other in _runs(model, call):
        with _mode(model, training):
            called = _called(model, other, silent)
            # An export takes seconds, a run does not: one for all the sizes that call the same.
            if not called or (training, called) in done:
                continue
            done.add((training, called))
            try:
                program = exported(model, *other, as_it_is=True)
            except RequestError:  # nothing can be said of that run
                continue
        there = walk(program)
        roots = there.context.labels.roots()
        named = (
            _read_by(there, roots, tensors),
            f"read {where} by a module that the example does not run",
        )
        given = _returned(there, roots), f"{OUTPUT} {where}"
        for marked, why in (named, given):
            for axis, ids in found.axes.items():
                theirs = there.axes.get(axis)
                if theirs is not None and axis[0] not in tensors:
                    found.context.labels.freeze(ids[marked[roots[theirs]]], why)


def _left_out(found: Walk, model: nn.Module) -> set[str]:
    """The modules that own a matrix or kernel which the exported forward does not read."""
    matrices = {n: p for n, p in model.named_parameters(remove_duplicate=False) if p.dim() > 1}
    # A shared tensor is read under one of its names alone.
    read = {id(p) for name, p in matrices.items() if name not in found.unused}
    return {
        name.rpartition(".")[0]
        for name in found.unused & set(matrices)
        if id(matrices[name]) not in read
    }


def _runs(model: nn.Module, call: Call) -> Iterator[tuple[bool, str, Call]]:
    yield True, "in training", call
    # Elsewhere than on the CPU an index beyond its table ends the process, not the call.
    if all(t.device.type == "cpu" for t in (*model.parameters(), *model.buffers())):
        for family in other_sizes(call):
            for other in family:
                yield False, "at another size", other


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Training is what forwards of its own make of it: layers of PyTorch stay in evaluation mode."""
    layers = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    with undisturbed(model):
        for module in model.modules():
            own = not type(module).__module__.startswith("torch.nn.")
            module.training = training and own and not isinstance(module, layers)
        yield


def _called(model: nn.Module, call: Call, silent: set[str]) -> frozenset[str]:
    """Those of these modules that a run calls."""
    seen: set[str] = set()

    def noting(path: str) -> Callable[[nn.Module, object], None]:
        return lambda module, given: seen.add(path)

    handles = [model.get_submodule(p).register_forward_pre_hook(noting(p)) for p in silent]
    args, kwargs = call
    try:
        with torch.random.fork_rng():
            model(*args, **kwargs)
    except Exception:  # it does not train, or does not take that size
        return frozenset()
    finally:
        for handle in handles:
            handle.remove()
    return frozenset(seen)


def _read_by(
    there: Walk, roots: Ids, tensors: set[str]
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """For every root: does one of these tensors read it?"""
    consumed = there.context.labels.roles()[1]
    marked = np.zeros(len(roots) + 1, dtype=np.bool_)
    for (name, _), ids in there.axes.items():
        if name in tensors:
            marked[roots[ids[consumed[ids]]]] = True
    return marked


def _returned(there: Walk, roots: Ids) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    marked = np.zeros(len(roots) + 1, dtype=np.bool_)
    out = [root for root, why in there.context.labels.reasons().items() if OUTPUT in why]
    marked[out] = True
    return marked
