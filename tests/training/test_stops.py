"""What stops the loop, what it says and what it keeps."""

import math

import pytest
import torch

from espalier._ground.tree import load_tree
from espalier.errors import CheckpointError, NonFiniteError, RequestError
from espalier.runs import RunFolder
from espalier.training import fit
from training.problem import Points, network, optimizer_for, pruned_fit, weights_of


def test_a_nan_loss_stops_at_once_and_the_last_checkpoint_is_good(tmp_path):
    with RunFolder(tmp_path) as run, pytest.raises(NonFiniteError) as raised:
        pruned_fit(Points(poison=13), run=run, checkpoint_every=4)
    for words in ("nan at step 14 of prune (epoch 2)", "lower learning rate", str(tmp_path)):
        assert words in str(raised.value)
    saved = load_tree(tmp_path / "checkpoint.safetensors")
    assert (saved["progress"]["epoch"], saved["progress"]["step"]) == (1, 4)
    assert all(tensor.isfinite().all() for tensor in saved["parts"]["model"].values())


def test_a_nan_loss_moves_no_weight():
    model = network(batchnorm=False, dropout=0)
    before = weights_of(model)
    with pytest.raises(NonFiniteError):
        fit(model, Points(poison=0), optimizer=optimizer_for(model, "adam"), epochs=1)
    assert weights_of(model) == before


def test_weights_that_are_not_finite_never_become_a_checkpoint(tmp_path):
    """The loss of the step is fine; the step it leads to is not."""
    model = network(batchnorm=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=math.inf)
    with RunFolder(tmp_path) as run, pytest.raises(NonFiniteError, match=r"0\.weight holds NaN"):
        fit(model, Points(), optimizer=optimizer, epochs=2, run=run, checkpoint_every=1)
    saved = load_tree(tmp_path / "checkpoint.safetensors")
    assert saved["progress"]["step"] == 0
    assert all(tensor.isfinite().all() for tensor in saved["parts"]["model"].values())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"epochs": -1}, "epochs=-1"), ({"evaluate_every": 0}, "evaluate_every=0"),
     ({"clip": 0.0}, "clip=0.0"), ({"clip": math.nan}, "clip=nan"),
     ({"checkpoint_every": 0}, "checkpoint_every=0"),
     ({"autocast": torch.float16}, r"torch.float16; give torch.bfloat16")],
)  # fmt: skip
def test_settings_out_of_range_are_refused_with_what_is_allowed(wrong, words):
    model = network()
    arguments = {"optimizer": optimizer_for(model, "adam"), "epochs": 1, **wrong}
    with pytest.raises(RequestError, match=words):
        fit(model, Points(), **arguments)


def test_beginning_another_phase_over_an_unfinished_one_is_refused(tmp_path):
    with RunFolder(tmp_path) as run:
        run.write_config({})
        pruned_fit(run=run, phase="prune")
        pruned_fit(run=run, phase="retrain")
    with (
        RunFolder(tmp_path, resume=True) as run,
        pytest.raises(CheckpointError, match="of the phase 'retrain', and beginning 'prune'"),
    ):
        pruned_fit(run=run, phase="prune")
