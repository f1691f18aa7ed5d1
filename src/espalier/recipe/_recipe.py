"""The recipe: one validated YAML file that says all of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge
from pydantic import AliasChoices, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from espalier.errors import RecipeError
from espalier.recipe import _yaml
from espalier.recipe._messages import messages
from espalier.recipe._methods import SOLVERS, SolverChoice
from espalier.recipe._overriding import override
from espalier.recipe._own_task import TaskSection
from espalier.recipe._part import Section
from espalier.recipe._sections import (
    ByName,
    CheckpointSection,
    CompareSection,
    DataSection,
    ModelSection,
    Phase,
    PlanSection,
    PublishedSection,
    QuantiseSection,
    StageSection,
    TrainingSection,
)


class Recipe(Section):
    """A recipe: model, data or task, what may stay, by which solver, and how it is trained.

    Paths in it are relative to the current directory; ``~`` and ``${VAR}`` are expanded when they are used.
    """

    title: str = ""
    """What this is, for people."""
    published: PublishedSection | None = None
    """The row of a paper that it is for; `espalier recipes` lists it."""
    model: Annotated[ModelSection, ByName]
    """The network."""
    data: Annotated[DataSection | None, ByName] = None
    """Labelled images that it learns from; or give `task`."""
    task: Annotated[TaskSection | None, ByName] = None
    """A task of your own, loaders and loss and metrics: in place of `data`."""
    plan: PlanSection
    """What may stay."""
    solver: SolverChoice = Field(
        default_factory=lambda: SOLVERS["slr"].model_validate({}),
        validation_alias=AliasChoices("solver", "method"),
    )
    """By what dynamics the weights reach the plan."""
    pretrain: Phase | None = None
    """Dense training before, unless there are weights already."""
    training: TrainingSection
    """The training during which it is pruned."""
    retrain: Phase | None = None
    """Training after the cut with the zeros held."""
    quantise: QuantiseSection | None = None
    """At the end, the weights that are left on few levels."""
    stages: list[StageSection] | None = None
    """The run as a list of stages, in place of pretrain, solver, retrain and quantise."""
    goal: float | None = None
    """End pruning, and then retraining, at the first evaluation whose cut metric reaches this, a fraction."""
    probe: bool = False
    """SLR's condition (3): the loss of one fixed batch (as in the paper) instead of the interval's mean (free)."""
    evaluate_every: Annotated[int, Ge(1)] = 1
    """Epochs between two evaluations."""
    checkpoint: CheckpointSection = Field(default_factory=CheckpointSection)
    """How often what a resume needs is written."""
    compare: CompareSection = Field(default_factory=CompareSection)
    """What `espalier compare` runs."""

    @model_validator(mode="after")
    def _data_or_task(self) -> "Recipe":
        if (self.data is None) == (self.task is None):
            got = "neither" if self.data is None else "both"
            raise PydanticCustomError(
                "figures", "give exactly one of data, task; got {got}", {"got": got}
            )
        return self

    @model_validator(mode="after")
    def _one_figure(self) -> "Recipe":
        given = sorted(self.plan.figures)
        # Budgets of coupled channels go together; whether they are coupled, the plan says.
        others = set(given) - {"macs", "bytes"}
        together = len(others) <= 1 and others <= {"density", "sparsity", "compression"}
        if len(given) != 1 and not (given and together):
            got = " and ".join(given) if given else "none"
            raise PydanticCustomError(
                "figures",
                "plan: give exactly one of density, sparsity, compression, macs, bytes, latency, keep (or "
                "macs and bytes beside one of the first three); got {got}",
                {"got": got},
            )
        if self.plan.ranking is not None and self.plan.allocation != "global":
            raise PydanticCustomError(
                "figures", "plan: ranking says how allocation: global ranks; give that too", {}
            )
        return self

    @model_validator(mode="after")
    def _set_or_sets(self) -> "Recipe":
        plan = self.plan
        if plan.sets is not None and plan.set != _default(plan, "set"):
            raise PydanticCustomError(
                "figures", "plan: give set, or sets by name or glob, not both", {}
            )
        if plan.latency is not None and (plan.sets is not None or plan.bits is not None):
            raise PydanticCustomError(
                "figures", "plan: latency finds widths of one set; leave sets and bits out", {}
            )
        return self

    @model_validator(mode="after")
    def _bits_or_search(self) -> "Recipe":
        section = self.quantise
        if section is not None and (section.bits is None) == (section.search is None):
            got = "both" if section.bits is not None else "neither"
            raise PydanticCustomError(
                "figures", "quantise: give exactly one of bits, search; got {got}", {"got": got}
            )
        return self

    @model_validator(mode="after")
    def _stages_or_phases(self) -> "Recipe":
        if self.stages is None:
            if self.training.epochs is None:
                raise PydanticCustomError("figures", "training.epochs: required, but not there", {})
            return self
        # By value: a run's config.json says every field, those at their defaults too.
        names = ("pretrain", "solver", "retrain", "quantise", "goal")
        given = [n for n in names if getattr(self, n) != _default(self, n)]
        if given:
            raise PydanticCustomError(
                "figures", "{names}: stages say it all; give either stages or {names}",
                {"names": ", ".join(given)},
            )  # fmt: skip
        if not any(stage.cut for stage in self.stages):
            raise PydanticCustomError(
                "figures",
                "stages: none of them cuts; give the stage that ends on the plan cut: true",
                {},
            )
        for stage in self.stages:
            start = stage.start
            if start is not None and list(start.model_dump().values()).count(None) != 2:
                raise PydanticCustomError(
                    "figures", "stages: {name}: start: give exactly one of rewind, load, redraw",
                    {"name": stage.name},
                )  # fmt: skip
        return self

    def settings(self) -> dict[str, Any]:
        """Everything resolved, defaults included, as plain data."""
        return self.model_dump(mode="json")


def _default(section: Section, field: str) -> Any:
    return type(section).model_fields[field].get_default(call_default_factory=True)


def validate(content: Any, where: str = "recipe") -> Recipe:
    """The recipe that plain data say.

    Args:
        content: What YAML gave.
        where: The file, for messages.

    Raises:
        RecipeError: It does not say what to do; a line for every mistake, with its place in the recipe.

    Example:
        >>> recipe = validate({"model": "lenet5", "data": "digits", "plan": {"density": 0.1},
        ...                    "solver": "admm", "training": {"epochs": 2}})
        >>> recipe.solver.build().solver.rho
        0.1
    """
    if not isinstance(content, dict):
        got = "nothing" if content is None else f"a {type(content).__name__}"
        raise RecipeError(
            f"{where}: holds {got}; a recipe is a mapping with model, data (or task), plan, training"
        )
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lines = messages(error, content)
        raise RecipeError("\n".join(f"{where}: {line}" for line in lines)) from error


def load(path: str | Path, settings: Sequence[str] = ()) -> tuple[Recipe, dict[str, Any]]:
    """Read a recipe file and apply ``a.b=c`` settings to it.

    Args:
        path: The YAML file.
        settings: As ``--set`` takes them.

    Returns:
        The recipe, and the plain data it came from (what a run keeps as ``recipe.yaml``).

    Raises:
        RecipeError: No such file, not YAML, or not a recipe.
    """
    content = _yaml.read(path)
    for setting in settings:
        content = override(content, setting)
    return validate(content, str(path)), content
