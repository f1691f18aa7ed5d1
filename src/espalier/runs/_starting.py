"""With which weights a stage begins."""

import torch
from torch import nn

from espalier._ground.types import Masks
from espalier.errors import RequestError
from espalier.methods import hold_
from espalier.models import load_weights
from espalier.runs._folder import RunFolder
from espalier.runs._stage import Load, Redraw, Rewind, Start
from espalier.sets import Constraint, Within


def start_(model: nn.Module, run: RunFolder, start: Start, held: Masks) -> None:
    """Put the weights and buffers where a stage begins.

    Raises:
        CheckpointError: The file is missing, or is another model's.
        RequestError: New weights are asked for and a layer does not say how to draw them.
    """
    if isinstance(start, Rewind):
        load_weights(model, run / start.file)
    elif isinstance(start, Load):
        load_weights(model, start.path)
    elif isinstance(start, Redraw):
        redraw_(model, start.seed)
    # What is held stays zero, so that an aim that reads zeros off the model finds them.
    hold_(dict(model.named_parameters()), held)


@torch.no_grad()
def redraw_(model: nn.Module, seed: int) -> None:
    """New weights, by every layer's own initialisation; buffers begin anew as well.

    Raises:
        RequestError: A parameter that no layer says how to initialise: it would stay as trained.
    """
    resets = {}
    for name, module in model.named_modules():
        reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
        if callable(reset):
            resets[name] = reset
        elif (own := next(iter(module.named_parameters(recurse=False)), None)) is not None:
            raise RequestError(
                f"{f'{name}.{own[0]}'.lstrip('.')}: {type(module).__name__} has no reset_parameters(), "
                "so its weights cannot be drawn anew; write one, or rewind instead"
            )
    cuda = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(cuda)):
        torch.manual_seed(seed)
        for reset in resets.values():
            reset()


def left_by_cut(constraint: Constraint, held: Masks) -> Constraint:
    """What later stages keep: the constraint; or the masks of a cut that was not made for it.

    A method whose penalty decides the density (L0 with a fixed λ, RDA) leaves other supports than the plan
    has. What was cut then is what stays: a later stage must not cut anew to a plan that nobody trained for.
    """
    masks = {name: held[name] for name in constraint.names if name in held}
    whole = len(masks) == len(constraint.names)
    if not whole or constraint.contains({n: m.float() for n, m in masks.items()}):
        return constraint
    return Within(masks)
