"""What a model is trained for: loss, evaluation and batches."""

from espalier.tasks._classification import Classification, Labelled, LossFn
from espalier.tasks._task import Batch, Task

__all__ = ["Batch", "Classification", "Labelled", "LossFn", "Task"]
