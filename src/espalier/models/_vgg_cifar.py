"""VGG-16 for CIFAR: thirteen convolutions with BatchNorm and a single linear layer."""

from torch import Tensor, nn

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16Cifar(nn.Module):
    """VGG-16 with BatchNorm; each stage ends in a 2×2 max-pool, which leaves one pixel of 512.

    Convolutions have biases. Of its parameters 14,710,464 are convolution weights; with those of
    BatchNorm and the linear layer it is 14,719,808.

    Args:
        classes: Number of outputs.

    Source: Simonyan & Zisserman 2015, configuration D, in the form and with the parameter names of
    github.com/kuangliu/pytorch-cifar.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for stage in _STAGES:
            for outputs in stage:
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
                layers += [nn.ReLU()]
                inputs = outputs
            layers += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) to logits (N, classes)."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


def vgg16_cifar(classes: int = 10) -> VGG16Cifar:
    """VGG-16 with BatchNorm and one linear layer for 32×32 colour images."""
    return VGG16Cifar(classes)
