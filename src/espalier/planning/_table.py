"""The plan for people."""

from itertools import groupby

from rich.table import Table

from espalier.planning._entry import Entry, Skipped
from espalier.planning._ledger import Ledger
from espalier.sets import Set

_FEW = 3


def render(plan: Ledger) -> Table:
    """Parameters to prune, parameters left dense, totals, and what can use the sparsity."""
    table = Table(title=_title(plan), caption="\n".join(_remarks(plan)), caption_justify="left")
    table.add_column("parameter", overflow="fold")
    table.add_column("shape")
    table.add_column("set, or why dense", overflow="fold")
    for header in ("keep / units", "density", "MACs", "MACs left"):
        table.add_column(header, justify="right")
    for entry in plan.entries.values():
        if plan.follows(entry):
            continue  # biases, γ, β: as their layer
        table.add_row(
            entry.name,
            _dims(entry.shape),
            _what(plan, entry),
            f"{_amount(entry.keep)} / {_amount(entry.units)}",
            f"{plan.left(entry) / max(1, entry.numel):.4f}",
            _macs(entry.macs),
            _macs(plan.macs_of(entry)),
        )
    table.add_section()
    by_reason = sorted(plan.skipped, key=lambda row: _first(plan, row.reason))
    for reason, group in groupby(by_reason, key=lambda row: row.reason):
        _add_skipped(plan, table, reason, list(group))
    table.add_section()
    for convention, count in plan.counts():
        left = f"{count.nonzero:,} / {count.total:,}"
        compression = f"{count.compression:.2f}×"
        table.add_row(convention, "", compression, left, f"{count.density:.4f}", "", "")
    if plan.macs and plan.macs_left is not None:
        ratio = f"{plan.macs / max(1, plan.macs_left):.2f}×"
        macs = f"{plan.macs_left / plan.macs:.4f}", _macs(plan.macs), _macs(plan.macs_left)
        table.add_row("MACs, one sample", "", ratio, "", *macs)
    if plan.delivered is not None:
        before, after = plan.delivered.bytes
        share = f"{after / max(1, before):.4f}"
        ratio = f"{before / max(1, after):.2f}×"
        table.add_row(
            "bytes of the compact model", "", ratio, f"{after:,} / {before:,}", share, "", ""
        )
    return table


def set_name(which: Set) -> str:
    """A set in a cell.

    >>> from espalier.sets import NOfM
    >>> set_name(NOfM(2, 4))
    'n_of_m(n=2, m=4)'
    """
    spec = which.spec()
    if isinstance(spec, str):
        return spec
    ((name, arguments),) = spec.items()
    return f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items())})"


def _what(plan: Ledger, entry: Entry) -> str:
    """The set, and on how many levels what it leaves is."""
    levels = plan.levels.get(entry.name)
    if levels is None:
        return set_name(entry.set)
    return f"{set_name(entry.set)}, {levels.bits} bit{'s' if levels.bits > 1 else ''}"


def _title(plan: Ledger) -> str:
    said = []
    if plan.coupled is not None:
        units = f"{sum(plan.coupled.keep):,} of {sum(plan.coupled.sizes):,} channels"
        said.append(f"{units} stay, in {len(plan.coupled.sizes)} groups that share a choice")
    if plan.shared is not None:
        whose = "all" if len(plan.shared.costs) == len(plan.entries) else len(plan.shared.costs)
        said.append(
            f"one budget of {plan.shared.limit:,} for {whose} tensors; "
            "keeps are those of the weights at hand"
        )
    return f"Plan: {'; '.join(said)}" if said else "Plan"


def _remarks(plan: Ledger) -> list[str]:
    """Which runtime can use each set, and what the measurement could not see."""
    rows = [entry for entry in plan.entries.values() if not plan.follows(entry)]
    sets = dict.fromkeys(entry.set for entry in rows)
    said = [f"{set_name(which)}: {which.usable_by}." for which in sets]
    if plan.macs is None:
        said.append("MACs are not known; give example_input= to measure them.")
    return said + [f"{note}." for note in plan.notes]


def _first(plan: Ledger, reason: str) -> int:
    return next(i for i, row in enumerate(plan.skipped) if row.reason == reason)


def _add_skipped(plan: Ledger, table: Table, reason: str, rows: list[Skipped]) -> None:
    """A row each, or one row for many of the same reason."""
    if len(rows) <= _FEW or any(row.left is not None for row in rows):
        for row in rows:
            density = f"{row.nonzeros / max(1, row.numel):.4f}"
            cells = row.name, _dims(row.shape), reason, "", density
            table.add_row(*cells, _macs(row.macs), _macs(plan.macs_of(row)), style="dim")
        return
    names = f"{rows[0].name} … {rows[-1].name}"
    weights = sum(row.numel for row in rows)
    known = [row.macs for row in rows if row.macs is not None]
    macs = _macs(sum(known) if known else None)
    tensors = f"{len(rows)} tensors", reason, f"{weights:,} weights", "1.0000"
    table.add_row(names, *tensors, macs, macs, style="dim")


def _dims(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _amount(count: int | tuple[int, int]) -> str:
    return f"{count:,}" if isinstance(count, int) else f"{count[0]:,}·{count[1]:,}"


def _macs(macs: int | None) -> str:
    return "" if macs is None else f"{macs:,}"
