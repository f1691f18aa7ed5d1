"""Every bit is accounted for, and the papers' figures follow from counting by hand."""

import numpy as np
import pytest
import torch

from espalier import models
from espalier.packing import PackedTensor, pack
from espalier.packing._container import to_bytes


def row(**changes):
    found = {
        "name": "w", "shape": (10, 10), "parameters": 100, "nonzero": 7, "positions": "", "values": "",
        "index_bits": 40, "data_bits": 20, "codebook_bits": 32, "bound_bits": 33.9, "value_bits": 3,
        "gap_bits": 4, "gap_padding": 2,
    }  # fmt: skip
    return PackedTensor(**(found | changes))


def test_the_papers_count_by_hand():
    assert row().paper_data_bits == 7 * 3
    assert row().paper_index_bits == (7 + 2) * 4 + 2 * 3  # padding has a field and a value
    assert row().bits == 40 + 20 + 32
    assert not row(shape=(10,)).weight


def test_positions_at_known_gaps_cost_what_the_layout_says():
    weight = torch.zeros(1, 4000)
    weight[0, 30::31] = 0.5  # every distance is 31: five bits and no padding
    weight[0, 61::62] = -0.5
    found = to_bytes({"w": weight})[1].tensors[0]
    assert (found.gap_bits, found.gap_padding, found.value_bits) == (5, 0, 1)
    assert found.nonzero == 4000 // 31
    assert found.paper_index_bits == 129 * 5
    assert found.paper_data_bits == 129


def test_a_padding_value_makes_wide_fields_better():
    weight = torch.zeros(1, 600)
    weight[0, ::5] = torch.arange(1.0, 121.0)
    weight[0, 300:400] = 0  # one distance of 105 among those of 5
    found = to_bytes({"w": weight})[1].tensors[0]
    assert (found.nonzero, found.value_bits, found.values) == (100, 8, "±120 levels")
    # (100 + P)·b + 8·P with P = ⌊104 / (2ᵇ − 1)⌋; 2: 134·2 + 34·8 = 540, 3: 114·3 + 14·8 = 454,
    # 4: 106·4 + 6·8 = 472; without values in the padding 2 would be best (268)
    assert (found.gap_bits, found.gap_padding, found.paper_index_bits) == (3, 14, 454)


def quantised_lenet5():
    """2,575 nonzeros at random: 3 bits in convolutions, 2 in linear layers, as ADMM-NN at 167×."""
    generator, state = np.random.default_rng(0), {}
    for name, tensor in models.build("lenet5").state_dict().items():
        count, bits = {
            "conv1.weight": (100, 3), "conv2.weight": (750, 3), "fc1.weight": (1640, 2),
            "fc2.weight": (85, 2),
        }.get(name, (0, 0))  # fmt: skip
        state[name] = torch.zeros_like(tensor)
        if count:
            half = 2 ** (bits - 1)
            levels = torch.tensor([*range(-half, 0), *range(1, half + 1)])
            where = generator.choice(tensor.numel(), count, replace=False)
            drawn = levels[torch.tensor(generator.integers(0, 2 * half, count))]
            state[name].view(-1)[where] = drawn * torch.tensor(0.0731)
    return state


def test_lenet5_at_167_times_comes_within_three_percent_of_the_bound(tmp_path):
    pytest.importorskip("constriction")
    packing = pack(tmp_path / "x.packed", quantised_lenet5())
    assert packing.file_bytes == (tmp_path / "x.packed").stat().st_size
    assert [tensor.value_bits for tensor in packing.weights] == [3, 3, 2, 2]
    data = (100 + 750) * 3 + (1640 + 85) * 2
    assert sum(tensor.paper_data_bits for tensor in packing.weights) == data == 6000
    assert packing.data_ratio == 32 * 430_500 / 6000  # 2,296×
    assert packing.codebook_bits == 4 * 32
    assert packing.bound_bits - 20 < 8 * packing.file_bytes < 1.03 * packing.bound_bits
    assert packing.ratio == 4 * 431_080 / packing.file_bytes


def test_index_and_data_bits_are_those_of_their_own_streams():
    pytest.importorskip("constriction")
    generator = np.random.default_rng(7)
    weight = torch.zeros(100, 400)
    where = generator.choice(40_000, 1000, replace=False)
    weight.view(-1)[where] = torch.tensor(
        generator.choice([1.0, 2.0], 1000, p=[0.95, 0.05])
    ).float()
    other = {"first": weight, "second": weight[:50].flip(0)}
    for found in to_bytes(other)[1].tensors:
        assert found.positions.startswith("coded")
        assert found.values.endswith("coded")
        assert found.index_bits == pytest.approx(found.bound_bits, abs=40)
        entropy = found.nonzero * 0.2864  # of 0.95 against 0.05; then there is learning it
        assert 0.8 * entropy < found.data_bits < 1.2 * entropy + 30


def test_without_entropy_coding_the_cheapest_of_three_layouts_is_taken(monkeypatch):
    from espalier.packing import _container as container

    monkeypatch.setattr(container, "available", lambda: False)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2000, generator=generator)
    often = torch.rand(2000, generator=generator) < 0.6
    often[-1] = True
    seldom = torch.arange(2000) % 100 == 0
    weights = {
        "dense": drawn,
        "bitmask": drawn.where(often, 0.0),
        "gaps of 7 bits": drawn.where(seldom, 0.0),
    }
    found = {tensor.name: tensor for tensor in to_bytes(weights)[1].tensors}
    for name, tensor in found.items():
        assert tensor.positions == name
    assert found["dense"].index_bits == 0
    assert found["bitmask"].index_bits == 2000
    assert found["gaps of 7 bits"].index_bits == 20 * 7
