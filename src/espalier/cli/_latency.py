"""The latency of a run: dense, masked and compact, side by side in every runtime there is."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor, nn

    from espalier.measure._latency import LatencyTable
    from espalier.measure._runtimes import Prepare
    from espalier.recipe._running import Job

_TIMED = ("torch", "onnxruntime", "openvino")


@dataclass(frozen=True, kw_only=True)
class RunLatency:
    """What was measured, and what is to be said of it, one line for each.

    Attributes:
        table: Seconds a call and speed-ups.
        macs: Multiply-accumulates that each model executes for one sample.
        remarks: What could not be measured, and why.
    """

    table: "LatencyTable"
    macs: dict[str, int]
    remarks: tuple[str, ...]

    @property
    def roofline(self) -> tuple[str, ...]:
        """The ratio of arithmetic against what was measured, a sentence a model."""
        return self.table.roofline(self.macs)

    def to_dict(self) -> dict[str, Any]:
        """As ``latency.json`` has it; seconds per call."""
        from espalier._ground.environment import hardware, versions

        return {
            **asdict(self.table),
            "macs": self.macs,
            "roofline": self.roofline,
            "remarks": self.remarks,
            "versions": versions(*_TIMED),
            "hardware": hardware(),
        }


def run_latency(run: Path, job: "Job", masked: "nn.Module", *, with_compile: bool) -> RunLatency:
    """Measure a run's model as it was, as it is, and without what zeros made removable.

    Args:
        run: The folder, for the dense weights.
        job: Of that run.
        masked: Its model.
        with_compile: Under ``torch.compile`` too.
    """
    from espalier._ground.example import one_tensor
    from espalier.errors import EspalierError
    from espalier.export import in_onnx_runtime, in_openvino
    from espalier.measure import layer_costs
    from espalier.measure._latency import latency
    from espalier.measure._runtimes import compiled
    from espalier.models import load_weights

    example = one_tensor(job.task.example_input, "latency")
    remarks: list[str] = []
    dense = deepcopy(masked)
    load_weights(dense, run / "before.safetensors")
    models = {"dense": dense, "masked": masked}
    try:
        models["compact"] = _compact(run, job, masked)
        if _parameters(models["compact"]) == _parameters(masked):
            remarks.append("nothing could be removed: compact is masked; see espalier compact")
    except EspalierError as error:
        remarks.append(f"no compact model: {error}")
    runtimes: dict[str, dict[str, Any]] = {"eager": dict(models)}
    if with_compile:
        runtimes["torch.compile"] = {name: compiled(model) for name, model in models.items()}

    def exported(
        runtime: str, package: str, extra: str, enter: "Callable[[nn.Module, Tensor], Prepare]"
    ) -> None:
        if not (find_spec(package) and find_spec("onnxscript")):
            remarks.append(f"{runtime}: not installed; pip install 'espalier[{extra}]'")
            return
        try:
            ready = {name: enter(model, example) for name, model in models.items()}
            for prepare in ready.values():
                prepare(example, 1)  # what it refuses, it refuses before anything is timed
            runtimes[runtime] = ready
        except EspalierError as error:
            remarks.append(f"{runtime}: {error}")

    exported("ONNX Runtime", "onnxruntime", "onnx", in_onnx_runtime)
    exported("OpenVINO", "openvino", "openvino", in_openvino)
    table = latency(runtimes, example)
    if table.unsteady:
        remarks.append(
            f"{table.unsteady} of {len(table.rows)} times have quartiles further apart than half their "
            "median: something else was running; measure again on a quiet machine before you quote them"
        )
    macs = {name: layer_costs(model, example).total for name, model in models.items()}
    return RunLatency(table=table, macs=macs, remarks=tuple(remarks))


def _compact(run: Path, job: "Job", masked: "nn.Module") -> "nn.Module":
    """The model that ``espalier compact`` left in the run, purified if it was; else made now."""
    from espalier.cli._export import stored_model
    from espalier.compaction import compact

    artefact = run / "compact.espalier"
    if artefact.is_file():
        return stored_model(artefact, job)
    return compact(masked, job.task.example_input).model


def _parameters(model: "nn.Module") -> int:
    return sum(p.numel() for p in model.parameters())


def latency_table(found: RunLatency, title: str) -> "Table":
    """Milliseconds per call and speed-up over dense, with quartiles."""
    from rich.table import Table

    table = Table(title=title, caption="median (quartiles); × dense: in the same round")
    for header in ("batch", "threads", "runtime", "model", "ms a call", "× dense"):
        table.add_column(header, justify="left" if header in ("runtime", "model") else "right")
    setting = None
    for row in found.table.rows:
        if setting not in (None, (row.batch, row.threads)):
            table.add_section()
        setting = (row.batch, row.threads)
        ms = [1000 * value for value in (row.seconds.median, row.seconds.low, row.seconds.high)]
        up = row.speedup
        table.add_row(
            str(row.batch), str(row.threads), row.runtime, row.model,
            f"{ms[0]:.3f} ({ms[1]:.3f}–{ms[2]:.3f})", f"{up.median:.2f} ({up.low:.2f}–{up.high:.2f})",
        )  # fmt: skip
    return table
