"""The loop trains as one would write it by hand, says what happens, and stops when it should."""

import pytest
import torch
from torch import nn

import espalier as esp
from espalier.runs import RunFolder
from espalier.training import CALIBRATION_BATCHES, fit, reestimate_
from training.problem import (
    Points,
    network,
    optimizer_for,
    plan_for,
    pruned_fit,
    scheduler_for,
    weights_of,
)


def test_dense_training_is_the_loop_written_by_hand():
    by_hand, task = network(), Points()
    optimizer = optimizer_for(by_hand, "momentum")
    scheduler = scheduler_for(optimizer, "cosine", 24)
    for epoch in range(3):
        for batch in task.batches(epoch):
            optimizer.zero_grad()
            task.loss(by_hand, batch).backward()
            optimizer.step()
            scheduler.step()
    model = network()
    optimizer = optimizer_for(model, "momentum")
    scheduler = scheduler_for(optimizer, "cosine", 24)
    result = fit(model, task, optimizer=optimizer, scheduler=scheduler, epochs=3, phase="pretrain")
    assert weights_of(model) == weights_of(by_hand)
    assert result.hard_pruned is None
    assert result.metrics == task.evaluate(model)
    assert (result.epochs, result.steps, result.stopped) == (3, 24, "epochs")


def test_pruning_is_the_loop_of_the_readme():
    by_hand, task = network(), Points()
    optimizer = optimizer_for(by_hand, "adam")
    solver = esp.Constrained(solver=esp.SLR(), cadence=5, settle=None)
    pruning = esp.Pruning(by_hand, plan_for(by_hand), solver, optimizer, steps=32)
    for epoch in range(4):
        for batch in task.batches(epoch):
            loss = task.loss(by_hand, batch)
            loss.backward()
            pruning.add_gradients_()
            optimizer.step()
            optimizer.zero_grad()
            pruning.step(loss)
    assert weights_of(pruned_fit()[0]) == weights_of(by_hand)


def test_masked_retraining_holds_every_zero():
    model, pruning, _ = pruned_fit()
    pruning.hard_prune_()
    masks = {name: mask.clone() for name, mask in pruning.masks.items()}
    optimizer = optimizer_for(model, "adamw")
    before = weights_of(model)
    result = fit(model, Points(), pruning, optimizer=optimizer, epochs=2, phase="retrain")
    assert weights_of(model) != before
    for name, mask in masks.items():
        assert (model.get_parameter(name)[~mask] == 0).all()
    assert result.hard_pruned == result.metrics


def test_events_are_those_of_the_design(tmp_path):
    heard = []
    with RunFolder(tmp_path) as run:
        _, pruning, result = pruned_fit(run=run, on_event=heard.append)
        events = run.events()
    assert events == [event for event in heard if event["event"] != "step"]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "phase"
    assert (kinds.count("epoch"), kinds.count("update")) == (4, len(pruning.updates))
    phase, update = events[0], events[kinds.index("update")]
    assert phase == {
        "event": "phase", "phase": "prune", "epochs": 4, "steps": 32, "time": phase["time"]
    }  # fmt: skip
    assert set(update) >= {"step", "k", "slack", "rho", "s", "loss", "layers", "condition_3"}
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [(event["epoch"], event["step"]) for event in epochs] == [
        (n, 8 * n) for n in (1, 2, 3, 4)
    ]
    assert set(epochs[0]) == {
        "event", "phase", "epoch", "step", "loss", "lr", "seconds", "metrics", "hard_pruned",
        "hard_pruned_bn", "time",
    }  # fmt: skip
    assert list(result.history) == epochs
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps():
    task, losses = Points(), []

    class Spy(Points):
        def loss(self, model, batch):
            loss = super().loss(model, batch)
            losses.append(loss.item())
            return loss

    model = network()
    result = fit(model, Spy(), optimizer=optimizer_for(model, "adam"), epochs=2)
    means = [sum(losses[8 * e : 8 * e + 8]) / 8 for e in range(2)]
    assert [event["loss"] for event in result.history] == pytest.approx(means, rel=1e-12)
    assert task.steps_per_epoch == 8


def test_evaluating_leaves_weights_statistics_and_training_untouched():
    often = pruned_fit(evaluate_every=1)
    seldom = pruned_fit(evaluate_every=100)
    assert weights_of(often[0]) == weights_of(seldom[0])
    assert [event["metrics"] is None for event in seldom[2].history] == [True] * 3 + [False]
    assert often[2].metrics == seldom[2].metrics


def test_what_is_reported_is_what_a_cut_gives():
    task = Points()
    model, pruning, result = pruned_fit(task)
    assert result.metrics == task.evaluate(model)
    assert result.hard_pruned != result.metrics
    pruning.hard_prune_()
    assert result.hard_pruned == task.evaluate(model)
    reestimate_(model, task.inputs("train", CALIBRATION_BATCHES))
    assert result.hard_pruned_bn == task.evaluate(model)
    assert result.hard_pruned_bn != result.hard_pruned


def test_without_batchnorm_there_is_no_second_figure():
    assert pruned_fit(model=network(batchnorm=False))[2].hard_pruned_bn is None


def test_training_stops_at_the_first_evaluation_that_meets_the_goal():
    figures = [e["hard_pruned_bn"]["accuracy"] for e in pruned_fit(epochs=8)[2].history]
    goal = sorted(figures)[4]
    first = next(n for n, figure in enumerate(figures) if figure >= goal)
    assert first < 7
    result = pruned_fit(epochs=8, goal=goal)[2]
    assert (result.epochs, result.stopped) == (first + 1, "goal")
    assert pruned_fit(epochs=8, goal=1.1)[2].stopped == "epochs"


def test_the_goal_looks_at_the_cut_model_and_not_at_the_dense_one():
    result = pruned_fit(epochs=8)[2]
    dense = [event["metrics"]["accuracy"] for event in result.history]
    cut = [event["hard_pruned_bn"]["accuracy"] for event in result.history]
    assert max(dense) > max(cut)
    assert pruned_fit(epochs=8, goal=max(dense))[2].stopped == "epochs"


def test_clipping_bounds_the_data_gradient_and_not_the_pull():
    norms = []

    class Spy(esp.Pruning):
        def add_gradients_(self):
            grads = [p.grad for p in self.model.parameters()]
            norms.append(torch.nn.utils.get_total_norm(grads).item())
            before = [g.clone() for g in grads]
            super().add_gradients_()
            added = [g - b for g, b in zip(grads, before, strict=True)]
            norms.append(torch.nn.utils.get_total_norm(added).item())

    model = network()
    optimizer = optimizer_for(model, "adam")
    pruning = Spy(
        model,
        plan_for(model),
        esp.Constrained(solver=esp.SLR(rho=10.0), cadence=5, settle=None),
        optimizer,
        steps=16,
    )
    fit(model, Points(), pruning, optimizer=optimizer, epochs=2, clip=1e-3)
    assert max(norms[::2]) <= 1e-3 * (1 + 1e-5)  # float32
    assert max(norms[1::2]) > 1e-2


def test_autocast_computes_in_bfloat16_and_keeps_float32_weights():
    seen = set()

    class Spy(Points):
        def loss(self, model, batch):
            x, y, _ = batch
            logits = model(x)
            seen.add(logits.dtype)
            return nn.functional.cross_entropy(logits.float(), y)

    model = network()
    fit(model, Spy(), optimizer=optimizer_for(model, "adam"), epochs=1, autocast=torch.bfloat16)
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_zero_epochs_change_nothing():
    model, _, result = pruned_fit(epochs=0)
    assert weights_of(model) == weights_of(network())
    assert (result.metrics, result.steps, result.history) == (None, 0, ())


def test_the_clock_counts_training_without_evaluation():
    import time

    class Slow(Points):
        def evaluate(self, model):
            time.sleep(0.2)
            return super().evaluate(model)

    result = pruned_fit(Slow(), epochs=2)[2]
    trained = sum(event["seconds"] for event in result.history)
    assert result.seconds >= trained + 1.2  # two evaluations of three figures each
    assert result.step_seconds * result.steps == pytest.approx(trained, abs=1e-3)
