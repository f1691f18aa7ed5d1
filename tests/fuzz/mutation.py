"""Valid files made wrong: bytes flipped, cut, spliced; numbers at their extremes; trees with other branches."""

import copy
import random
from collections.abc import Callable
from typing import Any

EXTREMES = (
    *(0, 1, -1, 2, 7, 8, 127, 128, 255, 256, 65_535, 65_536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32),
    *(10**12, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 10**30, 10**39, 10**45, -(2**63)),
)  # fmt: skip
WORDS = (
    *("", "x", "x" * 700, "\0", "\n", "../../x", "ω", "nan", "1e999", "yes", "1:30", "<<", "=", "*a"),
    *("filters", "__class__", "os:system", "\ud800", "a.b.c", "%s{0}", " "),
)  # fmt: skip


def deep(levels: int, mapping: bool = False) -> Any:
    found: Any = 0
    for _ in range(levels):
        found = {"a": found} if mapping else [found]
    return found


def values(rng: random.Random) -> Any:
    """Anything that a tree may hold and that nobody expects there."""
    return rng.choice(
        [
            lambda: rng.choice(EXTREMES), lambda: rng.choice(EXTREMES), lambda: rng.choice(WORDS),
            lambda: rng.choice((0.0, -0.5, 1e-300, 1e300, 0.1, float("inf"), float("nan"))),
            lambda: rng.choice((None, True, False, [], {}, [[]], {"a": {}})),
            lambda: deep(rng.choice((5, 60, 150)), rng.random() < 0.5),
            lambda: [rng.choice(EXTREMES) for _ in range(rng.choice((1, 2, 3, 1000)))],
        ]
    )()  # fmt: skip


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all nodes."""
    found = [at]
    pairs = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in pairs:
        found += places(value, (*at, key))
    return found


def reach(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def tree(rng: random.Random, original: Any, most: int = 3) -> Any:
    """One to ``most`` nodes replaced, taken away, doubled, moved, wrapped or renamed."""
    made = copy.deepcopy(original)
    for _ in range(rng.randint(1, most)):
        every = places(made)
        path = rng.choice(every)
        if not path:
            if rng.random() < 0.05:
                made = values(rng)
            continue
        owner, key = reach(made, path[:-1]), path[-1]
        kind = rng.randrange(8)
        if kind <= 2:
            owner[key] = values(rng)
        elif kind == 3:
            del owner[key]
        elif kind == 4:
            owner[key] = copy.deepcopy(reach(made, rng.choice(every)))
        elif kind == 5 and isinstance(owner, list):
            owner[key:key] = [copy.deepcopy(owner[key]) for _ in range(rng.choice((1, 2, 500)))]
        elif kind == 6 and isinstance(owner, dict):
            owner[rng.choice(WORDS)] = owner.pop(key)
        elif kind == 7 and isinstance(owner[key], int | float):
            try:
                owner[key] = rng.choice(
                    (owner[key] + 1, owner[key] - 1, -owner[key], owner[key] * 2**20)
                )
            except OverflowError:
                owner[key] = 0
        else:
            owner[key] = [owner[key]]
    return made


def content(rng: random.Random, original: bytes, other: bytes) -> bytes:
    """Bytes flipped, cut off, cut out, doubled, spliced with another file, or numbers set to extremes."""
    made = bytearray(original)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = (
            rng.randrange(len(made) + 1)
            if rng.random() < 0.5
            else rng.randrange(min(len(made), 64) + 1)
        )
        size = rng.choice((1, 2, 4, 8, 64, 1024))
        kind = rng.randrange(8)
        if kind <= 1 and at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del made[at:]
        elif kind == 3:
            del made[at : at + size]
        elif kind == 4:
            made[at:at] = made[at : at + size] * rng.choice((1, 2, 100))
        elif kind == 5:
            start = rng.randrange(len(other) + 1)
            made[at : at + size] = other[start : start + size]
        elif kind == 6:
            width, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
            number = rng.choice(EXTREMES) % (1 << 8 * width)
            made[at : at + width] = number.to_bytes(width, order)
        else:
            made[at : at + 1] = rng.randbytes(size)
    return bytes(made)


TRICKS: tuple[Callable[[random.Random, list[str]], None], ...] = (
    lambda rng, lines: lines.insert(0, "x: &a [" + "1, " * 9 + "1]"),
    lambda rng, lines: lines.append("z: *a"),
    lambda rng, lines: lines.extend(["a: &a [x, x]", *(f"{c}: &{c} [*a, *a]" for c in "bcdefgh")]),
    lambda rng, lines: lines.append("y: {<<: {q: 1}}"),
    lambda rng, lines: lines.append(rng.choice(lines)),
    lambda rng, lines: lines.append("t: !!python/object/apply:os.getcwd []"),
    lambda rng, lines: lines.append("s: !!set {a, b}"),
    lambda rng, lines: lines.append("d: " + "[" * rng.choice((50, 2000, 100_000))),
    lambda rng, lines: lines.append("m: " + "{a: " * 5000),
    lambda rng, lines: lines.append("? " * 3000),
    lambda rng, lines: lines.append("b: !!binary aGk="),
    lambda rng, lines: lines.append("day: 2026-13-45"),
    lambda rng, lines: lines.append("n: " + "9" * rng.choice((30, 5000))),
    lambda rng, lines: lines.append("---\na: 1"),
    lambda rng, lines: lines.insert(rng.randrange(len(lines) + 1), "\t" * 3),
    lambda rng, lines: lines.append("long: [" + "a," * 50_000 + "]"),
    lambda rng, lines: lines.insert(0, "%YAML 9.9"),
    lambda rng, lines: lines.append("e: " + "!" * 40),
)  # fmt: skip


def yaml_text(rng: random.Random, text: str) -> str:
    """A text with some of YAML's own traps in it."""
    lines = text.splitlines() or ["a: 1"]
    for _ in range(rng.randint(1, 2)):
        rng.choice(TRICKS)(rng, lines)
    return "\n".join(lines) + "\n"
