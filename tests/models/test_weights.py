import pickle
import re
import shlex

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from espalier import models
from espalier.errors import CheckpointError, RequestError


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(4, 3))


@pytest.fixture
def stored(tmp_path):
    """Weights that a small() model does not have, and their file."""
    draw = torch.Generator().manual_seed(1)
    state = {
        name: torch.rand(tensor.shape, generator=draw).to(tensor.dtype)
        for name, tensor in small().state_dict().items()
    }
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    return state, path


def save_other(path, state):
    save_file(state, path)
    return path


def test_every_tensor_is_copied_in_place(stored):
    state, path = stored
    model = small()
    places = [parameter.data_ptr() for parameter in model.parameters()]
    models.load_weights(model, path)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [parameter.data_ptr() for parameter in model.parameters()] == places
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())


def test_values_take_the_models_dtype(stored):
    state, path = stored
    model = small().double()
    models.load_weights(model, path)
    assert model[0].weight.dtype == torch.float64
    assert torch.equal(model[0].weight.float(), state["0.weight"])


def test_num_batches_tracked_may_be_missing(stored):
    state, path = stored
    del state["1.num_batches_tracked"]
    models.load_weights(small(), save_other(path, state))


def test_the_second_name_of_a_tied_tensor_may_be_missing(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    path = save_other(tmp_path / "tied.safetensors", {"0.weight": torch.eye(2)})
    with pytest.raises(CheckpointError, match=r"missing from the file: 1\.weight"):
        models.load_weights(model, path)
    model[1].weight = model[0].weight
    models.load_weights(model, path)
    assert torch.equal(model[1].weight, torch.eye(2))


def test_keys_and_shapes_that_do_not_fit_are_all_listed_and_nothing_is_copied(stored):
    state, path = stored
    del state["1.running_var"]
    state["2.scale"] = torch.ones(1)
    state["0.weight"] = torch.zeros(2, 1, 5, 5)
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        models.load_weights(model, save_other(path, state))
    assert str(caught.value).splitlines() == [
        f"{path} does not fit Sequential:",
        "  missing from the file: 1.running_var",
        "  not in the model: 2.scale",
        "  of another shape: 0.weight is (2, 1, 5, 5) in the file, (2, 1, 3, 3) in the model",
    ]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_long_list_is_counted_and_the_data_parallel_prefix_recognised(tmp_path):
    state = {f"module.{name}": value for name, value in models.resnet20().state_dict().items()}
    path = save_other(tmp_path / "parallel.safetensors", state)
    with pytest.raises(CheckpointError, match=r"(?s)and \d+ more.*begins with 'module\.'"):
        models.load_weights(models.resnet20(), path)


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_truncated_file_is_named_with_its_length(stored, length):
    _, path = stored
    content = path.read_bytes()[:length]
    path.write_bytes(content)
    says = rf"weights.safetensors: not a complete safetensors file \({len(content)} bytes\)"
    with pytest.raises(CheckpointError, match=says):
        models.load_weights(small(), path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.safetensors: cannot be read: No such file"):
        models.load_weights(small(), tmp_path / "absent.safetensors")


class Trap:
    """Unpickling it would fail the test."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


def test_a_pickle_of_another_protocol_is_known_by_its_name(tmp_path):
    path = tmp_path / "old.pt"
    path.write_bytes(pickle.dumps(Trap(), protocol=0))  # plain text, no magic bytes
    with pytest.raises(RequestError, match="is a pickle"):
        models.load_weights(small(), path)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.th", "a.bin", "a.safetensors", "no_suffix"])
@pytest.mark.parametrize("save", [pickle.dump, torch.save])
def test_a_pickle_is_refused_unopened_with_how_to_convert_it(tmp_path, name, save):
    path = tmp_path / name
    with path.open("wb") as file:
        save(Trap(), file)
    with pytest.raises(
        RequestError, match=r"refused\. If you trust it, convert it once: python -c"
    ):
        models.load_weights(small(), path)


def test_the_advised_conversion_works(tmp_path, stored):
    state, _ = stored
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    with pytest.raises(RequestError) as caught:
        models.load_weights(small(), path)
    program = shlex.split(re.search(r"python (-c '.*?')", str(caught.value))[1])
    exec(program[1], {})  # what the shell would hand to python -c
    model = small()
    models.load_weights(model, tmp_path / "weights.safetensors")
    assert torch.equal(model[2].weight, state["2.weight"])
