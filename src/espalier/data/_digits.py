"""The handwritten digits that come with scikit-learn: a data set that needs no files."""

import numpy as np
import torch

from espalier.data._image_set import ImageSet, Split
from espalier.errors import RequestError

# Over all 1,797 images as they are returned, border included.
MEAN, STD = (0.2243,), (0.3492,)
_SCALE, _BORDER = 3, 2  # 8·3 + 2·2 = 28 pixels
_TEST_FRACTION = 0.2


def load_digits(seed: int = 0) -> Split:
    """1,797 handwritten digits, a fifth of each class for the test.

    Each of the 8×8 pixels becomes a 3×3 square and a black border of 2 is added: 28×28, as the
    LeNets want them, by integer arithmetic and so the same everywhere.

    Args:
        seed: Draws the split, ≥ 0.

    Returns:
        uint8 images (1438 and 359, 1, 28, 28).

    Raises:
        RequestError: scikit-learn is not installed, or ``seed`` < 0.

    Source: Alpaydin & Kaynak 1998, the test part, as distributed in ``sklearn.datasets``.
    """
    if seed < 0:
        raise RequestError(f"seed={seed}; give a seed >= 0")
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise RequestError(
            "the data set 'digits' comes with scikit-learn, which is not installed: "
            "pip install espalier[demo]"
        ) from error
    bunch = load()
    levels = np.asarray(bunch.images, dtype=np.int64)  # 0 to 16
    pixels = ((levels * 255 + 8) // 16).astype(np.uint8)
    pixels = pixels.repeat(_SCALE, axis=1).repeat(_SCALE, axis=2)
    pixels = np.pad(pixels, ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER)))
    labels = np.asarray(bunch.target, dtype=np.int64)
    in_test = _stratified(labels, seed)
    return Split(
        train=_image_set(pixels[~in_test], labels[~in_test]),
        test=_image_set(pixels[in_test], labels[in_test]),
    )


def _stratified(labels: np.ndarray, seed: int) -> np.ndarray:
    """True for the images of the test part, the same fraction of each class."""
    in_test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        # A draw for each class by itself: the split of one does not depend on how many others
        # have.
        draw = torch.Generator().manual_seed(1000 * seed + int(label))
        order = torch.randperm(len(members), generator=draw).numpy()
        in_test[members[order[: round(_TEST_FRACTION * len(members))]]] = True
    return in_test


def _image_set(pixels: np.ndarray, labels: np.ndarray) -> ImageSet:
    return ImageSet(
        images=torch.from_numpy(pixels[:, None].copy()),
        labels=torch.from_numpy(labels.copy()),
        classes=tuple(str(digit) for digit in range(10)),
        mean=MEAN,
        std=STD,
    )
