"""Iterative magnitude pruning with rewinding: every round starts from the early weights, to the bit."""

from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from espalier.runs import LotteryTicket, read_run
from espalier.training import Training
from training.problem import Points, network, plan_for, prune_run, stopped_at, timeless, weights_of

STAGES = ["round-1", "round-2", "round-3", "prune"]
TRAINING = Training(epochs=2, lr=0.05, optimizer="sgd", momentum=0.9, weight_decay=1e-3)


def run(folder, task=None, resume=False, rewind=4, redraw=False, begun=None, **changes):
    """``begun`` gets the model's state as each stage begins."""
    torch.manual_seed(0)
    model = network()

    def look(event):
        if event["event"] == "phase" and begun is not None:
            begun[event["phase"]] = {k: v.clone() for k, v in model.state_dict().items()}

    method = LotteryTicket(rounds=3, rewind=rewind, redraw=redraw)
    return prune_run(
        model, task or Points(), plan_for, method, folder=folder, resume=resume, on_event=look,
        checkpoint_every=5, **{"prune": TRAINING, **changes},
    )  # fmt: skip


@pytest.fixture(scope="module")
def begun():
    return {}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, begun):
    return run(tmp_path_factory.mktemp("whole") / "run", begun=begun)


def test_the_weights_after_the_step_to_rewind_to_are_kept(tmp_path):
    class Watching(Points):
        early = None

        def loss(self, model, batch):
            if batch[2] == 4 and self.early is None:  # four steps are done
                self.early = weights_of(model)
            return super().loss(model, batch)

    task = Watching()
    done = run(tmp_path / "run", task=task)
    kept = load_file(done.path / "round-1-step4.safetensors")
    assert {name: tensor.numpy().tobytes() for name, tensor in kept.items()} == task.early


def test_the_survivors_of_every_round_start_from_the_early_weights_to_the_bit(whole, begun):
    early = load_file(whole.path / "round-1-step4.safetensors")
    assert list(begun) == STAGES
    for stage in STAGES[1:]:
        for name, value in begun[stage].items():
            kept = value != 0 if name in whole.plan.names else torch.ones_like(value, dtype=bool)
            assert torch.equal(value[kept], early[name][kept]), (stage, name)
            assert torch.signbit(value[~kept]).sum() == 0
    assert not torch.equal(begun["round-1"]["0.weight"], early["0.weight"])


def test_batchnorm_starts_from_the_early_statistics(whole, begun):
    early = load_file(whole.path / "round-1-step4.safetensors")
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert all(torch.equal(begun[stage][name], early[name]) for stage in STAGES[1:])
    assert int(early["1.num_batches_tracked"]) == 4


def test_after_round_j_of_n_the_density_is_d_to_the_j_over_n(whole, begun):
    total = sum(begun["prune"][name].numel() for name in whole.plan.names)
    masks = [{n: begun[stage][n] != 0 for n in whole.plan.names} for stage in STAGES[1:]]
    for j, mask in enumerate(masks, 1):
        count = sum(int(m.sum()) for m in mask.values())
        assert abs(count - total * 0.25 ** (j / 3)) <= len(mask)  # rounded once a tensor
        assert whole.result.stages[j - 1].nonzero == count
    for wide, narrow in pairwise(masks):
        assert all(bool((narrow[n] <= wide[n]).all()) for n in wide)  # nothing comes back


def test_the_ticket_is_on_the_plan_and_the_result_says_what_it_cost(whole):
    assert whole.plan.contains(dict(whole.model.named_parameters()))
    result = whole.result
    assert (result.outcome, result.method) == ("forced", "Lottery ticket")
    assert [stage.name for stage in result.pruning] == STAGES
    assert result.pruning_epochs == 4 * TRAINING.epochs
    assert result.hard_pruned == Points().evaluate(whole.model)
    assert len({stage.cut["loss"] for stage in result.stages}) == 4


def test_redrawn_it_has_the_same_masks_and_other_weights(tmp_path, whole, begun):
    again = {}
    done = run(tmp_path / "run", redraw=True, begun=again)
    for name in whole.plan.names:
        ticket, drawn = begun["prune"][name], again["prune"][name]
        assert torch.equal(ticket != 0, drawn != 0)
        assert not bool((ticket == drawn)[ticket != 0].any())
    assert int(again["prune"]["1.num_batches_tracked"]) == 0
    assert done.result.stages[:3] == _but_for_the_clock(whole.result.stages[:3], done)
    assert done.plan.contains(dict(done.model.named_parameters()))


def _but_for_the_clock(stages, done):
    pairs = zip(stages, done.result.stages, strict=False)
    clock = ("seconds", "step_seconds")
    return [a.model_copy(update={k: getattr(b, k) for k in clock}) for a, b in pairs]


def test_rewinding_to_the_start_goes_back_to_the_weights_before_training(tmp_path):
    begun = {}
    done = run(tmp_path / "run", rewind=0, begun=begun)
    before = load_file(done.path / "before.safetensors")
    kept = load_file(done.path / "round-1-step0.safetensors")
    assert all(torch.equal(before[name], kept[name]) for name in before)
    weight = begun["prune"]["0.weight"]
    assert torch.equal(weight[weight != 0], before["0.weight"][weight != 0])


STOPS = [
    *(("espalier.training._loop.Saver.save", n) for n in (1, 2, 4, 5, 7, 10, 13, 16, 18, 20)),
    *(("espalier.runs.RunFolder.write_weights", n) for n in (1, 2, 3)),
    *(("espalier.runs.Round.decide", n) for n in (1, 2, 3)),
    *(("espalier.planning.Plan.save", n) for n in (1,)),
    *(("espalier.runs._run.start_", n) for n in (1, 2, 3, 4)),
    *(("espalier.runs._run.evaluate_cut", n) for n in (1, 2, 3, 4)),
    *(("espalier.runs._run.reestimate_", n) for n in (1, 2, 3)),
    *(("espalier.methods.Keeping.hard_prune_", n) for n in (1, 3, 4)),
    ("espalier.runs._run.result_of", 1),
]


def stopped(folder, target, count, monkeypatch, **settings):
    with stopped_at(monkeypatch, target, count):
        run(folder, **settings)


@pytest.mark.parametrize(("target", "count"), STOPS)
def test_stopped_in_any_round_or_between_two_it_ends_the_same(
    tmp_path, whole, monkeypatch, target, count
):
    stopped(tmp_path / "run", target, count, monkeypatch)
    done = run(tmp_path / "run", resume=True)
    assert weights_of(done.model) == weights_of(whole.model)
    assert timeless(done.result) == timeless(whole.result)
    for name in ("before", "round-1-step4"):
        file = f"{name}.safetensors"
        assert (done.path / file).read_bytes() == (whole.path / file).read_bytes()


@pytest.mark.parametrize("settings", [{"rewind": 0}, {"redraw": True}])
def test_stopped_before_any_file_is_written_or_in_the_last_training_it_ends_the_same(
    tmp_path, monkeypatch, settings
):
    straight = run(tmp_path / "straight", **settings)
    stops = [("espalier.runs.RunFolder.write_weights", n) for n in (1, 2)]
    stops += [("espalier.training._loop.Saver.save", n) for n in (1, 2, 17, 19)]
    for number, (target, count) in enumerate(stops):
        stopped(tmp_path / f"{number}", target, count, monkeypatch, **settings)
        done = run(tmp_path / f"{number}", resume=True, **settings)
        assert weights_of(done.model) == weights_of(straight.model)
        assert timeless(done.result) == timeless(straight.result)


def test_a_ticket_is_retrained_and_stops_at_its_goal_like_any_other_run(tmp_path):
    done = run(tmp_path / "run", goal=0.1, retrain=Training(epochs=1), pretrain=Training(epochs=1))
    names = ["pretrain", "round-1", "round-2", "round-3", "prune"]
    assert [stage.name for stage in done.result.stages] == names
    assert [stage.stopped for stage in done.result.stages] == ["epochs"] * 4 + ["goal"]
    assert done.result.pruning_epochs == 3 * 2 + 1
    assert read_run(done.path).result == done.result
