"""An epoch of image files: Espalier's loader against torchvision's ``ImageFolder``, in turns.

    python benchmarks/loader.py FOLDER [--images 50000] [--workers 2] [--size 96]

FOLDER holds ``train/<class>/*.jpg`` and ``val/`` likewise; its images are linked until there are enough of them.
Both loaders crop at random, mirror and normalise; neither trains. They take turns in slices of an epoch, so that
whatever else the machine does meets both.
Writes ``results/loader.json``.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from espalier import models, tasks
from espalier._ground.environment import hardware, versions

RESULT = Path(__file__).parent / "results" / "loader.json"
BATCH = 128
SLICES = 10


def links(source: Path, folder: Path, images: int) -> None:
    """``images`` training files, hard links or copies of those of ``source`` in turn."""
    files = sorted((source / "train").glob("*/*.jpg"))
    for part, count in (("train", images), ("val", 100)):
        for index in range(count):
            file = files[index % len(files)]
            target = folder / part / file.parent.name / f"{index}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file.resolve())


def ours(folder: Path, size: int, workers: int) -> Any:
    return tasks.image_folder(folder, BATCH, seed=0, size=size, workers=workers).train


def theirs(folder: Path, size: int, workers: int) -> Any:
    models.torchvision()  # beside a CPU build of torch it imports this way alone
    from torchvision import datasets, transforms

    steps = [
        transforms.RandomResizedCrop(size),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ]
    images = datasets.ImageFolder(str(folder / "train"), transforms.Compose(steps))
    return torch.utils.data.DataLoader(
        images, BATCH, shuffle=True, num_workers=workers, drop_last=True
    )


def drawn(batches: Any, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        next(batches)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--size", type=int, default=96)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        links(arguments.folder, folder, arguments.images)
        loaders = {
            make.__name__: make(folder, arguments.size, arguments.workers)
            for make in (ours, theirs)
        }
        assert len(loaders["ours"]) == len(loaders["theirs"])
        a_slice = len(loaders["ours"]) // SLICES
        batches = {name: iter(loader) for name, loader in loaders.items()}
        seconds: dict[str, list[float]] = {name: [] for name in loaders}
        for index in range(SLICES):  # who begins changes too
            for name in list(loaders)[:: 1 if index % 2 else -1]:
                seconds[name].append(drawn(batches[name], a_slice))
    ratios = [one / other for one, other in zip(seconds["ours"], seconds["theirs"], strict=True)]
    found = {
        "images": arguments.images,
        "workers": arguments.workers,
        "size": arguments.size,
        "seconds": {name: round(sum(all_), 1) for name, all_ in seconds.items()},
        "epoch": round(sum(seconds["ours"]) / sum(seconds["theirs"]), 3),
        "slices": [round(ratio, 3) for ratio in statistics.quantiles(ratios, n=4)],
        "versions": versions("torch", "torchvision", "Pillow"),
        "hardware": hardware(),
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
