"""Whose a run's checkpoints are: what it computes depends on this, and on nothing else that is known.

An identity is plain data. It stands in ``config.json`` and in every checkpoint, settings as they are, so that a refusal
can name what differs, and the plan, the data and the model's shape by their SHA-256. Stages are compared as far as they
have begun: what a later one is to do may be corrected.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from espalier._ground.described import described, differences, digest
from espalier.runs._aims import planned_of
from espalier.runs._folder import RunFolder
from espalier.runs._stage import Stage
from espalier.tasks import Task, fingerprint

Identity = Mapping[str, Any]

PLAN = "plan.yaml"


def identity_of(
    model: nn.Module,
    task: Task,
    stages: Sequence[Stage],
    *,
    seed: int,
    probe: bool,
    settings: Mapping[str, Any],
    run: RunFolder,
) -> dict[str, Any]:
    """What a run depends on.

    Args:
        model: Its tensors by name, type and shape; their values are in the checkpoints.
        task: Its data, by their fingerprint.
        stages: In order.
        seed: Of the run.
        probe: Whether there is one.
        settings: What else decides the result and only the caller knows, such as a recipe's model and data.
        run: Its plan, once it is written.
    """
    tensors = model.state_dict(keep_vars=True).items()
    planned = planned_of(stages)
    return {
        "seed": seed,
        "probe": probe,
        "settings": described(settings),
        "model": digest({name: [str(w.dtype), *w.shape] for name, w in tensors}),
        "data": fingerprint(task),
        "plan": None if planned is None else described(planned.source),
        "stages": {stage.name: described(stage) for stage in stages},
        **plan_written(run),
    }


def plan_written(run: RunFolder) -> dict[str, str]:
    """The SHA-256 of ``plan.yaml``, under its name; nothing while there is none."""
    if not (run / PLAN).is_file():
        return {}
    return {PLAN: f"sha256:{hashlib.sha256((run / PLAN).read_bytes()).hexdigest()}"}


def differing(was: Identity, now: Identity, begun: int, *, planned: bool) -> str:
    """In what two identities differ, as far as it has had an influence; empty where they are one.

    Args:
        was: Of the run so far.
        now: Of the run that is to go on.
        begun: How many of the stages have begun.
        planned: Whether the plan was made: until then, what it is made from may differ.
    """
    # A kill may fall between the writing of the plan and the noting of its hash: then any is its own.
    left_out = {"stages"} | (set() if planned else {"plan"}) | (set() if PLAN in was else {PLAN})

    def relevant(identity: Identity) -> dict[str, Any]:
        stages = list(identity.get("stages", {}).items())[:begun]
        rest = {name: part for name, part in identity.items() if name not in left_out}
        return {**rest, "stages begun": [name for name, _ in stages], "stages": dict(stages)}

    return differences(relevant(was), relevant(now))
