"""Searches by ask and tell: budgets, bits, latency, settings."""

from espalier._ground.searching import Search, Stepwise, Trial, best, bisection, searched
from espalier.search._allocating import Allocating, Keeps, Searching, Sought, Steps, Trying
from espalier.search._amc import AMC, Random
from espalier.search._bits import BitSearch, BitTrial, fc_first, fewest_bits, search_bits
from espalier.search._latency import LatencyPlan, LatencyTrial, plan_for_latency
from espalier.search._optuna import OneOf, Optuna, OptunaSearch, Real, Whole
from espalier.search._sensitivity import Sensitivity
from espalier.search._shadow import ShadowPrices

__all__ = [
    "AMC",
    "Allocating",
    "BitSearch",
    "BitTrial",
    "Keeps",
    "LatencyPlan",
    "LatencyTrial",
    "OneOf",
    "Optuna",
    "OptunaSearch",
    "Random",
    "Real",
    "Search",
    "Searching",
    "Sensitivity",
    "ShadowPrices",
    "Sought",
    "Steps",
    "Stepwise",
    "Trial",
    "Trying",
    "Whole",
    "best",
    "bisection",
    "fc_first",
    "fewest_bits",
    "plan_for_latency",
    "search_bits",
    "searched",
]
