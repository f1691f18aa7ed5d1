"""Caffe's AlexNet, the one that the ADMM papers count."""

import torch.nn.functional as F
from torch import Tensor, nn


class AlexNet(nn.Module):
    """AlexNet with two groups in its second, fourth and fifth convolution: 60,954,656 weights.

    torchvision's ``alexnet`` is another: one tower, narrower, without local response normalisation.

    Args:
        classes: Number of outputs.

    Source: Krizhevsky et al. 2012, in the form and with the layer names of Caffe's reference model.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     weights = [p.numel() for n, p in AlexNet().named_parameters() if "weight" in n]
        >>> weights[:2], sum(weights)
        ([34848, 307200], 60954656)
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.fc6 = nn.Linear(9216, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, classes)
        self.norm = nn.LocalResponseNorm(5)
        self.dropout = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 227, 227) to logits (N, classes)."""
        x = self.norm(F.max_pool2d(F.relu(self.conv1(x)), 3, 2))
        x = self.norm(F.max_pool2d(F.relu(self.conv2(x)), 3, 2))
        x = F.relu(self.conv4(F.relu(self.conv3(x))))
        x = F.max_pool2d(F.relu(self.conv5(x)), 3, 2).flatten(1)
        x = self.dropout(F.relu(self.fc6(x)))
        logits: Tensor = self.fc8(self.dropout(F.relu(self.fc7(x))))
        return logits
