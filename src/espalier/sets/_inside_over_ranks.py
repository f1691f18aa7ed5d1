"""Whether weights of which each rank holds a part are inside a constraint; the same answer on every rank."""

from functools import singledispatch
from typing import Any

import torch

from espalier._ground.types import Weights
from espalier._ground.world import Ask, Talk, joined
from espalier.sets._alone import Alone
from espalier.sets._coupled import Coupled
from espalier.sets._over_ranks import implied, support
from espalier.sets._product import Product
from espalier.sets._set import GroupSet
from espalier.sets._shared import Shared
from espalier.sets._units_over_ranks import Pieces, units_occupied, units_used, unknown
from espalier.sets._within import Within


@singledispatch
def contains(part: Any, w: Weights, pieces: Pieces) -> Talk[bool]:
    """Whether the tensors, of which this rank has parts, are inside; the same on every rank."""
    raise unknown(part)


@contains.register
def _(part: Alone, w: Weights, pieces: Pieces) -> Talk[bool]:
    which, piece = part.set, pieces[part.name]
    if not isinstance(which, GroupSet):
        return part.contains(w)
    used, fits = yield from units_used(which, w[part.name], piece)
    return fits and used <= which.count(piece.shape, part.keep)


@contains.register
def _(part: Shared, w: Weights, pieces: Pieces) -> Talk[bool]:
    found = yield from joined({n: units_used(part.set, w[n], pieces[n]) for n in part.costs})
    total = 0
    for name, (used, _) in found.items():
        least = min(part.minimum, part.set.units(pieces[name].shape))
        total += part.costs[name] * max(used, least)
    return all(fits for _, fits in found.values()) and total <= part.limit


@contains.register
def _(part: Coupled, w: Weights, pieces: Pieces) -> Talk[bool]:
    if part.columns:
        return part.contains(w)
    occupied = yield from units_occupied(part, w, pieces)
    used = [int(each.sum()) for each in torch.split(occupied, list(part.sizes))]
    return all(n <= keep for n, keep in zip(used, part.keep, strict=True))


@contains.register
def _(part: Within, w: Weights, pieces: Pieces) -> Talk[bool]:
    own = yield from support(part, w, {}, pieces)
    return (yield from _none(bool(w[n].detach()[~mask].any()) for n, mask in own.items()))


@contains.register
def _(part: Product, w: Weights, pieces: Pieces) -> Talk[bool]:
    each = yield from joined({i: contains(one, w, pieces) for i, one in enumerate(part.parts)})
    if not all(each.values()):
        return False
    stray = []
    for one in part.parts:
        beyond = part._beyond(one)
        if beyond:
            own = yield from support(one, {n: w[n] for n in one.names}, {}, pieces)
            taken = yield from implied(one, own, beyond, pieces)
            stray += [bool(w[n].detach()[~mask].any()) for n, mask in taken.items()]
    return (yield from _none(stray))


def _none(found: Any) -> Talk[bool]:
    """Whether no rank has found any."""
    (count,) = yield [Ask(torch.tensor(sum(found)))]
    return not int(count)
