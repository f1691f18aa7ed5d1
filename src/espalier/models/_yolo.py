"""YOLOv3, YOLOv3-tiny and YOLOv3-SPP, layer by layer as darknet's configuration files number them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_ANCHORS = (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326)
_TINY_ANCHORS = (10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319)


class Convolution(nn.Sequential):
    """A convolution whose size stays but for the stride, BatchNorm and a leaky ReLU of slope 0.1.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        size: Side of the kernel.
        stride: Of the convolution.
        linear: A bias in place of BatchNorm and ReLU: the layer before a head.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.Conv2d = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=linear)
        if not linear:
            self.BatchNorm2d = nn.BatchNorm2d(outputs)
            self.activation = nn.LeakyReLU(0.1)


class MaxPool(nn.Module):
    """A max-pool; with stride 1 the size stays, and an even window looks to the right and below."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(size, stride, padding=size // 2 if stride == 1 else 0)
        self.one_more = stride == 1 and size % 2 == 0

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H/stride, W/stride)."""
        x = self.pool(x)
        return x[:, :, 1:, 1:] if self.one_more else x


class Joined(nn.Module):
    """Outputs of earlier layers, side by side or added.

    Args:
        sources: Numbers of the layers.
        added: Add them, as a shortcut does; else concatenate their channels.
    """

    def __init__(self, sources: Sequence[int], added: bool = False) -> None:
        super().__init__()
        self.sources, self.added = tuple(sources), added

    def forward(self, seen: Sequence[Tensor]) -> Tensor:
        """Tensors of one size to one."""
        if self.added:
            return seen[0] + seen[1]
        return seen[0] if len(seen) == 1 else torch.cat(tuple(seen), dim=1)


class Head(nn.Module):
    """Where a map of boxes leaves the network: A anchors of 5 + classes numbers at every place.

    Args:
        anchors: (width, height) of each in pixels of the image.
        every: All anchors of the network, those of its other maps among them.
        classes: Number of classes.
    """

    def __init__(
        self, anchors: Sequence[tuple[int, int]], every: Sequence[tuple[int, int]], classes: int
    ) -> None:
        super().__init__()
        self.anchors, self.every, self.classes = tuple(anchors), tuple(every), classes

    def forward(self, x: Tensor) -> Tensor:
        """(N, A·(5 + classes), H, W) as it is."""
        return x


class Darknet(nn.Module):
    """A network of darknet: layers in a row, some of which look back.

    ``module_list.N`` is section N of the configuration file, as in the public PyTorch checkpoints that
    were made from it (``module_list.0.Conv2d.weight``, ``module_list.0.BatchNorm2d.bias`` …). Files of
    darknet itself (``yolov3-tiny.weights``) are read by :func:`espalier.models.load_weights`.

    Args:
        layers: The sections but the first.

    Source: Redmon & Farhadi 2018, "YOLOv3: an incremental improvement", and darknet's public
    ``yolov3.cfg``, ``yolov3-tiny.cfg`` and ``yolov3-spp.cfg``.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.module_list = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images (N, 3, H, W) in [0, 1], H and W multiples of 32, to a map of every head, the coarsest first."""
        outputs: list[Tensor] = []
        for layer in self.module_list:
            x = layer([outputs[n] for n in layer.sources] if isinstance(layer, Joined) else x)
            outputs.append(x)
        heads = zip(outputs, self.module_list, strict=True)
        return tuple(output for output, layer in heads if isinstance(layer, Head))


class _Sections:
    """The sections so far, and the width of each one's output."""

    def __init__(self, anchors: Sequence[int], classes: int) -> None:
        pairs = list(zip(anchors[::2], anchors[1::2], strict=True))
        self.anchors, self.classes = pairs, classes
        self.layers: list[nn.Module] = []
        self.widths: list[int] = []

    def add(self, layer: nn.Module, width: int | None = None) -> None:
        self.layers.append(layer)
        self.widths.append(self.widths[-1] if width is None else width)

    def convolution(self, outputs: int, size: int, stride: int = 1, **options: Any) -> None:
        inputs = self.widths[-1] if self.widths else 3
        self.add(Convolution(inputs, outputs, size, stride, **options), outputs)

    def pool(self, size: int, stride: int) -> None:
        self.add(MaxPool(size, stride))

    def residual(self, outputs: int, blocks: int) -> None:
        """Half the size and twice the width, then blocks that add to what goes in."""
        self.convolution(outputs, 3, 2)
        for _ in range(blocks):
            self.convolution(outputs // 2, 1)
            self.convolution(outputs, 3)
            self.add(Joined((len(self.layers) - 3, len(self.layers) - 1), added=True))

    def route(self, *sources: int) -> None:
        """Layers by number, or from the end where negative."""
        found = [n % len(self.layers) if n < 0 else n for n in sources]
        self.add(Joined(found), sum(self.widths[n] for n in found))

    def neck(self, outputs: int, pairs: int) -> None:
        for _ in range(pairs):
            self.convolution(outputs, 1)
            self.convolution(2 * outputs, 3)

    def head(self, mask: Sequence[int]) -> None:
        self.convolution(len(mask) * (5 + self.classes), 1, linear=True)
        self.add(Head([self.anchors[n] for n in mask], self.anchors, self.classes))

    def finer(self, outputs: int, beside: int) -> None:
        """From the layer four before, narrowed and twice as large, beside an earlier one of that size."""
        self.route(-4)
        self.convolution(outputs, 1)
        self.add(nn.Upsample(scale_factor=2.0))
        self.route(-1, beside)


def _yolov3(classes: int, pyramid: bool) -> Darknet:
    made = _Sections(_ANCHORS, classes)
    made.convolution(32, 3)
    for outputs, blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        made.residual(outputs, blocks)
    made.neck(512, 1)
    if pyramid:
        made.convolution(512, 1)
        for size, back in ((5, -2), (9, -4)):
            made.pool(size, 1)
            made.route(back)
        made.pool(13, 1)
        made.route(-1, -3, -5, -6)
    else:
        made.neck(512, 1)
    made.neck(512, 2 if pyramid else 1)
    made.head((6, 7, 8))
    made.finer(256, beside=61)
    made.neck(256, 3)
    made.head((3, 4, 5))
    made.finer(128, beside=36)
    made.neck(128, 3)
    made.head((0, 1, 2))
    return Darknet(made.layers)


def yolov3(classes: int = 80) -> Darknet:
    """YOLOv3 for images whose sides are multiples of 32, usually 416 or 608."""
    return _yolov3(classes, pyramid=False)


def yolov3_spp(classes: int = 80) -> Darknet:
    """YOLOv3-SPP: YOLOv3 with a pyramid of max-pools before its coarsest map."""
    return _yolov3(classes, pyramid=True)


def yolov3_tiny(classes: int = 80) -> Darknet:
    """YOLOv3-tiny, of two maps, for images whose sides are multiples of 32, usually 416."""
    made = _Sections(_TINY_ANCHORS, classes)
    for outputs in (16, 32, 64, 128, 256, 512):
        made.convolution(outputs, 3)
        made.pool(2, 1 if outputs == 512 else 2)
    made.convolution(1024, 3)
    made.convolution(256, 1)
    made.convolution(512, 3)
    made.head((3, 4, 5))
    made.finer(128, beside=8)
    made.convolution(256, 3)
    made.head((0, 1, 2))
    return Darknet(made.layers)
