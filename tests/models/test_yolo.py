"""YOLOv3 is darknet's: sizes of the public files, the same numbers out of the same file."""

import itertools
import struct

import pytest
import torch
from torch import nn

from espalier import models
from espalier.errors import CheckpointError, RequestError
from espalier.models import Head

# What pjreddie.com gives away: a header of 20 bytes, then a float for every parameter and running statistic.
PUBLIC = {"yolov3": 248_007_048, "yolov3_tiny": 35_434_956, "yolov3_spp": 252_209_544}
SHAPES = {"yolov3": (107, [2, 4, 8]), "yolov3_tiny": (24, [2, 4]), "yolov3_spp": (114, [2, 4, 8])}


def tensors(layer):
    """Those of a layer in darknet's order, said anew."""
    convolution = layer.Conv2d
    if convolution.bias is not None:
        return [convolution.bias, convolution.weight]
    norm = layer.BatchNorm2d
    return [norm.bias, norm.weight, norm.running_mean, norm.running_var, convolution.weight]


def convolutions(model):
    return [layer for layer in model.module_list if hasattr(layer, "Conv2d")]


def lively(name, classes=80):
    """A network with statistics and biases that are not 0 and 1."""
    torch.manual_seed(3)
    model = models.build(name, classes=classes).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.uniform_(module.weight, 0.7, 1.6)
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.2, 0.5)
    return model


def write(path, model, version=(0, 2, 0)):
    seen = struct.pack("<q" if 10 * version[0] + version[1] >= 2 else "<i", 32_013_312)
    floats = [t.detach().numpy().tobytes() for layer in convolutions(model) for t in tensors(layer)]
    path.write_bytes(struct.pack("<3i", *version) + seen + b"".join(floats))
    return path


@pytest.mark.parametrize("name", PUBLIC)
def test_a_network_has_as_many_numbers_as_its_public_file(name):
    with torch.device("meta"):
        model = models.build(name).eval()
        maps = model(torch.zeros(1, 3, 64, 64))
    numbers = [n for layer in convolutions(model) for n in tensors(layer)]
    assert 20 + 4 * sum(n.numel() for n in numbers) == PUBLIC[name]
    layers, sides = SHAPES[name]
    assert len(model.module_list) == layers
    assert [tuple(m.shape) for m in maps] == [(1, 255, side, side) for side in sides]


@pytest.mark.parametrize(("name", "strides"), [("yolov3_tiny", [32, 16]), ("yolov3", [32, 16, 8])])
def test_the_coarsest_map_has_the_largest_anchors(name, strides):
    with torch.device("meta"):
        heads = [m for m in models.build(name, classes=4).modules() if isinstance(m, Head)]
    assert len(heads) == len(strides)
    areas = [[w * h for w, h in head.anchors] for head in heads]
    assert all(min(big) > max(small) for big, small in itertools.pairwise(areas))
    assert all(len(head.anchors) == 3 and head.classes == 4 for head in heads)
    assert sorted(a for head in heads for a in head.anchors) == sorted(heads[0].every)


def test_an_even_window_of_stride_1_looks_to_the_right_and_below():
    pool = models.build("yolov3_tiny").module_list[11]
    x = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)) - 4  # below zero
    padded = nn.functional.pad(x, (0, 1, 0, 1), value=float("-inf"))
    assert torch.equal(pool(x), nn.functional.max_pool2d(padded, 2, 1))


@pytest.mark.parametrize("version", [(0, 2, 0), (0, 1, 0), (0, 2, 5)])
def test_weights_of_darknet_are_read(tmp_path, version):
    model = lively("yolov3_tiny", classes=2)
    path = write(tmp_path / "tiny.weights", model, version)
    other = models.build("yolov3_tiny", classes=2).eval()
    models.load_weights(other, path)
    for name, tensor in model.state_dict().items():
        if "num_batches_tracked" not in name:
            assert torch.equal(other.state_dict()[name], tensor), name


def test_a_file_of_darknet_of_another_length_is_refused_and_nothing_is_copied(tmp_path):
    path = write(tmp_path / "tiny.weights", lively("yolov3_tiny", classes=2))
    model = models.build("yolov3_tiny", classes=3)
    before = model.module_list[0].Conv2d.weight.clone()
    with pytest.raises(CheckpointError, match="another network, another number of classes"):
        models.load_weights(model, path)
    whole = path.read_bytes()
    for content, said in (
        (whole[:-4], "cut short"),
        (whole + bytes(4), "cut short"),
        (whole + bytes(4096), "cannot be read"),
        (whole[:7], "shorter than the header"),
        (b"PK\x03\x04" * 10, "not a darknet file"),
        (whole[:-4] + struct.pack("<f", float("nan")), "not finite"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=said):
            models.load_weights(models.build("yolov3_tiny", classes=2), path)
    assert torch.equal(model.module_list[0].Conv2d.weight, before)


def test_a_file_of_darknet_is_not_for_another_network(tmp_path):
    path = tmp_path / "some.weights"
    path.write_bytes(bytes(100))
    with pytest.raises(RequestError, match="LeNet5 takes safetensors"):
        models.load_weights(models.build("lenet5"), path)


def configuration(model, side):
    """The sections of a network as darknet writes them."""
    lines = [f"[net]\nwidth={side}\nheight={side}\nchannels=3"]
    for number, layer in enumerate(model.module_list):
        if hasattr(layer, "Conv2d"):
            of, norm = layer.Conv2d, layer.Conv2d.bias is None
            lines.append(
                f"[convolutional]\nbatch_normalize={int(norm)}\nfilters={of.out_channels}\n"
                f"size={of.kernel_size[0]}\nstride={of.stride[0]}\npad=1\n"
                f"activation={'leaky' if norm else 'linear'}"
            )
        elif isinstance(layer, nn.Upsample):
            lines.append("[upsample]\nstride=2")
        elif isinstance(layer, Head):
            anchors = ",".join(f"{w},{h}" for w, h in layer.every)
            mask = ",".join(str(layer.every.index(a)) for a in layer.anchors)
            lines.append(
                f"[yolo]\nmask={mask}\nanchors={anchors}\nclasses={layer.classes}\nnum={len(layer.every)}"
            )
        elif hasattr(layer, "pool"):
            lines.append(f"[maxpool]\nsize={layer.pool.kernel_size}\nstride={layer.pool.stride}")
        elif layer.added:
            lines.append(f"[shortcut]\nfrom={layer.sources[0] - number}\nactivation=linear")
        else:
            lines.append(f"[route]\nlayers={','.join(map(str, layer.sources))}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", ["yolov3_tiny", "yolov3_spp"])
def test_opencv_computes_the_same_from_the_same_file(tmp_path, name):
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromDarknet"):
        pytest.skip("OpenCV 5 reads no darknet files; 4 does")
    side = 96
    model = lively(name, classes=3)
    weights = write(tmp_path / "net.weights", model)
    (tmp_path / "net.cfg").write_text(configuration(model, side))
    net = cv2.dnn.readNetFromDarknet(str(tmp_path / "net.cfg"), str(weights))
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    net.setInput(x.numpy())
    heads = [n for n, layer in enumerate(model.module_list) if isinstance(layer, Head)]
    theirs = net.forward([f"conv_{n - 1}" for n in heads])
    with torch.no_grad():
        ours = model(x)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, torch.from_numpy(other), rtol=1e-3, atol=1e-3 * one.abs().max())
