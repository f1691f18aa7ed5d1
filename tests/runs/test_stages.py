"""Lists of stages: which are refused, with what each begins, which are left out, what they hold."""

from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import espalier as esp
from espalier._ground.tree import load_tree
from espalier.errors import RequestError
from espalier.methods import DualAveraging, GradualFreezing, KeepZeros, Method
from espalier.runs import (
    Continue,
    Freeze,
    Load,
    OnLevelsOf,
    Planned,
    Quantise,
    Redraw,
    Rewind,
    RunOptions,
    Stage,
    check_stages,
    read_run,
    run_stages,
    standard_stages,
)
from espalier.training import Training
from training.problem import Points, network, plan_for, prune_run, stopped_at, timeless, weights_of

ONE = Training(epochs=1, lr=0.01)
SLR = esp.Constrained(solver=esp.SLR(), cadence=3, settle=None)


def plain(name="train", **changes):
    return Stage(name=name, training=ONE, **changes)


def pruned(name="prune", **changes):
    given = {"method": SLR, "aim": Planned(plan_for), "cut": True, "figure": "hard_pruned"}
    return Stage(name=name, training=ONE, **{**given, **changes})


def run(folder, stages, model=None, resume=False, **options):
    torch.manual_seed(0)
    options = RunOptions(checkpoint_every=5, **options)
    return run_stages(model or network(), Points(), stages, folder, resume=resume, options=options)


REFUSED = {
    "none": ([], "at least one stage"),
    "two of one name": ([plain(), plain()], "two stages are called 'train'"),
    "a method without a plan": ([plain(method=SLR)], "'train': nothing says what the weights may"),
    "a cut without a plan": ([plain(cut=True)], "'train': nothing says what the weights may be"),
    "a plan that comes too late": ([plain(cut=True), pruned()], "nothing says what the weights"),
    "to none before": ([plain(start=Rewind("warm", 3))], "which is no stage before it (none)"),
    "to itself": ([plain(), plain("b", start=Rewind("b"))], "no stage before it (train)"),
    "to a later one": ([plain(start=Rewind("b")), plain("b")], "rewinds to 'b', which is no stage"),
    "to a step too far": (
        [plain(), plain("b", start=Rewind("train", 9))],
        "stage 'b' rewinds to step 9 of 'train', which trains 8 steps; give a step from 0 to 8",
    ),
    "to a step before the first": (
        [plain(), plain("b", start=Rewind("train", -1))],
        "to step -1 of",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_list_that_cannot_be_run_is_refused_before_anything_is_written(tmp_path, what):
    stages, message = REFUSED[what]
    with pytest.raises(RequestError) as refused:
        run(tmp_path / "run", stages)
    assert message in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_the_last_step_of_a_stage_can_be_rewound_to():
    check_stages([plain(), plain("b", start=Rewind("train", 8))], steps_per_epoch=8)
    check_stages([plain(), plain("b", start=Rewind("train", 9))])  # nobody has said how many


@dataclass(frozen=True, kw_only=True)
class Seen(Method):
    """Keeps zeros, and remembers the weights and masks that it was given."""

    name = "seen"
    title = "Seen"
    sentence = "Looks"
    states: list

    def attach(self, model, constraint, setting):
        state = {name: value.clone() for name, value in model.state_dict().items()}
        self.states.append((state, dict(setting.held)))
        return KeepZeros().attach(model, constraint, setting)


def starting(tmp_path, start):
    seen = Seen(states=[])
    stages = [plain("warm"), pruned(), plain("after", method=seen, start=start)]
    done = run(tmp_path / "run", stages)
    ((state, held),) = seen.states
    return done, state, held


@pytest.mark.parametrize("kind", ["continue", "rewind", "rewind to the start", "load", "redraw"])
def test_what_is_held_is_zero_whatever_weights_a_stage_begins_with(tmp_path, kind):
    other = network()
    torch.manual_seed(5)
    other[0].reset_parameters()
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    start = {
        "continue": Continue(), "rewind": Rewind("warm", 3), "rewind to the start": Rewind("prune"),
        "load": Load(tmp_path / "other.safetensors"), "redraw": Redraw(3),
    }[kind]  # fmt: skip
    done, state, held = starting(tmp_path, start)
    assert set(held) == set(done.plan.names)
    given = {
        "rewind": "run/warm-step3.safetensors", "load": "other.safetensors",
        "rewind to the start": "run/before.safetensors",
    }  # fmt: skip
    for name, mask in held.items():
        assert 0 < int(mask.sum()) < mask.numel()
        assert not state[name][~mask].any()
        assert bool(state[name][mask].all())
    if kind in given:
        expected = load_file(tmp_path / given[kind])
        for name, value in state.items():
            assert torch.equal(value, expected[name] * held.get(name, 1))


def test_levels_after_a_rewind_are_those_of_the_pruned_weights(tmp_path):
    quantise = Stage(
        name="quantise", training=ONE, method=SLR, aim=OnLevelsOf(2), start=Rewind("warm", 3),
        cut=True, figure="quantised",
    )  # fmt: skip
    done = run(tmp_path / "run", [plain("warm"), pruned(), quantise])
    assert done.plan.contains(dict(done.model.named_parameters()))
    assert set(done.result.quantisation.bits.values()) == {2}


def test_newly_drawn_weights_are_those_of_the_seed_and_leave_the_random_state(tmp_path):
    _, state, held = starting(tmp_path, Redraw(3))
    torch.manual_seed(3)
    expected = nn.Linear(6, 16)
    assert torch.equal(state["0.weight"], expected.weight * held["0.weight"])
    assert torch.equal(state["0.bias"], expected.bias)
    assert not state["1.running_mean"].any()


def test_a_layer_that_cannot_be_drawn_anew_is_refused(tmp_path):
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return x * self.scale

    model = nn.Sequential(*network(), Scale())
    with pytest.raises(RequestError, match=r"5\.scale: Scale has no reset_parameters\(\)"):
        run(tmp_path / "run", [pruned(), plain("b", start=Redraw(1))], model)


def test_a_bare_solver_is_constrained_training_with_its_defaults():
    planned = Planned(plan_for)
    given = standard_stages(planned, esp.OneShot(), prune=ONE)
    assert given == standard_stages(planned, esp.Constrained(solver=esp.OneShot()), prune=ONE)


# -- goals ----------------------------------------------------------------------------------------


def quantising(goal=None):
    how = Quantise(
        bits=2, method=SLR, training=ONE,
        freeze=Freeze(training=ONE, method=GradualFreezing(rounds=3)),
    )  # fmt: skip
    return standard_stages(Planned(plan_for), SLR, prune=ONE, retrain=ONE, quantise=how, goal=goal)


def test_a_stage_whose_goal_is_met_is_left_out_unless_it_says_what_the_weights_may_be(tmp_path):
    towards = Stage(name="towards", training=ONE, method=SLR, aim=OnLevelsOf(2), goal=0.01)
    last = Stage(
        name="freeze", training=ONE, method=GradualFreezing(), cut=True, goal=0.01,
        figure="quantised",
    )  # fmt: skip
    again = plain("again", goal=0.01, method=KeepZeros())
    done = run(tmp_path / "run", [pruned(), again, towards, last])
    assert list(done.result.epochs) == ["prune", "towards", "freeze"]
    assert done.result.quantised is not None


def test_a_stage_that_trains_for_a_goal_not_yet_met_stops_when_it_is(tmp_path):
    long = Training(epochs=4, lr=0.01)
    done = run(tmp_path / "a", [pruned(), Stage(name="on", training=long, method=KeepZeros())])
    figures = [e["metrics"]["accuracy"] for e in _epochs(done, "on")]
    best = max(figures)
    again = run(
        tmp_path / "b",
        [pruned(), Stage(name="on", training=long, method=KeepZeros(), goal=best)],
    )
    stopped = again.result.stages[1] if len(again.result.stages) > 1 else None
    if again.result.hard_pruned_bn["accuracy"] >= best:
        assert stopped is None
    else:
        assert (stopped.stopped, stopped.epochs) == ("goal", figures.index(best) + 1)


def _epochs(done, phase):
    events = esp.runs.read_run(done.path).events
    return [e for e in events if e["event"] == "epoch" and e["phase"] == phase]


# -- stopped and resumed --------------------------------------------------------------------------

SKIPPED = [  # the goal is met: prune, quantise and freeze are left
    *(("espalier.training._loop.Saver.save", n) for n in (2, 3, 4, 5, 6, 7, 8, 9)),
    *(("espalier.runs._run.start_", n) for n in (1, 2, 3)),
    *(("espalier.runs._run.evaluate_cut", n) for n in (1, 2)),
    *(("espalier.runs.RunFolder.write_weights", n) for n in (1, 2)),
    *(("espalier.runs.OnLevelsOf.decide", n) for n in (1,)),
    *(("espalier.methods.Freezing.__init__", n) for n in (1,)),
    *(("espalier.methods.Freezing.hard_prune_", n) for n in (1,)),
    *(("espalier.runs._state.read_bits", n) for n in (1,)),
    ("espalier.runs._run.result_of", 1),
]


@pytest.fixture(scope="module", params=[0.01, None], ids=["goal met", "no goal"])
def whole(request, tmp_path_factory):
    stages = quantising(request.param)
    return stages, run(tmp_path_factory.mktemp("whole") / "run", stages)


@pytest.mark.parametrize(("target", "count"), SKIPPED)
def test_stopped_anywhere_with_a_stage_left_out_or_not_it_ends_the_same(
    tmp_path, whole, monkeypatch, target, count
):
    stages, straight = whole
    with stopped_at(monkeypatch, target, count):
        run(tmp_path / "run", stages)
    done = run(tmp_path / "run", stages, resume=True)
    assert weights_of(done.model) == weights_of(straight.model)
    assert timeless(done.result) == timeless(straight.result)
    for file in ("before.safetensors", "pruned.safetensors", "quantisation.json", "plan.yaml"):
        assert (done.path / file).read_bytes() == (straight.path / file).read_bytes()


def test_with_the_goal_met_retraining_alone_is_left_out(whole):
    stages, done = whole
    names = ["prune", "quantise", "freeze"] if stages[0].goal else [s.name for s in stages]
    assert list(done.result.epochs) == names
    assert (done.result.retrained is None) == ("retrain" not in names)


# -- what is held, and what is kept ---------------------------------------------------------------


def test_checkpoints_carry_the_held_masks_a_byte_a_weight(tmp_path):
    done = run(tmp_path / "run", [pruned(), plain("retrain", method=KeepZeros())])
    held = load_tree(done.path / "checkpoint.safetensors")["notes"]["state"]["held"]
    for name in done.plan.names:
        assert held[name].dtype == torch.bool
        assert torch.equal(held[name], done.model.get_parameter(name) != 0)
    assert set(held) == set(done.plan.names)


def test_zeros_that_a_plan_implies_in_other_parameters_stay_to_the_end(tmp_path):
    """A channel that goes takes its bias and its BatchNorm along; no later stage brings them back."""

    def planned(model):
        return esp.plan(
            model, density=0.5, set=esp.sets.Filters(), example_input=Points().example_input
        )

    how = Quantise(
        bits=3, method=SLR, training=ONE,
        freeze=Freeze(training=ONE, method=GradualFreezing(rounds=2)),
    )  # fmt: skip
    stages = standard_stages(Planned(planned), SLR, prune=ONE, retrain=ONE, quantise=how)
    done = run(tmp_path / "run", [*stages, plain("on", figure="retrained")])
    channels = done.model.get_parameter("0.weight").abs().sum(1) != 0
    assert 0 < int(channels.sum()) < 16
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(done.model.get_parameter(name) != 0, channels), name


def test_a_stage_that_retrains_and_cuts_again_gives_one_figure(tmp_path):
    again = Stage(name="again", training=ONE, method=KeepZeros(), cut=True, figure="retrained")
    done = run(tmp_path / "run", [pruned(), again])
    assert done.result.retrained == Points().evaluate(done.model)


def test_hooks_of_a_stage_that_does_not_cut_are_gone_when_it_ends(tmp_path):
    method = esp.Constrained(
        solver=esp.SLR(), cadence=3, settle=None, metric=esp.metrics.Activations()
    )
    model = network()
    run(
        tmp_path / "run", [pruned(cut=False, method=method), plain("on", method=KeepZeros())], model
    )
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_after_levels_a_later_stage_holds_the_zeros_and_moves_the_rest(tmp_path):
    stages = quantising()
    quantised = run(tmp_path / "a", stages).model
    done = run(tmp_path / "b", [*stages, plain("on", method=KeepZeros())])
    for name in done.plan.names:
        before, after = (m.get_parameter(name).detach() for m in (quantised, done.model))
        assert torch.equal(before != 0, after != 0)
        assert not torch.equal(before, after)


def test_no_schedule_moves_an_optimiser_that_takes_none(tmp_path):
    def rates(method):
        torch.manual_seed(0)
        done = prune_run(
            network(), Points(), plan_for, method, folder=tmp_path / method.name,
            prune=Training(epochs=3, lr=0.01, schedule="cosine"),
        )  # fmt: skip
        return {e["lr"] for e in read_run(done.path).events if e["event"] == "epoch"}

    assert len(rates(esp.Constrained(solver=esp.SLR(), cadence=5))) == 3
    assert len(rates(DualAveraging(l1=1e-3, gamma=10.0, start=50))) == 1


def test_what_a_cut_of_another_density_left_is_what_later_stages_keep(tmp_path):
    torch.manual_seed(0)
    done = prune_run(
        network(), Points(), plan_for, DualAveraging(l1=1e-4, gamma=10.0, start=50),
        folder=tmp_path / "run", prune=Training(epochs=2, lr=0.01), retrain=Training(epochs=2, lr=0.01),
    )  # fmt: skip
    cut, kept = (stage.nonzero for stage in done.result.stages)
    assert cut == kept
    assert kept > sum(entry.keep for entry in done.plan.entries.values())  # the plan was not asked
