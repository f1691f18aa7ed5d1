"""VGG-16 and VGG-19 for CIFAR: convolutions, with or without BatchNorm, and a single linear layer."""

from torch import Tensor, nn

_WIDTHS = (64, 128, 256, 512, 512)


class VGGCifar(nn.Module):
    """VGG of which each stage ends in a 2×2 max-pool, which leaves one pixel of 512 channels.

    Convolutions have biases. Of VGG-16's parameters 14,710,464 are convolution weights; with those of
    BatchNorm and the linear layer it is 14,719,808.

    Args:
        depths: Convolutions in each of the five stages.
        classes: Number of outputs.
        batchnorm: After every convolution.

    Source: Simonyan & Zisserman 2015, configurations D and E, in the form and with the parameter names of
    github.com/kuangliu/pytorch-cifar.
    """

    def __init__(self, depths: tuple[int, ...], classes: int = 10, batchnorm: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs, depth in zip(_WIDTHS, depths, strict=True):
            for _ in range(depth):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1)]
                layers += [nn.BatchNorm2d(outputs)] if batchnorm else []
                layers += [nn.ReLU()]
                inputs = outputs
            layers += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, classes)."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


def vgg16_cifar(classes: int = 10, batchnorm: bool = True) -> VGGCifar:
    """VGG-16 with one linear layer for 32×32 colour images."""
    return VGGCifar((2, 2, 3, 3, 3), classes, batchnorm)


def vgg19_cifar(classes: int = 10, batchnorm: bool = True) -> VGGCifar:
    """VGG-19 with one linear layer for 32×32 colour images."""
    return VGGCifar((2, 2, 4, 4, 4), classes, batchnorm)
