"""What a model is trained for: loss, evaluation and batches."""

from espalier._ground.example import Example
from espalier.tasks._classification import Classification, Labelled, LossFn
from espalier.tasks._figures import Accuracy, Figure
from espalier.tasks._fingerprint import fingerprint
from espalier.tasks._image_folder import image_folder
from espalier.tasks._loaders import FromLoaders
from espalier.tasks._sampler import SeededSampler, seeded_loader
from espalier.tasks._splitting import Pair
from espalier.tasks._task import (
    Batch,
    DataPart,
    Goal,
    JudgedOn,
    Parted,
    Task,
    Validating,
    judged_on,
)

__all__ = [
    "Accuracy",
    "Batch",
    "Classification",
    "DataPart",
    "Example",
    "Figure",
    "FromLoaders",
    "Goal",
    "JudgedOn",
    "Labelled",
    "LossFn",
    "Pair",
    "Parted",
    "SeededSampler",
    "Task",
    "Validating",
    "fingerprint",
    "image_folder",
    "judged_on",
    "seeded_loader",
]
