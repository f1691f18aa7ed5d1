"""What a model is trained for: loss, evaluation and batches."""

from espalier.tasks._task import Batch, Task
from espalier.tasks.classification import Classification, Labelled, LossFn

__all__ = ["Batch", "Classification", "Labelled", "LossFn", "Task"]
