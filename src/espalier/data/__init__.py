"""Dataset readers: plain files to labelled images in memory. Nothing is unpickled."""

from espalier.data._image_set import ImageSet, Split
from espalier.data.mnist import load_mnist

__all__ = ["ImageSet", "Split", "load_mnist"]
