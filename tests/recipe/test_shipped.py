"""The recipes we ship say what their names say, and editors can complete them."""

import json
from pathlib import Path

import pytest
import torch

from espalier import models
from espalier.planning import plan
from espalier.recipe import _schema as schema
from espalier.recipe import json_schema, load
from espalier.recipe._methods import RULES
from espalier.sets import Filters, FiltersAndColumns

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))

# File, the convention its name counts in, the compression to one decimal and the weights left in that convention.
NAMED = {
    "autoprune-digits": ("conv_fc_weights", 40.0, 10_762),
    "autoprune-lenet5-mnist-310x": ("conv_fc_weights", 310.2, 1_388),
    "autoprune-lenet5-mnist-7pct-macs": ("conv_fc_weights", 15.7, 27_358),
    "rda-asr-lenet5-mnist": ("conv_fc_weights", 10.0, 43_050),
    "l0-digits": ("conv_fc_weights", 20.0, 21_525),
    "l0-lenet5-mnist": ("conv_fc_weights", 20.0, 21_525),
    "admm-eccv18-lenet5-mnist-71.2x": ("conv_fc_weights", 71.2, 6_050),
    "lenet5-mnist-85.2x": ("conv_fc_weights", 85.2, 5_050),
    "lenet5-mnist-300x": ("conv_fc_weights", 301.0, 1_430),
    "lenet5-mnist-301x-3-bits": ("conv_fc_weights", 301.0, 1_430),
    "resnet20-cifar10-8.7x": ("all_nonbias", 8.7, None),
    "rigl-lenet5-mnist": ("conv_fc_weights", 85.2, 5_050),
    "yolov3-tiny-coco128-3.33x": ("conv_only", 3.3, 2_653_646),
    "slr-ijcai21-resnet18-cifar10-8.71x": ("all_nonbias", 8.7, 1_282_227),
    "resnet20-cifar10-73pct-macs": ("conv_only", 1.4, 197_316),
    "resnet56-cifar10-50pct-macs": ("conv_only", 2.4, 350_640),
    "p-rm-lenet5-mnist-90x": ("conv_only", 90.4, 282),
    "p-rm-lenet5-mnist-232x": ("conv_only", 231.8, 110),
    "rda-lenet5-mnist": ("conv_fc_weights", 10.0, 43_050),
    "digits-demo": ("conv_fc_weights", 85.0, 5_065),
    "digits-methods": ("conv_fc_weights", 40.0, 10_762),
    "lenet5-mnist-methods": ("conv_fc_weights", 85.2, 5_050),
    "lottery-ticket-lenet5-mnist-12x": ("conv_fc_weights", 12.0, 35_875),
    "quality-threshold-lenet5-mnist-12x": ("conv_fc_weights", 12.0, 35_875),
    "quality-threshold-digits": ("conv_fc_weights", 12.0, 35_875),
    "amc-digits": ("conv_fc_weights", 40.0, 10_762),
    "random-search-digits": ("conv_fc_weights", 40.0, 10_762),
    "sensitivity-digits": ("conv_fc_weights", 40.0, 10_762),
    "shadow-prices-digits": ("conv_fc_weights", 40.0, 10_762),
    "digits-scores": ("conv_fc_weights", 40.0, 10_762),
    "digits-at-start": ("conv_fc_weights", 20.0, 21_525),
    "ssl-digits": ("conv_fc_weights", 1.4, 297_600),  # the plan; the prices say how much stays
    "ssl-lenet5-mnist": ("conv_fc_weights", 1.4, 297_600),
    "filter-entropy-digits": ("conv_fc_weights", 2.0, 220_425),
    "gpt-python": ("conv_fc_weights", 4.0, 248_832),
    "slimming-digits": ("conv_fc_weights", 2.0, 220_425),
}


def test_every_shipped_recipe_is_named_here():
    assert {path.stem for path in RECIPES} == set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_the_compression_is_the_one_in_the_name(name):
    recipe, _ = load(ROOT / "recipes" / f"{name}.yaml")
    convention, compression, left = NAMED[name]
    coupled = isinstance(recipe.plan.set.build(), Filters | FiltersAndColumns)
    shape = (2, 1, 28, 28) if recipe.model.name == "lenet5" else (2, 3, 32, 32)
    with torch.device("cpu" if recipe.plan.looks_at_weights or coupled else "meta"):
        model = models.build(recipe.model.name, **recipe.model.arguments)
    section = recipe.plan
    made = plan(
        model,
        set=section.set.build(),
        # A search is for trained weights; whatever it finds has the size of the even budget.
        allocation=RULES.get(str(section.allocation), RULES["uniform"]),
        include=section.include,
        example_input=torch.zeros(shape) if coupled else None,
        **section.figures,
    )
    count = getattr(made.counts(), convention)
    assert round(count.compression, 1) == compression
    assert left in (None, count.nonzero)


def test_the_slr_paper_row_has_its_settings():
    recipe, _ = load(ROOT / "recipes/slr-ijcai21-resnet18-cifar10-8.71x.yaml")
    solver = recipe.solver.build(cadence=1).solver
    assert (solver.rho, solver.step, solver.M, solver.r) == (0.1, 0.01, 300, 0.1)
    assert recipe.solver.model_dump()["cadence"] == "epoch"
    assert recipe.training.epochs == 50
    assert recipe.training.lr == 0.01


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_its_first_line_names_the_schema(path):
    first = path.read_text().split("\n", 1)[0]
    assert first == schema.HEADER + "../docs/recipe.schema.json"


def test_the_committed_schema_is_current():
    committed = (ROOT / "docs/recipe.schema.json").read_text()
    assert committed == schema.text(), "write it anew: make schema, or recipe.schema.text()"


def test_the_schema_refuses_what_validation_refuses():
    text = json.dumps(json_schema())
    assert '"additionalProperties": false' in text
    assert json_schema()["required"] == ["model", "plan", "training"]
    assert json_schema()["oneOf"] == [{"required": ["data"]}, {"required": ["task"]}]
