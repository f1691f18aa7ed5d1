"""Searches over budgets: bits, latency."""

from espalier.search._bits import BitSearch, Trial, fc_first, search_bits
from espalier.search._latency import LatencyPlan, plan_for_latency

__all__ = ["BitSearch", "LatencyPlan", "Trial", "fc_first", "plan_for_latency", "search_bits"]
