"""Ultra-Fast-Lane-Detection: for each lane and each row of the image the column in which it lies."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espalier.models._resnet_cifar import BasicBlock, ResNetCifar


class Backbone(nn.Module):
    """ResNet-18 of ImageNet without its head; the outputs of its last three stages."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        whole = ResNetCifar(BasicBlock, (2, 2, 2, 2))
        self.bn1, self.maxpool = whole.bn1, whole.maxpool
        self.layer1, self.layer2 = whole.layer1, whole.layer2
        self.layer3, self.layer4 = whole.layer3, whole.layer4
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map images to maps at 1/8, 1/16 and 1/32 of their size."""
        x = self.layer1(self.maxpool(F.relu(self.bn1(self.conv1(x)))))
        second = self.layer2(x)
        third = self.layer3(second)
        return second, third, self.layer4(third)


class Block(nn.Module):
    """A 3×3 convolution of the auxiliary branch, BatchNorm and ReLU; the size stays."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        return F.relu(self.bn(self.conv(x)))


class UFLD(nn.Module):
    """Lanes by classification of rows: cell g of ``cells`` says in which column, cell ``cells`` that there is none.

    Args:
        cells: Columns that the width is divided into; 100 for TuSimple, 200 for CULane.
        rows: Rows of the image that are looked at; 56 for TuSimple, 18 for CULane.
        lanes: Lanes at most.
        size: (H, W) of the images, multiples of 32.
        auxiliary: With the segmentation branch that helps in training; it gives a second output.

    Source: Qin et al., ECCV 2020, with the parameter names of github.com/cfzd/Ultra-Fast-Lane-Detection.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     net = UFLD().eval()
        ...     net(torch.zeros(1, 3, 288, 800)).shape
        torch.Size([1, 101, 56, 4])
    """

    def __init__(
        self,
        cells: int = 100,
        rows: int = 56,
        lanes: int = 4,
        size: tuple[int, int] = (288, 800),
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        self.shape = (cells + 1, rows, lanes)
        self.model = Backbone()
        self.auxiliary = auxiliary
        if auxiliary:
            self.aux_header2 = nn.Sequential(*(Block(128, 128) for _ in range(4)))
            self.aux_header3 = nn.Sequential(Block(256, 128), *(Block(128, 128) for _ in range(2)))
            self.aux_header4 = nn.Sequential(Block(512, 128), Block(128, 128))
            self.aux_combine = nn.Sequential(
                Block(384, 256, 2), Block(256, 128, 2), Block(128, 128, 2), Block(128, 128, 4),
                nn.Conv2d(128, lanes + 1, 1),
            )  # fmt: skip
        self.pool = nn.Conv2d(512, 8, 1)
        seen = 8 * (size[0] // 32) * (size[1] // 32)
        self.cls = nn.Sequential(
            nn.Linear(seen, 2048), nn.ReLU(), nn.Linear(2048, (cells + 1) * rows * lanes)
        )
        for module in self.cls:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (N, 3, H, W) to logits (N, cells + 1, rows, lanes); beside them maps (N, lanes + 1, H/8, W/8)."""
        second, third, last = self.model(x)
        logits: Tensor = self.cls(self.pool(last).flatten(1)).unflatten(1, self.shape)
        if not self.auxiliary:
            return logits
        both = [
            self.aux_header2(second),
            F.interpolate(self.aux_header3(third), scale_factor=2.0, mode="bilinear"),
            F.interpolate(self.aux_header4(last), scale_factor=4.0, mode="bilinear"),
        ]
        return logits, self.aux_combine(torch.cat(both, dim=1))


def ufld(
    cells: int = 100,
    rows: int = 56,
    lanes: int = 4,
    size: tuple[int, int] = (288, 800),
    auxiliary: bool = False,
) -> UFLD:
    """Ultra-Fast-Lane-Detection on ResNet-18, for 288×800 images of TuSimple."""
    return UFLD(cells, rows, lanes, (size[0], size[1]), auxiliary)
