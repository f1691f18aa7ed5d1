"""Everything that can be said of a model without running it on data, in one object."""

from collections.abc import Collection
from dataclasses import dataclass

from rich.table import Table
from torch import nn

from espalier._ground.example import Example
from espalier.measure._costs import LayerCosts, layer_costs
from espalier.measure._counts import SparsityReport, counts
from espalier.measure._sizes import ModelBytes, model_bytes


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Counts, costs and bytes of one model.

    Attributes:
        counts: weights, total and nonzero, under every convention.
        sizes: bytes.
        costs: dense MACs of each weight for one sample; ``None`` without an example input.
        macs_left: MACs for one sample if every product with a zero weight were skipped.
    """

    counts: SparsityReport
    sizes: ModelBytes
    costs: LayerCosts | None = None
    macs_left: int | None = None

    @property
    def macs(self) -> int | None:
        """Dense MACs for one sample, products of two activations included."""
        return None if self.costs is None else self.costs.total


def measure(
    model: nn.Module,
    example_input: Example | None = None,
    pruned: Collection[str] | None = None,
) -> Measurement:
    """Count, weigh and cost a model.

    Args:
        model: with values, not on the meta device.
        example_input: one batch as the model takes it; without it nothing is said of MACs.
        pruned: names of the pruned parameters (:func:`espalier.measure._counts`).

    Raises:
        RequestError: a model on the meta device.
        ShapeError: the model refuses the example.
        UnknownNameError: ``pruned`` names no parameter.

    Example:
        >>> import torch
        >>> measure(nn.Linear(4, 2), torch.zeros(3, 4)).macs
        8
    """
    report = counts(model, pruned=pruned)
    costs = left = None
    if example_input is not None:
        costs = layer_costs(model, example_input)
        left = costs.after({name: report.layers[name].nonzero for name in costs})
    return Measurement(counts=report, sizes=model_bytes(model), costs=costs, macs_left=left)


def measure_table(measurement: Measurement, title: str = "Measured") -> Table:
    """A rich table of a measurement: every convention, then MACs, then bytes."""
    table = Table(title=title)
    for header in ("counted", "total", "left", "density", "compression"):
        table.add_column(header, justify="left" if header == "counted" else "right")

    def row(name: str, total: int, left: int) -> None:
        density = f"{left / total:.4f}" if total else "–"
        compression = f"{total / left:.2f}×" if left else "–"
        table.add_row(name, f"{total:,}", f"{left:,}", density, compression)

    for convention, count in measurement.counts:
        row(convention, count.total, count.nonzero)
    table.add_section()
    if measurement.macs is not None and measurement.macs_left is not None:
        row("MACs, one sample", measurement.macs, measurement.macs_left)
    row("bytes, zeros as a bitmask", measurement.sizes.dense, measurement.sizes.sparse)
    warnings = () if measurement.costs is None else measurement.costs.warnings
    if warnings:
        table.caption = "\n".join(warnings)
    return table
