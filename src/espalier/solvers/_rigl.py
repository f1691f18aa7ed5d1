r"""RigL: sparse training whose zeros move.

Evci, Gale, Menick, Castro & Elsen, "Rigging the Lottery: Making All Tickets Winners", ICML 2020
(arXiv:1911.11134), Algorithm 1.

Legend (paper → here): θ ``w``, I_active ``active``, ∇L ``gradient``, f_decay(t) ``fraction``,
α ``alpha``, T_end ``until``, ΔT the cadence, t/T ``progress``. Where we differ from the print:
``docs/method/rigl.md``.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from espalier._ground.selection import largest_of
from espalier._ground.sharding import count, distributed, placed
from espalier._ground.types import Weights
from espalier.errors import NonFiniteError, RequestError
from espalier.solvers._schedules import Constant
from espalier.solvers._solver import Approach, Conditions, Observed, Projector, Solver, State


@dataclass(frozen=True, kw_only=True)
class RigLState(State):
    """Masks, and how many weights each tensor has active throughout, by parameter name."""

    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RigL(Solver):
    r"""Drop the smallest active weights, grow as many where the gradient is largest.

    .. math:: f(t) = \tfrac{\alpha}{2} \left(1 + \cos \tfrac{\pi t}{T_{end}}\right)

    All else is held at zero. The plan says how many weights each tensor has; that never changes. It
    must be of single weights, ``sets.Unstructured``; under a shared budget the counts of the first
    selection stay.

    Args:
        alpha: α, the fraction of the active weights that the first updates drop and regrow.
        until: T_end as a fraction of the run; after it the masks stay.
        random_start: Seed of a random first mask, as the paper has it when it trains from scratch;
            ``None``: the largest weights.

    Raises:
        RequestError: A number outside its range.
    """

    name = "rigl"
    title = "RigL"
    sentence = (
        "Rigging the Lottery: a fixed count of weights, moved to the largest gradients (ICML 2020)"
    )
    defaults: ClassVar[dict[str, Any]] = {"opening": Constant(), "settle": None}
    takes = frozenset({"cadence"})  # the budget is the plan's own from the first update on
    state: ClassVar[type[RigLState]] = RigLState
    sees_gradients = True
    approach = Approach(
        sentence="RigL holds its zeros from the first step on and moves them at its updates.",
        goes_along=True,
    )

    alpha: Annotated[float, Ge(0), Le(1)] = 0.3
    until: Annotated[float, Gt(0), Le(1)] = 0.75
    random_start: Annotated[int, Ge(0)] | None = None

    def fraction(self, progress: float) -> float:
        """f(t): the fraction of active weights that an update moves.

        Example:
            >>> [RigL(alpha=0.5, until=0.5).fraction(t) for t in (0.0, 0.25, 0.5)]
            [0.5, 0.25, 0.0]
        """
        if progress >= self.until:
            return 0.0
        return self.alpha / 2 * (1 + math.cos(math.pi * progress / self.until))

    def init(self, w: Weights, constraint: Projector) -> RigLState:
        """The support of Π_S(W), or as many weights of each tensor anywhere."""
        held = constraint.support(w)
        counts = {name: count(mask) for name, mask in held.items()}
        anywhere = _anywhere(w, counts, self.random_start or 0)
        # A solver knows no sets, so it asks: do the largest weights stay, wherever they are?
        asked = constraint.support(
            {name: mask.to(w[name].dtype) for name, mask in anywhere.items()}
        )
        for name, mask in anywhere.items():
            if count(mask ^ asked[name]):
                raise RequestError(
                    f"{name}: RigL moves single weights, but the plan's set ties some together; "
                    "plan with set: unstructured, or choose a method that projects"
                )
        return RigLState(held=held if self.random_start is None else anywhere, counts=counts)

    def update(
        self, w: Weights, state: RigLState, constraint: Projector, seen: Observed
    ) -> tuple[RigLState, Conditions]:
        """I ← I less its f(t)|I| smallest |w|, then plus the f(t)|I| largest |∇L| outside of it."""
        if constraint.moved:
            raise RequestError("RigL keeps the plan's counts all along; leave opening out")
        if seen.progress == 0.0:  # steps have been made, so it is their total that is missing
            raise RequestError(
                "RigL moves ever fewer weights over its run; give Pruning(…, steps=…)"
            )
        fraction, held = self.fraction(seen.progress), dict(state.held)
        for name in w if fraction > 0 else ():
            if (active := count(held[name])) != state.counts[name]:
                raise RequestError(
                    f"{name}: {active} active weights, not {state.counts[name]}: "
                    "some that RigL grew are held at zero by an earlier stage; let RigL be the "
                    "first to hold"
                )
            held[name] = moved(w[name], held[name], seen.gradients[name], fraction)
        return replace(state, held=held, k=state.k + 1), Conditions()


def moved(w: Tensor, active: Tensor, gradient: Tensor, fraction: float) -> Tensor:
    """The mask after one drop and one grow, with as many True as before.

    Ties stay with the lower index. What was dropped is inactive, so it may grow back at once, and
    then it keeps its value.

    Raises:
        NonFiniteError: NaN or infinity in the gradient.

    >>> w, active = torch.tensor([3.0, 1.0, 0.0, 0.0]), torch.tensor([True, True, False, False])
    >>> moved(w, active, torch.tensor([9.0, 1.0, 2.0, -4.0]), fraction=0.5)
    tensor([ True, False, False,  True])
    """
    if count(~torch.isfinite(gradient)):  # NaN would sort as the largest of all
        raise NonFiniteError("a gradient is not finite where RigL looks; lower the learning rate")
    on = count(active)
    drop = int(fraction * on)
    # −1 is below every magnitude: no inactive zero passes for an active one, nothing kept for new.
    kept = _largest(w.abs().masked_fill(~active, -1.0), on - drop)
    return kept | _largest(gradient.abs().masked_fill(kept, -1.0), drop)


def _largest(scores: Tensor, count: int) -> Tensor:
    """Boolean mask of the ``count`` largest; the sort is stable, so ties go to the lower index."""
    if distributed(scores):
        return largest_of(scores, count)
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[scores.flatten().argsort(descending=True, stable=True)[:count]] = True
    return mask.reshape(scores.shape)


def _anywhere(like: Weights, counts: dict[str, int], seed: int) -> dict[str, Tensor]:
    """Random masks of these counts, drawn on the CPU so that every device has the same."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.rand(w.shape, generator=generator) for name, w in like.items()}
    masks = {name: _largest(x, counts[name]).to(like[name].device) for name, x in drawn.items()}
    return placed(masks, like)
