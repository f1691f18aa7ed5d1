"""ResNet-18 and ResNet-50 with a stem for small images, as in the SLR paper."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside the identity, or beside a 1×1 convolution where shapes change."""

    widening = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, width, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """A 3×3 convolution between two of 1×1, the last four times as wide; the stride is the 3×3's."""

    widening = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = self.widening * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, 4·width, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNetCifar(nn.Module):
    """A ResNet in torchvision's layout and names, with a 3×3 stem of stride 1.

    Args:
        block: Of what its stages are made.
        blocks: How many of them, by stage.
        classes: Number of outputs.
        maxpool: Keep the stem's 3×3 max-pool of stride 2, as the SLR paper's code does (ResNet-18:
            baseline 93.33 %); without it the network is the usual one for CIFAR (about 95 %) and
            takes four times the MACs.

    Source: Gurevin et al. 2021, code; He et al. 2016 for the network.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: Sequence[int],
        classes: int = 10,
        maxpool: bool = True,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if maxpool else nn.Identity()
        wide = block.widening
        self.layer1 = _stage(block, 64, 64, blocks[0], stride=1)
        self.layer2 = _stage(block, 64 * wide, 128, blocks[1])
        self.layer3 = _stage(block, 128 * wide, 256, blocks[2])
        self.layer4 = _stage(block, 256 * wide, 512, blocks[3])
        self.fc = nn.Linear(512 * wide, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, classes)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def _stage(
    block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, count: int, stride: int = 2
) -> nn.Sequential:
    first = block(inputs, width, stride)
    rest = (block(block.widening * width, width, stride=1) for _ in range(count - 1))
    return nn.Sequential(first, *rest)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """A 1×1 convolution where shapes change, else nothing."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
    )


def resnet18_cifar(classes: int = 10, maxpool: bool = True) -> ResNetCifar:
    """ResNet-18 of the SLR paper for 32×32 colour images; ``maxpool=False`` for the usual one."""
    return ResNetCifar(BasicBlock, (2, 2, 2, 2), classes, maxpool)


def resnet50_cifar(classes: int = 10, maxpool: bool = True) -> ResNetCifar:
    """ResNet-50 of the SLR paper for 32×32 colour images; ``maxpool=False`` for the usual one."""
    return ResNetCifar(Bottleneck, (3, 4, 6, 3), classes, maxpool)
