"""Units of tensors of which each rank holds a part: their scores and energies, and how many are used."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from espalier._ground.selection import Candidates
from espalier._ground.sharding import Piece
from espalier._ground.types import Weights
from espalier._ground.world import Ask, Talk
from espalier.errors import RequestError, ShapeError
from espalier.sets._along import Along
from espalier.sets._coupled import Coupled
from espalier.sets._energy import checked, extremes
from espalier.sets._layout import Layout
from espalier.sets._set import GroupSet

Pieces = Mapping[str, Piece]


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
class Scored:
    """The units of one tensor that a rank can speak of."""

    candidates: Candidates
    inside: Tensor | None


def units_scored(
    which: GroupSet, w: Tensor, h: Tensor | None, piece: Piece, *, comparable: bool = False
) -> Talk[Scored]:
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
    return Scored(Candidates(scores=scores, places=places, counted=counted), inside)


def _first(layout: Layout, units: Tensor) -> Tensor:
    """Where in a tensor the first weight of each unit lies; in the order of the units."""
    at, rest, stride = torch.zeros_like(units), units, 1
    for axis in reversed(range(len(layout.split))):
        n = layout.split[axis]
        if axis not in layout.within:
            at, rest = at + rest % n * stride, rest // n
        stride *= n
    return at


def units_used(which: GroupSet, w: Tensor, piece: Piece) -> Talk[tuple[int, bool]]:
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


# ---- units that run through several tensors -------------------------------------------------------


def near_part(part: Coupled, pieces: Pieces) -> Coupled:
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


def summed_by_unit(near: Coupled, values: Weights, pieces: Pieces) -> Talk[Tensor]:
    """Sums over the slices of every unit, of all ranks."""
    counted = {n: v if pieces[n].counted else torch.zeros_like(v) for n, v in values.items()}
    (total,) = yield [Ask(near._by_unit(counted))]
    return total


def units_occupied(part: Coupled, w: Weights, pieces: Pieces) -> Talk[Tensor]:
    """Which units have a nonzero slice on some rank."""
    nonzero = {n: w[n].detach().ne(0).double() for n in part.members}
    return (yield from summed_by_unit(near_part(part, pieces), nonzero, pieces)) > 0


def unknown(part: Any) -> RequestError:
    """The refusal of what nobody has said how to do over ranks."""
    return RequestError(
        f"{type(part).__name__}: not known how to project onto it where each rank holds a part of the tensors; use DDP"
    )
