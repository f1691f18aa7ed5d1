"""A bar on a terminal, plain lines elsewhere."""

import io

from rich.console import Console

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
