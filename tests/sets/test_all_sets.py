"""What holds for every registered set: brute force, and properties."""

from itertools import chain, combinations, product

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from espalier.errors import BudgetError, NonFiniteError, RequestError, ShapeError
from espalier.sets import (
    NAMES,
    Blocks,
    Channels,
    Columns,
    Filters,
    FiltersAndColumns,
    KernelPatterns,
    Kernels,
    NOfM,
    Unstructured,
    parse,
)
from espalier.sets._energy import energy

# name -> (set, a shape with few units for brute force, a shape for properties)
CASES = {
    "unstructured": (Unstructured(), (2, 3, 2), (6, 4, 3, 3)),
    "filters": (Filters(), (6, 2, 2), (8, 3, 3, 3)),
    "channels": (Channels(), (3, 6, 2), (4, 8, 3)),
    "columns": (Columns(), (3, 3, 2), (4, 5, 2, 2)),
    "filters_and_columns": (FiltersAndColumns(), (4, 2, 3), (12, 5, 2)),
    "kernels": (Kernels(), (3, 2, 2), (4, 6, 2, 3, 2)),
    "kernel_patterns": (KernelPatterns(), (3, 1, 3, 3), (4, 5, 3, 3)),
    "n_of_m": (NOfM(2, 4), (2, 4, 2), (4, 8, 3)),
    "blocks": (Blocks(2, 3), (4, 3, 3), (6, 4, 3)),
}
EVERY = pytest.mark.parametrize("name", CASES)
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# Positions a pattern sets to zero, as in the SLR authors' code; typed again, not imported.
ZEROS = "0268 0178 0167 0134 2356 0358 1267 1278 3568 0235 4578 3467 1245".split()


def test_every_registered_set_has_a_case():
    assert {name: type(case[0]) for name, case in CASES.items()} == NAMES


# --- brute force -----------------------------------------------------------------------------------


def unit_supports(name, shape):
    """For every unit, the supports it may have (flat indices), written down without the sets."""
    at = np.arange(np.prod(shape)).reshape(shape)
    matrix = at.reshape(shape[0], -1)
    match name:
        case "unstructured":
            return [[[i]] for i in at.ravel()]
        case "filters":
            return [[row.ravel()] for row in at]
        case "channels":
            return [[at[:, i].ravel()] for i in range(shape[1])]
        case "columns":
            return [[matrix[:, j]] for j in range(matrix.shape[1])]
        case "kernels":
            return [[at[o, i].ravel()] for o in range(shape[0]) for i in range(shape[1])]
        case "kernel_patterns":
            kernels = [at[o, i].ravel() for o in range(shape[0]) for i in range(shape[1])]
            return [[[k[a] for a in range(9) if str(a) not in z] for z in ZEROS] for k in kernels]
        case "n_of_m":
            groups = [at[o, i : i + 4, a] for o, i, a in product(
                range(shape[0]), range(0, shape[1], 4), range(shape[2]))]  # fmt: skip
            return [list(combinations(group, 2)) for group in groups]
        case "blocks":
            return [[matrix[r : r + 2, c : c + 3].ravel()] for r, c in product(
                range(0, matrix.shape[0], 2), range(0, matrix.shape[1], 3))]  # fmt: skip


def supports(name, shape, keep):
    """Every largest support of the set."""
    if name == "filters_and_columns":
        matrix = np.arange(np.prod(shape)).reshape(shape[0], -1)
        rows, columns = (combinations(range(n), k) for n, k in zip(matrix.shape, keep, strict=True))
        yield from (matrix[np.ix_(r, c)].ravel() for r, c in product(list(rows), list(columns)))
        return
    for units in combinations(unit_supports(name, shape), keep):
        yield from (list(chain.from_iterable(choice)) for choice in product(*units))


def is_nearest(name, w, keep, metric, mask):
    """Whether w on the mask is in the set and no point of the set is nearer to w."""
    e = (w.double() ** 2 * (1 if metric is None else metric.double())).flatten().numpy()
    flat = mask.flatten().numpy()
    feasible, best = False, -1.0
    for support in supports(name, w.shape, keep):
        indices = np.asarray(support, dtype=int)
        best = max(best, e[indices].sum())
        feasible = feasible or flat[indices].sum() == flat.sum()
    # The tolerance is that of float32 sums of a few squares.
    return feasible and e[flat].sum() >= best * (1 - 1e-6)


def keeps(name, shape):
    units = CASES[name][0].units(shape)
    if isinstance(units, int):
        return sorted({0, 1, units // 2, units - 1, units})
    return [(0, 2), (1, 1), (2, 3), (3, 2), units]


def problem(name, seed, *, ties):
    shape = CASES[name][1]
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(shape, generator=generator)
    h = torch.rand(shape, generator=generator) ** 3
    return (w.mul(2).round(), h.mul(3).round()) if ties else (w, h)


@EVERY
@pytest.mark.parametrize("ties", [False, True])
def test_projection_is_the_nearest_point(name, ties):
    chosen, shape, _ = CASES[name]
    for seed in range(4):
        w, h = problem(name, seed, ties=ties)
        for keep in keeps(name, shape):
            for metric in (None, h):
                assert is_nearest(name, w, keep, metric, chosen.support(w, keep, metric))


def top(scores, keep):
    return torch.zeros(len(scores)).index_fill(0, scores.topk(keep).indices, 1).bool()


def smallest(name, w, keep, h):
    chosen = CASES[name][0]
    if isinstance(keep, tuple):
        return chosen.support(1 / w, keep)
    return chosen.support(w, chosen.units(w.shape)) & chosen.support(1 / w, keep)


def without_metric(name, w, keep, h):
    return CASES[name][0].support(w, keep)


def one_more(name, w, keep, h):
    more = keep + 1 if isinstance(keep, int) else (keep[0] + 1, keep[1])
    return CASES[name][0].support(w, more, h)


def one_less(name, w, keep, h):
    less = keep - 1 if isinstance(keep, int) else (keep[0] - 1, keep[1])
    return CASES[name][0].support(w, less, h)


@EVERY
@pytest.mark.parametrize("wrong", [smallest, without_metric, one_more, one_less])
def test_oracle_rejects_the_wrong_units(name, wrong):
    w, h = problem(name, 1, ties=False)
    keep = keeps(name, w.shape)[2]
    assert is_nearest(name, w, keep, h, CASES[name][0].support(w, keep, h))
    verdicts = []
    for seed in range(6):
        w, h = problem(name, seed, ties=False)
        verdicts.append(is_nearest(name, w, keep, h, wrong(name, w, keep, h)))
    assert not all(verdicts)


def test_oracle_rejects_filters_ranked_by_their_sum():
    w = torch.tensor([[[2.0, 2.0], [2.0, 2.0]], [[5.0, 0.0], [0.0, 0.0]]])
    l1, l2 = w.abs().sum((1, 2)), w.square().sum((1, 2))
    assert not is_nearest("filters", w, 1, None, top(l1, 1)[:, None, None].expand(w.shape))
    assert is_nearest("filters", w, 1, None, top(l2, 1)[:, None, None].expand(w.shape))


def test_oracle_rejects_groups_ranked_before_their_weights():
    # All four of the first group outweigh the second, but what two of them retain does not.
    w = torch.tensor([[3.0, 3.0, 3.0, 3.0], [4.0, 4.0, 0.0, 0.0]]).reshape(2, 4, 1)
    wrong = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]]).bool().reshape(2, 4, 1)
    assert not is_nearest("n_of_m", w, 1, None, wrong)
    assert is_nearest("n_of_m", w, 1, None, NOfM(2, 4).support(w, 1))


def test_oracle_rejects_one_pattern_for_all_kernels():
    w, _ = problem("kernel_patterns", 0, ties=False)
    wrong = torch.tensor([str(a) not in ZEROS[0] for a in range(9)]).reshape(3, 3).expand(w.shape)
    assert not is_nearest("kernel_patterns", w, 3, None, wrong)


def test_oracle_rejects_filters_first_and_columns_afterwards():
    w = torch.tensor([[5.0, 5.0, 5.0], [8.0, 0.0, 0.0]]).reshape(2, 1, 3)
    wrong = torch.tensor([[1, 0, 0], [0, 0, 0]]).bool().reshape(w.shape)
    assert not is_nearest("filters_and_columns", w, (1, 1), None, wrong)
    assert is_nearest(
        "filters_and_columns", w, (1, 1), None, FiltersAndColumns().support(w, (1, 1))
    )


# --- properties ------------------------------------------------------------------------------------

properties = settings(max_examples=15, deadline=None, database=None)


@st.composite
def problems(draw, dtypes=DTYPES, ties=False):
    """A case's name, weights without zeros, and a keep."""
    name = draw(st.sampled_from(sorted(CASES)))
    chosen, _, shape = CASES[name]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    w = torch.randn(shape, generator=generator, dtype=torch.float64)
    w = torch.where(w == 0, 1, w)
    if ties and draw(st.booleans()):
        w = w.sign() * w.abs().mul(2).ceil()
    units = chosen.units(shape)
    bounds = (units,) if isinstance(units, int) else units
    keep = tuple(draw(st.integers(0, n)) for n in bounds)
    dtype = draw(st.sampled_from(dtypes))
    return chosen, w.to(dtype), keep[0] if isinstance(units, int) else keep


@given(problems(ties=True))
@properties
def test_exactly_the_counted_weights_stay(case):
    chosen, w, keep = case
    mask = chosen.support(w, keep)
    assert mask.dtype == torch.bool
    assert mask.shape == w.shape
    assert int(mask.sum()) == chosen.nonzeros(w.shape, keep)
    z = chosen.project(w, keep)
    assert torch.equal(z, w * mask)
    assert chosen.contains(z, keep)


@given(problems(ties=True))
@properties
def test_contains_refuses_one_unit_too_many(case):
    chosen, w, keep = case
    least = keep if isinstance(keep, int) else min(keep)
    if least == 0:
        return
    z = chosen.project(w, keep)
    fewer = (
        [keep - 1] if isinstance(keep, int) else [(keep[0] - 1, keep[1]), (keep[0], keep[1] - 1)]
    )
    assert not any(chosen.contains(z, k) for k in fewer)


@given(problems(ties=True))
@properties
def test_projection_is_idempotent(case):
    chosen, w, keep = case
    z = chosen.project(w, keep)
    assert torch.equal(chosen.project(z, keep), z)


@given(problems(ties=True), st.integers(0, 2**32))
@properties
def test_signs_do_not_matter(case, seed):
    chosen, w, keep = case
    signs = torch.randn(w.shape, generator=torch.Generator().manual_seed(seed)).sign().to(w.dtype)
    assert torch.equal(chosen.support(w * signs, keep), chosen.support(w, keep))


@given(problems(dtypes=(torch.float32,)), st.sampled_from((-100, 100)))
@properties
def test_scale_does_not_matter_even_where_squares_would_under_or_overflow(case, exponent):
    chosen, w, keep = case
    h = torch.linspace(0.5, 2, w.numel()).reshape(w.shape)
    assert torch.equal(chosen.support(w * 2.0**exponent, keep), chosen.support(w, keep))
    assert torch.equal(
        chosen.support(w * 2.0**exponent, keep, h * 2.0**-exponent), chosen.support(w, keep, h)
    )


@given(problems(dtypes=(torch.float64,)))
@properties
def test_moving_filters_moves_the_support(case):
    chosen, w, keep = case
    by = chosen.h if isinstance(chosen, Blocks) else 1
    moved = chosen.support(w.roll(by, 0), keep)
    assert torch.equal(moved, chosen.support(w, keep).roll(by, 0))


@given(problems())
@properties
def test_a_constant_metric_is_none(case):
    chosen, w, keep = case
    assert torch.equal(chosen.support(w, keep, torch.full_like(w, 4)), chosen.support(w, keep))


@given(problems())
@properties
def test_projection_is_a_new_tensor_and_leaves_its_input(case):
    chosen, w, keep = case
    parameter = torch.nn.Parameter(w)
    before = w.clone()
    z = chosen.project(parameter, keep)
    assert type(z) is torch.Tensor
    assert (z.dtype, z.device, z.shape) == (w.dtype, w.device, w.shape)
    assert not z.requires_grad
    assert z.untyped_storage().data_ptr() != w.untyped_storage().data_ptr()
    z.zero_()
    assert torch.equal(w, before)


@given(problems())
@properties
def test_strides_do_not_matter(case):
    chosen, w, keep = case
    axes = range(w.dim())
    strided = w.permute(*reversed(axes)).contiguous().permute(*reversed(axes))
    assert not strided.is_contiguous()
    assert torch.equal(chosen.project(strided, keep), chosen.project(w, keep))


@given(problems())
@properties
def test_the_support_can_be_written_to(case):
    chosen, w, keep = case
    mask = chosen.support(w, keep)
    mask.view(-1)[0] ^= True
    assert int((mask != chosen.support(w, keep)).sum()) == 1


@EVERY
@given(density=st.floats(0, 1))
@properties
def test_keep_for_comes_nearest_to_the_density(name, density):
    chosen, _, shape = CASES[name]
    numel = int(np.prod(shape))
    keep = chosen.keep_for(shape, density)
    if isinstance(keep, tuple):  # balanced sides first; then no other count of columns is nearer
        options = [(keep[0], c) for c in range(1, chosen.units(shape)[1] + 1)]
    else:
        options = range(1, chosen.units(shape) + 1)
    errors = [abs(chosen.nonzeros(shape, k) - density * numel) for k in options]
    assert abs(chosen.nonzeros(shape, keep) - density * numel) <= min(errors) + 1e-9


# --- refusals --------------------------------------------------------------------------------------


@EVERY
def test_spec_is_read_back(name):
    assert parse(CASES[name][0].spec()) == CASES[name][0]


@EVERY
@pytest.mark.parametrize("bad", [-1, 10**6, 0.5, None, True, (1, 2, 3), (-1, 1)])
def test_keep_out_of_range_is_refused_with_the_range(name, bad):
    chosen, shape, _ = CASES[name]
    for use in (chosen.support, chosen.contains):
        with pytest.raises(BudgetError, match=r"keep=.* but there are .*; give .* <= keep <= "):
            use(torch.ones(shape), bad)


def test_the_refusal_names_the_unit():
    with pytest.raises(BudgetError) as caught:
        Filters().project(torch.ones(64, 3), 70)
    assert str(caught.value) == "keep=70 but there are 64 filters; give 0 <= keep <= 64"


@EVERY
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_non_finite_weights_are_refused(name, bad):
    chosen, shape, _ = CASES[name]
    w = torch.ones(shape)
    w.view(-1)[1] = bad
    with pytest.raises(NonFiniteError, match="weights"):
        chosen.project(w, chosen.units(shape))
    with pytest.raises(NonFiniteError, match="metric"):
        chosen.project(torch.ones(shape), chosen.units(shape), w)


@EVERY
def test_a_metric_is_checked(name):
    chosen, shape, _ = CASES[name]
    w = torch.ones(shape)
    with pytest.raises(RequestError, match="-1"):
        chosen.project(w, chosen.units(shape), -w)
    with pytest.raises(ShapeError, match="metric"):
        chosen.project(w, chosen.units(shape), torch.ones(1))


@EVERY
@pytest.mark.parametrize("density", [-0.1, 1.1, float("nan")])
def test_density_is_a_fraction(name, density):
    with pytest.raises(BudgetError, match="fraction"):
        CASES[name][0].keep_for(CASES[name][1], density)


@EVERY
def test_a_vector_fits_only_unstructured(name):
    if name == "unstructured":
        assert CASES[name][0].check((7,)) is None
        return
    with pytest.raises(ShapeError):
        CASES[name][0].check((7,))


@EVERY
def test_cuda_agrees_with_the_cpu(name, cuda):
    chosen, _, shape = CASES[name]
    w = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    keep = chosen.keep_for(shape, 0.3)
    z = chosen.project(w.to(cuda), keep)
    assert z.is_cuda
    assert torch.equal(z.cpu(), chosen.project(w, keep))


def test_energy_holds_the_extremes_of_every_dtype():
    for dtype in DTYPES:
        for extreme in (torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal):
            w = torch.tensor([extreme, extreme / 2], dtype=dtype)
            e, _ = energy(w, torch.tensor([1.0, 4.0]))
            assert e.isfinite().all()
            assert e[0] == e[1] > 0
            assert Unstructured().project(w, 1).tolist() == [w[0].item(), 0]
