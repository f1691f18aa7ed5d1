"""Loggers of others get the numbers of events, under names that say whose, at steps that only rise."""

import pytest

import espalier as esp
from espalier import data, integrations, models, tasks, training
from espalier.errors import RequestError

EPOCH = {
    "event": "epoch",
    "step": 30,
    "epoch": 1,
    "loss": 0.5,
    "metrics": {"accuracy": 0.9},
    "hard_pruned": None,
}
UPDATE = {
    "event": "update", "step": 20, "k": 1, "slack": 0.5, "rho": 0.1, "s": 0.01, "loss": None,
    "condition_3": None, "condition_8": True,
    "layers": {"fc": {"weight": 2.0, "violation": 0.5, "z_change": 0.0, "multiplier_change": 0.0}},
}  # fmt: skip


class Run:
    """As a run of Weights & Biases."""

    def __init__(self):
        self.lines = []

    def log(self, figures, step=None):
        self.lines.append((step, figures))


class Module:
    """As mlflow, and as Lightning's loggers."""

    def __init__(self):
        self.lines = []

    def log_metrics(self, metrics, step=None):
        self.lines.append((step, metrics))


@pytest.mark.parametrize("kind", [Run, Module])
def test_a_logger_of_either_protocol_gets_the_numbers(kind):
    logger = kind()
    tell = integrations.to_logger(logger)
    for event in (UPDATE, EPOCH, {"event": "phase", "phase": ""}, {"event": "step", "step": 31}):
        tell(event)
    (first, update), (last, epoch) = logger.lines
    assert (first, last) == (20, 30)
    assert epoch == {"loss": 0.5, "metrics/accuracy": 0.9}
    assert update == {
        "update/slack": 0.5, "update/rho": 0.1, "update/s": 0.01, "update/condition_8": 1.0,
        "update/violation": 0.25, "update/violation/fc": 0.25,
    }  # fmt: skip


def test_steps_are_counted_on_through_the_phases():
    run = Run()
    tell = integrations.to_logger(run.log)
    for phase in ("pretrain", "prune"):
        tell({"event": "phase", "phase": phase, "steps": 30})
        tell({**EPOCH, "phase": phase})
    assert [step for step, _ in run.lines] == [30, 60]
    assert [min(figures) for _, figures in run.lines] == ["pretrain/loss", "prune/loss"]


def test_what_is_no_logger_is_refused():
    with pytest.raises(RequestError, match=r"give an object with log\(dict, step\)"):
        integrations.to_logger(3)


def test_tensorboard_reads_what_a_training_said(tmp_path):
    pytest.importorskip("sklearn")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    digits = data.load("digits")
    task = tasks.Classification(
        digits.train, digits.test, batch_size=32, seed=0, limit_train=160, limit_test=50
    )
    model = models.build("lenet300")
    rule = training.Training(epochs=2)
    optimizer = training.build_optimizer(model.parameters(), rule)
    plan = esp.plan(model, density=0.1)
    pruning = esp.Pruning(model, plan, esp.SLR(), optimizer, 10, cadence=2, advise=False)
    tell = integrations.to_tensorboard(tmp_path)
    esp.fit(model, task, pruning, epochs=2, on_event=tell)
    written = events.EventAccumulator(str(tmp_path))
    written.Reload()
    tags = written.Tags()["scalars"]
    assert {"prune/loss", "prune/metrics/accuracy", "prune/update/violation"} <= set(tags)
    assert [point.step for point in written.Scalars("prune/loss")] == [5, 10]
    told = [point.value for point in written.Scalars("prune/update/violation")]
    assert told == pytest.approx([update.violation for update in pruning.updates])


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    for module in ("espalier.integrations", "espalier.integrations._logging"):
        monkeypatch.setattr(f"{module}.find_spec", lambda name: None)
    for name in ("TrainerPruning", "LightningPruning"):
        monkeypatch.delitem(vars(integrations), name, raising=False)
    with pytest.raises(RequestError, match=r"needs transformers; pip install 'espalier\[hf\]'"):
        _ = integrations.TrainerPruning
    with pytest.raises(RequestError, match=r"needs lightning; pip install 'espalier\[lightning\]'"):
        _ = integrations.LightningPruning
    with pytest.raises(RequestError, match=r"pip install 'espalier\[track\]'"):
        integrations.to_tensorboard("runs")
