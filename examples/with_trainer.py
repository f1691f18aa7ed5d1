"""Pruning with the Trainer of transformers: one line, a small ResNet, handwritten digits.

python examples/with_trainer.py [checkpoint to resume from]
"""

import sys

import torch
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

import espalier as esp
from espalier import data
from espalier.integrations import TrainerPruning


class Digits(torch.utils.data.Dataset):
    """Images and labels under the names that the model takes."""

    def __init__(self, part: data.ImageSet) -> None:
        self.images, self.labels = part.normalise(part.images), part.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.images[index], "labels": self.labels[index]}


digits = data.load("digits")
torch.manual_seed(0)
config = ResNetConfig(
    num_channels=1, embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=10,
)  # fmt: skip
model = ResNetForImageClassification(config)
arguments = TrainingArguments(
    output_dir="with_trainer", num_train_epochs=4, per_device_train_batch_size=16, learning_rate=1e-2,
    save_steps=50, report_to="none", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False, seed=0,
)  # fmt: skip
trainer = Trainer(
    model=model,
    args=arguments,
    train_dataset=Digits(digits.train),
    eval_dataset=Digits(digits.test),
    compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())},
    callbacks=[TrainerPruning(esp.plan(model, density=0.2), esp.SLR(), cadence=5)],  # added
)
trainer.train(resume_from_checkpoint=sys.argv[1] if len(sys.argv) > 1 else None)

accuracy = trainer.evaluate()["eval_accuracy"]
weights = [m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
left = sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)
print(f"{left:.1%} of the weights left, accuracy {accuracy:.1%}")
trainer.save_model("with_trainer/pruned")  # from_pretrained reads it, zeros in place
