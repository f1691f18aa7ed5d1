"""A constraint on the parameters as they are placed: whole, or in parts over ranks."""

from torch import nn

from espalier._ground.sharding import distributed, parameters_of
from espalier.errors import RequestError
from espalier.planning import Plan
from espalier.sets import Constraint, Sharded


def as_placed(constraint: Constraint, model: nn.Module, needs_whole: str | None) -> Constraint:
    """The constraint itself; over the ranks that hold the parameters where they are sharded.

    Args:
        constraint: What the weights may be.
        model: Whose they are.
        needs_whole: What a method does with parameters that must be whole; ``None``: it takes both.

    Raises:
        RequestError: They are sharded and must be whole, or the constraint has no projection in parts.
    """
    parameters = parameters_of(model)
    name = next((name for name, p in parameters.items() if distributed(p)), None)
    if name is None:
        return constraint
    if needs_whole is not None:
        raise RequestError(f"{name}: sharded; {needs_whole} whole parameters, so use DDP, not FSDP")
    inner = constraint.constraint if isinstance(constraint, Plan) else constraint
    return Sharded.of(inner, parameters)
