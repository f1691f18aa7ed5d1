"""What a plan costs and saves: its rows, the parts that tie them, and sums over them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from espalier.errors import BudgetError, UnknownNameError, nearest
from espalier.measure import Count, SparsityReport, tally
from espalier.planning._entry import Entry, Skipped
from espalier.sets import Coupled, Levels, Shared


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What the compact model of a plan has, as its rehearsal left it: measured, not inferred.

    Attributes:
        macs: By parameter: multiply-accumulates for one sample; without those whose zeros stay in the
            compact model.
        between_activations: Of products without weights.
        bytes: Of parameters and buffers, dense and compact.
    """

    macs: Mapping[str, int]
    between_activations: int
    bytes: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Rows and parts; :class:`~espalier.planning.Plan` is one that also projects, and names its fields.

    Raises:
        BudgetError: No entries; a part over a tensor that is not among them, or that is in another part.
        UnknownNameError: Levels for a parameter that has no entry.
    """

    entries: Mapping[str, Entry]
    parts: tuple[Shared | Coupled, ...] = ()
    levels: Mapping[str, Levels] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    between_activations: int = 0
    notes: tuple[str, ...] = ()
    delivered: Delivered | None = None

    def __post_init__(self) -> None:
        if not self.entries:
            raise BudgetError("a plan needs at least one parameter to prune")
        seen: set[str] = set()
        for part in self.parts:
            what = "the shared budget" if isinstance(part, Shared) else "the coupled units"
            for name in sorted(part.names):
                if name not in self.entries:
                    raise BudgetError(f"{name}: in {what} but not in the entries")
                if name in seen:
                    raise BudgetError(f"{name}: in {what} and in another part; it has one place")
                seen.add(name)
        for name in self.levels:
            if name not in self.entries:
                raise UnknownNameError(
                    f"levels for {name!r}, which the plan does not prune; "
                    f"{nearest(name, self.entries)}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters to prune, in the model's order."""
        return tuple(self.entries)

    @property
    def shared(self) -> Shared | None:
        """The first budget that several tensors share, if there is one."""
        return next((part for part in self.parts if isinstance(part, Shared)), None)

    @property
    def coupled(self) -> Coupled | None:
        """The first units that run through several tensors, if there are any."""
        return next((part for part in self.parts if isinstance(part, Coupled)), None)

    @cached_property
    def density(self) -> float:
        """Fraction of the selected tensors' weights that may stay."""
        rows = self.entries.values()
        return sum(self.left(row) for row in rows) / max(1, sum(row.numel for row in rows))

    @property
    def macs(self) -> int | None:
        """Dense multiply-accumulates of the model for one sample; ``None`` when not measured."""
        if any(entry.macs is None for entry in self.entries.values()):
            return None
        return self.between_activations + sum(row.macs or 0 for row in self._rows)

    @property
    def macs_left(self) -> int | None:
        """Multiply-accumulates left if every product with a pruned weight is skipped."""
        if self.macs is None:
            return None
        source = self if self.delivered is None else self.delivered
        return source.between_activations + sum(self.macs_of(row) or 0 for row in self._rows)

    def left(self, row: Entry | Skipped) -> int:
        """How many weights of a parameter stay, what channels that go take along left out."""
        if isinstance(row, Skipped):
            return row.nonzeros
        coupled = self._coupled
        for part in coupled:
            if row.name in part.members:
                return part.left(row.name, row.shape)
        return row.alone.left(*coupled) if coupled else row.nonzeros

    def macs_of(self, row: Entry | Skipped) -> int | None:
        """Multiply-accumulates of the weights of a parameter that stay, one sample."""
        if self.delivered is not None and row.name in self.delivered.macs:
            return self.delivered.macs[row.name]
        return None if row.macs is None else row.macs * self.left(row) // max(1, row.numel)

    def counts(self) -> SparsityReport:
        """What the plan will leave, by counting convention; the parameters left dense count whole."""
        rows = {row.name: row for row in self._rows if row.layer_kind is not None}
        layers = {
            name: Count(total=row.numel, nonzero=self.left(row)) for name, row in rows.items()
        }
        kinds = {name: kind for name, row in rows.items() if (kind := row.layer_kind) is not None}
        return tally(layers, kinds, self.names)

    def follows(self, row: Entry) -> bool:
        """Whether it is a bias, γ or β that goes with the channels of its layer."""
        return len(row.shape) < 2 and any(row.name in part.members for part in self._coupled)

    @property
    def _rows(self) -> list[Entry | Skipped]:
        return [*self.entries.values(), *self.skipped]

    @property
    def _coupled(self) -> list[Coupled]:
        return [part for part in self.parts if isinstance(part, Coupled)]
