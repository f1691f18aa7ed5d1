"""From a model and one figure to a plan."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from espalier import budgets
from espalier._ground.example import Example
from espalier._ground.types import Keep
from espalier._ground.wrapping import unwrapped
from espalier.budgets._global_magnitude import units_kept
from espalier.budgets._patterns import matching
from espalier.errors import BudgetError, NonFiniteError, RequestError, shown
from espalier.measure import LayerCosts, layer_costs
from espalier.planning._allotment import Allotter, allot_layers
from espalier.planning._channels import ChannelPlans
from espalier.planning._couple import check_coupled, is_structured
from espalier.planning._entry import Entry, with_macs
from espalier.planning._plan import Plan
from espalier.planning._quantise import Bits, levels_for
from espalier.planning._request import Allocation, Request, macs_limit, one_figure
from espalier.planning._select import Selection, check_alone, check_outputs, check_source, select
from espalier.sets import Set, Shared, Unstructured


def plan(
    model: nn.Module,
    *,
    density: float | None = None,
    sparsity: float | None = None,
    compression: float | None = None,
    macs: float | int | None = None,
    bytes: float | int | None = None,
    keep: Mapping[str, Keep | float] | None = None,
    set: Set | Mapping[str, Set] | None = None,
    allocation: Allocation = budgets.uniform,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    bits: Bits | None = None,
    example_input: Example | None = None,
    multiple: int = 1,
    minimum: int = 1,
) -> Plan:
    r"""Decide what each parameter of a model may keep, from one figure, or from several budgets.

    Exactly one of the figures is given; with coupled channels ``macs`` and ``bytes`` may stand beside one
    another and beside one of the first three, and all are met. ``density``, ``sparsity`` and ``compression`` are over
    the *selected tensors*, not over the model: they mean the same whatever is left out, and the
    printed totals show every other convention.

    .. math:: d = 1 - \text{sparsity} = 1 / \text{compression} = \textstyle\sum_l k_l / \sum_l n_l

    Args:
        model: on any device; "meta" does for rules that need no values.
        density: fraction of the selected weights that stay, in (0, 1].
        sparsity: fraction that goes, in [0, 1).
        compression: selected weights before over after, ≥ 1.
        macs: of the *whole model*, for one sample: a float in (0, 1] as a fraction of the dense
            MACs, anything else as a number of them. Needs ``example_input``.
        bytes: of the parameters and buffers of the compact model: a float in (0, 1] as a fraction of
            the dense bytes, anything else a number of them; coupled channels only.
        keep: by name or glob, units (int) or a density (float); selects what it names.
        set: the shape of sparsity, or one by name or glob (a full name wins, then the first glob;
            what matches none is not pruned). Default ``Unstructured()``.
        allocation: the rule that shares the figure among the tensors; ``budgets.shared`` for a
            budget that stays global while the weights train. Coupled channels take one fraction of every
            group (the default) or a ranking of all units together: ``budgets.global_magnitude``, or
            :class:`~espalier.planning.Ranking`, which says by what and for what price.
        include: names or globs to prune instead of all convolution and linear weights; a glob
            selects among those, a full name selects whatever it names.
        exclude: names or globs to leave dense.
        bits: puts what stays on 2^bits levels: one count for the planned weights of convolutions and
            linear layers, or a count by name or glob; ``None``: no levels. It changes no keep.
        example_input: one batch, to measure MACs and to find which channels are tied together. With
            it, ``Filters``, ``Channels`` and ``FiltersAndColumns`` take whole channels out of the
            model: filters tied by a residual add share one choice, biases, γ and β go with them, the
            last layer's outputs stay, and every figure counts what will be left of the compact
            model, met to within one channel. Compaction is rehearsed: channels that it could not take
            out stay, with the reason in ``notes``, and multiply-accumulates are those measured of the
            compact model. Tensors with other sets are pruned by themselves, at the
            same density (or fraction of the MACs) by ``allocation``; where they lose slices besides,
            they keep what they may of the weights that are left. Without it each tensor is pruned by
            itself.
        multiple: widths of pruned layers stay divisible by it (or whole); coupled channels only.
        minimum: filters that stay at least of every group of tied ones; coupled channels only.

    Returns:
        The plan: entries in the model's order, and every other parameter with a reason.

    Raises:
        BudgetError: no figure or several, one out of its range, one that cannot be met, or nothing
            to prune.
        UnknownNameError: a name or glob that matches no parameter; the nearest is suggested.
        ShapeError: a set that does not fit a parameter named in full, or a bad example input.
        NonFiniteError: NaN or infinity in a selected weight.

    Example:
        >>> p = plan(nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2)), sparsity=0.75)
        >>> {name: entry.keep for name, entry in p.entries.items()}
        {'0.weight': 8, '1.weight': 2}
    """
    model = unwrapped(model)
    which = Unstructured() if set is None else set
    coupled = example_input is not None and any(
        is_structured(one) for one in (which.values() if isinstance(which, Mapping) else [which])
    )
    figure = one_figure(density, sparsity, compression, macs, keep, bytes, several=coupled)
    if keep is not None and include is not None:
        raise BudgetError("keep= selects what it names; give it without include=")
    source = (keep, "keep") if keep is not None else (include, "include")
    wanted = None if source[0] is None else patterns(source[0], source[1])
    check_fit = check_alone if example_input is None else check_coupled
    refused = patterns(exclude or (), "exclude")
    chosen = select(model, which, wanted, refused, source[1], check_fit)
    _check_tied(keep or {}, chosen)
    check_source(model, wanted, refused)
    if example_input is None and wanted is None and isinstance(which, Set):
        check_outputs(chosen)
    costs = None if example_input is None else layer_costs(model, example_input)
    layers = layers_of(model, chosen, costs)
    if (
        example_input is not None
        and costs is not None
        and any(is_structured(layer.set) for layer in layers.values())
    ):
        request = Request(
            density=figure, macs=macs, bytes=bytes, keep=keep, allocation=allocation,
            multiple=multiple, minimum=minimum,
        )  # fmt: skip
        made = ChannelPlans(model, chosen, layers, costs, example_input).met(request)
        return _on_levels(made.plan, bits)
    if bytes is not None or (figure is not None and macs is not None):
        raise BudgetError(
            "no selected tensor has whole channels; give one of density=, macs=, keep="
        )
    if (multiple, minimum) != (1, 1):
        raise BudgetError(
            f"multiple={multiple}, minimum={minimum} are widths of coupled channels; give them with "
            "set=Filters() (or Channels, FiltersAndColumns) and example_input="
        )
    if figure is not None and not callable(allocation):
        raise BudgetError(
            f"allocation={shown(allocation)}; give a rule of espalier.budgets, such as budgets.erk"
        )
    allotted: dict[str, Keep] | Shared
    if isinstance(allocation, Allotter) and keep is None:
        of = allot_layers(layers, figure, macs, costs, model)
        allotted = dict(zip(of.names, allocation.allot(of), strict=True))
    elif figure is not None:
        allotted = allocation(layers, figure)
    elif keep is not None:
        allotted = budgets.explicit(layers, _of_selected(keep, layers, chosen))
    else:
        allotted = _for_macs(layers, macs, costs, allocation)
    return _on_levels(_assemble(model, chosen, layers, allotted, costs), bits)


def _on_levels(made: Plan, bits: Bits | None) -> Plan:
    if bits is None:
        return made
    kinds = {name: entry.layer_kind for name, entry in made.entries.items()}
    levels = levels_for(bits, kinds)
    if not levels:
        raise RequestError("bits= names no planned weight; name them: bits={'fc.weight': 4}")
    return replace(made, levels=levels)


def patterns(given: Sequence[str] | Mapping[str, object], argument: str) -> list[str]:
    """Names and globs as a list.

    Raises:
        BudgetError: One string, which would be taken letter by letter.
    """
    if isinstance(given, str):
        raise BudgetError(f"{argument}={given!r}; give a list: {argument}=[{given!r}]")
    return list(given)


def layers_of(
    model: nn.Module, chosen: Selection, costs: LayerCosts | None
) -> dict[str, budgets.Layer]:
    """The selected tensors.

    Raises:
        BudgetError: None.
        NonFiniteError: One holds NaN or infinity.
    """
    parameters = dict(model.named_parameters())
    if not chosen.sets:
        why = "; ".join(f"{row.name}: {row.reason}" for row in chosen.skipped[:5])
        raise BudgetError(f"nothing is left to prune ({why or 'the model has no parameters'})")
    layers = {}
    for name, which in chosen.sets.items():
        w = parameters[name].detach()
        if not w.is_meta and not bool(torch.isfinite(w).all()):
            raise NonFiniteError(f"{name}: holds NaN or infinity; there is nothing to rank")
        layers[name] = budgets.Layer(
            shape=tuple(w.shape),
            set=which,
            macs=None if costs is None or name not in costs else costs[name].macs,
            weight=None if w.is_meta else w,
        )
    return layers


def _check_tied(keep: Mapping[str, Keep | float], chosen: Selection) -> None:
    """Refuse two keeps of one tensor that go by different names."""
    for name, owner in chosen.owners.items():
        named = [n for n in (name, *owner.aliases) if n in keep]
        if any(keep[n] != keep[named[0]] for n in named):
            given = ", ".join(f"{n}: {keep[n]}" for n in named)
            raise BudgetError(
                f"keep: {' and '.join(map(repr, named))} are one tensor and have two keeps ({given}); "
                "give one of them"
            )


def _of_selected(
    keep: Mapping[str, Keep | float], layers: Mapping[str, budgets.Layer], chosen: Selection
) -> dict[str, Keep | float]:
    """The keeps that still name a tensor, now that some are excluded or do not fit."""
    first = {alias: name for name, owner in chosen.owners.items() for alias in owner.aliases}
    renamed = {first.get(pattern, pattern): value for pattern, value in keep.items()}
    return {pattern: value for pattern, value in renamed.items() if matching(pattern, layers)}


def _for_macs(
    layers: Mapping[str, budgets.Layer],
    macs: float | int | None,
    costs: LayerCosts | None,
    allocation: Allocation,
) -> dict[str, Keep] | Shared:
    if costs is None or macs is None:
        raise BudgetError("macs= needs example_input=, one batch as the model takes it")
    limit = macs_limit(macs, costs)
    fixed = costs.total - sum(layer.macs or 0 for layer in layers.values())
    if allocation is budgets.shared:
        return budgets.shared_macs(layers, limit, fixed=fixed)
    if isinstance(allocation, budgets.Shadow):
        start = budgets.for_macs(layers, limit, fixed=fixed, rule=allocation.start)
        return allocation.over(budgets.shared_macs(layers, limit, fixed=fixed), layers, start)

    def rule(layers: Mapping[str, budgets.Layer], density: float) -> dict[str, Keep]:
        allotted = allocation(layers, density)
        if isinstance(allotted, Shared):
            raise BudgetError(
                "of shared budgets only budgets.shared and budgets.Shadow can meet macs="
            )
        return allotted

    return budgets.for_macs(layers, limit, fixed=fixed, rule=rule)


def _assemble(
    model: nn.Module,
    chosen: Selection,
    layers: Mapping[str, budgets.Layer],
    allotted: dict[str, Keep] | Shared,
    costs: LayerCosts | None,
) -> Plan:
    shared = allotted if isinstance(allotted, Shared) else None
    keeps = units_kept(allotted, layers) if isinstance(allotted, Shared) else allotted
    entries = {
        name: Entry(
            name=name,
            shape=layer.shape,
            set=layer.set,
            keep=keeps[name],
            layer_kind=chosen.owners[name].kind,
            macs=layer.macs,
        )
        for name, layer in layers.items()
    }
    skipped = [with_macs(row, costs) for row in chosen.skipped]
    return Plan(
        entries=entries,
        parts=() if shared is None else (shared,),
        skipped=tuple(skipped),
        between_activations=0 if costs is None else costs.between_activations,
        notes=() if costs is None else costs.warnings,
    )
