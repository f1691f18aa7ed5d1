"""The user's own code by name: ``package.module:function``."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from espalier.errors import RequestError, UnknownNameError, nearest


def import_object(spec: str) -> Any:
    """What ``package.module:name`` names; the current directory is importable.

    Args:
        spec: A module and an attribute of it, dotted for a nested one.

    Returns:
        The object itself; nothing is called.

    Raises:
        RequestError: ``spec`` is not of that form, or the module fails while it is imported.
        UnknownNameError: There is no such module, or it has no such attribute.

    Example:
        >>> import_object("math:factorial")(5)
        120
    """
    module_name, colon, path = spec.partition(":")
    if not (colon and all(part.isidentifier() for part in f"{module_name}.{path}".split("."))):
        raise RequestError(f"{spec!r} is not of the form package.module:function")
    found: Any = _import_module(module_name, spec)
    for name in path.split("."):
        if not hasattr(found, name):
            public = [each for each in dir(found) if not each.startswith("_")]
            hint = nearest(name, public)
            raise UnknownNameError(f"{spec}: {_label(found)} has no attribute {name!r}; {hint}")
        found = getattr(found, name)
    return found


def call(function: Callable[..., Any], label: str, *positional: Any, **arguments: Any) -> Any:
    """``function(*positional, **arguments)``, arguments that it does not take refused beforehand.

    A mistake inside ``function`` keeps its own traceback; only the fit of the arguments is checked.

    Raises:
        RequestError: The arguments do not fit; the message says which ones do.
    """
    if not callable(function):
        raise RequestError(f"{label} is a {type(function).__name__}; name a function or a class")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-ins have none
        return function(*positional, **arguments)
    try:
        signature.bind(*positional, **arguments)
    except TypeError as error:
        raise RequestError(f"{label}: {error}; it takes {signature}") from error
    return function(*positional, **arguments)


def _import_module(name: str, spec: str) -> Any:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)  # for good: the user's function may import its neighbours later
    importlib.invalidate_caches()  # the file may be younger than the last import
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UnknownNameError(
                f"{spec}: no module named {error.name!r} in {here} or among the installed packages"
            ) from error
        raise RequestError(f"{spec}: importing {name} failed: {error}") from error
    except Exception as error:
        kind = type(error).__name__
        raise RequestError(f"{spec}: importing {name} failed: {kind}: {error}") from error


def _label(found: Any) -> str:
    return str(getattr(found, "__name__", type(found).__name__))
