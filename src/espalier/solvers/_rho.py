"""How ρ moves from update to update, and what becomes of the multiplier when it does."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Ge, Gt

from espalier._ground.registry import Family
from espalier._ground.types import Weights
from espalier.solvers._solver import Projector, Pulling


@dataclass(frozen=True)
class RhoSchedule(Family, ABC):
    """A rule applied after each update."""

    @abstractmethod
    def after(self, state: Pulling, w: Weights, constraint: Projector) -> Pulling:
        """The state with the ρ of the next interval."""


@dataclass(frozen=True)
class ConstantRho(RhoSchedule):
    """One ρ for the whole run."""

    name = "constant"

    def after(self, state: Pulling, w: Weights, constraint: Projector) -> Pulling:
        return state


@dataclass(frozen=True)
class GeometricRho(RhoSchedule):
    r"""ρ ← factor · ρ at every update, up to ``maximum``.

    The unscaled multiplier Λ = ρU is what the Lagrangian knows, so a new ρ leaves Λ alone: U is rescaled by
    ρ_old/ρ_new. The authors' code keeps U instead, so that Λ grows with ρ: ``rescale_dual=False``.
    """

    name = "geometric"
    sentence = "ρ grows by the factor `factor` at every update, up to `maximum`"

    factor: Annotated[float, Gt(0)] = 1.3
    maximum: Annotated[float, Gt(0)] = 1.0
    rescale_dual: bool = True

    def after(self, state: Pulling, w: Weights, constraint: Projector) -> Pulling:
        rho = max(state.rho, min(self.maximum, self.factor * state.rho))
        grown = 1.0 if self.rescale_dual else rho / state.rho
        multiplier = {name: grown * value for name, value in state.multiplier.items()}
        return replace(state, rho=rho, multiplier=multiplier)


@dataclass(frozen=True)
class StagedRho(RhoSchedule):
    """ρ ← factor · ρ every ``updates`` updates, ``stages`` stages in all; each starts anew.

    A stage starts from the weights of the last with Z = Π_S(W), Λ = 0.
    """

    name = "staged"
    sentence = (
        "ρ grows by `factor` every `updates` updates, `stages` stages in all; each starts anew"
    )

    factor: Annotated[float, Gt(0)] = 10.0
    updates: Annotated[int, Ge(1)] = 10
    stages: Annotated[int, Ge(1)] = 4

    def after(self, state: Pulling, w: Weights, constraint: Projector) -> Pulling:
        if state.k % self.updates or state.k >= self.updates * self.stages:
            return state
        z = constraint.project(w)
        multiplier = {name: 0.0 * value for name, value in state.multiplier.items()}
        return replace(state, rho=self.factor * state.rho, z=z, multiplier=multiplier)
