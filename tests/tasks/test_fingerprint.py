"""A fingerprint is the same for the same data, another for others, and costs no random draw."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from espalier.data import ImageSet
from espalier.tasks import Classification, FromLoaders, fingerprint, seeded_loader
from espalier.tasks import _fingerprint as module
from training.problem import Points


def images(count=40, seed=0, classes=("a", "b"), **given):
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 1, 4, 4), generator=draw, dtype=torch.uint8)
    return ImageSet(images=pixels, labels=torch.arange(count) % 2, classes=classes, **given)


def task(train, test=None):
    return Classification(train, test or images(10, seed=1), batch_size=4, seed=0)


def flipped(of):
    return ImageSet(images=of.images, labels=1 - of.labels, classes=of.classes)


@pytest.mark.parametrize(
    "other",
    [images(seed=7), images(41), flipped(images()), images(classes=("b", "a")), images(mean=(0.5,)),
     ImageSet(images=images().images.flip(0), labels=images().labels, classes=("a", "b"))],
    ids=["content", "count", "labels", "names", "mean", "order"],
)  # fmt: skip
def test_other_images_have_another_fingerprint(other):
    assert fingerprint(task(images())) == fingerprint(task(images()))
    assert fingerprint(task(other))["train"] != fingerprint(task(images()))["train"]
    assert fingerprint(task(images(), other))["test"] != fingerprint(task(images()))["test"]


def test_of_a_large_set_a_bounded_part_is_read(monkeypatch):
    """Rows at equal distances: 4 of 40 here, the same in every process."""
    monkeypatch.setattr(module, "BYTES", 4 * 16)
    before = fingerprint(task(images()))["train"]
    for row, seen in ((10, True), (11, False)):
        changed = images()
        changed.images[row] += 1
        assert (fingerprint(task(changed))["train"] != before) == seen


def loaders(x, y):
    pairs = TensorDataset(x, y)
    return FromLoaders(
        seeded_loader(pairs, 4, seed=0),
        DataLoader(pairs, 4),
        loss=torch.nn.functional.cross_entropy,
    )


def test_items_of_a_data_set_are_looked_at_and_its_length():
    x, y = torch.arange(64.0).view(32, 2), torch.arange(32) % 2
    before = fingerprint(loaders(x, y))
    assert before["train"]["kind"] == "torch.utils.data.dataset:TensorDataset"
    assert before["train"]["length"] == 32
    assert fingerprint(loaders(x.clone(), y)) == before
    assert fingerprint(loaders(x + 1, y)) != before
    assert fingerprint(loaders(x[:31], y[:31])) != before


class Noisy(torch.utils.data.Dataset):
    """Draws from the global generator, or from one of its own."""

    def __init__(self, own):
        self.draw = np.random.default_rng(0) if own else None

    def __len__(self):
        return 8

    def __getitem__(self, index):
        noise = torch.rand(2) if self.draw is None else torch.from_numpy(self.draw.random(2))
        return noise + random.random() * 0, index % 2


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.ones(2), 0)] * 8)

    def __len__(self):
        return 8


def of(dataset):
    return module.of_dataset(dataset)


def test_what_is_drawn_anew_each_time_is_not_taken_for_content():
    assert of(Noisy(own=False)) == of(Noisy(own=False))
    assert of(Noisy(own=False))["content"] is not None
    assert of(Noisy(own=True))["content"] is None
    assert set(of(Stream())) == {"kind"}


def test_a_task_of_ones_own_is_known_by_its_first_inputs():
    assert fingerprint(Points()) == fingerprint(Points())
    assert fingerprint(Points(seed=1)) != fingerprint(Points())


def test_no_random_stream_is_moved():
    streams = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    of(Noisy(own=False))
    fingerprint(Points())
    assert random.getstate() == streams[0]
    assert np.random.get_state()[1].tolist() == streams[1]
    assert torch.equal(torch.get_rng_state(), streams[2])


def test_types_and_shapes_are_part_of_the_content():
    values = [torch.zeros(2), torch.zeros(2, 1), torch.zeros(2).double(), np.zeros(3), "a", 1, None]
    assert len({module.content([value]) for value in values}) == len(values)
    assert module.content([np.zeros(3)]) == module.content([np.zeros(3)])
    assert module.content([{"x": torch.ones(1, dtype=torch.bfloat16)}]).startswith("sha256:")
