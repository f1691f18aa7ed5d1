"""Which groups of channels a smaller model cannot do without, found by halving.

A removal that fails as a whole is tried in parts: first without what is suspected, then half by
half, down to single groups. What is found to fail stays; the rest goes.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from espalier.graph._groups import ChannelGraph
from espalier.graph._labels import Ids

MOST = 80
"""Attempts altogether; what is not decided by then stays."""
ALIKE = 2
"""So many groups of a kind that fail alone condemn the kind."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Failed:
    """No module was found.

    Attributes:
        why: What went wrong last.
        suspects: Classes that pass where it did; empty where nothing can be told.
    """

    why: str
    suspects: Ids


class Found(Protocol):
    """What an attempt gives when it succeeds."""

    @property
    def gone(self) -> Ids:
        """The classes removed."""
        ...


F = TypeVar("F", bound=Found)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """The classes of one group that are to go; groups of blocks of one kind have one ``kind``."""

    kind: str
    classes: Ids


def localised(
    graph: ChannelGraph, gone: Ids, without: Callable[[Ids], F | Failed]
) -> tuple[F | Failed, dict[int, str]]:
    """Remove what can be removed.

    Args:
        graph: Whose groups are told apart.
        gone: Classes that are to go.
        without: One attempt to do without some classes.

    Returns:
        The largest removal that was found, or the failure to remove even nothing; and why each class
        stays that an attempt failed on.
    """
    found = without(gone)
    if not isinstance(found, Failed) or not gone.size:
        return found, {}
    base, stays = without(gone[:0]), {}
    if isinstance(base, Failed):
        return base, {}
    blamed: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    condemned: dict[str, str] = {}
    left = MOST
    # Depth first; on top of the stack is what is the likeliest to succeed.
    stack = _divided(_parts(graph, gone), found.suspects)
    while stack:
        chunk = stack.pop()
        for part in [p for p in chunk if p.kind in condemned]:
            stays.update(dict.fromkeys(part.classes.tolist(), condemned[part.kind]))
        chunk = [p for p in chunk if p.kind not in condemned]
        if not chunk:
            continue
        left -= 1
        if left < 0:
            why = f"not tried, since {MOST} attempts were not enough"
            stays.update(dict.fromkeys(np.concatenate([p.classes for p in chunk]).tolist(), why))
            continue
        tried = without(np.union1d(base.gone, np.concatenate([p.classes for p in chunk])))
        if not isinstance(tried, Failed):
            base = tried
        elif len(chunk) > 1:
            stack += _divided(chunk, tried.suspects)
        else:
            (part,) = chunk
            # One reason for all of a kind: the messages differ in sizes alone.
            why = reasons.setdefault(part.kind, tried.why)
            stays.update(dict.fromkeys(part.classes.tolist(), why))
            blamed[part.kind] += 1
            if blamed[part.kind] == ALIKE:
                condemned[part.kind] = why
    return base, stays


def _parts(graph: ChannelGraph, gone: Ids) -> list[_Part]:
    parts = []
    for group in graph.groups:
        classes = np.intersect1d(np.array([u.id for u in group.units], dtype=np.int64), gone)
        if classes.size:
            names = [name for name, _ in (*group.producers, *group.consumers)]
            kind = re.sub(r"\d+", "#", " ".join(names))
            parts.append(_Part(kind=kind, classes=classes))
    # Stable: kinds stand together, and within one the groups in the order of the model.
    return sorted(parts, key=lambda part: part.kind)


def _divided(chunk: Sequence[_Part], suspects: Ids) -> list[list[_Part]]:
    """The suspects below the others; where that is no division, the second half below the first."""
    passing = [p for p in chunk if np.isin(p.classes, suspects).any()]
    others = [p for p in chunk if not np.isin(p.classes, suspects).any()]
    if passing and others:
        return [passing, others]
    half = (len(chunk) + 1) // 2
    return [part for part in (list(chunk[half:]), list(chunk[:half])) if part]
