"""The numbers that a module holds by name and that may be sizes, and how they are changed."""

import copy
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from espalier.compaction._code import literals, names_read
from espalier.compaction._edits import FORWARD

Numbers = dict[str, tuple[int, ...]]
"""Name -> the integer, or the integers of a tuple or list."""

# A number is edited only if its name says that it is a width: a kernel of 8 beside 8 heads is not.
_SIZE = re.compile(
    r"head|dim|chan|width|size|feat|embed|hidden|inner|group|plane|filter|split|chunk|section|shape"
    r"|^n[fx]$|^[cd](_|$)"
)
PADDED = re.compile(r"pad|before|after|front|back|left|right|lead|trail")
_OTHER = re.compile(r"kernel|stride|pad|dilat|window|shift|patch|drop|max|min|batch|input_res|grid")
# Their numbers follow their weights (:func:`~espalier.compaction._remove.apply_edits`).
_FOLLOWING = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.Embedding,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RNNBase,
    nn.MultiheadAttention,
)


def ranked(model: nn.Module, path: str, seen: Mapping[str, Mapping[str, int]]) -> list[Numbers]:
    """The integers that a module holds by name, the likelier first.

    Those named like a width that its class reads; the literals of its forward; others that it reads; those
    of an object that it holds, such as a configuration; what is named like a width and read elsewhere; what
    its methods take from a shape.
    """
    module = model.get_submodule(path)
    kind: Any = type(module)
    own, read = integers(model, path), names_read(kind)
    widths = {n: v for n, v in own.items() if _is_width(n)}
    others = {n: v for n, v in own.items() if n not in widths and not _OTHER.search(n)}
    said = literals(module)
    return [
        {n: v for n, v in widths.items() if n in read},
        {FORWARD: said} if said else {},
        {n: v for n, v in others.items() if n in read},
        {n: v for n, v in _inside(module).items() if read.issuperset(n.split("."))},
        {n: v for n, v in widths.items() if n not in read},
        {n: (v,) for n, v in seen.get(path, {}).items()},
    ]


def _is_width(name: str) -> bool:
    return bool(_SIZE.search(name)) and not _OTHER.search(name)


def _inside(module: nn.Module) -> Numbers:
    """The widths of plain objects that a module holds, as ``config.num_heads``."""
    if isinstance(module, _FOLLOWING):
        return {}
    return {
        f"{name}.{inner}": sizes
        for name, held in vars(module).items()
        if not isinstance(held, nn.Module | Tensor | type)
        and isinstance(getattr(held, "__dict__", None), dict)
        for inner, sizes in _numbers(vars(held)).items()
        if _is_width(inner)
    }


def integers(model: nn.Module, path: str) -> Numbers:
    """Attribute -> the integer, or the integers of a tuple or list."""
    module = model.get_submodule(path)
    return {} if isinstance(module, _FOLLOWING) else _numbers(vars(module))


def _numbers(held: Mapping[str, object]) -> Numbers:
    found: Numbers = {}
    for name, value in held.items():
        # Not isinstance: True and False are integers too, and no sizes.
        if type(value) is int:
            found[name] = (value,)
        elif isinstance(value, tuple | list) and value and all(type(v) is int for v in value):
            found[name] = tuple(value)
    return found


def held_number(module: nn.Module, name: str) -> Any:
    """An attribute, or one of an object that the module holds (``config.num_heads``); None if there is none."""
    held: Any = module
    for part in name.split("."):
        held = getattr(held, "__dict__", {}).get(part)
    return held


def hold_(module: nn.Module, name: str, value: Any) -> None:
    """Set such an attribute; of an object that others may hold too, the module gets a copy of its own."""
    outer, dot, inner = name.rpartition(".")
    if dot:
        own = copy.copy(vars(module)[outer])
        vars(own)[inner] = value
        vars(module)[outer] = own
    else:
        setattr(module, name, value)
