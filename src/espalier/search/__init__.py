"""Searches by ask and tell: bits, latency, settings."""

from espalier._ground.searching import Search, Stepwise, Trial, best, bisection, searched
from espalier.search._bits import BitSearch, BitTrial, fc_first, fewest_bits, search_bits
from espalier.search._latency import LatencyPlan, LatencyTrial, plan_for_latency
from espalier.search._optuna import OneOf, Optuna, OptunaSearch, Real, Whole

__all__ = [
    "BitSearch",
    "BitTrial",
    "LatencyPlan",
    "LatencyTrial",
    "OneOf",
    "Optuna",
    "OptunaSearch",
    "Real",
    "Search",
    "Stepwise",
    "Trial",
    "Whole",
    "best",
    "bisection",
    "fc_first",
    "fewest_bits",
    "plan_for_latency",
    "search_bits",
    "searched",
]
