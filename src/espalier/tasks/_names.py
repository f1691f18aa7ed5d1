"""The tasks that a recipe names without code of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from espalier.tasks._detection import detection
from espalier.tasks._image_folder import image_folder
from espalier.tasks._language import language


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """What a task is, before its data are read.

    Args:
        description: One line.
        source: What `path` must name, and where to get it.
        function: Makes it.
    """

    description: str
    source: str
    function: Callable[..., Any]


NAMES: Mapping[str, TaskInfo] = MappingProxyType(
    {
        "image_folder": TaskInfo(
            description="photographs of classes, read as they are needed, judged by top-1 and top-5 accuracy",
            source="image-net.org; path: a folder with train/<class>/*.jpg|jpeg|png, and test/ or val/ likewise",
            function=image_folder,
        ),
        "detection": TaskInfo(
            description="boxes of things in pictures, judged by COCO's mAP; for YOLOv3 and torchvision's detectors",
            source="cocodataset.org; path: a folder with annotations/instances_*.json and train2017/*.jpg …, or "
            "images/NAME/*.jpg and labels/NAME/*.txt as YOLO has them",
            function=detection,
        ),
        "language": TaskInfo(
            description="the next byte of text files, judged by perplexity; for models from tokens to logits",
            source="no path: the standard library of this Python; or path: a folder of text files, and `pattern`",
            function=language,
        ),
    }
)
"""Every task that can be made by name; labelled images are made by `data`."""
