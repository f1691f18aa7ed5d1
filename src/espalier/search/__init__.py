"""Searches over budgets: bits, latency."""

from espalier.search._bits import BitSearch, BitTrial, fc_first, search_bits
from espalier.search._latency import LatencyPlan, LatencyTrial, plan_for_latency

__all__ = [
    "BitSearch",
    "BitTrial",
    "LatencyPlan",
    "LatencyTrial",
    "fc_first",
    "plan_for_latency",
    "search_bits",
]
