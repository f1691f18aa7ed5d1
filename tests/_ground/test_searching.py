"""One ask-and-tell: what a search is asked, what it answers, and how it goes on after an interruption."""

import pytest

from espalier._ground.searching import Stepwise, Trial, best, bisection, searched
from espalier.errors import RequestError


def halves(low, high, until, border):
    search = Stepwise(bisection(low, high, until))
    trials = searched(search, lambda x: border - x)
    return search.answer, [trial.candidate for trial in trials]


@pytest.mark.parametrize("border", range(-1, 70))
def test_of_integers_the_largest_that_scores_is_found_as_by_trying_all(border):
    found, tried = halves(0, 65, 1, border)
    assert found == max([0, *(x for x in range(65) if border - x >= 0)])
    assert len(tried) <= 7
    assert all(isinstance(x, int) for x in tried)


def test_of_reals_the_border_is_met_to_the_width_asked_for_from_below():
    found, tried = halves(0.0, 8.0, 8.0 / 2**8, 3.3)
    assert len(tried) == 8
    assert 3.3 - 8.0 / 2**8 < found <= 3.3


def test_a_score_that_is_no_number_is_not_enough():
    search = Stepwise(bisection(0, 4, until=1))
    searched(search, lambda x: float("nan"))
    assert search.answer == 0


def test_what_was_asked_is_asked_again_until_it_is_told_and_nothing_else_is_taken():
    search = Stepwise(bisection(0, 8, until=1))
    assert (search.ask(), search.ask()) == (4, 4)
    with pytest.raises(RequestError, match="what was asked for is 4"):
        search.tell(5, 1.0)
    search.tell(4, 1.0)
    assert search.ask() == 6


@pytest.mark.parametrize("known", range(8))
def test_told_its_first_trials_again_a_search_goes_on_as_if_never_interrupted(known):
    def fresh():
        return Stepwise(bisection(0.0, 1.0, until=0.5**7))

    whole = searched(fresh(), lambda x: 0.7 - x)
    asked, noted = [], []

    def score(x):
        asked.append(x)
        return 0.7 - x

    again = searched(fresh(), score, known=whole[:known], note=lambda t: noted.append(len(t)))
    assert again == whole
    assert asked == [trial.candidate for trial in whole[known:]]
    assert noted == list(range(known + 1, 8))


def test_the_trials_of_another_search_are_refused():
    with pytest.raises(RequestError, match=r"trial 1 on record tried 0\.3"):
        searched(Stepwise(bisection(0.0, 1.0, until=0.1)), float, known=[Trial(0.3, 1.0)])


def test_the_best_is_the_first_of_the_highest_scores():
    nan = float("nan")
    assert best([Trial(1, nan), Trial(2, -5.0), Trial(3, -5.0)]).candidate == 2
    assert best([Trial(1, nan)]).candidate == 1
