"""What sizes that are held by several names may become, and in which order that is tried."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product

MIXED = 3
"""So many names at most are given different sizes."""
Choice = Mapping[str, int]
"""Attributes, and what each becomes."""


def choices_of(names: Sequence[str], sizes: Sequence[int]) -> list[Choice]:
    """What one size held by ``names`` may become: all of them, or each alone; or each what it will.

    >>> choices_of(["a", "b"], [3])
    [{'a': 3, 'b': 3}, {'a': 3}, {'b': 3}]
    >>> choices_of(["a", "b"], [3, 4])
    [{'a': 3, 'b': 3}, {'a': 4, 'b': 4}, {'a': 3, 'b': 4}, {'a': 4, 'b': 3}]
    """
    found: list[Choice] = [dict.fromkeys(names, size) for size in sizes]
    if len(sizes) == 1 < len(names):
        return [*found, *({name: sizes[0]} for name in names)]
    if len(names) <= MIXED:
        mixed = (each for each in product(sizes, repeat=len(names)) if len(set(each)) > 1)
        found += [dict(zip(names, each, strict=True)) for each in mixed]
    return found


def ways(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Which choice for each of several sizes: the first of all, then one of them another, then two.

    >>> list(ways([2, 1, 3]))
    [(0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 2), (1, 0, 1), (1, 0, 2)]
    """
    for others in range(len(counts) + 1):
        for places in combinations(range(len(counts)), others):
            for digits in product(*(range(1, counts[at]) for at in places)):
                chosen = dict(zip(places, digits, strict=True))
                yield tuple(chosen.get(at, 0) for at in range(len(counts)))
