"""What a solver is: frozen hyper-parameters, a state, and one update every ``cadence`` steps.

Legend: ``w`` W, ``z`` Z, ``multiplier`` Λ, ``rho`` ρ, ``step`` s, ``k`` the count of updates.

Between two updates the training loop does what the state says: it *pulls* W towards Z with the gradient
of ⟨Λ, W − Z⟩ + ρ/2 ‖W − Z‖², which is Λ + ρ(W − Z), and it *holds* the zeros of the held masks.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from espalier._ground.types import Weights
from espalier.metrics import Identity, Metric
from espalier.solvers._schedules import Cubic, Schedule


class Constraint(Protocol):
    """The plan as it stands at one update: in a metric, opened by the slack of the moment."""

    @property
    def metric(self) -> Mapping[str, Tensor] | None:
        """The norm of the pull and so of the conditions; ``None``: the plain one."""
        ...

    @property
    def moved(self) -> bool:
        """Whether the budget has changed since the last update: then Z of then is infeasible now."""
        ...

    def project(self, w: Weights) -> dict[str, Tensor]:
        """Z = Π_S(W): a new tensor for every constrained weight."""
        ...

    def support(self, w: Weights) -> dict[str, Tensor]:
        """Boolean masks of Π_S(W)."""
        ...


@dataclass(frozen=True, kw_only=True)
class State:
    """What a solver carries from one update to the next. Detached tensors by parameter name."""

    z: dict[str, Tensor] = field(default_factory=dict)
    multiplier: dict[str, Tensor] = field(default_factory=dict)
    held: dict[str, Tensor] = field(default_factory=dict)
    rho: float = 0.0
    step: float = 0.0
    k: int = 0
    pull_scale: float = 1.0
    scalars: Mapping[str, float] = field(default_factory=dict)
    """Numbers one solver needs from its own past (named in that solver's file)."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Whether the surrogate optimality conditions held at one update; ``None``: not asked."""

    first: bool | None = None
    second: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Solver(ABC):
    """The dynamics by which weights reach their sets.

    Args:
        cadence: Optimiser steps between two updates; the strongest knob there is.
        continuation: How the budget closes from dense to its target over the run.
        settle: Fraction of the run after which, once the budget has closed, W is projected and its zeros
            are held; ``None``: never.
        metric: The norm in which Π_S is the nearest point.
        decoupled: Pull W beside the optimiser's step, by lr · (Λ + ρ(W − Z)), as AdamW decouples weight
            decay, instead of through the gradient. The pull, the multiplier (kept as H⁻¹Λ) and the
            conditions are then all meant in the metric.

    The defaults of the first three are the best of ``docs/results.md``; the papers' own are once an epoch,
    ``Constant()`` and ``None``.
    """

    cadence: int = 20
    continuation: Schedule = field(default_factory=Cubic)
    settle: float | None = 0.45
    metric: Metric = field(default_factory=Identity)
    decoupled: bool = False

    @abstractmethod
    def init(self, w: Weights, constraint: Constraint) -> State:
        """The state before the first step."""

    @abstractmethod
    def update(
        self, w: Weights, state: State, constraint: Constraint, loss: float
    ) -> tuple[State, Conditions]:
        """One update. ``loss`` is f: the mean training loss of the interval, or the probe batch's."""
