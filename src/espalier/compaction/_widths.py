"""Widths that may be: at least so many, divisible by so much, and no ragged joints."""

import numpy as np
from numpy.typing import NDArray

from espalier.errors import RequestError
from espalier.graph._groups import Axis, ChannelGraph
from espalier.graph._labels import Ids

RAGGED = "an axis split in two (heads by width) would be ragged"


def restrict(
    graph: ChannelGraph, gone: Ids, *, multiple: int = 1, minimum: int = 1
) -> tuple[Ids, dict[int, str]]:
    """The classes of ``gone`` that may go without breaking a width, and why the others stay.

    Every axis keeps at least ``minimum`` indices and a number of them divisible by ``multiple``
    (or all, where it has fewer or cannot be divided). Classes come back lowest id first. An axis
    that only reads is a concatenation of axes that create; it keeps at least one index.

    Raises:
        RequestError: ``multiple`` or ``minimum`` below 1.
    """
    if multiple < 1 or minimum < 1:
        raise RequestError(f"multiple={multiple}, minimum={minimum}: both must be at least 1")
    reasons: dict[int, str] = {}
    while True:
        # A class that comes back widens every axis it lies on and can leave a joint ragged, so
        # both rules run until neither asks for more. ``gone`` only shrinks, so that ends.
        box = rectangular(graph, gone)
        reasons |= dict.fromkeys(np.setdiff1d(gone, box).tolist(), RAGGED)
        gone = box
        found: dict[int, str] = {}
        for axis, ids in graph.classes.items():
            back, why = _short(graph, axis, ids, gone, multiple, minimum)
            # The right side wins: a class keeps the reason of the first axis that asked for it.
            found = dict.fromkeys(back.tolist(), why) | found
        if not found:
            return gone, reasons
        reasons |= found
        gone = np.setdiff1d(gone, np.fromiter(found, dtype=np.int64))


def _short(
    graph: ChannelGraph, axis: Axis, ids: Ids, gone: Ids, multiple: int, minimum: int
) -> tuple[Ids, str]:
    """The classes that must return for the width of one axis, and why."""
    absent = np.isin(ids, gone)
    if not absent.any():
        return gone[:0], ""
    # What only reads is as wide as what it concatenates; a width of its own it cannot choose.
    own = axis in graph.producing
    least = min(minimum if own else 1, len(ids))
    step = multiple if own else 1
    kept = int((~absent).sum())
    if kept >= least and kept % step == 0:
        return gone[:0], ""
    why = f"a width divisible by {step}" if kept >= least else f"a width of at least {least}"
    return _returning(ids, absent, kept, least, step), f"{axis[0]} keeps {why}"


def _returning(
    ids: Ids,
    absent: NDArray[np.bool_],
    kept: int,
    least: int,
    multiple: int,
) -> Ids:
    """The lowest classes whose return brings an axis to its width."""
    classes, counts = np.unique(ids[absent], return_counts=True)
    total = kept + np.cumsum(counts)
    # The fewest that reach a width that is allowed; where none does, all come back.
    fits = (total >= least) & (total % multiple == 0)
    count = int(fits.argmax()) + 1 if fits.any() else len(classes)
    found: Ids = classes[:count]
    return found


def rectangular(graph: ChannelGraph, gone: Ids) -> Ids:
    """Without the classes that would leave an axis split in two (heads × width) ragged."""
    while True:
        ragged = [place.ragged(gone) for place in graph.sites]
        back = np.unique(np.concatenate([gone[:0], *ragged]))
        if not back.size:
            return gone
        gone = np.setdiff1d(gone, back)
