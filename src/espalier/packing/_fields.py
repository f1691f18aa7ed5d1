"""Numbers of a fixed width, bit after bit; the last byte is filled with zeros."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 16  # numbers at a time: each of their bits takes a byte meanwhile


def to_bytes(numbers: NDArray[Any], width: int) -> bytes:
    """Write numbers below 2^width, lowest bit first.

    >>> to_bytes(np.array([1, 2, 3, 0, 1]), 2).hex()  # 01 10 11 00 | 01, from the right
    '3901'
    """
    shifts = np.arange(width, dtype=np.uint64)
    return b"".join(
        np.packbits(
            (numbers[at : at + _CHUNK, None].astype(np.uint64) >> shifts & np.uint64(1)).astype(
                np.uint8
            ),
            bitorder="little",
        ).tobytes()
        for at in range(0, len(numbers), _CHUNK)
    )


def length(count: int, width: int) -> int:
    """Bytes of so many numbers.

    >>> length(5, 2)
    2
    """
    return -(-count * width // 8)


def from_bytes(data: bytes, count: int, width: int) -> NDArray[Any]:
    """The inverse of :func:`to_bytes`, in the narrowest of uint8, uint16 and uint64.

    >>> from_bytes(bytes.fromhex("3901"), 5, 2)
    array([1, 2, 3, 0, 1], dtype=uint8)
    """
    found = np.zeros(count, np.uint8 if width <= 8 else np.uint16 if width <= 16 else np.uint64)
    if not width:  # one number only, and nothing was written
        return found
    scale = np.int64(1) << np.arange(width, dtype=np.int64)
    for at in range(0, count, _CHUNK):
        size = min(_CHUNK, count - at)
        # A chunk is a multiple of eight numbers, so every one begins at a full byte, whatever the
        # width.
        start = at * width // 8
        raw = np.frombuffer(data[start : start + length(size, width)], np.uint8)
        bits = np.unpackbits(raw, count=size * width, bitorder="little").reshape(size, width)
        found[at : at + size] = bits @ scale
    return found
