"""One training step, in the one order in which everything that acts on the weights has to act."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn
from torch.optim import Optimizer

from espalier._ground.traces import kept_buffers, random_state, set_random_state
from espalier._ground.world import ALONE, World
from espalier.methods import Handle
from espalier.tasks import Batch, Task
from espalier.training._ranks import add_up_, as_one_batch, part_of
from espalier.training._sharpness import sharpest


def train_step(
    model: nn.Module,
    task: Task,
    batch: Batch,
    optimizer: Optimizer,
    handle: Handle | None = None,
    *,
    cast: AbstractContextManager[object] | None = None,
    clip: float | None = None,
    sam: float = 0.0,
    check: Callable[[Tensor], None] | None = None,
    world: World = ALONE,
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
        sam: Radius of a sharpness-aware step, >= 0: the gradient is then that of the highest point of the loss
            within this distance of the weights, and costs a second pass; 0: a plain step.
        check: Called with the loss once its gradients are there; it may raise.
        world: The ranks that compute the step together, each a part of the batch; all are given the whole batch.

    Returns:
        The loss, detached, still on its device.
    """
    # A method may train a wrapper of the model, and stop doing so at any step: ask anew.
    trained = model if handle is None else handle.trained()
    if not trained.training:
        trained.train()

    part, share = part_of(batch, world)

    def differentiate() -> Tensor:
        optimizer.zero_grad()
        with cast or nullcontext(), as_one_batch(model, world):
            loss = task.loss(trained, part)
        loss = loss if share == 1.0 else loss * share
        loss.backward()  # type: ignore[no-untyped-call]
        return add_up_(optimizer, loss.detach(), world)

    device = next(model.parameters()).device
    before = random_state(device) if sam else None
    loss = differentiate()
    if check is not None:
        check(loss)
    if before is not None:
        masks = None if handle is None else handle.masks
        # The second pass is of the same function: it draws the same dropout, and BatchNorm counts a batch once.
        set_random_state(before, device)
        with sharpest(dict(model.named_parameters()), sam, masks), kept_buffers(model):
            differentiate()
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
