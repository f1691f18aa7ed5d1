import pytest
import torch
from torch import nn

from espalier.errors import NonFiniteError, ShapeError
from espalier.plan import plan


def test_support_keeps_exactly_the_planned_count_and_opens_with_slack():
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    p = plan(model, keep={"0.weight": 4, "1.weight": 2})
    w = dict(model.named_parameters())
    counts = [{n: int(m.sum()) for n, m in p.support(w, slack=s).items()} for s in (0.0, 0.5, 1.0)]
    assert counts == [
        {"0.weight": 4, "1.weight": 2},
        {"0.weight": 18, "1.weight": 5},
        {"0.weight": 32, "1.weight": 8},
    ]
    assert not p.contains(w)
    assert p.contains(p.project(w))


def test_errors_carry_the_name_of_the_parameter():
    model = nn.Sequential(nn.Linear(8, 4))
    p = plan(model, density=0.5)
    with pytest.raises(NonFiniteError, match=r"^0\.weight: "):
        p.support({"0.weight": torch.full((4, 8), torch.nan)})
    with pytest.raises(ShapeError, match=r"^0\.weight: shape \(2, 8\)"):
        p.support({"0.weight": torch.zeros(2, 8)})
