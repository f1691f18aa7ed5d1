"""Where every bit of a packed file goes, and what others would count.

Notation: n entries, k nonzeros, M values in a codebook, b bits of a field of the relative index,
P padding entries.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, kw_only=True)
class PackedTensor:
    """The bits of one tensor, in the file and by the papers' rule.

    Attributes:
        name: As in the state dictionary.
        shape: Its shape.
        parameters: n.
        nonzero: k, in bit patterns: −0.0 counts, only 0 does not.
        positions: How they are written, in words.
        values: How they are written, in words.
        index_bits: Positions.
        data_bits: Values.
        codebook_bits: The table, or the distance of the levels.
        bound_bits: log₂ C(n, k), what positions need when all are equally likely. Less is possible
            where they are not.
        value_bits: ⌈log₂ M⌉, or the width of the dtype where there is no codebook.
        gap_bits: b of the cheapest relative index in Han's layout.
        gap_padding: P of that index.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    nonzero: int
    positions: str
    values: str
    index_bits: int
    data_bits: int
    codebook_bits: int
    bound_bits: float
    value_bits: int
    gap_bits: int
    gap_padding: int

    @property
    def bits(self) -> int:
        """All it takes in the file, without its part of the header."""
        return self.index_bits + self.data_bits + self.codebook_bits

    @property
    def weight(self) -> bool:
        """Whether the papers count it: a weight has two axes or more, a bias has one."""
        return len(self.shape) > 1

    @property
    def paper_data_bits(self) -> int:
        """k·⌈log₂ M⌉: values of a fixed width, as ADMM-NN counts "data"."""
        return self.nonzero * self.value_bits

    @property
    def paper_index_bits(self) -> int:
        """(k + P)·b + P·⌈log₂ M⌉: the relative index, whose padding entries hold a value too."""
        entries = self.nonzero + self.gap_padding
        return entries * self.gap_bits + self.gap_padding * self.value_bits


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What :func:`~espalier.packing.pack` wrote: 8·``file_bytes`` is the sum of all its bits.

    Attributes:
        tensors: One by one, in the order of the state dictionary.
        header_bits: Names, shapes, dtypes, codes, checksum.
        filling_bits: What fills the last byte of a stream.
        file_bytes: On disk.
    """

    tensors: tuple[PackedTensor, ...]
    header_bits: int
    filling_bits: int
    file_bytes: int

    @property
    def weights(self) -> tuple[PackedTensor, ...]:
        """The tensors that the papers count."""
        return tuple(tensor for tensor in self.tensors if tensor.weight)

    @property
    def index_bits(self) -> int:
        """Positions of all tensors."""
        return sum(tensor.index_bits for tensor in self.tensors)

    @property
    def data_bits(self) -> int:
        """Values of all tensors."""
        return sum(tensor.data_bits for tensor in self.tensors)

    @property
    def codebook_bits(self) -> int:
        """Codebooks of all tensors."""
        return sum(tensor.codebook_bits for tensor in self.tensors)

    @property
    def parameters(self) -> int:
        """Entries of all tensors."""
        return sum(tensor.parameters for tensor in self.tensors)

    @property
    def bound_bits(self) -> float:
        """Σ log₂ C(n, k) + k·⌈log₂ M⌉ over the weights: no index of scattered positions needs less."""
        return sum(tensor.bound_bits + tensor.paper_data_bits for tensor in self.weights)

    @property
    def ratio(self) -> float:
        """4 bytes per parameter, over the bytes on disk."""
        return 4 * self.parameters / self.file_bytes

    @property
    def data_ratio(self) -> float:
        """32 bits per weight over k·⌈log₂ M⌉ (papers, data alone): indices and biases are free."""
        return _ratio(self.weights, (tensor.paper_data_bits for tensor in self.weights))

    @property
    def paper_ratio(self) -> float:
        """32 bits per weight over data, relative index and codebook (papers, with indices)."""
        return _ratio(
            self.weights,
            (
                tensor.paper_data_bits + tensor.paper_index_bits + tensor.codebook_bits
                for tensor in self.weights
            ),
        )

    @property
    def weights_ratio(self) -> float:
        """32 bits per weight over what the weights take in this file, header and biases left out."""
        return _ratio(self.weights, (tensor.bits for tensor in self.weights))


def _ratio(tensors: Iterable[PackedTensor], bits: Iterable[int]) -> float:
    total = sum(bits)
    return 32 * sum(tensor.parameters for tensor in tensors) / total if total else inf
