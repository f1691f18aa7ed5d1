from itertools import combinations

import numpy as np
import pytest
import torch

from espalier.errors import BudgetError, ShapeError
from espalier.sets import Columns, Filters, FiltersAndColumns
from espalier.sets import _filters_and_columns as filters_and_columns


@pytest.fixture
def never_enumerate(monkeypatch):
    monkeypatch.setattr(filters_and_columns, "ENUMERATED", 0)


def best(e, k, c):
    e = e.numpy()
    return max(
        e[np.ix_(rows, columns)].sum()
        for rows in combinations(range(e.shape[0]), k)
        for columns in combinations(range(e.shape[1]), c)
    )


def ratios(count=25, shape=(6, 7)):
    """What the projection retains of the best submatrix's energy, over random problems."""
    for seed in range(count):
        w = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        e = w.square()
        for keep in ((2, 2), (3, 3), (4, 2), (2, 5)):
            mask = FiltersAndColumns().support(w, keep)
            assert int(mask.sum()) == keep[0] * keep[1]
            yield float(e[mask].sum()) / best(e, *keep)


def test_enumeration_is_exact():
    assert min(ratios(count=10)) > 1 - 1e-12


@pytest.mark.usefixtures("never_enumerate")
def test_alternation_is_a_local_optimum_with_the_gap_we_state():
    found = list(ratios())
    assert max(found) < 1 + 1e-12
    assert sum(found) / len(found) > 0.99
    assert min(found) > 0.9


@pytest.mark.usefixtures("never_enumerate")
def test_alternation_leaves_no_side_to_improve():
    for seed in range(20):
        w = torch.randn(9, 11, generator=torch.Generator().manual_seed(seed))
        mask = FiltersAndColumns().support(w, (4, 5))
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(Filters().support(w * columns, 4).any(1), rows)
        assert torch.equal(Columns().support(w * rows[:, None], 5).any(0), columns)
        z = FiltersAndColumns().project(w, (4, 5))
        assert torch.equal(FiltersAndColumns().project(z, (4, 5)), z)


@pytest.mark.usefixtures("never_enumerate")
def test_alternation_ends_on_ties():
    assert FiltersAndColumns().support(torch.ones(5, 5), (2, 3)).sum() == 6


def test_large_matrices_take_the_alternation():
    w = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    z = FiltersAndColumns().project(w, (20, 20))
    assert FiltersAndColumns().contains(z, (20, 20))
    assert z.count_nonzero() == 400


@pytest.mark.parametrize(
    ("w", "keep", "z"),
    [
        ([[9, 0], [5, 6]], (1, 1), [[9, 0], [0, 0]]),
        ([[9, 0], [5, 6]], (1, 2), [[9, 0], [0, 0]]),
        ([[9, 0], [5, 6]], (2, 1), [[9, 0], [5, 0]]),
        ([[9, 0], [5, 6]], (2, 2), [[9, 0], [5, 6]]),
        ([[9, 0], [5, 6]], (0, 2), [[0, 0], [0, 0]]),
        ([[1, 1], [1, 1]], (1, 1), [[1, 0], [0, 0]]),
        ([[7]], (1, 1), [[7]]),
        ([[], []], (2, 0), [[], []]),
    ],
)
def test_literal_tables(w, keep, z):
    w = torch.tensor(w, dtype=torch.float32)
    assert FiltersAndColumns().project(w, keep).tolist() == z


def test_one_whole_side_is_the_set_of_the_other():
    w = torch.randn(5, 4, 2, generator=torch.Generator().manual_seed(0))
    both = FiltersAndColumns()
    assert torch.equal(both.support(w, (3, 8)), Filters().support(w, 3))
    assert torch.equal(both.support(w, (5, 3)), Columns().support(w, 3))


def test_contains_counts_both_sides():
    w = torch.eye(3)
    assert FiltersAndColumns().contains(w, (3, 3))
    assert not FiltersAndColumns().contains(w, (2, 3))
    assert not FiltersAndColumns().contains(w, (3, 2))


def test_keep_for_shares_the_density_between_the_sides():
    assert FiltersAndColumns().keep_for((10, 10, 2), 0.25) == (5, 10)
    assert FiltersAndColumns().keep_for((10, 10, 2), 1.0) == (10, 20)
    assert FiltersAndColumns().keep_for((10, 10, 2), 0.0) == (1, 1)


def test_a_keep_that_is_no_pair_in_range_is_refused():
    with pytest.raises(BudgetError, match=r"keep=3 but there are 4 filters and 6 columns"):
        FiltersAndColumns().project(torch.ones(4, 6), 3)


def test_a_grouped_convolution_is_refused():
    with pytest.raises(ShapeError, match="columns of a convolution in 2 groups"):
        FiltersAndColumns().check((4, 2, 3, 3), groups=2)


def test_the_last_of_many_choices_is_found():
    w = torch.full((12, 12), 0.1)
    w[8:, 8:] = 1  # 495 choices of four rows: more than are tried at once
    assert FiltersAndColumns().support(w, (4, 4)).nonzero().min() == 8
