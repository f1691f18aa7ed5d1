"""Any two data loaders make a task: batches, figures, order, refusals."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from espalier._ground.example import call
from espalier.errors import RequestError, RunError
from espalier.tasks import FromLoaders, Goal, SeededSampler, Task, seeded_loader
from tasks.problems import LongStream, Named, Numbered, Stream, Wrong

# Starting worker processes where another test has left a thread is what users do all the time.
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


def made(train=None, test=None, **options):
    train = seeded_loader(Numbered(), 4, seed=0) if train is None else train
    test = DataLoader(Numbered(10), 4) if test is None else test
    return FromLoaders(train, test, **{"loss": cross_entropy, **options})


def linear():
    torch.manual_seed(0)
    return nn.Linear(4, 2)


def equal(one, two):
    one, two = list(one), list(two)
    return len(one) == len(two) > 0 and all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.target, b.target)
        for a, b in zip(one, two, strict=True)
    )


def numbers(batches):
    return [batch.inputs[:, 0].int().tolist() for batch in batches]


def globals_now():
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


# Order


def test_it_is_a_task():
    assert isinstance(made(), Task)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("persistent", [False, True])
def test_an_epoch_of_ours_taken_up_in_the_middle_goes_on_bit_for_bit(workers, persistent):
    if persistent and not workers:
        pytest.skip("persistent workers need workers")
    options = {"num_workers": workers, "persistent_workers": persistent}
    one = made(seeded_loader(Numbered(), 4, seed=3, **options), seed=9)
    alone = made(seeded_loader(Numbered(), 4, seed=3), seed=9)
    assert one.resumes_exactly
    for epoch in (0, 2):
        whole = list(alone.batches(epoch))
        for start in (0, 1, 4):
            assert equal(one.batches(epoch, start), whole[start:])
    assert list(one.batches(0, start=5)) == []


def test_what_lies_before_the_start_is_not_loaded():
    data = Numbered()
    one = made(seeded_loader(data, 4, seed=0))
    seen = numbers(one.batches(1, start=4))
    assert data.loaded == seen[0]


def test_draws_of_the_data_set_differ_by_step_epoch_and_seed_and_the_order_by_epoch_and_seed():
    draws, orders = [], []
    for seed in (0, 1):
        one = made(seeded_loader(Numbered(), 4, seed=seed))
        for epoch in (0, 1):
            batches = list(one.batches(epoch))
            draws += [batch.inputs[0, 1:].tolist() for batch in batches]
            orders.append(str(numbers(batches)))
    for one_generator in zip(*draws, strict=True):
        assert len(set(one_generator)) == len(draws) == 2 * 2 * 5
    assert len(set(orders)) == 4


@pytest.mark.parametrize("ours", [True, False])
def test_global_random_state_neither_shows_in_the_batches_nor_is_changed(ours):
    def loader():
        data = Numbered()
        return seeded_loader(data, 4, seed=0) if ours else DataLoader(data, 4, shuffle=True)

    model = linear()
    one = made(loader())
    before = globals_now()
    first = list(one.batches(1))
    one.evaluate(model)
    one.guard(5)(model)
    one.example_input  # noqa: B018
    assert globals_now() == before
    busy = []
    for batch in made(loader()).batches(1):
        torch.rand(3)
        random.random()
        busy.append(batch)
    assert equal(first, busy)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_another_loader_is_skipped_by_drawing_and_says_so(workers):
    data = Numbered()
    one = made(DataLoader(data, 4, shuffle=True, num_workers=workers))
    assert not one.resumes_exactly
    assert "RandomSampler" in one.order
    assert "draws the batches before it" in one.order
    whole = list(one.batches(2))
    data.loaded.clear()
    assert equal(one.batches(2, start=4), whole[4:])
    assert len(data.loaded) == (0 if workers else 23)  # workers have a copy of their own


def test_a_sampler_with_a_generator_of_its_own_is_not_claimed_to_resume():
    own = torch.Generator().manual_seed(0)
    one = made(DataLoader(Numbered(), 4, shuffle=True, generator=own))
    assert not one.resumes_exactly
    assert not equal(one.batches(0), one.batches(0))


def test_an_order_drawn_today_is_the_one_drawn_when_this_was_written():
    """Resuming an old run must meet the same data; a change here breaks that and must be said."""
    one = made(seeded_loader(Numbered(), 4, seed=1))
    assert numbers(one.batches(2))[0] == [12, 6, 5, 2]


def test_where_an_iteration_starts_is_settled_when_it_is_asked_for():
    sampler = SeededSampler(23, 4, seed=0)
    first = iter(sampler.at(0, start=2))
    assert next(spot for [spot] in sampler.at(1)).step == 0
    assert [(spot.epoch, spot.step) for [spot] in first] == [(0, 2), (0, 3), (0, 4)]


def test_two_epochs_at_once_are_apart_without_persistent_workers():
    one = made()
    pairs = list(zip(one.batches(0), one.batches(1), strict=True))
    assert equal([a for a, _ in pairs], one.batches(0))
    assert equal([b for _, b in pairs], one.batches(1))


@pytest.mark.slow
def test_two_epochs_at_once_are_refused_with_persistent_workers():
    one = made(seeded_loader(Numbered(), 4, seed=0, num_workers=1, persistent_workers=True))
    first = one.batches(0)
    next(first)
    next(one.batches(1))
    with pytest.raises(RequestError, match="persistent_workers=False"):
        next(first)


@pytest.mark.parametrize(("drop", "steps", "last"), [(True, 5, 4), (False, 6, 3)])
def test_steps_are_the_batches_of_the_loader(drop, steps, last):
    for loader in (
        seeded_loader(Numbered(), 4, seed=0, drop_last=drop),
        DataLoader(Numbered(), 4, drop_last=drop),
    ):
        batches = list(made(loader).batches(0))
        assert (made(loader).steps_per_epoch, len(batches[-1].target)) == (steps, last)
        assert len(batches) == steps


# Batches


def test_a_mapping_goes_to_the_model_by_keyword_without_its_target():
    data = Numbered(form="dict")
    one = made(seeded_loader(data, 4, seed=0), DataLoader(Numbered(10, form="dict"), 4))
    batch = next(one.batches(0))
    assert set(batch.inputs) == {"x", "scale"}
    model = Named()
    by_hand = cross_entropy(model(batch.inputs["x"], batch.inputs["scale"]), batch.target)
    assert torch.equal(one.loss(model, batch), by_hand)
    assert {len(v) for v in one.example_input.values()} == {1}
    assert one.evaluate(model).keys() == {"accuracy", "loss"}


def test_several_inputs_are_positional_arguments_and_the_target_is_the_last():
    one = made(DataLoader(Numbered(form="three"), 4))
    batch = next(one.batches(0))
    assert isinstance(batch.inputs, tuple)
    assert call(Named(), batch.inputs).shape == (4, 2)
    assert batch.target.tolist() == [0, 1, 0, 1]


def test_a_split_takes_anything_apart():
    one = made(DataLoader(Numbered(form="dict"), 4), split=lambda b: (b["x"], 1 - b["labels"]))
    assert next(one.batches(0)).target.tolist() == [1, 0, 1, 0]


def test_a_model_may_return_its_own_loss():
    class Own(Named):
        def forward(self, x, scale, labels):
            return {"loss": cross_entropy(super().forward(x, scale), labels)}

    loader = DataLoader(Numbered(form="dict"), 4)
    one = made(loader, loader, target=None, metrics={}, loss=lambda output, target: output["loss"])
    batch = next(one.batches(0))
    assert batch.target is None
    assert one.loss(Own(), batch).requires_grad
    assert one.evaluate(Own()).keys() == {"loss"}
    assert one.goal == Goal(name="loss", unit="", higher_is_better=False)


@pytest.mark.parametrize(
    ("options", "loader", "says"),
    [
        ({}, DataLoader(torch.zeros(8, 4), 4), "a Tensor, and has no target"),
        ({"target": "y"}, DataLoader(Numbered(form="dict"), 4), "keys x, scale, labels and no target 'y'"),
        ({}, DataLoader(torch.utils.data.TensorDataset(torch.zeros(8, 4)), 4), "list of 1, and has no"),
    ],
)  # fmt: skip
def test_a_batch_without_a_target_is_refused_when_it_comes(options, loader, says):
    with pytest.raises(RequestError, match=says):
        next(made(loader, **options).batches(0))


# Figures


def test_figures_are_means_over_samples_whatever_the_batches():
    model = linear()
    data = [(torch.randn(4), i % 2) for i in range(10)]
    x, y = torch.stack([a for a, _ in data]), torch.tensor([b for _, b in data])
    logits = model(x).detach()
    for size in (1, 3, 10):
        found = made(test=DataLoader(data, size)).evaluate(model)
        assert found == {
            "accuracy": pytest.approx(float((logits.argmax(1) == y).double().mean())),
            "loss": pytest.approx(float(cross_entropy(logits, y)), rel=1e-6),
        }


def test_metrics_of_ones_own_are_reset_and_their_answers_are_floats():
    one = made(metrics={"error": Wrong()})
    assert one.goal == Goal(name="error", unit="", higher_is_better=False)
    first = one.evaluate(linear())
    one.guard(1)(linear())  # of one sample: 0 or 1, and not the figure of ten
    assert one.evaluate(linear()) == first
    assert type(first["error"]) is float
    plain = made().evaluate(linear())
    assert first["error"] == pytest.approx(1 - plain["accuracy"])


def test_predict_takes_the_metrics_part_out_of_an_output():
    model = linear()
    wrapped = nn.Module()
    wrapped.forward = lambda x: {"logits": model(x)}
    one = made(loss=lambda o, t: cross_entropy(o["logits"], t), predict=lambda o: o["logits"])
    assert one.evaluate(wrapped) == made().evaluate(model)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_wrong(bad):
    class Broken(nn.Module):
        def forward(self, x):
            return torch.full((len(x), 2), bad)

    assert made().evaluate(Broken())["accuracy"] == 0.0


def test_evaluation_is_in_eval_mode_without_gradients_and_restores_the_mode():
    seen = []

    class Spy(nn.Linear):
        def forward(self, x):
            seen.append((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    model = Spy(4, 2)
    made().evaluate(model)
    assert set(seen) == {(False, False)}
    assert model.training


def test_the_guard_is_the_goal_on_the_first_training_samples_in_their_order():
    data = Numbered()
    for loader in (seeded_loader(data, 4, seed=0), DataLoader(data, 4, shuffle=True)):
        one = made(loader)
        guard = one.guard(6)
        data.loaded.clear()
        first = guard(linear())
        assert data.loaded == [0, 1, 2, 3, 4, 5]
        assert guard(linear()) == first
        data.loaded.clear()
        one.guard()(linear())
        assert data.loaded == list(range(23))
    with pytest.raises(RequestError, match="a guard on 0 samples"):
        one.guard(0)


def test_inputs_are_those_of_the_batches_without_targets():
    one = made()
    assert [x.tolist() for x in one.inputs()] == [b.inputs.tolist() for b in one.batches(0)]
    assert [x[:, 0].int().tolist() for x in one.inputs("test", 2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_the_example_is_a_batch_of_one_and_loads_one_sample():
    data = Numbered()
    one = made(seeded_loader(data, 4, seed=0))
    assert one.example_input.shape == (1, 4)
    assert one.example_input is one.example_input
    assert data.loaded == [0]


def test_a_loss_and_a_metric_that_are_modules_go_to_the_device():
    weights = nn.CrossEntropyLoss(weight=torch.ones(2))
    made(loss=weights, device="meta")
    assert weights.weight.device.type == "meta"


# Streams and refusals


def test_a_stream_with_a_length_is_a_task_and_says_that_it_does_not_resume_exactly():
    one = made(DataLoader(LongStream(), 4))
    assert (one.steps_per_epoch, one.resumes_exactly) == (3, False)
    assert numbers(one.batches(0, start=2)) == [[8, 9, 10, 11]]
    assert one.example_input.shape[1:] == (4,)
    assert 0 <= one.guard(4)(linear()) <= 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: made([(1, 2)]), "train is a list; give a torch.utils.data.DataLoader"),
        (lambda: made(test=Numbered()), "test is a Numbered"),
        (lambda: made(DataLoader(Stream(), 4)), "train loader has no length"),
        (lambda: made(DataLoader(Numbered(3), 4, drop_last=True)), "train loader has no batch"),
        (lambda: made(test=DataLoader([], 4)), "test loader has no batch"),
        (lambda: made(test=DataLoader(Numbered(), 4, drop_last=True)), "leaves out 3 of 23 samples"),
        (lambda: made(test=seeded_loader(Numbered(), 4, seed=0)), "leaves out 3 of 23 samples"),
        (lambda: made(metrics={"f1": object()}), "'f1' is a object without update, compute, reset"),
        (lambda: made(metrics={"loss": Wrong()}), "would hide the loss"),
        (lambda: made(goal=Goal(name="f1")), "goal 'f1' is no metric; give one of accuracy, loss"),
        (lambda: made(loss="model"), r"loss is a str; give a function \(output, target\)"),
        (lambda: made(seed=-1), "seed=-1"),
        (lambda: made().batches(0, 6), "epoch=0, start=6; give epoch >= 0 and 0 <= start <= 5"),
        (lambda: seeded_loader(Stream(), 4, seed=0), "Stream has no length"),
        (lambda: seeded_loader(Numbered(3), 4, seed=0), "there is not one"),
        (lambda: seeded_loader(Numbered(), 4, seed=0, sampler=[1]), "leave out sampler"),
        (lambda: seeded_loader(Numbered(), 0, seed=0), "batch_size=0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_at_once(make, says):
    with pytest.raises(RequestError, match=says):
        make()


def test_a_loss_that_is_no_scalar_is_refused():
    one = made(loss=nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(RequestError, match=r"loss returned shape \(4,\)"):
        one.loss(linear(), next(one.batches(0)))


def test_a_metric_that_is_no_number_is_refused():
    class Each(Wrong):
        def compute(self):
            return torch.zeros(3)

    with pytest.raises(RequestError, match=r"metric 'each' computes shape \(3,\)"):
        made(metrics={"each": Each()}).evaluate(linear())


def test_outputs_that_are_no_logits_are_refused_by_the_accuracy():
    one = made(loss=lambda o, t: o.mean())
    with pytest.raises(RequestError, match="accuracy needs logits"):
        one.evaluate(nn.Flatten(0))


def test_a_loader_that_gives_fewer_batches_than_its_length_is_an_error():
    class Short(BatchSampler):
        def __len__(self):
            return 9

    one = made(DataLoader(Numbered(), batch_sampler=Short(SequentialSampler(range(23)), 4, False)))
    with pytest.raises(RunError, match="says it has 9 batches and gave 6"):
        list(one.batches(0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_batches_reach_a_gpu_from_pinned_memory():
    loader = seeded_loader(Numbered(form="dict"), 4, seed=0, pin_memory=True)
    test = DataLoader(Numbered(10, form="dict"), 4)
    there, here = made(loader, test, device="cuda"), made(loader, test)
    for a, b in zip(there.batches(0), here.batches(0), strict=True):
        assert a.inputs["x"].is_cuda
        assert torch.equal(a.inputs["x"].cpu(), b.inputs["x"])
        assert torch.equal(a.target.cpu(), b.target)
