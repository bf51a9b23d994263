"""Random pairs: informations against formulas and histograms written out here, samples against their laws, and KSG."""

import math

import numpy as np
import pytest
from sklearn.feature_selection import mutual_info_regression

from estimators.density_ratio.copulas import in_components
from estimators.density_ratio.kraskov import kraskov
from estimators.distributions.elliptical import Gaussian
from estimators.tasks.random_pairs import MOST, STRUCTURES, correlation, random_pair

DIMS = (2, 4, 8, 16, 32)


@pytest.mark.parametrize("d", DIMS)
def test_laws_follow_from_the_seed(d):
    for seed in range(12):
        task = random_pair(d, seed)
        x, z = task.sample(seed, 40)
        assert x.shape == z.shape == (40, d // 2) and np.isfinite(x).all() and np.isfinite(z).all()
        again = random_pair(d, seed)
        assert again.name == task.name and again.mutual_information == task.mutual_information
        np.testing.assert_array_equal(x, again.sample(seed, 40)[0])
        assert 0.0 < task.mutual_information < 10.0
        large = np.concatenate(task.sample(seed, 500), axis=1)
        assert all(len(np.unique(column)) == 500 for column in large.T)  # the maps merge no values
    assert len({random_pair(d, seed).name for seed in range(12)}) > 8


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("k", [1, 2, 8])
def test_gaussian_informations_lie_in_the_stated_range(structure, k):
    """By canonical correlations of the covariance, I = −½ Σ log(1 − ρ²)."""
    for seed in range(5):
        scatter = STRUCTURES[structure](np.random.default_rng(seed), k)
        assert np.linalg.eigvalsh(scatter)[0] > 0.0 and np.allclose(np.diag(scatter), 1.0)
        roots = [np.linalg.inv(np.linalg.cholesky(scatter[side, side])) for side in (slice(k), slice(k, None))]
        rho = np.linalg.svd(roots[0] @ scatter[:k, k:] @ roots[1].T, compute_uv=False)
        exact = -0.5 * np.sum(np.log1p(-(rho**2)))
        assert exact <= MOST + 1e-9
        assert Gaussian(location=np.zeros(2 * k), scatter=scatter).mutual_information(k) == pytest.approx(
            exact, abs=1e-9
        )


def test_correlations_of_so_many_nats():
    assert -0.5 * math.log1p(-(correlation(0.7) ** 2)) == pytest.approx(0.7)


@pytest.mark.parametrize("d", [0, 3, -2])
def test_odd_dimensions_are_refused(d):
    with pytest.raises(ValueError, match="even number"):
        random_pair(d, 0)


# --- nearest neighbours ----------------------------------------------------------------------------------------------
def test_ksg_is_what_scikit_learn_computes():
    """Where x and z are one column each, which is all that package offers; it adds noise of 1e-10 against ties."""
    rng = np.random.default_rng(1)
    for n, rho in ((30, 0.9), (400, 0.6)):
        x = rng.standard_normal((n, 1))
        z = rho * x + math.sqrt(1.0 - rho**2) * rng.standard_normal((n, 1))
        (expected,) = mutual_info_regression(x, z[:, 0], n_neighbors=3, random_state=0)
        assert kraskov(x, z)[0] == pytest.approx(expected, abs=1e-6)


def test_ksg_finds_the_information_of_columns():
    """Two independent pairs of correlation 0.6: 0.446 nats, within the spread of 20 estimates."""
    rng, exact = np.random.default_rng(2), -math.log1p(-0.36)
    values = []
    for _ in range(20):
        x, noise = rng.standard_normal((2, 400, 2))
        values.append(kraskov(x, 0.6 * x + 0.8 * noise)[0])
    assert np.mean(values) == pytest.approx(exact, abs=0.06)
    assert kraskov(rng.standard_normal((3, 1)), rng.standard_normal((3, 1)))[0] >= 0.0


# --- fewer rows than columns -----------------------------------------------------------------------------------------
def test_components_of_few_rows_keep_x_apart_from_z():
    """Four rows span three directions of each side, so that X has fewer components than columns."""
    rows = np.random.default_rng(3).standard_normal((4, 16))
    for ratio in in_components(rows - rows.mean(axis=0), 8):
        assert np.isfinite(ratio(rows)).all()
