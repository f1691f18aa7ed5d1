"""The residual networks of He et al. for CIFAR: 6n + 2 layers of 16, 32 and 64 channels."""

import torch.nn.functional as F
from torch import Tensor, nn


class CifarBlock(nn.Module):
    """Two 3×3 convolutions and an option A shortcut, which has no parameters.

    Where the block halves the image and doubles the channels, the shortcut takes every second
    pixel and adds channels of zeros, half of them before and half after.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        # Attributes, not literals in forward, so that compaction can set them anew when channels
        # go.
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.before or self.after:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, self.before, self.after))
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class CifarResNet(nn.Module):
    """The CIFAR ResNet with ``blocks`` blocks in each of its three stages.

    Args:
        blocks: Blocks per stage, n of the paper's 6n + 2 layers.
        classes: Number of outputs.

    Source: He et al. 2016, "Deep residual learning", section 4.2, shortcuts of option A. Parameter
    names are those of github.com/akamaster/pytorch_resnet_cifar10, so that its weights load.
    """

    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = CifarBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(CifarBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def resnet20(classes: int = 10) -> CifarResNet:
    """ResNet-20 for 32×32 colour images."""
    return CifarResNet(3, classes)


def resnet32(classes: int = 10) -> CifarResNet:
    """ResNet-32 for 32×32 colour images."""
    return CifarResNet(5, classes)


def resnet44(classes: int = 10) -> CifarResNet:
    """ResNet-44 for 32×32 colour images."""
    return CifarResNet(7, classes)


def resnet56(classes: int = 10) -> CifarResNet:
    """ResNet-56 for 32×32 colour images."""
    return CifarResNet(9, classes)


def resnet110(classes: int = 10) -> CifarResNet:
    """ResNet-110 for 32×32 colour images."""
    return CifarResNet(18, classes)
