"""The ranks of a run: the one place that knows that there may be several.

A *talk* is a generator that yields what it wants to know of all ranks and is sent the answers, so that pure
functions of one rank's part need no process group, and many talks make one all-reduce a round between them
(:func:`joined`).
"""

import json
from collections.abc import Generator, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from espalier.errors import LostRankError

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class World:
    """The ranks that decide together; alone, each of its answers is what was asked with.

    What every rank is to decide alike is decided from these answers alone, or they part without a word.

    Args:
        group: A process group of ``torch.distributed``; ``None``: alone.

    Raises:
        LostRankError: Another rank was lost, or did not answer in time; every call may.

    Example:
        >>> ALONE.mean(2.5), ALONE.gather({"rank": ALONE.rank}), ALONE.agree(True)
        (2.5, [{'rank': 0}], True)
    """

    group: Any = None

    @classmethod
    def current(cls) -> "World":
        """All ranks of the default process group; alone where there is none, or it has one rank."""
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            return cls(group=dist.group.WORLD)
        return ALONE

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return 1 if self.group is None else dist.get_world_size(self.group)

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""
        return 0 if self.group is None else dist.get_rank(self.group)

    def sum(self, x: Tensor) -> Tensor:
        """Σ over the ranks of tensors of one shape and dtype; a new tensor, the same bits everywhere."""
        return self._reduced(x, dist.ReduceOp.SUM)

    def most(self, x: Tensor) -> Tensor:
        """The largest over the ranks, element by element."""
        return self._reduced(x, dist.ReduceOp.MAX)

    def mean(self, x: float) -> float:
        """The mean over the ranks, in float64; NaN if one of them is."""
        if self.group is None:
            return x
        return float(self.sum(torch.tensor(x, dtype=torch.float64))) / self.size

    def gather(self, value: Any) -> list[Any]:
        """Plain data of every rank, in their order; for small things. It travels as JSON, and nothing is unpickled."""
        if self.group is None:
            return [value]
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = torch.zeros(self.size, dtype=torch.int64)
        sizes[self.rank] = len(text)
        sizes = self.sum(sizes)
        texts = torch.zeros(self.size, int(sizes.max()), dtype=torch.uint8)
        texts[self.rank, : len(text)] = text
        texts = self.sum(texts)
        return [
            json.loads(bytes(t[:n].tolist())) for t, n in zip(texts, sizes.tolist(), strict=True)
        ]

    def agree(self, value: Any) -> Any:
        """Rank 0's value: of clocks, measurements, and whatever may differ in its last bit."""
        return self.gather(value if self.rank == 0 else None)[0]

    def _reduced(self, x: Tensor, op: Any) -> Tensor:
        if self.group is None:
            return x
        nccl = "nccl" in str(dist.get_backend(self.group))
        there = x.detach().to("cuda" if nccl else "cpu", copy=True).contiguous()
        with _answering():
            dist.all_reduce(there, op, self.group)
        return there.to(x.device)


ALONE = World()
"""One process: the only rank."""


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (
        RuntimeError
    ) as error:  # what torch.distributed raises for a peer that is gone, and for one that is late
        raise LostRankError(
            f"another rank was lost, or did not answer in time ({str(error).strip().splitlines()[0]:.120})"
        ) from error


# ---- talks --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """A tensor to be summed over the ranks, or the largest of each element to be found (``most``)."""

    values: Tensor
    most: bool = False


Talk = Generator[list[Ask], list[Tensor], T]
"""Yields what it asks, is sent the answers in the same order, returns what it found."""


def joined(talks: Mapping[K, Talk[T]]) -> Talk[dict[K, T]]:
    """Several talks as one: what they ask in the same round is asked together.

    Example:
        >>> def doubled(x):
        ...     (total,) = yield [Ask(torch.tensor(x))]
        ...     return 2 * int(total)
        >>> settled(joined({"a": doubled(1), "b": doubled(2)}), ALONE)
        {'a': 2, 'b': 4}
    """
    asked: dict[K, list[Ask]] = {}
    found: dict[K, T] = {}

    def go_on(name: K, answers: list[Tensor] | None) -> None:
        try:
            asked[name] = talks[name].send(answers) if answers else next(talks[name])
        except StopIteration as end:
            asked.pop(name, None)
            found[name] = end.value

    for name in talks:
        go_on(name, None)
    while asked:
        answers = yield [ask for asks in asked.values() for ask in asks]
        for name, asks in list(asked.items()):
            mine, answers = answers[: len(asks)], answers[len(asks) :]
            go_on(name, mine)
    return {name: found[name] for name in talks}


def settled(talk: Talk[T], world: World) -> T:
    """What a talk finds: its rounds, one all-reduce for every kind of question in each."""
    try:
        asks = next(talk)
        while True:
            asks = talk.send(_answers(asks, world))
    except StopIteration as end:
        found: T = end.value
        return found


def _answers(asks: list[Ask], world: World) -> list[Tensor]:
    kinds: dict[tuple[torch.dtype, bool], list[int]] = {}
    for number, ask in enumerate(asks):
        kinds.setdefault((ask.values.dtype, ask.most), []).append(number)
    answers: dict[int, Tensor] = {}
    for (_, most), numbers in kinds.items():
        device = asks[numbers[0]].values.device
        flat = torch.cat([asks[n].values.flatten().to(device) for n in numbers])
        flat = world.most(flat) if most else world.sum(flat)
        parts = torch.split(flat, [asks[n].values.numel() for n in numbers])
        answers |= {
            n: part.reshape(asks[n].values.shape).to(asks[n].values.device)
            for n, part in zip(numbers, parts, strict=True)
        }
    return [answers[n] for n in range(len(asks))]
