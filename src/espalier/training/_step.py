"""One training step, in the one order in which everything that acts on the weights has to act."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn
from torch.optim import Optimizer

from espalier.methods import Handle
from espalier.tasks import Batch, Task


def train_step(
    model: nn.Module,
    task: Task,
    batch: Batch,
    optimizer: Optimizer,
    handle: Handle | None = None,
    *,
    cast: AbstractContextManager[object] | None = None,
    clip: float | None = None,
    check: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Loss, gradients, the method's part, the optimiser's step, the method's step.

    Args:
        model: Trained in place; in train mode.
        task: Whose loss.
        batch: One of the task's.
        optimizer: Of the model, and of what the method adds to it.
        handle: The method at work; None for plain training.
        cast: The autocast context of the loss; None: none.
        clip: Largest Euclidean norm of the gradient of the data loss.
        check: Called with the loss once its gradients are there; it may raise.

    Returns:
        The loss, detached, still on its device.
    """
    # A method may train a wrapper of the model, and stop doing so at any step: ask anew.
    trained = model if handle is None else handle.trained()
    if not trained.training:
        trained.train()
    optimizer.zero_grad()
    with cast or nullcontext():
        loss = task.loss(trained, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    loss = loss.detach()
    if check is not None:
        check(loss)
    # The pull comes after clipping: it is exact, has no noise to guard against, and clipped together
    # with the data gradient it would weaken just when that is large.
    if clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    if handle is not None:
        handle.add_gradients_()
    optimizer.step()
    if handle is not None:
        handle.step(loss)
    return loss
