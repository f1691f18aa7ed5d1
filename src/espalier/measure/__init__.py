"""Measure: weights under every counting convention, multiply-accumulates, bytes. Pure functions."""

from espalier.measure._break_even import BreakEven, CompressedRows, break_even
from espalier.measure._costs import LayerCost, LayerCosts, layer_costs
from espalier.measure._counts import CONVENTIONS, Count, SparsityReport, counts, tally
from espalier.measure._kinds import LayerKind, Owner, layer_kinds, owners
from espalier.measure._layer_seconds import layer_seconds
from espalier.measure._measurement import Measurement, measure, measure_table
from espalier.measure._sizes import ModelBytes, model_bytes

__all__ = [
    "CONVENTIONS",
    "BreakEven",
    "CompressedRows",
    "Count",
    "LayerCost",
    "LayerCosts",
    "LayerKind",
    "Measurement",
    "ModelBytes",
    "Owner",
    "SparsityReport",
    "break_even",
    "counts",
    "layer_costs",
    "layer_kinds",
    "layer_seconds",
    "measure",
    "measure_table",
    "model_bytes",
    "owners",
    "tally",
]
