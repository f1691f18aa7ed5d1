"""Pruning with Lightning's Trainer: one line leaves a twentieth of LeNet-300-100's weights, on handwritten digits.

python examples/with_lightning.py [checkpoint to resume from]
"""

import sys

import lightning.pytorch as pl
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import espalier as esp
from espalier import data, models
from espalier.integrations import LightningPruning


class Digits(pl.LightningModule):
    """LeNet-300-100 and its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = models.build("lenet300")

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        """The loss of a batch."""
        return cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        """The accuracy, for the log."""
        self.log("accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


pl.seed_everything(0, verbose=False)
digits = data.load("digits")
parts = [
    DataLoader(TensorDataset(part.normalise(part.images), part.labels), size, shuffle=shuffle)
    for part, size, shuffle in ((digits.train, 32, True), (digits.test, 10_000, False))
]
module = Digits()
trainer = pl.Trainer(
    max_epochs=8, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir="with_lightning",
    enable_model_summary=False, gradient_clip_val=1.0,
    callbacks=[LightningPruning(esp.plan(module, density=0.05), esp.SLR())],  # added
)  # fmt: skip
trainer.fit(module, *parts, ckpt_path=sys.argv[1] if len(sys.argv) > 1 else None)

accuracy = float(trainer.callback_metrics["accuracy"])
weights = [p for p in module.parameters() if p.dim() > 1]
left = sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)
print(f"{left:.1%} of the weights left, accuracy {accuracy:.1%}")
