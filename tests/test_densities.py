"""Fitted densities: the Gaussian's and the t's are SciPy's, a fit recovers them, and a fit can be unbiased."""

import math

import numpy as np
import pytest
from scipy import stats

from estimators.density_ratio.references import GaussianDensity, StudentDensity
from estimators.methods.gaussian import GaussianFit

MEAN = np.array([0.4, -0.2, 0.0])
COVARIANCE = np.array([[1.5, 0.3, 0.0], [0.3, 0.8, -0.2], [0.0, -0.2, 1.0]])


# --- the Gaussian -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 3])
def test_a_gaussian_density_is_the_gaussian_density(d):
    covariance = COVARIANCE[:d, :d]
    rows = np.random.default_rng(0).normal(size=(50, d)) * 3.0
    found, law = GaussianDensity.of(MEAN[:d], covariance), stats.multivariate_normal(MEAN[:d], covariance)
    np.testing.assert_allclose(found(rows), law.logpdf(rows))
    distance = [(x - MEAN[:d]) @ np.linalg.solve(covariance, x - MEAN[:d]) for x in rows]
    np.testing.assert_allclose(found.square_distance(rows), distance, rtol=1e-9)


def test_samples_are_those_of_the_density():
    density = GaussianDensity.of(MEAN, COVARIANCE)
    rows = density.sample(np.random.default_rng(1), 40_000)
    np.testing.assert_allclose(rows.mean(axis=0), MEAN, atol=4.0 * math.sqrt(1.5 / 40_000))
    np.testing.assert_allclose(np.cov(rows, rowvar=False), COVARIANCE, atol=0.05)


@pytest.mark.parametrize("d", [1, 4])
def test_a_fit_from_sums_is_that_from_the_rows_left(d):
    rows = np.random.default_rng(2).normal(size=(60, d)) + 1.0
    origin = rows.mean(axis=0)
    centred, gone = rows - origin, rows[:7] - origin
    left = GaussianFit.from_sums(53, -gone.sum(axis=0), centred.T @ centred - gone.T @ gone, origin)
    for found, expected in zip(left, GaussianFit.from_rows(rows[7:]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(left.factor @ left.factor.T, left.covariance, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("n", [7, 40])
def test_the_unbiased_log_density_and_log_determinant_are_unbiased_given_the_mean(n):
    """Averaged over 4000 sample covariances, at a fixed point far from the mean and at the mean."""
    rng = np.random.default_rng(0)
    factor = np.linalg.cholesky(COVARIANCE)
    points = np.array([[0.0, 0.0, 0.0], [2.0, -1.0, 1.0]])
    found, plain = [], []
    for _ in range(4000):
        fit = GaussianFit.from_rows(rng.normal(size=(n, 3)) @ factor.T)
        unbiased = fit.unbiased_density()
        found.append([*GaussianDensity(np.zeros(3), unbiased.whiten, unbiased.log_peak)(points), fit.log_det()])
        plain.append(GaussianDensity.of(np.zeros(3), fit.covariance)(points))
    law = stats.multivariate_normal(np.zeros(3), COVARIANCE)
    truth = [*law.logpdf(points), np.linalg.slogdet(COVARIANCE)[1]]
    assert (np.abs(np.mean(found, axis=0) - truth) < 4.0 * stats.sem(found, axis=0)).all()
    assert (np.abs(np.mean(plain, axis=0) - truth[:2]) > 10.0 * stats.sem(plain, axis=0)).any(), "no test at all"


# --- Student's t ------------------------------------------------------------------------------------------------------


def test_a_fit_finds_location_scatter_and_degrees_of_freedom():
    rng = np.random.default_rng(3)
    law = stats.multivariate_t(MEAN, COVARIANCE, df=3)
    fitted = StudentDensity.fit(law.rvs(8000, random_state=rng), iterations=30)
    rows = law.rvs(2000, random_state=rng)
    assert fitted.df in (2.5, 3.0, 4.0)
    assert np.sqrt(np.mean((fitted(rows) - law.logpdf(rows)) ** 2)) < 0.1
    gaussian = StudentDensity.fit(rng.normal(size=(4000, 3)))
    assert gaussian.df >= 25.0


@pytest.mark.parametrize("df", [1.0, 4.0])
def test_a_t_density_is_the_t_density(df):
    rows = np.random.default_rng(0).normal(size=(50, 3)) * 3.0
    expected = stats.multivariate_t(MEAN, COVARIANCE, df=df).logpdf(rows)
    np.testing.assert_allclose(StudentDensity(GaussianDensity.of(MEAN, COVARIANCE), df)(rows), expected)
