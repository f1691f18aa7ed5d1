"""What is known of a run while it goes, and the result that it becomes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from espalier._ground.types import Masks
from espalier.errors import CheckpointError, RunError, shown
from espalier.measure import counts
from espalier.methods import Certificate
from espalier.runs._aims import read_bits
from espalier.runs._folder import RunFolder
from espalier.runs._result import Result, validated
from espalier.runs._stage import Stage
from espalier.sets import Constraint
from espalier.tasks import Task, judged_on
from espalier.training import FitResult

Metrics = Mapping[str, float]

_STEP_KIND = {"hard_pruned": "solver", "retrained": "held"}
_NO_CERTIFICATE = "It stopped before pruning had ended."


@dataclass(kw_only=True)
class RunState:
    """What the stages so far came to; every checkpoint carries it.

    Attributes:
        dense: Metrics at the start of pruning.
        delivered: Metrics of the model as it was cut last.
        held: Masks that the last cut left: False stays zero.
        on_plan: Whether every cut left its stage's constraint; None before the first.
        figures: Metrics by the names of the result: ``hard_pruned``, ``hard_pruned_bn``, ``retrained`` …
        certificate: Of the stage that pruned.
        method: The title of its method.
        quantisation: What ``result.json`` says of bits.
        stages: The stages' records, in order.
        step_seconds: By kind of step.
    """

    dense: Metrics | None = None
    delivered: Metrics | None = None
    held: dict[str, Tensor] = field(default_factory=dict)
    on_plan: bool | None = None
    figures: dict[str, Metrics | None] = field(default_factory=dict)
    certificate: dict[str, Any] | None = None
    method: str | None = None
    quantisation: dict[str, Any] | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    step_seconds: dict[str, float] = field(default_factory=dict)

    def note(self, notes: dict[str, Any]) -> None:
        """Put it where checkpoints find it."""
        notes["state"] = {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> "RunState":
        """As it was when a checkpoint was written.

        Raises:
            CheckpointError: The notes are of something else.
        """
        said = notes.get("state", {})
        try:
            state = cls(**said)
        except TypeError as error:
            raise CheckpointError(f"the checkpoint's notes do not fit: {error!s:.200}") from error
        fresh = vars(cls())
        for name, value in vars(state).items():
            # What is empty at first says what it is; the others are null, a truth, a word or a mapping.
            wanted = dict | str | bool | None if fresh[name] is None else type(fresh[name])
            if not isinstance(value, wanted):
                raise CheckpointError(
                    f"the checkpoint's notes do not fit: {name} is {shown(value)}"
                )
        return state

    def add(
        self,
        stage: Stage,
        fitted: FitResult,
        certificate: Certificate | None,
        cut: tuple[Metrics, Metrics | None] | None,
        last: Metrics | None,
        nonzero: int | None,
    ) -> None:
        """A stage that is over.

        Args:
            stage: Which.
            fitted: How its training went.
            certificate: Of its handle.
            cut: Both figures of the cut model.
            last: The model's figures at the end, where the result has a name for them.
            nonzero: Nonzero weights of the constrained parameters.
        """
        self.stages.append(
            {
                "name": stage.name, "method": stage.label,
                "figure": stage.figure, "epochs": fitted.epochs, "steps": fitted.steps,
                "gradients": fitted.gradients, "seconds": fitted.seconds, "step_seconds": fitted.step_seconds,
                "stopped": fitted.stopped, "metrics": fitted.metrics,
                "cut": cut and cut[0], "cut_bn": cut and cut[1], "nonzero": nonzero,
            }
        )  # fmt: skip
        plain = stage.method is None and not stage.cut and stage.figure is None
        kind = "dense" if plain else _STEP_KIND.get(stage.figure or "", stage.name)
        self.step_seconds[kind] = fitted.step_seconds
        if stage.figure is None:
            return
        if stage.figure == "retrained":  # one figure: that of the weights as they are delivered
            self.figures["retrained"] = last
            self._ended(last)
        elif cut is not None:
            self.figures[stage.figure], self.figures[f"{stage.figure}_bn"] = cut
        if stage.figure == "hard_pruned":
            self.certificate = None if certificate is None else certificate.to_dict()
            self.method = stage.label

    def _ended(self, last: Metrics | None) -> None:
        """What came back of what the cut cost, now that the survivors were trained on."""
        if self.certificate is None or last is None or not self.certificate.get("figures"):
            return
        name = self.certificate["figures"]["goal"]["name"]
        if last.get(name) is not None:
            self.certificate = Certificate.from_dict(self.certificate).ended(last[name]).to_dict()

    def note_levels(self, run: RunFolder, model: nn.Module, constraint: Any) -> None:
        """What the values of a quantised model take."""
        self.quantisation = {
            **read_bits(run),
            "bits": constraint.bits,
            "steps": constraint.steps(dict(model.named_parameters())),
            "data_bits": constraint.data_bits,
        }


@torch.no_grad()
def zeros_fit(constraint: Constraint, model: nn.Module) -> bool:
    """Whether the weights have their zeros where a constraint wants them, whatever the values of the others."""
    weights = {name: model.get_parameter(name) for name in constraint.names}
    return constraint.contains({name: (weight != 0).float() for name, weight in weights.items()})


@torch.no_grad()
def check_weights(model: nn.Module, held: Masks, plan: Constraint | None, where: str) -> None:
    """Refuse to end with weights that are not what the cuts left and the plan allows.

    Args:
        model: As it is to be delivered.
        held: False where a weight was cut.
        plan: What may be left; None where nothing was cut, or not to a plan.
        where: The run folder.

    Raises:
        RunError: A weight that was cut is not zero, or more is left than the plan allows.
    """
    wrong = [n for n, m in held.items() if bool(((model.get_parameter(n) != 0) & ~m).any())]
    if plan is not None and not zeros_fit(plan, model):
        wrong += [name for name in plan.names if name not in wrong]
    if wrong:
        left = {name: int(torch.count_nonzero(model.get_parameter(name))) for name in wrong}
        said = ", ".join(f"{count:,} nonzero in {name}" for name, count in list(left.items())[:3])
        raise RunError(
            f"{where}: the weights at the end are not on the plan ({said}), so no result is written; the run has "
            "gone on from something that it did not write itself: begin anew in another folder"
        )


def result_of(
    state: RunState,
    model: nn.Module,
    task: Task,
    constraint: Constraint | None,
    failure: str | None = None,
) -> Result:
    """The result; with ``failure``, what there is of it."""
    pruned: Sequence[str] = constraint.names if constraint is not None else ()
    report = counts(model, pruned=pruned)
    certificate = state.certificate or {}
    sentence, verdict = _NO_CERTIFICATE, "budget_spent"
    if constraint is None:
        sentence, verdict = "Nothing was to be pruned: it was trained.", "converged"
    figures = {
        "dense": state.dense,
        "hard_pruned": None,
        "hard_pruned_bn": None,
        "retrained": None,
    }
    content = {
        "version": 2,
        "outcome": "non_finite" if failure else certificate.get("outcome", verdict),
        "sentence": failure or certificate.get("sentence", sentence),
        "method": state.method,
        "goal": asdict(task.goal),
        "split": judged_on(task),
        **figures,
        **state.figures,
        "quantisation": state.quantisation,
        "counts": report.to_dict(),
        "layers": {
            name: {"total": count.total, "nonzero": count.nonzero, "density": count.density}
            for name, count in report.layers.items()
            if name in pruned
        },
        "certificate": state.certificate,
        "epochs": {stage["name"]: stage["epochs"] for stage in state.stages},
        "seconds": {stage["name"]: stage["seconds"] for stage in state.stages},
        "step_seconds": {"dense": None, "solver": None, **state.step_seconds},
        "stages": state.stages,
    }
    return validated(content, "result.json")
