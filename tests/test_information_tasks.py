"""Tasks of mutual information beyond the forty: truths by an independent oracle, margins, rotations."""

import math

import numpy as np
import pytest
from scipy import stats

from estimators.distributions.pairs import GammaExponential, Pairs
from estimators.distributions.product import AdditiveNoise
from estimators.tasks.information_tasks import GROUPS, INFORMATION_TASKS
from estimators.tasks.products_of_pairs import CONVERGENCE, PRODUCTS_OF_PAIRS, correlation, noise, rotation

NEW = [name for name in INFORMATION_TASKS if name not in GROUPS["mutual-information"]]


@pytest.mark.parametrize("name", NEW)
def test_new_tasks_draw_pairs(name):
    task = INFORMATION_TASKS[name]
    x, z = task.sample(0, 60)
    assert task.name == name and x.shape == (60, task.dim_x) and z.shape == (60, task.dim_y)
    assert x.dtype == z.dtype == np.float64 and np.isfinite(x).all() and np.isfinite(z).all()
    np.testing.assert_array_equal(x, task.sample(0, 60)[0])
    assert np.all(x != task.sample(1, 60)[0])


# --- products --------------------------------------------------------------------------------------------------------
def test_products_have_the_published_totals():
    totals = {"uniform-noise-4-0.25": 3.77, "uniform-noise-8-0.1": 13.68, "gamma-exponential-8-0.5": 5.84}
    for name, total in totals.items():
        assert PRODUCTS_OF_PAIRS[name].truth.value == pytest.approx(total, abs=0.006)
        assert PRODUCTS_OF_PAIRS[f"rotated-{name}"].truth == PRODUCTS_OF_PAIRS[name].truth


@pytest.mark.parametrize("shape", [0.5, 1.0, 3.0])
def test_gamma_exponential(shape):
    """Its information is the mean of log p(x, z)/p(x)p(z), within four standard errors; its margins are known."""
    law = GammaExponential(shape=shape)
    points = law.sample(np.random.default_rng(0), 50_000)
    lomax = stats.lomax(shape)
    ratios = law.log_prob(points) - stats.gamma.logpdf(points[:, 0], shape) - lomax.logpdf(points[:, 1])
    assert abs(ratios.mean() - law.mutual_information()) < 4.0 * stats.sem(ratios)
    assert stats.kstest(points[:4000, 0], stats.gamma(shape).cdf).pvalue > 1e-3
    assert stats.kstest(points[:4000, 1], lomax.cdf).pvalue > 1e-3


def test_a_product_adds_the_densities_of_its_pairs():
    law = GammaExponential(shape=2.0)
    pairs = Pairs(law=law, copies=3)
    points = pairs.sample(np.random.default_rng(0), 5)
    each = [law.log_prob(points[:, [j, 3 + j]]) for j in range(3)]
    np.testing.assert_allclose(pairs.log_prob(points), np.sum(each, axis=0))


def test_rotations_keep_norms_and_differ_on_either_side():
    d = 4
    x = np.random.default_rng(0).standard_normal((100, d))
    first, second = rotation(d, 0)(x), rotation(d, 1)(x)
    np.testing.assert_allclose(first @ first.T, x @ x.T, atol=1e-12)
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(first, rotation(d, 0)(x))


# --- convergence -----------------------------------------------------------------------------------------------------
def test_the_grid_shares_two_nats_a_pair():
    assert all(task.truth.value == pytest.approx(2.0 * task.dim_x) for task in CONVERGENCE.values())
    assert -0.5 * math.log1p(-(correlation(2.0) ** 2)) == pytest.approx(2.0)
    assert AdditiveNoise(epsilon=noise(2.0)).mutual_information() == pytest.approx(2.0)


def test_margins_of_the_grid():
    n = 4000
    cdfs = {
        "correlated-normal-4": stats.norm.cdf,
        "correlated-uniform-4": stats.uniform.cdf,
        "correlated-half-cube-4": lambda t: stats.norm.cdf(np.cbrt(t) * np.abs(np.cbrt(t))),
    }
    for name, cdf in cdfs.items():
        x, z = CONVERGENCE[name].sample(0, n)
        assert stats.kstest(x[:, 0], cdf).pvalue > 1e-3 and stats.kstest(z[:, 3], cdf).pvalue > 1e-3
        assert stats.spearmanr(x[:, 1], z[:, 1]).statistic > 0.9 > abs(stats.spearmanr(x[:, 1], z[:, 2]).statistic)
    x, z = CONVERGENCE["smoothed-uniform-4"].sample(0, n)
    assert stats.kstest(x[:, 0], stats.uniform.cdf).pvalue > 1e-3 and np.abs(z - x).max() <= noise(2.0)
