"""Positions, values and the coder: each code has its inverse and costs what it says."""

from math import comb, log2, pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.errors import CheckpointError
from espalier.packing import _fields as fields
from espalier.packing._coder import Reader, Recorder, encode
from espalier.packing._positions import (
    FLAT,
    Spread,
    best_gap_bits,
    best_spread,
    bound,
    code_positions,
    from_gaps,
    gaps,
    padding,
)
from espalier.packing._values import (
    DTYPES,
    code_planes,
    code_symbols,
    level_patterns,
    levels,
    pattern_type,
    patterns,
    table,
    tensor_of,
)

masks = st.lists(st.booleans(), max_size=200).map(lambda bits: np.array(bits, np.int32))


def through(walk, *known):
    """What a decoder gets when the encoder's walk has been coded, and the bits that took."""
    pytest.importorskip("constriction")
    recorder = Recorder()
    walk(recorder, *known)
    data, (taken,) = encode([recorder])
    reader = Reader(data)
    found = walk(reader, *[None for _ in known])
    reader.finish()
    return found, taken, recorder.cost()


@given(masks, st.integers(1, 16))
def test_the_relative_index_comes_back(mask, bits):
    positions = np.flatnonzero(mask)
    written = gaps(positions, bits)
    assert written.max(initial=0) < 1 << bits
    assert np.array_equal(from_gaps(written, bits), positions)
    assert len(written) == len(positions) + padding(positions, bits)


def test_a_gap_above_2_to_the_b_less_1_and_no_smaller_one_needs_padding():
    for bits in (1, 3, 5):
        longest = (1 << bits) - 1
        assert padding(np.array([longest - 1]), bits) == 0  # the first distance is position + 1
        assert padding(np.array([longest]), bits) == 1
        assert padding(np.array([2 * longest]), bits) == 2


@given(masks, st.integers(0, 8))
def test_the_best_width_is_the_best_of_all(mask, entry):
    positions = np.flatnonzero(mask)
    distances = np.diff([-1, *positions])

    def cost(bits):  # by counting, without arithmetic on distances
        pads = 0
        for distance in distances:
            while distance > (1 << bits) - 1:
                distance -= (1 << bits) - 1
                pads += 1
        return (len(positions) + pads) * bits + pads * entry

    assert best_gap_bits(positions, entry) == min(range(1, 17), key=cost)


@pytest.mark.parametrize(("n", "k"), [(0, 0), (1, 1), (10, 3), (800, 5), (25_000, 750)])
def test_the_bound_is_the_logarithm_of_the_binomial(n, k):
    assert bound(n, k) == pytest.approx(log2(comb(n, k)), rel=1e-9, abs=1e-9)


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 99), st.integers(0, 15),
       st.integers(0, 15), st.integers(0, 1000))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_coded_positions_come_back(rows, columns, percent, alpha, beta, seed):
    generator = np.random.default_rng(seed)
    mask = (generator.random(rows * columns) < percent / 100).astype(np.int32)

    def walk(coder, known):
        return code_positions(coder, (rows, columns), int(mask.sum()), Spread(alpha, beta), known)

    found, taken, cost = through(walk, mask)
    assert np.array_equal(found, mask)
    assert abs(taken - cost) < 40  # the state of the coder, once a file


@pytest.mark.parametrize(("shape", "k"), [((500, 800), 1640), ((20, 25), 100), ((3000,), 30)])
def test_scattered_positions_cost_little_more_than_the_bound(shape, k):
    mask = np.zeros(int(np.prod(shape)), np.int32)
    mask[np.random.default_rng(1).choice(len(mask), k, replace=False)] = 1
    recorder = Recorder()
    code_positions(recorder, shape, k, FLAT, mask)
    # Independent bits spend ½ log₂ 2πk on saying how many there are, though that is known.
    assert 0 < recorder.cost() - bound(len(mask), k) < log2(2 * pi * k) / 2 + 1


def test_dead_rows_and_columns_cost_next_to_nothing():
    generator = np.random.default_rng(2)
    mask = np.zeros((200, 300), np.int32)
    mask[:30, :60] = generator.random((30, 60)) < 0.2  # 30 × 60 connections are live
    mask = mask[generator.permutation(200)][:, generator.permutation(300)]
    flat, k = np.ascontiguousarray(mask).reshape(-1), int(mask.sum())
    spread, recorder = best_spread(mask.shape, flat, adaptive=True)
    assert not spread.uniform
    told = bound(200, 30) + bound(300, 60) + bound(30 * 60, k)  # which are live, then where
    assert told < recorder.cost() < 1.1 * told < 0.6 * bound(mask.size, k)
    assert best_spread(mask.shape, flat, adaptive=False)[0] == FLAT


@given(st.integers(1, 256), st.integers(0, 700), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_coded_symbols_come_back(alphabet, size, seed):
    known = np.random.default_rng(seed).integers(0, alphabet, size).astype(np.int32)
    found, taken, cost = through(
        lambda coder, known: code_symbols(coder, alphabet, size, known), known
    )
    assert np.array_equal(found, known)
    assert abs(taken - cost) < 40


def test_the_counts_learn_the_distribution():
    known = (np.random.default_rng(3).random(4000) < 0.1).astype(np.int32)
    share = known.mean()
    entropy = -len(known) * (share * log2(share) + (1 - share) * log2(1 - share))
    recorder = Recorder()
    code_symbols(recorder, 2, len(known), known)
    assert entropy <= recorder.cost() < entropy + 15  # ½ log₂ 4000 is 6


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_coded_planes_come_back(width):
    known = np.random.default_rng(4).integers(0, 1 << 62, 90).astype(f"u{width}")
    found, _, _ = through(lambda coder, known: code_planes(coder, width, 90, known), known)
    assert np.array_equal(found.view(f"<u{width}"), known)


def test_streams_of_a_file_are_read_in_order_and_their_bits_sum_to_its_length():
    pytest.importorskip("constriction")
    generator, recorders, sent = np.random.default_rng(5), [], []
    for size in (0, 1, 70, 500):
        recorder, known = Recorder(), generator.integers(0, 5, size).astype(np.int32)
        code_symbols(recorder, 5, size, known)
        recorders.append(recorder)
        sent.append(known)
    data, taken = encode(recorders)
    assert 0 <= 8 * len(data) - sum(taken) < 8
    assert taken[0] == 0
    reader = Reader(data)
    for known in sent:
        assert np.array_equal(code_symbols(reader, 5, len(known)), known)
    reader.finish()
    with pytest.raises(CheckpointError, match="more or less"):
        Reader(data).finish()
    with pytest.raises(CheckpointError, match="ends in nothing"):
        Reader(data + b"\0")


@given(st.integers(0, 20), st.data())
def test_numbers_of_a_fixed_width_come_back(width, data):
    numbers = np.array(data.draw(st.lists(st.integers(0, (1 << width) - 1), max_size=50)), np.int64)
    written = fields.to_bytes(numbers, width)
    assert len(written) == fields.length(len(numbers), width) == -(-len(numbers) * width // 8)
    assert np.array_equal(fields.from_bytes(written, len(numbers), width), numbers)


def test_long_streams_are_written_in_pieces_without_a_seam():
    numbers = np.random.default_rng(6).integers(0, 8, 200_001)
    assert np.array_equal(fields.from_bytes(fields.to_bytes(numbers, 3), 200_001, 3), numbers)


@pytest.mark.parametrize("dtype", DTYPES)
def test_patterns_come_back(dtype):
    width = pattern_type(dtype).itemsize
    top = 2 if dtype == torch.bool else 1 << 8 * width
    known = np.array([0, 1, top - 1, top >> 1], pattern_type(dtype))
    tensor = tensor_of(known, dtype, (2, 2))
    assert tensor.dtype == dtype
    assert tensor.shape == (2, 2)
    assert np.array_equal(patterns(tensor), known)
    assert np.array_equal(patterns(tensor.T), known[[0, 2, 1, 3]])  # not contiguous


FLOATS = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64])


@given(FLOATS, st.floats(1e-3, 10), st.sets(st.integers(1, 8), min_size=1), st.integers(0, 2**16))
@settings(deadline=None)
def test_levels_of_one_distance_are_recognised_bit_for_bit(dtype, distance, used, signs):
    q = torch.tensor(distance).to(dtype)
    values = [(-1) ** (signs >> level & 1) * level * q for level in used]
    distinct = table(patterns(torch.stack(values)))
    found = levels(distinct.book, dtype)
    assert found is not None
    assert len(found.book) == 1
    assert len(found.patterns) <= 2 * max(used)  # as few levels as there were, or fewer
    assert np.isin(distinct.book, found.patterns).all()
    assert np.array_equal(
        level_patterns(found.book, dtype, len(found.patterns) // 2), found.patterns
    )


@pytest.mark.parametrize(
    "values",
    [
        [0.1, 0.2001],  # nearly even
        [1.0, -0.0],
        [1.0, float("nan")],
        [1.0, float("inf")],
        [1.0, 129.0],  # beyond the alphabet
    ],
)
def test_what_is_not_even_has_no_levels(values):
    if values == [1.0, 129.0]:
        assert levels(table(patterns(torch.tensor([1.0, 128.0]))).book, torch.float32) is not None
    assert levels(table(patterns(torch.tensor(values))).book, torch.float32) is None


def test_integers_have_a_table_and_no_levels():
    book = table(patterns(torch.tensor([1, 2, 3])))
    assert len(book.patterns) == 3
    assert levels(book.book, torch.int64) is None


def test_more_than_256_values_have_no_table():
    assert table(patterns(torch.arange(256))) is not None
    assert table(patterns(torch.arange(257))) is None
    late = torch.cat([torch.zeros(5000), torch.arange(300.0)])  # beyond the first look
    assert table(patterns(late)) is None
