"""Detection: boxes in pictures that are read from disk as they are needed."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from espalier._ground.modes import evaluating
from espalier.data import Scenes, load_scenes
from espalier.errors import RequestError
from espalier.tasks._average_precision import AveragePrecision
from espalier.tasks._drawing import drawn
from espalier.tasks._loaded import Loaded
from espalier.tasks._sampler import seeded_loader
from espalier.tasks._splitting import Pair
from espalier.tasks._task import Goal
from espalier.tasks._yolo_loss import heads_of, yolo_boxes, yolo_loss

_GREY = 0.5
_DRAWN = 6
_SURE = 0.25  # what is less sure is counted, and not drawn


class Detection(Loaded):
    """Boxes and classes of things in pictures; mAP as COCO counts it.

    A picture is made to fit a square, its sides in proportion, and what is left over is grey. Training pictures are
    mirrored half of the time. Batches are those of :func:`~espalier.tasks.seeded_loader`: pure functions of
    (seed, epoch, step), for any number of workers.

    Two kinds of detectors are known by what they are made of. One with :class:`~espalier.models.Head` gives maps:
    its loss is YOLOv3's, and boxes are suppressed as in darknet. Any other is one of torchvision's, called
    with the targets while it learns: its losses are its own, and so are its boxes.

    Args:
        train: To learn from.
        test: To evaluate on.
        batch_size: Pictures per step.
        seed: ≥ 0.
        size: Side of the square, pixels; a multiple of 32 for YOLO.
        device: Where batches go.
        workers: Processes that read pictures.
        flip: Mirror training pictures.
        limit_train: Learn from so many pictures only, the first.
        limit_test: Evaluate on so many only, the first.

    Raises:
        RequestError: A size or a limit out of range; ``faster-coco-eval`` is missing; the parts have other classes.
    """

    def __init__(
        self,
        train: Scenes,
        test: Scenes,
        *,
        batch_size: int,
        seed: int,
        size: int = 416,
        device: str | torch.device = "cpu",
        workers: int = 0,
        flip: bool = True,
        limit_train: int | None = None,
        limit_test: int | None = None,
    ) -> None:
        if not 32 <= size <= 4096:
            raise RequestError(f"size={size}; give 32 to 4,096 pixels")
        if train.classes != test.classes:
            raise RequestError(
                f"{len(train.classes)} classes to learn and {len(test.classes)} to test, or other names; "
                "give two parts of one data set"
            )
        self.classes, self.size = train.classes, size
        self.figure = AveragePrecision(len(self.classes))
        learnt = _Squares(train.first(limit_train), size, flip)
        tested = _Squares(test.first(limit_test), size, flip=False)
        options: dict[str, Any] = {"collate_fn": _batch, "num_workers": workers}
        super().__init__(
            seeded_loader(learnt, batch_size, seed, **options),
            seeded_loader(
                tested, min(batch_size, len(tested)), seed, shuffle=False, drop_last=False, **options
            ),
            split=_taken_apart, goal=Goal(name="map50"), device=device, seed=seed,
            model_arguments={"classes": len(self.classes)},
        )  # fmt: skip

    def loss(self, model: nn.Module, batch: Pair) -> Tensor:
        """YOLOv3's loss, or the sum of a torchvision detector's own: a scalar on the graph."""
        heads = heads_of(model)
        if heads:
            return yolo_loss(model(batch.inputs), heads, batch.target, self._shape)
        targets = [
            {"boxes": t["boxes"][~t["crowd"]], "labels": t["labels"][~t["crowd"]] + 1}
            for t in batch.target
        ]
        losses = model(list(_images(batch)), targets)
        if not isinstance(losses, dict):
            raise RequestError(
                f"{type(model).__name__} gives no losses; a detector is yolov3, yolov3_tiny, "
                "yolov3_spp or one of torchvision's detection models"
            )
        total: Tensor = sum(losses.values(), start=batch.inputs.new_zeros(()))  # type: ignore[union-attr]
        return total

    def detections(self, model: nn.Module, images: Tensor) -> list[dict[str, Tensor]]:
        """What a model in eval mode sees in (N, 3, size, size) images: ``boxes``, ``scores``, ``labels`` of each."""
        heads = heads_of(model)
        if heads:
            return yolo_boxes(model(images), heads, self._shape)
        return [{**found, "labels": found["labels"] - 1} for found in model(list(images))]

    def _figures(self, model: nn.Module, pairs: Iterable[Pair]) -> dict[str, float]:
        """``map50`` and ``map``."""
        figure = AveragePrecision(len(self.classes))
        with evaluating(model), torch.no_grad():
            for pair in pairs:
                figure.update(self.detections(model, _images(pair)), pair.target)
        return figure.compute()

    def pictures(self, model: nn.Module) -> list[bytes]:
        """The first test pictures with something in them, as PNG: what is there, and what the model sees."""
        inside: Any = self.test.dataset
        every = (inside[n] for n in range(len(inside)))
        squares = islice((one for one in every if len(one.target["labels"])), _DRAWN)
        found = []
        with evaluating(model), torch.no_grad():
            for image, true in squares:
                (seen,) = self.detections(model, image[None].to(self.device))
                found.append(drawn(image, true, seen, self.classes, _SURE))
        return found

    @property
    def _shape(self) -> tuple[int, int]:
        return self.size, self.size


class _Square(NamedTuple):
    image: Tensor
    target: dict[str, Tensor]


class _Squares(Dataset[_Square]):
    """Pictures made to fit a square, their boxes with them."""

    def __init__(self, scenes: Scenes, size: int, flip: bool) -> None:
        self.scenes, self.size, self.flip = scenes, size, flip

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> _Square:
        scene = self.scenes.scenes[index]
        picture = scene.picture()[None].float() / 255
        scale = self.size / max(picture.shape[2:])
        high, wide = (max(1, round(side * scale)) for side in picture.shape[2:])
        picture = F.interpolate(picture, (high, wide), mode="bilinear", antialias=True)[0]
        image = picture.new_full((3, self.size, self.size), _GREY)
        top, left = (self.size - high) // 2, (self.size - wide) // 2
        image[:, top : top + high, left : left + wide] = picture
        boxes = scene.boxes * scene.boxes.new_tensor([wide, high, wide, high])
        boxes += boxes.new_tensor([left, top, left, top])
        if self.flip and bool(torch.rand(()) < 0.5):
            image, boxes = image.flip(2), boxes[:, [2, 1, 0, 3]]
            boxes[:, [0, 2]] = self.size - boxes[:, [0, 2]]
        # A box that the picture's edge left without area is nothing to be found.
        real = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        return _Square(
            image, {"boxes": boxes[real], "labels": scene.labels[real], "crowd": scene.crowd[real]}
        )


def _batch(squares: Sequence[_Square]) -> tuple[Tensor, list[dict[str, Tensor]]]:
    return torch.stack([one.image for one in squares]), [one.target for one in squares]


def _taken_apart(batch: tuple[Tensor, list[dict[str, Tensor]]]) -> tuple[Tensor, Any]:
    return batch


def _images(pair: Pair) -> Tensor:
    assert isinstance(pair.inputs, Tensor)
    return pair.inputs


def detection(
    path: str | Path,
    batch_size: int,
    seed: int,
    device: str | torch.device = "cpu",
    *,
    train: str = "annotations/instances_train2017.json",
    test: str = "annotations/instances_val2017.json",
    images: str | None = None,
    classes: str | None = None,
    **options: Any,
) -> Detection:
    """Detection from files: COCO's instances JSON, or YOLO's labels.

    Args:
        path: The folder of everything.
        batch_size: Pictures per step.
        seed: ≥ 0.
        device: Where batches go.
        train: Below it: an instances JSON, or a folder of pictures with labels as YOLO has them.
        test: Likewise.
        images: For COCO the folder of the pictures; see :func:`espalier.data.load_scenes`.
        classes: For YOLO a file with a name per line.
        **options: Of :class:`Detection`: size, workers, flip, limit_train, limit_test.

    Raises:
        DataError: Something is missing or damaged.
        RequestError: An option that does not exist or is out of range.
    """
    parts = [load_scenes(path, part, images, classes) for part in (train, test)]
    return Detection(*parts, batch_size=batch_size, seed=seed, device=device, **options)
