"""Counts of weights and compression rates that the papers print, and integers derived from them."""

import warnings

import pytest
import torch
from torch import nn

from espalier import models
from espalier.planning import plan


def _resnet(vision, name, *, cifar):
    with torch.device("meta"):
        model = getattr(vision.torchvision.models, name)(num_classes=10 if cifar else 1000)
        if cifar:
            model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    return model


def _timm(vision, name):
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return vision.timm.create_model(name)


BLOCK_CONVS = ["layer*.conv*.weight"]
SWIN = [
    "*.attn.qkv.weight",
    "*.attn.proj.weight",
    "*.mlp.fc1.weight",
    "*.mlp.fc2.weight",
    "*.downsample.reduction.weight",
]


@pytest.mark.parametrize(
    ("sparsity", "rate"),
    [(0.5, 1.97), (0.7, 3.21), (0.8, 4.69), (0.85, 6.10), (0.9, 8.71), (0.95, 15.24)],
)
def test_resnet18_cifar_rates_are_those_of_the_slr_paper(vision, sparsity, rate):
    p = plan(_resnet(vision, "resnet18", cifar=True), sparsity=sparsity, include=BLOCK_CONVS)
    report = p.counts()
    assert len(p.entries) == 16
    assert report.all_nonbias.total == 11_169_152
    assert report.pruned_layers_only.total == 10_985_472
    assert round(report.all_nonbias.compression, 2) == rate


def test_our_resnet18_cifar_has_the_same_counts():
    with torch.device("meta"):
        model = models.build("resnet18_cifar")
    report = plan(model, sparsity=0.9, include=BLOCK_CONVS).counts()
    assert (report.all_nonbias.total, report.pruned_layers_only.total) == (11_169_152, 10_985_472)
    assert f"{report.all_nonbias.compression:.2f}" == "8.71"
    assert f"{100 * report.all_nonbias.density:.2f}" == "11.48"
    assert report.conv_only.total == 11_159_232


@pytest.mark.parametrize(
    ("sparsity", "rate"), [(0.5, 1.89), (0.7, 2.93), (0.8, 4.04), (0.9, 6.50), (0.95, 9.37)]
)
def test_resnet18_imagenet_rates(vision, sparsity, rate):
    model = _resnet(vision, "resnet18", cifar=False)
    report = plan(model, sparsity=sparsity, include=BLOCK_CONVS).counts()
    assert report.all_nonbias.total == 11_683_712
    assert round(report.all_nonbias.compression, 2) == rate


RESNET50 = {
    "layer1": [(0.9, 0.9, 0.9), (0.9, 0.95, 0.95), (0.95, 0.95, 0.95)],
    "layer2": [(0.95,) * 3, (0.9,) * 3, (0.95,) * 3, (0.96, 0.98, 0.98)],
    "layer3": [(0.98,) * 3, (0.98, 0.95, 0.9), *[(0.9,) * 3] * 3, (0.9, 0.9, 0.92)],
    "layer4": [(0.92, 0.95, 0.95), (0.9,) * 3, (0.9,) * 3],
}


@pytest.mark.parametrize(("cifar", "rate"), [(False, "3.896"), (True, "5.20")])
def test_resnet50_mixed_profile_gives_the_published_rate(vision, cifar, rate):
    keep = {
        f"{stage}.{block}.conv{i + 1}.weight": 1 - sparsity
        for stage, blocks in RESNET50.items()
        for block, sparsities in enumerate(blocks)
        for i, sparsity in enumerate(sparsities)
    }
    p = plan(_resnet(vision, "resnet50", cifar=cifar), keep=keep)
    digits = len(rate) - 2
    assert len(p.entries) == 48
    assert f"{p.counts().all_nonbias.compression:.{digits}f}" == rate


@pytest.mark.parametrize(
    ("sparsity", "rate"),
    [(0.5, "1.95499"), (0.7, "3.16338"), (0.9, "8.283"), (0.99, "30.49")],
)
def test_mixer_b16_rates_match_the_logs(vision, sparsity, rate):
    include = ["*.mlp_tokens.fc*.weight", "*.mlp_channels.fc*.weight"]
    p = plan(_timm(vision, "mixer_b16_224"), sparsity=sparsity, include=include)
    report = p.counts()
    assert len(p.entries) == 48
    assert report.all_nonbias.total == 59_806_464
    assert report.pruned_layers_only.total == 58_429_440
    digits = len(rate.partition(".")[2])
    assert f"{report.all_nonbias.compression:.{digits}f}" == rate


def test_mixer_log_differs_at_0_9_by_one_weight_in_each_token_matrix(vision):
    """The authors' percentile prunes floor(p(n - 1)) + 1 of n weights; we keep round((1 - p)n)."""
    p = plan(_timm(vision, "mixer_b16_224"), sparsity=0.9, include=["*.mlp_*.fc*.weight"])
    theirs = {n: e.numel - (int(0.9 * (e.numel - 1)) + 1) for n, e in p.entries.items()}
    more = {n: theirs[n] - e.keep for n, e in p.entries.items()}
    assert {n for n, m in more.items() if m == 1} == {n for n in more if "tokens" in n}
    assert sum(more.values()) == 24
    report = p.counts()
    assert f"{report.all_nonbias.total / (report.all_nonbias.nonzero + 24):.5f}" == "8.28345"


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("swin_tiny_patch4_window7_224", {0.5: "1.946", 0.7: "3.130", 0.9: "7.997", 0.99: "26.63"}),
        ("swin_base_patch4_window7_224", {0.5: "1.976", 0.7: "3.242", 0.9: "9.018", 0.99: "45.5"}),
    ],
)
def test_swin_rates(vision, name, rates):
    model = _timm(vision, name)
    for sparsity, rate in rates.items():
        report = plan(model, sparsity=sparsity, include=SWIN).counts()
        digits = len(rate.partition(".")[2])
        assert f"{report.all_nonbias.compression:.{digits}f}" == rate
    if "tiny" in name:
        assert report.all_nonbias.total == 28_211_808
        assert report.pruned_layers_only.total == 27_426_816


def test_lenet5_admm_keeps_6050_weights_which_is_71_times():
    with torch.device("meta"):
        model = models.build("lenet5")
    keep = {"conv1.weight": 0.20, "conv2.weight": 0.08, "fc1.weight": 0.009, "fc2.weight": 0.07}
    p = plan(model, keep=keep)
    assert [e.keep for e in p.entries.values()] == [100, 2_000, 3_600, 350]
    report = p.counts()
    assert report.conv_fc_weights.total == 430_500
    assert report.conv_fc_weights.nonzero == 6_050
    assert f"{report.conv_fc_weights.compression:.1f}" == "71.2"
    assert report.all_params.total == 431_080


@pytest.mark.parametrize(
    ("name", "pool", "rates"),
    [
        ("lenet5", 25_500, {"231.82": 110, "87.93": 290, "39.23": 650, "45.54": 560}),
        ("vgg16_cifar", 14_710_464, {}),
        ("resnet18_cifar", 11_159_232, {}),
    ],
)
def test_prm_pools_are_convolutions_only(name, pool, rates):
    with torch.device("meta"):
        model = models.build(name)
    report = plan(model, density=1.0).counts()
    assert report.conv_only.total == pool
    assert report.conv_only.compression == 1.0
    for rate, left in rates.items():
        assert f"{pool / left:.2f}" == rate


def test_vgg16_cifar_total_is_14719808_without_biases():
    with torch.device("meta"):
        model = models.build("vgg16_cifar")
    assert plan(model, density=1.0).counts().all_nonbias.total == 14_719_808
    p = plan(model, sparsity=0.9173, include=["*"], exclude=[_linear(model)])
    assert len(p.entries) == 13
    assert f"{p.counts().all_nonbias.compression:.1f}" == "12.0"


def _linear(model):
    return next(f"{name}.weight" for name, m in model.named_modules() if isinstance(m, nn.Linear))
