"""Convolutions whose kernels have dead borders, cropped to the box of what is left.

A column of a convolution is what one input channel and one kernel position give to every filter.
Where pruning columns leaves whole rows or columns of *positions* without a weight, the kernel is
cut to the box of the live ones, and the padding shifted so that nothing else changes.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from espalier.compaction._edits import SliceEdit
from espalier.errors import RequestError

Padding = tuple[int, int, int, int]
"""Rows and columns of zeros to the left, right, top and bottom; below zero, so many are cut off."""


class PaddedConv2d(nn.Conv2d):
    """A convolution whose padding differs from side to side, or cuts off the border.

    Built from an ordinary one by :func:`cropped`; its own ``padding`` is zero.

    Attributes:
        border: Zeros to the left, right, top, bottom; below zero, what is cut off.
    """

    border: Padding = (0, 0, 0, 0)

    def forward(self, input: Tensor) -> Tensor:
        """Pad, then convolve."""
        return super().forward(F.pad(input, self.border))

    def extra_repr(self) -> str:
        """As of a convolution, with the border."""
        plain: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{plain}, border={self.border}"


def crops(model: nn.Module) -> tuple[SliceEdit, ...]:
    """The edits that cut every kernel to the box of its live positions.

    Only two-dimensional convolutions of PyTorch itself that pad with a number of zeros, with a
    weight of their own; a kernel without any weight is left alone.

    Args:
        model: Whatever else can go is gone. Not modified.

    Example:
        >>> import torch
        >>> net = nn.Conv2d(1, 1, 3, padding=1)
        >>> with torch.no_grad():
        ...     _ = net.weight[..., 2, :].zero_(), net.weight[..., 0].zero_()
        >>> [(edit.axis, edit.keep) for edit in crops(net)]
        [(2, (0, 1)), (3, (1, 2))]
    """
    found = []
    for name, module in plain_convolutions(model):
        if type(module) is not nn.Conv2d:
            continue
        live = (module.weight.detach() != 0).flatten(0, 1).any(0)
        for axis, alive in ((2, live.any(1)), (3, live.any(0))):
            at = alive.nonzero().flatten().tolist()
            keep = tuple(range(at[0], at[-1] + 1)) if at else ()
            if 0 < len(keep) < len(alive):
                found.append(SliceEdit(name=name, axis=axis, size=len(alive), keep=keep))
    return tuple(found)


def plain_convolutions(model: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """Convolutions that pad with a number of zeros and own their weight, by its name."""
    uses: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    return [
        (f"{path}.weight" if path else "weight", module)
        for path, module in model.named_modules()
        # One that computes its weight (weight_norm) has none of its own.
        if isinstance(module, nn.Conv2d)
        and pads_zeros(module)
        and uses.get(id(module._parameters.get("weight"))) == 1
    ]


def pads_zeros(module: nn.Conv2d) -> bool:
    """With a number of zeros, not with "same" or a reflection."""
    return module.padding_mode == "zeros" and not isinstance(module.padding, str)


def crop_(module: nn.Module, weight: Mapping[int, SliceEdit]) -> None:
    r"""Make a convolution right for the kernel it has been given, in place.

    Cutting a positions in front and b behind moves the window: with dilation d the padding becomes
    :math:`(p - d a, p - d b)`. Where the two are equal and not negative it stays an ordinary
    convolution, else it becomes a :class:`PaddedConv2d`.

    Args:
        module: Its weight is cut already.
        weight: The edits of the weight; those of axes 2 and 3 count.

    Raises:
        RequestError: A module that cannot be cropped, or a kernel that is not a box.
    """
    kernels = [edit for axis, edit in weight.items() if axis > 1]
    if type(module) is not nn.Conv2d or not pads_zeros(module):
        raise RequestError(f"{kernels[0].name}: only the kernel of a plain Conv2d can be cropped")
    for edit in kernels:
        if edit.keep != tuple(range(edit.keep[0], edit.keep[-1] + 1)):
            raise RequestError(
                f"{edit.name}: kept positions of axis {edit.axis} are not neighbours"
            )
    border: list[int] = []
    for axis in (3, 2):  # F.pad counts from the last axis
        cut, pad = weight.get(axis), int(module.padding[axis - 2])
        front, behind = (0, 0) if cut is None else (cut.keep[0], cut.size - 1 - cut.keep[-1])
        step = module.dilation[axis - 2]
        border += [pad - step * front, pad - step * behind]
    left, right, top, bottom = border
    module.kernel_size = (module.weight.shape[2], module.weight.shape[3])
    if left == right >= 0 and top == bottom >= 0:
        module.padding = (top, left)
    else:
        module.padding = (0, 0)
        module.__class__ = PaddedConv2d  # its hooks, mode and parameters stay where they are
        vars(module)["border"] = (left, right, top, bottom)
