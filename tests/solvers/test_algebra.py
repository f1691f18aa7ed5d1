"""The arithmetic the solvers write their equations in."""

import pytest
import torch

from espalier.solvers._algebra import ascend, difference, norms, penalty_terms, size
from problems import random_weights


def draw(count):
    generator = torch.Generator().manual_seed(0)
    return [random_weights(generator) for _ in range(count)]


def test_the_penalty_terms_are_the_lagrangian_without_f():
    multiplier, g = draw(2)
    expected = sum(float((multiplier[n] * g[n]).sum() + 0.15 * g[n].square().sum()) for n in g)
    assert penalty_terms(multiplier, g, rho=0.3) == pytest.approx(expected, rel=1e-12)


def test_in_a_metric_both_products_are_weighted_by_it():
    multiplier, g, h = draw(3)
    h = {name: t.square() for name, t in h.items()}
    scaled = {name: h[name] * multiplier[name] for name in h}  # Λ itself; the solver keeps H⁻¹Λ
    expected = sum(float((scaled[n] * g[n] + 0.15 * h[n] * g[n].square()).sum()) for n in g)
    assert penalty_terms(multiplier, g, 0.3, h) == pytest.approx(expected, rel=1e-12)


def test_sizes_are_sums_of_norms_not_the_norm_of_the_sum():
    a = {"x": torch.tensor([3.0, 4.0]), "y": torch.tensor([[5.0], [12.0]])}
    assert norms(a) == {"x": 5.0, "y": 13.0}
    assert size(a) == 18.0
    assert norms({}) == {}


def test_differences_and_steps_leave_their_arguments_alone():
    a, b = draw(2)
    before = {name: t.clone() for name, t in a.items()}
    torch.testing.assert_close(ascend(difference(a, b), 1.0, b), a)
    assert all(torch.equal(a[name], before[name]) for name in a)
