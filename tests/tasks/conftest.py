"""A toy problem whose images are told apart by their pixels."""

import pytest
import torch
from torch import nn

from espalier.data import ImageSet
from espalier.tasks import Classification


def _toy(count=23, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return ImageSet(
        images=torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1).repeat(1, 1, 6, 6),
        labels=torch.randint(3, (count,), generator=draw),
        classes=("a", "b", "c"),
    )


def _task(batch_size=4, seed=0, **options):
    options = {"train": _toy(), "test": _toy(10, seed=1), **options}
    return Classification(batch_size=batch_size, seed=seed, **options)


class _Fixed(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = torch.as_tensor(logits)
        self.seen = []
        self.inner = nn.Dropout(0.5)

    def forward(self, x):
        self.seen.append((self.training, self.inner.training, torch.is_inference_mode_enabled()))
        return self.logits[(x[:, 0, 0, 0] * 255).round().long()]


@pytest.fixture(scope="session")
def toy():
    """An image set of `count` images; every pixel of image i is i."""
    return _toy


@pytest.fixture(scope="session")
def task():
    """A classification task on 23 and 10 toy images."""
    return _task


@pytest.fixture(scope="session")
def fixed():
    """A model whose logits go by the index of the image, whatever the weights."""
    return _Fixed


@pytest.fixture(scope="session")
def indices():
    """Which images a batch holds."""
    return lambda batch: (batch.images[:, 0, 3, 3] * 255).round().int().tolist()
