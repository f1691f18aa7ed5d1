"""Recipe sections derived from the dataclasses they stand for: one source of truth for every default.

Names, types, defaults and descriptions are read off the dataclass and its docstring; nothing is copied by
hand. Only the ranges are added here, for a dataclass does not state them.
"""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field, create_model

from espalier.recipe._part import Named

_RANGES: Mapping[str, tuple[Any, ...]] = {
    "rho": (Gt(0),),
    "step": (Gt(0),),
    "M": (Gt(1),),
    "r": (Gt(0), Lt(1)),
    "settle": (Ge(0), Le(1)),
    "until": (Gt(0), Le(1)),
    "rounds": (Ge(1),),
    "beta": (Ge(0), Lt(1)),
    "factor": (Gt(0),),
    "maximum": (Gt(0),),
    "updates": (Ge(1),),
    "stages": (Ge(1),),
    "n": (Ge(1),),
    "m": (Ge(1),),
    "height": (Ge(1),),
    "width": (Ge(1),),
    "weight_decay": (Ge(0),),
    "momentum": (Ge(0),),
    "eps": (Gt(0),),
    "every": (Ge(1),),
    "warmup": (Ge(0),),
}
"""By field name: a field of the same name means the same wherever it stands."""


def derived(name: str, target: type[Any], types: Mapping[Any, Any] | None = None) -> type[Named]:
    """The section ``name`` of a recipe that stands for the dataclass ``target``.

    Args:
        name: The value of its ``method`` key.
        target: A dataclass.
        types: Types to write in place of the dataclass's own: a choice for an abstract class, or, under
            a field's name, for that field.

    Example:
        >>> from espalier.solvers import Cubic
        >>> derived("cubic", Cubic).model_validate({"until": 0.7}).build()
        Cubic(until=0.7)
    """
    types = types or {}
    hints = get_type_hints(target)
    described = descriptions(target)
    fields: dict[str, Any] = {
        "method": (Literal[name], Field(name, description=f"The name: {name}."))
    }
    for field in dataclasses.fields(target):
        kind = types.get(field.name, types.get(hints[field.name], hints[field.name]))
        for bound in _RANGES.get(field.name, ()):
            kind = _bounded(kind, bound)
        fields[field.name] = (kind, _field(field, described.get(field.name)))
    summary = (inspect.getdoc(target) or "").split("\n", 1)[0]

    class Derived(Named):
        @classmethod
        def standing_for(cls, instance: Any) -> Self:
            values = {
                f.name: _section(getattr(instance, f.name)) for f in dataclasses.fields(instance)
            }
            return cls.model_construct(method=name, **values)

    model = create_model(target.__name__, __base__=Derived, __doc__=summary, **fields)
    model.target = target
    _SECTIONS[target] = model
    return model


_SECTIONS: dict[type[Any], type[Named]] = {}


def _section(value: Any) -> Any:
    section = _SECTIONS.get(type(value))
    return section.standing_for(value) if section else value


def _field(field: "dataclasses.Field[Any]", description: str | None) -> Any:
    if field.default is not dataclasses.MISSING:
        return Field(field.default, description=description)
    if field.default_factory is not dataclasses.MISSING:
        return Field(_section(field.default_factory()), description=description)
    return Field(..., description=description)


def _bounded(kind: Any, bound: Any) -> Any:
    """The bound on the numbers of ``kind``, which may also be None or a word."""
    if kind in (int, float):
        return Annotated[kind, bound]
    if kind == float | None:
        return Annotated[float, bound] | None
    if getattr(kind, "__metadata__", None) and kind.__origin__ in (int, float):
        return Annotated[kind, bound]
    if getattr(kind, "__args__", None) and type(None) in kind.__args__:
        (inner,) = [k for k in kind.__args__ if k is not type(None)]
        return _bounded(inner, bound) | None
    return kind


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
