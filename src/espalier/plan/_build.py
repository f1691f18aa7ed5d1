"""From a model and one figure to a plan."""

from collections.abc import Mapping

from torch import nn

from espalier._types import Keep
from espalier.errors import BudgetError, UnknownNameError, nearest
from espalier.plan._plan import Entry, Plan, Skipped
from espalier.sets import Set, Unstructured


def plan(
    model: nn.Module,
    *,
    density: float | None = None,
    keep: Mapping[str, Keep] | None = None,
    set: Set | None = None,
) -> Plan:
    """Decide what each parameter of a model may keep."""
    if (density is None) == (keep is None):
        raise BudgetError("give exactly one of density=, keep=")
    chosen = set if set is not None else Unstructured()
    parameters = dict(model.named_parameters())
    for name in keep or {}:
        if name not in parameters:
            raise UnknownNameError(f"keep names no parameter {name!r}; {nearest(name, parameters)}")
    entries, skipped = {}, []
    for name, w in parameters.items():
        shape = tuple(w.shape)
        if keep is not None and name in keep:
            entries[name] = Entry(name=name, shape=shape, set=chosen, keep=keep[name])
        elif density is not None and len(shape) >= 2:
            k = chosen.keep_for(shape, density)
            entries[name] = Entry(name=name, shape=shape, set=chosen, keep=k)
        else:
            skipped.append(Skipped(name=name, shape=shape, reason="not selected"))
    return Plan(entries=entries, skipped=tuple(skipped))
