"""From classes that should go to a module that runs without them.

Some of what could go stays: widths are kept to a minimum and to a multiple
(:mod:`~espalier.compaction._widths`), and what a forward holds as a number it cannot do without.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from espalier._ground.example import Example
from espalier.compaction._counting import norm_edits
from espalier.compaction._edits import Edits, slice_edits
from espalier.compaction._literals import (
    Candidates,
    attribute_edits,
    candidates,
    changed_places,
    failing_module,
    guilty_places,
)
from espalier.compaction._localise import Failed, localised
from espalier.compaction._locals import sizes_seen
from espalier.compaction._proof import Proof
from espalier.compaction._remove import apply_edits
from espalier.compaction._trials import brief
from espalier.compaction._widths import restrict
from espalier.errors import RunError
from espalier.graph._groups import ChannelGraph, Place
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

    What makes the smaller module fail or differ is looked for by halving, and it alone stays.

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
    tries = _Attempts(
        graph=graph,
        prepare=prepare,
        prove=prove,
        example=example,
        multiple=multiple,
        minimum=minimum,
    )
    found, kept_back = localised(graph, gone, tries.without)
    if isinstance(found, Failed):
        raise RunError(
            f"the compact model is not equal to the masked one, and is not handed back: {found.why}; "
            "freeze more of the graph (ChannelGraph.freeze) or report the operation"
        )
    return Settled(
        model=found.model,
        edits=found.edits,
        gone=found.gone,
        kept_back=kept_back | found.kept_back,
        proof=found.proof,
    )


@dataclass(kw_only=True, eq=False)
class _Attempts:
    """Tries to do without some classes, and what they taught, by type of module."""

    graph: ChannelGraph
    prepare: Prepare
    prove: Prove
    example: Example
    multiple: int
    minimum: int
    # No entry: nothing was edited yet. 0: all candidates at once. 1, 2, …: each of them alone.
    tries: dict[type, int] = field(default_factory=dict)
    seen: dict[str, dict[str, int]] | None = None

    def without(self, gone: Ids) -> Settled | Failed:
        """The module without these classes, its attributes edited as it needs; or why there is none."""
        gone, narrow = restrict(self.graph, gone, multiple=self.multiple, minimum=self.minimum)
        # Which constants are folded depends on what goes, so the dense module does too.
        dense = self.prepare(gone)
        if self.seen is None:
            self.seen = sizes_seen(dense, self.example)
        places = changed_places(self.graph, gone, self.seen)
        held = candidates(dense, places, gone, self.seen)
        before = dict(self.tries)
        while True:
            edits = Edits(
                slices=slice_edits(self.graph, gone),
                attributes=attribute_edits(dense, held, self.tries),
                norms=norm_edits(dense, self.graph, gone),
            )
            try:
                small = apply_edits(dense, edits)
            except Exception as error:  # deepcopy runs the modules' own code
                return Failed(why=f"no copy could be made ({brief(error)})", suspects=gone[:0])
            failure = failing_module(small, self.example)
            if failure is None:
                proof = self.prove(small)
                if proof.holds:
                    return Settled(
                        model=small, edits=edits, gone=gone, kept_back=narrow, proof=proof
                    )
                # It runs and computes something else: no module can be named, so every place is
                # suspect.
                why, guilty = str(proof), places
            else:
                why = f"{failure[0] or 'the model'} fails: {failure[1]}"
                guilty = guilty_places(places, failure[0])
            blamed = {held.kind(p) for p in guilty}
            if self._next(held, blamed):
                continue
            # What a module was handed, the modules around it made: GPT-2's ``c_proj`` fails where the
            # attention around it cut (q, k, v) at their old sizes.
            if failure is not None and self._next_around(held, places, failure[0]):
                continue
            # What did not help here may have helped where less goes.
            self.tries = before
            if failure is None:
                return Failed(
                    why=f"the model without it computes something else ({why})", suspects=gone[:0]
                )
            return _blaming(held, places, blamed, gone, why)

    def _next_around(self, held: Candidates, places: Sequence[Place], path: str) -> bool:
        """The same for the modules around the one that failed, the nearest first."""
        while path:
            path = path.rpartition(".")[0]
            if self._next(held, {held.kind(p) for p in places if held.owners[p.node] == path}):
                return True
        return False

    def _next(self, held: Candidates, blamed: set[type]) -> bool:
        """Other attributes are to be edited in the modules that are to blame, if there are any."""
        # By type, not by module: blocks of one kind share their code, so what one of them teaches
        # holds for all, and the number of rounds does not grow with the depth of the model.
        again = False
        for kind in blamed:
            count = self.tries.get(kind, -1) + 1
            if count < held.tries(kind):
                self.tries[kind], again = count, True
        return again


def _blaming(
    held: Candidates, places: Sequence[Place], blamed: set[type], gone: Ids, why: str
) -> Failed:
    # The places that did not fail are of the same code: the next attempt would fail there.
    alike = [p for p in places if held.kind(p) in blamed]
    arrays = [array.reshape(-1) for p in alike for array in p.classes]
    names = ", ".join(sorted(kind.__name__ for kind in blamed))
    return Failed(
        why=f"{names} holds sizes by itself ({why})" if names else why,
        suspects=np.intersect1d(np.concatenate([gone[:0], *arrays]), gone),
    )
