"""What a loop may do wrong with a handle, found at the first step at which it is wrong.

None of it looks at the weights: objects are compared, and at the first step one element of one gradient.
"""

import math
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier._ground.sharding import local, parameters_of, reshard_
from espalier.errors import RequestError, UnknownNameError, shown


class Tensors:
    """The parameters that a handle was made for; they are to stay the model's and the optimiser's.

    Args:
        model: Whose.
        names: Which.

    Raises:
        UnknownNameError: A name that the model does not have, or has only as another name of a tied one.
        RequestError: Two names of one tensor.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self._model = model
        every = parameters_of(model)
        tied: dict[int, str] = {}
        for name in names:
            parameter = model.get_parameter(name)
            first = tied.setdefault(id(parameter), name)
            if first != name:
                raise RequestError(
                    f"{first} and {name} are one tensor, and the plan has a keep for both; keep one of them"
                )
        for name in names:
            if name not in every:
                own = next(n for n, p in every.items() if p is model.get_parameter(name))
                raise UnknownNameError(
                    f"{name} is the tensor that the model calls {own} first; plan it under that name"
                )
        self._made_for = {name: every[name] for name in names}

    def now(self) -> dict[str, nn.Parameter]:
        """The parameters by name.

        Raises:
            RequestError: One was replaced since the handle was made.
        """
        reshard_(self._model)
        for name, parameter in self._made_for.items():
            if self._found(name) is not parameter:
                raise RequestError(
                    f"{name} was replaced after the handle was made, and neither its masks nor the optimiser "
                    "follow; make the handle (and the optimiser) after the model is whole"
                )
        return dict(self._made_for)

    def moved_by(self, *optimizers: Optimizer) -> dict[Optimizer, tuple[str, ...]]:
        """Which of them each optimiser moves; together they must move all.

        Raises:
            RequestError: With the names of those that none moves.
        """
        found: dict[Optimizer, tuple[str, ...]] = {}
        for optimizer in optimizers:
            groups = getattr(optimizer, "param_groups", None)
            if groups is None:
                raise RequestError(
                    f"optimizer={shown(optimizer)}; give the torch optimiser that moves the parameters, or None"
                )
            moved = {id(p) for group in groups for p in group["params"]}
            found[optimizer] = tuple(n for n, p in self._made_for.items() if id(p) in moved)
        missing = [name for name in self._made_for if not any(name in ns for ns in found.values())]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise RequestError(
                f"the optimizer does not hold {', '.join(missing[:3])}{more}, which the plan constrains; "
                "give it the parameters of this very model, or exclude them from the plan"
            )
        return found

    def _found(self, name: str) -> nn.Parameter | None:
        try:
            return self._model.get_parameter(name)
        except AttributeError:
            return None


class PullWatch:
    """Whether the pull is added once to every step's gradients, and to gradients that are not scaled.

    A step that is skipped, by a gradient scaler or by hand, is no error: the next gradients are new tensors,
    or the handle's ``step`` was called.

    Args:
        optimizer: Is asked after its steps, until one was in order; ``None``: unknown.
    """

    def __init__(self, optimizer: Optimizer | None) -> None:
        self._on: Tensor | None = None  # the gradient that has the pull, until the step is counted
        self._stepped = False  # with the pull, and not counted yet
        # What it stepped with: the gradient and its version, by id.
        self._used: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._scale = _ScaleWatch()
        hooked = hasattr(optimizer, "_optimizer_step_post_hooks")
        # After a step and not before it: a closure of L-BFGS adds the pull inside of one.
        self._hook: Any = hooked and optimizer.register_step_post_hook(self._look)  # type: ignore[union-attr]

    def close(self) -> None:
        """Stop looking."""
        for hook in (self._hook, self._scale.hook):
            if hook:
                hook.remove()

    def _look(self, optimizer: Optimizer, *_: Any) -> None:
        grads = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        self._stepped = self._on is not None
        if self._stepped and grads and not any(g is self._on for g in grads):
            raise RequestError(
                "the gradients were made anew between add_gradients_() and optimizer.step(), and the pull is lost; "
                "call zero_grad() before backward()"
            )
        self._used = {id(g): (weakref.ref(g), local(g)._version) for g in grads}

    def adding(self, gradient: Tensor) -> None:
        """The pull is about to be added to the gradients of which this is the first.

        Raises:
            RequestError: The optimiser has stepped with them already; its last step was not counted.
        """
        if self._stepped:
            raise RequestError(
                "the optimizer stepped and step() was not called; call it after every optimizer.step(), with the loss"
            )
        used, version = self._used.get(id(gradient), (None, 0))
        if used is not None and used() is gradient and local(gradient)._version == version:
            raise RequestError(
                "add_gradients_() was called after optimizer.step(), so that nothing pulls the weights; call it after "
                "backward() and before optimizer.step()"
            )

    def added(self, gradient: Tensor, optimizer: Optimizer | None) -> None:
        """The pull was just added to the gradients of which this is the first.

        Raises:
            RequestError: It was added to these before.
        """
        if self._on is gradient:
            raise RequestError(
                "add_gradients_() was called twice for one step, and the pull would count twice; call it once, "
                "after the last backward() and before optimizer.step(). After a step left out by hand, make the "
                "gradients anew: zero_grad(set_to_none=True)"
            )
        self._on = gradient
        self._scale.added(gradient, optimizer)

    def count(self, step: int, *, owed: bool) -> None:
        """A step is over; ``owed``: the method has a pull to add.

        Raises:
            RequestError: It was not added.
        """
        if owed and self._on is None:
            raise RequestError(
                f"step {step}: add_gradients_() was not called, so nothing pulls the weights; call it after "
                "backward() and before optimizer.step()"
            )
        if self._stepped and self._hook:
            self._hook.remove()  # the order of a loop does not change
            self._hook = None
        self._on, self._stepped, self._used = None, False, {}
        self._scale.rest()


class _ScaleWatch:
    """Finds a gradient scaler that divides the pull along with the gradients, for want of ``unscale_``.

    ``GradScaler.step`` divides what was not unscaled by its scale, a power of two, just before the optimiser's
    step; a fused optimiser is given the scale and divides by itself. So at the first step at which it is not
    zero one element of a gradient is compared with what it was with the pull. (The scaler writes past the
    version counter of the tensor, so that this cannot be asked instead.)
    """

    def __init__(self) -> None:
        self._done = False
        self.hook: Any = None
        self._seen: tuple[Tensor, Tensor] | None = None

    def added(self, gradient: Tensor, optimizer: Optimizer | None) -> None:
        """The pull was added to this gradient, and the optimiser's step is to come."""
        if (
            self._done
            or not hasattr(optimizer, "_optimizer_step_pre_hooks")
            or not local(gradient).numel()
        ):
            return
        assert optimizer is not None
        self.hook = self.hook or optimizer.register_step_pre_hook(self._look)
        self._seen = gradient, _middle(gradient).clone()

    def _look(self, optimizer: Optimizer, *_: Any) -> None:
        seen, self._seen = self._seen, None
        if seen is None:
            return
        scaled = getattr(optimizer, "grad_scale", None) is not None
        if not scaled:
            before, after = torch.stack([seen[1], _middle(seen[0])]).tolist()
            if before == 0 or not math.isfinite(before):
                return  # nothing is to be seen at this step
            mantissa, exponent = math.frexp(after / before)
            scaled = mantissa == 0.5 and exponent <= 0  # 2^-1 or less; clipping hits none of these
        self._done = not scaled
        if scaled:
            raise RequestError(
                "the gradients are divided between add_gradients_() and the optimizer's step, and the pull with "
                "them; with a gradient scaler call scaler.unscale_(optimizer) before add_gradients_(), and average "
                "gradients before it too"
            )

    def rest(self) -> None:
        """Take the hook off where all is well; not from inside of it, where others are being called."""
        if self._done and self.hook is not None:
            self.hook.remove()
            self.hook = None


def _middle(x: Tensor) -> Tensor:
    """One element, without a copy of the rest."""
    part = local(x).detach()
    return part[tuple(size // 2 for size in part.shape)]
