"""What the data are, in few bytes: enough to notice that others lie in their place.

Sizes, names and types are said as they are, of the content a SHA-256 over a sample that is bounded and always the
same: a set of a few megabytes whole, of a larger one items at equal distances. So one changed image among a million
can pass, and another set, another order or another version of it cannot.
"""

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import IterableDataset

from espalier._ground.described import qualified
from espalier.data import ImageSet
from espalier.tasks._sampler import SeededDataset
from espalier.tasks._seeding import seeded
from espalier.tasks._task import DataPart, Task

BYTES = 1 << 22
"""Of a set of images, how many are looked at."""
ITEMS = 16
"""Of a data set that makes its items one by one, how many are looked at."""

_PARTS: tuple[DataPart, ...] = ("train", "test")


def fingerprint(task: Task) -> dict[str, Any]:
    """What is known of a task's data, as plain data; equal for equal data, in every process.

    A task may say it itself, in a method of this name. Of another the number of steps and the first inputs of
    either part are known; of inputs that are drawn anew each time, their number alone.

    Args:
        task: Its batches are drawn on random streams of their own: none is changed.
    """
    own = getattr(task, "fingerprint", None)
    if callable(own):
        found: dict[str, Any] = own()
        return found
    return {
        "steps_per_epoch": task.steps_per_epoch,
        **{part: _twice(partial(task.inputs, part, 1)) for part in _PARTS},
    }


def of_images(images: ImageSet) -> dict[str, Any]:
    """Of labelled images in memory."""
    count = len(images)
    size = max(1, images.images[:1].nbytes)
    rows = spread(count, max(1, BYTES // size))
    labels = spread(count, BYTES // 8)
    said = [images.classes, images.mean, images.std]
    return {
        "shape": list(images.images.shape),
        "dtype": str(images.images.dtype).removeprefix("torch."),
        "content": content([repr(said), images.images[rows], images.labels[labels]]),
    }


def of_dataset(dataset: Any) -> dict[str, Any]:
    """Of a torch data set: its kind, its length, some of its items if they are the same each time."""
    inside = dataset.dataset if isinstance(dataset, SeededDataset) else dataset
    known: dict[str, Any] = {"kind": qualified(type(inside))}
    if isinstance(inside, IterableDataset) or not hasattr(inside, "__len__"):
        return known
    rows = spread(len(inside), ITEMS).tolist()
    return {
        **known,
        "length": len(inside),
        "content": _twice(lambda: [inside[row] for row in rows]),
    }


def spread(count: int, most: int) -> Tensor:
    """At most ``most`` of the indices below ``count``, at equal distances, int64.

    >>> spread(10, 3).tolist(), spread(2, 3).tolist()
    ([0, 3, 6], [0, 1])
    """
    taken = min(count, most)
    return torch.arange(taken) * count // max(1, taken)


def content(values: Iterable[Any]) -> str:
    """SHA-256 over tensors, arrays, numbers and texts at any depth; of anything else its type alone.

    >>> content([1, "a"]) == content([1, "a"]), content([torch.ones(2)]) == content([torch.zeros(2)])
    (True, False)
    """
    found = hashlib.sha256()
    for leaf in tree_leaves(list(values)):
        if isinstance(leaf, np.ndarray) and leaf.dtype != object:
            leaf = torch.from_numpy(np.ascontiguousarray(leaf).view(np.uint8))
        if isinstance(leaf, Tensor):
            flat = leaf.detach().cpu().contiguous().reshape(-1)
            found.update(f"{leaf.dtype}{tuple(leaf.shape)}".encode())
            found.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
        elif isinstance(leaf, str | bytes | int | float | None):
            found.update(repr(leaf).encode())
        elif callable(getattr(leaf, "tobytes", None)):  # an image as Pillow has it
            found.update(leaf.tobytes())
        else:
            found.update(qualified(type(leaf)).encode())
    return f"sha256:{found.hexdigest()}"


def _twice(draw: Callable[[], Iterable[Any]]) -> str | None:
    """The digest of what is drawn; None if it is another each time, so that nothing can be told by it."""
    found = []
    for _ in range(2):
        with seeded(0):
            try:
                found.append(content(draw()))
            except (
                KeyError,
                TypeError,
            ):  # items by keys of its own: a sampler of its own knows them
                return None
    return found[0] if found[0] == found[1] else None
