"""Layers that are pruned too little to be worth it go back to dense."""

from espalier.errors import BudgetError
from espalier.planning._entry import Skipped
from espalier.planning._plan import Plan


def above_break_even(plan: Plan, fraction: float) -> Plan:
    """The plan without the parameters of which less than ``fraction`` is pruned: those stay dense.

    A sparse runtime would run them slower than dense, so their zeros cost accuracy and buy nothing. Give
    what that frees to the others by planning again with these excluded.

    Args:
        plan: With a keep for each parameter.
        fraction: Pruned, in [0, 1]; e.g. ``break_even(...).fraction``.

    Raises:
        BudgetError: The fraction is out of range; layers share a budget or channels, so that none has a
            fraction of its own; or nothing would be left to prune.

    Source: Ren et al. 2019, *ADMM-NN*, the hardware-aware part.

    Example:
        >>> from torch import nn
        >>> from espalier.planning import plan
        >>> model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
        >>> made = above_break_even(plan(model, keep={"0.weight": 0.6, "1.weight": 0.1}), 0.55)
        >>> made.names, made.skipped[-1].reason
        (('1.weight',), '41 % pruned, below the break-even of 55 %')
    """
    if not 0 <= fraction <= 1:
        raise BudgetError(f"fraction={fraction}; give the pruned fraction at break-even, 0 to 1")
    if plan.parts:
        raise BudgetError(
            "layers share one budget or their channels, so none has a fraction of its own"
        )
    pruned = {
        name: 1 - entry.nonzeros / max(1, entry.numel) for name, entry in plan.entries.items()
    }
    kept = {name: entry for name, entry in plan.entries.items() if pruned[name] >= fraction}
    if not kept:
        most = max(pruned, key=pruned.__getitem__)
        raise BudgetError(
            f"no layer is pruned by {fraction:.0%}: the most is {most} with {pruned[most]:.0%}; "
            "prune more, or run dense"
        )
    restored = tuple(
        Skipped(
            name=name,
            shape=entry.shape,
            reason=f"{pruned[name]:.0%} pruned, below the break-even of {fraction:.0%}".replace(
                "%", " %"
            ),
            layer_kind=entry.layer_kind,
            macs=entry.macs,
        )
        for name, entry in plan.entries.items()
        if name not in kept
    )
    return Plan(
        entries=kept,
        levels={name: levels for name, levels in plan.levels.items() if name in kept},
        skipped=(*plan.skipped, *restored),
        between_activations=plan.between_activations,
        notes=plan.notes,
    )
