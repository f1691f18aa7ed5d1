import numpy as np
import pytest
import torch
from torch import nn

from espalier import data
from espalier.tasks import Task


def test_classification_is_a_task(task):
    assert isinstance(task(), Task)


def test_the_loss_is_the_mean_cross_entropy(task, fixed, indices):
    logits = torch.randn(23, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    one = task()
    batch = next(one.batches(0))
    chosen = logits[indices(batch)].log_softmax(1)
    by_hand = -sum(chosen[i, label] for i, label in enumerate(batch.labels.tolist())) / 4
    loss = one.loss(fixed(logits), batch)
    assert loss.requires_grad
    assert float(loss.detach()) == pytest.approx(float(by_hand.detach()))


def test_label_smoothing_enters_the_training_loss_and_not_the_evaluation(task, fixed, indices):
    logits = torch.randn(23, 3, generator=torch.Generator().manual_seed(0))
    plain, smooth = task(), task(label_smoothing=0.3)
    batch = next(plain.batches(0))
    log_p = logits[indices(batch)].log_softmax(1)
    by_hand = 0.7 * float(plain.loss(fixed(logits), batch)) - 0.3 * float(log_p.mean(1).mean())
    assert float(smooth.loss(fixed(logits), batch)) == pytest.approx(by_hand)
    assert smooth.evaluate(fixed(logits)) == plain.evaluate(fixed(logits))


def test_a_loss_of_the_users_own_is_used_in_training_and_evaluation(task, fixed):
    def squares(logits, labels):
        return (logits.sum(1) - labels).pow(2).mean()

    one = task(loss_fn=squares)
    logits = torch.ones(23, 3)
    batch = next(one.batches(0))
    assert float(one.loss(fixed(logits), batch)) == pytest.approx(
        float((3 - batch.labels.float()).pow(2).mean())
    )
    by_hand = float((3 - one.test.labels.float()).pow(2).mean())
    assert one.evaluate(fixed(logits))["loss"] == pytest.approx(by_hand)


def test_accuracy_and_loss_are_means_over_images_whatever_the_batches(task, toy, fixed):
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(3))
    labels = toy(10, seed=1).labels
    accuracy = sum(int(row.argmax() == label) for row, label in zip(logits, labels, strict=True))
    loss = -float(logits.double().log_softmax(1)[torch.arange(10), labels].mean())
    for size in (1, 3, 10, 500):  # 3 leaves a last batch of one
        result = task(test_batch_size=size).evaluate(fixed(logits))
        assert result == {"accuracy": accuracy / 10, "loss": pytest.approx(loss, rel=1e-6)}


def test_evaluation_is_in_eval_mode_without_gradients_and_restores_every_mode(task, fixed):
    model = fixed(torch.zeros(10, 3))
    model.train()
    model.inner.eval()  # a part that the user has frozen stays so
    task().evaluate(model)
    assert set(model.seen) == {(False, False, True)}
    assert (model.training, model.inner.training) == (True, False)


def test_modes_are_restored_when_the_model_raises(task, fixed):
    model = fixed(torch.zeros(2, 3))  # images 2 to 9 have no logits
    model.train()
    with pytest.raises(IndexError):
        task().evaluate(model)
    assert model.training
    assert model.inner.training
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_images_with_non_finite_logits_count_as_wrong_and_spoil_the_loss(task, toy, fixed, bad):
    labels = toy(10, seed=1).labels
    logits = nn.functional.one_hot(labels, 3).float()
    assert task().evaluate(fixed(logits))["accuracy"] == 1.0
    logits[4, labels[4]] = bad  # argmax would still find it, and call it right
    result = task().evaluate(fixed(logits))
    assert result["accuracy"] == 0.9
    assert not np.isfinite(result["loss"])


def test_the_example_is_the_first_training_image_as_the_model_sees_it(task):
    one = task(augment=data.crop_flip)
    assert torch.equal(one.example_input, one.train.normalise(one.train.images[:1]))


def test_inputs_for_calibration_are_those_of_the_first_epoch_augmented_and_in_order(task):
    one = task(augment=data.crop_flip)
    inputs, batches = list(one.inputs("train")), list(one.batches(0))
    assert len(inputs) == one.steps_per_epoch
    assert all(torch.equal(x, b.images) for x, b in zip(inputs, batches, strict=True))
    assert [x.tolist() for x in one.inputs(limit=2)] == [x.tolist() for x in inputs[:2]]


def test_inputs_for_proofs_are_the_test_images_in_order_and_not_augmented(task, toy):
    one = task(test=toy(150, seed=1), augment=data.crop_flip)
    batches = list(one.inputs("test"))
    assert [len(x) for x in batches] == [64, 64, 22]
    assert torch.equal(torch.cat(batches), one.test.normalise(one.test.images))
    assert len(list(one.inputs("test", limit=2))) == 2


def test_the_guard_is_the_accuracy_on_training_images_the_same_of_each_class(task, fixed):
    one = task(augment=data.crop_flip)
    logits = torch.randn(23, 3, generator=torch.Generator().manual_seed(3))
    seen = one.train.first(9)
    assert torch.bincount(seen.labels).tolist() == [3, 3, 3]
    chosen = (seen.images[:, 0, 0, 0]).long()
    by_hand = int((logits[chosen].argmax(1) == seen.labels).sum()) / 9
    assert one.guard(9)(fixed(logits)) == by_hand
    model = fixed(logits).train()
    whole = one.guard()(model)
    assert whole == int((logits.argmax(1) == one.train.labels).sum()) / 23
    assert set(model.seen) == {(False, False, True)}
    assert model.training


def test_the_goal_is_a_figure_of_the_evaluation_and_the_model_has_its_classes(task, fixed):
    one = task()
    assert one.goal.name in one.evaluate(fixed(torch.zeros(10, 3)))
    assert one.model_arguments == {"classes": 3}
