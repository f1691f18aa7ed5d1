"""The entropy coder: symbols and their probabilities become bytes, and come back.

Asymmetric numeral systems (Duda, arXiv 1311.2540) by the library constriction. A stream costs the
information it holds, −Σ log₂ p bits, and all streams of a file together a few bits more. Encoder
and decoder walk through the same code: :class:`Recorder` is told the symbols, :class:`Reader` finds
them out, and both hand them back; so whatever adapts to the past sees the same past.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from espalier.errors import CheckpointError, RequestError

Symbols = NDArray[np.int32]
"""Symbols, numbered from 0; in a binary stream 0 or 1."""

Floats = NDArray[np.float64]

_SCALE = 1 << 20  # probabilities of bits are dyadic, so that the library has nothing to round


class Coder(Protocol):
    """Either direction. The encoder is told the symbols as ``known``; the decoder finds them out."""

    def bits(self, ones: Floats, known: Symbols | None) -> Symbols:
        """One bit for each probability of a one."""
        ...

    def symbols(self, counts: Floats, size: int, known: Symbols | None) -> Symbols:
        """So many symbols, each with a probability in proportion to its count."""
        ...


@dataclass
class Recorder:
    """The encoder's side: keeps what is to be encoded.

    >>> recorder = Recorder()
    >>> _ = recorder.bits(np.array([0.5, 0.25]), np.array([1, 1], np.int32))
    >>> _ = recorder.symbols(np.array([1.0, 7.0]), 2, np.array([0, 0], np.int32))
    >>> recorder.cost()
    9.0
    """

    _bits: list[tuple[Symbols, Floats]] = field(default_factory=list)
    _jobs: list[tuple[Symbols, Floats]] = field(default_factory=list)

    def bits(self, ones: Floats, known: Symbols | None) -> Symbols:
        """See :class:`Coder`."""
        assert known is not None
        self._bits.append((known, ones))
        return known

    def symbols(self, counts: Floats, size: int, known: Symbols | None) -> Symbols:
        """See :class:`Coder`."""
        assert known is not None
        self._join()
        self._jobs.append((known, counts[None]))
        return known

    def jobs(self) -> list[tuple[Symbols, Floats]]:
        """Symbols with their probabilities of a one (1-d), or with the counts of all (2-d)."""
        self._join()
        return self._jobs

    def cost(self) -> float:
        """−Σ log₂ p, in bits."""
        return sum(
            -float(np.log2(np.where(known == 1, given, 1.0 - given)).sum())
            if given.ndim == 1
            else -float(np.log2(given[0, known] / given.sum()).sum())
            for known, given in self.jobs()
        )

    def _join(self) -> None:
        """Bits that follow one another are encoded in one call."""
        if self._bits:
            known, ones = (np.concatenate(part) for part in zip(*self._bits, strict=True))
            self._jobs.append((known, _dyadic(ones)))
            self._bits.clear()


def encode(streams: Sequence[Recorder]) -> tuple[bytes, list[int]]:
    """All streams as one string, and the bits that each has taken of it.

    The decoder meets them in the order given. The bits sum to the length of the string but for the
    0 to 7 that fill its last byte.

    Raises:
        RequestError: constriction is not installed.
    """
    if not any(stream.jobs() for stream in streams):
        return b"", [0] * len(streams)
    library = _library()
    coder, taken = library.stream.stack.AnsCoder(), []
    for stream in reversed(streams):  # a stack: the last in is the first out
        before = _length(coder)
        for known, given in reversed(stream.jobs()):
            if given.ndim == 1:
                coder.encode_reverse(known, library.stream.model.Bernoulli(perfect=False), given)
            else:
                coder.encode_reverse(known, _categorical(library, given[0]))
        taken.append(_length(coder) - before)
    # Zeros on top carry nothing. A file that ends in them is refused, so it has one form only.
    return coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0"), taken[::-1]


class Reader:
    """The decoder's side.

    Args:
        data: From :func:`encode`.

    Raises:
        RequestError: There is something to decode and constriction is not installed.
        CheckpointError: Not what an encoder writes.
    """

    def __init__(self, data: bytes) -> None:
        if data and not data[-1]:
            raise CheckpointError("its coded part ends in nothing: damaged or altered")
        self._data = data
        self._coder: Any = None
        self._bit: Any = None

    def bits(self, ones: Floats, known: Symbols | None) -> Symbols:
        """See :class:`Coder`."""
        coder = self._opened()
        return np.asarray(coder.decode(self._bit, _dyadic(ones)), np.int32)

    def symbols(self, counts: Floats, size: int, known: Symbols | None) -> Symbols:
        """See :class:`Coder`."""
        return np.asarray(self._opened().decode(_categorical(_library(), counts), size), np.int32)

    def finish(self) -> None:
        """Make sure that all of it was read.

        Raises:
            CheckpointError: Something is left.
        """
        if self._data and not (self._coder and self._coder.is_empty()):
            raise CheckpointError("its coded part holds more or less than its tensors need")

    def _opened(self) -> Any:
        if self._coder is None:
            words = np.frombuffer(self._data + bytes(-len(self._data) % 4), "<u4")
            stream = _library().stream
            self._coder = stream.stack.AnsCoder(words.astype(np.uint32))
            self._bit = stream.model.Bernoulli(perfect=False)
        return self._coder


def available() -> bool:
    """Whether the library is installed."""
    return find_spec("constriction") is not None


def _library() -> Any:
    try:
        import constriction
    except ImportError as error:
        raise RequestError(
            "entropy coding needs constriction: pip install 'espalier[pack]'"
        ) from error
    return constriction


def _length(coder: Any) -> int:
    """Bits up to the highest that is set; the library does not count that one."""
    return 0 if coder.is_empty() else int(coder.num_valid_bits()) + 1


def _dyadic(ones: Floats) -> Floats:
    # Never 0 or 1: a symbol that was given no chance could not be coded at all.
    scaled = np.floor(ones * _SCALE)
    np.maximum(scaled, 1.0, out=scaled)
    np.minimum(scaled, _SCALE - 1.0, out=scaled)
    scaled /= _SCALE
    return scaled


def _categorical(library: Any, counts: Floats) -> Any:
    return library.stream.model.Categorical(counts, perfect=False)
