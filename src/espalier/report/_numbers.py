"""How figures are written on the page: one function a quantity, never NaN, always a unit.

A value that is missing or not finite is written as an en dash, so that no table shows ``nan``.
"""

import math
from dataclasses import replace
from typing import Any

from espalier.tasks import Goal

MISSING = "–"
_THIN = "\u202f"  # narrow no-break space, before a unit
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def finite(value: Any) -> float | None:
    """The number, or ``None`` for whatever is not a finite number.

    >>> finite(float("nan")), finite(True), finite("3"), finite(3)
    (None, None, None, 3.0)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def percent(value: Any, digits: int = 2) -> str:
    """A fraction in [0, 1] as a percentage; what would round to zero is said to be less.

    >>> percent(0.98765).replace(_THIN, " "), percent(1e-9).replace(_THIN, " ")
    ('98.77 %', '< 0.01 %')
    """
    number = finite(value)
    if number is None:
        return MISSING
    least = 10.0**-digits
    if 0 < 100 * number < least / 2:
        return f"< {least:.{digits}f}{_THIN}%"
    return f"{100 * number:.{digits}f}{_THIN}%"


def points(value: Any) -> str:
    """A difference of two fractions, in percentage points, with its sign."""
    number = finite(value)
    if number is None:
        return MISSING
    rounded = round(100 * number, 2)
    sign = "−" if rounded < 0 else "+" if rounded > 0 else "±"
    return f"{sign}{abs(rounded):.2f}"


def figure(value: Any, goal: Goal) -> str:
    """A goal's figure in its unit: fractions in per cent, whatever else as the terminal has it.

    >>> error = Goal(name="wrong", unit="errors", higher_is_better=False)
    >>> [figure(0.98125, Goal()), figure(120, error)] == [percent(0.98125), f"120{_THIN}errors"]
    True
    """
    number = finite(value)
    if number is None or goal.unit == "fraction":
        return percent(number)
    return goal.shown(number).replace(" ", _THIN, 1)


def half_width(value: float, goal: Goal) -> str:
    """Half an interval of a goal's figure, on the scale of :func:`figure` and without its unit."""
    if goal.unit == "fraction":
        return f"{100 * value:.2f}"
    return replace(goal, unit="").shown(value)


def change(before: float, after: float, goal: Goal) -> str:
    """What a goal's figure lost or won: points where it is a fraction, else better or worse.

    >>> perplexity = Goal(name="perplexity", unit="", higher_is_better=False)
    >>> change(0.75, 0.5, Goal()), change(8.0, 8.5, perplexity), change(8.0, 8.0, perplexity)
    ('−25.00 points', '0.5 worse', 'the same')
    """
    if goal.unit == "fraction":
        return f"{points(after - before)} points"
    if figure(before, goal) == figure(after, goal):  # what is left is rounding
        return "the same"
    loss = goal.loss(before, after)
    return f"{figure(abs(loss), goal)} {'worse' if loss > 0 else 'better'}"


def ratio(value: Any, digits: int | None = None) -> str:
    """A ratio, such as a compression, with a multiplication sign.

    >>> ratio(85.24), ratio(1.028, digits=3), ratio(None)
    ('85.2×', '1.028×', '–')
    """
    number = finite(value)
    if number is None:
        return MISSING
    places = digits if digits is not None else 2 if number < 10 else 1 if number < 1000 else 0
    return f"{number:,.{places}f}×"


def count(value: Any) -> str:
    """An integer with thousands separated."""
    number = finite(value)
    return MISSING if number is None else f"{round(number):,}"


def scientific(value: Any) -> str:
    """A magnitude with three significant digits, plain where that is short.

    >>> scientific(0.01234), scientific(0.0), scientific(1.5e-7)
    ('0.0123', '0', '1.50·10⁻⁷')
    """
    number = finite(value)
    if number is None:
        return MISSING
    if number == 0:
        return "0"
    if 1e-3 <= abs(number) < 1e4:
        places = max(0, 2 - math.floor(math.log10(abs(number))))
        return f"{number:.{places}f}"
    mantissa, exponent = f"{number:.2e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def duration(value: Any) -> str:
    """Seconds, in the two largest units that matter.

    >>> duration(4.21).replace(_THIN, " "), duration(3725).replace(_THIN, " ")
    ('4.2 s', '1 h 2 min')
    """
    seconds = finite(value)
    if seconds is None:
        return MISSING
    if seconds < 1:
        return f"{1e3 * seconds:.3g}{_THIN}ms"
    if seconds < 60:
        return f"{seconds:.1f}{_THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_THIN}min {rest}{_THIN}s"
    return f"{minutes // 60}{_THIN}h {minutes % 60}{_THIN}min"


def milliseconds(value: Any) -> str:
    """Seconds as milliseconds, the unit left to the column, with three significant digits.

    >>> milliseconds(0.0001234), milliseconds(0.0456), milliseconds(1.5)
    ('0.123', '45.6', '1,500')
    """
    seconds = finite(value)
    if seconds is None:
        return MISSING
    number = 1e3 * seconds
    places = max(0, 2 - math.floor(math.log10(number))) if number > 0 else 0
    return f"{number:,.{min(places, 4)}f}"


def power_of_ten(value: float) -> str:
    """A tick of a logarithmic axis.

    >>> power_of_ten(0.01), power_of_ten(1.0)
    ('10⁻²', '1')
    """
    exponent = round(math.log10(value))
    return "1" if exponent == 0 else f"10{str(exponent).translate(_SUPERSCRIPTS)}"
