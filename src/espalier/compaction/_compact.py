"""A hard-pruned model made physically smaller, with the proof that it computes the same."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from espalier._ground.example import Example
from espalier._ground.wrapping import plain, unwrapped
from espalier.compaction._branches import remove_, still_branches
from espalier.compaction._columns import crops
from espalier.compaction._dead import find_dead, fold_, folds, zero_but_frozen
from espalier.compaction._edits import Edits
from espalier.compaction._gathered import columns_to_gather
from espalier.compaction._literals import failing_module
from espalier.compaction._proof import Proof, measured, proved
from espalier.compaction._remove import apply_edits
from espalier.compaction._settle import Prepare, Prove, Settled, settle
from espalier.compaction._trials import drawn
from espalier.errors import RequestError
from espalier.graph._groups import ChannelGraph
from espalier.graph._labels import Ids
from espalier.graph._trace import channel_graph


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a module weighs.

    Attributes:
        parameters: Numbers in parameters, shared ones once.
        nonzero: Those that are not zero.
        bytes: Parameters and buffers.
    """

    parameters: int
    nonzero: int
    bytes: int

    @classmethod
    def of(cls, model: nn.Module) -> "Size":
        """Count a module."""
        own = list(model.parameters())
        return cls(
            parameters=sum(p.numel() for p in own),
            nonzero=sum(int(p.count_nonzero()) for p in own),
            bytes=sum(t.numel() * t.element_size() for t in [*own, *model.buffers()]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Compact:
    """A smaller model and the evidence.

    Attributes:
        model: A new module; the one given is as it was.
        edits: What turns the dense architecture into this one.
        proof: max |Δoutput| against the masked model; it holds.
        before: The masked model.
        after: The compact one.
        removed: How many classes of channels went.
        kept_back: Why classes stayed that zeros made removable, or would have if the graph had not
            frozen them, with how many each reason kept.
        constant: Classes that stay because, filters zero, they are still a constant that cannot be
            folded exactly.
        change: With ``zero_constants``: what zeroing those constants did to the outputs; else None.
    """

    model: nn.Module = field(repr=False)
    edits: Edits = field(repr=False)
    proof: Proof
    before: Size
    after: Size
    removed: int
    kept_back: dict[str, int]
    constant: int
    change: Proof | None = None


def compact(
    model: nn.Module,
    example_input: Example,
    batches: Iterable[Example] | None = None,
    *,
    multiple: int = 1,
    minimum: int = 1,
    gather: float = 0.0,
    tolerance: float = 1e-4,
    zero_constants: bool = False,
    graph: ChannelGraph | None = None,
) -> Compact:
    """Remove every channel that zeros make irrelevant, and prove that nothing else changed.

    A channel goes when nothing that stays reads it (:mod:`espalier.compaction._dead`). One whose filter
    is zero but which BatchNorm's β or a bias makes a constant c goes where c can be folded exactly:
    ``bias += Σ weight · c``, or into the running mean of the BatchNorm that follows, if the reading
    operation pads no zeros.

    Args:
        model: Hard-pruned. Any device. Not modified. Wrappers are left off; weights that it computes
            (``nn.utils.prune``, ``weight_norm``, ``parametrize``) become ordinary ones.
        example_input: A tensor, a tuple of positional arguments, or a mapping of named ones.
        batches: Real batches for the proof, in the same form.
        multiple: Widths stay divisible by it (unless they were not before and nothing goes).
        minimum: Channels every axis keeps at least.
        gather: A fraction; convolutions of whose columns at most so many are left hold those alone
            (:class:`~espalier.compaction._gathered.GatheredConv2d`): always smaller, faster only
            for some sizes, so off by default. Kernels are cropped to their live positions in any
            case.
        tolerance: For the proof: max |Δoutput| ≤ tolerance · max |output|.
        zero_constants: Set the constants that cannot be folded to zero, so that their channels go.
            That changes the function: by how much is reported in ``change``, and the proof is
            against the model so changed.
        graph: Of this model, if it is known already, or with more classes frozen.

    Raises:
        RequestError: The model cannot be exported, or it computes NaN; ``gather`` is no fraction.
        RunError: No smaller model that was tried is equal to the masked one.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> with torch.no_grad():
        ...     _ = net[0].weight[1:3].zero_(), net[0].bias[1:3].zero_()
        >>> small = compact(net, torch.zeros(2, 3))
        >>> small.model[0], small.proof.holds
        (Linear(in_features=3, out_features=2, bias=True), True)
    """
    if not 0 <= gather <= 1:
        raise RequestError(f"gather={gather}; give a fraction, 0 to 1")
    given, model = unwrapped(model), plain(model)
    graph = channel_graph(model, example_input) if graph is None else graph
    _check_names(graph, model)
    # A list, since an iterator would be used up by the first of several proofs.
    real = list(batches or ())
    trials = drawn(given, example_input)
    # A model that draws at random differs from itself: its proof would fail for that alone, or
    # hold by luck.
    once = replace(trials, calls=trials.calls[:2], other_sizes=0, trains=False)
    itself = proved(given, model, once, tolerance=tolerance)
    if not itself.holds:
        raise RequestError(
            f"the model does not compute the same twice in evaluation mode ({itself}); "
            "nothing can be proved about it"
        )
    masked, change = model, None
    dead = find_dead(graph, model)
    if zero_constants and dead.constant.size:
        masked = copy.deepcopy(model)
        graph.zero_(masked, dead.constant.tolist(), consumers=False)
        change = measured(model, masked, trials, real, tolerance=tolerance)
        trials = drawn(masked, example_input)
        # The constants are zero now, so more is dead; and the proof is against the model so
        # changed.
        dead = find_dead(graph, masked)

    def prepare(gone: Ids) -> nn.Module:
        constants = folds(dead, gone)
        if not constants:
            return masked
        dense = copy.deepcopy(masked)
        fold_(dense, constants)
        return dense

    def prove(small: nn.Module) -> Proof:
        return proved(masked, small, trials, real, tolerance=tolerance)

    found = settle(
        graph, dead.classes, prepare, prove, example_input, multiple=multiple, minimum=minimum
    )
    found = _laid_out(found, gather, prepare, prove, example_input)
    reasons = [*found.kept_back.values(), *zero_but_frozen(graph, masked).values()]
    return Compact(
        model=found.model,
        edits=found.edits,
        proof=found.proof,
        before=Size.of(masked),
        after=Size.of(found.model),
        removed=len(found.gone),
        kept_back={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        constant=len(dead.constant),
        change=change,
    )


def _check_names(graph: ChannelGraph, model: nn.Module) -> None:
    held = {
        name
        for name, _ in (*model.named_parameters(remove_duplicate=False), *model.named_buffers())
    }
    for name, _ in graph.classes:
        if name not in held:
            raise RequestError(
                f"the graph is of another model: this one has no {name}; leave graph= out"
            )


def _laid_out(
    found: Settled, gather: float, prepare: Prepare, prove: Prove, example: Example
) -> Settled:
    """Kernels cut to their live positions, then columns left out, each step if the proof holds."""
    # Kernels before columns: a column is numbered by its place in the cropped kernel.
    slices = (*found.edits.slices, *crops(found.model))
    found = _edited(found, replace(found.edits, slices=slices), prepare, prove, example)
    columns = columns_to_gather(found.model, gather)
    found = _edited(found, replace(found.edits, columns=columns), prepare, prove, example)
    return _without_branches(found, prove, example)


def _without_branches(found: Settled, prove: Prove, example: Example) -> Settled:
    """Modules that always put out the same replaced by that: all of them, else each that may."""
    still = still_branches(found.model, example)
    for some in [still, *([one] for one in still)] if len(still) > 1 else [still]:
        left = [one for one in some if one[0] not in found.edits.branches]
        if not left:
            continue
        small = copy.deepcopy(found.model)
        for edit, constant in left:
            remove_(small, edit, torch.from_numpy(constant))
        if failing_module(small, example) is None and (proof := prove(small)).holds:
            branches = (*found.edits.branches, *(edit for edit, _ in left))
            edits = replace(found.edits, branches=branches)
            found = replace(found, model=small, edits=edits, proof=proof)
    return found


def _edited(
    found: Settled, edits: Edits, prepare: Prepare, prove: Prove, example: Example
) -> Settled:
    if edits == found.edits:
        return found
    small = apply_edits(prepare(found.gone), edits)
    if failing_module(small, example) is not None:  # a forward that uses the weight by itself
        return found
    proof = prove(small)
    return replace(found, model=small, edits=edits, proof=proof) if proof.holds else found
