"""The evidence of one update: how far every layer was from where it may be, and how far everything moved."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from espalier._ground.types import Weights
from espalier._ground.world import ALONE, World
from espalier.errors import NonFiniteError, RequestError, shown
from espalier.methods._update import LayerUpdate, Update
from espalier.solvers import Conditions, Projector, Pulling, State
from espalier.solvers._algebra import difference, norms


@dataclass(kw_only=True)
class MeanLoss:
    """The mean of the training losses since it was last asked for; they stay on their device until then.

    Of several ranks, each of which saw its own part of every batch, it is the mean over all of them.
    """

    total: Tensor | float = 0.0
    count: int = 0
    world: World = ALONE

    def add(self, loss: Tensor | float | None) -> None:
        """One more; ``None`` is left out.

        Raises:
            RequestError: It is no number.
        """
        if loss is None:
            return
        if not (loss.numel() == 1 if isinstance(loss, Tensor) else isinstance(loss, float | int)):
            got = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else shown(loss)
            raise RequestError(
                f"step() was given the loss {got}; give one number, the mean over the batch"
            )
        self.total = self.total + (
            loss.detach().double().reshape(()) if isinstance(loss, Tensor) else loss
        )
        self.count += 1

    def take(self, step: int, advice: str) -> float | None:
        """The mean, beginning anew; ``None``: there were no losses.

        Raises:
            NonFiniteError: It is NaN or infinite; the message says ``advice``.
        """
        if not self.count:
            return None
        mean = self.world.mean(float(self.total) / self.count)
        self.total, self.count = 0.0, 0
        if not math.isfinite(mean):
            raise NonFiniteError(f"the training loss is {mean} at step {step}; {advice}")
        return mean

    def state_dict(self) -> dict[str, Any]:
        """JSON scalars."""
        return {"total": float(self.total), "count": self.count}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``."""
        self.total, self.count = saved["total"], saved["count"]


def record(
    w: Weights,
    z: Weights,
    *,
    step: int,
    k: int,
    loss: float | None,
    moved: tuple[Weights, Weights] = ({}, {}),
    conditions: Conditions | None = None,
    **more: float,
) -> Update:
    """What is recorded of an update: per layer ‖W‖, ‖W − Z‖, ‖Z⁺ − Z‖, ‖Λ⁺ − Λ‖.

    Args:
        w: The weights, as they count for the loss.
        z: What a cut would make of them; {}: itself.
        step: Optimiser steps done.
        k: Updates done.
        loss: f; ``None``: not known.
        moved: Z⁺ − Z and Λ⁺ − Λ, where there are such.
        conditions: Whether the surrogate conditions held.
        more: slack, rho, s, where they have a meaning.
    """
    size, violation = norms(w), norms(difference(w, z))
    z_change, change = norms(moved[0]), norms(moved[1])
    layers = {
        name: LayerUpdate(
            weight=size[name],
            violation=violation.get(name, 0.0),
            z_change=z_change.get(name, 0.0),
            multiplier_change=change.get(name, 0.0),
        )
        for name in w
    }
    held = conditions or Conditions()
    return Update(
        step=step, k=k, loss=loss, condition_3=held.first, condition_8=held.second, layers=layers,
        **({"slack": 0.0, "rho": 0.0, "s": 0.0} | more),
    )  # fmt: skip


def evidence(
    w: Weights,
    old: State,
    new: State,
    conditions: Conditions,
    at: Projector,
    *,
    step: int,
    slack: float,
    loss: float | None,
    takes: bool = False,
) -> Update:
    """The record of a solver's update.

    Args:
        w: W, before and after it alike: an update moves no weights.
        old: The solver's state before.
        new: After.
        conditions: Whether the surrogate conditions held.
        at: The constraint as it stood.
        step: Optimiser steps done.
        slack: How far the constraint was open.
        loss: f; ``None``: not known.
        takes: Whether the update itself sets weights to zero: those outside the masks that it holds.
    """
    before = old if isinstance(old, Pulling) else Pulling()
    after = new if isinstance(new, Pulling) else Pulling()
    # Of a solver that keeps no Z: what this update takes, or, where it takes nothing, what a cut would.
    held = new.held if takes else {}
    z = after.z or {n: torch.where(held[n], w[n], 0) for n in w if n in held} or at.project(w)
    moved = difference(after.z, before.z), difference(after.multiplier, before.multiplier)
    return record(
        w, z, step=step, k=new.k, loss=loss, moved=moved, conditions=conditions,
        slack=slack, rho=after.rho, s=after.step,
    )  # fmt: skip
