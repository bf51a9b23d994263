"""The entropy of distributions that have no closed form, against sums and limits."""

import numpy as np
import pytest
from scipy import stats

from estimators import distributions as dist
from estimators.exact_values.entropies import entropy


def test_it_is_the_closed_form_where_there_is_one():
    assert entropy(dist.Gamma(2.5, 3.0)) == pytest.approx(stats.gamma(2.5, scale=1 / 3).entropy(), rel=1e-12)


def test_mixtures_far_apart_have_the_entropy_of_their_choice_more():
    far = dist.Mixture([0.25, 0.75], [dist.Normal(1e4, 1e-2), dist.Normal(1e4 + 5.0, 1e-2)])
    choice = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)
    assert entropy(far) == pytest.approx(stats.norm(0, 1e-2).entropy() + choice, rel=1e-8)


def test_densities_without_moments_or_of_another_library():
    same = dist.Mixture([0.5, 0.5], [dist.Cauchy(1.0, 2.0), dist.Cauchy(1.0, 2.0)])
    assert entropy(same) == pytest.approx(np.log(8.0 * np.pi), rel=1e-8)
    assert entropy(stats.gamma(2.0, loc=3.0)) == pytest.approx(stats.gamma(2.0).entropy(), rel=1e-8)
    moved = dist.Transformed(dist.Normal(0.3, 0.5), dist.EXP)
    assert entropy(moved) == pytest.approx(float(dist.LogNormal(0.3, 0.5).entropy()), rel=1e-6)


def test_counts_are_summed():
    mixed = dist.Mixture([0.5, 0.5], [dist.Poisson(3.0), dist.Geometric(0.01)])
    p = 0.5 * stats.poisson(3).pmf(np.arange(8000)) + 0.5 * stats.geom(0.01, loc=-1).pmf(np.arange(8000))
    assert entropy(mixed) == pytest.approx(-np.sum(p[p > 0] * np.log(p[p > 0])), rel=1e-9)


def test_what_cannot_be_answered_is_refused():
    with pytest.raises(ValueError, match="batch of shape"):
        entropy(dist.Normal(np.zeros(3), 1.0))
    two = dist.Mixture([0.5, 0.5], [dist.MultivariateNormal(np.zeros(2), np.eye(2))] * 2)
    with pytest.raises(ValueError, match="no closed form here"):
        entropy(two)
