"""Sizes that a forward says as literals: ``x.view(-1, 16 * 6 * 6)``."""

from collections.abc import Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any

from torch import nn

LEAST = 3
"""Smaller numbers are axes and factors more often than sizes."""


def literals(module: nn.Module) -> tuple[int, ...]:
    """The integers in the code of a module's own forward that may be sizes.

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
            if type(one) is int and one >= LEAST:
                found[one] = None
    return tuple(found)


def rewrite_(module: nn.Module, changes: Mapping[int, int]) -> None:
    """Give one module a forward of its own, with other integers in place of some."""
    function = module.forward.__func__  # type: ignore[attr-defined]
    code: CodeType = function.__code__

    def changed(constant: Any) -> Any:
        if isinstance(constant, tuple):
            return tuple(changed(one) for one in constant)
        return changes.get(constant, constant) if type(constant) is int else constant

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
