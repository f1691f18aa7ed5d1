"""Column-pruned convolutions without their dead columns: the live maps gathered, then a 1×1 convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espalier.compaction._columns import PaddedConv2d, pads_zeros, plain_convolutions
from espalier.compaction._edits import ColumnEdit
from espalier.errors import RequestError, UnknownNameError


class GatheredConv2d(nn.Conv2d):
    """A convolution that holds its live columns alone, weight (O, columns, 1, 1).

    The maps that the live columns read, a channel shifted by a kernel position each, are copied behind one
    another, and a 1×1 convolution adds them up. Built from an ordinary one by :func:`gather_`.

    Attributes:
        border: Zeros to the left, right, top, bottom; below zero, what is cut off.
        window: The kernel's size before.
        jump: Its stride.
        step: Its dilation.
        positions: Row and column in the kernel of every group of columns, and how many they are.
        channels: The channel that every column reads, int64; a buffer that is not saved.
    """

    border: tuple[int, int, int, int]
    window: tuple[int, int]
    jump: tuple[int, int]
    step: tuple[int, int]
    positions: tuple[tuple[int, int, int], ...]
    channels: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """Gather, then convolve."""
        x = F.pad(input, self.border) if any(self.border) else input
        # For kernel position (a, b) the strided slice that begins at its dilated offset holds,
        # output by output, the input that this position multiplies. All slices are of one size, so
        # they can be laid behind one another and one 1×1 convolution sums over positions and
        # channels at once.
        (down, right), (k, m), (d, e) = self.jump, self.window, self.step
        high, wide = x.shape[-2] - d * (k - 1), x.shape[-1] - e * (m - 1)
        maps, at = [], 0
        for a, b, count in self.positions:
            part = x[..., d * a : d * a + high : down, e * b : e * b + wide : right]
            maps.append(part.index_select(-3, self.channels[at : at + count]))
            at += count
        return F.conv2d(torch.cat(maps, -3), self.weight, self.bias)

    def extra_repr(self) -> str:
        """What it was and what it holds."""
        columns = self.weight.shape[1]
        total = self.in_channels * self.window[0] * self.window[1]
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.window}, "
            f"stride={self.jump}, columns={columns} of {total}"
        )


def columns_to_gather(model: nn.Module, density: float) -> tuple[ColumnEdit, ...]:
    """The edits that leave out dead columns where at most a fraction of them is live.

    Only two-dimensional convolutions in one group that pad with a number of zeros, with a weight
    of their own.

    Args:
        model: Channels are gone and kernels cropped. Not modified.
        density: Live columns over all of a convolution, up to which it is gathered.

    Example:
        >>> net = nn.Conv2d(1, 1, 3)
        >>> with torch.no_grad():
        ...     _ = net.weight.flatten(1)[:, 1:8].zero_()
        >>> columns_to_gather(net, 0.3)
        (ColumnEdit(name='weight', shape=(1, 3, 3), keep=(0, 8)),)
    """
    found = []
    for name, module in plain_convolutions(model):
        live = (module.weight.detach() != 0).flatten(1).any(0)
        keep = tuple(live.nonzero().flatten().tolist())
        few = 0 < len(keep) < len(live) and len(keep) <= density * len(live)
        if few and _gatherable(module):
            found.append(ColumnEdit(name=name, shape=_filter(module.weight), keep=keep))
    return tuple(found)


def gather_(model: nn.Module, edit: ColumnEdit) -> None:
    """Leave the dead columns of one convolution out, in place.

    Raises:
        UnknownNameError: No such module.
        RequestError: A module that cannot be gathered, or another shape.
    """
    path, _, leaf = edit.name.rpartition(".")
    try:
        module = model.get_submodule(path)
    except AttributeError as error:
        raise UnknownNameError(f"{edit.name}: no such module") from error
    if leaf != "weight" or not isinstance(module, nn.Conv2d) or not _gatherable(module):
        raise RequestError(f"{edit.name}: only columns of a plain Conv2d can be taken out")
    if _filter(module.weight) != edit.shape:
        raise RequestError(
            f"{edit.name}: the edit is for filters of shape {edit.shape}, "
            f"the weight has shape {tuple(module.weight.shape)}"
        )
    _, kernel, width = edit.shape
    rows, columns = (int(n) for n in module.padding)
    border = getattr(module, "border", (columns, columns, rows, rows))
    order = _order(edit)
    places = [divmod(at % (kernel * width), width) for at in order]
    channels = torch.tensor([at // (kernel * width) for at in order])
    weight = module.weight
    live = weight.detach().flatten(1)[:, torch.tensor(order, device=weight.device)]
    module.weight = nn.Parameter(live[:, :, None, None].contiguous(), weight.requires_grad)
    module.register_buffer("channels", channels.to(weight.device), persistent=False)
    # The columns are in the order of their positions, so equal places are neighbours, and how many
    # there are says which columns they are.
    vars(module).update(
        border=tuple(border),
        window=(kernel, width),
        jump=module.stride,
        step=module.dilation,
        positions=tuple((a, b, places.count((a, b))) for a, b in dict.fromkeys(places)),
        kernel_size=(1, 1),
        stride=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
    )
    module.__class__ = GatheredConv2d  # its hooks, mode and other parameters stay where they are


def scattered(weight: Tensor, edit: ColumnEdit) -> Tensor:
    """The inverse for the weight alone: (O, columns, 1, 1) to (O, *shape), zeros elsewhere."""
    _, kernel, width = edit.shape
    full = weight.new_zeros(len(weight), edit.shape[0] * kernel * width)
    full[:, torch.tensor(_order(edit), device=weight.device)] = weight.flatten(1)
    return full.reshape(len(weight), *edit.shape)


def _order(edit: ColumnEdit) -> list[int]:
    """Position by position: every map is cut out of the input once."""
    area = edit.shape[1] * edit.shape[2]
    return sorted(edit.keep, key=lambda at: (at % area, at))


def _filter(weight: Tensor) -> tuple[int, int, int]:
    channels, rows, columns = weight.shape[1:]
    return channels, rows, columns


def _gatherable(module: nn.Conv2d) -> bool:
    return type(module) in (nn.Conv2d, PaddedConv2d) and module.groups == 1 and pads_zeros(module)
