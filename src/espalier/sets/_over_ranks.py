"""Where constraints let weights be nonzero, for a rank that holds a part of every tensor.

Each function is a talk (``_ground/world.py``): it asks for sums and maxima over the ranks, of unit energies and of
counts, and never for a tensor. Units that lie in one rank's part are scored there; where the parts cut through
units, all ranks have the sums of their energies. It finds what the constraint finds on one rank, to the bit
wherever the energies add up without rounding (see ``GroupSet.rank``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, singledispatch
from math import prod
from typing import Any

import torch
from torch import Tensor

from espalier._ground.selection import Candidates, longest_run
from espalier._ground.sharding import Piece
from espalier._ground.types import Masks, Weights
from espalier._ground.world import Ask, Talk, joined
from espalier.errors import NonFiniteError, RequestError, ShapeError
from espalier.sets._alone import Alone
from espalier.sets._along import Along, energy_of, spread
from espalier.sets._coupled import Coupled
from espalier.sets._energy import checked, extremes
from espalier.sets._layout import Layout
from espalier.sets._naming import named
from espalier.sets._on_levels import OnLevels
from espalier.sets._product import Product
from espalier.sets._set import GroupSet
from espalier.sets._shared import Shared
from espalier.sets._within import Within

Pieces = Mapping[str, Piece]
Found = dict[str, Tensor]


# ---- units of one tensor ------------------------------------------------------------------------


def undivided(which: Any, piece: Piece) -> bool:
    """Whether every unit lies in one rank's part; else every part has a share of every unit.

    Raises:
        RequestError: Neither: the message says which set, and why.
    """
    if not piece.cut:
        return True
    if not isinstance(which, GroupSet):
        raise RequestError(
            f"{which.name}: the nearest point needs the whole tensor, and each rank holds a part of it; use DDP, or a "
            "set of units of one size"
        )
    whole = which.layout(piece.shape)
    try:
        parts = [which.layout(piece.shape_of(rank)) for rank in range(len(piece.cuts))]
    except ShapeError as error:
        raise _across(which, piece) from error
    if all(part.size == whole.size for part in parts):
        return True
    if all(part.units == whole.units for part in parts) and not _sparse_inside(which):
        return False
    raise _across(which, piece)


def _sparse_inside(which: GroupSet) -> bool:
    return type(which).inside is not GroupSet.inside


def _across(which: GroupSet, piece: Piece) -> RequestError:
    sizes = [end - start for start, end in piece.cuts]
    return RequestError(
        f"{which.name}: parts of {sizes} along axis {piece.axis} of {piece.shape} cut through its {which.unit}; "
        "choose units that fit the parts, shard another axis, or use DDP"
    )


@dataclass(frozen=True)
class _Scored:
    """The units of one tensor that a rank can speak of."""

    candidates: Candidates
    inside: Tensor | None


def _scored(
    which: GroupSet, w: Tensor, h: Tensor | None, piece: Piece, *, comparable: bool = False
) -> Talk[_Scored]:
    """Scores of the units; ``comparable`` between tensors."""
    found = extremes(w, h)
    if piece.cut:
        (found,) = yield [Ask(found, most=True)]
    whole = undivided(which, piece)
    scores, inside = (which.energies if comparable else which.rank)(w, h, checked(found))
    layout = which.layout(tuple(w.shape) if whole else piece.shape)
    if not whole:
        (scores,) = yield [Ask(scores.double())]

    def places(index: Tensor) -> Tensor:
        first = _first(layout, index)
        return piece.places(first) if whole else first

    counted = piece.counted if whole else piece.rank == 0
    return _Scored(Candidates(scores=scores, places=places, counted=counted), inside)


def _first(layout: Layout, units: Tensor) -> Tensor:
    """Where in a tensor the first weight of each unit lies; in the order of the units."""
    at, rest, stride = torch.zeros_like(units), units, 1
    for axis in reversed(range(len(layout.split))):
        n = layout.split[axis]
        if axis not in layout.within:
            at, rest = at + rest % n * stride, rest // n
        stride *= n
    return at


def _used(which: GroupSet, w: Tensor, piece: Piece) -> Talk[tuple[int, bool]]:
    """How many units of the whole tensor hold a nonzero weight, and whether each could have its nonzeros."""
    occupied = which.occupied(w)
    wrong = not which.fits_inside(w.detach().ne(0).reshape(which.layout(w.shape).split))
    counts = torch.tensor([int(occupied.sum()), wrong])
    if not undivided(which, piece):
        (shares,) = yield [Ask(occupied.long())]
        counts = torch.tensor([int((shares > 0).sum()), wrong])
    elif piece.cut:
        (counts,) = yield [Ask(counts)]
    return int(counts[0]), not counts[1]


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
    raise _unknown(part)


@support.register
def _(part: Alone, w: Weights, h: Weights, pieces: Pieces) -> Talk[Found]:
    name, which = part.name, part.set
    piece, weights, metric = pieces[name], w[name], h.get(name)
    with named(name):
        undivided(which, piece)
        if not isinstance(which, GroupSet):
            return {name: which.support(weights, part.keep, metric)}
        keep = which.count(piece.shape, part.keep)
        units = yield from _scored(which, weights, metric, piece)
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
        {n: _scored(which, w[n], h.get(n), pieces[n], comparable=True) for n in costs}
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
                places=partial(_after, below, each.places),
            )
        )  # fmt: skip
        below += prod(pieces[name].shape)
    chosen, left = yield from longest_run(priced, part.limit, below)
    chosen = yield from _filled(priced, chosen, left, below)
    return {
        n: which.mask(mask, units[n].inside, w[n].shape)
        for n, mask in zip(costs, chosen, strict=True)
    }


def _after(below: int, places: Callable[[Tensor], Tensor], index: Tensor) -> Tensor:
    """Places after those of the tensors before."""
    return places(index) + below


def _of_some(some: Tensor, places: Callable[[Tensor], Tensor], index: Tensor) -> Tensor:
    """Places of a few of the units, from indices into these."""
    return places(some[index])


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
        open_ = [
            replace(u, scores=u.scores[i], places=partial(_of_some, i, u.places))
            for u, i in zip(units, rest, strict=True)
        ]
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
    near = _near(part, pieces)
    if part.columns:
        return part.support(w, h)
    energies = {n: energy_of(n, w[n], h.get(n), along) for n, along in near.members.items()}
    by_unit = yield from _by_unit(near, energies, pieces)
    chosen = part._choose(by_unit)
    return {n: spread(along, chosen, w[n].shape) for n, along in near.members.items()}


def _near(part: Coupled, pieces: Pieces) -> Coupled:
    """The same units, with the indices of this rank's parts alone."""

    def of(name: str, along: Along) -> Along:
        piece = pieces.get(name)
        if piece is None or not piece.cut or piece.axis != along.axis:
            return along
        start, end = piece.cuts[piece.rank]
        return replace(along, units=along.units[start:end])

    return replace(
        part,
        members={n: of(n, along) for n, along in part.members.items()},
        implied={n: tuple(of(n, a) for a in alongs) for n, alongs in part.implied.items()},
    )


def _by_unit(near: Coupled, values: Weights, pieces: Pieces) -> Talk[Tensor]:
    counted = {n: v if pieces[n].counted else torch.zeros_like(v) for n, v in values.items()}
    (total,) = yield [Ask(near._by_unit(counted))]
    return total


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


# ---- whether it is inside -----------------------------------------------------------------------


@singledispatch
def contains(part: Any, w: Weights, pieces: Pieces) -> Talk[bool]:
    """Whether the tensors, of which this rank has parts, are inside; the same on every rank."""
    raise _unknown(part)


@contains.register
def _(part: Alone, w: Weights, pieces: Pieces) -> Talk[bool]:
    which, piece = part.set, pieces[part.name]
    if not isinstance(which, GroupSet):
        return part.contains(w)
    used, fits = yield from _used(which, w[part.name], piece)
    return fits and used <= which.count(piece.shape, part.keep)


@contains.register
def _(part: Shared, w: Weights, pieces: Pieces) -> Talk[bool]:
    found = yield from joined({n: _used(part.set, w[n], pieces[n]) for n in part.costs})
    total = 0
    for name, (used, _) in found.items():
        least = min(part.minimum, part.set.units(pieces[name].shape))
        total += part.costs[name] * max(used, least)
    return all(fits for _, fits in found.values()) and total <= part.limit


@contains.register
def _(part: Coupled, w: Weights, pieces: Pieces) -> Talk[bool]:
    if part.columns:
        return part.contains(w)
    occupied = yield from _occupied(part, w, pieces)
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
    occupied = yield from _occupied(part, masks, pieces)
    near, found = _near(part, pieces), {}
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


def _occupied(part: Coupled, w: Weights, pieces: Pieces) -> Talk[Tensor]:
    nonzero = {n: w[n].detach().ne(0).double() for n in part.members}
    return (yield from _by_unit(_near(part, pieces), nonzero, pieces)) > 0


def _unknown(part: Any) -> RequestError:
    return RequestError(
        f"{type(part).__name__}: not known how to project onto it where each rank holds a part of the tensors; use DDP"
    )
