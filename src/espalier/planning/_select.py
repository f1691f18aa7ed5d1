"""Which parameters are pruned, with which set; why the others are not."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from espalier._ground.wrapping import computed
from espalier.budgets._patterns import assign, check_patterns, is_glob, matching
from espalier.errors import RequestError, ShapeError
from espalier.measure import LayerKind, Owner, owners
from espalier.planning._entry import Skipped
from espalier.sets import Filters, FiltersAndColumns, Set
from espalier.sets._naming import named

_REASONS = {
    LayerKind.BIAS: "bias",
    LayerKind.NORM: "normalisation",
    LayerKind.EMBEDDING: "embedding",
    LayerKind.RECURRENT: "recurrent layer",
    LayerKind.OTHER: "not the weight of a convolution or linear layer",
}


def check_alone(which: Set, shape: tuple[int, ...], owner: Owner) -> None:
    """Raise ``ShapeError`` unless a tensor pruned by itself can have the set."""
    if not owner.kind.outputs_first and not which.any_layout:
        raise ShapeError(
            "a transposed layer stores (in, out, …), not (out, in, …); use Unstructured for it"
        )
    which.check(shape, groups=owner.groups)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The set of every parameter to prune, and the rest."""

    sets: Mapping[str, Set]
    skipped: tuple[Skipped, ...]
    owners: Mapping[str, Owner]


def select(
    model: nn.Module,
    which: Set | Mapping[str, Set],
    include: Sequence[str] | None,
    exclude: Sequence[str],
    argument: str = "include",
    check_fit: Callable[[Set, tuple[int, ...], Owner], None] = check_alone,
) -> Selection:
    """Decide for every parameter, in the model's order.

    A glob selects among the weights of convolutions and linear layers; a full name selects
    whatever it names. ``argument`` is what ``include`` came from, for the messages; ``check_fit``
    raises ``ShapeError`` for a set that a tensor cannot have.
    """
    found = owners(model)
    parameters = dict(model.named_parameters())
    first = {alias: name for name, owner in found.items() for alias in owner.aliases}
    names = [*parameters, *first]
    for patterns, label in ((include or (), argument), (exclude, "exclude")):
        check_patterns(patterns, names, label)
    wanted = None if include is None else [first.get(pattern, pattern) for pattern in include]
    refused = [(first.get(pattern, pattern), pattern) for pattern in exclude]
    _check_globs(wanted or (), found, argument)
    by_name: Mapping[str, Set] = (
        {name: which for name in parameters}
        if isinstance(which, Set)
        else assign(which, list(parameters), "set")
    )

    sets: dict[str, Set] = {}
    skipped = []
    for name, owner in found.items():
        shape = tuple(parameters[name].shape)
        in_full = wanted is not None and name in wanted
        reason = _reason(name, owner, wanted, refused, in_full)
        if reason is None and name not in by_name:
            reason = "no set given"
        if reason is None and not parameters[name].is_floating_point():
            reason = f"not floating point: {parameters[name].dtype}"
        if reason is None:
            try:
                check_fit(by_name[name], shape, owner)
                sets[name] = by_name[name]
            except ShapeError as error:
                if in_full:
                    with named(name):
                        raise
                reason = f"does not fit: {error}"
        if reason is not None:
            row = Skipped(name=name, shape=shape, reason=reason, layer_kind=owner.kind)
            skipped.append(row)
        skipped += [
            Skipped(name=alias, shape=shape, reason=f"shared with {name!r}")
            for alias in owner.aliases
        ]
    return Selection(sets=sets, skipped=tuple(skipped), owners=found)


def check_source(model: nn.Module, include: Sequence[str] | None, exclude: Sequence[str]) -> None:
    """Refuse weights that a module computes anew before every call: zeros in them would not last.

    Raises:
        RequestError: One that is asked for.
    """
    for name, how in computed(model).items():
        asked = include is None or any(matching(pattern, [name]) for pattern in include)
        if asked and not any(matching(pattern, [name]) for pattern in exclude):
            raise RequestError(
                f"{name}: computed by {how} before every call, so it cannot be pruned itself; make it an "
                "ordinary parameter first (prune.remove, remove_weight_norm, remove_parametrizations), "
                f'or leave it out with exclude=["{name}*"]'
            )


def check_outputs(chosen: Selection) -> None:
    """Refuse to take filters from the last layer, which most likely are the model's own outputs.

    Without an example nothing shows which layer makes the outputs; the last one usually does.

    Raises:
        RequestError: It is among what is chosen.
    """
    last = [name for name, owner in chosen.owners.items() if _is_weight(owner)][-1:]
    for name in last:
        if isinstance(chosen.sets.get(name), Filters | FiltersAndColumns):
            raise RequestError(
                f"{name}: the last layer, whose filters are as a rule the model's own outputs; give "
                f'example_input=, which shows what they are, or exclude=["{name}"], or name in include= '
                "all that is to be pruned"
            )


def _reason(
    name: str,
    owner: Owner,
    wanted: Collection[str] | None,
    refused: Collection[tuple[str, str]],
    in_full: bool,
) -> str | None:
    """Why it is not pruned; ``None`` when it is."""
    for pattern, as_given in refused:
        if matching(pattern, [name]):
            return f"excluded by {as_given!r}"
    if in_full:
        return None
    if not _is_weight(owner):
        return _REASONS[owner.kind]
    if wanted is not None and not any(matching(pattern, [name]) for pattern in wanted):
        return "not included"
    return None


def _is_weight(owner: Owner) -> bool:
    return owner.kind.is_conv or owner.kind.is_linear


def _check_globs(patterns: Collection[str], found: Mapping[str, Owner], argument: str) -> None:
    for pattern in patterns:
        matched = matching(pattern, found)
        if is_glob(pattern) and matched and not any(_is_weight(found[name]) for name in matched):
            raise RequestError(
                f"{argument}: {pattern!r} matches no weight of a convolution or linear layer, only "
                f"{matched[0]!r} and its like; give a parameter's full name to prune it all the same"
            )
