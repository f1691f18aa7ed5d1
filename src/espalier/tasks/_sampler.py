"""A data loader whose epochs can be taken up at any step, without loading what was seen."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler, Subset, default_collate

from espalier.errors import EspalierError, RequestError
from espalier.tasks._seeding import generator_for, seeded


class Spot(NamedTuple):
    """One batch that is to be made: which samples, and where in the run."""

    indices: tuple[int, ...]
    epoch: int
    step: int


class SeededSampler(Sampler[list[Spot]]):
    """Batches of indices; the order of an epoch is a pure function of (seed, epoch).

    With :meth:`at` an epoch starts at any step: what lies before it is never loaded. It is the
    sampler of :func:`seeded_loader`.

    Args:
        length: Samples in the data set, ≥ 1.
        batch_size: Samples per batch, ≥ 1.
        seed: ≥ 0.
        shuffle: False: every epoch in the order of the data set.
        drop_last: Leave out the samples that do not fill a batch (others in each epoch).

    Raises:
        RequestError: An argument outside its range, or not one batch.

    Example:
        >>> sampler = SeededSampler(7, batch_size=2, seed=0, shuffle=False)
        >>> [spot.indices for [spot] in sampler.at(epoch=0, start=1)]
        [(2, 3), (4, 5)]
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        *,
        shuffle: bool = True,
        drop_last: bool = True,
    ) -> None:
        if batch_size < 1 or seed < 0:
            raise RequestError(
                f"batch_size={batch_size}, seed={seed}; give batch_size >= 1 and seed >= 0"
            )
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        self.epoch = self.start = 0
        if not len(self):
            raise RequestError(
                f"batches of {batch_size} from {length} samples: there is not one; give a smaller "
                "batch_size, or drop_last=False"
            )

    def __len__(self) -> int:
        """Batches in a whole epoch, wherever it starts."""
        return (
            self.length // self.batch_size if self.drop_last else -(-self.length // self.batch_size)
        )

    def at(self, epoch: int, start: int = 0) -> "SeededSampler":
        """Begin the next iteration at this step of this epoch."""
        self.epoch, self.start = epoch, start
        return self

    def __iter__(self) -> Iterator[list[Spot]]:
        # A generator's body runs at the first `next`; where it starts is settled here and now.
        return self._spots(self.epoch, self.start)

    def _spots(self, epoch: int, start: int) -> Iterator[list[Spot]]:
        order = torch.arange(self.length)
        if self.shuffle:
            order = torch.randperm(self.length, generator=generator_for(self.seed, epoch, 0))
        for step in range(start, len(self)):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            # A list of one: the loader fetches "the samples of a batch", and ours is a whole batch.
            yield [Spot(tuple(chosen.tolist()), epoch, step)]


class SeededDataset:
    """Makes whole batches in one call, so that all that is drawn for one can be seeded by its place.

    Args:
        dataset: With ``__len__`` and ``__getitem__``, or ``__getitems__``.
        collate: Samples to a batch.
        seed: As of the sampler.
    """

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any], seed: int) -> None:
        self.dataset, self.collate, self.seed = dataset, collate, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]

    def __getitems__(self, spots: Sequence[Spot]) -> Any:
        (spot,) = spots
        try:
            return self._batch(spot)
        except EspalierError as error:
            # Raised in a worker it would arrive as the text of a traceback; `SeededLoader` raises it.
            return error

    def _batch(self, spot: Spot) -> Any:
        with seeded(self.seed, spot.epoch, 1 + spot.step):
            if callable(getattr(self.dataset, "__getitems__", None)):
                return self.collate(self.dataset.__getitems__(list(spot.indices)))
            return self.collate([self.dataset[index] for index in spot.indices])


class SeededLoader(DataLoader[Any]):
    """What :func:`seeded_loader` makes: an error of ours in a worker is raised as it is."""

    def __iter__(self) -> Any:
        # The inner iteration begins here, not at the first `next`: the sampler is asked where to start.
        return _raised(super().__iter__())


def _raised(batches: Iterable[Any]) -> Iterator[Any]:
    for batch in batches:
        if isinstance(batch, EspalierError):
            raise batch
        yield batch


def seeded_loader(
    dataset: Any,
    batch_size: int,
    seed: int,
    *,
    shuffle: bool = True,
    drop_last: bool = True,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    **options: Any,
) -> "DataLoader[Any]":
    """A ``DataLoader`` whose every batch is a pure function of (seed, epoch, step).

    Exact, for any number of workers: the order of the samples, and whatever ``dataset`` and
    ``collate_fn`` draw from the global CPU generators of torch, ``random`` and NumPy, which are
    seeded anew for each batch and put back after it. Not covered: generators that the data set
    holds itself (``numpy.random.default_rng`` …), a GPU's, and what depends on the clock or on files.

    Args:
        dataset: With a length, and items by index.
        batch_size: Samples per batch.
        seed: ≥ 0.
        shuffle: False: in the order of the data set.
        drop_last: Leave out the samples that do not fill a batch; False for test data.
        collate_fn: Samples to a batch; by default torch's.
        **options: Of ``DataLoader``: num_workers, pin_memory, persistent_workers …

    Raises:
        RequestError: A data set without a length, or an option that the order depends on.

    Example:
        >>> loader = seeded_loader([0, 1, 2, 3], batch_size=2, seed=0, shuffle=False)
        >>> [batch.tolist() for batch in loader]
        [[0, 1], [2, 3]]
    """
    taken = sorted({"sampler", "batch_sampler", "generator"} & set(options))
    if taken:
        raise RequestError(f"seeded_loader decides the order itself; leave out {', '.join(taken)}")
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise RequestError(
            f"{type(dataset).__name__} has no length and items by index, so its order cannot be drawn "
            "from a seed; give a map-style data set, or FromLoaders a DataLoader of your own"
        )
    sampler = SeededSampler(len(dataset), batch_size, seed, shuffle=shuffle, drop_last=drop_last)
    whole: Any = SeededDataset(dataset, collate_fn or default_collate, seed)
    # Its own generator: starting a loader draws a number, which else came from the global one.
    return SeededLoader(
        whole,
        batch_sampler=sampler,
        collate_fn=_as_it_is,
        generator=torch.Generator().manual_seed(0),
        **options,
    )


def ours(loader: Any) -> bool:
    """Was it made by :func:`seeded_loader`?"""
    return isinstance(getattr(loader, "batch_sampler", None), SeededSampler) and isinstance(
        loader.dataset, SeededDataset
    )


_OPTIONS = (
    "num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context",
    "persistent_workers", "prefetch_factor",
)  # fmt: skip


def on_part(loader: "DataLoader[Any]", indices: list[int], **changed: Any) -> "DataLoader[Any]":
    """A loader of ours over some of its samples, as it is otherwise.

    Args:
        loader: Made by :func:`seeded_loader`.
        indices: Of the samples.
        **changed: Arguments of :func:`seeded_loader` that are to be others.
    """
    sampler: Any = loader.batch_sampler
    whole: Any = loader.dataset
    given = {
        "batch_size": min(sampler.batch_size, len(indices)),
        "seed": whole.seed, "shuffle": sampler.shuffle, "drop_last": sampler.drop_last,
        "collate_fn": whole.collate, **{name: getattr(loader, name) for name in _OPTIONS},
    }  # fmt: skip
    return seeded_loader(Subset(whole.dataset, indices), **{**given, **changed})


def _as_it_is(batch: Any) -> Any:
    return batch
