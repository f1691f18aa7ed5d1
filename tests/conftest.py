"""What several test folders share."""

import importlib
import importlib.util
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

_LIBRARIES = []


@pytest.fixture(scope="session")
def vision():
    """``vision.torchvision`` and ``vision.timm``: their models, for shapes; skips without them.

    torchvision built for CUDA does not import beside a CPU-only torch, because its operators are
    missing; declaring the two that are named on import is enough for models.
    """
    for package in ("torchvision", "timm"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torchvision = importlib.import_module("torchvision")
        except RuntimeError:
            for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _LIBRARIES.append(library)  # the declarations live as long as this object
            torchvision = importlib.import_module("torchvision")
        timm = importlib.import_module("timm")
    return SimpleNamespace(torchvision=torchvision, timm=timm)
