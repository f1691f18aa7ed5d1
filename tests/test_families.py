"""The benchmark of families: its models are strangers to the tests, and its judges see what is wrong."""

import copy
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

TESTS = Path(__file__).parent


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(TESTS.parent / "benchmarks")
    import beside
    import family_models
    import family_names

    yield beside, family_models, family_names
    for name in ("beside", "family_models", "family_names"):
        sys.modules.pop(name, None)


def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)).eval()


def test_no_model_of_the_benchmark_is_named_by_a_test(benchmark):
    _, _, names = benchmark
    words = set()
    for file in TESTS.rglob("*.py"):
        words |= set(re.findall(r"\w+", file.read_text()))
    architectures = {kind for kind, _, _ in names.CONFIGURATIONS.values()}
    assert not words & {*names.TIMM, *names.TORCHVISION, *architectures}
    assert len(names.NAMES) == len(set(names.NAMES)) >= 150


def test_an_equal_model_differs_by_rounding_and_another_one_by_more(benchmark):
    _, models, _ = benchmark
    model, x = net(), torch.randn(2, 3, 6, 6)
    other = copy.deepcopy(model)
    assert models.apart(model, other, x) == 0
    with torch.no_grad():
        other[3].weight[2, 1, 0, 0] += 0.1
    assert models.apart(model, other, x) > 1e-4


def test_what_a_pruner_took_is_read_off_the_places_that_are_left(benchmark):
    beside, models, _ = benchmark
    pytest.importorskip("torch_pruning")
    model, x = net(), torch.randn(2, 3, 6, 6)
    models.enliven_(model, x)
    found = beside.pruned(model, x)
    assert found["outcome"] == "right"
    before, after = found["parameters"]
    assert after < 0.6 * before


def test_channels_taken_from_the_wrong_reader_are_not_right(benchmark):
    beside, models, _ = benchmark
    model, x = net(), torch.randn(2, 3, 6, 6)
    models.enliven_(model, x)
    small = copy.deepcopy(model)
    with torch.no_grad():
        for p in small.parameters():
            p.data = torch.arange(p.numel(), dtype=torch.float64).view(p.shape)
    for part, axis, keep in ((small[0], 0, [0, 1, 2, 3]), (small[3], 1, [4, 5, 6, 7])):
        part.weight = nn.Parameter(part.weight.index_select(axis, torch.tensor(keep)))
    small[0].bias = nn.Parameter(small[0].bias[:4])
    small[1] = nn.BatchNorm2d(4).eval()
    small[1].weight = nn.Parameter(torch.arange(4.0))
    small[1].bias = nn.Parameter(torch.arange(4.0))
    masked = beside._masked(model, small)
    # The first layer keeps channels 0 to 3, its reader the weights of 4 to 7.
    assert beside._judged(models.apart(masked, small, x), masked, small, x) == "other"
