"""Labelled images held in memory: the one thing that every dataset reader returns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from espalier.errors import DataError, RequestError


@dataclass(frozen=True, kw_only=True, eq=False)  # tensors have no single truth value
class ImageSet:
    """Labelled images of one size, with the figures that normalise them.

    Args:
        images: uint8 (N, C, H, W), read as v/255; or floating point, read as it is.
        labels: int64 (N,), each in [0, len(classes)).
        classes: The class names; label i means ``classes[i]``.
        mean: One figure per channel, in units of the read value.
        std: One figure per channel, > 0.

    Raises:
        DataError: The parts do not fit one another.

    Example:
        >>> digits = ImageSet(images=torch.zeros(2, 1, 4, 4, dtype=torch.uint8),
        ...                   labels=torch.tensor([0, 1]), classes=("zero", "one"))
        >>> len(digits)
        2
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        channels = self.images.shape[1] if self.images.dim() == 4 else -1
        if channels < 0:
            raise DataError(f"images have shape {tuple(self.images.shape)}; give (N, C, H, W)")
        if self.images.dtype != torch.uint8 and not self.images.is_floating_point():
            raise DataError(f"images are {self.images.dtype}; give uint8 or floating point")
        if self.labels.dtype != torch.int64 or self.labels.shape != (len(self.images),):
            raise DataError(
                f"labels are {self.labels.dtype} of shape {tuple(self.labels.shape)} for "
                f"{len(self.images)} images; give int64 ({len(self.images)},)"
            )
        outside = (self.labels < 0) | (self.labels >= len(self.classes))
        if bool(outside.any()):
            at = int(outside.nonzero()[0])
            raise DataError(
                f"image {at} has label {int(self.labels[at])}, but there are "
                f"{len(self.classes)} classes"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels:
                raise RequestError(
                    f"{name} has {len(values)} figures for images of {channels} channels; "
                    f"give {channels}"
                )
        if min(self.std) <= 0:
            raise RequestError(f"std is {self.std}; every figure must be > 0")

    def __len__(self) -> int:
        return len(self.images)

    def normalise(self, images: Tensor) -> Tensor:
        """Images as the model sees them, (v − mean)/std per channel, on the device of ``images``.

        Args:
            images: Some of this set's images, perhaps augmented, (N, C, H, W); not modified.

        Returns:
            float32 for uint8 images, else the dtype of ``images``; the same shape and device.
        """
        x = images.float().div_(255) if images.dtype == torch.uint8 else images
        mean = torch.tensor(self.mean, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)
        return (x - mean) / std

    def normalised_by(self, mean: Sequence[float], std: Sequence[float]) -> "ImageSet":
        """The same images with other figures for the normalisation."""
        return replace(self, mean=tuple(mean), std=tuple(std))

    def first(self, limit: int | None) -> "ImageSet":
        """At most ``limit`` images, as many of each class as can be, in their old order.

        Of each class the first images are taken; class counts differ by one at most unless a class
        runs out. Nothing is random, so the subset is the same in every run.

        Args:
            limit: A count of images, ≥ 1; None or a figure above ``len(self)`` keeps all.

        Raises:
            RequestError: ``limit`` < 1.
        """
        if limit is None or limit >= len(self):
            return self
        return self.parted(limit)[0]

    def parted(self, count: int) -> tuple["ImageSet", "ImageSet"]:
        """The first ``count`` images, as many of each class as can be, and the rest; both in their old order.

        Args:
            count: 1 ≤ count ≤ len(self).

        Raises:
            RequestError: ``count`` outside that range.
        """
        if not 1 <= count <= len(self):
            raise RequestError(f"a subset of {count} images; give at least 1, at most {len(self)}")
        # Rank every image within its class, then take the lowest ranks: ties go to the lower class.
        rank = torch.empty_like(self.labels)
        for label in range(len(self.classes)):
            members = (self.labels == label).nonzero().flatten()
            rank[members] = torch.arange(len(members))
        order = torch.argsort(rank * len(self.classes) + self.labels, stable=True)
        first, rest = (part.sort().values for part in (order[:count], order[count:]))
        return self.only(first), self.only(rest)

    def only(self, chosen: Tensor) -> "ImageSet":
        """The images of these indices, int64 (n,), in this order."""
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])


@dataclass(frozen=True, kw_only=True)
class Split:
    """A training and a test set with the same classes and normalisation."""

    train: ImageSet
    test: ImageSet
