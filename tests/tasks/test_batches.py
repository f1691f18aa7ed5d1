import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from espalier import data
from espalier.data import ImageSet
from espalier.errors import RequestError
from espalier.tasks import Classification

EMPTY = ImageSet(images=torch.zeros(0, 1, 6, 6), labels=torch.zeros(0).long(), classes=("a",))


def equal(one, two):
    return len(one) == len(two) and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        for a, b in zip(one, two, strict=True)
    )


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 1000),
    start=st.integers(0, 5),
    augment=st.sampled_from([None, data.crop_flip]),
)
def test_an_epoch_taken_up_in_the_middle_goes_on_bit_for_bit(task, seed, epoch, start, augment):
    one = task(seed=seed, augment=augment)
    assert equal(list(one.batches(epoch))[start:], list(one.batches(epoch, start=start)))


def test_neither_global_random_state_nor_the_model_touch_the_batches(task):
    one = task(augment=data.crop_flip)

    def epoch(seed, busy):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        seen = []
        for batch in one.batches(2):
            seen.append(batch)
            if busy:
                torch.rand(3)
                nn.Linear(3, 3)(torch.rand(1, 3)).sum().backward()
        return seen

    assert equal(epoch(1, busy=False), epoch(2, busy=True))


def test_batches_leave_global_random_state_alone(task):
    before = torch.get_rng_state()
    list(task(augment=data.crop_flip).batches(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_two_epochs_under_way_at_once_do_not_disturb_each_other(task):
    one = task(augment=data.crop_flip)
    pairs = list(zip(one.batches(0), one.batches(1), strict=True))
    assert equal([a for a, _ in pairs], list(one.batches(0)))
    assert equal([b for _, b in pairs], list(one.batches(1)))


def test_an_epoch_shows_every_image_at_most_once_and_drops_what_does_not_fill_a_batch(
    task, indices
):
    one = task(batch_size=4)
    seen = [indices(batch) for batch in one.batches(0)]
    assert [len(each) for each in seen] == [4] * 5
    assert one.steps_per_epoch == 5
    flat = [index for each in seen for index in each]
    assert len(set(flat)) == 20
    over_epochs = {i for epoch in range(20) for batch in one.batches(epoch) for i in indices(batch)}
    assert over_epochs == set(range(23))


def test_labels_stay_with_their_images(task, toy, indices):
    whole = toy()
    for batch in task().batches(3):
        assert batch.labels.tolist() == whole.labels[indices(batch)].tolist()


def test_orders_differ_by_epoch_and_by_seed(task, indices):
    orders = [
        [i for batch in task(seed=seed).batches(epoch) for i in indices(batch)]
        for seed in (0, 1, 2**32, 2**32 + 1)
        for epoch in (0, 1, 2)
    ]
    assert len({tuple(order) for order in orders}) == len(orders)


def test_augmentation_differs_by_step_epoch_and_seed_and_is_drawn_apart_from_the_order(task):
    drawn = []

    def spy(images, generator):
        drawn.append(generator.initial_seed())
        return images

    for seed in (0, 1):
        one = task(seed=seed, augment=spy)
        for epoch in (0, 1):
            list(one.batches(epoch))
    assert len(set(drawn)) == len(drawn) == 2 * 2 * 5
    assert equal(list(task(augment=spy).batches(0)), list(task().batches(0)))


def test_training_images_are_augmented_as_bytes_and_test_images_are_not(task, fixed):
    seen = []

    def spy(images, generator):
        seen.append((images.dtype, len(images)))
        return images

    one = task(augment=spy)
    next(one.batches(0))
    one.evaluate(fixed(torch.zeros(10, 3)))
    assert seen == [(torch.uint8, 4)]


def test_batches_are_normalised_by_the_training_set():
    split = data.load("digits", mean=[0.5], std=[0.25])
    one = Classification(split.train, split.test, batch_size=1438, seed=0)
    (batch,) = one.batches(0)
    assert batch.images.dtype == torch.float32
    assert float(batch.images.min()) == -2.0
    assert float(batch.images.max()) == 2.0


def test_a_batch_drawn_today_is_the_batch_drawn_when_this_was_written(task, indices):
    """Resuming an old run must meet the same data; a change here breaks that and must be said."""
    assert indices(next(task(seed=1).batches(epoch=2))) == [12, 6, 5, 2]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"batch_size": 0}, "batch_size=0 with 23 training images; give 1 <= batch_size <= 23"),
        ({"batch_size": 24}, "batch_size=24"),
        ({"batch_size": 4, "limit_train": 3}, "batch_size=4 with 3 training images"),
        ({"test_batch_size": 0}, "test_batch_size=0"),
        ({"seed": -1}, "seed=-1"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"label_smoothing": 0.1, "loss_fn": nn.functional.cross_entropy}, "leave it or loss_fn"),
        ({"test": EMPTY}, "the test set is empty"),
    ],
)
def test_arguments_that_cannot_be_are_refused(task, wrong, says):
    with pytest.raises(RequestError, match=says):
        task(**wrong)


@pytest.mark.parametrize(("epoch", "start"), [(-1, 0), (0, -1), (0, 6)])
def test_a_place_outside_the_epoch_is_refused_at_once(task, epoch, start):
    with pytest.raises(RequestError, match=f"epoch={epoch}, start={start}"):
        task().batches(epoch, start)


def test_the_end_of_an_epoch_is_a_place_in_it(task):
    assert list(task().batches(0, start=5)) == []


def test_limits_keep_balanced_subsets(task, toy):
    labels = torch.tensor([0] * 10 + [1] * 10 + [2] * 3)
    whole = ImageSet(images=toy().images, labels=labels, classes=toy().classes)
    one = task(train=whole, test=whole, limit_train=9, limit_test=5)
    assert torch.bincount(one.train.labels).tolist() == [3, 3, 3]
    assert torch.bincount(one.test.labels).tolist() == [2, 2, 1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_a_gpu_sees_the_same_images(task):
    here = list(task(augment=data.crop_flip).batches(0))
    there = list(task(augment=data.crop_flip, device="cuda").batches(0))
    assert all(batch.images.is_cuda and batch.labels.is_cuda for batch in there)
    for a, b in zip(here, there, strict=True):
        assert torch.allclose(a.images, b.images.cpu(), atol=1e-6)
        assert torch.equal(a.labels, b.labels.cpu())
