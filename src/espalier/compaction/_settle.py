"""From classes that should go to a module that runs without them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import nn

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
from espalier.compaction._widths import restrict
from espalier.errors import RunError
from espalier.graph._groups import ChannelGraph, Place
from espalier.graph._labels import Ids
from espalier.graph._trace import Example


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
        multiple: See :func:`~espalier.compaction._widths.restrict`.
        minimum: Likewise.

    Raises:
        RunError: Nothing that was tried gives a module that computes the same.
    """
    state = _Attempt()
    last = ""
    for _ in range(40):
        gone, narrow = restrict(graph, gone, multiple=multiple, minimum=minimum)
        state.kept_back |= narrow
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
            last = str(proof)
            guilty = places
        else:
            last = f"{failure[0] or 'the model'} fails: {failure[1]}"
            guilty = guilty_places(places, failure[0])
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
    blamed = {kinds[p.node] for p in guilty}
    again = False
    for kind in blamed:
        count = state.tries.get(kind, -1) + 1
        if count < choices(dense, [p for p in places if kinds[p.node] is kind], gone):
            state.tries[kind], again = count, True
    if again:
        return gone
    alike = [p for p in places if kinds[p.node] in blamed]
    back = np.unique(np.concatenate([array.reshape(-1) for p in alike for array in p.classes]))
    names = ", ".join(sorted(kind.__name__ for kind in blamed))
    for one in np.intersect1d(back, gone).tolist():
        state.kept_back[one] = f"{names} holds sizes by itself ({why})"
    return np.setdiff1d(gone, back)
