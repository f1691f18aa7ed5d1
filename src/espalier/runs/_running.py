"""A run: its stages one after the other, into a folder, and the evidence.

Killed at any moment and begun again with ``resume``, it ends with the same weights: training goes on from
its last checkpoint, and what stands between two stages is done again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from espalier.errors import CheckpointError, NonFiniteError
from espalier.models import load_weights
from espalier.planning import Plan
from espalier.runs._folder import RunFolder
from espalier.runs._record import VERSION, read_run
from espalier.runs._result import Result, read_result, write_result
from espalier.runs._run import Run, RunOptions, plan_of
from espalier.runs._stage import Stage, check_stages
from espalier.tasks import Task


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What came of a run.

    Attributes:
        path: Its folder.
        model: With the final weights, zeros in place.
        plan: What was to stay; None where nothing was to be pruned.
        result: ``result.json``.
    """

    path: Path
    model: nn.Module
    plan: Plan | None
    result: Result


def run_stages(
    model: nn.Module,
    task: Task,
    stages: Sequence[Stage],
    folder: Path | str,
    *,
    seed: int = 0,
    probe: bool = False,
    resume: bool = False,
    options: RunOptions | None = None,
) -> RunResult:
    """Run stages one after the other; the folder then holds the weights and the evidence.

    Args:
        model: Trained in place.
        task: What it learns, and how it is judged.
        stages: In order; :func:`standard_stages` and :class:`LotteryTicket` make lists of them.
        folder: The run folder.
        seed: Methods draw from it what they draw.
        probe: Ask SLR's condition (3) of one fixed batch instead of the interval's mean loss.
        resume: Go on with the run in ``folder``. One that has ended is read, not run.
        options: How it is kept, and who hears of it.

    Raises:
        RequestError: A list of stages that cannot be run.
        NonFiniteError: The loss became NaN or infinite; ``result.json`` says so too.
        WrongFolderError: The folder holds something else.
        RunFolderError: The folder is in use, or the disk is full.
        CheckpointError: The run cannot be resumed from its checkpoints.
    """
    check_stages(stages, task.steps_per_epoch)
    options = options or RunOptions()
    with RunFolder(folder, resume=resume) as run:
        if resume and (done := _finished(run)) is not None:
            load_weights(model, run / "weights.safetensors")
            return RunResult(path=run.path, model=model, plan=plan_of(run), result=done)
        if not (run / "config.json").exists():
            run.write_config(options.config)
        elif read_run(run.path).config["version"] != VERSION:
            raise CheckpointError(
                f"{run.path}: a run of version 0.1 that has not ended, and its checkpoints are of other "
                "parts than this version's; finish it with the Espalier that began it, or begin anew in "
                "another folder"
            )
        going = Run(run, model, task, stages, seed, probe, options)
        try:
            going.all_stages()
        except NonFiniteError as error:
            write_result(run / "result.json", going.result(failure=str(error)))
            raise
        run.write_weights("weights.safetensors", model.state_dict())
        result = going.result()
        write_result(run / "result.json", result)
        return RunResult(path=run.path, model=model, plan=plan_of(run), result=result)


def _finished(run: RunFolder) -> Result | None:
    """The result of a run that needs no more; one stopped by NaN does."""
    if not (run / "result.json").exists():
        return None
    result = read_result(run / "result.json")
    return None if result.outcome == "non_finite" else result
