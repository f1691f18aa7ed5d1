"""The Trainer of transformers prunes, is killed, goes on to the same weights, and brings back only what is pruned."""

import importlib
import warnings
from types import SimpleNamespace

import pytest
import torch

import espalier as esp
from espalier import data
from espalier.artifact import save_pretrained
from espalier.errors import CheckpointError, RequestError
from espalier.integrations import TrainerPruning
from espalier.tasks import Goal
from killing import kill_me, killed

STEPS = 30


@pytest.fixture(scope="module")
def hf(vision):  # it imports torchvision where that is installed
    pytest.importorskip("sklearn")
    pytest.importorskip("accelerate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip("transformers")
        library.utils.logging.disable_progress_bar()
        names = ("Trainer", "TrainingArguments", "TrainerCallback")
        return SimpleNamespace(
            **{name: getattr(library, name) for name in names},
            config=library.BertConfig,
            model=library.BertForSequenceClassification,
            trainer=importlib.import_module("transformers.trainer"),
        )


class Digits(torch.utils.data.Dataset):
    """The rows of an image as the words of a sentence."""

    def __init__(self, part, count):
        self.x, self.y = part.normalise(part.images)[:count, 0], part.labels[:count]

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return {"inputs_embeds": self.x[index], "labels": self.y[index]}


@pytest.fixture(scope="module")
def digits(hf):
    split = data.load("digits")
    return Digits(split.train, 160), Digits(split.test, 64)


def small_bert(hf):
    torch.manual_seed(0)
    config = hf.config(
        vocab_size=2, hidden_size=28, num_hidden_layers=1, num_attention_heads=2, num_labels=10,
        intermediate_size=32, max_position_embeddings=28, hidden_dropout_prob=0.1,
    )  # fmt: skip
    return hf.model(config)


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def trainer_of(hf, digits, folder, callback=None, *, model=None, **settings):
    """10 steps an epoch, of two accumulated batches each, clipped."""
    settings = {
        "output_dir": str(folder), "num_train_epochs": 3, "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2, "learning_rate": 1e-2, "max_grad_norm": 0.5,
        "save_strategy": "steps", "save_steps": 10, "logging_strategy": "no", "report_to": "none",
        "disable_tqdm": True, "seed": 7, "use_cpu": True, "dataloader_pin_memory": False,
    } | settings  # fmt: skip
    model = model or small_bert(hf)
    return hf.Trainer(
        model=model,
        args=hf.TrainingArguments(**settings),
        train_dataset=digits[0],
        eval_dataset=digits[1],
        compute_metrics=accuracy,
        callbacks=[callback] if callback else None,
    )


def pruned(hf, digits, folder, *, resume=None, dies=None, **settings):
    """A training, from a model as a new process would make it."""
    model = small_bert(hf)
    settings = dict(settings)
    own = {n: settings.pop(n) for n in ("settle", "goal", "resume_from") if n in settings}
    callback = TrainerPruning(esp.plan(model, density=0.3), esp.SLR(), cadence=2, **own)
    trainer = trainer_of(hf, digits, folder, callback, model=model, **settings)
    if dies is not None:

        class Dies(hf.TrainerCallback):
            def on_step_end(self, args, state, control, **_):
                if state.global_step == dies:
                    kill_me()

        trainer.add_callback(Dies())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train(resume_from_checkpoint=resume)
    return trainer, callback


def weights(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(hf, digits, tmp_path_factory):
    trainer, callback = pruned(hf, digits, tmp_path_factory.mktemp("whole"))
    return weights(trainer), callback.pruning


def test_a_trainer_prunes_with_one_line_and_the_certificate_says_that_no_loss_was_told(whole):
    _, pruning = whole
    assert pruning.nothing_to_cut()
    certificate = pruning.certificate()
    assert certificate.steps == STEPS
    assert certificate.updates > 3
    assert "no loss was told" in certificate.sentence


@pytest.mark.parametrize(
    "dies", [15, 25]
)  # while the weights are pulled, and once they have settled
def test_a_trainer_that_was_killed_goes_on_to_the_same_weights(hf, digits, whole, tmp_path, dies):
    killed(lambda: pruned(hf, digits, tmp_path, dies=dies))
    last = hf.trainer.get_last_checkpoint(str(tmp_path))
    assert last.endswith(f"checkpoint-{dies - 5}")
    trainer, callback = pruned(hf, digits, tmp_path, resume=last)
    assert same(weights(trainer), whole[0])
    assert callback.pruning.updates == whole[1].updates
    assert callback.pruning.certificate() == whole[1].certificate()


def test_a_loop_with_the_explicit_calls_ends_at_the_same_weights(hf, digits, whole, tmp_path):
    """The trainer's own loop once more, the calls made around the very step of its optimiser."""
    model = small_bert(hf)
    plan = esp.plan(model, density=0.3)

    class Calls(hf.TrainerCallback):
        def on_train_begin(self, args, state, control, optimizer, **_):
            method = esp.Constrained(solver=esp.SLR(), cadence=2)
            self.pruning = esp.Pruning(model, plan, method, optimizer, state.max_steps)

        def on_pre_optimizer_step(self, *_, **__):
            self.pruning.add_gradients_()

        def on_optimizer_step(self, *_, **__):
            self.pruning.step()

    calls = Calls()
    trainer = trainer_of(hf, digits, tmp_path, calls, model=model, save_strategy="no")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
    assert same(weights(trainer), whole[0])
    assert calls.pruning.updates == whole[1].updates


BEST = {
    "load_best_model_at_end": True, "metric_for_best_model": "accuracy", "eval_strategy": "steps",
    "eval_steps": 5, "save_steps": 5,
}  # fmt: skip


def test_the_best_model_that_is_brought_back_is_one_on_the_plan(hf, digits, tmp_path):
    goal = Goal(name="eval_accuracy")
    # A rate that wrecks the weights: the best figures are the first ones, of weights that were not cut yet.
    trainer, callback = pruned(hf, digits, tmp_path, goal=goal, **BEST, learning_rate=5e-2)
    best = int(trainer.state.best_model_checkpoint.rpartition("-")[2])
    assert best >= callback.pruning.certificate().forced[0].step
    assert callback.pruning.nothing_to_cut()
    assert callback.pruning.certificate().steps == best
    assert callback.pruning.certificate().figures.goal == goal


def test_the_best_model_of_a_run_that_never_settles_is_refused(hf, digits, tmp_path):
    with pytest.raises(RequestError, match="weights from before the cut"):
        pruned(hf, digits, tmp_path, settle=None, **BEST)


def test_without_settling_the_weights_are_cut_at_the_end(hf, digits, tmp_path):
    _, callback = pruned(hf, digits, tmp_path, settle=None, save_strategy="no", max_steps=8)
    assert callback.pruning.nothing_to_cut()
    assert callback.pruning.certificate().forced[0].step == 8


def test_a_checkpoint_without_a_state_or_beside_other_weights_is_refused(hf, digits, tmp_path):
    pruned(hf, digits, tmp_path / "a", max_steps=10)
    pruned(hf, digits, tmp_path / "b", max_steps=10, learning_rate=1e-3)
    checkpoint = tmp_path / "a/checkpoint-10"
    with pytest.raises(CheckpointError, match="is not as it was when the pruning state was saved"):
        pruned(hf, digits, tmp_path / "b", resume=str(checkpoint), max_steps=20)
    elsewhere = {"resume": str(checkpoint), "resume_from": checkpoint, "max_steps": 12}
    _, callback = pruned(hf, digits, tmp_path / "b", **elsewhere)
    assert callback.pruning.certificate().steps == 12
    (checkpoint / "espalier.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint-10 has no espalier\.safetensors"):
        pruned(hf, digits, tmp_path / "a", resume=str(checkpoint), max_steps=20)


def test_masked_and_compact_models_come_back_by_from_pretrained(hf, digits, whole, tmp_path):
    trainer, callback = pruned(hf, digits, tmp_path / "run", save_strategy="no", max_steps=8)
    trainer.save_model(str(tmp_path / "masked"))
    again = hf.model.from_pretrained(tmp_path / "masked")
    assert same(dict(again.named_parameters()), weights(trainer))
    assert callback.pruning.constraint.contains(dict(again.named_parameters()))

    model = small_bert(hf)
    example = {"inputs_embeds": digits[1][0]["inputs_embeds"][None]}
    plan = esp.plan(
        model,
        density=0.5,
        set=esp.sets.Filters(),
        include=["*intermediate*"],
        example_input=example,
    )
    callback = TrainerPruning(plan, esp.SLR(), cadence=2)
    trainer = trainer_of(hf, digits, tmp_path / "s", callback, model=model, max_steps=12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
    small = esp.compact(model.eval(), example)
    written = save_pretrained(tmp_path / "small", small, example)
    assert written.reader == "from_pretrained"
    small_again = hf.model.from_pretrained(tmp_path / "small").eval()
    assert small_again.config.intermediate_size == 16
    with torch.no_grad():
        difference = small_again(**example).logits - model(**example).logits
    assert float(difference.abs().max()) < 1e-4
