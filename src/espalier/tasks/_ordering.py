"""Batches of a data loader from any step on; its data set in order."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from espalier.tasks._sampler import SeededDataset, ours
from espalier.tasks._seeding import seeded


def drawn(loader: Iterable[Any], epoch: int, start: int, key: tuple[int, ...]) -> Iterator[Any]:
    """The batches of an epoch from ``start`` on.

    Args:
        loader: Ours is told where to begin; of another the batches before are drawn and dropped.
        epoch: ≥ 0.
        start: The step, ≥ 0.
        key: Seed and further integers: what another loader draws globally comes from them.
    """
    if ours(loader):
        loader.batch_sampler.at(epoch, start)  # type: ignore[attr-defined]
        yield from loader
        return
    # A loader draws from the global generators when it starts, when its sampler begins (at the first
    # batch, without workers) and in the data set (without workers). Each of these moments is seeded
    # by its place, and none is left to what the training has drawn before, or shows in what it draws.
    with seeded(*key, 0):
        batches = iter(loader)
    step = 0
    while True:
        with seeded(*key, 1 + step):
            try:
                batch = next(batches)
            except StopIteration:
                return
        if step >= start:
            yield batch
        step += 1


def in_order(loader: "DataLoader[Any]", limit: int | None) -> Iterable[Any]:
    """The data set of a loader in its own order, in batches as large: the first ``limit`` samples.

    Of an iterable data set, or one whose items are batches already, the loader's own batches.
    """
    inside = loader.dataset
    collate: Any = loader.collate_fn
    size = loader.batch_size
    if ours(loader):
        assert isinstance(inside, SeededDataset)
        size, collate, inside = loader.batch_sampler.batch_size, inside.collate, inside.dataset  # type: ignore[union-attr]
    size = size or getattr(loader.batch_sampler, "batch_size", None)
    if isinstance(inside, IterableDataset) or size is None:
        return _Some(loader, limit)
    count = len(inside) if limit is None else min(limit, len(inside))  # type: ignore[arg-type]
    return DataLoader(
        inside,
        batch_size=min(size, count),
        sampler=range(count),
        collate_fn=collate,
        # One sample, to trace with, is not worth starting workers for.
        num_workers=loader.num_workers if count > size else 0,
        pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context if count > size else None,
    )


class _Some:
    """As many batches of a loader as hold ``limit`` samples, if each holds one at least."""

    def __init__(self, loader: "DataLoader[Any]", limit: int | None) -> None:
        size = loader.batch_size or 1
        self.loader, self.batches = loader, None if limit is None else -(-limit // size)

    def __iter__(self) -> Iterator[Any]:
        return islice(self.loader, self.batches)
