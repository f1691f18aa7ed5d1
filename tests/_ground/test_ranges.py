"""Ranges that a dataclass states are the ranges it keeps."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest
from annotated_types import Ge, Gt, Le, Lt

from espalier._ground.ranges import Checked
from espalier.errors import RequestError
from espalier.methods import Constrained
from espalier.metrics import Fisher
from espalier.sets import Blocks, NOfM
from espalier.solvers import ADMM, SLR, Cubic, GeometricRho, Rounds, StagedRho


@dataclass(frozen=True)
class Example(Checked):
    plain: float = 1.0
    within: Annotated[float, Gt(0), Le(1)] = 0.5
    count: Annotated[int, Ge(1)] = 1
    maybe: Annotated[float, Ge(0), Lt(1)] | None = None
    word: Annotated[int, Ge(1)] | str = "all"
    switch: bool = True
    either: bool | int = 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"plain": float("nan")}, "plain=nan; give a number"),
        ({"plain": float("inf")}, "plain=inf; give a number"),
        ({"within": float("-inf")}, "0 < within <= 1"),
        ({"plain": True}, "plain=True; give a number"),
        ({"plain": "1"}, "plain='1'; give a number"),
        ({"plain": None}, "plain=None; give a number"),
        ({"within": 0}, "within=0; give a number with 0 < within <= 1"),
        ({"within": 1.5}, "0 < within <= 1"),
        ({"count": 0}, "count=0; give an integer with count >= 1"),
        ({"count": 1.0}, "count=1.0; give an integer"),
        ({"count": True}, "count=True; give an integer"),
        ({"maybe": 1}, "maybe=1; give a number with 0 <= maybe < 1"),
        ({"maybe": float("nan")}, "maybe=nan"),
        ({"word": 0}, "word=0; give an integer with word >= 1"),
        ({"word": 1.5}, "word=1.5; give an integer"),
    ],
)
def test_what_is_out_of_range_is_refused_with_what_is_allowed(given, message):
    with pytest.raises(RequestError) as caught:
        Example(**given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"plain": -3},
        {"plain": np.float32(0.5)},
        {"within": 1},
        {"count": np.int64(3)},
        {"maybe": None},
        {"maybe": 0},
        {"word": "none"},
        {"either": True},
        {"switch": False},
    ],
)
def test_what_is_in_range_is_taken(given):
    ((name, value),) = given.items()
    assert getattr(Example(**given), name) is value


@pytest.mark.parametrize(
    ("cls", "given"),
    [
        (SLR, {"rho": float("nan")}),
        (SLR, {"step": 0.0}),
        (SLR, {"M": 1}),
        (SLR, {"r": 1.0}),
        (ADMM, {"rho": -1.0}),
        (Cubic, {"until": 0}),
        (Rounds, {"rounds": 0}),
        (GeometricRho, {"factor": 0.0}),
        (StagedRho, {"updates": 0}),
        (Fisher, {"beta": 1.0}),
        (NOfM, {"n": 0, "m": 4}),
        (Blocks, {"h": 1, "w": True}),
        (Constrained, {"cadence": True}),
        (Constrained, {"settle": 1.5}),
    ],
)
def test_a_solver_a_schedule_a_metric_a_set_and_a_method_keep_theirs(cls, given):
    with pytest.raises(RequestError, match=next(iter(given))):
        cls(**given)
