"""Settings through Optuna: the same candidates however the search was interrupted, in their ranges."""

import subprocess
import sys

import pytest

from espalier.errors import RequestError
from espalier.search import OneOf, Optuna, Real, Trial, Whole, best, searched
from espalier.search import _optuna as module

pytest.importorskip("optuna")

SPACE = {
    "solver.rho": Real(low=1e-3, high=10.0, log=True),
    "solver.cadence": Whole(low=1, high=40),
    "solver.metric": OneOf(("identity", "adam")),
}


def choice(storage=None, **given):
    return Optuna(**{"space": SPACE, "trials": 14, "seed": 3, "storage": storage, **given})


def worth(settings):
    away = abs(settings["solver.cadence"] - 20) + 10 * (settings["solver.metric"] != "adam")
    return -away - settings["solver.rho"]


def test_every_candidate_is_in_its_range_and_there_are_as_many_as_asked_for():
    trials = searched(choice().begin(), worth)
    assert len(trials) == 14
    for trial in trials:
        assert set(trial.candidate) == set(SPACE)
        assert 1e-3 <= trial.candidate["solver.rho"] <= 10
        assert trial.candidate["solver.cadence"] in range(1, 41)
        assert trial.candidate["solver.metric"] in ("identity", "adam")


def test_it_looks_where_the_scores_are_high():
    """Of 40 trials the last twenty are worth more than the first ten, which are drawn blindly."""
    trials = searched(choice(trials=40).begin(), worth)
    scores = sorted(trial.score for trial in trials[20:])
    assert scores[10] > sorted(trial.score for trial in trials[:10])[5]
    assert best(trials).score > -4


def test_the_seed_decides():
    first, again = searched(choice().begin(), worth), searched(choice().begin(), worth)
    other = searched(choice(seed=4).begin(), worth)
    assert first == again
    assert first[0] != other[0]


@pytest.mark.parametrize("after", [0, 1, 11, 12])
def test_a_search_that_goes_on_from_its_storage_asks_what_it_would_have_asked(tmp_path, after):
    whole = searched(choice().begin(), worth)
    stopped = choice(tmp_path / "trials.log").begin()
    for _ in range(after):
        settings = stopped.ask()
        stopped.tell(settings, worth(settings))
    asked = stopped.ask()  # and killed before it is told
    went_on = choice(tmp_path / "trials.log").begin()
    assert went_on.ask() == asked == whole[after].candidate
    assert searched(went_on, worth) == whole[after:]
    assert choice(tmp_path / "trials.log").begin().ask() is None


def test_told_its_trials_again_it_goes_on_without_a_storage_too():
    whole = searched(choice().begin(), worth)
    assert searched(choice().begin(), worth, known=whole[:12]) == whole


def test_a_failed_trial_counts():
    trials = searched(choice(trials=3).begin(), lambda _: float("nan"))
    assert len(trials) == 3


def test_another_searchs_storage_is_refused(tmp_path):
    choice(tmp_path / "trials.log").begin()
    with pytest.raises(RequestError, match="another seed or space"):
        choice(tmp_path / "trials.log", seed=9).begin()
    with pytest.raises(RequestError, match="another search's"):
        searched(choice().begin(), worth, known=[Trial({"solver.rho": 1.0}, 0.0)])


def test_only_what_was_asked_for_can_be_told():
    search = choice().begin()
    with pytest.raises(RequestError, match="asked for is None"):
        search.tell({}, 1.0)
    search.ask()
    with pytest.raises(RequestError, match="was asked for"):
        search.tell({"solver.rho": 1.0}, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: choice(trials=0),
        lambda: choice(space={}),
        lambda: choice(space={"lr": (0, 1)}),
        lambda: Real(low=0.0, high=1.0, log=True),
        lambda: Whole(low=3, high=2),
        lambda: OneOf(()),
        lambda: OneOf(([1],)),
    ],
)
def test_what_cannot_be_searched_is_refused(wrong):
    with pytest.raises(RequestError):
        wrong()


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"pip install 'espalier\[sweep\]'"):
        choice().begin()


def test_optuna_is_not_imported_before_it_is_needed():
    code = "import sys, espalier.search; assert 'optuna' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
