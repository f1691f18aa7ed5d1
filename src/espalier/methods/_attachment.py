"""A handle on the step hooks of its optimisers: whatever trainer calls ``optimizer.step()``, it prunes.

optimizer.step(closure)
    before     closure() if there is one; then Λ + ρ(W − Z) is added to the gradients
    after      the step is counted; every ``cadence`` steps: conditions, Z, Λ, s; zeros are held

A hook of the step comes after everything that a trainer does to gradients: accumulation, unscaling, clipping.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from espalier._ground.wrapping import unwrapped_optimizer
from espalier.errors import RequestError, shown
from espalier.methods._cutting import Cutting
from espalier.methods._watch import PullWatch

LossOf = Callable[[], Tensor | float | None]
"""Says the loss of the step that was just made; ``None``: it is not known."""


class Attachment:
    """Calls a handle from the steps of its optimisers, and stands where its watch stood: there is no order to watch.

    With several optimisers each pulls its own constrained parameters, and the steps of the last are counted.

    Args:
        handle: Whose calls these are.
        optimizers: In the order in which they step; those that move nothing constrained are left alone.
        loss: Asked after each counted step; ``None``: what the closure of the step returned, if it had one.

    Raises:
        RequestError: One is no torch optimiser, or does not call its hooks; together they do not hold what is
            constrained; the handle was made with another.
    """

    def __init__(
        self, handle: "Attachable", optimizers: tuple[Optimizer, ...], loss: LossOf | None
    ) -> None:
        own = (handle.optimizer,) if handle.optimizer is not None else ()
        given = tuple(_hooked(one) for one in optimizers or own)
        if not given or (own and own[0] not in given):
            raise RequestError(
                "the handle was made with another optimizer than it is attached to; give both the same one"
                if given
                else "there is no optimizer to attach to; write pruning.attached(optimizer)"
            )
        parts = handle._tensors.moved_by(*given)
        self._handle, self._loss = handle, loss
        self._moves = {optimizer: names for optimizer, names in parts.items() if names}
        self._last = list(self._moves)[-1]
        self._inside = self._left_out = False
        self._returned: Tensor | float | None = None
        self._hooks: list[Any] = []
        for optimizer in self._moves:
            self._hooks.append(optimizer.register_step_pre_hook(self._before))
            self._hooks.append(optimizer.register_step_post_hook(self._after))

    def close(self) -> None:
        """Take the hooks off the optimisers."""
        for hook in self._hooks:
            hook.remove()

    # ---- the hooks ------------------------------------------------------------------------------

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        if self._inside:  # a method's own step, from inside of the handle's
            return None
        self._left_out, self._returned = False, None
        place: Any = 1 if len(args) > 1 else "closure"
        closure = args[1] if place == 1 else kwargs.get("closure")
        if closure is None:
            self._pull_(optimizer)
            return None

        def pulled(*more: Any, **named: Any) -> Any:
            found = closure(*more, **named)
            if self._returned is None:  # L-BFGS asks several times: at the step's own weights first
                self._returned = found.detach() if isinstance(found, Tensor) else found
            self._pull_(optimizer)
            return found

        if place == 1:
            return (args[0], pulled, *args[2:]), kwargs
        return args, {**kwargs, "closure": pulled}

    def _pull_(self, optimizer: Optimizer) -> None:
        gradients = [
            p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None
        ]
        overflowed = getattr(optimizer, "found_inf", None)
        # A fused optimiser is told by the scaler to leave the step out by itself; with no gradient at all, as
        # where a trainer skips a batch, no optimiser moves anything.
        self._left_out = not gradients or (overflowed is not None and bool(overflowed))
        if self._left_out:
            return
        # And it is given the scale, to divide by: the pull would be divided along.
        scale = getattr(optimizer, "grad_scale", None)
        if scale is not None:
            with torch.no_grad():
                torch._foreach_div_(gradients, scale.to(gradients[0].device))
            optimizer.grad_scale = None  # type: ignore[attr-defined]
        with self._calling():
            if len(self._moves) == 1:
                self._handle.add_gradients_()
            else:
                self._handle._add_gradients_to_(self._moves[optimizer])

    def _after(self, optimizer: Optimizer, *_: Any) -> None:
        if self._inside or self._left_out:
            return
        with self._calling():
            if optimizer is self._last:
                self._handle.step(self._returned if self._loss is None else self._loss())
            else:
                self._handle._hold_()

    # ---- in the place of a watch ----------------------------------------------------------------

    @contextmanager
    def _calling(self) -> Iterator[None]:
        self._inside = True
        try:
            yield
        finally:
            self._inside = False

    def adding(self, gradient: Tensor) -> None:
        """The pull is about to be added.

        Raises:
            RequestError: By the loop as well.
        """
        self._refuse_outside("add_gradients_()")

    def added(self, gradient: Tensor, optimizer: Optimizer | None) -> None:
        """The pull was just added."""

    def count(self, step: int, *, owed: bool) -> None:
        """A step is over.

        Raises:
            RequestError: The loop says so as well.
        """
        self._refuse_outside("step()")

    def _refuse_outside(self, call: str) -> None:
        if not self._inside:
            raise RequestError(
                f"the handle is attached to the optimizer, whose step calls {call} by itself; leave out the call, "
                "or do not attach"
            )


class Attachable(Cutting):
    """What can prune without a word in the loop: by the step hooks of its optimisers.

    Attributes:
        optimizer: The handle's own; ``None``: whoever attaches says which.
    """

    optimizer: Optimizer | None
    _pull: PullWatch | Attachment

    @abstractmethod
    def add_gradients_(self) -> None:
        """Before the step."""

    def _add_gradients_to_(self, names: Sequence[str]) -> None:
        """:meth:`add_gradients_` for some of the constrained parameters: those of one of several optimisers."""
        raise RequestError(
            f"{type(self).__name__} works with one optimizer; attach it to that which moves all parameters"
        )

    @abstractmethod
    def step(self, loss: Tensor | float | None = None) -> None:
        """After the step."""

    def attach(self, *optimizers: Optimizer, loss: LossOf | None = None) -> None:
        """Have every step of the optimiser call :meth:`add_gradients_` before it and :meth:`step` after it.

        Works in any trainer: the step comes after backward, accumulation, unscaling and clipping, and a step that
        a gradient scaler leaves out is left out here too.

        Args:
            optimizers: What moves the constrained parameters, as it is or as Accelerate, Fabric or Lightning wrapped
                it; none: the handle's own. Of several, the steps of the last are counted.
            loss: Asked for the loss of each step; by default what the closure returned, if the step had one.

        Raises:
            RequestError: It is attached already; an optimiser that moves none of them or calls no hooks.
        """
        if isinstance(self._pull, Attachment):
            raise RequestError("the handle is attached already; call detach() first")
        attachment = Attachment(self, optimizers, loss)
        self._pull.close()
        self._pull = attachment

    def detach(self) -> None:
        """Take the hooks off the optimisers; where none are, nothing happens."""
        if isinstance(self._pull, Attachment):
            self._pull.close()
            self._pull = PullWatch(self.optimizer)

    @contextmanager
    def attached(self, *optimizers: Optimizer, loss: LossOf | None = None) -> Iterator[None]:
        """:meth:`attach` for the length of a block.

        >>> import espalier as esp
        >>> model = torch.nn.Linear(8, 4)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> pruning = esp.Pruning(model, esp.plan(model, density=0.25), esp.SLR(), steps=10, cadence=2)
        >>> with pruning.attached(optimizer):
        ...     for _ in range(10):
        ...         optimizer.zero_grad(); model(torch.ones(1, 8)).square().sum().backward()
        ...         optimizer.step()
        >>> int(model.weight.count_nonzero())
        8
        """
        self.attach(*optimizers, loss=loss)
        try:
            yield
        finally:
            self.detach()


def _hooked(optimizer: Optimizer) -> Optimizer:
    """The optimiser itself, out of what a trainer wrapped it in.

    Raises:
        RequestError: Its step calls no hooks.
    """
    found = unwrapped_optimizer(optimizer)
    if not isinstance(found, Optimizer):
        raise RequestError(
            f"optimizer={shown(found)}; give the torch optimiser that moves the parameters"
        )
    if not getattr(type(found).step, "hooked", False):
        raise RequestError(
            f"{type(found).__name__} does not call the hooks of torch.optim.Optimizer, so nothing can be attached to "
            "it; call pruning.add_gradients_() before its step and pruning.step(loss) after it"
        )
    return found
