"""Sizes that a forward takes from its input for sizes of its own: ``B, N, C = x.shape``, then ``C // self.heads``.

The width of the stream and that of all heads together are one number in the code, and two in a smaller model.
"""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from functools import cache
from types import CodeType, FunctionType, MethodType
from typing import Any

from torch import nn

from espalier._ground.example import Example, arguments
from espalier._ground.modes import undisturbed
from espalier.compaction._edits import FORWARD
from espalier.errors import RequestError

_SHAPE = ("shape", "size")
_SEEN = "__sizes_seen__"


def sizes_seen(model: nn.Module, example: Example) -> dict[str, dict[str, int]]:
    """Module -> the names that its forward gives to sizes of a tensor, and what they are in a run.

    Args:
        model: Forwards that have a source are watched; it is left as it was.
        example: Inputs to run.
    """
    found: dict[str, dict[str, int]] = {}
    watched = []
    for path, module in model.named_modules():
        function = _forward(module)
        names = frozenset() if function is None else _names(function)
        if function is not None and names and FORWARD not in vars(module):
            seen: dict[str, object] = {}
            found[path] = seen  # type: ignore[assignment]
            calls = {name: f"{_SEEN}[{name!r}] = {name}" for name in names}
            module.forward = MethodType(_compiled(function, calls, {_SEEN: seen}), module)
            watched.append(module)
    args, kwargs = arguments(example)
    try:
        with undisturbed(model):
            model(*args, **kwargs)
    except Exception:  # what was seen until then
        pass
    finally:
        for module in watched:
            del module.forward
    return {
        path: {name: size for name, size in seen.items() if type(size) is int}
        for path, seen in found.items()
    }


def pin_(module: nn.Module, sizes: Mapping[str, int]) -> None:
    """Give one module a forward of its own in which some names of sizes are these numbers.

    Raises:
        RequestError: Its forward has no such names.
    """
    function = _forward(module)
    if function is None or not _names(function).issuperset(sizes):
        raise RequestError(
            f"{type(module).__name__}: no forward that takes {', '.join(sizes)} from a shape"
        )
    pins = {name: f"{name} = {int(size)}" for name, size in sizes.items()}
    module.forward = MethodType(_compiled(function, pins, {}), module)


def _compiled(
    function: FunctionType, behind: Mapping[str, str], more: Mapping[str, object]
) -> FunctionType:
    """A function with a statement behind what takes a name from a shape, and more globals."""
    tree = _Inserted(behind).visit(_parsed(function))
    # A class's method may close over its class (``super``): it is compiled within a function that has those names.
    outer = ast.parse("def outer():\n    pass")
    held = function.__code__.co_freevars
    opening = [ast.parse(f"{name} = None").body[0] for name in held]
    outer.body[0].body = [*opening, *tree.body]  # type: ignore[attr-defined]
    made = compile(ast.fix_missing_locations(outer), function.__code__.co_filename, "exec")
    code = _inner(_inner(made, "outer"), function.__name__)
    cells = dict(zip(held, function.__closure__ or (), strict=True))
    own = FunctionType(
        code,
        {**function.__globals__, **more} if more else function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(cells[name] for name in code.co_freevars),
    )
    own.__kwdefaults__ = function.__kwdefaults__
    own.__module__ = function.__module__
    return own


class _Inserted(ast.NodeTransformer):
    def __init__(self, behind: Mapping[str, str]) -> None:
        self.behind = behind

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = []
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> Any:
        lines = [self.behind[name] for name in _taken(node) if name in self.behind]
        return [node, *(ast.copy_location(ast.parse(line).body[0], node) for line in lines)]


def _taken(node: ast.Assign) -> list[str]:
    """The names that an assignment takes from a shape."""
    if not any(isinstance(n, ast.Attribute) and n.attr in _SHAPE for n in ast.walk(node.value)):
        return []
    stored = (n for target in node.targets for n in ast.walk(target))
    return [n.id for n in stored if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def _forward(module: nn.Module) -> FunctionType | None:
    function = getattr(module.forward, "__func__", None)
    plain = isinstance(function, FunctionType) and not function.__module__.startswith("torch.")
    return function if plain else None


@cache
def _names(function: FunctionType) -> frozenset[str]:
    try:
        tree = _parsed(function)
    except (OSError, SyntaxError, TypeError):  # it has no source, or not one that stands alone
        return frozenset()
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.FunctionDef):
        return frozenset()
    if tree.body[0].name != function.__name__:
        return frozenset()
    assigned = (n for n in ast.walk(tree) if isinstance(n, ast.Assign))
    return frozenset(name for node in assigned for name in _taken(node))


def _parsed(function: FunctionType) -> ast.Module:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return ast.increment_lineno(tree, function.__code__.co_firstlineno - 1)


def _inner(code: CodeType, name: str) -> CodeType:
    return next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == name)
