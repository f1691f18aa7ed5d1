"""The sections of a recipe, apart from those derived from dataclasses."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from espalier.errors import shown
from espalier.recipe._methods import (
    OPTIMISERS,
    SCHEDULES,
    SETS,
    SOLVERS,
    AllocationChoice,
    MetricChoice,
    OptimiserChoice,
    ScheduleChoice,
    SetChoice,
    SolverChoice,
)
from espalier.recipe._part import Named, Section
from espalier.search import Searching

Epochs = Annotated[int, Ge(0)]
Fraction = Annotated[float, Gt(0), Le(1)]
Count = Annotated[int, Ge(1)]
Bits = Annotated[int, Ge(1), Le(16)]


def _by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


ByName = BeforeValidator(_by_name)
"""Marks a section that may be given by its name alone."""


def _keep(value: Any) -> Any:
    """A count of units, a pair of counts, or a density."""
    if isinstance(value, bool):
        pass
    elif isinstance(value, int) and value >= 0:
        return value
    elif isinstance(value, float) and 0 < value <= 1:
        return value
    elif (
        isinstance(value, list)
        and len(value) == 2
        and all(type(v) is int and v >= 0 for v in value)
    ):
        return value
    raise PydanticCustomError(
        "keep",
        "{value}: give a count of units (an integer), a density in (0, 1] (with a decimal point), or "
        "[filters, columns]",
        {"value": shown(value)},
    )


KeepValue = Annotated[
    Any,
    BeforeValidator(_keep),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            ]
        }
    ),
]


def _part(value: Any) -> Any:
    if (type(value) is int and value >= 1) or (isinstance(value, float) and 0 < value < 1):
        return value
    raise PydanticCustomError(
        "part", "{value}: give a count of samples (an integer), or a fraction in (0, 1)", {"value": shown(value)}
    )  # fmt: skip


Part = Annotated[
    Any,
    BeforeValidator(_part),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            ]
        }
    ),
]
"""Of the training samples: a count, or a fraction."""


class ModelSection(Section):
    """The network: one of `espalier models`, or your own function that returns a torch module."""

    name: str
    """A name listed by `espalier models`, or `package.module:function`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Handed to the function, such as `classes: 10`."""
    weights: str | None = None
    """A safetensors file of pretrained weights; `~` and `${VAR}` are expanded."""


class DataSection(Section):
    """What it learns from: one of `espalier data`, or your own function that returns a Split."""

    name: str
    """A name listed by `espalier data`, or `package.module:function`."""
    path: str | None = None
    """Where its files are, from the current directory; `~` and `${VAR}` are expanded."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Handed to the reader, such as `size: 96` for `folder`."""
    augment: str | None = None
    """Random changes to the training images: crop, flip, crop_flip, or `package.module:function`."""
    normalise: str | None = None
    """Mean and standard deviation by name, in place of the data set's own: mnist, cifar10, imagenet."""
    loss: str | None = None
    """`package.module:function` of (logits, labels), in place of the cross-entropy."""
    label_smoothing: Annotated[float, Ge(0)] = 0.0
    """Fraction in [0, 1) of the training target spread over all classes."""
    limit_train: Count | None = None
    """Learn from this many images only, the same of each class."""
    limit_test: Count | None = None
    """Evaluate on this many images only, the same of each class."""
    validation: Part | None = None
    """Judge the run on so many training images, held out, in place of the test images: a fraction or a count. For
    every choice; the figure to report comes from a run without it."""


OfDense = Annotated[float, Gt(0), Lt(1)]


def _of_dense(value: Any) -> Any:
    return {"of_dense": value} if isinstance(value, int | float) else value


class LatencySection(Section):
    """A latency, measured here by compact models against the dense one; for filters and channels."""

    of_dense: OfDense
    """Seconds per call that stay, a fraction of the dense ones."""
    runtime: Literal["eager", "compiled", "onnxruntime", "openvino"] = "eager"
    """What runs the models: PyTorch, `torch.compile`, or another runtime that is installed."""
    batch: Count = 1
    """Samples a call."""


class RankingSection(Section):
    """By what the units of all groups are ranked, and for what saving: with `allocation: global`."""

    per: Literal["budget", "macs", "bytes", "seconds", "unit"] = "budget"
    """What a unit's score is divided by: its share of the budgets, its macs, bytes or measured seconds, or one."""
    metric: MetricChoice | None = None
    """In which norm a unit's energy is meant, measured before the plan is made; by default the plain one, each
    group's energies in parts of their mean."""
    batches: Count = 16
    """How many training batches the metric sees."""


class PlanSection(Section):
    """What may stay: exactly one of density, sparsity, compression, macs, bytes, latency, keep.

    For coupled filters and channels macs and bytes also together, and beside one of the first three.
    """

    density: Fraction | None = None
    """Fraction of the selected weights that stays, in (0, 1]."""
    sparsity: Annotated[float, Ge(0)] | None = None
    """Fraction of the selected weights that goes, in [0, 1)."""
    compression: Annotated[float, Ge(1)] | None = None
    """Ratio of counts, before to after, ≥ 1."""
    macs: Annotated[float, Gt(0)] | None = None
    """Multiply-accumulates that stay: a count, or a fraction in (0, 1] of the dense ones."""
    bytes: Annotated[float, Gt(0)] | None = None
    """Bytes of the compact model's parameters and buffers: a count, or a fraction in (0, 1] of the dense ones;
    for filters and channels."""
    latency: Annotated[
        LatencySection | None,
        BeforeValidator(_of_dense, json_schema_input_type=OfDense | LatencySection | None),
    ] = None
    """Seconds per call that stay: a fraction of the dense ones, in eager PyTorch on one sample, or with runtime and
    batch said; with `training.threads`; for filters and channels. Widths are multiples of what its kernels like."""
    keep: dict[str, KeepValue] | None = None
    """By parameter name or glob: a count of units, a density, or [filters, columns]."""
    set: SetChoice = Field(default_factory=lambda: SETS["unstructured"].model_validate({}))
    """The shape of sparsity."""
    sets: dict[str, SetChoice] | None = None
    """By parameter name or glob the shape of sparsity, in place of `set`: a full name wins, then the first
    glob; what matches none is not pruned. Filters and channels are coupled, the others pruned alone."""
    bits: Bits | dict[str, Bits] | None = None
    """What stays goes on 2^bits levels while it is pruned: for all planned weights, or by name or glob."""
    allocation: AllocationChoice = "uniform"
    """How one figure is shared out among the tensors; coupled filters and channels take uniform, global or a search."""
    ranking: RankingSection | None = None
    """What `allocation: global` ranks coupled units by."""
    include: list[str] | None = None
    """Globs of parameter names to prune; by default the weights of convolutions and linear layers."""
    exclude: list[str] = Field(default_factory=list)
    """Globs of parameter names to leave dense."""
    multiple: Count = 1
    """Widths stay divisible by it; for filters, channels, and filters and columns."""
    minimum: Count = 1
    """Filters that stay at least of every group of tied ones; for the same sets."""

    @property
    def searches(self) -> bool:
        """Whether the budget is looked for while the run begins, by trying."""
        return isinstance(self.allocation, Named) and issubclass(self.allocation.target, Searching)

    @property
    def looks_at_weights(self) -> bool:
        """Whether other weights would share it out otherwise."""
        return self.allocation not in ("uniform", "erk")

    @property
    def figures(self) -> dict[str, Any]:
        """Those of the seven figures that were given."""
        names = ("density", "sparsity", "compression", "macs", "bytes", "latency", "keep")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class PublishedSection(Section):
    """The row of a paper that a recipe is for; it decides nothing."""

    paper: str
    """Which paper."""
    row: str
    """Where it stands, such as `Table 1, ResNet-18`."""
    rate: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$")]
    """The compression it states, in quotes, with the paper's digits."""
    counts: Literal["all_nonbias", "conv_fc_weights", "conv_only"]
    """The convention in which the paper counts."""
    figure: str
    """What the model then did there."""
    profile: Literal["stated", "derived", "ours"]
    """Whether the shares of the layers are the paper's, follow from its figures, or are ours."""


class Phase(Section):
    """One phase of training; what it leaves out is as in `training`."""

    epochs: Epochs
    """Passes over the training data."""
    optimiser: OptimiserChoice | None = None
    """The rule by which gradients move weights."""
    lr: Annotated[float, Gt(0)] | None = None
    """Learning rate, before the schedule."""
    schedule: ScheduleChoice | None = None
    """How the learning rate moves over the phase."""
    clip: Annotated[float, Gt(0)] | None = None
    """Largest Euclidean norm of the data gradient."""
    sam: Annotated[float, Ge(0)] | None = None
    """Radius of sharpness-aware steps; 0: plain ones."""


class SearchBitsSection(Section):
    """Find the bits of each layer by projecting alone, before any training towards them."""

    guard: Annotated[float, Ge(0)] = 0.005
    """The largest drop of the metric that the projection may cost, a fraction; training wins most of it back."""
    low: Bits = 1
    """The fewest bits tried."""
    high: Bits = 8
    """The most; all layers begin with them."""


class FreezeSection(Phase):
    """Put the weights on their levels part by part while the others train on."""

    rounds: Count = 8
    """How often a part is frozen, at equal intervals."""
    fraction: Fraction = 0.3
    """Of a level's free weights per round, the closest first."""


class QuantiseSection(Phase):
    """Put what is left on few levels, zero not among them: exactly one of bits, search."""

    bits: Bits | dict[str, Bits] | None = None
    """log₂ of the number of levels: for all weights of convolutions and linear layers, or by parameter name or glob."""
    search: SearchBitsSection | None = None
    """Find the bits of each layer instead; by the figure that the run is judged by: see `data.validation`."""
    solver: SolverChoice = Field(
        default_factory=lambda: SOLVERS["slr"].model_validate({"rho": 0.01, "step": 1e-3})
    )
    """By what dynamics the weights reach their levels; nothing is opened or settles here."""
    freeze: FreezeSection | None = None
    """Gradual freezing after that; without it what is not on its level is projected at once."""


class RewindTo(Section):
    """The weights that an earlier stage had after some of its steps."""

    stage: str
    """Its name."""
    step: Annotated[int, Ge(0)] = 0
    """Optimiser steps of it; 0: its start."""


class StartWith(Section):
    """With which weights a stage begins: exactly one of rewind, load, redraw."""

    rewind: RewindTo | None = None
    """Those of an earlier stage; what is held stays zero."""
    load: str | None = None
    """Those in a safetensors file; `~` and `${VAR}` are expanded."""
    redraw: Annotated[int, Ge(0), Lt(1 << 63)] | None = None
    """Newly drawn ones, from this seed."""


class StageSection(Phase):
    """One stage of a run; what it leaves out is as in `training`."""

    name: str
    """What its events and checkpoints are called; each stage has its own."""
    method: SolverChoice | None = None
    """How the weights get into the plan; without it they train on, with what earlier stages hold."""
    start: StartWith | None = None
    """With which weights it begins; by default those the stage before left."""
    cut: bool = False
    """Whether it ends with a cut: the weights are put where the plan wants them, and the zeros are held."""
    goal: float | None = None
    """End the stage at the first evaluation that is as good; leave it out if the last cut was."""


class TrainingSection(Section):
    """The phase in which it is pruned, and what all phases share."""

    epochs: Epochs | None = None
    """Passes over the training data; needed unless `stages` say it."""
    optimiser: OptimiserChoice = Field(
        default_factory=lambda: OPTIMISERS["adam"].model_validate({})
    )
    """The rule by which gradients move weights."""
    lr: Annotated[float, Gt(0)] = 1e-3
    """Learning rate, before the schedule."""
    schedule: ScheduleChoice = Field(default_factory=lambda: SCHEDULES["cosine"].model_validate({}))
    """How the learning rate moves over the phase."""
    batch_size: Count = 64
    """Samples per step."""
    clip: Annotated[float, Gt(0)] | None = None
    """Largest Euclidean norm of the data gradient; the solver's pull is added after."""
    sam: Annotated[float, Ge(0)] = 0.0
    """Radius of sharpness-aware steps (SAM), each of which takes two gradients; 0: plain steps."""
    autocast: Literal["bfloat16"] | None = None
    """Compute the loss in this type; weights stay as they are."""
    seed: Annotated[int, Ge(0), Lt(1 << 63)] = 0
    """Draws the first weights and the order of the data."""
    device: str = "cpu"
    """`cpu`, `cuda`, `cuda:1` …"""
    threads: Annotated[int, Ge(1), Le(1024)] | None = None
    """CPU threads; by default one per core. For a small network 1 is often fastest, and it is as fast as
    before when others use the machine. Only the same number gives the same bytes."""

    def of(self, phase: Phase) -> "TrainingSection":
        """The whole of a phase: its own settings, ours for what it leaves out."""
        own = {
            name: value
            for name in Phase.model_fields
            if (value := getattr(phase, name)) is not None
        }
        return self.model_copy(update=own)


class CheckpointSection(Section):
    """How often what a resume needs is written."""

    steps: Count | None = None
    """Optimiser steps between two checkpoints; by default only the clock counts."""
    seconds: Annotated[float, Gt(0)] = 30.0
    """Seconds after which one is written in any case."""


class CompareSection(Section):
    """What `espalier compare` runs, unless its options say otherwise."""

    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By label the method's own settings; the label is the method's name unless `method:` says it.

    Settings left out are the recipe's solver's, as far as the method has them. `dense: {}` trains
    without pruning for the same epochs.
    """
    seeds: Count = 1
    """Seeds per method: training.seed, training.seed + 1 …"""
