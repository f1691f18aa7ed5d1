"""What every task over two data loaders has in common: batches, inputs, evaluation, guard."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from espalier._ground.example import Example
from espalier.errors import RequestError, RunError
from espalier.tasks._checking import check_loaders
from espalier.tasks._fingerprint import of_dataset
from espalier.tasks._holding_out import count_of, shuffled
from espalier.tasks._ordering import drawn, in_order
from espalier.tasks._sampler import on_part, ours
from espalier.tasks._splitting import Pair, Split
from espalier.tasks._task import DataPart, Goal, JudgedOn

_TRAIN, _TEST = 0, 1


class Loaded(ABC):
    """A task over two ``DataLoader``s, but for its loss and its figures.

    Args:
        train: To learn from.
        test: To evaluate on; must not leave out its last samples.
        split: From a batch to (the model's input, the target).
        goal: The figure that a run is judged by.
        model_arguments: What the data say of the model.
        device: Where batches go.
        seed: ≥ 0; what the loaders draw from global generators begins with it.

    Raises:
        RequestError: Not a loader, without a length or a batch; a negative seed.
    """

    judged_on: JudgedOn = "test"

    def __init__(
        self,
        train: "DataLoader[Any]",
        test: "DataLoader[Any]",
        *,
        split: Split,
        goal: Goal,
        model_arguments: Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu",
        seed: int = 0,
    ) -> None:
        self._steps = check_loaders(train, test)
        if seed < 0:
            raise RequestError(f"seed={seed}; give a seed >= 0")
        self.train, self.test = train, test
        self.device, self.seed = torch.device(device), seed
        self.model_arguments: Mapping[str, Any] = dict(model_arguments or {})
        self._split, self._goal = split, goal
        self._begun = 0  # iterations of the train loader, to notice two at once

    @abstractmethod
    def loss(self, model: nn.Module, batch: Pair) -> Tensor:
        """The loss of a batch, a scalar on the graph."""

    @abstractmethod
    def _figures(self, model: nn.Module, pairs: Iterable[Pair]) -> dict[str, float]:
        """Every figure over some batches, in eval mode and without gradients."""

    @property
    def goal(self) -> Goal:
        """The figure that a run is judged by."""
        return self._goal

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch of the train loader."""
        return self._steps

    @property
    def resumes_exactly(self) -> bool:
        """Is every training batch a pure function of (seed, epoch, step), skipped at no cost?"""
        return ours(self.train)

    @property
    def order(self) -> str:
        """What a resume in the middle of an epoch meets, in a sentence."""
        if self.resumes_exactly:
            return "an epoch resumes at any step with the very same batches"
        return (
            f"the train loader's order comes from its own {type(self.train.sampler).__name__}: a resume "
            "within an epoch draws the batches before it and throws them away, and meets the same ones "
            "only if nothing but the global generators decides them; espalier.tasks.seeded_loader "
            "resumes exactly"
        )

    @cached_property
    def example_input(self) -> Example:
        """The first training sample as the model sees it, a batch of one."""
        pair = next(self._pairs(in_order(self.train, 1), _TRAIN, 0))
        return pair.inputs

    def fingerprint(self) -> dict[str, Any]:
        """What is known of the data sets: :func:`espalier.tasks.fingerprint`."""
        sets = {"train": of_dataset(self.train.dataset), "test": of_dataset(self.test.dataset)}
        return {"steps_per_epoch": self._steps, **sets}

    def parted(self, part: float) -> tuple[Self, Self]:
        """The task on most of its training samples, and on a ``part`` of them.

        Which samples these are depends on their number alone: it is the same in every run, whatever its seed. No
        sample is in both; they are judged on the same data as the whole.

        Args:
            part: A fraction in (0, 1), or a count.

        Raises:
            RequestError: It leaves nothing on one side, or another than a seeded loader, whose samples cannot
                be chosen.
        """
        if not ours(self.train):
            raise RequestError(
                "a part of the training data can be held out of a loader of espalier.tasks.seeded_loader alone; "
                "make the train loader with it, or give loaders of the two parts yourself"
            )
        length = len(self.train.dataset.dataset)  # type: ignore[attr-defined]
        order, count = shuffled(length), count_of(part, length)
        most, few = (
            on_part(self.train, chosen.sort().values.tolist())
            for chosen in (order[count:], order[:count])
        )
        return self._on(most), self._on(few)

    def validating(self, part: float) -> Self:
        """The task on most of its training samples, judged on the ``part`` held out; it has no test data.

        What the data set augments by itself is augmented in both.
        """
        task, held = self.parted(part)
        every = list(range(len(held.train.dataset.dataset)))  # type: ignore[attr-defined]
        task.test = on_part(held.train, every, shuffle=False, drop_last=False)
        task.judged_on = "validation"
        return task

    def _on(self, train: "DataLoader[Any]") -> Self:
        task = copy.copy(self)
        vars(task).pop("example_input", None)
        task.train, task._steps, task._begun = train, len(train), 0
        return task

    def batches(self, epoch: int, start: int = 0) -> Iterator[Pair]:
        """The batches of ``epoch``, from step ``start`` on."""
        if epoch < 0 or not 0 <= start <= self._steps:
            raise RequestError(
                f"epoch={epoch}, start={start}; give epoch >= 0 and 0 <= start <= {self._steps}"
            )
        return self._batches(epoch, start)

    def _batches(self, epoch: int, start: int) -> Iterator[Pair]:
        self._begun += 1
        mine, step = self._begun, start
        for batch in drawn(self.train, epoch, start, (self.seed, _TRAIN, epoch)):
            if step == self._steps:
                return
            if mine != self._begun and self.train.persistent_workers:
                raise RequestError(
                    "two iterations of the train loader at once, and persistent workers serve one; "
                    "make it with persistent_workers=False"
                )
            yield self._pair(batch, self.train)
            step += 1
        if step < self._steps:
            raise RunError(
                f"the train loader says it has {self._steps} batches and gave {step}; make its length "
                "and its batches agree"
            )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Every figure over the test loader; every module's training mode is restored, also when the model raises."""
        return self._figures(model, self._pairs(self.test, _TEST, 0))

    def inputs(self, part: DataPart = "train", limit: int | None = None) -> Iterator[Example]:
        """What the model sees, in batches.

        Args:
            part: ``"train"``: epoch 0 of the train loader; ``"test"``: the test loader.
            limit: At most so many batches.
        """
        pairs = self.batches(0) if part == "train" else self._pairs(self.test, _TEST, 0)
        return (pair.inputs for pair in islice(pairs, limit))

    def guard(self, limit: int | None = None) -> Callable[[nn.Module], float]:
        """The goal's figure on the first ``limit`` samples of the training data, in their order.

        The train loader's data set is read as it is: what it augments by itself stays augmented,
        with the same draws each time.
        """
        if limit is not None and limit < 1:
            raise RequestError(f"a guard on {limit} samples; give at least 1")
        loader = in_order(self.train, limit)
        return lambda model: self._figures(model, self._pairs(loader, _TRAIN, 0))[self.goal.name]

    def _pairs(self, loader: Iterable[Any], part: int, epoch: int) -> Iterator[Pair]:
        for batch in drawn(loader, epoch, 0, (self.seed, part, epoch)):
            yield self._pair(batch, loader)

    def _pair(self, batch: Any, loader: Any) -> Pair:
        pinned = bool(getattr(loader, "pin_memory", False))
        return Pair(*self._split(batch)).to(self.device, non_blocking=pinned)
