"""Latency by a clock that the test turns: who runs when, what is divided by what, what is refused."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from espalier.errors import RequestError
from espalier.measure._latency import Latency, LatencyTable, Spread, latency


@pytest.fixture
def track():
    """``track.model(name, seconds)``: takes that long by ``track.clock`` and is noted in ``track.ran``."""
    now, ran = [0.0], []

    def model(name, seconds):
        def prepare(inputs, threads):
            def call():
                ran.append((name, len(inputs), threads))
                now[0] += seconds() if callable(seconds) else seconds

            return call

        return prepare

    return SimpleNamespace(clock=lambda: now[0], ran=ran, model=model)


def test_every_model_has_one_turn_in_every_round(track):
    models = {
        "a": {"dense": track.model("a dense", 1.0), "compact": track.model("a compact", 1.0)},
        "b": {"dense": track.model("b dense", 1.0), "compact": track.model("b compact", 1.0)},
    }
    latency(models, torch.zeros(1, 2), batches=[3], threads=[1], rounds=4, clock=track.clock)
    names = [name for name, _, _ in track.ran]
    last = [names[-32:][at : at + 2] for at in range(0, 32, 2)]
    assert all(one == other for one, other in last)  # one call that is not timed, one that is
    rounds = [[name for name, _ in last[at : at + 4]] for at in range(0, 16, 4)]
    everyone = ["a compact", "a dense", "b compact", "b dense"]
    assert [sorted(round_) for round_ in rounds] == [everyone] * 4
    assert len({tuple(round_) for round_ in rounds}) > 1  # not always after the same other one
    assert set(track.ran) == {(name, 3, 1) for name in names}


def test_ratios_are_taken_within_a_round_so_that_drift_cancels(track):
    drift = [1, 2, 4, 8, 16]  # of the machine, by round

    def taking(seconds):
        def now():
            turned = len(track.ran) - 1 - 4  # the first four calls are the warm-up
            return seconds * drift[max(0, turned) // 4]

        return now

    models = {"x": {"dense": track.model("dense", taking(3.0)),
                    "compact": track.model("compact", taking(1.5))}}  # fmt: skip
    table = latency(models, torch.zeros(1, 2), batches=[1], threads=[1], rounds=5, turn=0.0,
                    clock=track.clock)  # fmt: skip
    dense_row, compact_row = table.rows
    assert dense_row.speedup == Spread(low=1.0, median=1.0, high=1.0)
    assert compact_row.speedup == Spread(low=2.0, median=2.0, high=2.0)
    assert compact_row.seconds == Spread(low=3.0, median=6.0, high=12.0)  # 1.5 × (1, 2, 4, 8, 16)


def test_a_short_call_is_repeated_until_its_turn_is_long_enough(track):
    models = {"x": {"dense": track.model("dense", 0.25), "long": track.model("long", 8.0)}}
    table = latency(models, torch.zeros(1, 2), batches=[1], threads=[1], rounds=2, turn=1.0,
                    clock=track.clock)  # fmt: skip
    names = [name for name, _, _ in track.ran]
    assert names[-14:].count("dense") == 2 * 5  # the first of each turn is not timed
    assert names[-14:].count("long") == 2 * 2
    assert [row.seconds.median for row in table.rows] == [0.25, 8.0]


def test_every_setting_has_its_rows_and_the_threads_are_put_back(track):
    before = torch.get_num_threads()
    table = latency({"x": {"dense": track.model("dense", 1.0)}}, torch.zeros(2, 2),
                    batches=(1, 5), threads=(1, 2, 1), rounds=2, clock=track.clock)  # fmt: skip
    assert [(r.batch, r.threads) for r in table.rows] == [(1, 1), (1, 2), (5, 1), (5, 2)]
    assert {ran[1:] for ran in track.ran} == {(1, 1), (1, 2), (5, 1), (5, 2)}
    assert torch.get_num_threads() == before


def test_a_module_runs_in_evaluation_mode_and_is_left_as_it_was():
    seen = set()

    class Watched(nn.Module):
        def forward(self, x):
            seen.add((self.training, torch.is_grad_enabled()))
            return x

    model = Watched().train()
    latency(
        {"eager": {"dense": model}}, torch.zeros(1, 2), batches=[1], threads=[1], rounds=2, turn=0
    )
    assert seen == {(False, False)}
    assert model.training


@pytest.mark.parametrize(
    "wrong",
    [{"batches": [0]}, {"batches": []}, {"threads": [0]}, {"threads": []}, {"rounds": 1},
     {"models": {}}, {"models": {"eager": {}}}, {"example": torch.zeros(0, 2)}],
)  # fmt: skip
def test_nonsense_is_refused_before_anything_runs(wrong, track):
    asked = {
        "models": {"x": {"dense": track.model("dense", 1.0)}},
        "example": torch.zeros(1, 2),
        **wrong,
    }
    with pytest.raises(RequestError):
        latency(asked.pop("models"), asked.pop("example"), clock=track.clock, **asked)
    assert track.ran == []


def test_the_sentence_sets_the_ratio_of_arithmetic_against_the_measured():
    def row(model, speedup):
        flat = Spread(low=speedup, median=speedup, high=speedup)
        return Latency(runtime="x", model=model, batch=1, threads=1, seconds=flat, speedup=flat)

    table = LatencyTable(rounds=2, rows=(row("dense", 1.0), row("masked", 1.0), row("compact", 2.0),
                                         row("dense", 1.0), row("masked", 1.1), row("compact", 3.0)))  # fmt: skip
    masked, compact = table.roofline({"dense": 400, "masked": 400, "compact": 100})
    assert "as many multiply-accumulates as dense" in masked
    assert "1.00 to 1.10× as fast" in masked
    assert "4.00× fewer multiply-accumulates than dense and runs 2.00 to 3.00× as fast" in compact
    assert "50% to 75% of the ratio" in compact
