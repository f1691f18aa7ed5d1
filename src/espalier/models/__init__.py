"""Plain reference networks; they know nothing of pruning."""

from espalier.models.lenet import LeNet5, LeNet300, lenet5, lenet300

__all__ = ["LeNet5", "LeNet300", "lenet5", "lenet300"]
