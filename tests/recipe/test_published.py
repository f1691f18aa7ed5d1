"""Recipes of published rows: each plan counts what its paper prints, with no data and no weights."""

import json
from functools import cache
from pathlib import Path

import pytest

from espalier.cli import main
from espalier.errors import RecipeError
from espalier.recipe import _published as published
from espalier.recipe import _schema as schema
from espalier.recipe import load

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "published"
FILES = sorted(FOLDER.glob("*.yaml"))
OF_LIBRARIES = {p for p in FILES if any(x in p.stem for x in ("mixer", "swin", "imagenet"))}
OWN = [p for p in FILES if p not in OF_LIBRARIES or "alexnet" in p.stem]

# What the papers' sections derive exactly: of which total how many are left.
EXACT = {
    "slr-resnet18-imagenet-6.5x": (11_683_712, 1_796_787),
    "slr-mixer-b16-imagenet-3.163x": (59_806_464, 18_905_856),
    "slr-swin-t-imagenet-7.997x": (28_211_808, 3_527_673),
    "admm-nn-lenet5-mnist-40.2x": (430_500, 10_700),
}


@cache
def row(path):
    (found,) = published.rows({str(path): load(path)[0]})
    return found


def check(path):
    found = row(path)
    assert published.agrees(found.said, found.plan)
    if path.stem in EXACT:
        count = getattr(found.plan.counts(), found.said.counts)
        assert (count.total, count.nonzero) == EXACT[path.stem]


@pytest.mark.parametrize("path", OWN, ids=lambda p: p.stem)
def test_the_plan_counts_the_published_rate(path):
    check(path)


@pytest.mark.parametrize("path", sorted(set(FILES) - set(OWN)), ids=lambda p: p.stem)
def test_the_plan_of_a_library_s_model_counts_the_published_rate(vision, path):
    check(path)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_recipe_of_a_row_says_its_schema_and_its_rate_in_its_name(path):
    recipe, _ = load(path)
    assert path.read_text().split("\n", 1)[0] == schema.HEADER + "../../docs/recipe.schema.json"
    assert path.stem.endswith((f"-{recipe.published.rate}x", "pct"))


def test_a_rate_that_is_another_does_not_agree():
    path = FOLDER / "admm-nn-lenet5-mnist-40.2x.yaml"
    recipe, _ = load(path, ["plan.keep={fc1.weight: 8300, conv1.weight: 100}"])
    (found,) = published.rows({"": recipe})
    assert not published.agrees(found.said, found.plan)


def test_the_table_of_the_documentation_is_current(vision):
    """Write it anew: espalier.recipe._published.markdown over the recipes."""
    page = (ROOT / "docs/published.md").read_text()
    known = published.recipes_in(ROOT / "recipes")
    rows = [row(Path(path)) for path, recipe in known.items() if recipe.published is not None]
    assert page.endswith(published.markdown(rows))


def test_recipes_are_listed_with_the_published_figure(capsys):
    assert main(["recipes", str(FOLDER), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["rows of papers"]
    assert set(said) == {str(p) for p in FILES}
    text = said[str(FOLDER / "slr-vgg16-cifar10-12x.yaml")]
    assert text == (
        "SLR (IJCAI 2021), Table 1, VGG-16, CIFAR-10: 12×, SLR 87.31 %, ADMM 69.05 %, dense 93.27 %, as cut"
    )


def test_counts_stand_beside_the_papers(tmp_path, capsys):
    name = "admm-lenet300-mnist-22.9x.yaml"
    (tmp_path / name).write_text((FOLDER / name).read_text())
    assert main(["recipes", str(tmp_path), "--counts", "--json"]) == 0
    (text,) = json.loads(capsys.readouterr().out)["rows of papers"].values()
    assert text.endswith("98.4 %; ours 22.89× (11,628 of 266,200 conv_fc_weights)")


def test_a_folder_without_recipes_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="no recipes in it"):
        published.recipes_in(tmp_path)


def test_a_plan_needs_no_data_and_says_where_to_get_them(monkeypatch, capsys):
    monkeypatch.setenv("ESPALIER_DATA", "/nowhere")
    assert main(["plan", str(FOLDER / "admm-lenet300-mnist-22.9x.yaml")]) == 0
    said = capsys.readouterr()
    assert "22.9× of conv_fc_weights; this plan: 22.89× (11,628 of 266,200 left)" in said.out
    told = " ".join(said.err.split())
    assert "planned without the data" in told
    assert "the folder of the four IDX files" in told


def test_a_plan_that_looks_at_the_data_is_refused_without_them(monkeypatch, capsys):
    monkeypatch.setenv("ESPALIER_DATA", "/nowhere")
    path = str(ROOT / "recipes/digits-scores.yaml")
    settings = ["--set", "data={name: mnist, path: /nowhere}", "--set", "plan.allocation=global"]
    settings += ["--set", "plan.ranking={metric: fisher}"]
    assert main(["plan", path, *settings]) != 0
    assert "/nowhere" in capsys.readouterr().err
