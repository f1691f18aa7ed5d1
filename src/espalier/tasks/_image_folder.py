"""Classification of image files, read by worker processes while the model trains."""

from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from espalier._ground.importing import import_object
from espalier.data import Transform, stream_folder
from espalier.errors import RequestError
from espalier.tasks._figures import Accuracy
from espalier.tasks._loaders import FromLoaders
from espalier.tasks._sampler import seeded_loader
from espalier.tasks._task import Goal


def image_folder(
    path: str | Path,
    batch_size: int,
    seed: int,
    device: str | torch.device = "cpu",
    *,
    size: int = 224,
    workers: int = 0,
    transform: str | Transform | None = None,
    test_transform: str | Transform | None = None,
    test_batch_size: int = 100,
    label_smoothing: float = 0.0,
) -> FromLoaders:
    """Top-1 and top-5 accuracy on ``train/<class>/*.jpg|jpeg|png`` and ``test/`` or ``val/`` likewise.

    Images are read when a batch needs them: memory is bounded by the batches under way, whatever the size of
    the set. Every batch is a pure function of (seed, epoch, step), with any number of workers.

    Args:
        path: The folder that holds ``train``: ImageNet as it is unpacked, or your own.
        batch_size: Images per training step.
        seed: ≥ 0.
        device: Where batches go; their memory is pinned where that is a GPU.
        size: Side of the images in pixels.
        workers: Processes that read; 0: the training process itself.
        transform: From an image of Pillow in RGB to a tensor (a transform of ``torchvision.transforms.v2``, or
            its name as ``package.module:object``), in place of random crops; it draws from global generators.
        test_transform: Likewise for test images, in place of the centre crop.
        test_batch_size: Images per step of the evaluation.
        label_smoothing: Fraction in [0, 1) of the training target spread over all classes.

    Raises:
        DataError: Folders or images are missing; of an unreadable image when its batch comes.
        RequestError: An argument outside its range.
    """
    if workers < 0:
        raise RequestError(f"workers={workers}; give 0 or more processes")
    if not 0 <= label_smoothing < 1:
        raise RequestError(f"label_smoothing={label_smoothing}; give 0 <= label_smoothing < 1")
    split = stream_folder(
        Path(path).expanduser(),
        size=size,
        transform=_made(transform),
        test_transform=_made(test_transform),
    )
    load = partial(
        seeded_loader, num_workers=workers, pin_memory=torch.device(device).type == "cuda"
    )
    metrics = {"accuracy": Accuracy()}
    if len(split.classes) > 5:  # of five classes the best five are always right
        metrics["top5"] = Accuracy(top=5)
    return FromLoaders(
        load(split.train, batch_size, seed),
        load(
            split.test, min(test_batch_size, len(split.test)), seed, shuffle=False, drop_last=False
        ),
        loss=partial(F.cross_entropy, label_smoothing=label_smoothing),
        metrics=metrics,
        goal=Goal(),
        model_arguments={"classes": len(split.classes)},
        device=device,
        seed=seed,
    )


def _made(transform: str | Transform | None) -> Transform | None:
    return import_object(transform) if isinstance(transform, str) else transform
