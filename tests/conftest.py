"""What several test folders share."""

import importlib
import importlib.util
import warnings
from types import SimpleNamespace

import pytest

from espalier import models


@pytest.fixture(scope="session")
def vision():
    """``vision.torchvision`` and ``vision.timm``: their models, for shapes; skips without them.

    Where torchvision was built for another torch, its models are there all the same: see
    ``espalier.models.torchvision``.
    """
    for package in ("torchvision", "timm"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    torchvision = models.torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timm = importlib.import_module("timm")
    return SimpleNamespace(torchvision=torchvision, timm=timm)
