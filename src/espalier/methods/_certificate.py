"""The evidence: what every update did to every layer, and the verdict on the run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Outcome(Enum):
    """How a run ended."""

    CONVERGED = "converged"
    BUDGET_SPENT = "budget_spent"
    STALLED = "stalled"
    NON_FINITE = "non_finite"


@dataclass(frozen=True, kw_only=True)
class LayerUpdate:
    """One layer at one update; all Frobenius norms."""

    weight: float
    """‖W‖"""
    violation: float
    """‖W − Z⁺‖"""
    z_change: float
    """‖Z⁺ − Z‖"""
    multiplier_change: float
    """‖Λ⁺ − Λ‖"""


@dataclass(frozen=True, kw_only=True)
class Update:
    """One update of the solver."""

    step: int
    k: int
    slack: float
    rho: float
    s: float
    loss: float
    condition_3: bool | None
    condition_8: bool | None
    layers: Mapping[str, LayerUpdate]

    @property
    def violation(self) -> float:
        """Σ‖W − Z‖ / Σ‖W‖ over the layers: the part of the weights a cut would take now."""
        weight = sum(layer.weight for layer in self.layers.values())
        return sum(layer.violation for layer in self.layers.values()) / weight if weight else 0.0

    def event(self) -> dict[str, Any]:
        """As one line of ``metrics.jsonl``."""
        return {"event": "update", **asdict(self)}

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> "Update":
        """The inverse of ``event``."""
        fields = {key: event[key] for key in cls.__dataclass_fields__ if key != "layers"}
        layers = {name: LayerUpdate(**values) for name, values in event["layers"].items()}
        return cls(layers=layers, **fields)


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What can be said of a run from its updates.

    Attributes:
        outcome: Converged when what a cut would take, Σ‖W−Z‖/Σ‖W‖, is at most ``tolerance``.
        sentence: The verdict for a reader.
        violation: Per layer ‖W−Z‖/‖W‖ at the last update.
        conditions: Fraction of updates at which conditions (3) and (8) held; ``None``: not asked.
    """

    outcome: Outcome
    sentence: str
    updates: int
    tolerance: float
    total_violation: float
    violation: Mapping[str, float]
    z_change: Mapping[str, float]
    multiplier_change: Mapping[str, float]
    s: float
    conditions: tuple[float | None, float | None]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "outcome": self.outcome.value, "conditions": list(self.conditions)}


def certify(updates: Sequence[Update], *, held: bool, tolerance: float = 1e-2) -> Certificate:
    """The verdict on a run.

    Args:
        updates: In order.
        held: Whether W is on its sets now, its zeros held: a cut then takes nothing.
        tolerance: The relative violation that counts as converged; a hundredth of the weights' norm.
    """
    last = updates[-1] if updates else None
    total = 0.0 if held or last is None else last.violation
    outcome, sentence = _verdict(updates, held, total, tolerance)
    layers: Mapping[str, LayerUpdate] = last.layers if last else {}
    return Certificate(
        outcome=outcome,
        sentence=sentence,
        updates=len(updates),
        tolerance=tolerance,
        total_violation=total,
        violation={
            n: 0.0 if held else layer.violation / (layer.weight or 1.0)
            for n, layer in layers.items()
        },
        z_change={n: layer.z_change for n, layer in layers.items()},
        multiplier_change={n: layer.multiplier_change for n, layer in layers.items()},
        s=last.s if last else 0.0,
        conditions=(
            _fraction([u.condition_3 for u in updates]),
            _fraction([u.condition_8 for u in updates]),
        ),
    )


def _verdict(
    updates: Sequence[Update], held: bool, total: float, tolerance: float
) -> tuple[Outcome, str]:
    if any(not math.isfinite(u.loss + u.violation) for u in updates):
        return (
            Outcome.NON_FINITE,
            "A loss or a weight became NaN or infinite; lower the learning rate.",
        )
    if held:
        return (
            Outcome.CONVERGED,
            "The weights are on their sets and the zeros are held: a cut takes nothing.",
        )
    if not updates:
        return (
            Outcome.BUDGET_SPENT,
            "No update was made: the run was too short for one, so nothing says how far it came.",
        )
    if total <= tolerance:
        return (
            Outcome.CONVERGED,
            f"A cut takes {total:.2%} of the weights' norm, within {tolerance:.2%}.",
        )
    earlier = updates[-max(1, len(updates) // 4) - 1].violation if len(updates) > 1 else math.inf
    if updates[-1].slack == 0 and total > 0.95 * earlier:
        return Outcome.STALLED, (
            f"A cut takes {total:.2%} of the weights' norm and the last quarter of the updates did not "
            "lower that; raise rho, update more often, or settle on held masks."
        )
    return Outcome.BUDGET_SPENT, (
        f"A cut takes {total:.2%} of the weights' norm and that was still falling; give it more epochs."
    )


def _fraction(flags: Sequence[bool | None]) -> float | None:
    asked = [flag for flag in flags if flag is not None]
    return sum(asked) / len(asked) if asked else None
