"""Where constraints let weights be nonzero, for a rank that holds a part of every tensor.

Each function is a talk (``_ground/world.py``): it asks for sums and maxima over the ranks, of unit energies and of
counts, and never for a tensor. Units that lie in one rank's part are scored there; where the parts cut through
units, all ranks have the sums of their energies. It finds what the constraint finds on one rank, to the bit
wherever the energies add up without rounding (see ``GroupSet.rank``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import singledispatch
from math import prod
from typing import Any

import torch
from torch import Tensor

from espalier._ground.selection import Candidates, longest_run
from espalier._ground.types import Masks, Weights
from espalier._ground.world import Ask, Talk, joined
from espalier.errors import NonFiniteError, RequestError
from espalier.sets._alone import Alone
from espalier.sets._along import energy_of, spread
from espalier.sets._coupled import Coupled
from espalier.sets._energy import checked, extremes
from espalier.sets._naming import named
from espalier.sets._on_levels import OnLevels
from espalier.sets._priced import Priced
from espalier.sets._product import Product
from espalier.sets._set import GroupSet
from espalier.sets._shared import Shared
from espalier.sets._units_over_ranks import (
    Pieces,
    near_part,
    summed_by_unit,
    undivided,
    units_occupied,
    units_scored,
    unknown,
)
from espalier.sets._within import Within

Found = dict[str, Tensor]


# ---- support ------------------------------------------------------------------------------------


@singledispatch
def support(part: Any, w: Weights, h: Weights, pieces: Pieces) -> Talk[Found]:
    """This rank's part of the masks of Π_S(W), by name.

    Args:
        part: A constraint, or a part of one.
        w: This rank's parts.
        h: Those of the diagonal of the metric; names may be missing.
        pieces: Where they lie.
    """
    raise unknown(part)


@support.register
def _(part: Alone, w: Weights, h: Weights, pieces: Pieces) -> Talk[Found]:
    name, which = part.name, part.set
    piece, weights, metric = pieces[name], w[name], h.get(name)
    with named(name):
        undivided(which, piece)
        if not isinstance(which, GroupSet):
            return {name: which.support(weights, part.keep, metric)}
        keep = which.count(piece.shape, part.keep)
        units = yield from units_scored(which, weights, metric, piece)
        (chosen,), _ = yield from longest_run([units.candidates], keep, prod(piece.shape))
        return {name: which.mask(chosen, units.inside, weights.shape)}


@support.register
def _(part: Shared, w: Weights, h: Weights, pieces: Pieces) -> Talk[Found]:
    part._check_names(w)
    which, costs = part.set, part.costs
    # As on one rank: what must stay in every tensor is made dearer than all else, then one run serves both.
    least = {n: min(part.minimum, which.units(pieces[n].shape)) for n in costs}
    part._check_limit(least)
    units = yield from joined(
        {n: units_scored(which, w[n], h.get(n), pieces[n], comparable=True) for n in costs}
    )
    infinite = [not bool(u.candidates.scores.isfinite().all()) for u in units.values()]
    (infinite_somewhere,) = yield [Ask(torch.tensor(infinite).long(), most=True)]
    for name, at_all in zip(costs, infinite_somewhere.tolist(), strict=True):
        if at_all:
            raise NonFiniteError(f"{name}: the energy of a unit overflows float64")
    first = yield from joined(
        {n: longest_run([u.candidates], least[n], prod(pieces[n].shape)) for n, u in units.items()}
    )
    equal = len(set(costs.values())) == 1
    priced, below = [], 0
    for name, unit in units.items():
        each, ((must,), _) = unit.candidates, first[name]
        price = each.scores if equal else each.scores / costs[name]
        priced.append(
            replace(
                each, scores=price.masked_fill(must, torch.inf), cost=costs[name],
                places=each.after(below),
            )
        )  # fmt: skip
        below += prod(pieces[name].shape)
    chosen, left = yield from longest_run(priced, part.limit, below)
    chosen = yield from _filled(priced, chosen, left, below)
    return {
        n: which.mask(mask, units[n].inside, w[n].shape)
        for n, mask in zip(costs, chosen, strict=True)
    }


@support.register
def _(part: Priced, w: Weights, h: Weights, pieces: Pieces) -> Talk[Found]:
    raise RequestError(
        f"{next(iter(part.costs))}: the parts of a priced budget move by energies of whole tensors, and each rank "
        "holds a part of them; share the budget without prices, or use DDP"
    )


def _filled(
    units: Sequence[Candidates], chosen: list[Tensor], left: int, places: int
) -> Talk[list[Tensor]]:
    """By price, those that still fit; a run ends at one that does not, which rules out all of its cost."""
    while any(u.cost <= left for u in units):
        # Tensors whose units cost more than is left are out: none of theirs is a candidate.
        rest = [
            torch.where(m, False, u.cost <= left).nonzero().flatten()
            for u, m in zip(units, chosen, strict=True)
        ]
        open_ = [u.some(i) for u, i in zip(units, rest, strict=True)]
        more, after = yield from longest_run(open_, left, places)
        if after == left:
            break
        left = after
        for mask, index, taken in zip(chosen, rest, more, strict=True):
            mask[index[taken]] = True
    return chosen


@support.register
def _(part: Coupled, w: Weights, h: Weights, pieces: Pieces) -> Talk[Found]:
    if part.columns and any(pieces[n].cut for n in part.members):
        raise RequestError(
            f"{next(iter(part.columns))}: filters and columns are chosen in turn on the whole tensor, and each rank "
            "holds a part of it; plan the filters alone, or use DDP"
        )
    names = [n for n in part.members if pieces[n].cut]
    most = yield [Ask(extremes(w[n], h.get(n)), most=True) for n in names]
    for name, found in zip(names, most, strict=True):
        with named(name):
            checked(found)
    near = near_part(part, pieces)
    if part.columns:
        return part.support(w, h)
    energies = {n: energy_of(n, w[n], h.get(n), along) for n, along in near.members.items()}
    by_unit = yield from summed_by_unit(near, energies, pieces)
    chosen = part._choose(by_unit)
    return {n: spread(along, chosen, w[n].shape) for n, along in near.members.items()}


@support.register
def _(part: Within, w: Weights, h: Weights, pieces: Pieces) -> Talk[Found]:
    yield from ()
    return {n: pieces[n].part(mask).to(w[n].device) for n, mask in part.masks.items()}


@support.register
def _(part: OnLevels, w: Weights, h: Weights, pieces: Pieces) -> Talk[Found]:
    raise RequestError(
        f"{next(iter(part.levels), 'levels')}: the distance of its levels is found from all survivors in order, and "
        "each rank holds a part of them; prune sharded and quantise the whole model after that, or use DDP"
    )


@support.register
def _(part: Product, w: Weights, h: Weights, pieces: Pieces) -> Talk[Found]:
    masks: Found = {}
    alive: Found = {}

    def mine(one: Any) -> Found:
        # What nothing reads has no energy, so that every count is spent on what is alive.
        return {n: torch.where(alive[n], w[n], 0) if n in alive else w[n] for n in one.names}

    taking = [one for one in part.parts if one.implies]
    for one in taking:
        found = yield from support(one, mine(one), h, pieces)
        masks |= {n: m & alive[n] if n in alive else m for n, m in found.items()}
        for name, mask in (yield from implied(one, found, part._beyond(one), pieces)).items():
            alive[name] = mask & alive[name] if name in alive else mask
    rest = [one for one in part.parts if not one.implies]
    each = yield from joined({i: support(one, mine(one), h, pieces) for i, one in enumerate(rest)})
    for found in each.values():
        masks |= {n: m & alive[n] if n in alive else m for n, m in found.items()}
    return {name: masks[name] for name in part.shapes}


# ---- what zeros make irrelevant ---------------------------------------------------------------------


@singledispatch
def implied(
    part: Any, masks: Masks, shapes: Mapping[str, Sequence[int]], pieces: Pieces
) -> Talk[Found]:
    """This rank's part of the masks of what zeros of the ``masks`` make irrelevant; {} for most.

    Args:
        part: A constraint, or a part of one.
        masks: This rank's parts, of its own tensors.
        shapes: The names that are wanted, with the shapes of the whole tensors.
        pieces: Where the parts lie, of these too.
    """
    yield from ()
    return {}


@implied.register
def _(
    part: Coupled, masks: Masks, shapes: Mapping[str, Sequence[int]], pieces: Pieces
) -> Talk[Found]:
    occupied = yield from units_occupied(part, masks, pieces)
    near, found = near_part(part, pieces), {}
    for name, alongs in near.implied.items():
        if name in shapes:
            parts = [spread(along, occupied, pieces[name].part_shape) for along in alongs]
            found[name] = torch.stack(parts).all(0)
    return found


@implied.register
def _(
    part: Product, masks: Masks, shapes: Mapping[str, Sequence[int]], pieces: Pieces
) -> Talk[Found]:
    each = yield from joined(
        {i: implied(p, masks, shapes, pieces) for i, p in enumerate(part.parts)}
    )
    found: Found = {}
    for one in each.values():
        for name, mask in one.items():
            found[name] = mask & found[name] if name in found else mask
    return {name: mask & masks[name] if name in masks else mask for name, mask in found.items()}
