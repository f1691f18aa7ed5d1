"""Random changes to training images: pure functions of the images and a generator.

All randomness comes from the generator that is handed in, drawn on the CPU, so that the same
generator state gives the same images whatever else a program draws. Images are changed before they
are normalised: what is moved in from outside is black.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from espalier.errors import RequestError, UnknownNameError, nearest

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Images (N, C, H, W) and a generator to new images of the same shape."""


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half.

    Args:
        images: (N, C, H, W), any dtype and device; not modified.
        generator: A CPU generator; advanced by N draws.

    Returns:
        New tensor, same shape, dtype and device.
    """
    mirrored = torch.randint(2, (len(images), 1, 1, 1), generator=generator).bool()
    return torch.where(mirrored.to(images.device), images.flip(3), images)


def random_crop(images: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Shift each image by up to ``padding`` pixels either way: pad it with zeros, cut it out again.

    Args:
        images: (N, C, H, W), any dtype and device; not modified.
        generator: A CPU generator; advanced by 2N draws.
        padding: Pixels on every side, ≥ 0.

    Returns:
        New tensor, same shape, dtype and device.

    Raises:
        RequestError: ``padding`` < 0.
    """
    if padding < 0:
        raise RequestError(f"padding={padding}; give at least 0")
    count, channels, height, width = images.shape
    padded = images.new_zeros(count, channels, height + 2 * padding, width + 2 * padding)
    padded[:, :, padding : padding + height, padding : padding + width] = images
    top, left = torch.randint(2 * padding + 1, (2, count), generator=generator)
    # Every cut as a view, (N, C, 2·padding + 1, 2·padding + 1, H, W); only the chosen are copied.
    cuts = padded.unfold(2, height, 1).unfold(3, width, 1)
    return cuts[torch.arange(count), :, top, left]


def crop_flip(images: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """:func:`random_crop`, then :func:`random_flip`: the usual one for CIFAR.

    Args:
        images: (N, C, H, W), any dtype and device; not modified.
        generator: A CPU generator; advanced by 3N draws.
        padding: Pixels on every side, ≥ 0.

    Returns:
        New tensor, same shape, dtype and device.

    Raises:
        RequestError: ``padding`` < 0.

    Source: He et al. 2016, "Deep residual learning", section 4.2.
    """
    return random_flip(random_crop(images, generator, padding), generator)


AUGMENTATIONS: Mapping[str, Augment] = MappingProxyType(
    {"flip": random_flip, "crop": random_crop, "crop_flip": crop_flip}
)
"""Every augmentation that a recipe can name."""


def augmentation(name: str) -> Augment:
    """An augmentation by name.

    Raises:
        UnknownNameError: ``name`` is not in ``AUGMENTATIONS``.

    Example:
        >>> augmentation("crop_flip").__name__
        'crop_flip'
    """
    if name not in AUGMENTATIONS:
        raise UnknownNameError(f"no augmentation {name!r}; {nearest(name, AUGMENTATIONS)}")
    return AUGMENTATIONS[name]
