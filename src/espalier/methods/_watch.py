"""What a loop may do wrong with a handle, found at the first step at which it is wrong.

None of it looks at the weights: objects are compared, and at the first step one element of one gradient.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier.errors import RequestError, UnknownNameError, nearest


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
        every = dict(model.named_parameters())
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
        for name, parameter in self._made_for.items():
            if self._found(name) is not parameter:
                raise RequestError(
                    f"{name} was replaced after the handle was made, and neither its masks nor the optimiser "
                    "follow; make the handle (and the optimiser) after the model is whole"
                )
        return dict(self._made_for)

    def check_optimizer(self, optimizer: Optimizer) -> None:
        """Refuse an optimiser that does not move them.

        Raises:
            RequestError: With their names.
        """
        moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
        missing = [name for name, p in self._made_for.items() if id(p) not in moved]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise RequestError(
                f"the optimizer does not hold {', '.join(missing[:3])}{more}, which the plan constrains; "
                "give it the parameters of this very model, or exclude them from the plan"
            )

    def _found(self, name: str) -> nn.Parameter | None:
        try:
            return self._model.get_parameter(name)
        except AttributeError:
            return None


class PullWatch:
    """Whether the pull is added once to every step's gradients, and to gradients that are not scaled.

    A step that is skipped, by a gradient scaler or by hand, is no error: the next gradients are new tensors,
    or the handle's ``step`` was called.
    """

    def __init__(self) -> None:
        self._on: Tensor | None = None  # the gradient that has the pull, until the step is counted
        self._scale = _ScaleWatch()

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
        self._on = None


class _ScaleWatch:
    """Finds a gradient scaler that divides the pull along with the gradients, for want of ``unscale_``.

    ``GradScaler.step`` divides what was not unscaled by its scale, a power of two, just before the optimiser's
    step; a fused optimiser is given the scale and divides by itself. So at the first step at which it is not
    zero one element of a gradient is compared with what it was with the pull. (The scaler writes past the
    version counter of the tensor, so that this cannot be asked instead.)
    """

    def __init__(self) -> None:
        self._done = False
        self._hook: Any = None
        self._seen: tuple[Tensor, Tensor] | None = None

    def added(self, gradient: Tensor, optimizer: Optimizer | None) -> None:
        """The pull was added to this gradient, and the optimiser's step is to come."""
        if (
            self._done
            or not hasattr(optimizer, "_optimizer_step_pre_hooks")
            or not gradient.numel()
        ):
            return
        assert optimizer is not None
        self._hook = self._hook or optimizer.register_step_pre_hook(self._look)
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
        self._hook.remove()


def _middle(x: Tensor) -> Tensor:
    """One element, without a copy of the rest."""
    return x.detach()[tuple(size // 2 for size in x.shape)]


def check_entries(
    saved: Mapping[str, Any], own: Mapping[str, Any], optional: Sequence[str]
) -> None:
    """Refuse a state that lacks what a handle's own has.

    Raises:
        RequestError: With what is missing.
    """
    missing = [name for name in own if name not in saved and name not in optional]
    if missing:
        raise RequestError(
            f"the state lacks {', '.join(missing)}; give what state_dict() of such a handle returned"
        )


def check_tensors(what: str, saved: Mapping[str, Any], like: Mapping[str, Tensor]) -> None:
    """Refuse tensors of another model.

    Raises:
        RequestError: A name that the model does not have, or another shape.
    """
    for name, value in saved.items():
        if name not in like:
            raise RequestError(
                f"the state has {what} of {name!r}, which is no parameter here: {nearest(name, like)}"
            )
        if tuple(value.shape) != tuple(like[name].shape):
            raise RequestError(
                f"the state has {what} of {name!r} in the shape {tuple(value.shape)}, and here it is "
                f"{tuple(like[name].shape)}; give the state of this very model"
            )
