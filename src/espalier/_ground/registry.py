"""Families: classes that recipes name, found by themselves and each with its own facts.

A family is a base class: ``Solver``, ``Set``, ``Metric`` … A concrete subclass with a ``name``, in a module of
the family's own package, is a *member*: listed under that name. Any other subclass is named as
``package.module:Name``. So a member is one file, and no class of a user's can take a member's name.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar, TypeVar

from espalier._ground.importing import import_object
from espalier._ground.ranges import Checked
from espalier.errors import RequestError, UnknownNameError, nearest

T = TypeVar("T")

REFERENCE = r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*"
"""``package.module:Name``, as a regular expression."""

_listed: dict[type[Any], dict[str, type[Any]]] = {}


class Family(Checked):
    """The base of a family's base: ``class Solver(Family, ABC)``.

    Attributes:
        name: What recipes call a member.
        sentence: What a member is or does, in a line; by default the first line of its docstring.
    """

    name: ClassVar[str]
    sentence: ClassVar[str]

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if Family in cls.__bases__:
            _listed[cls] = {}
            return
        if "sentence" not in vars(cls):
            cls.sentence = _first_line(cls)
        if "name" not in vars(cls) or not _at_home(cls):
            return
        members = _listed[family(cls)]
        before = members.setdefault(cls.name, cls)
        if _path(before) != _path(cls):
            raise RequestError(
                f"two classes are called {cls.name!r}: {_path(before)} and {_path(cls)}; "
                "give one of them another name"
            )
        members[cls.name] = cls  # the same class made again: by a reload, or with __slots__


class Members(Mapping[str, type[T]]):
    """The concrete members of a family by name, in alphabetical order; always the present ones.

    >>> from espalier.solvers import Solver
    >>> list(Members(Solver))[:2]
    ['admm', 'gradual']
    """

    def __init__(self, base: type[T]) -> None:
        self._base = base

    def _now(self) -> dict[str, type[T]]:
        # Asked here and not where a class is made, for then it does not yet know what it lacks.
        members = _listed[self._base].items()
        return {name: cls for name, cls in sorted(members) if not inspect.isabstract(cls)}

    def __getitem__(self, name: str) -> type[T]:
        return self._now()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def __repr__(self) -> str:
        return repr(self._now())


def family(cls: type[Any]) -> type[Any]:
    """The base of the family that a class is of.

    >>> from espalier.solvers import SLRReleased
    >>> family(SLRReleased).__name__
    'Solver'
    """
    return next(base for base in cls.__mro__ if base in _listed)


def reference(cls: type[Any]) -> str:
    """What a recipe calls a class: its name, or ``package.module:Name``.

    >>> from espalier.solvers import SLR
    >>> reference(SLR)
    'slr'
    """
    own = vars(cls).get("name")
    return own if own and _listed[family(cls)].get(own) is cls else _path(cls)


def resolve(spec: str, *bases: type[Any], import_: bool = True) -> type[Any]:
    """The class that a recipe names, a member's name or ``package.module:Name``.

    Args:
        spec: The name.
        bases: The families it may be of.
        import_: Whether a module may be imported for it. Not where a data file names it: nothing that a
            file says is executed.

    Raises:
        UnknownNameError: No member has the name; no such module or attribute.
        RequestError: Not a concrete class of the family; the module fails while it is imported.
    """
    if not is_reference(spec):
        members = {name: cls for base in bases for name, cls in Members(base).items()}
        if spec not in members:
            raise UnknownNameError(f"no {_or(bases)} is called {spec!r}; {nearest(spec, members)}")
        return members[spec]
    found = import_object(spec) if import_ else _imported(spec)
    if not (isinstance(found, type) and issubclass(found, bases)):
        raise RequestError(
            f"{spec} is no {_or(bases)}; name a class derived from {_paths_or(bases)}"
        )
    if inspect.isabstract(found):
        lacking = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise RequestError(f"{spec} is abstract: it does not define {lacking}")
    return found


def is_reference(spec: str) -> bool:
    """Whether a name is of the form ``package.module:Name``.

    >>> is_reference("mine.sets:Stripes"), is_reference("filters")
    (True, False)
    """
    return ":" in spec


def discover(package: str, namespace: dict[str, Any]) -> None:
    """Import every module of a package; its members become the package's own public names.

    Called at the end of the package's ``__init__``: a new file is all that a new member needs.

    Args:
        package: ``__name__``.
        namespace: ``globals()``, with ``__path__`` and ``__all__``.
    """
    for found in iter_modules(namespace["__path__"]):
        import_module(f"{package}.{found.name}")
    for members in _listed.values():
        for cls in members.values():
            if cls.__module__.startswith(f"{package}.") and cls.__name__ not in namespace:
                namespace[cls.__name__] = cls
                namespace["__all__"].append(cls.__name__)


def _at_home(cls: type[Any]) -> bool:
    home = family(cls).__module__.rpartition(".")[0]
    return cls.__module__.startswith(f"{home}.") and "<locals>" not in cls.__qualname__


def _path(cls: type[Any]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _imported(spec: str) -> Any:
    module, _, name = spec.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise UnknownNameError(
            f"{spec} is not among what has been imported, and a file's word is not enough to import it; "
            f"import {module} first"
        )
    return found


def _first_line(cls: type[Any]) -> str:
    """The first line of a class's own docstring, without its markup."""
    lines = inspect.cleandoc(vars(cls).get("__doc__") or cls.__name__).split("\n", 1)
    return lines[0].replace("``", "").replace("\\*k", "kh, kw")


def _or(bases: tuple[type[Any], ...]) -> str:
    return " or ".join(base.__name__.lower() for base in bases)


def _paths_or(bases: tuple[type[Any], ...]) -> str:
    return " or ".join(f"{b.__module__.rpartition('.')[0]}.{b.__name__}" for b in bases)
