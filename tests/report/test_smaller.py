"""What compacting and timing left in the folder, on the page: complete, exact, and never a crash."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from espalier.errors import RunFolderError
from espalier.report import write_report
from espalier.report._runs import read_run
from espalier.report._smaller import smaller
from espalier.report._tables import Table
from espalier.report.figures import widths
from report.conftest import dump

Make = Callable[..., Path]

COMPACT: dict[str, Any] = {
    "artefact": "run/compact.espalier", "artefact_bytes": 167_204, "multiple": 1, "removed": 399,
    "before": {"parameters": 431_080, "nonzero": 133_230, "bytes": 1_724_320},
    "after": {"parameters": 40_081, "nonzero": 40_081, "bytes": 160_324},
    "macs": {"before": 2_293_000, "after": 267_900}, "metrics": {"accuracy": 0.9876},
    "widths": {"conv1.weight": {"before": 20, "after": 6}, "conv2.weight": {"before": 50, "after": 15},
               "fc1.weight": {"before": 500, "after": 150}, "fc2.weight": {"before": 10, "after": 10}},
    "proof": {"difference": 5.7e-6, "scale": 27.5, "tolerance": 1e-4, "random_batches": 3,
              "real_batches": 4, "mismatch": "", "holds": True},
    "kept_back": {"an operation that is not understood": 7}, "constant": 2,
}  # fmt: skip


def row(runtime: str, model: str, batch: int, ms: float, speedup: float) -> dict[str, Any]:
    spread = {"low": 0.9e-3 * ms, "median": 1e-3 * ms, "high": 1.25e-3 * ms}
    return {"runtime": runtime, "model": model, "batch": batch, "threads": 1, "seconds": spread,
            "speedup": {"low": 0.9 * speedup, "median": speedup, "high": 1.1 * speedup}}  # fmt: skip


LATENCY: dict[str, Any] = {
    "rows": [
        row(runtime, model, batch, ms * batch, speedup)
        for batch in (1, 32)
        for runtime in ("eager", "OpenVINO")
        for model, ms, speedup in (("dense", 0.8, 1.0), ("masked", 0.8, 1.01), ("compact", 0.2, 4.0))
    ],
    "rounds": 15, "macs": {"dense": 4, "masked": 4, "compact": 1},
    "roofline": ["compact executes 4.00× fewer multiply-accumulates than dense and runs …"],
    "remarks": ["ONNX Runtime: not installed; pip install 'espalier[onnx]'"],
    "versions": {"torch": "2.13.0"}, "hardware": {"cpu": "Some CPU", "gpu": None},
}  # fmt: skip


@pytest.fixture
def compacted(make_run: Make) -> Callable[..., Path]:
    """A run folder with ``compact.json`` and ``latency.json``; what is given replaces their parts."""

    def make(compact: Any = None, latency: Any = None) -> Path:
        run = make_run(tensors=False)
        dump(run / "compact.json", COMPACT | (compact or {}))
        dump(run / "latency.json", LATENCY | (latency or {}))
        return run

    return make


def page_of(run: Path) -> str:
    return write_report([run], run / "report.html").read_text(encoding="utf-8")


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def rows_of(table: Table | None) -> list[list[str]]:
    assert table is not None
    return [[" ".join(filter(None, (cell.text, cell.note))) for cell in row] for row in table.rows]


def test_sizes_of_masked_and_compact_are_set_side_by_side(compacted: Make) -> None:
    run = compacted()
    (run / "weights.safetensors").unlink(missing_ok=True)
    (run / "compact.onnx").write_bytes(b"x" * 170_842)
    (run / "model.onnx").write_bytes(b"x" * 1_708_420)
    (run / "model.packed").write_bytes(b"x" * 2_700)
    assert rows_of(smaller(read_run(run), "x").sizes) == [
        ["parameters", "431,080", "40,081", "10.8×"],
        ["of them not zero", "133,230", "40,081", "3.32×"],
        ["bytes in memory", "1,724,320", "160,324", "10.8×"],
        ["multiply-accumulates, one sample", "2,293,000", "267,900", "8.56×"],
        ["bytes on disk, safetensors", "–", "167,204", "–"],
        ["bytes on disk, ONNX", "1,708,420", "170,842", "10.0×"],
        ["bytes on disk, packed", "2,700", "–", "–"],
    ]


def test_the_proof_is_a_word_and_its_figures(compacted: Make) -> None:
    run = read_run(compacted())
    proof = smaller(run, "x").proof
    assert proof is not None
    assert proof.holds
    for said in ("5.70·10⁻⁶", "outputs up to 27.5", "3 random and 4 real batches"):
        assert said in proof.sentence
    failed = COMPACT | {"proof": COMPACT["proof"] | {"holds": False}}
    proof = smaller(replace(run, compact=failed), "x").proof
    assert proof is not None
    assert not proof.holds


def test_every_runtime_has_a_row_and_every_model_its_ratio(compacted: Make) -> None:
    found = smaller(read_run(compacted()), "x")
    rows = rows_of(found.latency)
    assert [line[:3] for line in rows] == [
        ["1", "1", "eager"], ["1", "1", "OpenVINO"], ["32", "1", "eager"], ["32", "1", "OpenVINO"]
    ]  # fmt: skip
    assert rows[0][3:] == [
        "0.800 0.720–1.00", "0.800 0.720–1.00", "1.01× 0.91×–1.11×", "0.200 0.180–0.250", "4.00× 3.60×–4.40×",
    ]  # fmt: skip
    assert found.timing == [
        "Compact executes 4.00× fewer multiply-accumulates than dense and runs ….",
        "ONNX Runtime: not installed; pip install 'espalier[onnx]'.",
        "Measured on Some CPU, torch 2.13.0.",
    ]


def test_the_page_has_the_compact_model_and_its_latency(compacted: Make) -> None:
    page = page_of(compacted())
    assert {"Who can use these zeros", "Compact model", "Latency"} <= set(headings(page))
    for said in ('<span class="badge converged">proved equal</span>', "98.76\u202f%", "Measured on Some CPU",
                 "7 channels, for an operation that is not understood", "2 channels whose filters",
                 ">conv1</text>", ">20 → 6</text>", ">500 → 150</text>", ">10</text>"):  # fmt: skip
        assert said in page
    assert "10 → 10" not in page  # as it was: one figure


def test_a_run_with_neither_has_neither_section(make_run: Make) -> None:
    assert not {"Compact model", "Latency"} & set(headings(page_of(make_run(tensors=False))))


def test_nothing_removed_is_said(compacted: Make) -> None:
    told = smaller(read_run(compacted({"removed": 0})), "x").remarks
    assert "Nothing could be removed: the compact model is the masked one." in told


@pytest.mark.parametrize("name", ["compact.json", "latency.json"])
@pytest.mark.parametrize(("content", "message"), [("{", "cannot be read"), ("[]", "not a mapping")])
def test_a_damaged_file_is_named(compacted: Make, name: str, content: str, message: str) -> None:
    run = compacted()
    (run / name).write_text(content)
    with pytest.raises(RunFolderError, match=rf"{re.escape(name)}: .*{message}"):
        read_run(run)


STRANGE: list[Any] = [
    None, 3, "<b>x</b>", [], {}, [1, None], {"<i>": {"median": "x"}}, float("nan"), {"median": 1e999},
]  # fmt: skip


def test_a_purified_model_is_said_to_be_another(compacted: Make) -> None:
    pure = {"purification": {"test": {"before": 0.99, "after": 0.985}}}
    told = smaller(read_run(compacted(pure)), "x").remarks
    assert any("purified first" in line and "99.00" in line and "98.50" in line for line in told)


@pytest.mark.parametrize("strange", STRANGE, ids=str)
def test_strange_values_leave_their_part_out_and_nothing_else(
    compacted: Make, strange: Any
) -> None:
    run = read_run(compacted())
    whole = smaller(run, "x")
    run = replace(run, compact=COMPACT | {"widths": {}})  # drawing takes time
    for key in COMPACT:
        found = smaller(replace(run, compact=COMPACT | {"widths": {}, key: strange}), "x")
        assert (found.latency, found.usable) == (whole.latency, whole.usable)
    for key in LATENCY:
        found = smaller(replace(run, latency=LATENCY | {key: strange}), "x")
        assert (found.sizes, found.proof) == (whole.sizes, whole.proof)


def test_strange_values_are_escaped_and_no_nan_is_shown(compacted: Make) -> None:
    rows = [{**LATENCY["rows"][0], key: s} for key in LATENCY["rows"][0] for s in STRANGE]
    drawn = {f"<i>{at}": {"before": s, "after": 1} for at, s in enumerate(STRANGE)}
    page = page_of(compacted({"widths": drawn}, {"rows": [*rows, *STRANGE], "remarks": STRANGE}))
    assert not re.search(
        r"<[bi]>|\bnan\b|\binf\b|None", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    )


def test_fifty_five_layers_are_two_pictures_of_one_scale() -> None:
    layers = [(f"layer{i}.weight", 16.0, 9.0) for i in range(54)] + [("fc.weight", 10.0, 10.0)]
    pictures = widths(layers, "x")
    assert len(pictures) == 2
    names = [re.findall(r">(layer\d+|fc)</text>", picture.svg) for picture in pictures]
    assert [name for part in names for name in part] == [
        n.removesuffix(".weight") for n, *_ in layers
    ]
    assert widths([], "x") == []


@pytest.mark.parametrize(
    ("which", "said"),
    [("unstructured", "saves storage only"), ("filters", "Faster on every runtime once compacted"),
     ({"n_of_m": {"n": 2, "m": 4}}, "of every 4 neighbours at most 2 are nonzero. Kernels that use this need a GPU")],
)  # fmt: skip
def test_who_can_use_the_zeros_is_said(make_run: Make, which: Any, said: str) -> None:
    run = make_run(tensors=False)
    (run / "plan.yaml").write_text(json.dumps({"parameters": {"a": {"set": which, "keep": 3}}}))
    ((_, sentence),) = smaller(read_run(run), "x").usable
    assert said in sentence
