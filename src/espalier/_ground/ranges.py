"""Numbers of a dataclass, checked against the bounds in their annotations."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Lt

from espalier.errors import RequestError


class Checked:
    """The base of a dataclass whose numbers are checked where it is made.

    ``rho: Annotated[float, Gt(0)]`` is all that a range takes. NaN and infinity are in no range, and a truth value
    is no number. A ``__post_init__`` of one's own calls this one.

    Raises:
        RequestError: A number outside its range.

    Example:
        >>> @dataclass(frozen=True)
        ... class Damping(Checked):
        ...     beta: Annotated[float, Ge(0), Lt(1)] = 0.9
        >>> Damping(1.0)
        Traceback (most recent call last):
        espalier.errors.RequestError: Damping: beta=1.0; give a number with 0 <= beta < 1
    """

    def __post_init__(self) -> None:
        cls: Any = type(self)
        for name, numbers in _numeric_fields(cls):
            numbers.check(cls.__name__, name, getattr(self, name))


@dataclass(frozen=True)
class _Numbers:
    """What a field may hold: integers or reals, within bounds; ``others``: or something else."""

    whole: bool
    bounds: tuple[Any, ...]
    boolean: bool
    others: bool

    def check(self, owner: str, name: str, value: Any) -> None:
        if isinstance(value, bool):
            fine = self.boolean
        elif isinstance(value, Integral if self.whole else Real):
            finite = isinstance(value, Integral) or math.isfinite(value)
            fine = finite and all(_within(value, bound) for bound in self.bounds)
        else:
            # What is no number at all is another type's business, unless numbers are all there is.
            fine = self.others and not isinstance(value, Real)
        if not fine:
            raise RequestError(f"{owner}: {name}={value!r}; give {self._allowed(name)}")

    def _allowed(self, name: str) -> str:
        kind = "an integer" if self.whole else "a number"
        lower = [f"{b.ge} <= " for b in self.bounds if isinstance(b, Ge)]
        lower += [f"{b.gt} < " for b in self.bounds if isinstance(b, Gt)]
        upper = [f" <= {b.le}" for b in self.bounds if isinstance(b, Le)]
        upper += [f" < {b.lt}" for b in self.bounds if isinstance(b, Lt)]
        if lower and not upper:  # "rho > 0" reads better than "0 < rho"
            bound, sign = lower[0].split()
            return f"{kind} with {name} {sign.replace('<', '>')} {bound}"
        return f"{kind} with {''.join([*lower, name, *upper])}" if upper else kind


def _within(value: Any, bound: Any) -> bool:
    match bound:
        case Ge(ge=limit):
            return bool(value >= limit)
        case Gt(gt=limit):
            return bool(value > limit)
        case Le(le=limit):
            return bool(value <= limit)
        case Lt(lt=limit):
            return bool(value < limit)
    return True  # metadata for others


@cache
def _numeric_fields(cls: type[Any]) -> tuple[tuple[str, _Numbers], ...]:
    hints = get_type_hints(cls, include_extras=True)
    found = ((field.name, _numbers(hints[field.name])) for field in fields(cls))
    return tuple((name, numbers) for name, numbers in found if numbers is not None)


def _numbers(hint: Any) -> _Numbers | None:
    """What the annotation says of numbers; ``None`` where it says nothing."""
    arms = list(_arms(hint))
    kinds = [kind for kind, _ in arms]
    if not {int, float} & set(kinds):
        return None
    bounds = tuple(bound for kind, bounds in arms if kind in (int, float) for bound in bounds)
    return _Numbers(
        whole=float not in kinds,
        bounds=bounds,
        boolean=bool in kinds,
        others=bool(set(kinds) - {int, float, bool}),
    )


def _arms(hint: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The types of a union, each with its bounds."""
    if get_origin(hint) is Annotated:
        inner, *metadata = get_args(hint)
        bounds = tuple(
            bound for one in metadata for bound in (one if isinstance(one, Interval) else (one,))
        )
        for kind, own in _arms(inner):
            yield kind, (*own, *bounds)
    elif get_origin(hint) in (Union, UnionType):
        for arm in get_args(hint):
            yield from _arms(arm)
    else:
        yield hint, ()
