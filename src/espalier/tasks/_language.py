"""Language modelling over bytes."""

import math
import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from espalier.data import load_bytes
from espalier.errors import RequestError
from espalier.tasks._loaders import FromLoaders
from espalier.tasks._sampler import seeded_loader
from espalier.tasks._task import Goal


class Perplexity:
    """exp of the mean cross-entropy of each next token.

    Example:
        >>> figure = Perplexity()
        >>> figure.update(torch.zeros(2, 3, 8), torch.zeros(2, 3, dtype=torch.int64))
        >>> round(figure.compute(), 4)  # nothing known of eight tokens
        8.0
    """

    higher_is_better = False

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Logits (N, T, vocabulary) and tokens (N, T)."""
        self.total += float(
            F.cross_entropy(preds.float().flatten(0, 1), target.flatten(), reduction="sum")
        )
        self.count += target.numel()

    def compute(self) -> float:
        """At least 1; infinite where the mean is too large for a float, NaN where the logits are."""
        mean = self.total / max(1, self.count)
        return math.exp(mean) if not mean > 700 else math.inf

    def reset(self) -> None:
        """Forget all batches."""
        self.total, self.count = 0.0, 0


class Windows:
    """Stretches of a text, each ``context`` + 1 tokens long.

    Args:
        text: uint8 (N,).
        context: Tokens that a model sees.
        moving: Begin each at a random place near its own, drawn from the global generator; else side by side.
    """

    def __init__(self, text: Tensor, context: int, *, moving: bool) -> None:
        self.text, self.context, self.moving = text, context, moving

    def __len__(self) -> int:
        return (len(self.text) - 1) // self.context

    def __getitem__(self, index: int) -> Tensor:
        start = index * self.context
        if self.moving:  # so that no token is always the first, about which nothing is known
            most = len(self.text) - 1 - self.context
            start = min(most, start + int(torch.randint(self.context, ())))
        return self.text[start : start + self.context + 1].long()


def language(
    batch_size: int,
    seed: int,
    device: str | torch.device = "cpu",
    *,
    path: str | os.PathLike[str] | None = None,
    pattern: str = "*.py",
    context: int = 128,
    limit: int = 1 << 24,
    limit_test: int = 1 << 17,
    test_batch_size: int = 32,
) -> FromLoaders:
    """The perplexity of the next byte in text files; every tenth file is for test.

    The model takes tokens (N, context), int64 in [0, 256), and gives logits (N, context, 256), as they are or
    as the ``logits`` of what it returns: a ``GPT2LMHeadModel`` of transformers does, for instance.

    Args:
        batch_size: Windows per training step.
        seed: ≥ 0.
        device: Where batches go.
        path: A folder of text files; None: the standard library of this Python.
        pattern: Of the files' names.
        context: Bytes that the model sees, ≥ 1.
        limit: Bytes that are read.
        limit_test: Of them, those that are evaluated on at most.
        test_batch_size: Windows per step of the evaluation.

    Raises:
        DataError: As of ``data.load_bytes``; fewer bytes than one window.
        RequestError: An argument outside its range.
    """
    if context < 1:
        raise RequestError(f"context={context}; give at least 1")
    train, test = load_bytes(path, pattern=pattern, limit=limit)
    parts = (
        Windows(train, context, moving=True),
        Windows(test[:limit_test], context, moving=False),
    )
    if not all(map(len, parts)):
        raise RequestError(
            f"context={context}, and there are {len(train):,} bytes for training and {len(parts[1].text):,} for "
            "test; give a smaller context, or more text"
        )
    return FromLoaders(
        seeded_loader(parts[0], batch_size, seed),
        seeded_loader(parts[1], test_batch_size, seed, shuffle=False, drop_last=False),
        loss=lambda output, target: F.cross_entropy(
            _logits(output).flatten(0, 1), target.flatten()
        ),
        metrics={"perplexity": Perplexity()},
        goal=Goal(name="perplexity", unit="", higher_is_better=False),
        split=lambda windows: (windows[:, :-1], windows[:, 1:]),
        predict=_logits,
        device=device,
        seed=seed,
    )


def _logits(output: Any) -> Tensor:
    logits: Tensor = getattr(output, "logits", output)
    return logits
