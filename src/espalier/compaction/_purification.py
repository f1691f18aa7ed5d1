r"""The mathematics of network purification: which columns, channels and filters are weak.

Legend (Ma et al. 2019, "ResNet Can Be Pruned 60×", Algorithm 1). A column of layer i is what one
input index and one kernel position give to every filter; channel j has δ of them:

======  =================================================================== ==================
symbol  meaning                                                             here
======  =================================================================== ==================
η       eq. (8): fraction of the δ columns of a channel that are *not* 0      ``eta``
σ       eq. (9): Σ‖column‖²/δ                                               ``sigma``
Th1     a column is weak when ‖column‖² < Th1                                ``Thresholds.column``
Th2     a channel is weak when η < Th2 and σ < Th3                           ``Thresholds.fraction``
Th3                                                                         ``Thresholds.energy``
Th4     a filter is weak when ‖filter‖² < Th4                                ``Thresholds.filter``
======  =================================================================== ==================

The paper's text calls η the emptiness ratio and a channel empty when η *exceeds* its threshold; eq. (8)
and Algorithm 1 say the opposite, and they agree with each other. They are what is implemented.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from espalier.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Th1 … Th4; zero turns a rule off. An empty filter is weak under every other Th4.

    Attributes:
        column: Th1, a multiple of the mean ‖column‖² of the layer.
        fraction: Th2, a fraction of the columns of a channel, in [0, 1].
        energy: Th3, a multiple of the mean σ of the layer.
        filter: Th4, a multiple of the mean ‖filter‖² of the layer.

    The means run over what is not zero, in the model as it was given: over everything, they would
    measure how much has been pruned, and anew in every pass, they would let the rules chase their
    own tail.

    Raises:
        RequestError: A threshold that is negative or not finite, or ``fraction`` above 1.
    """

    column: float = 0.0
    fraction: float = 0.0
    energy: float = 0.0
    filter: float = 0.0

    def __post_init__(self) -> None:
        values = (self.column, self.fraction, self.energy, self.filter)
        if not all(0 <= value < float("inf") for value in values) or self.fraction > 1:
            raise RequestError(f"{self}: every threshold is 0 or more, and fraction at most 1")


@dataclass(frozen=True, kw_only=True, eq=False)
class Emptiness:
    """η and σ of the channels of one layer, float64 (channels,), and its columns that stay.

    Attributes:
        eta: Fraction of the columns that count and are not zero.
        sigma: Mean energy of the columns that count.
        stays: For every column, whether it keeps its values (bool).
    """

    eta: Tensor
    sigma: Tensor
    stays: Tensor


Reading = Callable[[Tensor, Tensor, float], Emptiness]
"""From ‖column‖² (columns,), the channel of each (int64, 0 … channels − 1) and Th1 to emptiness."""


def weak_as_empty(energies: Tensor, channel: Tensor, threshold: float) -> Emptiness:
    """Reading A of Algorithm 1: weak columns are set to zero first, then η and σ run over all δ.

    The coherent reading, and the default: a channel is weak when little of it is left.

    Example:
        >>> energies, channel = torch.tensor([4.0, 0.125, 0.0, 0.25]), torch.tensor([0, 0, 1, 1])
        >>> found = weak_as_empty(energies, channel, 0.15)
        >>> found.eta.tolist(), found.sigma.tolist(), found.stays.tolist()
        ([0.5, 0.5], [2.0, 0.125], [True, False, False, True])
    """
    stays = energies >= threshold
    return _mean(energies, channel, stays, stays)


def weak_alone(energies: Tensor, channel: Tensor, threshold: float) -> Emptiness:
    """Reading B, Algorithm 1 as printed: η and σ add up over the weak columns alone, over δ still.

    No column is changed by itself. Taken at its word it finds a channel *without* weak columns
    the weakest of all (η = σ = 0 for it) and prunes it; it is here for comparison.

    Example:
        >>> energies, channel = torch.tensor([4.0, 0.125, 0.0, 0.25]), torch.tensor([0, 0, 1, 1])
        >>> weak_alone(energies, channel, 0.15).eta.tolist()
        [0.5, 0.0]
    """
    return _mean(energies, channel, energies < threshold, torch.ones_like(energies).bool())


def _mean(energies: Tensor, channel: Tensor, counted: Tensor, stays: Tensor) -> Emptiness:
    # δ counts all columns of a channel, whichever of them are summed: both readings divide by it.
    delta = torch.bincount(channel).double()
    weighed = torch.where(counted, energies.double(), 0.0)
    return Emptiness(
        eta=torch.bincount(channel, (weighed > 0).double()) / delta,
        sigma=torch.bincount(channel, weighed) / delta,
        stays=stays,
    )


def column_energies(weight: Tensor, axis: int) -> Tensor:
    """‖column‖², float64 (indices of ``axis``, kernel positions).

    Args:
        weight: (O, I, …), or (I, O, …) if transposed.
        axis: The one of the first two that counts inputs.

    Example:
        >>> column_energies(torch.tensor([[[1.0, 0.0]], [[2.0, 3.0]]]), axis=1)
        tensor([[5., 9.]], dtype=torch.float64)
    """
    squares = weight.detach().double().square().cpu()
    return (
        squares.movedim(axis, 0).sum(1).flatten(1)
        if squares.dim() > 2
        else squares.sum(1 - axis)[:, None]
    )


def filter_energies(weight: Tensor, axis: int) -> Tensor:
    """‖filter‖², float64, one for every index of ``axis``, which counts outputs.

    >>> filter_energies(torch.tensor([[1.0, 2.0], [0.0, 3.0]]), axis=0)
    tensor([5., 9.], dtype=torch.float64)
    """
    return weight.detach().double().square().cpu().movedim(axis, 0).flatten(1).sum(1)


def live_mean(values: Tensor) -> float:
    """The mean of what is not zero; 0 where nothing is.

    >>> live_mean(torch.tensor([0.0, 1.0, 3.0]))
    2.0
    """
    live = values[values > 0]
    return float(live.mean()) if live.numel() else 0.0
