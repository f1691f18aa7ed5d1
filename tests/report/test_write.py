"""What the page promises: self-contained, complete, escaped, the same bytes for the same runs."""

import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from espalier.errors import RequestError, RunFolderError
from espalier.report import write_report

Make = Callable[..., Path]
SECTIONS = (
    "Asked and got",
    "Curves",
    "Weights before and after",
    "Conditions over time",
    "Certificate",
    "Density of each layer",
    "Who can use these zeros",
    "Counts under every convention",
    "Environment, and how to do it again",
)


def page_of(*runs: Path) -> str:
    return write_report(runs, runs[0].parent / "report.html").read_text(encoding="utf-8")


def headings(page: str) -> list[str]:
    found = re.findall(r"<h[23]>(.*?)</h[23]>", page, re.DOTALL)
    return [re.sub("<.*?>", "", heading) for heading in found]


def text_of(page: str) -> str:
    return re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))


class References(HTMLParser):
    """Everything in a page that a browser would fetch, and every script."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "object", "embed"):
            self.found.append(tag)
        for name, value in attrs:
            inside = (value or "").startswith(("#", "data:image/png;base64,"))
            if name in ("src", "href", "xlink:href", "srcset", "poster") and not inside:
                self.found.append(f"{tag} {name}={value}")
            if name.startswith("on"):
                self.found.append(f"{tag} {name}")


def references(page: str) -> list[str]:
    parser = References()
    parser.feed(page)
    return parser.found + re.findall(r"https?://|@import|url\((?!#)", page)


def test_the_page_is_self_contained(one_page: Path, methods_page: Path) -> None:
    assert references(one_page.read_text(encoding="utf-8")) == []
    assert references(methods_page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "page", ['<img src="a.png">', "<script>1</script>", "<p style='background:url(x)'>", "http://a"]
)
def test_the_check_for_references_rejects(page: str) -> None:
    assert references(page)


def test_one_run_has_every_section(one_page: Path) -> None:
    assert headings(one_page.read_text(encoding="utf-8")) == list(SECTIONS)


def test_several_methods_have_a_level_field_and_their_evidence(methods_page: Path) -> None:
    page = methods_page.read_text(encoding="utf-8")
    assert {"Level field", "Curves", "Evidence, method by method"} <= set(headings(page))
    assert not any("One setting varied" in heading for heading in headings(page))
    assert page.count("<details") == 6  # evidence and recipe, a method each
    for words in ("Student-t 95", "step overhead", "1.030×", "One-shot magnitude", "± "):
        assert words in page


def test_a_comparison_is_told_by_method_with_dense_training_beside_it(make_run: Make) -> None:
    runs = []
    for method, label in (("slr", "slr"), ("oneshot", "dense")):
        for seed in (0, 1):
            run = make_run(method, seed, name=f"{label}-seed{seed}", tensors=False)
            config = json.loads((run / "config.json").read_text())
            config["recipe"]["model"]["weights"] = f"pretrained/seed{seed}/weights.safetensors"
            if label == "dense":
                config["recipe"]["plan"] = {"density": 1.0}
            (run / "config.json").write_text(json.dumps(config))
            runs.append(run)
    (runs[0].parent / "overhead.json").write_text('{"slr": 1.2345}')
    page = page_of(*runs)
    assert "4 runs in 2 settings" in page
    assert "Dense training" in page
    assert "1.234×" in page or "1.235×" in page
    assert "Cut and not retrained, SLR has" in page
    assert "Evidence, method by method" not in headings(page)


def test_runs_that_differ_in_one_setting_have_an_ablation(make_run: Make) -> None:
    page = page_of(*(make_run(rho=rho, tensors=False) for rho in (0.01, 0.1, 1.0)))
    assert "One setting varied: solver.rho" in headings(page)
    assert "SLR · rho 0.01" in page


def test_accuracy_of_every_stage_is_at_a_glance(one_page: Path) -> None:
    page = text_of(one_page.read_text(encoding="utf-8")).replace("\u202f", " ")
    for words in ("99.39 %", "99.01 %", "BN re-estimated", "99.15 %", "99.21 %", "85.2×"):
        assert words in page
    assert "all parameters but biases" in page


@pytest.mark.parametrize("method", ["gradual", "oneshot"])
def test_what_a_run_has_not_is_left_out(make_run: Make, method: str) -> None:
    page = page_of(make_run(method, retrain=0, tensors=False))
    gone = {"Weights before and after", "Conditions over time", "Certificate", "Level field"}
    assert not gone & set(headings(page))
    assert "masked retraining" not in text_of(page).lower()


def test_an_unfinished_run_is_told_as_unfinished(make_run: Make) -> None:
    page = page_of(make_run(finished=False, tensors=False))
    assert "unfinished" in page
    assert "Curves" in headings(page)


def test_a_run_that_has_only_begun_has_a_page(make_run: Make) -> None:
    run = make_run(finished=False, tensors=False)
    for name in ("metrics.jsonl", "plan.yaml", "recipe.yaml"):
        (run / name).unlink()
    assert headings(page_of(run)) == ["Asked and got", "Environment, and how to do it again"]


def test_no_nan_is_ever_shown(make_run: Make) -> None:
    run = make_run(tensors=False)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    for event in events[::3]:
        for key in ("loss", "s", "hard_pruned"):
            event[key] = None
        for layer in event.get("layers", {}).values():
            layer.update(violation=None, weight=0.0, z_change=None)
    events[-1]["metrics"] = {"accuracy": float("nan")}
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    result = json.loads((run / "result.json").read_text())
    result |= {"outcome": "non_finite", "hard_pruned": {"accuracy": float("nan")}}
    (run / "result.json").write_text(json.dumps(result))
    assert not re.search(r"\bnan\b|\binf\b|None", text_of(page_of(run)), re.IGNORECASE)


def test_hostile_names_are_escaped(make_run: Make) -> None:
    hostile = '<script>alert("x")</script>$\\frac{1}{0}$ & </style>'
    run = make_run(model=hostile, name="a<b>&c", tensors=False)
    page = page_of(run, make_run("admm", model=hostile, tensors=False))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("</style>") == 1
    assert references(page) == []


def test_hostile_values_of_the_varied_setting_are_escaped(make_run: Make) -> None:
    runs = []
    for value in ("<b>$x$</b>", "&<i>"):
        run = make_run(tensors=False)
        config = json.loads((run / "config.json").read_text())
        config["recipe"]["solver"]["<u>"] = value
        (run / "config.json").write_text(json.dumps(config))
        runs.append(run)
    page = page_of(*runs)
    assert not re.search(r"<[ub]>", page)
    assert "&lt;b&gt;$x$" in page


def test_the_same_runs_give_the_same_bytes(make_run: Make) -> None:
    runs = [make_run(), make_run("gradual", seed=1)]
    first = write_report(runs, runs[0].parent / "a.html").read_bytes()
    assert write_report(runs, runs[0].parent / "b.html").read_bytes() == first


def test_a_last_line_cut_off_by_a_kill_is_left_out(make_run: Make) -> None:
    run = make_run(finished=False, tensors=False)
    whole = page_of(run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"event": "epoch", "phase": "prune", "epo')
    assert page_of(run) == whole


def test_events_told_again_after_a_resume_count_once(make_run: Make) -> None:
    run = make_run(tensors=False)
    whole = page_of(run)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    again = json.dumps({"event": "resumed", "step": 469}) + "\n"
    (run / "metrics.jsonl").write_text("".join([*lines[:20], again, *lines[10:]]))
    told = page_of(run)
    assert "resumed" in told
    assert re.findall(r"of [\d,]+ updates", told) == re.findall(r"of [\d,]+ updates", whole)


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "holiday"
    if there:
        folder.mkdir()
    with pytest.raises(RunFolderError, match="holiday"):
        write_report([folder], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_truncated_weights_are_named(make_run: Make) -> None:
    run = make_run()
    whole = (run / "weights.safetensors").read_bytes()
    (run / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunFolderError, match=r"weights\.safetensors"):
        page_of(run)


def test_no_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no run given"):
        write_report([], tmp_path / "report.html")


def test_without_the_extra_the_message_says_what_to_install(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RequestError, match=r"pip install 'espalier\[report\]'"):
        page_of(make_run(tensors=False))


def test_many_updates_and_layers_make_no_huge_page(make_run: Make) -> None:
    run = make_run(tensors=False)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    update = next(event for event in lines if event["event"] == "update")
    layer = next(iter(update["layers"].values()))
    with (run / "metrics.jsonl").open("a") as file:
        for step in range(5_000):
            layers = {f"layer{i}.weight": layer for i in range(20)} if step % 10 == 0 else {}
            event = update | {"step": 10_000 + step, "layers": layers, "s": 1 + step % 7}
            file.write(json.dumps(event | {"condition_3": step % 9 > 0}) + "\n")
    assert len(page_of(run)) < 1_500_000
