"""What the user says, tensor by tensor."""

from collections.abc import Mapping

from espalier._ground.types import Keep
from espalier.budgets._layer import Layer
from espalier.budgets._patterns import assign
from espalier.budgets._uniform import uniform
from espalier.errors import BudgetError


def explicit(layers: Mapping[str, Layer], keep: Mapping[str, Keep | float]) -> dict[str, Keep]:
    """Keeps by parameter name or glob.

    Args:
        layers: the tensors, by name.
        keep: by name or glob, an int as a count of units (0 takes the whole tensor), a pair of them
            for ``FiltersAndColumns``, or a float as a density in (0, 1]. A full name wins over
            globs; of globs, the first that matches.

    Returns:
        Keep by name, for the tensors that were matched.

    Raises:
        UnknownNameError: a name or glob that matches no tensor.
        BudgetError: a count beyond the tensor's units, or no density.

    Example:
        >>> from espalier.sets import Unstructured
        >>> layers = {n: Layer(shape=(10, 10), set=Unstructured()) for n in ("fc1", "fc2", "fc3")}
        >>> explicit(layers, {"fc1": 7, "fc*": 0.25})
        {'fc1': 7, 'fc2': 25, 'fc3': 25}
    """
    return {
        name: _keep(name, layers[name], value)
        for name, value in assign(keep, layers, "keep").items()
    }


def _keep(name: str, layer: Layer, value: Keep | float) -> Keep:
    if isinstance(value, float):
        try:
            return uniform({name: layer}, value)[name]
        except BudgetError as error:
            text = str(error)
            raise BudgetError(text if text.startswith(name) else f"{name}: {text}") from error
    most, unit = layer.most, layer.set.unit
    if isinstance(most, tuple):
        fits = (
            isinstance(value, tuple)
            and len(value) == 2
            and all(_count(v) and 0 <= v <= m for v, m in zip(value, most, strict=True))
        )
        limits = f"(filters, columns) up to {most}"
    else:
        fits = _count(value) and isinstance(value, int) and 0 <= value <= most
        limits = f"0 <= keep <= {most}, or a density as a float"
    if not fits:
        raise BudgetError(f"{name}: keep={value!r} but it has {most} {unit}; give {limits}")
    return value


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
