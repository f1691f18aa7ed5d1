"""Searches over budgets: the clamp, the scan and the agent, against every way of sharing out a small budget."""

import math
from itertools import product

import pytest
import torch

from espalier.errors import BudgetError, RequestError
from espalier.planning import plan
from espalier.search import AMC, Random, Sensitivity, Sought, Stepwise, Trial, Trying, searched
from espalier.search._allocating import clamped
from espalier.search._amc import fixed_features, state, taken
from espalier.search._sensitivity import equal_loss, fewest, rising
from espalier.sets import NOfM
from search.toys import SIZES, allotment, allotted, every, losses, network, worth

OPTIMUM = max(-sum(losses(keep)) for keep in every(15))


def ran(choice, seed=0, known=(), note=None, density=0.5):
    sought = Sought(choice.steps, Trying(worth=worth, seed=seed, known=known, note=note))
    return allotted(sought, density), sought.trials


# ---- the clamp --------------------------------------------------------------------------------------


def test_whatever_the_actions_the_budget_is_met_and_no_tensor_is_below_its_least():
    of = allotment()
    for actions in product((0.0, 0.3, 0.7, 1.0), repeat=3):
        keep = clamped(of, 0.0, False, lambda before, a=actions: a[len(before)])
        assert of.fits(keep)
        assert all(k >= 1 for k in keep)


def test_the_clamp_is_the_papers_each_takes_what_leaves_the_rest_its_floor():
    """15 may stay. Greedy: 8 of 8, then 12 with one left for the last is 21, so 6, and 1."""
    assert clamped(allotment(), 0.0, False, lambda before: 1.0) == [8, 6, 1]
    # A floor of 0.2 leaves the later ones 2 each (of 12 and of 10): 8, then 15 - 8 - 2, then what is left.
    assert clamped(allotment(), 0.2, False, lambda before: 1.0) == [8, 5, 2]


def test_where_the_budget_forbids_nothing_the_actions_are_the_fractions():
    of = allotment(density=1.0)
    assert clamped(of, 0.0, False, lambda before: 0.5) == [4, 6, 5]
    assert clamped(of, 0.01, True, lambda before: 0.5) == [1, 1, 1]  # 0.01^(1/2) is a tenth
    actions = [0.25, 0.5, 0.8]
    keep = clamped(of, 0.0, False, lambda before: actions[len(before)])
    assert taken(of, keep, 0.0, False) == pytest.approx([2 / 8, 6 / 12, 8 / 10])


def test_a_floor_that_costs_more_than_the_budget_is_refused():
    with pytest.raises(BudgetError, match="give a lower floor"):
        clamped(allotment(), 0.9, False, lambda before: 1.0)


def test_what_is_left_over_is_shared_in_proportion_to_the_last_unit():
    of = allotment()
    assert of.filled([2, 3, 2]) == [4, 6, 5] or sum(of.filled([2, 3, 2])) == 15
    for keep in every(15):
        filled = of.filled(keep)
        assert sum(filled) == 15
        assert all(after >= before for after, before in zip(filled, keep, strict=True))
    assert allotment(density=1.0).filled([1, 1, 1]) == list(SIZES)


# ---- the searches -----------------------------------------------------------------------------------


def test_random_search_finds_the_best_of_what_it_tried_within_the_budget():
    keep, trials = ran(Random(evaluations=400))
    assert len(trials) == 400
    assert all(sum(trial.candidate.values()) <= 15 for trial in trials)
    assert max(trial.score for trial in trials) <= OPTIMUM + 1e-12
    assert -sum(losses(keep)) >= max(trial.score for trial in trials)
    assert -sum(losses(keep)) == pytest.approx(OPTIMUM, abs=0.05)


def test_random_search_is_the_warm_up_of_amc_and_nothing_more():
    _, blind = ran(Random(evaluations=30), seed=5)
    _, first = ran(AMC(episodes=30, warmup=30, hidden=8), seed=5)
    assert blind == first
    assert ran(Random(evaluations=30), seed=6)[1] != blind


def test_the_agent_learns_the_best_shares():
    """After the warm-up its candidates are worth more than blind ones; at the end it is near the best there is."""
    keep, trials = ran(
        AMC(episodes=160, warmup=60, decay=0.93, hidden=32, actor_rate=3e-3, critic_rate=1e-2)
    )
    blind = sorted(trial.score for trial in trials[:60])
    learned = sorted(trial.score for trial in trials[-40:])
    assert learned[20] > blind[45]
    assert -sum(losses(keep)) >= OPTIMUM - 0.1


def test_the_seed_decides_every_candidate():
    small = AMC(episodes=14, warmup=6, hidden=8)
    assert ran(small, seed=1) == ran(small, seed=1)
    assert ran(small, seed=1)[1] != ran(small, seed=2)[1]


def test_the_accuracy_reward_pays_for_what_is_left_of_the_budget():
    """Where everything costs no accuracy at all, least is best by error times log of cost only if error is there."""
    choice = AMC(episodes=150, warmup=150, hidden=8, reward="accuracy")
    keep, trials = ran(choice, density=1.0)
    own = [choice.rewarded(t.score, sum(t.candidate.values())) for t in trials]
    tried = trials[max(range(150), key=own.__getitem__)]
    assert keep == tuple(tried.candidate.values())  # not filled up
    assert choice.rewarded(-0.5, math.e**2) == pytest.approx(-1.0)


def test_a_candidate_that_breaks_the_model_teaches_nothing_and_is_not_chosen():
    calls = []

    def often_nan(masks):
        calls.append(1)
        return math.nan if len(calls) % 2 else worth(masks)

    sought = Sought(AMC(episodes=12, warmup=4, hidden=8).steps, Trying(worth=often_nan))
    keep = allotted(sought)
    assert len(sought.trials) == 12
    learned = {tuple(trial.candidate.values()) for trial in sought.trials[5:]}
    assert len(learned) > 2  # an agent that had been told of NaN would ask for one and the same
    assert -sum(losses(keep)) >= max(t.score for t in sought.trials if t.score == t.score)


@pytest.mark.parametrize("choice", [
    AMC(episodes=14, warmup=5, hidden=8), Random(evaluations=14), Sensitivity(points=4),
], ids=lambda c: c.name)  # fmt: skip
def test_told_its_trials_again_a_search_ends_with_the_same_budget(choice):
    whole, trials = ran(choice)
    noted = []
    again, all_of = ran(choice, known=trials[:7], note=lambda t: noted.append(len(t)))
    assert (again, all_of) == (whole, trials)
    assert noted == list(range(8, len(trials) + 1))
    with pytest.raises(RequestError, match="another search's"):
        ran(choice, known=[Trial({"0.weight": 99}, 0.0)])


# ---- the state --------------------------------------------------------------------------------------


def test_the_state_is_the_papers():
    of = allotment()
    layers = fixed_features(of)
    assert layers.shape == (3, 7)
    assert layers[:, 0].tolist() == [0.0, 0.5, 1.0]  # t
    assert layers[:, 1].tolist() == [0.0, 1.0, 0.5]  # units: 8, 12, 10
    assert layers[:, 2].tolist() == pytest.approx([2 / 3, 0.0, 1.0])  # inputs: 4, 2, 5
    assert layers[:, 6].tolist() == [0.0, 1.0, 0.5]  # what it costs
    third = state(of, layers, [2, 6])
    assert third[7:].tolist() == pytest.approx([(6 + 6) / 30, 0.0, 0.5])  # reduced, rest, a_{t-1}
    first = state(of, layers, [])
    assert first[7:].tolist() == pytest.approx([0.0, 22 / 30, 1.0])


# ---- the scan ---------------------------------------------------------------------------------------


def test_equal_loss_is_the_smallest_that_any_tensor_must_bear():
    """With a point at every keep, the largest loss of a tensor is the least possible, by trying all keeps."""
    of = allotment()
    curves = [
        [(k, losses([k if i == t else n for i, n in enumerate(SIZES)])[t]) for k in range(n, 0, -1)]
        for t, n in enumerate(SIZES)
    ]
    keep = equal_loss(of, curves)
    assert sum(keep) == 15
    assert max(losses(keep)) == pytest.approx(min(max(losses(k)) for k in every(15)))


def test_the_scan_cuts_every_tensor_alone_at_every_point_and_looks_once_at_the_dense_one():
    _, trials = ran(Sensitivity(points=4))
    assert trials[0].candidate == {}
    assert trials[0].score == 0.0
    assert all(len(trial.candidate) == 1 for trial in trials[1:])
    of_first = [trial.candidate["0.weight"] for trial in trials if "0.weight" in trial.candidate]
    assert of_first == [round(8 * (1 / 8) ** (j / 4)) for j in (1, 2, 3, 4)]
    for trial in trials[1:]:
        ((name, k),) = trial.candidate.items()
        keep = [k if n == name else size for n, size in zip(network_names(), SIZES, strict=True)]
        assert trial.score == -sum(losses(keep))


def network_names():
    return [name for name, _ in network().named_parameters()]


def test_what_matters_more_keeps_more_and_a_coarse_scan_is_near_a_fine_one():
    keep, _ = ran(Sensitivity(points=6))
    assert sum(keep) == 15
    assert keep[2] / 10 > keep[0] / 8 > keep[1] / 12
    assert max(losses(keep)) <= 1.6 * min(max(losses(k)) for k in every(15))


def test_a_curve_is_read_between_its_points_and_never_falls():
    assert fewest([(8, 0.0), (2, 1.0)], 1.0) == 2.0
    assert fewest([(8, 0.0), (2, 1.0)], 0.5) == pytest.approx(4.0)
    assert fewest([(8, 0.0), (2, 1.0)], 0.0) == 8.0
    assert rising([(4, 0.0), (3, -0.2), (2, 0.4), (1, 0.3)]) == [
        (4, 0.0),
        (3, 0.0),
        (2, 0.4),
        (1, 0.4),
    ]


def test_of_a_budget_that_costs_nothing_the_rest_is_filled_up():
    sought = Sought(Sensitivity(points=4).steps, Trying(worth=lambda masks: -0.25))
    assert sum(allotted(sought)) == 15


# ---- where they may stand ---------------------------------------------------------------------------


def test_multiply_accumulates_are_met_too_to_within_one_unit():
    x = torch.zeros(1, 4)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    sought = Sought(Random(evaluations=20).steps, Trying(worth=lambda masks: 0.0))
    made = plan(model, macs=0.5, example_input=x, allocation=sought)
    assert made.macs_left == made.macs // 2


def test_sets_with_units_of_their_own_are_shared_out_in_units():
    sought = Sought(Random(evaluations=5).steps, Trying(worth=lambda masks: 0.0))
    model = torch.nn.Sequential(
        torch.nn.Linear(8, 4, bias=False), torch.nn.Linear(8, 2, bias=False)
    )
    made = plan(model, density=0.25, set=NOfM(2, 4), allocation=sought)
    left = sum(entry.nonzeros for entry in made.entries.values())
    assert left == 12  # of 48 weights, two to a group


@pytest.mark.parametrize(
    "wrong",
    [lambda: AMC(log=True), lambda: Random(log=True), lambda: AMC(floor=1.0), lambda: AMC(tau=0.0),
     lambda: Sensitivity(points=0), lambda: Random(evaluations=0)],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(RequestError):
        wrong()


def test_a_scan_is_a_search_by_itself():
    """Without any plan: asked and told by hand."""
    search = Stepwise(Sensitivity(points=2).steps(allotment(), 0))
    trials = searched(search, lambda candidate: -float(len(candidate)))
    assert len(trials) == 7
    assert sum(search.answer) == 15
