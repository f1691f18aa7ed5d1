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

CALL = "()."
"""Between a method and a name in it: ``forward().C``."""
_SHAPE = ("shape", "size")
_SEEN = "__sizes_seen__"


def sizes_seen(model: nn.Module, example: Example) -> dict[str, dict[str, int]]:
    """Module -> what its methods name of the sizes of a tensor, as ``forward().C``, and what it is in a run.

    Args:
        model: Methods that have a source are watched; it is left as it was.
        example: Inputs to run.
    """
    found: dict[str, dict[str, object]] = {}
    watched = []
    for path, module in model.named_modules():
        for method, function in _methods(module).items():
            if method not in vars(module):
                seen = found.setdefault(path, {})
                calls = {
                    n: f"{_SEEN}[{method + CALL + n!r}] = {n}" for n in sorted(_names(function))
                }
                own = MethodType(_compiled(function, calls, {_SEEN: seen}), module)
                setattr(module, method, own)
                watched.append((module, method))
    args, kwargs = arguments(example)
    try:
        with undisturbed(model):
            model(*args, **kwargs)
    except Exception:  # what was seen until then
        pass
    finally:
        for module, method in watched:
            delattr(module, method)
    return {
        path: {name: size for name, size in seen.items() if type(size) is int}
        for path, seen in found.items()
    }


def pin_(module: nn.Module, sizes: Mapping[str, int]) -> None:
    """Give one module methods of its own in which some names of sizes are these numbers.

    Args:
        module: Modified.
        sizes: By names as of :func:`sizes_seen`.

    Raises:
        RequestError: It has no such methods, or they no such names.
    """
    methods: dict[str, dict[str, str]] = {}
    for full, size in sizes.items():
        method, _, name = full.partition(CALL)
        function = _methods(module).get(method)
        if function is None or name not in _names(function):
            raise RequestError(
                f"{type(module).__name__}: no {method} that takes {name} from the shape of a tensor"
            )
        methods.setdefault(method, {})[name] = f"{name} = {int(size)}"
    for method, pins in methods.items():
        function = _methods(module)[method]
        setattr(module, method, MethodType(_compiled(function, pins, {}), module))


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


def _methods(module: nn.Module) -> dict[str, FunctionType]:
    kind: Any = type(module)
    return _methods_of(kind)


@cache
def _methods_of(kind: Any) -> dict[str, FunctionType]:
    """Those of a class that take names from a shape."""
    found = {}
    for name in sorted(set(dir(kind)) - (set(dir(nn.Module)) - {FORWARD})):
        function = inspect.getattr_static(kind, name)
        plain = isinstance(function, FunctionType) and not function.__module__.startswith("torch.")
        if plain and function.__name__ == name and _names(function):
            found[name] = function
    return found


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
