"""The sentence at the head of the page names who is ahead, and nobody who only shares the first place."""

from types import SimpleNamespace as Stand

import pytest

from espalier.report._words import lead, verdict
from espalier.tasks import Goal


def group(name, accuracy):
    return Stand(
        method=name, phrase=name, label=name, runs=[1], mean=lambda of: Stand(mean=accuracy)
    )


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        ({"SLR": 0.99, "ADMM": 0.98}, "SLR has 99.00\u202f% and ADMM 98.00\u202f%."),
        (
            {"SLR": 0.99, "ADMM": 0.99, "One-shot": 0.2},
            "SLR and ADMM have 99.00\u202f%, the most, and One-shot 20.00\u202f%, the least.",
        ),
        ({"SLR": 0.99, "ADMM": 0.99}, "all have 99.00\u202f%."),
    ],
)
def test_the_lead_is_shared_by_all_who_have_it(figures, sentence):
    groups = [group(name, accuracy) for name, accuracy in figures.items()]
    assert lead(Stand(groups=groups, goal=Goal())).replace("\u00a0", "\u202f").endswith(sentence)


def test_one_seed_each_and_the_advice_are_said():
    groups = [group("SLR", 0.99), group("ADMM", 0.98)]
    assert "one seed each, so that differences may be chance." in lead(
        Stand(groups=groups, goal=Goal())
    )
    result = {"sentence": "Forced at step 60.", "certificate": {"advice": ["too few updates"]}}
    assert verdict(Stand(result=result)) == "Forced at step 60. Too few updates."
    assert verdict(Stand(result=None)) == ""
