"""Training samples held out: which, from whom, and that a task judged on them has no test data left."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from espalier import tasks
from espalier.errors import RequestError
from espalier.tasks import FromLoaders, Parted, Validating, fingerprint, judged_on, seeded_loader
from tasks.problems import Numbered


def images_of(task, part="train"):
    return getattr(task, part).images[:, 0, 0, 0].tolist()


def loaders(count=23, seed=0, **options):
    train = seeded_loader(Numbered(count), 4, seed, **options)
    return FromLoaders(train, DataLoader(Numbered(10), 4), loss=cross_entropy, seed=seed)


def samples_of(task):
    return sorted(int(i) for batch in task.batches(0) for i in batch.inputs[:, 0])


@pytest.mark.parametrize(("part", "count"), [(0.3, 7), (7, 7), (0.001, 1)])
def test_the_parts_have_no_image_in_common_and_all_of_them_together(task, part, count):
    rest, few = task().parted(part)
    assert len(few.train) == count
    assert sorted(images_of(rest) + images_of(few)) == list(range(23))
    assert images_of(rest, "test") == images_of(few, "test") == images_of(task(), "test")


def test_of_every_class_as_many_are_held_out_as_can_be(task):
    held = task().validating(6).test
    assert held.labels.bincount(minlength=3).tolist() == [2, 2, 2]


def test_the_same_samples_are_held_out_whatever_the_seed(task):
    assert images_of(task(seed=0).validating(5), "test") == images_of(
        task(seed=7).validating(5), "test"
    )
    held = [
        [int(x[0]) for batch in one.validating(5).inputs("test") for x in batch]
        for one in (loaders(seed=0), loaders(seed=7))
    ]
    assert held[0] == held[1]
    assert held[0] != [0, 1, 2, 3, 4]  # drawn: files often lie in some order


def test_a_task_that_validates_is_judged_on_what_it_does_not_learn_from(task, fixed):
    whole, one = task(), task().validating(0.3)
    assert (judged_on(whole), judged_on(one)) == ("test", "validation")
    assert set(images_of(one)) | set(images_of(one, "test")) == set(range(23))
    assert not set(images_of(one)) & set(images_of(one, "test"))
    logits = torch.zeros(23, 3)
    logits[one.test.images[:, 0, 0, 0].long(), one.test.labels] = 1.0  # right on these alone
    assert one.evaluate(fixed(logits))["accuracy"] == 1.0
    assert judged_on(whole) == "test"  # the other is as it was
    assert images_of(whole, "test") == images_of(task(), "test")


def test_a_method_that_parts_the_data_takes_nothing_of_what_is_held_out(task):
    one = task().validating(0.3)
    rest, few = one.parted(0.3)
    assert not (set(images_of(rest)) | set(images_of(few))) & set(images_of(one, "test"))
    assert judged_on(rest) == "validation"


def test_other_parts_are_other_data(task):
    found = [fingerprint(task()), *(fingerprint(task().validating(n)) for n in (4, 5))]
    assert found[0] != found[1] != found[2] != found[0]
    assert found[1] == fingerprint(task().validating(4))


def test_loaders_of_ours_hold_out_too_and_resume_exactly_still():
    one = loaders(drop_last=False).validating(0.3)
    seen, judged = samples_of(one), [int(x[0]) for b in one.inputs("test") for x in b]
    assert sorted(seen + judged) == list(range(23))
    assert (len(judged), judged_on(one), one.steps_per_epoch) == (7, "validation", 4)
    assert one.resumes_exactly
    whole, late = list(one.batches(1)), list(one.batches(1, start=2))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(whole[2:], late, strict=True))
    model = nn.Linear(4, 2)
    assert one.evaluate(model) == one.evaluate(model)


def test_the_options_of_a_loader_go_over_to_its_parts():
    train = seeded_loader(Numbered(), 4, 3, shuffle=False, timeout=0, collate_fn=_first)
    task = FromLoaders(train, DataLoader(Numbered(10), 4), loss=cross_entropy)
    rest, few = task.parted(0.3)
    for part in (rest, few):
        assert samples_of(part) == [int(b.inputs[0, 0]) for b in part.batches(0)]  # in order, ours


def _first(samples):
    return torch.stack([samples[0][0]]), torch.tensor([samples[0][1]])


def test_a_loader_of_ones_own_cannot_be_parted_and_says_what_to_do():
    task = FromLoaders(DataLoader(Numbered(), 4), DataLoader(Numbered(10), 4), loss=cross_entropy)
    with pytest.raises(RequestError, match="make the train loader with it, or give loaders"):
        task.validating(0.1)


@pytest.mark.parametrize("part", [0, 0.0, 1.0, 23, 24, -1, True, 2.5, float("nan"), "0.1"])
def test_what_leaves_nothing_on_one_side_is_refused(task, part):
    with pytest.raises(RequestError, match=r"give a fraction in \(0, 1\), or a count from 1 to 22"):
        task().parted(part)


def test_the_protocols_are_met(task):
    assert isinstance(task(), Parted)
    assert isinstance(task(), Validating)
    assert isinstance(loaders(), Validating)
    assert judged_on(object()) == "test"
    assert tasks.judged_on is judged_on
