"""A bar on a terminal, plain lines elsewhere."""

import io

import pytest
from rich.console import Console

from espalier.tasks import Goal
from espalier.training import fit, show_progress
from training.problem import Points, network, optimizer_for


def shown(terminal):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100)
    model = network()
    with show_progress(console) as on_event:
        optimizer = optimizer_for(model, "adam")
        fit(model, Points(), optimizer=optimizer, epochs=2, phase="pretrain", on_event=on_event)
        on_event({"event": "resumed", "phase": "prune", "step": 12, "epochs": 4, "steps": 32,
                  "remark": "going on from [previous]"})  # fmt: skip
        on_event({"event": "update", "step": 14})
        on_event({"event": "step", "phase": "prune", "step": 15})
    return file.getvalue()


def test_elsewhere_there_are_plain_lines():
    lines = shown(terminal=False).splitlines()
    assert lines[0] == "pretrain: 2 epochs, 16 steps"
    assert lines[1].startswith("pretrain 1/2: loss 0.")
    assert "accuracy" in lines[1]
    assert lines[2].startswith("pretrain 2/2: loss ")
    assert lines[3:] == ["prune: resumed at step 12 of 32", "going on from [previous]"]


def test_on_a_terminal_there_is_a_bar_too():
    text = shown(terminal=True)
    assert "━" in text
    assert "15/32" in text
    assert "\x1b[" in text


@pytest.mark.parametrize(
    ("goal", "told"),
    [
        (Goal(name="perplexity", unit="", higher_is_better=False),
         "perplexity 8.25, if cut now 9.5, with BatchNorm re-estimated 9"),
        (Goal(name="accuracy"),
         "accuracy 50.00 %, if cut now 25.00 %, with BatchNorm re-estimated 30.00 %"),
        (Goal(name="wrong", unit="errors", higher_is_better=False),
         "wrong 12,345 errors, if cut now 400 errors, with BatchNorm re-estimated 300 errors"),
    ],
)  # fmt: skip
def test_epochs_show_the_goal_in_its_unit(goal, told):
    file = io.StringIO()
    figures = ({"perplexity": 8.25, "accuracy": 0.5, "wrong": 12345},
               {"perplexity": 9.5, "accuracy": 0.25, "wrong": 400},
               {"perplexity": 9.0, "accuracy": 0.3, "wrong": 300})  # fmt: skip
    with show_progress(Console(file=file, width=200), goal=goal) as on_event:
        on_event({"event": "phase", "phase": "prune", "epochs": 8, "steps": 80})
        on_event({"event": "epoch", "phase": "prune", "epoch": 3, "step": 30, "loss": 0.0213,
                  "seconds": 9.14, "metrics": figures[0], "hard_pruned": figures[1],
                  "hard_pruned_bn": figures[2]})  # fmt: skip
    assert file.getvalue().splitlines()[-1] == f"prune 3/8: loss 0.0213, {told}, 9.1 s"
