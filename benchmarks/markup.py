"""Tables and figures as the documentation prints them."""

import statistics
from collections.abc import Sequence


def percent(values: Sequence[float]) -> str:
    """Median, and the range where there are several; a dash for none."""
    if not values:
        return "—"
    middle = f"{100 * statistics.median(values):.2f}"
    if len(values) == 1:
        return middle
    return f"{middle} [{100 * min(values):.2f}, {100 * max(values):.2f}]"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
