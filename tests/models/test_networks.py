import pytest
import torch

from espalier import models

PARAMETERS = {
    "lenet5": 431_080,
    "lenet300": 266_610,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet18_cifar": 11_173_962,
    "resnet50_cifar": 23_520_842,
    "vgg16_cifar": 14_728_266,
    "vgg19_cifar": 20_040_522,
    # For as many classes as the public weights have.
    "alexnet": 60_965_224,
    "yolov3": 61_949_149,
    "yolov3_spp": 62_998_749,
    "yolov3_tiny": 8_852_366,
    "ufld": 61_225_640,
}
OF_CIFAR_AND_MNIST = sorted(
    name
    for name in PARAMETERS
    if name in ("lenet5", "lenet300") or "resnet" in name or "vgg" in name
)


def sizes(model):
    return {name: parameter.numel() for name, parameter in model.named_parameters()}


def test_every_network_is_listed():
    assert set(models.NAMES) == set(PARAMETERS)


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_a_network_has_the_parameters_that_its_entry_says(name):
    info = models.NAMES[name]
    with torch.device("meta"):
        model = models.build(name).eval()
        model(torch.zeros(1, *info.input_shape))
    assert sum(sizes(model).values()) == info.parameters == PARAMETERS[name]


@pytest.mark.parametrize("name", OF_CIFAR_AND_MNIST)
def test_a_network_is_as_its_entry_says(name):
    info = models.NAMES[name]
    model = models.build(name, classes=10)
    assert sum(sizes(model).values()) == info.parameters == PARAMETERS[name]
    assert info.description
    with torch.inference_mode():
        assert model.eval()(torch.zeros(2, *info.input_shape)).shape == (2, 10)
        assert models.build(name, classes=3).eval()(torch.zeros(1, *info.input_shape)).numel() == 3


@pytest.mark.parametrize(
    ("name", "weights", "biases"),
    [
        ("lenet5", 430_500, 580),
        ("lenet300", 266_200, 410),
        ("vgg16_cifar", 14_719_808, 8_458),
        ("resnet18_cifar", 11_169_152, 4_810),
    ],
)
def test_weights_and_biases_are_the_papers(name, weights, biases):
    by_name = sizes(models.build(name))
    assert sum(n for key, n in by_name.items() if "bias" not in key) == weights
    assert sum(n for key, n in by_name.items() if "bias" in key) == biases


def test_lenet5_layers_have_the_papers_names_and_shapes():
    shapes = {n: tuple(p.shape) for n, p in models.lenet5().named_parameters() if "weight" in n}
    assert shapes == {
        "conv1.weight": (20, 1, 5, 5),
        "conv2.weight": (50, 20, 5, 5),
        "fc1.weight": (500, 800),
        "fc2.weight": (10, 500),
    }


def test_lenet5_is_what_its_layers_say_one_after_the_other():
    f, model = torch.nn.functional, models.lenet5()
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    one = f.max_pool2d(f.conv2d(x, model.conv1.weight, model.conv1.bias).clamp(min=0), 2)
    two = f.max_pool2d(f.conv2d(one, model.conv2.weight, model.conv2.bias).clamp(min=0), 2)
    three = (two.reshape(3, 800) @ model.fc1.weight.T + model.fc1.bias).clamp(min=0)
    assert (one.shape, two.shape) == ((3, 20, 12, 12), (3, 50, 4, 4))
    expected = three @ model.fc2.weight.T + model.fc2.bias
    assert torch.allclose(model(x), expected, atol=1e-5)


def test_lenet300_rectifies_its_two_hidden_layers():
    model = models.lenet300()
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    hidden = x.reshape(3, 784)
    for layer in (model.fc1, model.fc2):
        hidden = (hidden @ layer.weight.T + layer.bias).clamp(min=0)
    expected = hidden @ model.fc3.weight.T + model.fc3.bias
    assert torch.allclose(model(x), expected, atol=1e-5)


def test_an_option_a_shortcut_subsamples_and_adds_channels_of_zeros_on_both_sides():
    block = models.resnet20().layer2[0].eval()
    torch.nn.init.zeros_(block.bn2.weight)  # leaves the shortcut alone
    x = torch.rand(1, 16, 8, 8)
    out = block(x)
    assert out.shape == (1, 32, 4, 4)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_resnet20_has_the_keys_of_its_published_weights():
    keys = set(models.resnet20().state_dict())
    assert len(keys) == 2 + 4 + 9 * (2 + 2 * 5) + 2
    for key in ("conv1.weight", "bn1.running_var", "layer3.2.bn2.bias", "linear.weight"):
        assert key in keys


def test_resnet18_cifar_has_torchvisions_names_and_the_slr_papers_stem():
    model = models.build("resnet18_cifar")
    assert tuple(model.conv1.weight.shape) == (64, 3, 3, 3)
    names = set(sizes(model))
    blocks = {f"layer{s}.{b}.conv{c}.weight" for s in range(1, 5) for b in (0, 1) for c in (1, 2)}
    shortcuts = {f"layer{s}.0.downsample.0.weight" for s in (2, 3, 4)}
    assert blocks | shortcuts | {"fc.weight", "fc.bias", "bn1.weight"} <= names
    assert sum(sizes(model)[name] for name in blocks) == 10_985_472


@pytest.mark.parametrize(("maxpool", "side"), [(True, 16), (False, 32)])
def test_the_maxpool_of_resnet18_cifar_can_be_left_out(maxpool, side):
    model = models.resnet18_cifar(maxpool=maxpool).eval()
    seen = []
    model.layer1.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    with torch.inference_mode():
        model(torch.zeros(1, 3, 32, 32))
    assert seen == [(1, 64, side, side)]


def test_vgg16_cifar_has_thirteen_convolutions_and_one_linear_layer():
    model = models.build("vgg16_cifar")
    kinds = [type(module).__name__ for module in model.modules()]
    assert (kinds.count("Conv2d"), kinds.count("BatchNorm2d"), kinds.count("Linear")) == (13, 13, 1)
    convolutions = [p.numel() for n, p in model.named_parameters() if p.dim() == 4]
    assert sum(convolutions) == 14_710_464
    assert {"features.0.weight", "features.41.running_mean", "classifier.bias"} <= set(
        model.state_dict()
    )


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "resnet18_cifar"])
def test_the_global_seed_decides_the_initial_weights(name):
    def first(seed):
        torch.manual_seed(seed)
        return next(models.build(name).parameters())

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnet_for_cifar_is_torchvisions_with_another_stem(vision, name):
    torch.manual_seed(0)
    theirs = getattr(vision.torchvision.models, name)(num_classes=10)
    theirs.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    ours = models.build(f"{name}_cifar")
    ours.load_state_dict(theirs.state_dict())  # every key, every shape
    x = torch.randn(2, 3, 32, 32)
    assert torch.allclose(ours.eval()(x), theirs.eval()(x), atol=1e-5)


@pytest.mark.parametrize("name", ["vgg16", "vgg19_bn"])
def test_a_vgg_for_cifar_has_torchvisions_features(vision, name):
    torch.manual_seed(0)
    theirs = getattr(vision.torchvision.models, name)(num_classes=1).features.eval()
    ours = models.build(f"{name[:5]}_cifar", batchnorm=name.endswith("bn")).eval()
    ours.features.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 32, 32)
    assert torch.allclose(ours.features(x), theirs(x), atol=1e-5)


def test_alexnet_has_the_weights_that_the_admm_papers_count():
    with torch.device("meta"):
        by_name = sizes(models.build("alexnet"))
    weights = {name: n for name, n in by_name.items() if "weight" in name}
    assert list(weights.values()) == [
        *(34_848, 307_200, 884_736, 663_552, 442_368),
        *(37_748_736, 16_777_216, 4_096_000),
    ]
    assert sum(weights.values()) == 60_954_656  # "60.9M"


def test_ufld_has_the_keys_of_its_public_checkpoints_and_its_backbone_is_torchvisions(vision):
    torch.manual_seed(0)
    ours = models.build("ufld", size=(64, 96), rows=3, cells=5, auxiliary=True).eval()
    theirs = vision.torchvision.models.resnet18().eval()
    keys = {f"model.{key}" for key in theirs.state_dict() if not key.startswith("fc")}
    own = {"cls.0.weight", "cls.2.bias", "pool.weight", "aux_header2.3.bn.weight"}
    own |= {"aux_header3.0.conv.weight", "aux_header4.1.conv.weight", "aux_combine.4.bias"}
    assert keys | own <= set(ours.state_dict())
    ours.model.load_state_dict(theirs.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        one = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        last = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(one))))
        logits, maps = ours(x)
        expected = ours.cls(ours.pool(last).reshape(1, -1)).reshape(1, 6, 3, 4)
    assert torch.allclose(logits, expected, atol=1e-5)
    assert maps.shape == (1, 5, 8, 12)
