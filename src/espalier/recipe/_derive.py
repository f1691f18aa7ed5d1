"""Recipe sections derived from the dataclasses they stand for: one source of truth for every default.

Names, types, ranges, defaults and descriptions are read off the dataclass and its docstring; nothing is copied
by hand.
"""

import dataclasses
import inspect
import re
from collections.abc import Collection, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import Field, Strict, create_model

from espalier._ground.registry import Family, reference
from espalier.recipe._part import Named

Types = Mapping[Any, Any]
"""Types to write in place of a dataclass's own: under a type, or, for one field, under the field's name."""


def derived(
    name: str, target: type[Any], types: Types | None = None, *, base: type[Named] = Named
) -> type[Named]:
    """The section ``name`` of a recipe that stands for the dataclass ``target``.

    Args:
        name: The value of its ``method`` key.
        target: A dataclass.
        types: Types to write in place of the dataclass's own, such as a choice for an abstract class.
        base: The class of sections it is one of.

    Example:
        >>> from espalier.solvers import Cubic
        >>> derived("cubic", Cubic).model_validate({"until": 0.7}).build()
        Cubic(until=0.7)
    """
    types = types or {}
    fields = {**base.more_fields(target, types), **fields_of(target, types)}
    named = (Literal[name], Field(name, description=f"The name: {name}."))
    summary = (inspect.getdoc(target) or "").split("\n", 1)[0]
    model = create_model(
        target.__name__, __base__=base, __doc__=summary, **{"method": named, **fields}
    )
    model.target = target
    _SECTIONS.setdefault(target, model)
    return model


_SECTIONS: dict[type[Any], type[Named]] = {}


def fields_of(
    target: type[Any],
    types: Types,
    *,
    without: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The fields of a section, as ``create_model`` takes them: those of a dataclass.

    Args:
        target: The dataclass.
        types: As for :func:`derived`.
        without: Fields to leave out.
        defaults: Values in place of the dataclass's own.
    """
    hints = get_type_hints(target, include_extras=True)
    described = descriptions(target)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(target):
        if field.name not in without:
            default = (defaults or {}).get(field.name, _default(field))
            hint = types.get(field.name) or _replaced(hints[field.name], types)
            found[field.name] = (
                hint,
                Field(_section(default, types), description=described.get(field.name)),
            )
    return found


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return ... if field.default is dataclasses.MISSING else field.default


def _section(value: Any, types: Types) -> Any:
    """A default as a recipe says it: the section that builds an object equal to it."""
    if not isinstance(value, Family):
        return value
    name = reference(type(value))
    section = _SECTIONS.get(type(value)) or derived(name, type(value), types)
    values = {
        f.name: _section(getattr(value, f.name), types) for f in dataclasses.fields(section.target)
    }
    return section.model_construct(method=name, **values)


def _replaced(hint: Any, types: Types) -> Any:
    """A type with the types in it that a recipe writes otherwise."""
    if get_origin(hint) is Annotated:
        inner, *metadata = get_args(hint)
        return Annotated[(_replaced(inner, types), *metadata)]
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(_replaced(arm, types) for arm in get_args(hint))]  # noqa: UP007
    if get_origin(hint) is tuple:  # a recipe has lists
        items = tuple(one if one is ... else _replaced(one, types) for one in get_args(hint))
        return Annotated[tuple[items], Strict(False)]  # type: ignore[valid-type]
    return types.get(hint, hint)


_ENTRY = re.compile(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)


def descriptions(target: type[Any]) -> dict[str, str]:
    """By field name what the ``Args`` of a dataclass and of its bases say.

    >>> from espalier.solvers import SLR
    >>> descriptions(SLR)["rho"]
    'Penalty coefficient ρ > 0.'
    """
    found: dict[str, str] = {}
    for cls in reversed(target.__mro__):
        text = inspect.cleandoc(cls.__doc__ or "")
        arguments = re.search(r"^Args:\n((?: {4}.*\n?|\n)*)", text, re.MULTILINE)
        if arguments:
            for name, said in _ENTRY.findall(arguments.group(1)):
                found[name] = " ".join(said.split())
    return found
