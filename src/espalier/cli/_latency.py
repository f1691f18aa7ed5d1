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

    from espalier.measure.contestants import Prepare
    from espalier.measure.latency import LatencyTable
    from espalier.recipe.running import Job


@dataclass(frozen=True, kw_only=True)
class RunLatency:
    """What was measured, and what is to be said of it, a line each."""

    table: "LatencyTable"
    remarks: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``; seconds a call."""
        return {**asdict(self.table), "remarks": list(self.remarks)}


def run_latency(run: Path, job: "Job", masked: "nn.Module", *, with_compile: bool) -> RunLatency:
    """Measure a run's model as it was, as it is, and without what zeros made removable.

    Args:
        run: The folder, for the dense weights.
        job: Of that run.
        masked: Its model.
        with_compile: Under ``torch.compile`` too.
    """
    from espalier.compaction import compact
    from espalier.errors import EspalierError
    from espalier.measure import layer_costs
    from espalier.measure.contestants import compiled
    from espalier.measure.latency import latency
    from espalier.models import load_weights

    example, remarks = job.task.example_input, []
    dense = deepcopy(masked)
    load_weights(dense, run / "before.safetensors")
    models = {"dense": dense, "masked": masked}
    try:
        found = compact(masked, example)
        models["compact"] = found.model
        if not found.removed:
            remarks.append("nothing could be removed: compact is masked; see espalier compact")
    except EspalierError as error:
        remarks.append(f"no compact model: {error}")
    runtimes: dict[str, dict[str, Any]] = {"eager": dict(models)}
    if with_compile:
        runtimes["torch.compile"] = {name: compiled(model) for name, model in models.items()}
    if find_spec("onnxruntime") and find_spec("onnxscript"):
        try:
            runtimes["ONNX Runtime"] = {n: _onnx(model, example) for n, model in models.items()}
        except EspalierError as error:
            remarks.append(f"ONNX Runtime: {error}")
    else:
        remarks.append("ONNX Runtime: not installed; pip install 'espalier[onnx]'")
    table = latency(runtimes, example)
    macs = {name: layer_costs(model, example).total for name, model in models.items()}
    return RunLatency(table=table, remarks=(*table.roofline(macs), *remarks))


def _onnx(model: "nn.Module", example: "Tensor") -> "Prepare":
    from espalier.export import session, to_onnx

    made: dict[int, bytes] = {}

    def prepare(inputs: "Tensor", threads: int) -> Callable[[], object]:
        data = free.data if free.batch is None else made.get(len(inputs))
        if data is None:
            data = made[len(inputs)] = to_onnx(model, example, batch=len(inputs)).data
        run, here = session(data, threads), inputs.cpu()
        return lambda: run(here)

    free = to_onnx(model, example)
    return prepare


def latency_table(found: RunLatency, title: str) -> "Table":
    """Milliseconds a call and speed-up over dense, with quartiles."""
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
