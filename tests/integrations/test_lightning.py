"""Lightning's Trainer prunes as a loop with the explicit calls does, is killed, and goes on to the same weights."""

import importlib
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import espalier as esp
from espalier import data, integrations
from espalier.errors import CheckpointError
from espalier.tasks import Goal
from killing import kill_me, killed

BATCHES, EPOCHS, PARTS, CLIP = 10, 3, 2, 0.5
STEPS = EPOCHS * BATCHES // PARTS


@pytest.fixture(scope="module")
def pl(vision):  # it imports torchvision where that is installed
    pytest.importorskip("sklearn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip("lightning.pytorch")
        if not hasattr(library, "utilities"):
            # Whoever asked for it first in this process had no working torchvision: it was left half imported.
            for name in [n for n in sys.modules if n.partition(".")[0] == "lightning"]:
                del sys.modules[name]
            library = importlib.import_module("lightning.pytorch")

    class Net(library.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))
            self.make = lambda p: torch.optim.Adam(p, lr=1e-2)

        def training_step(self, batch, index):
            return cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch, index):
            right = (self.net(batch[0]).argmax(1) == batch[1]).float().mean()
            self.log("accuracy", right)

        def configure_optimizers(self):
            return self.make(self.parameters())

    class ByHand(Net):
        """Two optimisers, which Lightning leaves to the module."""

        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, index):
            both = self.optimizers()
            for optimizer in both:
                optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, index))
            for optimizer in both:
                optimizer.step()

        def configure_optimizers(self):
            return [torch.optim.SGD(self.net[i].parameters(), lr=0.1) for i in (1, 3)]

    return SimpleNamespace(
        Trainer=library.Trainer, Callback=library.Callback, Net=Net, ByHand=ByHand,
        Checkpoints=library.callbacks.ModelCheckpoint,
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits(pl):
    split = data.load("digits")
    x, y = split.train.normalise(split.train.images), split.train.labels
    test = split.test.normalise(split.test.images), split.test.labels
    return TensorDataset(x[: 16 * BATCHES], y[: 16 * BATCHES]), TensorDataset(*test)


def pruned(pl, digits, folder, *, resume=None, dies=None, module=None, trainer=None, **settings):
    """A training from a module as a new process would make it."""
    module = module or pl.Net()
    callback = integrations.LightningPruning(
        esp.plan(module, density=0.1), esp.SLR(), cadence=2, **settings
    )

    class Dies(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == dies:
                kill_me()

    own = [Dies()] if dies is not None else []
    settings = {
        "max_epochs": EPOCHS, "accumulate_grad_batches": PARTS, "gradient_clip_val": CLIP,
        "callbacks": [callback, pl.Checkpoints(dirpath=folder, save_last=True), *own],
        "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "num_sanity_val_steps": 1,
        "enable_model_summary": False,
    } | (trainer or {})  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = pl.Trainer(**settings)
        # What is drawn in which order is the same on every start: Lightning keeps no random state.
        run.fit(module, DataLoader(digits[0], 16), DataLoader(digits[1], 200), ckpt_path=resume)
    return module, callback.pruning


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.fixture(scope="module")
def whole(pl, digits, tmp_path_factory):
    return pruned(pl, digits, tmp_path_factory.mktemp("whole"))


def explicit(net, digits, make):
    """The training of the trainer, by hand: accumulated, clipped, pulled, in this order."""
    optimizer = make(net.parameters())
    plan = esp.plan(net, density=0.1)
    pruning = esp.Pruning(net, plan, esp.SLR(), optimizer, STEPS, cadence=2)
    batches = list(DataLoader(digits[0], 16))
    for _ in range(EPOCHS):
        for first in range(0, BATCHES, PARTS):
            optimizer.zero_grad()
            told = 0.0
            for x, y in batches[first : first + PARTS]:
                loss = cross_entropy(net.net(x), y) / PARTS
                loss.backward()
                told += loss.detach()
            nn.utils.clip_grad_norm_(net.parameters(), CLIP)
            pruning.add_gradients_()
            optimizer.step()
            pruning.step(told)
    return pruning


def test_the_weights_are_those_of_the_explicit_calls_after_accumulation_and_clipping(
    pl, digits, whole
):
    net = pl.Net()
    pruning = explicit(net, digits, net.make)
    assert same(net, whole[0])
    assert pruning.updates == whole[1].updates
    assert whole[1].nothing_to_cut()
    assert whole[1].certificate().conditions[0] is not None


@pytest.mark.parametrize(
    "dies", [7, 13]
)  # while the weights are pulled, and once they have settled
def test_a_fit_that_was_killed_goes_on_to_the_same_weights(pl, digits, whole, tmp_path, dies):
    killed(lambda: pruned(pl, digits, tmp_path, dies=dies))
    module, pruning = pruned(pl, digits, tmp_path, resume=tmp_path / "last.ckpt")
    assert same(module, whole[0])
    assert pruning.updates == whole[1].updates
    assert pruning.certificate() == whole[1].certificate()


def test_the_state_in_the_checkpoint_is_plain_tensors_and_scalars(pl, digits, tmp_path):
    _, pruning = pruned(pl, digits, tmp_path, trainer={"max_epochs": 1})
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["callbacks"]["LightningPruning"]["pruning"]["count"] == BATCHES // PARTS
    assert pruning.certificate().steps == BATCHES // PARTS


def test_several_optimisers_of_a_module_by_hand_are_attached_together(pl, digits, tmp_path):
    free = {"accumulate_grad_batches": 1, "gradient_clip_val": None}
    _, pruning = pruned(pl, digits, tmp_path, module=pl.ByHand(), trainer=free)
    # Lightning counts the steps of both, and so its total of them is that of one with as many batches.
    assert pruning.certificate().steps == EPOCHS * BATCHES
    assert pruning.nothing_to_cut()
    assert pruning.certificate().conditions[0] is not None


def test_a_batch_that_the_module_skips_is_not_counted(pl, digits, tmp_path):
    class Skips(pl.Net):
        def training_step(self, batch, index):
            return None if index == 3 else super().training_step(batch, index)

    free = {"accumulate_grad_batches": 1}
    _, pruning = pruned(pl, digits, tmp_path, module=Skips(), trainer=free)
    assert pruning.certificate().steps == EPOCHS * (BATCHES - 1)
    assert pruning.nothing_to_cut()


def test_validation_tells_the_certificate_and_updates_are_told_of(pl, digits, tmp_path):
    events = []
    _, pruning = pruned(pl, digits, tmp_path, goal=Goal(name="accuracy"), on_event=events.append)
    figures = pruning.certificate().figures
    assert figures.before_step == 5
    assert figures.after_step == 10
    assert [event["step"] for event in events] == [update.step for update in pruning.updates]


def test_a_state_beside_other_weights_is_refused(pl, digits, tmp_path):
    pruned(pl, digits, tmp_path, trainer={"max_epochs": 1})
    path = tmp_path / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["net.1.weight"] *= 2
    torch.save(saved, path)
    with pytest.raises(CheckpointError, match=r"net\.1\.weight is not as it was"):
        pruned(pl, digits, tmp_path, resume=path)
