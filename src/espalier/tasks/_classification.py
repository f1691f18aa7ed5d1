"""Image classification from sets held in memory."""

import copy
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espalier._ground.modes import evaluating
from espalier.data import Augment, ImageSet
from espalier.errors import RequestError
from espalier.tasks._fingerprint import of_images
from espalier.tasks._holding_out import count_of, shuffled
from espalier.tasks._seeding import generator_for
from espalier.tasks._task import DataPart, Goal, JudgedOn

LossFn = Callable[[Tensor, Tensor], Tensor]
"""Logits (N, classes) and labels (N,) to a scalar, the mean over the batch."""

_CHUNK = 64
"""Test images per batch of ``inputs``: few enough to run twice, side by side, on any machine."""


class Labelled(NamedTuple):
    """A batch: normalised images (N, C, H, W) and labels (N,), both on the task's device."""

    images: Tensor
    labels: Tensor


class Classification:
    """Cross-entropy and accuracy on labelled images; the batches depend on nothing but the seed.

    The order of an epoch is one permutation drawn from (seed, epoch), the augmentation of a batch
    is drawn from (seed, epoch, step): no global random state is read or changed, the model has no
    influence, and an epoch taken up at any step goes on with the very same batches. All of it is
    drawn on the CPU, so a GPU sees the same batches.

    The images of an epoch that do not fill a batch are left out of it (other images each epoch), so
    that every step averages over equally many.

    Args:
        train: Images to learn from.
        test: Images to evaluate on.
        batch_size: Images a training step, 1 <= batch_size <= len(train).
        seed: >= 0.
        augment: Changes training images before they are normalised.
        device: Where batches go; the model must be there too.
        test_batch_size: Images per step of the evaluation; no effect on its result but rounding.
        label_smoothing: Fraction in [0, 1) of the training target spread over all classes.
        loss_fn: Replaces the cross-entropy, in training and evaluation.
        limit_train: Learn from this many images only, the same of each class.
        limit_test: Evaluate on this many images only, the same of each class.

    Raises:
        RequestError: An argument outside the range stated above.

    Example:
        >>> images = torch.zeros(8, 1, 2, 2, dtype=torch.uint8)
        >>> toy = ImageSet(images=images, labels=torch.tensor([0, 1] * 4), classes=("no", "yes"))
        >>> task = Classification(toy, toy, batch_size=3, seed=0)
        >>> task.steps_per_epoch, next(task.batches(epoch=0)).images.shape
        (2, torch.Size([3, 1, 2, 2]))
    """

    goal = Goal()
    judged_on: JudgedOn = "test"

    def __init__(
        self,
        train: ImageSet,
        test: ImageSet,
        batch_size: int,
        seed: int,
        augment: Augment | None = None,
        device: str | torch.device = "cpu",
        test_batch_size: int = 500,
        *,
        label_smoothing: float = 0.0,
        loss_fn: LossFn | None = None,
        limit_train: int | None = None,
        limit_test: int | None = None,
    ) -> None:
        self.train = train.first(limit_train)
        self.test = test.first(limit_test)
        if not 1 <= batch_size <= len(self.train):
            raise RequestError(
                f"batch_size={batch_size} with {len(self.train)} training images; "
                f"give 1 <= batch_size <= {len(self.train)}"
            )
        if test_batch_size < 1:
            raise RequestError(f"test_batch_size={test_batch_size}; give at least 1")
        if not len(self.test):
            raise RequestError("the test set is empty; give at least one image")
        if seed < 0:
            raise RequestError(f"seed={seed}; give a seed >= 0")
        if not 0 <= label_smoothing < 1:
            raise RequestError(f"label_smoothing={label_smoothing}; give 0 <= label_smoothing < 1")
        if label_smoothing and loss_fn is not None:
            raise RequestError(
                "label_smoothing belongs to the cross-entropy; leave it or loss_fn out"
            )
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self.device = torch.device(device)
        self.test_batch_size = test_batch_size
        self.label_smoothing = label_smoothing
        self.loss_fn = loss_fn

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the training set."""
        return len(self.train) // self.batch_size

    @property
    def example_input(self) -> Tensor:
        """The first training image as the model sees it, (1, C, H, W)."""
        return self._inputs(self.train, self.train.images[:1])

    @property
    def model_arguments(self) -> Mapping[str, Any]:
        """How many classes there are."""
        return {"classes": len(self.train.classes)}

    def fingerprint(self) -> dict[str, Any]:
        """What the images and labels are: :func:`espalier.tasks.fingerprint`."""
        return {"train": of_images(self.train), "test": of_images(self.test)}

    def parted(self, part: float) -> tuple["Classification", "Classification"]:
        """The task on most of its training images, and on a ``part`` of them, as many of each class as can be.

        Which images these are depends on the data alone: it is the same in every run, whatever its seed. No image
        is in both; they are judged on the same images as the whole.

        Args:
            part: A fraction in (0, 1), or a count.

        Raises:
            RequestError: It leaves nothing on one side.
        """
        count = count_of(part, len(self.train))
        few, most = self.train.only(shuffled(len(self.train))).parted(count)
        return self._on(most), self._on(few)

    def validating(self, part: float) -> "Classification":
        """The task on most of its training images, judged on the ``part`` held out; it has no test images."""
        task, held = self.parted(part)
        task.test, task.judged_on = held.train, "validation"
        return task

    def _on(self, train: ImageSet) -> "Classification":
        task = copy.copy(self)
        task.train, task.batch_size = train, min(self.batch_size, len(train))
        return task

    def batches(self, epoch: int, start: int = 0) -> Iterator[Labelled]:
        """The batches of ``epoch``, from step ``start`` on."""
        if epoch < 0 or not 0 <= start <= self.steps_per_epoch:
            raise RequestError(
                f"epoch={epoch}, start={start}; give epoch >= 0 and "
                f"0 <= start <= {self.steps_per_epoch}"
            )
        return self._batches(epoch, start)

    def _batches(self, epoch: int, start: int) -> Iterator[Labelled]:
        order = torch.randperm(len(self.train), generator=generator_for(self.seed, epoch, 0))
        for step in range(start, self.steps_per_epoch):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            images = self.train.images[chosen]
            if self.augment is not None:
                images = self.augment(images, generator_for(self.seed, epoch, 1 + step))
            labels = self.train.labels[chosen].to(self.device)
            yield Labelled(self._inputs(self.train, images), labels)

    def loss(self, model: nn.Module, batch: Labelled) -> Tensor:
        """The mean loss of a batch, a scalar on the graph."""
        logits = model(batch.images)
        if self.loss_fn is not None:
            return self.loss_fn(logits, batch.labels)
        return F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Accuracy (fraction) and mean loss over the test set, in eval mode, without gradients.

        An image whose logits are not all finite counts as wrong, and the loss is then NaN or
        infinite. Labels are not smoothed. Every module's training mode is restored, also when the
        model raises.
        """
        return self._evaluate(model, self.test)

    def _evaluate(self, model: nn.Module, seen: ImageSet) -> dict[str, float]:
        with evaluating(model), torch.inference_mode():
            return self._figures(model, seen)

    def _figures(self, model: nn.Module, seen: ImageSet) -> dict[str, float]:
        loss_fn = self.loss_fn or F.cross_entropy
        correct, total_loss = 0, 0.0
        for at in range(0, len(seen), self.test_batch_size):
            images = self._inputs(seen, seen.images[at : at + self.test_batch_size])
            labels = seen.labels[at : at + self.test_batch_size].to(self.device)
            logits = model(images)
            # argmax calls NaN the largest, which would make a broken model right on some class.
            finite = logits.isfinite().all(dim=1)
            correct += int(((logits.argmax(dim=1) == labels) & finite).sum())
            total_loss += float(loss_fn(logits, labels)) * len(labels)
        return {"accuracy": correct / len(seen), "loss": total_loss / len(seen)}

    def inputs(self, part: DataPart = "train", limit: int | None = None) -> Iterator[Tensor]:
        """Images in batches, normalised, on the task's device.

        Args:
            part: ``"train"``: those of epoch 0's batches, augmented, as BatchNorm sees them in
                training; ``"test"``: the test images in their order, 64 per batch.
            limit: At most so many batches.
        """
        if part == "train":
            return (batch.images for batch in islice(self.batches(epoch=0), limit))
        return islice(self._tested(), limit)

    def _tested(self) -> Iterator[Tensor]:
        for at in range(0, len(self.test), _CHUNK):
            yield self._inputs(self.test, self.test.images[at : at + _CHUNK])

    def guard(self, limit: int | None = None) -> Callable[[nn.Module], float]:
        """Accuracy on the first ``limit`` training images, the same of each class, not augmented."""
        seen = self.train.first(limit)
        return lambda model: self._evaluate(model, seen)[self.goal.name]

    def _inputs(self, source: ImageSet, images: Tensor) -> Tensor:
        """Move bytes first, then make floats: a quarter of the transfer."""
        return source.normalise(images.to(self.device))
