"""A step over several ranks is the step of one, whatever the batch's parts; every rank is a thread here."""

import copy
import threading

import pytest
import torch
from torch import nn

from espalier._ground.world import ALONE, World
from espalier.errors import RequestError
from espalier.training import train_step
from espalier.training._ranks import part_of


class Threads(World):
    """A rank that is a thread, and meets the others at a barrier."""

    def __new__(cls, *_):
        return object.__new__(cls)

    def __init__(self, rank, said, barrier):
        object.__setattr__(self, "said", said)
        object.__setattr__(self, "barrier", barrier)
        object.__setattr__(self, "own", rank)

    size = property(lambda self: len(self.said))
    rank = property(lambda self: self.own)

    def sum(self, x):
        self.said[self.own] = x.detach().clone()
        self.barrier.wait(timeout=60)
        total = sum(self.said)
        self.barrier.wait(timeout=60)
        return total


class Task:
    def loss(self, model, batch):
        x, y = batch
        return nn.functional.cross_entropy(model(x), y)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(64),
        nn.Linear(64, 3),
    ).double()  # fmt: skip


def batches():
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        yield (
            torch.randn(8, 1, 6, 6, generator=generator).double() + 5,
            torch.randint(0, 3, (8,), generator=generator),
        )


def trained(model, world, **settings):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return [
        float(train_step(model, Task(), batch, optimizer, world=world, **settings))
        for batch in batches()
    ]


@pytest.mark.parametrize("size", [2, 3])  # parts of four, and of three, three and two
@pytest.mark.parametrize(
    "settings", [{}, {"clip": 0.5}, {"sam": 0.05}], ids=["plain", "clip", "sam"]
)
def test_parts_of_a_batch_take_the_step_of_the_whole(size, settings):
    one = network()
    losses = trained(one, ALONE, **settings)
    models = [copy.deepcopy(network()) for _ in range(size)]
    said, barrier = [None] * size, threading.Barrier(size)
    told = [None] * size

    def run(rank):
        try:
            told[rank] = trained(models[rank], Threads(rank, said, barrier), **settings)
        except BaseException:
            barrier.abort()
            raise

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)
    for model, found in zip(models, told, strict=True):
        assert found == pytest.approx(losses, rel=1e-12)
        for name, value in one.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-9, atol=1e-12)
        assert "forward" not in vars(model[1])


def test_a_batch_that_cannot_be_cut_is_refused():
    three = Threads(0, [None] * 3, None)
    with pytest.raises(RequestError, match="first axes of \\[2\\] cannot be cut between 3 ranks"):
        part_of((torch.ones(2, 4), torch.ones(2)), three)
    with pytest.raises(RequestError, match="first axes of \\[4, 6\\]"):
        part_of({"x": torch.ones(6), "y": torch.ones(4)}, three)
