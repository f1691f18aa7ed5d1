"""What is recorded of one update of a method."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


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
    loss: float | None
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
