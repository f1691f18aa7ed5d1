r"""Survivors on levels: quantisation of whatever another constraint leaves.

The second constraint set of ADMM-NN, :math:`S' = \{z : \text{the nonzeros of } z_l \text{ are on } M_l
\text{ levels}\}`, on the survivors of a pruned model or together with the pruning.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from espalier._ground.types import Masks, Weights
from espalier.errors import RequestError, UnknownNameError, nearest
from espalier.sets._constraint import Constraint
from espalier.sets._levels import Levels
from espalier.sets._naming import named


@dataclass(frozen=True)
class OnLevels:
    r"""In another constraint, with nonzeros on levels: :math:`\Pi = \Pi_{\text{levels}} \circ \Pi_{\text{inner}}`.

    Zero is no level, so what the inner projection makes zero stays zero: the support is the inner one's.
    With ``Within`` and with unstructured sparsity per tensor, in the Euclidean norm, the composition is the
    nearest point of both sets: for every q, what is gained by keeping a weight,
    :math:`a^2 - (a - f_q(a))^2`, grows with its magnitude a, so the largest are kept whatever q is.

    While the inner budget is still closing the weights are pruned and not yet quantised: two bits cannot
    stand for a dense tensor. A solver that settles ends its pull early: where there is nothing to prune,
    train with ``settle=None``.

    Args:
        inner: Which weights survive.
        levels: By parameter name; a parameter of ``inner`` without levels is pruned only.

    Raises:
        UnknownNameError: Levels for a parameter that ``inner`` does not constrain.

    Source: Ren et al. 2019, *ADMM-NN* (arXiv 1812.11677), §4.

    Example:
        >>> import torch
        >>> from espalier.sets import Within
        >>> survivors = Within({"w": torch.tensor([True, False, True])})
        >>> OnLevels(survivors, {"w": Levels(1)}).project({"w": torch.tensor([1.0, 5.0, -3.0])})
        {'w': tensor([ 2.,  0., -2.])}
    """

    inner: Constraint
    levels: Mapping[str, Levels]

    def __post_init__(self) -> None:
        for name in self.levels:
            if name not in self.inner.names:
                raise UnknownNameError(
                    f"levels for {name!r}, which is not constrained; "
                    f"{nearest(name, self.inner.names)}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The inner constraint's."""
        return self.inner.names

    @property
    def density(self) -> float:
        """The inner constraint's."""
        return self.inner.density

    @property
    def held(self) -> Masks:
        """The inner constraint's."""
        return self.inner.held

    @property
    def masks(self) -> Masks:
        """The survivors of the quantised tensors, where they are known from the start.

        Raises:
            RequestError: They depend on the weights.
        """
        for name in self.levels:
            if name not in self.held:
                raise RequestError(
                    f"{name}: its survivors depend on the weights; prune first and quantise what is "
                    "left: quantise_plan(model, bits)"
                )
        return {name: self.held[name] for name in self.levels}

    @property
    def bits(self) -> dict[str, int]:
        """Bits per survivor, by parameter name."""
        return {name: levels.bits for name, levels in self.levels.items()}

    @property
    def data_bits(self) -> int:
        """Σ survivors × bits: the values alone, without indices and distances.

        Raises:
            RequestError: The survivors depend on the weights.
        """
        return sum(int(mask.sum()) * self.bits[name] for name, mask in self.masks.items())

    def steps(self, w: Weights) -> dict[str, float]:
        """The distance q between the levels of each quantised tensor.

        Raises:
            RequestError: A tensor is not on its levels.
        """
        found = {}
        for name, levels in self.levels.items():
            with named(name):
                found[name] = levels.codes(w[name])[1]
        return found

    def check(self, model: nn.Module) -> None:
        """As the inner constraint."""
        self.inner.check(model)

    def opened(self, slack: float) -> Constraint:
        """The inner constraint alone while it is open; itself once it has closed."""
        opened = self.inner.opened(slack)
        return self if opened is self.inner else opened

    def support(self, w: Weights, h: Weights | None = None) -> dict[str, Tensor]:
        """The inner constraint's."""
        return self.inner.support(w, h)

    def project(self, w: Weights, h: Weights | None = None) -> dict[str, Tensor]:
        """Projected by the inner constraint; then each tensor on the best of its levels.

        Args:
            w: As the inner constraint wants them.
            h: Diagonal of H by name; it also weighs the errors among which q is chosen.

        Raises:
            NonFiniteError: NaN or infinity, with the parameter's name; and as the inner constraint.
        """
        z = self.inner.project(w, h)
        for name, levels in self.levels.items():
            with named(name):
                z[name] = levels.project(z[name], (h or {}).get(name))
        return z

    def contains(self, w: Weights) -> bool:
        """Whether the tensors are in the inner constraint and their nonzeros on levels, to the bit."""
        on_levels = all(levels.contains(w[name]) for name, levels in self.levels.items())
        return on_levels and self.inner.contains(w)

    def implied(self, masks: Masks, parameters: Weights) -> dict[str, Tensor]:
        """The inner constraint's."""
        return self.inner.implied(masks, parameters)
