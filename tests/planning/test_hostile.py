"""Plans of a few letters that ask for everything are refused before anything is made of them."""

import pytest

from espalier.errors import CheckpointError, EspalierError
from espalier.planning import Plan

LINE = {"axis": 0, "units": [[0, 2, 1]]}


def coupled(groups=([1, 2],), units=([0, 2, 1],), members=1, parts=1):
    along = {"axis": 0, "units": [list(run) for run in units]}
    names = [f"w{n}" for n in range(members)]
    row = {"shape": [2, 2], "set": "filters", "keep": 1}
    part = {"groups": [list(g) for g in groups], "members": {name: along for name in names}}
    return {
        "espalier_plan": 2,
        "parameters": {name: row for name in names},
        "parts": [{"coupled": part}] * parts,
    }


def test_a_coupled_plan_that_says_nothing_wrong_is_read():
    """Else those below could be refused for another reason."""
    assert Plan.from_dict(coupled()).parts[0].sizes == (2,)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (coupled(units=([0, 10**12, 0],)), "a run of nothing"),
        (coupled(units=([0, 0, 10**12],)), "a run of nothing"),
        (coupled(units=([0, 1, 10**12],)), "indices of 2 units, and at most"),
        (coupled(units=([0, 1, 1 << 24],), members=12), "201326592 indices"),
        (coupled(units=([0, 1, 1 << 21],), parts=3), "6291456 indices"),
        (coupled(groups=([1, 10**30],)), "must be a count"),
        (coupled(groups=([1, 10**15],)), "of 1000000000000000 units"),
    ],
    ids=range(7),
)
def test_more_than_a_plan_of_ours_can_hold_is_refused(data, match):
    with pytest.raises(CheckpointError, match=match):
        Plan.from_dict(data)


@pytest.mark.parametrize("shape", [[2**61, 2], [2**40, 2], [1] * 65, [10**30]])
def test_a_shape_beyond_all_tensors_is_refused(shape):
    row = {"shape": shape, "set": "unstructured", "keep": 1}
    with pytest.raises(CheckpointError, match=r"beyond all tensors|must be a count"):
        Plan.from_dict({"espalier_plan": 2, "parameters": {"w": row}})


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x]\nb: *a\n", "a: {<<: {espalier_plan: 2}}\n", "espalier_plan: 2\nespalier_plan: 2\nparameters: {}\n",
        "espalier_plan: 1:30\nparameters: {}\n", "[" * 50_000, "- " * 5000, "{a: " * 5000, "a: 2026-13-45\n",
        "a: " + "9" * 10**6,
    ],
    ids=range(9),
)  # fmt: skip
def test_what_yaml_can_be_made_to_do_is_refused_shortly(tmp_path, text):
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(EspalierError, match=r"plan\.yaml") as caught:
        Plan.load(tmp_path / "plan.yaml")
    assert len(str(caught.value)) < 1000


def test_a_message_quotes_a_bounded_part_of_what_it_refuses():
    with pytest.raises(EspalierError) as caught:
        Plan.from_dict({"espalier_plan": list(range(10**6)), "parameters": {}})
    assert len(str(caught.value)) < 300
