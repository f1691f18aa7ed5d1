"""What a model is trained for: loss, evaluation and batches."""

from espalier._ground.example import Example
from espalier.tasks._average_precision import AveragePrecision
from espalier.tasks._classification import Classification, Labelled, LossFn
from espalier.tasks._detection import Detection, detection
from espalier.tasks._figures import Accuracy, Figure
from espalier.tasks._fingerprint import fingerprint
from espalier.tasks._image_folder import image_folder
from espalier.tasks._language import Perplexity, language
from espalier.tasks._loaders import FromLoaders
from espalier.tasks._names import NAMES, TaskInfo
from espalier.tasks._sampler import SeededSampler, seeded_loader
from espalier.tasks._splitting import Pair
from espalier.tasks._task import (
    Batch,
    DataPart,
    Drawn,
    Goal,
    JudgedOn,
    Parted,
    Task,
    Validating,
    judged_on,
)

__all__ = [
    "NAMES",
    "Accuracy",
    "AveragePrecision",
    "Batch",
    "Classification",
    "DataPart",
    "Detection",
    "Drawn",
    "Example",
    "Figure",
    "FromLoaders",
    "Goal",
    "JudgedOn",
    "Labelled",
    "LossFn",
    "Pair",
    "Parted",
    "Perplexity",
    "SeededSampler",
    "Task",
    "TaskInfo",
    "Validating",
    "detection",
    "fingerprint",
    "image_folder",
    "judged_on",
    "language",
    "seeded_loader",
]
