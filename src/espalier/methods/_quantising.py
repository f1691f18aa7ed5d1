r"""Quantised weights as a constraint: what a :class:`~espalier.methods._pruning.Pruning` handle takes beside a plan.

The second constraint set of ADMM-NN, :math:`S'_l = \{z : \text{the nonzeros of } z_l \text{ are on } M_l
\text{ levels}\}`: either on the survivors of a model that is already pruned, or together with a plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from espalier._ground.types import Weights
from espalier.budgets._patterns import assign, is_glob
from espalier.errors import RequestError, ShapeError, UnknownNameError, nearest
from espalier.measure import layer_kinds
from espalier.planning import Plan
from espalier.planning._entry import named
from espalier.sets import Levels

Bits = int | Mapping[str, int]
"""One count of bits for all tensors, or by name."""


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """The survivors of each tensor on levels; its zeros stay zero, whatever the solver does.

    It takes the place of a plan: ``Pruning(model, quantisation, ADMM(settle=None))`` trains the weights
    towards their levels and ``hard_prune_()`` puts them there. The zeros are held from the first step.
    There is nothing to open or to settle: ``slack`` is ignored, and a solver that settles ends its pull
    early, so give it ``settle=None``.

    Attributes:
        levels: By parameter name.
        masks: By parameter name, bool: True for a survivor.
    """

    levels: Mapping[str, Levels]
    masks: Mapping[str, Tensor]

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters to quantise, in the model's order."""
        return tuple(self.levels)

    @property
    def bits(self) -> dict[str, int]:
        """Bits a survivor, by parameter name."""
        return {name: levels.bits for name, levels in self.levels.items()}

    @property
    def density(self) -> float:
        """Fraction of the tensors' weights that survive."""
        survivors = sum(int(mask.sum()) for mask in self.masks.values())
        return survivors / max(1, sum(mask.numel() for mask in self.masks.values()))

    @property
    def held(self) -> Mapping[str, Tensor]:
        """The masks: these zeros are held from the beginning."""
        return self.masks

    @property
    def data_bits(self) -> int:
        """Σ survivors × bits: the values alone, without indices and distances."""
        return sum(int(self.masks[name].sum()) * bits for name, bits in self.bits.items())

    def support(
        self, weights: Weights, metrics: Weights | None = None, slack: float = 0.0
    ) -> dict[str, Tensor]:
        """The masks; nothing else is a point of the set."""
        return {name: self._mask(weights, name) for name in self.levels}

    def project(
        self, weights: Weights, metrics: Weights | None = None, slack: float = 0.0
    ) -> dict[str, Tensor]:
        """Nearest point by name, each tensor with the best distance of its levels; detached.

        Args:
            weights: Every parameter in :attr:`names`; others are ignored.
            metrics: Diagonal of H by name; it weighs the errors among which the distance is chosen.
            slack: Ignored.

        Raises:
            UnknownNameError: A parameter without weights.
            ShapeError: Weights of another shape.
            NonFiniteError: NaN or infinity, with the parameter's name.
        """
        found = {}
        for name, levels in self.levels.items():
            with named(name):
                mask = self._mask(weights, name)
                found[name] = levels.project(weights[name], (metrics or {}).get(name), mask)
        return found

    def implied(self, masks: Weights, parameters: Weights) -> dict[str, Tensor]:
        """Nothing: what is zero already stays so."""
        return {}

    def contains(self, weights: Weights) -> bool:
        """Whether the pruned weights are zero and the others on levels."""
        return all(
            levels.contains(weights[name])
            and not bool(weights[name].detach()[~self._mask(weights, name)].any())
            for name, levels in self.levels.items()
        )

    def steps(self, weights: Weights) -> dict[str, float]:
        """The distance q between the levels of each quantised tensor.

        Raises:
            RequestError: A tensor is not on its levels.
        """
        found = {}
        for name, levels in self.levels.items():
            with named(name):
                found[name] = levels.codes(weights[name])[1]
        return found

    def check(self, model: nn.Module) -> None:
        """Raise unless the model has every parameter, in the shape of its mask.

        Raises:
            UnknownNameError: A parameter that the model does not have; the nearest is suggested.
            ShapeError: A parameter of another shape.
        """
        parameters = dict(model.named_parameters())
        for name in self.levels:
            if name not in parameters:
                raise UnknownNameError(
                    f"the quantisation names {name!r}, which the model does not have; "
                    f"{nearest(name, parameters)}"
                )
            self._mask(parameters, name)

    def _mask(self, weights: Weights, name: str) -> Tensor:
        if name not in weights:
            raise UnknownNameError(f"no weights given for {name!r}; {nearest(name, weights)}")
        w, mask = weights[name], self.masks[name]
        if w.shape != mask.shape:
            raise ShapeError(
                f"{name}: shape {tuple(w.shape)} but it was {tuple(mask.shape)} when its zeros were "
                "read; quantise_plan the model anew"
            )
        return mask.to(w.device)


@dataclass(frozen=True, kw_only=True)
class SparseAndQuantised:
    r"""Pruned to a plan and on levels at once: :math:`\Pi = \Pi_{\text{levels}} \circ \Pi_{\text{plan}}`.

    Zero is no level, so the mask survives the quantisation by construction: the support of a projection is
    the plan's own. Per tensor, in the Euclidean norm and with unstructured sparsity, the composition is the
    nearest point of both sets: for every q, what is gained by keeping a weight, :math:`a^2 - (a -
    f_q(a))^2`, grows with its magnitude a, so the largest are kept whatever q is.

    While the budget is still closing (slack > 0) the weights are pruned and not yet quantised: two bits
    cannot stand for a dense tensor.

    Args:
        plan: What may stay.
        levels: By parameter name; a planned parameter without levels is pruned only.

    Raises:
        UnknownNameError: Levels for a parameter that is not in the plan.
    """

    plan: Plan
    levels: Mapping[str, Levels]
    held: Mapping[str, Tensor] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for name in self.levels:
            if name not in self.plan.entries:
                raise UnknownNameError(
                    f"levels for {name!r}, which the plan does not prune; "
                    f"{nearest(name, self.plan.entries)}"
                )

    @classmethod
    def of(cls, plan: Plan, bits: Bits) -> "SparseAndQuantised":
        """The plan's parameters with so many bits each.

        Args:
            plan: What may stay.
            bits: One count, or a count by name or glob.
        """
        return cls(plan=plan, levels=_levels(bits, plan.names))

    @property
    def names(self) -> tuple[str, ...]:
        """The plan's."""
        return self.plan.names

    @property
    def density(self) -> float:
        """The plan's."""
        return self.plan.density

    def support(
        self, weights: Weights, metrics: Weights | None = None, slack: float = 0.0
    ) -> dict[str, Tensor]:
        """The plan's."""
        return self.plan.support(weights, metrics, slack)

    def project(
        self, weights: Weights, metrics: Weights | None = None, slack: float = 0.0
    ) -> dict[str, Tensor]:
        """Pruned by the plan; then, once the budget has closed, on levels. As :meth:`Plan.project`."""
        pruned = self.plan.project(weights, metrics, slack)
        if slack > 0:
            return pruned
        for name, levels in self.levels.items():
            with named(name):
                pruned[name] = levels.project(pruned[name], (metrics or {}).get(name))
        return pruned

    def implied(self, masks: Weights, parameters: Weights) -> dict[str, Tensor]:
        """As :meth:`Plan.implied`."""
        return self.plan.implied(masks, parameters)

    def contains(self, weights: Weights) -> bool:
        """Whether the tensors are within the plan and their nonzeros on levels."""
        on_levels = all(levels.contains(weights[n]) for n, levels in self.levels.items())
        return on_levels and self.plan.contains(weights)

    def check(self, model: nn.Module) -> None:
        """As :meth:`Plan.check`."""
        self.plan.check(model)


def quantise_plan(model: nn.Module, bits: Bits) -> Quantisation:
    """What quantises a pruned model: its nonzeros go on levels, its zeros stay.

    Args:
        model: Pruned already, or dense; its zeros are read now.
        bits: log₂ of the number of levels, from 1 (±q) to 16. One count for the weights of all
            convolutions and linear layers; or a count by name or glob. A glob selects among those
            weights, a full name whatever it names, biases included; what is not named stays as it is.

    Raises:
        UnknownNameError: A name or glob that matches nothing.
        RequestError: A count outside 1 to 16, or nothing to quantise.

    Example:
        >>> import torch
        >>> model = nn.Linear(3, 2)
        >>> with torch.no_grad():
        ...     _ = model.weight.copy_(torch.tensor([[0.0, 1.0, 3.0], [-1.0, 0.0, 2.0]]))
        >>> quantisation = quantise_plan(model, bits=1)
        >>> quantisation.project(dict(model.named_parameters()))["weight"]
        tensor([[ 0.0000,  1.7500,  1.7500], [-1.7500,  0.0000,  1.7500]])
        >>> quantisation.data_bits
        4
    """
    kinds = layer_kinds(model)
    weights = [name for name, kind in kinds.items() if kind.is_conv or kind.is_linear]
    chosen: dict[str, Levels]
    if isinstance(bits, int):
        chosen = _levels(bits, weights)
    else:
        globs = {pattern: n for pattern, n in bits.items() if is_glob(pattern)}
        full = {name: n for name, n in bits.items() if not is_glob(name)}
        both = {**_levels(globs, weights), **_levels(full, list(kinds))}
        chosen = {name: both[name] for name in kinds if name in both}
    if not chosen:
        raise RequestError("nothing to quantise; name the parameters: bits={'fc.weight': 4}")
    parameters = dict(model.named_parameters())
    masks = {name: parameters[name].detach() != 0 for name in chosen}
    return Quantisation(levels=chosen, masks=masks)


def _levels(bits: Bits, names: tuple[str, ...] | list[str]) -> dict[str, Levels]:
    given = dict.fromkeys(names, bits) if isinstance(bits, int) else assign(bits, names, "bits")
    found = {}
    for name, count in given.items():
        with named(name):
            found[name] = Levels(count)
    return found
