r"""Units that run through several tensors, and live or go as one.

Legend: unit u has a slice in every tensor t it runs through, of energy
:math:`e_u = \sum_t \sum_{i \in u_t} h_i w_i^2`; group g has :math:`n_g` units, of which
:math:`k_g` may stay.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from espalier._ground.types import Weights
from espalier.errors import BudgetError, RequestError
from espalier.sets._along import STAYS, Along, columns_of, energy_of, spread
from espalier.sets._select import largest


@dataclass(frozen=True, kw_only=True)
class Coupled:
    r"""At most k_g units of every group g have a nonzero slice, in all their tensors together.

    .. math:: S = \Bigl\{z : \#\{u \in g : \exists t : z_{t,u} \ne 0\} \le k_g \;\;\forall g\Bigr\}

    A weight lies in one unit at most, so the nearest point keeps, of every group, the k_g units of
    largest energy, exactly. Ties go to the lower unit.

    With ``columns``, a tensor keeps that many columns of (O, I·prod(k)) besides, and none that reads
    a unit which goes. Then units and columns are chosen in turn, from all columns, until neither
    alone can be improved: a local optimum (see ``FiltersAndColumns``, where the problem is NP-hard
    already for one tensor).

    Args:
        sizes: Units of every group; they are numbered through, group after group.
        keep: Units of every group that may stay.
        members: The tensors that are constrained, by parameter name.
        implied: Slices that a unit takes with it, for they multiply its zeros (or produce what
            nobody reads). They are no part of the constraint, and go when the unit has gone.
        columns: Columns that may stay, by the name of a member along axis 0.

    Raises:
        BudgetError: A keep that a group does not have.
        RequestError: Units that do not exist, or columns of what is no member along axis 0.

    Source: Fang et al. 2023, *DepGraph* (arXiv 2301.12900), for the groups; Li et al. 2017,
    *Pruning filters for efficient ConvNets*, section 3.3, for filters tied by residual adds.

    Example:
        >>> pair = Along(0, (0, 1))
        >>> both = Coupled(sizes=(2,), keep=(1,), members={"a": pair, "b": pair})
        >>> both.project({"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([1.0, 2.0])})
        {'a': tensor([3., 0.]), 'b': tensor([1., 0.])}
    """

    sizes: tuple[int, ...]
    keep: tuple[int, ...]
    members: Mapping[str, Along]
    implied: Mapping[str, tuple[Along, ...]] = field(default_factory=dict)
    columns: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.keep):
            raise BudgetError(f"{len(self.keep)} keeps for {len(self.sizes)} groups; give one each")
        for size, keep in zip(self.sizes, self.keep, strict=True):
            if not 0 <= keep <= size:
                raise BudgetError(f"keep={keep} of a group of {size} units; give 0 to {size}")
        total = sum(self.sizes)
        for name, along in self._all():
            if not all(STAYS <= u < total for u in along.units):
                raise RequestError(
                    f"{name}: a unit outside 0 … {total - 1} along axis {along.axis}"
                )
        for name in self.columns:
            if name not in self.members or self.members[name].axis != 0:
                raise RequestError(f"{name}: columns of what is no member along axis 0")

    @property
    def names(self) -> tuple[str, ...]:
        """The members."""
        return tuple(self.members)

    @property
    def implies(self) -> tuple[str, ...]:
        """The tensors of which units take slices along."""
        return tuple(self.implied)

    def support(self, weights: Weights, metrics: Weights | None = None) -> dict[str, Tensor]:
        """Boolean mask of every member: where the projection may be nonzero.

        Arguments and errors are those of :meth:`project`.
        """
        energies = self._energies(weights, metrics)
        chosen = self._choose(self._by_unit(energies))
        columns: dict[str, Tensor] = {}
        if self.columns:
            chosen, columns = self._climb(energies, chosen)
        return {
            name: spread(along, chosen, weights[name].shape)
            & columns_of(columns.get(name), weights[name].shape)
            for name, along in self.members.items()
        }

    def energies(self, weights: Weights, metrics: Weights | None = None) -> Tensor:
        """The energy of every unit over all its tensors, float64, shape (all units,).

        Arguments and errors are those of :meth:`project`.
        """
        return self._by_unit(self._energies(weights, metrics))

    def project(self, weights: Weights, metrics: Weights | None = None) -> dict[str, Tensor]:
        """The nearest point: unchanged on the support, zero elsewhere.

        Args:
            weights: A tensor for every member, all on one device. Not modified.
            metrics: The diagonal h >= 0 by name, shape of the weight; absent names are Euclidean.

        Returns:
            New tensors for the members: shape, dtype, device as given, off the graph.

        Raises:
            ShapeError: A tensor whose axis has another size.
            BudgetError: More columns are to stay than there are.
            NonFiniteError: NaN or infinity.
        """
        masks = self.support(weights, metrics)
        return {name: torch.where(mask, weights[name].detach(), 0) for name, mask in masks.items()}

    def contains(self, weights: Weights) -> bool:
        """Whether no group has more nonzero units, and no tensor more nonzero columns, than it may."""
        occupied = self.occupied(weights)
        used = [int(part.sum()) for part in torch.split(occupied, list(self.sizes))]
        if any(n > keep for n, keep in zip(used, self.keep, strict=True)):
            return False
        return all(
            int(weights[name].detach().ne(0).flatten(1).any(0).sum()) <= keep
            for name, keep in self.columns.items()
        )

    def occupied(self, weights: Weights) -> Tensor:
        """Which units have a nonzero slice: booleans, shape (all units,)."""
        nonzero = {name: weights[name].detach().ne(0).double() for name in self.members}
        return self._by_unit(nonzero) > 0

    def implied_masks(
        self, members: Weights, shapes: Mapping[str, Sequence[int]]
    ) -> dict[str, Tensor]:
        """Boolean masks of what units without a nonzero slice take with them: False there.

        Args:
            members: Weights, or masks, of the members.
            shapes: By name; those of the tensors in ``implied`` that are wanted.
        """
        occupied = self.occupied(members)
        masks = {}
        for name, alongs in self.implied.items():
            if name not in shapes:
                continue
            parts = [spread(along, occupied, shapes[name]) for along in alongs]
            masks[name] = torch.stack(parts).all(0)
        return masks

    def opened(self, slack: float, shapes: Mapping[str, Sequence[int]]) -> "Coupled":
        """With every keep moved the fraction ``slack`` of the way to all: 0 leaves it, 1 is dense."""
        keep = tuple(k + round((n - k) * slack) for n, k in zip(self.sizes, self.keep, strict=True))
        columns = {
            name: k + round((prod(shapes[name][1:]) - k) * slack)
            for name, k in self.columns.items()
        }
        return replace(self, keep=keep, columns=columns)

    def with_keep(self, keep: Sequence[int]) -> "Coupled":
        """The same units with other counts."""
        return replace(self, keep=tuple(keep))

    def kept(self, along: Along) -> int:
        """How many indices of an axis stay when every group keeps its count.

        All units of a group must have equally many indices in the axis.
        """
        _, inside = self.taken(along)
        gone = sum(n * (self.sizes[g] - self.keep[g]) for g, n in inside.items())
        return len(along.units) - gone

    def taken(self, along: Along) -> tuple[int, dict[int, int]]:
        """The axis, and how many of its indices one unit of each group takes."""
        inside = Counter(self._group_of[u] for u in along.units if u != STAYS)
        return along.axis, {g: n // self.sizes[g] for g, n in inside.items()}

    def left(self, name: str, shape: Sequence[int]) -> int:
        """How many weights of a tensor may be nonzero once all that goes has gone.

        Example:
            >>> one = Coupled(sizes=(4,), keep=(3,), members={"w": Along(0, (0, 1, 2, 3))})
            >>> one.left("w", (4, 10))
            30
        """
        sides = list(shape)
        for along in self.alongs(name):
            sides[along.axis] = self.kept(along)
        if name in self.columns:
            return sides[0] * min(self.columns[name], prod(sides[1:]))
        return prod(sides)

    def nonzeros(self, shapes: Mapping[str, Sequence[int]]) -> int:
        """How many weights of all members together may be nonzero."""
        return sum(self.left(name, shapes[name]) for name in self.members)

    def alongs(self, name: str) -> tuple[Along, ...]:
        """The axes of a tensor along which units go."""
        own = (self.members[name],) if name in self.members else ()
        return own + self.implied.get(name, ())

    @cached_property
    def _group_of(self) -> tuple[int, ...]:
        return tuple(g for g, size in enumerate(self.sizes) for _ in range(size))

    def _energies(self, weights: Weights, metrics: Weights | None) -> dict[str, Tensor]:
        return {
            name: energy_of(name, weights[name], (metrics or {}).get(name), along)
            for name, along in self.members.items()
        }

    def _all(self) -> list[tuple[str, Along]]:
        names = dict.fromkeys([*self.members, *self.implied])
        return [(name, along) for name in names for along in self.alongs(name)]

    def _by_unit(self, values: Weights) -> Tensor:
        """Sums over the slices of every unit, float64, shape (all units,)."""
        device = next(iter(values.values())).device
        total = torch.zeros(sum(self.sizes) + 1, dtype=torch.float64, device=device)
        for name, along in self.members.items():
            n, x = (
                len(along.units),
                values[name].movedim(along.axis, 0),
            )  # n may be 0: a rank's part
            by_index = x.reshape(n, x.numel() // max(1, n)).sum(1)
            units = torch.tensor(along.units, dtype=torch.int64, device=device)
            total.index_add_(0, units.where(units >= 0, len(total) - 1), by_index.double())
        return total[:-1]

    def _choose(self, by_unit: Tensor) -> Tensor:
        parts = zip(torch.split(by_unit, list(self.sizes)), self.keep, strict=True)
        return torch.cat([largest(part, keep) for part, keep in parts])

    def _climb(self, e: Weights, chosen: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Columns, then units, in turn until the units alone cannot be improved."""
        while True:
            columns = {name: self._best_columns(name, e[name], chosen) for name in self.columns}
            inside = {name: v * columns_of(columns.get(name), v.shape) for name, v in e.items()}
            by_unit = self._by_unit(inside)
            better = self._choose(by_unit)
            # Ties move without gain, so ask for gain: it cannot go on for ever.
            if not by_unit[better].sum() > by_unit[chosen].sum():
                return chosen, columns
            chosen = better

    def _best_columns(self, name: str, e: Tensor, chosen: Tensor) -> Tensor:
        """Of the columns that read nothing that goes, those of largest energy in the rows that stay."""
        keep, count = self.columns[name], prod(e.shape[1:])
        if not 0 <= keep <= count:
            raise BudgetError(f"{name}: keep={keep} of {count} columns; give 0 to {count}")
        rows = spread(self.members[name], chosen, e.shape)
        alive = torch.ones_like(rows)
        for along in self.implied.get(name, ()):
            alive &= spread(along, chosen, e.shape)
        reads = alive.flatten(1).any(0)
        scores = (e * rows).flatten(1).sum(0).where(reads, -1.0)
        return largest(scores, keep) & reads
