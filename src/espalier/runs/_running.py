"""A run: its stages one after the other, into a folder, and the evidence.

Killed at any moment and begun again with ``resume``, it ends with the same weights: training goes on from
its last checkpoint, and what stands between two stages is done again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from espalier._ground.world import ALONE, World
from espalier.errors import NonFiniteError
from espalier.models import load_weights
from espalier.planning import Plan
from espalier.runs._folder import RunFolder
from espalier.runs._identity import identity_of
from espalier.runs._options import RunOptions
from espalier.runs._record import read_run
from espalier.runs._rehearsal import rehearse
from espalier.runs._result import Result, read_result, write_result
from espalier.runs._run import Run, plan_of
from espalier.runs._stage import Stage, check_stages
from espalier.runs._taking import begin_, check_folder, take_up_
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
    world: World = ALONE,
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
        world: The ranks that run it together, each with a folder of its own and a model of the same weights.

    Raises:
        RequestError: A list of stages that cannot be run.
        NonFiniteError: The loss became NaN or infinite; ``result.json`` says so too.
        WrongFolderError: The folder holds something else.
        RunFolderError: The folder is in use, or the disk is full.
        CheckpointError: The run cannot be resumed from its checkpoints.
    """
    check_stages(stages, task.steps_per_epoch)
    options = options or RunOptions()
    new = not (Path(folder) / "config.json").exists()
    if new:  # before anything is written
        rehearse(model, task, stages, seed)
    with RunFolder(folder, resume=resume) as run:
        identity = identity_of(
            model, task, stages, seed=seed, probe=probe, settings=options.settings, run=run
        )
        config = {} if new else read_run(run.path).config
        if not new and (done := _finished(run)) is not None:
            if "identity" in config:  # older versions noted none
                check_folder(run, config, identity, begun=len(stages))
            load_weights(model, run / "weights.safetensors")
            return RunResult(path=run.path, model=model, plan=plan_of(run), result=done)
        if new:
            begin_(run, identity, options)
        else:
            take_up_(run, identity, stages, options)
            rehearse(model, task, stages, seed)
        going = Run(run, model, task, stages, seed, probe, options, world)
        try:
            going.all_stages()
        except NonFiniteError as error:
            write_result(run.to_write("result.json"), going.result(failure=str(error)))
            raise
        going.check_weights()
        run.write_weights("weights.safetensors", model.state_dict())
        going.draw("pruned")
        result = going.result()
        write_result(run.to_write("result.json"), result)
        return RunResult(path=run.path, model=model, plan=plan_of(run), result=result)


def _finished(run: RunFolder) -> Result | None:
    """The result of a run that needs no more; one stopped by NaN does."""
    if not (run / "result.json").exists():
        return None
    result = read_result(run / "result.json")
    return None if result.outcome == "non_finite" else result
