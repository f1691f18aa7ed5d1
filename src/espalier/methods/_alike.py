"""Whether ranks that are to hold the same do hold the same."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from espalier._ground.sharding import distributed
from espalier._ground.world import World
from espalier.errors import RunError

CHECKED_EVERY = 10
"""Updates between two checks."""


def check_alike(world: World, held: Mapping[str, Any], step: int) -> None:
    """Refuse to go on where the ranks hold different values under one name.

    Args:
        world: All of its ranks call this at the same step. Alone there is nothing to compare.
        held: Tensors and plain data, by what a message calls them; of sharded tensors nothing is compared.
        step: Optimiser steps done, for the message.

    Raises:
        RunError: On every rank, with the names.

    Example:
        >>> from espalier._ground.world import ALONE
        >>> check_alike(ALONE, {"weights of fc": torch.ones(2)}, step=20)
    """
    if world.size == 1:
        return
    mine = {name: _hash(x) for name, x in held.items() if not _parted(x)}
    told = world.gather(mine)
    for rank, its in enumerate(told[1:], start=1):
        wrong = [name for name in told[0] if its.get(name) != told[0][name]]
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise RunError(
                f"step {step}: ranks 0 and {rank} do not hold the same {', '.join(wrong[:3])}{more}, and would prune "
                "differently from here; start all from the same weights and train them in DDP (or average their "
                "gradients before add_gradients_()); where each trains a model of its own, give "
                "world=espalier.methods.ALONE"
            )


def _parted(x: Any) -> bool:
    return isinstance(x, Tensor) and distributed(x)


def _hash(x: Any) -> str:
    if not isinstance(x, Tensor):
        return repr(x)
    there = x.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(there.numpy().data, digest_size=8).hexdigest()
