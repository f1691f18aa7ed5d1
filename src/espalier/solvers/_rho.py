"""How ρ moves from update to update, and what becomes of the multiplier when it does."""

import math
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
class CosineRho(RhoSchedule):
    r"""ρ rises from the solver's own to ``maximum`` by half a cosine over ``updates`` updates.

    .. math:: \rho_k = \rho_0 + (\rho_{max} - \rho_0) \, \tfrac12 \bigl(1 - \cos \tfrac{\pi k}{K}\bigr)

    SAFE's schedule, from nearly 0 to 1e-3, with U kept as ρ moves; ``rescale_dual=True`` keeps Λ instead.
    Source: Lee et al., "SAFE: Finding Sparse and Flat Minima to Improve Pruning", ICML 2025.
    """

    name = "cosine"
    sentence = "ρ rises by half a cosine over `updates` updates, to `maximum`; SAFE's"

    maximum: Annotated[float, Gt(0)] = 1e-3
    updates: Annotated[int, Ge(1)] = 100
    rescale_dual: bool = False

    def after(self, state: Pulling, w: Weights, constraint: Projector) -> Pulling:
        if state.k > self.updates:
            return state
        before, now = (
            0.5 + 0.5 * math.cos(math.pi * k / self.updates) for k in (state.k - 1, state.k)
        )
        # What is left to rise shrinks as the cosine does, so that ρ₀ need not be remembered.
        rho = self.maximum - (self.maximum - state.rho) * now / before
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
