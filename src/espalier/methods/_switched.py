"""A model whose units are switched by auxiliary parameters, and the data from which those learn."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from espalier.methods._gates import Units
from espalier.methods._straight_through import Estimator, gate
from espalier.tasks import Batch, Task


class Switched(nn.Module):
    """The model with W ⊙ h(M) for its weights."""

    def __init__(self, model: nn.Module, units: Units, estimator: Estimator, m: Tensor) -> None:
        super().__init__()
        self.model, self._units, self._estimator = model, units, estimator
        self.m = nn.Parameter(m)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward pass, its buffers updated as ever."""
        return functional_call(self.model, self.gated(), args, kwargs)

    def gated(self) -> dict[str, Tensor]:
        """W ⊙ h(M) of every parameter that has units, on the graph of both."""
        return {
            name: gate(self.model.get_parameter(name), m, self._estimator)
            for name, m in self._units.spread(self.m).items()
        }


class Scale:
    """What the gradient of M is divided by: its root mean square over all units of a budget, of the last steps.

    One figure for a budget, so that within it |Δm| goes by |G|, as the paper wants; and a learning rate means the
    same whatever the loss.
    """

    MEMORY = 0.99

    def __init__(self, units: Units) -> None:
        self._units = units
        self.squares, self.steps = torch.zeros_like(units.limits), 0

    def __call__(self, gradient: Tensor) -> Tensor:
        """The gradient in parts of its scale, which has seen it."""
        parts = torch.split(gradient, list(self._units.sizes))
        now = torch.stack([part.square().mean() for part in parts])
        self.squares = self.MEMORY * self.squares + (1 - self.MEMORY) * now
        self.steps += 1
        unbiased = self.squares / (1 - self.MEMORY**self.steps)
        return gradient / self._units.each(unbiased.sqrt().clamp(min=torch.finfo(now.dtype).tiny))

    def state_dict(self) -> dict[str, Any]:
        """What the last steps have shown."""
        return {"squares": self.squares.clone(), "steps": self.steps}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse."""
        self.squares, self.steps = saved["squares"].clone(), saved["steps"]


class HeldOut:
    """The batches that M learns from, one after the other; which is next is a function of how many were taken."""

    def __init__(self, task: Task, autocast: torch.dtype | None) -> None:
        self.task, self.autocast, self.taken = task, autocast, 0
        self._coming: Iterator[Batch] = iter(())

    def gradient(self, model: nn.Module, m: nn.Parameter) -> Tensor:
        """∂L/∂m on the next batch; no other gradient is made or changed."""
        cast = torch.autocast(m.device.type, self.autocast) if self.autocast else nullcontext()
        with cast:
            loss = self.task.loss(model, self._next())
        (found,) = torch.autograd.grad(loss, [m])
        return found

    def go_to(self, taken: int) -> None:
        """As if so many batches had been taken."""
        self.taken, self._coming = taken, iter(())

    def _next(self) -> Batch:
        batch = next(self._coming, None)
        if batch is None:
            epoch, at = divmod(self.taken, self.task.steps_per_epoch)
            self._coming = self.task.batches(epoch, start=at)
            batch = next(self._coming)
        self.taken += 1
        return batch


def first(units: Units, sizes: Mapping[str, Tensor], start: float) -> Tensor:
    """M > 0 in proportion to the mean |w| of a unit's weights, ``start`` on the mean over each budget.

    Args:
        units: Whose m.
        sizes: |w| by parameter name.
        start: The mean.
    """
    every = {name: torch.ones_like(size) for name, size in sizes.items()}
    mean = units.counts(sizes) / units.counts(every).clamp(min=1)
    parts = torch.split(mean, list(units.sizes))
    least = torch.finfo(mean.dtype).tiny
    scaled = torch.cat([part / part.mean().clamp(min=least) for part in parts])
    return (start * scaled).clamp(min=1e-3 * start)  # what is zero by chance begins on as well
