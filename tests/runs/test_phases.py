"""The whole road: every phase, both figures of the cut, the evidence, resumed wherever it stopped."""

import pytest
import torch

import espalier as esp
from espalier._ground.tree import load_tree
from espalier.errors import NonFiniteError, RunFolderError
from espalier.models import load_weights
from espalier.runs import read_run
from espalier.training import Training
from espalier.training._evaluation import probe_of
from training.problem import (
    Points,
    StopHereError,
    network,
    plan_for,
    prune_run,
    stopped_at,
    timeless,
    weights_of,
)


def run(folder, model=None, task=None, plan=plan_for, solver=None, resume=False, **changes):
    torch.manual_seed(0)
    phases = {
        "pretrain": Training(epochs=2, lr=0.05, optimizer="sgd"),
        "prune": Training(epochs=3, lr=0.01),
        "retrain": Training(epochs=2, lr=0.01, optimizer="adamw", weight_decay=0.1),
    }
    return prune_run(
        model or network(), task or Points(), plan, solver or esp.Constrained(solver=esp.SLR(), cadence=5, settle=None),
        folder=folder, resume=resume, checkpoint_every=5, **{**phases, **changes},
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return run(folder, config={"recipe": {"seed": 0}})


def test_the_weights_are_on_the_plan_with_their_zeros_in_place(whole):
    assert whole.plan.contains(dict(whole.model.named_parameters()))
    loaded = network()
    load_weights(loaded, whole.path / "weights.safetensors")
    assert weights_of(loaded) == weights_of(whole.model)
    counted = whole.result.counts["pruned_layers_only"]
    assert counted.nonzero == sum(entry.keep for entry in whole.plan.entries.values())


def test_the_folder_holds_what_the_design_says(whole):
    names = {path.name for path in whole.path.iterdir()}
    assert names == {
        "config.json", "plan.yaml", "metrics.jsonl", "before.safetensors", "weights.safetensors",
        "checkpoint.safetensors", "previous.safetensors", "result.json", "lock",
    }  # fmt: skip
    record = read_run(whole.path)
    assert record.result == whole.result
    assert record.config["recipe"] == {"seed": 0}
    assert esp.Plan.load(whole.path / "plan.yaml") == whole.plan
    phases = [event["phase"] for event in record.events if event["event"] == "phase"]
    assert phases == ["pretrain", "prune", "retrain"]
    assert [(stage.name, stage.method) for stage in whole.result.stages] == [
        ("pretrain", None), ("prune", "SLR"), ("retrain", "Masked training")
    ]  # fmt: skip
    assert whole.result.epochs == {"pretrain": 2, "prune": 3, "retrain": 2}
    assert set(whole.result.layers) == set(whole.plan.names)


def test_every_figure_is_that_of_the_weights_it_speaks_of(whole):
    task, dense = Points(), network()
    load_weights(dense, whole.path / "before.safetensors")
    assert whole.result.dense == task.evaluate(dense)
    assert whole.result.retrained == task.evaluate(whole.model)
    last = [e for e in read_run(whole.path).events if e.get("phase") == "prune"][-1]
    assert whole.result.hard_pruned == last["hard_pruned"]
    assert whole.result.hard_pruned_bn == last["hard_pruned_bn"]


def test_without_retraining_the_reestimated_model_is_delivered(tmp_path):
    done = run(tmp_path / "run", retrain=None)
    assert done.result.hard_pruned_bn == Points().evaluate(done.model)
    assert done.result.hard_pruned_bn != done.result.hard_pruned
    assert done.result.retrained is None


def test_where_nothing_is_left_to_cut_batchnorm_keeps_its_statistics(tmp_path):
    done = run(
        tmp_path / "run",
        retrain=None,
        solver=esp.Constrained(solver=esp.SLR(), cadence=5, settle=0.5),
    )
    assert done.result.hard_pruned == Points().evaluate(done.model)


def epochs_of(done, phase):
    return [e for e in read_run(done.path).events if e["event"] == "epoch" and e["phase"] == phase]


def test_the_certificate_says_when_the_weights_settled_and_what_the_evaluations_on_either_side_were(
    tmp_path,
):
    method = esp.Constrained(solver=esp.SLR(), cadence=5, settle=0.5)
    done = run(tmp_path / "run", solver=method)
    said, (first, second, third) = done.result.certificate, epochs_of(done, "prune")
    settled = next(step for step in range(5, 99, 5) if step >= third["step"] / 2)
    assert first["step"] < settled <= second["step"]
    assert (said.outcome, [one.step for one in said.forced]) == ("forced", [settled])
    assert said.total_violation == 0.0
    assert set(said.forced[0].layers) == set(done.plan.names)
    figures = said.figures
    assert (figures.before, figures.before_step) == (first["metrics"]["accuracy"], first["step"])
    assert (figures.after, figures.after_step) == (second["metrics"]["accuracy"], second["step"])
    assert figures.end == done.result.retrained["accuracy"]
    assert done.result.sentence.startswith(
        f"Forced at step {settled}: took {said.forced[0].total:.2%} "
    )


def test_zeros_that_are_held_from_the_first_step_are_measured_against_the_dense_model(tmp_path):
    method = esp.Constrained(solver=esp.solvers.RigL(), cadence=5)
    done = run(tmp_path / "run", solver=method, retrain=None)
    said, first = done.result.certificate, epochs_of(done, "prune")[0]
    assert (said.outcome, said.forced[0].step) == ("forced", 0)
    assert said.figures.before == done.result.dense["accuracy"]
    assert (said.figures.after, said.figures.after_step) == (
        first["metrics"]["accuracy"], first["step"],
    )  # fmt: skip


def test_a_cut_that_is_made_at_once_is_measured_against_the_dense_model(tmp_path):
    done = run(tmp_path / "run", solver=esp.OneShot(), prune=Training(epochs=0))
    said, result = done.result.certificate, done.result
    assert (said.outcome, said.steps, said.advice) == ("forced", 0, [])
    assert said.figures.before == result.dense["accuracy"]
    assert (
        said.figures.after == result.hard_pruned_bn["accuracy"]
    )  # of the model as it is delivered
    assert said.figures.end == result.retrained["accuracy"]
    assert result.sentence.startswith("Forced before the first step: took ")


def test_one_shot_needs_no_epochs(tmp_path):
    done = run(
        tmp_path / "run",
        solver=esp.OneShot(),
        pretrain=None,
        prune=Training(epochs=0),
        retrain=None,
    )
    assert done.plan.contains(dict(done.model.named_parameters()))
    assert done.result.epochs == {"prune": 0}


def test_retraining_is_left_out_when_the_goal_is_met(tmp_path):
    easy = run(tmp_path / "easy", goal=0.1)
    assert easy.result.epochs == {"pretrain": 2, "prune": 1}
    hard = run(tmp_path / "hard", goal=1.1)
    assert hard.result.epochs == {"pretrain": 2, "prune": 3, "retrain": 2}


STOPS = {
    "pretraining": ("espalier.training._loop.Saver.save", 2),
    "before the plan is written": ("espalier.planning.Plan.save", 1),
    "before pruning begins": ("espalier.methods.Pruning.__init__", 1),
    "pruning": ("espalier.training._loop.Saver.save", 8),
    "before the cut": ("espalier.runs._run.evaluate_cut", 1),
    "after the cut": ("espalier.runs._run.reestimate_", 1),
    "as retraining begins": ("espalier.runs._folder.RunFolder.append", 12),
    "retraining": ("espalier.training._loop.Saver.save", 12),
    "before the result": ("espalier.runs._run.result_of", 1),
}


@pytest.mark.parametrize("where", STOPS)
def test_stopped_between_any_two_things_it_ends_the_same(tmp_path, where, whole, monkeypatch):
    target, count = STOPS[where]
    with stopped_at(monkeypatch, target, count):
        run(tmp_path / "run")
    done = run(tmp_path / "run", resume=True)
    assert weights_of(done.model) == weights_of(whole.model)
    assert timeless(done.result) == timeless(whole.result)
    before = (tmp_path / "run" / "before.safetensors").read_bytes()
    assert before == (whole.path / "before.safetensors").read_bytes()


def test_a_finished_run_is_read_and_not_run_again(tmp_path):
    first = run(tmp_path / "run")

    class Untouched(Points):
        def loss(self, model, batch):
            raise AssertionError

    again = run(tmp_path / "run", resume=True, task=Untouched())
    assert weights_of(again.model) == weights_of(first.model)
    assert again.result == first.result
    with pytest.raises(RunFolderError, match="already holds a run"):
        run(tmp_path / "run")


def test_a_plan_made_from_the_weights_is_made_once(tmp_path):
    """After pretraining, and never again: the plan in the folder counts from then on."""
    seen = []

    def planned(model):
        seen.append(weights_of(model))
        return plan_for(model)

    class Stop(Points):
        steps = 0

        def loss(self, model, batch):
            Stop.steps += 1
            if Stop.steps == 30:
                raise StopHereError
            return super().loss(model, batch)

    with pytest.raises(StopHereError):
        run(tmp_path / "run", plan=planned, task=Stop())
    run(tmp_path / "run", plan=planned, resume=True)
    assert len(seen) == 1
    assert seen[0] != weights_of(network())


def test_a_nan_loss_is_in_the_result_and_the_checkpoint_before_it_is_kept(tmp_path):
    with pytest.raises(NonFiniteError, match="nan at step 14 of prune"):
        run(tmp_path / "run", pretrain=None, task=Points(poison=13))
    result = read_run(tmp_path / "run").result
    assert result.outcome == "non_finite"
    assert "lower learning rate" in result.sentence
    assert result.dense is not None
    saved = load_tree(tmp_path / "run" / "checkpoint.safetensors")
    assert saved["progress"]["epoch"] == 1
    done = run(tmp_path / "run", pretrain=None, resume=True)  # without the poison it goes on
    assert done.result.outcome != "non_finite"


def test_the_probe_is_one_batch_in_eval_mode_that_leaves_the_model_as_it_was():
    model, task = network(), Points()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probe = probe_of(model, task)
    first = probe()
    assert probe() == first  # dropout and BatchNorm would make it move
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        assert first == pytest.approx(float(task.loss(model, next(iter(task.batches(0))))))


def test_a_probed_run_asks_its_condition_of_the_probe(tmp_path, monkeypatch):
    monkeypatch.setattr("espalier.runs._run.probe_of", lambda model, task: lambda: 7.0)
    done = run(tmp_path / "run", solver=esp.Constrained(solver=esp.SLR(), cadence=5), probe=True)
    losses = {e["loss"] for e in read_run(done.path).events if e["event"] == "update"}
    assert losses == {7.0}
