"""The two LeNets of the pruning literature."""

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet5(nn.Module):
    """Caffe's LeNet-5: 20 and 50 filters of 5×5, then 500 and ``classes`` units.

    Without padding a 28×28 image gives 800 features; for ten classes there are 430,500 weights and
    580 biases. ReLU follows both convolutions and ``fc1``, as in the PyTorch and TensorFlow
    versions (Caffe's own has it after ``fc1`` alone).

    Args:
        classes: Number of outputs.

    Source: LeCun et al. 1998, in the form of Han et al. 2015 and of the ADMM and SLR papers.

    Example:
        >>> sum(p.numel() for p in LeNet5().parameters())
        431080
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(800, 500)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 1, 28, 28) to logits (N, classes)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc2(x)
        return logits


class LeNet5BatchNorm(LeNet5):
    """The same with BatchNorm after either convolution: 140 parameters more.

    Args:
        classes: Number of outputs.

    Example:
        >>> sum(p.numel() for p in LeNet5BatchNorm().parameters())
        431220
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__(classes)
        self.bn1 = nn.BatchNorm2d(20)
        self.bn2 = nn.BatchNorm2d(50)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 1, 28, 28) to logits (N, classes)."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc2(x)
        return logits


class LeNet300(nn.Module):
    """LeNet-300-100, a perceptron on the 784 pixels: 266,200 weights and 410 biases.

    Args:
        classes: Number of outputs.

    Source: LeCun et al. 1998, in the form of Han et al. 2015.

    Example:
        >>> sum(p.numel() for p in LeNet300().parameters())
        266610
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 1, 28, 28) to logits (N, classes)."""
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits


def lenet5(classes: int = 10, batchnorm: bool = False) -> LeNet5:
    """Caffe's LeNet-5 (20-50-500-classes) for 28×28 grey images."""
    return LeNet5BatchNorm(classes) if batchnorm else LeNet5(classes)


def lenet300(classes: int = 10) -> LeNet300:
    """LeNet-300-100, a perceptron for 28×28 grey images."""
    return LeNet300(classes)
