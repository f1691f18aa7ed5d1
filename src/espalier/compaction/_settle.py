"""From classes that should go to a module that runs without them.

Some of what could go stays: widths are kept to a minimum and to a multiple, and what a forward
holds as a number it cannot do without.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import nn

from espalier._ground.example import Example
from espalier.compaction._edits import Edits, slice_edits
from espalier.compaction._literals import (
    attribute_edits,
    changed_places,
    choices,
    failing_module,
    guilty_places,
)
from espalier.compaction._proof import Proof
from espalier.compaction._remove import apply_edits
from espalier.errors import RequestError, RunError
from espalier.graph._groups import Axis, ChannelGraph, Place
from espalier.graph._labels import Ids


@dataclass(frozen=True, kw_only=True, eq=False)
class Settled:
    """A module without the classes that could go.

    Attributes:
        model: The smaller module.
        edits: What was done.
        gone: The classes removed.
        kept_back: Class -> why it stayed although it was to go.
        proof: Of the module.
    """

    model: nn.Module
    edits: Edits
    gone: Ids
    kept_back: dict[int, str]
    proof: Proof


@dataclass(kw_only=True, eq=False)
class _Attempt:
    """What earlier attempts taught, by type of module (all blocks of a kind are alike)."""

    tries: dict[type, int] = field(default_factory=dict)
    kept_back: dict[int, str] = field(default_factory=dict)


Prove = Callable[[nn.Module], Proof]
Prepare = Callable[[Ids], nn.Module]


def settle(
    graph: ChannelGraph,
    gone: Ids,
    prepare: Prepare,
    prove: Prove,
    example: Example,
    *,
    multiple: int = 1,
    minimum: int = 1,
) -> Settled:
    """Remove classes; where a forward holds sizes by itself, edit its attributes or leave it alone.

    Args:
        graph: The channel graph.
        gone: Classes that are to go.
        prepare: The dense module to cut, given what will go (constants folded).
        prove: Compares a small module with the masked one.
        example: Inputs to run.
        multiple: See :func:`restrict`.
        minimum: Likewise.

    Raises:
        RunError: Nothing that was tried gives a module that computes the same.
    """
    state = _Attempt()
    last = ""
    # Every round raises some type's count of tries, which is bounded, or takes classes out of
    # ``gone``; where it could do neither, 40 is the end.
    for _ in range(40):
        # Anew in every round: what came back in the last can leave another width short.
        gone, narrow = restrict(graph, gone, multiple=multiple, minimum=minimum)
        state.kept_back |= narrow
        # Which constants are folded depends on what goes, so the dense module does too.
        dense = prepare(gone)
        places = changed_places(graph, gone)
        kinds = {p.node: type(dense.get_submodule(p.module)) for p in places}
        edits = Edits(
            slices=slice_edits(graph, gone),
            attributes=attribute_edits(dense, places, gone, state.tries),
        )
        small = apply_edits(dense, edits)
        failure = failing_module(small, example)
        proof = None
        if failure is None:
            proof = prove(small)
            if proof.holds:
                return Settled(
                    model=small, edits=edits, gone=gone, kept_back=state.kept_back, proof=proof
                )
            # It runs and computes something else: no module can be named, so every place is
            # suspect.
            last = str(proof)
            guilty = places
        else:
            last = f"{failure[0] or 'the model'} fails: {failure[1]}"
            guilty = guilty_places(places, failure[0])
        # Nothing changes its size anywhere, so there is neither a number to edit nor a channel to
        # keep.
        if not guilty:
            break
        gone = _learn(state, places, guilty, kinds, gone, last, dense)
    raise RunError(
        f"the compact model is not equal to the masked one, and is not handed back: {last}; "
        "freeze more of the graph (ChannelGraph.freeze) or report the operation"
    )


def _learn(
    state: _Attempt,
    places: list[Place],
    guilty: list[Place],
    kinds: dict[str, type],
    gone: Ids,
    why: str,
    dense: nn.Module,
) -> Ids:
    """Edit attributes next time; where that was tried, leave the channels of such modules alone."""
    # By type, not by module: blocks of one kind share their code, so what one of them teaches
    # holds for all, and the number of rounds does not grow with the depth of the model.
    blamed = {kinds[p.node] for p in guilty}
    again = False
    for kind in blamed:
        # No entry: nothing was edited yet. 0: all candidates at once. 1, 2, …: each of them alone.
        count = state.tries.get(kind, -1) + 1
        if count < choices(dense, [p for p in places if kinds[p.node] is kind], gone):
            state.tries[kind], again = count, True
    # Edits first, with the same classes: a channel that is given back never goes again.
    if again:
        return gone
    # The places that did not fail are of the same code: the next attempt would fail there.
    alike = [p for p in places if kinds[p.node] in blamed]
    back = np.unique(np.concatenate([array.reshape(-1) for p in alike for array in p.classes]))
    names = ", ".join(sorted(kind.__name__ for kind in blamed))
    for one in np.intersect1d(back, gone).tolist():
        state.kept_back[one] = f"{names} holds sizes by itself ({why})"
    return np.setdiff1d(gone, back)


RAGGED = "an axis split in two (heads by width) would be ragged"


def restrict(
    graph: ChannelGraph, gone: Ids, *, multiple: int = 1, minimum: int = 1
) -> tuple[Ids, dict[int, str]]:
    """The classes of ``gone`` that may go without breaking a width, and why the others stay.

    Every axis keeps at least ``minimum`` indices and a number of them divisible by ``multiple``
    (or all, where it has fewer or cannot be divided). Classes come back lowest id first. An axis
    that only reads is a concatenation of axes that create; it keeps at least one index.

    Raises:
        RequestError: ``multiple`` or ``minimum`` below 1.
    """
    if multiple < 1 or minimum < 1:
        raise RequestError(f"multiple={multiple}, minimum={minimum}: both must be at least 1")
    reasons: dict[int, str] = {}
    while True:
        # A class that comes back widens every axis it lies on and can leave a joint ragged, so
        # both rules run until neither asks for more. ``gone`` only shrinks, so that ends.
        box = rectangular(graph, gone)
        reasons |= dict.fromkeys(np.setdiff1d(gone, box).tolist(), RAGGED)
        gone = box
        found: dict[int, str] = {}
        for axis, ids in graph.classes.items():
            back, why = _short(graph, axis, ids, gone, multiple, minimum)
            # The right side wins: a class keeps the reason of the first axis that asked for it.
            found = dict.fromkeys(back.tolist(), why) | found
        if not found:
            return gone, reasons
        reasons |= found
        gone = np.setdiff1d(gone, np.fromiter(found, dtype=np.int64))


def _short(
    graph: ChannelGraph, axis: Axis, ids: Ids, gone: Ids, multiple: int, minimum: int
) -> tuple[Ids, str]:
    """The classes that must return for the width of one axis, and why."""
    absent = np.isin(ids, gone)
    if not absent.any():
        return gone[:0], ""
    # What only reads is as wide as what it concatenates; a width of its own it cannot choose.
    own = axis in graph.producing
    least = min(minimum if own else 1, len(ids))
    step = multiple if own else 1
    kept = int((~absent).sum())
    if kept >= least and kept % step == 0:
        return gone[:0], ""
    why = f"a width divisible by {step}" if kept >= least else f"a width of at least {least}"
    return _returning(ids, absent, kept, least, step), f"{axis[0]} keeps {why}"


def _returning(
    ids: Ids,
    absent: NDArray[np.bool_],
    kept: int,
    least: int,
    multiple: int,
) -> Ids:
    """The lowest classes whose return brings an axis to its width."""
    classes, counts = np.unique(ids[absent], return_counts=True)
    total = kept + np.cumsum(counts)
    # The fewest that reach a width that is allowed; where none does, all come back.
    fits = (total >= least) & (total % multiple == 0)
    count = int(fits.argmax()) + 1 if fits.any() else len(classes)
    found: Ids = classes[:count]
    return found


def rectangular(graph: ChannelGraph, gone: Ids) -> Ids:
    """Without the classes that would leave an axis split in two (heads × width) ragged."""
    while True:
        ragged = [place.ragged(gone) for place in graph.sites]
        back = np.unique(np.concatenate([gone[:0], *ragged]))
        if not back.size:
            return gone
        gone = np.setdiff1d(gone, back)
