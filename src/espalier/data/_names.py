"""The data sets by name, and how to load one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from espalier._ground.importing import call, import_object
from espalier.data import _cifar10 as cifar10
from espalier.data import _digits as digits
from espalier.data import _folder as folder
from espalier.data import _mnist as mnist
from espalier.data._image_set import Split
from espalier.errors import RequestError, UnknownNameError, nearest


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What a data set is, before it is read.

    Args:
        description: One line.
        source: Where to get it, and what ``path`` must name.
        needs_path: Whether ``load`` wants a path.
        function: Reads it.
    """

    description: str
    source: str
    needs_path: bool
    function: Callable[..., Split]


NAMES: Mapping[str, DatasetInfo] = MappingProxyType(
    {
        "digits": DatasetInfo(
            description="1,797 handwritten digits, 10 classes, 28×28 grey; no files needed",
            source="comes with scikit-learn: pip install espalier[demo]; no path",
            needs_path=False,
            function=digits.load_digits,
        ),
        "mnist": DatasetInfo(
            description="70,000 handwritten digits, 10 classes, 28×28 grey",
            source="yann.lecun.com/exdb/mnist or a mirror; path: the folder of the four IDX files, "
            "raw or .gz",
            needs_path=True,
            function=mnist.load_mnist,
        ),
        "cifar10": DatasetInfo(
            description="60,000 photographs, 10 classes, 32×32 colour",
            source="www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz, unpacked; path: the folder "
            f"that holds {cifar10.FOLDER}",
            needs_path=True,
            function=cifar10.load_cifar10,
        ),
        "folder": DatasetInfo(
            description="your own images, one folder a class, resized to `size` pixels",
            source="path: a folder with train/<class>/*.jpg|jpeg|png, and test/ or val/ likewise",
            needs_path=True,
            function=folder.load_folder,
        ),
    }
)
"""Every data set that can be loaded by name."""

NORMALISATIONS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = MappingProxyType(
    {
        "mnist": (mnist.MEAN, mnist.STD),
        "cifar10": (cifar10.MEAN, cifar10.STD),
        "imagenet": (folder.MEAN, folder.STD),
    }
)
"""Means and standard deviations by name, for weights trained with another normalisation."""


def load(
    name: str,
    path: str | Path | None = None,
    *,
    normalise: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **options: Any,
) -> Split:
    """A data set by name.

    Args:
        name: One of ``NAMES``, or ``package.module:function`` for your own; the current directory
            is importable.
        path: Where its files are; your own function is given it first, unless it is None.
        normalise: One of ``NORMALISATIONS``, in place of the data set's own.
        mean: One figure a channel of images in [0, 1], in place of the data set's own.
        std: Likewise, > 0; give both or neither.
        **options: Handed to the reader: ``seed`` for digits, ``size`` for folder.

    Returns:
        The training and the test set.

    Raises:
        UnknownNameError: No such data set, normalisation, module or attribute.
        RequestError: A path or an option is missing or too many, or your function returns
            something else than a ``Split``.
        DataError: A file is missing, cut short or corrupt.

    Example:
        >>> split = load("digits", seed=1)
        >>> len(split.train), len(split.test), tuple(split.train.images.shape[1:])
        (1438, 359, (1, 28, 28))
    """
    figures = _figures(normalise, mean, std)
    split = _read(name, path, options)
    if not isinstance(split, Split):
        raise RequestError(
            f"{name} returned a {type(split).__name__}; it must return an espalier.data.Split"
        )
    if figures is None:
        return split
    return replace(
        split, train=split.train.normalised_by(*figures), test=split.test.normalised_by(*figures)
    )


def _read(name: str, path: str | Path | None, options: Mapping[str, Any]) -> Any:
    if ":" in name:
        positional = () if path is None else (path,)
        return call(import_object(name), name, *positional, **options)
    if name not in NAMES:
        hint = nearest(name, NAMES)
        raise UnknownNameError(f"no data set {name!r}; {hint}, or package.module:function")
    info = NAMES[name]
    if info.needs_path and path is None:
        raise RequestError(f"the data set {name!r} needs a path. To get it: {info.source}")
    if not info.needs_path and path is not None:
        raise RequestError(f"the data set {name!r} takes no path; got {path}")
    if info.needs_path:
        return call(info.function, name, path, **options)
    return call(info.function, name, **options)


def _figures(
    normalise: str | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Sequence[float], Sequence[float]] | None:
    if (mean is None) != (std is None):
        raise RequestError("mean and std belong together; give both or neither")
    if normalise is None:
        return None if mean is None or std is None else (mean, std)
    if mean is not None:
        raise RequestError("normalise names a mean and std; leave it or them out")
    if normalise not in NORMALISATIONS:
        hint = nearest(normalise, NORMALISATIONS)
        raise UnknownNameError(f"no normalisation {normalise!r}; {hint}")
    return NORMALISATIONS[normalise]
