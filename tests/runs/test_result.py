"""``result.json``: typed, versioned, read back as written; that of version 0.1 is read as well."""

import copy
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from espalier.errors import RunFolderError
from espalier.runs import Result, StageResult, read_result, read_run
from espalier.runs._result import json_schema, validated, write_result

ROOT = Path(__file__).parents[2]

COUNT = {"total": 430500, "nonzero": 6050, "compression": 71.15702479338843}
OF_VERSION_0_1 = {
    "outcome": "converged",
    "sentence": "The weights are on their sets and the zeros are held: a cut takes nothing.",
    "dense": {"accuracy": 0.9303621169916435, "loss": 0.24227210879325867},
    "hard_pruned": {"accuracy": 0.5097493036211699, "loss": 2.2033753395080566},
    "hard_pruned_bn": None,
    "retrained": {"accuracy": 0.6824512534818942, "loss": 2.105100393295288},
    "quantised": {"accuracy": 0.8746518105849582, "loss": 1.6062443256378174},
    "quantised_bn": None,
    "quantisation": {
        "bits": {"conv1.weight": 3, "fc2.weight": 3},
        "search": None,
        "steps": {"conv1.weight": 0.058184873312711716, "fc2.weight": 0.02847479097545147},
        "data_bits": 18150,
    },
    "counts": {"all_nonbias": COUNT, "conv_only": {"total": 2, "nonzero": 0, "compression": None}},
    "layers": {
        "conv1.weight": {"total": 500, "nonzero": 100, "density": 0.2},
        "fc2.weight": {"total": 5000, "nonzero": 350, "density": 0.07},
    },
    "certificate": {
        "outcome": "converged",
        "sentence": "The weights are on their sets and the zeros are held: a cut takes nothing.",
        "updates": 2,
        "tolerance": 0.01,
        "total_violation": 0.0,
        "violation": {"conv1.weight": 0.0, "fc2.weight": 0.0},
        "z_change": {"conv1.weight": 1.2865632772445679, "fc2.weight": 1.2027244567871094},
        "multiplier_change": {"conv1.weight": 0.0031785259, "fc2.weight": 0.0026730713},
        "s": 0.0008182943438255254,
        "conditions": [1.0, None],
    },
    "epochs": {"pretrain": 2, "prune": 3, "retrain": 1, "quantise": 2, "freeze": 2},
    "seconds": {"pretrain": 1.61, "prune": 2.29, "retrain": 0.89, "quantise": 1.68, "freeze": 1.72},
    "step_seconds": {"dense": 0.0318, "solver": 0.0286, "held": 0.0333, "quantise": 0.0315},
}


def of(*stages):
    """A result of stages given as (name, method, figure, cut, epochs, seconds)."""
    made = [
        StageResult(
            name=name, method=method, figure=figure, epochs=epochs, steps=epochs, seconds=seconds,
            step_seconds=0.0, stopped="epochs", metrics=None, cut={"accuracy": 0.5} if cut else None,
        )
        for name, method, figure, cut, epochs, seconds in stages
    ]  # fmt: skip
    return validated({**OF_VERSION_0_1, "version": 2}, "here").model_copy(update={"stages": made})


def test_a_result_of_version_0_1_is_read(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps(OF_VERSION_0_1))
    result = read_result(tmp_path / "result.json")
    read = result.to_dict()
    for newer in ("steps", "forced", "figures"):
        assert read["certificate"].pop(newer) is None
    for newer in ("advice", "what", "why"):
        assert not read["certificate"].pop(newer)
    for key, value in OF_VERSION_0_1.items():
        assert read[key] == value, key
    assert (result.version, result.method, result.stages) == (2, None, [])
    assert result.goal.name == "accuracy"
    assert (result.pruning_epochs, result.pruning_seconds) == (3, 2.29)
    assert result.delivered == OF_VERSION_0_1["quantised"]
    assert result.figure("retrained") == 0.6824512534818942
    assert result.figure("hard_pruned_bn") is None


def test_one_of_version_0_1_that_stopped_before_pruning_has_an_empty_certificate(tmp_path):
    early = {**OF_VERSION_0_1, "outcome": "non_finite", "certificate": {}, "epochs": {}}
    early = {**early, "hard_pruned": None, "retrained": None, "seconds": {}}
    for name in ("quantised", "quantised_bn", "quantisation"):
        del early[name]
    (tmp_path / "result.json").write_text(json.dumps(early))
    result = read_result(tmp_path / "result.json")
    assert result.certificate is None
    assert result.delivered is None
    assert (result.pruning_epochs, result.pruning_seconds) == (0, None)


def test_it_is_read_back_as_it_was_written(tmp_path):
    result = of(("prune", "SLR", "hard_pruned", True, 3, 1.5))
    result = result.model_copy(update={"dense": {"loss": float("nan"), "accuracy": 0.5}})
    write_result(tmp_path / "result.json", result)
    again = read_result(tmp_path / "result.json")
    assert again.dense == {"loss": None, "accuracy": 0.5}  # JSON has no NaN
    assert again == result.model_copy(update={"dense": again.dense})
    assert Result.model_validate(again.to_dict()) == again
    (tmp_path / "config.json").write_text('{"format": "espalier-run", "version": 1}')
    assert read_run(tmp_path).result == again


def damaged(**changes):
    return json.dumps({**OF_VERSION_0_1, **changes})


def without(key):
    content = copy.deepcopy(OF_VERSION_0_1)
    del content[key]
    return json.dumps(content)


REFUSED = {
    "of a later version": (damaged(version=3), "version 3, and this Espalier reads 1 and 2; use"),
    "a word for a version": (damaged(version="two"), "version 'two', and this Espalier reads"),
    "cut short": (damaged()[:300], "cannot be read"),
    "a list": ("[]", "not a mapping"),
    "without its sentence": (
        without("sentence"),
        "not a result: sentence: Field required; restore",
    ),
    "an outcome unknown": (damaged(outcome="fine"), "not a result: outcome: Input should be"),
    "a key unknown": (damaged(mood="good"), "not a result: mood: Extra inputs are not permitted"),
    "deep down": (
        damaged(layers={"w": {"total": 1, "nonzero": "many", "density": 1.0}}),
        "not a result: layers.w.nonzero: Input should be a valid integer",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_result_is_refused_in_one_sentence(tmp_path, what):
    text, message = REFUSED[what]
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(RunFolderError) as refused:
        read_result(tmp_path / "result.json")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(tmp_path / "result.json") in str(refused.value)


def test_a_result_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        of().outcome = "stalled"


def test_the_pruning_is_all_that_prunes_and_nothing_before_or_after_it():
    rounds = [(f"round-{j}", "Lottery ticket", None, True, 2, 1.0) for j in (1, 2)]
    result = of(
        ("warm up", None, None, False, 7, 7.0), *rounds,
        ("prune", "Lottery ticket", "hard_pruned", True, 2, 0.5),
        ("retrain", "Masked training", "retrained", False, 4, 4.0),
        ("quantise", "ADMM", "quantised", True, 4, 4.0),
    )  # fmt: skip
    assert [stage.name for stage in result.pruning] == ["round-1", "round-2", "prune"]
    assert (result.pruning_epochs, result.pruning_seconds) == (6, 2.5)


def test_of_a_run_that_stopped_early_the_pruning_is_what_there_was_of_it():
    result = of(
        ("pretrain", None, None, False, 7, 7.0), ("round-1", "Lottery ticket", None, True, 2, 1.0)
    )
    assert result.pruning_epochs == 2
    assert of(("train", None, None, False, 7, 7.0)).pruning_epochs == 0


def test_the_delivered_figures_are_the_last_that_there_are():
    result = of()
    figures = ("quantised_bn", "quantised", "retrained", "hard_pruned_bn", "hard_pruned")
    for number, name in enumerate(figures):
        left = dict.fromkeys(figures[:number]) | {name: {"accuracy": float(number)}}
        assert result.model_copy(update=left).delivered == {"accuracy": float(number)}


def test_the_committed_schema_is_current():
    committed = (ROOT / "docs/result.schema.json").read_text(encoding="utf-8")
    assert committed == json_schema(), "write it anew: espalier.runs._result.json_schema()"


def test_the_page_names_every_field():
    page = (ROOT / "docs/result.md").read_text(encoding="utf-8")
    assert [name for name in Result.model_fields if f"`{name}`" not in page] == []
    assert [name for name in StageResult.model_fields if f"`{name}`" not in page] == []
