"""What ``result.json`` says of the certificate, and of the figure that the run is judged by."""

from pydantic import BaseModel, ConfigDict, Field


class Closed(BaseModel):
    """A part of the document: nothing more than it says, and not to be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Judged(Closed):
    """The figure that the run is judged by: ``espalier.tasks.Goal``."""

    name: str = "accuracy"
    unit: str = "fraction"
    higher_is_better: bool = True


class ForcedResult(Closed):
    """Zeros were forced upon the weights."""

    step: int
    """Optimiser steps done by then."""
    total: float | None
    """Σ‖W − Z‖ / Σ‖W‖ that it took."""
    layers: dict[str, float | None]
    """‖W − Z‖ / ‖W‖ by layer."""


class CostResult(Closed):
    """The goal's figure on either side of the moment when zeros were first forced upon the weights."""

    goal: Judged
    before: float | None
    before_step: int | None
    """The optimiser step of the stage at which it was measured."""
    after: float | None
    after_step: int | None
    end: float | None
    """At the end, retraining included."""


class CertificateResult(Closed):
    """The certificate: what became of the weights."""

    outcome: str
    sentence: str
    what: str = ""
    """What happened: the first part of the sentence."""
    why: str = ""
    """What is true of the method, or what to do: the last part."""
    steps: int | None = None
    """Optimiser steps of the stage; null in older runs."""
    updates: int
    forced: list[ForcedResult] | None = None
    """When zeros were forced upon the weights, in order; null in older runs."""
    figures: CostResult | None = None
    """Null where no evaluation was made."""
    advice: list[str] = Field(default_factory=list)
    """What was said before the run began."""
    tolerance: float
    total_violation: float | None
    violation: dict[str, float | None]
    z_change: dict[str, float | None]
    multiplier_change: dict[str, float | None]
    s: float | None
    conditions: list[float | None]
