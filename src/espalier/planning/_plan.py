"""The plan: parameter name → (set, keep), with what it costs and saves."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.table import Table
from torch import Tensor, nn

from espalier._ground.types import Masks, Weights
from espalier.budgets._patterns import hint
from espalier.errors import ShapeError, UnknownNameError
from espalier.planning import _file, _table
from espalier.planning._ledger import Ledger
from espalier.sets import Constraint, OnLevels, Part, Product
from espalier.sets._naming import named


@dataclass(frozen=True, kw_only=True)
class Plan(Ledger):
    r"""Which set and keep each parameter of a model has; made by :func:`espalier.plan`.

    .. math:: S = \prod_p S_p \;\cap\; \{W : \text{the nonzeros of } W_l \text{ are on its levels}\}

    A constraint like any other: the product of its parts, and of one ``Alone`` for every entry that is in
    none of them; on levels where it has some.

    Attributes:
        entries: by parameter name, in the model's order.
        parts: budgets that several entries share, and units that run through several of them.
        levels: by parameter name, the values that its nonzeros may have; may be empty.
        skipped: the parameters left dense, and why.
        between_activations: MACs for one sample of products without weights (attention).
        notes: what the measurement of MACs could not see and what compaction cannot take out, a sentence
            each.
        delivered: what the compact model has, where compaction was rehearsed.

    Raises:
        BudgetError: no entries, or a part over a tensor that is no entry or is in another part.
        UnknownNameError: levels for a parameter that is no entry.

    Example:
        >>> from espalier.planning import plan
        >>> model = nn.Linear(8, 4)
        >>> p = plan(model, density=0.25)
        >>> p.names, p.entries["weight"].keep, p.counts().all_params.nonzero
        (('weight',), 8, 12)
    """

    @cached_property
    def constraint(self) -> Constraint:
        """What the plan says of the weights, without rows and costs."""
        tied = {name for part in self.parts for name in part.names}
        alone = [row.alone for name, row in self.entries.items() if name not in tied]
        parts: tuple[Part, ...] = (*self.parts, *alone)
        shapes = {name: row.shape for name, row in self.entries.items()}
        product = Product(parts=parts, shapes=shapes)
        return OnLevels(product, self.levels) if self.levels else product

    @property
    def held(self) -> Masks:
        """No zero is held before the first update: any weight may still be among those that stay."""
        return self.constraint.held

    def opened(self, slack: float) -> Constraint:
        """Every keep moved the fraction ``slack`` of the way to dense, without levels; itself at 0.

        Raises:
            BudgetError: slack outside [0, 1].
        """
        opened = self.constraint.opened(slack)
        return self if opened is self.constraint else opened

    def support(self, w: Weights, h: Weights | None = None) -> dict[str, Tensor]:
        """Boolean masks by name: where the nearest point of each set may be nonzero.

        Args:
            w: every parameter in :attr:`names`; others are ignored.
            h: diagonal of H by name, shape of the weight; a name that is missing has H = I.

        Raises:
            UnknownNameError: a parameter without weights.
            ShapeError: weights, or a metric, of another shape.
            NonFiniteError: NaN or infinity, with the parameter's name.
        """
        return self.constraint.support(w, h)

    def project(self, w: Weights, h: Weights | None = None) -> dict[str, Tensor]:
        """Nearest point by name: unchanged (or on its levels) on the support, zero elsewhere; detached.

        Arguments and errors are those of :meth:`support`.
        """
        return self.constraint.project(w, h)

    def contains(self, w: Weights) -> bool:
        """Whether the tensors are in their sets, at the plan's own budget, and on their levels."""
        return self.constraint.contains(w)

    def implied(self, masks: Masks, parameters: Weights) -> dict[str, Tensor]:
        """Masks of further parameters: what multiplies the zeros of channels that go.

        Args:
            masks: of the entries, from :meth:`support`.
            parameters: all of the model's, by name; only their shapes matter.
        """
        return self.constraint.implied(masks, parameters)

    def check(self, model: nn.Module) -> None:
        """Raise unless the model has every parameter to prune, in the planned shape.

        Raises:
            UnknownNameError: a parameter that the model does not have; the nearest is suggested.
            ShapeError: a parameter of another shape.
        """
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for name, entry in self.entries.items():
            if name not in parameters:
                raise UnknownNameError(
                    f"the plan prunes {name!r}, which the model does not have; "
                    f"{hint(name, parameters)}; or make the plan anew for this model"
                )
            shape = tuple(parameters[name].shape)
            if shape != entry.shape:
                raise ShapeError(
                    f"{name}: shape {shape} in the model but {entry.shape} in the plan; "
                    "make the plan anew for this model"
                )

    def table(self) -> Table:
        """For people: every parameter, what is left, totals, and which runtime can use it."""
        return _table.render(self)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON or YAML data; :meth:`from_dict` reads it back."""
        return _file.to_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """The plan that :meth:`to_dict` wrote.

        Raises:
            CheckpointError: not a plan, or of another version.
            UnknownNameError: an unknown key or set; the nearest is suggested.
            BudgetError, ShapeError: a keep or a set that a tensor cannot have.
        """
        return cls(**_file.fields_of(data))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write YAML, atomically.

        Raises:
            RunFolderError: it cannot be written; an old file is as it was.
        """
        _file.write(self.to_dict(), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Plan":
        """Read what :meth:`save` wrote; equal to what was saved.

        Raises:
            CheckpointError: no such file, no YAML, or not a plan; and as :meth:`from_dict`.
        """
        with named(os.fspath(path)):
            return cls.from_dict(_file.read(path))
