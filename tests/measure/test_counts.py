import pytest
import torch
from torch import nn

from espalier.errors import RequestError, UnknownNameError
from espalier.measure import (
    CONVENTIONS,
    Count,
    LayerKind,
    counts,
    layer_kinds,
    measure,
    measure_table,
    model_bytes,
    owners,
    tally,
)


def _network():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5), nn.Embedding(7, 2)
    )


def _all_ones(model):
    for p in model.parameters():
        nn.init.ones_(p)
    return model


def test_each_convention_counts_what_it_says():
    model = _all_ones(_network())
    with torch.no_grad():
        model[0].weight[0] = 0  # 27 of 108
        model[3].weight[:, 0] = 0  # 5 of 80
        model[1].bias.zero_()  # a zero that is no pruning
    report = counts(model, pruned=["0.weight"])
    assert report.all_nonbias == Count(total=108 + 4 + 80 + 14, nonzero=81 + 4 + 75 + 14)
    assert report.conv_fc_weights == Count(total=188, nonzero=156)
    assert report.conv_only == Count(total=108, nonzero=81)
    assert report.pruned_layers_only == Count(total=108, nonzero=81)
    assert report.all_params == Count(
        total=108 + 4 + 8 + 80 + 5 + 14, nonzero=81 + 4 + 4 + 75 + 5 + 14
    )
    assert tuple(name for name, _ in report) == CONVENTIONS


def test_without_names_the_pruned_layers_are_the_weights_with_zeros():
    model = _all_ones(_network())
    with torch.no_grad():
        model[3].weight[0] = 0
        model[1].bias.zero_()
    assert counts(model).pruned_layers_only == Count(total=80, nonzero=64)


def test_names_with_bias_anywhere_are_left_out_of_all_nonbias():
    """Swin's relative_position_bias_table is, in the SLR code."""
    kinds = {"a.relative_position_bias_table": LayerKind.OTHER, "b.weight": LayerKind.LINEAR}
    report = tally({name: Count(total=10, nonzero=10) for name in kinds}, kinds)
    assert report.all_nonbias.total == 10
    assert report.all_params.total == 20


def test_shared_parameters_are_counted_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    assert counts(model).all_params.total == 16
    assert owners(model)["0.weight"].aliases == ("1.weight",)


def test_a_module_used_twice_has_both_names():
    layer = nn.Linear(2, 2, bias=False)
    model = nn.ModuleDict({"a": layer, "b": layer})
    assert owners(model)["a.weight"].aliases == ("b.weight",)
    assert list(owners(model)) == ["a.weight"]


def test_density_sparsity_and_compression_of_the_extremes():
    empty, gone = Count(total=0, nonzero=0), Count(total=5, nonzero=0)
    assert (empty.density, empty.sparsity, empty.compression) == (1.0, 0.0, 1.0)
    assert (gone.density, gone.sparsity, gone.compression) == (0.0, 1.0, float("inf"))


def test_report_as_json_says_null_for_an_infinite_ratio():
    report = tally({"w": Count(total=5, nonzero=0)}, {"w": LayerKind.CONV})
    assert report.to_dict()["conv_only"] == {"total": 5, "nonzero": 0, "compression": None}
    assert report.to_dict()["all_params"]["total"] == 5
    assert report.layers["w"].sparsity == 1.0


def test_kinds_of_layers():
    class LayerNorm2d(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(3))

    class Conv1D(nn.Module):
        """As in transformers' GPT-2: a linear layer that stores (in, out)."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2, 3))

    model = nn.ModuleDict(
        {
            "gpt": Conv1D(),
            "conv": nn.Conv1d(1, 2, 3),
            "up": nn.ConvTranspose2d(1, 2, 3),
            "attention": nn.MultiheadAttention(4, 2, kdim=3, vdim=3),
            "lstm": nn.LSTM(2, 2),
            "norm": nn.GroupNorm(1, 2),
            "own": LayerNorm2d(),
            "embedding": nn.Embedding(2, 2),
        }
    )
    kinds = {name: str(kind) for name, kind in layer_kinds(model).items()}
    assert kinds == {
        "gpt.weight": "linear_transpose",
        "conv.weight": "conv",
        "conv.bias": "bias",
        "up.weight": "conv_transpose",
        "up.bias": "bias",
        "attention.q_proj_weight": "linear",
        "attention.k_proj_weight": "linear",
        "attention.v_proj_weight": "linear",
        "attention.in_proj_bias": "bias",
        "attention.out_proj.weight": "linear",
        "attention.out_proj.bias": "bias",
        "lstm.weight_ih_l0": "recurrent",
        "lstm.weight_hh_l0": "recurrent",
        "lstm.bias_ih_l0": "bias",
        "lstm.bias_hh_l0": "bias",
        "norm.weight": "norm",
        "norm.bias": "norm",
        "own.gain": "norm",
        "embedding.weight": "embedding",
    }


def test_errors_say_what_to_do():
    with pytest.raises(RequestError, match="need kinds="):
        counts({"w": torch.ones(2)})
    with pytest.raises(RequestError, match=r"^w: on the meta device"):
        counts({"w": torch.ones(2, device="meta")}, {"w": LayerKind.CONV})
    with pytest.raises(UnknownNameError, match=r"no parameter 'weigth'.*did you mean 'weight'"):
        counts(nn.Linear(2, 2), pruned=["weigth"])
    with pytest.raises(UnknownNameError, match="no layer kind given for 'w'"):
        counts({"w": torch.ones(2)}, {})


def test_bytes_count_parameters_buffers_and_a_bitmask():
    model = nn.Sequential(nn.Linear(10, 10, bias=False), nn.BatchNorm1d(10)).half()
    with torch.no_grad():
        model[0].weight.fill_(1)
        model[0].weight[1:] = 0
    sizes = model_bytes(model)
    assert sizes.parameters == 2 * (100 + 20)
    assert sizes.buffers == 2 * 20 + 8  # num_batches_tracked is int64
    # 10 values and 13 bytes of bits; gains (ones) cost more with a mask; shifts are all zero
    assert sizes.nonzeros == (10 * 2 + 13) + 10 * 2 + 2
    assert sizes.sparse == sizes.nonzeros + sizes.buffers


def test_a_measurement_has_macs_left_and_prints():
    model = _all_ones(nn.Sequential(nn.Linear(10, 4), nn.ReLU()))
    with torch.no_grad():
        model[0].weight[0] = 0
    found = measure(model, torch.zeros(5, 10))
    assert (found.macs, found.macs_left) == (40, 30)
    table = measure_table(found)
    assert list(table.columns[0].cells) == [
        *CONVENTIONS,
        "MACs, one sample",
        "bytes, zeros as a bitmask",
    ]
    assert measure(model).macs is None
    assert measure_table(measure(model)).row_count == 6
