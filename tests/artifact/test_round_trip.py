"""What is saved comes back: bit for bit, cut to size, tied where it was tied."""

import pytest
import safetensors.torch
import torch
from torch import nn

import espalier
from artifact.nets import Net, Tied, bits, compacted, pruned
from espalier.artifact import expand, inspect, load, save, state_dict
from espalier.compaction import Edits, compact
from espalier.errors import CheckpointError

X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def case():
    return compacted()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.espalier"


def same_state(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].shape == b[name].shape, name
        assert torch.equal(bits(a[name]), bits(b[name])), name


def test_a_compact_model_comes_back_bit_for_bit(case, path):
    _, small = case
    assert small.proof.holds
    save(path, small)
    back = load(path, Net).eval()
    same_state(back, small.model)
    assert back.width == small.model.width < 8
    assert back.scratch.shape == small.model.scratch.shape == (6,)
    assert torch.equal(back(X), small.model(X))


def test_a_masked_model_comes_back_bit_for_bit_and_unedited(path):
    net = pruned()
    save(path, net)
    same_state(load(path, Net), net)
    assert inspect(path).edits == Edits()
    plain = Net()
    plain.load_state_dict(state_dict(path))
    same_state(plain, net)


def test_expanding_gives_the_dense_architecture_with_zeros_and_the_same_outputs(case, path):
    net, small = case
    save(path, small)
    dense = expand(path, Net).eval()
    for name, tensor in net.state_dict().items():
        assert dense.state_dict()[name].shape == tensor.shape
    for edit in small.edits.slices:
        if edit.name != "scratch":
            kept = dense.state_dict()[edit.name].index_select(edit.axis, torch.tensor(edit.keep))
            gone = [i for i in range(edit.size) if i not in edit.keep]
            assert kept.count_nonzero() > 0
            rest = dense.state_dict()[edit.name].index_select(edit.axis, torch.tensor(gone))
            assert rest.count_nonzero() == 0
    assert dense.width == 8
    assert torch.allclose(dense(X), small.model(X), atol=1e-5)
    assert torch.allclose(dense(X), net(X), atol=1e-4)


def test_the_document_says_what_was_given(case, path):
    net, small = case
    plan = espalier.plan(net, density=0.5)
    save(path, small, plan, {"accuracy": 0.9, "layers": [1, {"a": None}]}, {"commit": "abc"})
    found = inspect(path)
    assert found.edits == small.edits
    assert found.plan == plan
    assert found.metrics == {"accuracy": 0.9, "layers": [1, {"a": None}]}
    assert found.proof == small.proof
    assert (found.before, found.after, found.change) == (small.before, small.after, None)
    assert found.provenance["commit"] == "abc"
    assert found.provenance["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert set(found.tensors) == set(small.model.state_dict())


def test_any_reader_of_safetensors_finds_the_weights(case, path):
    _, small = case
    save(path, small)
    plain = safetensors.torch.load_file(path)
    own = small.model.state_dict()
    assert set(plain) == set(own) == set(state_dict(path))
    assert all(torch.equal(plain[name], own[name]) for name in own)


def test_tied_parameters_are_written_once_and_come_back_tied(path):
    net = Tied()
    save(path, net)
    assert inspect(path).tied == {"head.weight": "table.weight"}
    back = load(path, Tied)
    assert back.head.weight is back.table.weight
    same_state(back, net)
    weights = state_dict(path)
    assert weights["head.weight"] is weights["table.weight"]
    same_state(load(path, lambda: Tied(tie=False)), net)


def test_a_compact_model_with_tied_parameters_comes_back_tied(path):
    torch.manual_seed(0)
    net = Tied()
    with torch.no_grad():
        net.table.weight[:, [1, 4]] = 0
        net.inner.weight[[1, 4]] = 0
        net.inner.bias[[1, 4]] = 0
    small = compact(net, torch.arange(6).reshape(2, 3))
    assert small.model.head.weight.shape == (11, 4)
    save(path, small)
    back = load(path, Tied)
    assert back.head.weight is back.table.weight
    same_state(back, small.model)
    dense = expand(path, Tied)
    assert dense.head.weight is dense.table.weight
    assert torch.equal(bits(dense.table.weight), bits(net.table.weight))


def test_two_tensors_do_not_go_into_a_tied_constructor(path):
    save(path, Tied(tie=False))
    with pytest.raises(CheckpointError, match="one tensor in the model, two in the file"):
        load(path, Tied)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.complex64])
def test_the_dtype_is_the_file_s(path, dtype):
    net = nn.Linear(3, 2, dtype=dtype)
    save(path, net)
    same_state(load(path, lambda: nn.Linear(3, 2, dtype=dtype)), net)
    if dtype != torch.complex64:
        same_state(load(path, lambda: nn.Linear(3, 2)), net)


def test_nan_payloads_negative_zeros_and_empty_tensors_survive(path):
    net = nn.Linear(4, 2, bias=False)
    net.register_buffer("none", torch.zeros(0, 3))
    odd = torch.tensor([0x7FC00001, -0x80000000, 0x7F800000, 1], dtype=torch.int32)
    net.weight.data[0] = odd.view(torch.float32)
    save(path, net)

    def make():
        fresh = nn.Linear(4, 2, bias=False)
        fresh.register_buffer("none", torch.zeros(0, 3))
        return fresh

    same_state(load(path, make), net)


def test_a_strided_view_is_saved_by_value(path):
    net = nn.Linear(3, 3, bias=False)
    net.weight.data = torch.arange(18.0).reshape(3, 6)[:, ::2].t()
    save(path, net)
    assert torch.equal(state_dict(path)["weight"], net.weight)


def test_saving_and_loading_leave_the_model_and_the_file_alone(case, path):
    _, small = case
    before = {name: t.clone() for name, t in small.model.state_dict().items()}
    save(path, small)
    raw = path.read_bytes()
    back = load(path, Net)
    with torch.no_grad():
        for tensor in [*back.parameters(), *state_dict(path).values()]:
            tensor.zero_()
    assert path.read_bytes() == raw
    after = small.model.state_dict()
    assert all(torch.equal(bits(before[name]), bits(after[name])) for name in after)


def test_a_loaded_model_trains(case, path):
    save(path, case[1])
    back = load(path, Net)
    back(X).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in back.parameters())


def test_the_package_exports_the_functions(case, path):
    assert espalier.compact is compact
    espalier.save(path, case[1])
    same_state(espalier.load(path, Net), case[1].model)
    assert {"save", "load", "compact"} <= set(espalier.__all__)
