"""What a solver is: frozen hyper-parameters of its paper, a state, and one update every so many steps.

Legend: ``w`` W, ``z`` Z, ``multiplier`` Λ, ``rho`` ρ, ``step`` s, ``k`` the count of updates.

Between two updates the training loop does what the state says: it *pulls* W towards Z with the gradient
of ⟨Λ, W − Z⟩ + ρ/2 ‖W − Z‖², which is Λ + ρ(W − Z), and it *holds* the zeros of the held masks.

How often there is an update, how the budget opens and closes, when the weights settle and in which norm all
of it is meant are no part of a solver: :class:`espalier.methods.Constrained` carries them, for all alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor

from espalier._ground.registry import Family
from espalier._ground.types import Weights
from espalier.errors import RequestError

_MOVED = ("cadence", "continuation", "settle", "metric", "decoupled")


class Projector(Protocol):
    """The constraint as it stands at one update: in a metric, opened by the slack of the moment."""

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
class Observed:
    """What an update sees of the training since the last one.

    Attributes:
        loss: f: the mean training loss of the interval, or the probe batch's; ``None``: not known.
        gradients: ∇f of the last step by parameter name, before any pull; given to solvers with
            ``sees_gradients``, else empty.
        progress: Fraction of the planned steps that are done; 0 where the plan is not known.
    """

    loss: float | None
    gradients: Weights = field(default_factory=dict)
    progress: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Approach:
    """What is true of every run of a method, for the verdict on one.

    Attributes:
        sentence: How its weights come by their zeros.
        remedy: What brings the weights nearer to the constraint where they do not come by themselves; ``None``:
            its training does not lead them there at all, so that it can neither converge nor stall.
        goes_along: Whether its updates themselves set weights to zero, before any cut.
    """

    sentence: str
    remedy: str | None = None
    goes_along: bool = False


@dataclass(frozen=True, kw_only=True)
class State:
    """What a solver carries from one update to the next. Detached tensors by parameter name.

    Attributes:
        held: Masks whose zeros are held in the weights from now on.
        k: Updates so far.
    """

    approach: ClassVar[Approach] = Approach(
        sentence="Its updates set weights to zero; nothing leads the weights there before.",
        goes_along=True,
    )

    held: dict[str, Tensor] = field(default_factory=dict)
    k: int = 0


@dataclass(frozen=True, kw_only=True)
class Pulling(State):
    """The state of a solver that pulls the weights by pull_scale · (Λ + ρ(W − Z)).

    Attributes:
        z: Z.
        multiplier: Λ.
        rho: ρ.
        step: s, of the last multiplier step.
        pull_scale: 1, but for departures from the papers.
    """

    approach: ClassVar[Approach] = Approach(
        sentence="The weights are pulled towards their sets while they train.",
        remedy="raise rho, or update more often",
    )

    z: dict[str, Tensor] = field(default_factory=dict)
    multiplier: dict[str, Tensor] = field(default_factory=dict)
    rho: float = 0.0
    step: float = 0.0
    pull_scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Whether the surrogate optimality conditions held at one update; ``None``: not asked."""

    first: bool | None = None
    second: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Solver(Family, ABC):
    """The dynamics by which weights reach their sets."""

    name: ClassVar[str]
    """What recipes and ``espalier methods`` call it."""
    title: ClassVar[str]
    """Its name in prose, as tables and reports print it."""
    sentence: ClassVar[str]
    """What it does, in a line, without formulas."""
    published_cadence: ClassVar[str | None] = None
    """How often its paper updates; ``None`` where that has no meaning."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings of :class:`~espalier.methods.Constrained` that this solver wants otherwise than most."""
    takes: ClassVar[frozenset[str]] = frozenset(_MOVED) | {"opening"}
    """Those of the same settings that mean something to it."""
    state: ClassVar[type[State]] = State
    """The type of its state."""
    has_multipliers: ClassVar[bool] = False
    """Whether its state carries multipliers Λ that it moves."""
    sees_gradients: ClassVar[bool] = False
    """Whether :class:`Observed` is to bring the gradients of the last step."""
    updates_wanted: ClassVar[int] = 20
    """Fewer updates than about these, before the weights settle, do not do what its paper does."""

    @property
    def approach(self) -> Approach:
        """What is true of every run; by default, what its state says: it pulls, or it sets zeros."""
        return self.state.approach

    def __new__(cls, *_: Any, **given: Any) -> Self:
        """Say where the settings went that solvers had before version 0.2."""
        for name in _MOVED:
            if name in given and name not in cls.__dataclass_fields__:
                now = "opening" if name == "continuation" else name
                raise RequestError(
                    f"{cls.__name__}({name}=…): a solver has the parameters of its paper alone; write "
                    f"Pruning(model, plan, {cls.__name__}(…), {now}=…) or Constrained(solver="
                    f"{cls.__name__}(…), {now}=…)"
                )
        return super().__new__(cls)

    @abstractmethod
    def init(self, w: Weights, constraint: Projector) -> Any:
        """The state before the first step, of the type :attr:`state`."""

    @abstractmethod
    def update(
        self, w: Weights, state: Any, constraint: Projector, seen: Observed
    ) -> tuple[Any, Conditions]:
        """One update: the state of the next interval, and whether the conditions held."""
