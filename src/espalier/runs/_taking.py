"""A folder taken for a run: said whose it is, or checked that it is this run's."""

from collections.abc import Mapping, Sequence
from typing import Any

from espalier._ground.files import read_mapping
from espalier._ground.tree import Tree
from espalier.errors import CheckpointError, RequestError
from espalier.runs._folder import RunFolder
from espalier.runs._identity import PLAN, differing
from espalier.runs._options import RunOptions
from espalier.runs._record import VERSION
from espalier.runs._stage import Stage
from espalier.training import read_checkpoint

Identity = dict[str, Any]


def begin_(run: RunFolder, identity: Identity, options: RunOptions) -> None:
    """Say what was asked in a new folder; ``config.json`` last, for it makes the folder a run."""
    for name, text in options.texts.items():
        run.write_text(name, text)
    run.write_config({**options.config, "identity": identity})
    run.identity = identity


def take_up_(
    run: RunFolder, identity: Identity, stages: Sequence[Stage], options: RunOptions
) -> None:
    """Check that the folder holds this run, which has not ended; what a stage to come is to do may be corrected.

    Raises:
        RequestError: The folder began with something else.
        CheckpointError: Its checkpoint is another run's, or is of another version.
    """
    config = read_mapping(run / "config.json")
    if config["version"] != VERSION:
        raise CheckpointError(
            f"{run.path}: a run of format version {config['version']} that has not ended, and its checkpoints "
            f"are of other parts than this version's; finish it with the Espalier that began it, or begin anew "
            "in another folder"
        )
    found = read_checkpoint(run)
    begun = 0 if found is None else stage_of(found[0], stages, run) + 1
    check_folder(run, config, identity, begun)
    if found is not None:
        was = found[0].get("identity", {})
        if differs := differing(was, identity, begun, planned=PLAN in was):
            raise CheckpointError(
                f"{run.path}: its checkpoint is of another run: {differs}. Put its own checkpoint.safetensors "
                "back, or begin anew in another folder"
            )
    changed = {}
    if config["identity"] != identity and "recipe" in options.config:
        changed = {"recipe": options.config["recipe"]}
        for name, text in options.texts.items():
            run.write_text(name, text)
    run.identify(identity, **changed)


def check_folder(run: RunFolder, config: Mapping[str, Any], identity: Identity, begun: int) -> None:
    """Refuse a folder that began with something else, as far as its stages have begun.

    Raises:
        RequestError: What differs.
    """
    differs = differing(config.get("identity", {}), identity, begun, planned=PLAN in identity)
    if differs:
        raise RequestError(
            f"{run.path}: holds another run: {differs}. Resume it with the recipe, the plan.yaml and the data "
            "that it began with, or give another folder"
        )


def stage_of(checkpoint: Tree, stages: Sequence[Stage], run: RunFolder) -> int:
    """The number of the stage that a checkpoint is of.

    Raises:
        CheckpointError: It is none of these.
    """
    names = [stage.name for stage in stages]
    name = checkpoint["progress"]["phase"]
    if name not in names:
        raise CheckpointError(
            f"{run.path}: its last checkpoint is of the stage {name!r}, and this run has "
            f"{', '.join(names)}; resume it with the stages it began with"
        )
    return names.index(name)
