"""A resume belongs to its run: another's checkpoint, seed, plan or data are refused, what is to come may be mended."""

import json
import shutil

import pytest
import torch

import espalier as esp
from espalier._ground.tree import load_tree, save_tree
from espalier.errors import CheckpointError, RequestError, RunError, UnknownNameError
from espalier.runs import Planned, Quantise, Stage, read_run, run_stages
from espalier.runs._state import check_weights
from espalier.training import Training
from training.problem import (
    REHEARSE,
    Points,
    StopHereError,
    network,
    plan_for,
    prune_run,
    stopped_at,
    timeless,
    weights_of,
)


class Until(Points):
    """Stops at the n-th loss of a process, wherever that is."""

    def __init__(self, left=10**9, seed=0):
        super().__init__(seed)
        self.left = left

    def loss(self, model, batch):
        self.left -= 1
        if self.left < 0:
            raise StopHereError
        return super().loss(model, batch)


@pytest.fixture(autouse=True)
def _unrehearsed(monkeypatch):
    """Losses are counted."""
    monkeypatch.setattr(REHEARSE, lambda *_: None)


def run(folder, left=10**9, density=0.1, seed=0, data=0, resume=True, **changes):
    torch.manual_seed(0)
    given = {
        "pretrain": Training(epochs=1, lr=0.05), "prune": Training(epochs=2, lr=0.01),
        "retrain": Training(epochs=1, lr=0.01),
    }  # fmt: skip
    return prune_run(
        network(), Until(left, data), lambda model: plan_for(model, density),
        esp.Constrained(solver=esp.SLR(), cadence=3), folder=folder, resume=resume, run_seed=seed,
        checkpoint_every=5, **{**given, **changes},
    )  # fmt: skip


def stopped(folder, left=20, **changes):
    with pytest.raises(StopHereError):
        run(folder, left, **changes)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(REHEARSE, lambda *_: None)
        return run(tmp_path_factory.mktemp("whole") / "run")


def test_a_checkpoint_of_another_density_is_refused_and_says_so(tmp_path):
    """It once ended a run of density 0.1 with three times the weights, and called it converged."""
    other, mine = stopped(tmp_path / "other", density=0.3), stopped(tmp_path / "mine")
    shutil.copy(other / "checkpoint.safetensors", mine)
    with pytest.raises(
        CheckpointError, match=r"is of another run: plan\.yaml is not the same\. Put"
    ):
        run(mine)


def test_without_the_identity_the_weights_are_still_looked_at_before_a_result_is_written(tmp_path):
    other = stopped(
        tmp_path / "other", left=30, density=0.3
    )  # in retraining: what it holds was cut
    mine = stopped(tmp_path / "mine", left=30)
    foreign = load_tree(other / "checkpoint.safetensors")
    own = load_tree(mine / "checkpoint.safetensors")
    save_tree(mine / "checkpoint.safetensors", {**foreign, "identity": own["identity"]})
    with pytest.raises(
        RunError, match=r"the weights at the end are not on the plan \(\d+ nonzero in"
    ):
        run(mine)
    assert not (mine / "result.json").exists()


def test_a_weight_that_was_cut_and_has_come_back_is_no_result():
    model = network()
    held = {"0.weight": torch.zeros(16, 6, dtype=torch.bool)}
    with pytest.raises(RunError, match=r"run: .* not on the plan \(96 nonzero in 0\.weight\)"):
        check_weights(model, held, None, "run")
    torch.nn.init.zeros_(model[0].weight)
    check_weights(model, held, None, "run")


@pytest.mark.parametrize(
    ("change", "words"),
    [({"seed": 3}, "seed was 0 and is now 3"), ({"data": 1}, r"data\.test is not the same; data\.train is not"),
     ({"prune": Training(epochs=3, lr=0.01)}, r"stages\.prune\.training\.epochs was 2 and is now 3"),
     ({"pretrain": None}, "stages begun was")],
)  # fmt: skip
def test_another_seed_other_data_or_other_settings_are_refused_by_name(tmp_path, change, words):
    folder = stopped(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
    with pytest.raises((RequestError, CheckpointError), match=words):
        run(folder, **change)
    for name, content in before.items():
        assert (folder / name).read_bytes() == content, name


def test_an_edited_plan_is_refused_and_the_plan_put_back_goes_on(tmp_path, whole):
    folder = stopped(tmp_path / "run")
    text = (folder / "plan.yaml").read_text()
    (folder / "plan.yaml").write_text(text.replace("keep: ", "keep: 1"))
    with pytest.raises(RequestError, match=r"plan\.yaml is not the same"):
        run(folder)
    (folder / "plan.yaml").write_text(text)
    assert weights_of(run(folder).model) == weights_of(whole.model)


def test_a_plan_edited_before_the_first_checkpoint_of_its_stage_is_refused_too(
    tmp_path, monkeypatch
):
    with stopped_at(monkeypatch, "espalier.runs._run.Run._handle", 2):
        run(tmp_path / "run")
    path = tmp_path / "run" / "plan.yaml"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(RequestError, match=r"plan\.yaml is not the same"):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    "target", ["espalier.runs._run.Run._handle", "espalier.runs.RunFolder.identify"]
)
@pytest.mark.parametrize("pretrain", [None, Training(epochs=1, lr=0.05)])
def test_once_written_the_plan_is_the_plan_though_it_would_be_made_otherwise_now(
    tmp_path, monkeypatch, target, pretrain
):
    """As a latency budget is: it is measured, and no two measurements are alike."""
    count = 1 if pretrain is None else 2
    count = 1 if "identify" in target else count
    with stopped_at(monkeypatch, target, count):
        run(tmp_path / "run", pretrain=pretrain)
    written = (tmp_path / "run" / "plan.yaml").read_bytes()

    def otherwise(model):
        raise AssertionError("it is planned already")

    otherwise.__qualname__ = "run.<locals>.<lambda>"
    otherwise.__module__ = run.__module__
    monkeypatch.setitem(globals(), "plan_for", lambda *_: otherwise(None))
    done = run(tmp_path / "run", pretrain=pretrain)
    assert (tmp_path / "run" / "plan.yaml").read_bytes() == written
    assert done.plan.contains(dict(done.model.named_parameters()))


def test_what_a_stage_to_come_is_to_do_may_be_corrected(tmp_path):
    late, right = Training(epochs=1, lr=99.0), Training(epochs=1, lr=0.01)
    folder = stopped(tmp_path / "run", retrain=late)
    done = run(folder, retrain=right)
    expected = run(tmp_path / "whole", retrain=right)
    assert timeless(done.result) == timeless(expected.result)
    assert weights_of(done.model) == weights_of(expected.model)
    stages = read_run(folder).config["identity"]["stages"]
    assert stages["retrain"]["training"]["lr"] == 0.01
    with pytest.raises(RequestError, match=r"retrain\.training\.lr was 0\.01 and is now 99\.0"):
        run(folder, retrain=late)  # it has ended, and every stage has begun


def quantising(bits):
    return Quantise(
        bits=bits,
        method=esp.Constrained(solver=esp.ADMM(), settle=None),
        training=Training(epochs=1),
    )


def test_a_run_that_quantising_refused_goes_on_with_the_names_corrected(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match="nobody"):
        run(tmp_path / "run", quantise=quantising({"nobody": 2}))
    losses = []
    monkeypatch.setattr(Until, "loss", lambda *given: losses.append(1) or Points.loss(*given))
    done = run(tmp_path / "run", quantise=quantising({"0.weight": 2}))
    assert done.result.quantisation.bits == {"0.weight": 2}
    assert len(losses) == 8, "only the stage that was refused is trained"


def test_a_finished_run_of_other_data_is_not_read_as_this_ones(tmp_path, whole):
    with pytest.raises(RequestError, match=r"data\.test is not the same"):
        run(whole.path, data=1)
    assert run(whole.path).result == whole.result


def test_config_and_checkpoints_say_whose_they_are(whole):
    config = json.loads((whole.path / "config.json").read_text())
    carried = load_tree(whole.path / "checkpoint.safetensors")["identity"]
    assert carried == config["identity"]
    assert set(carried) == {
        "seed",
        "probe",
        "settings",
        "model",
        "data",
        "plan",
        "stages",
        "plan.yaml",
    }


def test_a_run_has_one_plan(tmp_path):
    slr = esp.Constrained(solver=esp.SLR())
    stages = [
        Stage(name=name, training=Training(epochs=1), method=slr, cut=True, aim=Planned(plan))
        for name, plan in (("a", plan_for), ("b", network))
    ]
    with pytest.raises(RequestError, match="'b': a run has one plan"):
        run_stages(network(), Points(), stages, tmp_path / "run")
