"""Sizes that a forward says as literals, ``x.view(-1, 16 * 6 * 6)``, and the names that it reads."""

from collections.abc import Iterator, Mapping
from functools import cache
from types import CodeType, FunctionType, MethodType
from typing import Any

from torch import nn

LEAST = 3
"""Smaller numbers are axes and factors more often than sizes."""


def literals(module: nn.Module) -> tuple[int, ...]:
    """The integers, without their signs, in the code of a module's own forward that may be sizes.

    >>> class Flat(nn.Module):
    ...     def forward(self, x):
    ...         return x.view(-1, 16 * 6 * 6)
    >>> literals(Flat())
    (576,)
    """
    function = getattr(module.forward, "__func__", None)
    if not isinstance(function, FunctionType) or function.__module__.startswith("torch."):
        return ()
    found: dict[int, None] = {}
    for constant in function.__code__.co_consts:
        for one in constant if isinstance(constant, tuple) else (constant,):
            if type(one) is int and abs(one) >= LEAST:
                found[abs(one)] = None
    return tuple(found)


@cache
def names_read(kind: type[nn.Module]) -> frozenset[str]:
    """The attributes that the methods of a class name, those of ``nn.Module`` and its making aside.

    >>> class Flat(nn.Module):
    ...     def __init__(self):
    ...         self.width, self.unused = 4, 4
    ...     def forward(self, x):
    ...         return [x.view(-1, n) for n in self.width]
    >>> sorted(names_read(Flat))
    ['view', 'width']
    """
    found: set[str] = set()
    for name in set(dir(kind)) - (set(dir(nn.Module)) - {"forward"}):
        method = getattr(kind, name)
        if isinstance(method, FunctionType):
            found.update(n for code in _nested(method.__code__) for n in code.co_names)
    return frozenset(found)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def rewrite_(module: nn.Module, changes: Mapping[int, int]) -> None:
    """Give one module a forward of its own, with other integers in place of some."""
    function = module.forward.__func__  # type: ignore[attr-defined]
    code: CodeType = function.__code__

    def changed(constant: Any) -> Any:
        if isinstance(constant, tuple):
            return tuple(changed(one) for one in constant)
        if type(constant) is not int:
            return constant
        # x[:, -24:] counts the same channels from the end.
        return changes.get(constant, -changes.get(-constant, -constant))

    own = FunctionType(
        code.replace(co_consts=changed(code.co_consts)),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    own.__kwdefaults__ = function.__kwdefaults__
    own.__module__ = function.__module__
    module.forward = MethodType(own, module)
