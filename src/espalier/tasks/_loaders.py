"""A task of any two data loaders."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from espalier._ground.example import call
from espalier._ground.modes import evaluating
from espalier.errors import RequestError, RunError
from espalier.tasks._checking import check_metrics, default_goal
from espalier.tasks._figures import Accuracy, Figure, number
from espalier.tasks._loaded import Loaded
from espalier.tasks._splitting import Pair, Split, splitter
from espalier.tasks._task import Goal


class FromLoaders(Loaded):
    """Loss and metrics over two ``DataLoader``s, with workers, pinned memory and any batches.

    A batch is ``(inputs …, target)``, or a mapping whose ``target`` key is the target and whose
    other keys are the model's keyword arguments, or anything that ``split`` takes apart.

    **What resumes exactly.** With a train loader of :func:`~espalier.tasks.seeded_loader` every batch
    is a pure function of (seed, epoch, step), and an epoch taken up in the middle loads nothing of
    what lies before. Any other loader is drawn from the beginning and thrown away up to that step;
    its batches are the same again if it draws from the global generators alone, which are seeded
    from (seed, epoch, step) while it is asked and put back after it. A generator or state of its own
    is not: :attr:`resumes_exactly` is then False, and :attr:`order` says so in a sentence.

    With ``persistent_workers`` only one iteration of a loader can be under way.

    Args:
        train: To learn from.
        test: To evaluate on; must not leave out its last samples.
        loss: (output, target) to a scalar, the mean over the batch. For models that return their
            own loss: ``lambda output, target: output.loss`` with ``target=None``.
        metrics: By name, objects with update(preds, target), compute() and reset(), as torchmetrics
            has them; ``"loss"`` comes in addition. By default the accuracy of logits.
        goal: The figure that a run is judged by; by default the first of the metrics.
        model_arguments: What the data say of the model, for our own networks: ``{"classes": 10}``.
        device: Where batches go; the model must be there too.
        seed: ≥ 0; what the loaders draw from global generators begins with it.
        target: The key of a mapping's target; None: no target, the whole batch goes to the model.
        split: From a batch to (the model's input, the target), in place of all that.
        predict: From the model's output to what the metrics take; by default the output itself.

    Raises:
        RequestError: Not a loader, without a length or a batch; a metric without the protocol; a
            goal that is no metric.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> from espalier.tasks import seeded_loader
        >>> pairs = TensorDataset(torch.randn(12, 3), torch.tensor([0, 1] * 6))
        >>> task = FromLoaders(seeded_loader(pairs, 4, seed=0), DataLoader(pairs, 5),
        ...                    loss=nn.functional.cross_entropy)
        >>> task.steps_per_epoch, sorted(task.evaluate(nn.Linear(3, 2))), task.resumes_exactly
        (3, ['accuracy', 'loss'], True)
    """

    def __init__(
        self,
        train: "DataLoader[Any]",
        test: "DataLoader[Any]",
        *,
        loss: Callable[[Any, Any], Tensor],
        metrics: Mapping[str, Figure] | None = None,
        goal: Goal | None = None,
        model_arguments: Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu",
        seed: int = 0,
        target: str | None = "labels",
        split: Split | None = None,
        predict: Callable[[Any], Any] | None = None,
    ) -> None:
        if not callable(loss):
            raise RequestError(f"loss is a {type(loss).__name__}; give a function (output, target)")
        self.metrics = check_metrics({"accuracy": Accuracy()} if metrics is None else metrics)
        goal = default_goal(self.metrics, metrics is None) if goal is None else goal
        super().__init__(
            train, test, split=split or splitter(target), goal=goal, device=device, seed=seed,
            model_arguments=model_arguments,
        )  # fmt: skip
        if goal.name not in {*self.metrics, "loss"}:
            raise RequestError(
                f"the goal {goal.name!r} is no metric; give one of "
                f"{', '.join([*self.metrics, 'loss'])}"
            )
        self._loss = loss
        self._predict = predict or (lambda output: output)
        for part in (loss, *self.metrics.values()):  # class weights, a metric's counts
            if callable(getattr(part, "to", None)):
                part.to(self.device)  # type: ignore[attr-defined]

    def loss(self, model: nn.Module, batch: Pair) -> Tensor:
        """The loss of a batch, a scalar on the graph."""
        return self._scalar(call(model, batch.inputs), batch)

    def _scalar(self, output: Any, batch: Pair) -> Tensor:
        loss = self._loss(output, batch.target)
        if not isinstance(loss, Tensor) or loss.dim():
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise RequestError(f"loss returned {got}; return a scalar, the mean over the batch")
        return loss

    def _figures(self, model: nn.Module, pairs: Iterable[Pair]) -> dict[str, float]:
        """Every metric, and the mean loss over batches, each weighted by its number of samples."""
        for metric in self.metrics.values():
            metric.reset()
        total, samples = 0.0, 0
        with evaluating(model), torch.no_grad():  # metrics outlive it: no inference tensors in them
            for pair in pairs:
                output = call(model, pair.inputs)
                count = pair.samples()
                total, samples = total + float(self._scalar(output, pair)) * count, samples + count
                for metric in self.metrics.values():
                    metric.update(self._predict(output), pair.target)
        if not samples:
            raise RunError("the loader gave no batch to evaluate on; give it at least one sample")
        figures = {name: number(name, metric.compute()) for name, metric in self.metrics.items()}
        return {**figures, "loss": total / samples}
