"""Log-ratios from smoothed histograms: of single columns, of their sum, and of the distance from a common centre."""

import numpy as np
import pytest
from scipy import stats

from estimators.density_ratio.additive import additive, radial
from estimators.density_ratio.coordinates import NormalScores


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean((found - truth) ** 2)))


def in_scores(p, q):
    """The additive log-ratio as it is used: of normal scores."""
    made = NormalScores.fit(p, q)
    fitted = additive(made(p), made(q))
    return lambda rows: fitted(made(rows))


COVARIANCE = np.array([[1.5, 0.3, 0.0], [0.3, 0.8, -0.2], [0.0, -0.2, 1.0]])
PAIRS = {
    "wider": (stats.norm(), stats.norm(0.5, 1.5)),
    "two humps": (stats.norm(), stats.uniform(-3.0, 6.0)),
    "skewed": (stats.gamma(2.0), stats.gamma(3.0)),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_additive_finds_the_log_ratio_of_a_column(pair):
    law_p, law_q = PAIRS[pair]
    rng = np.random.default_rng(7)
    p, q, rows = (law.rvs(20_000, random_state=rng)[:, None] for law in (law_p, law_q, law_p))
    rows = rows[np.abs(rows[:, 0]) < 2.8]
    truth = law_p.logpdf(rows[:, 0]) - law_q.logpdf(rows[:, 0])
    assert error(in_scores(p, q)(rows), truth) < 0.12


def test_additive_is_the_sum_over_columns():
    laws = list(PAIRS.values())
    rng = np.random.default_rng(8)
    p, q = (np.stack([pair[k].rvs(5000, random_state=rng) for pair in laws], axis=1) for k in (0, 1))
    alone = sum(in_scores(p[:, [j]], q[:, [j]])(p[:50, [j]]) for j in range(3))
    np.testing.assert_allclose(in_scores(p, q)(p[:50]), alone, atol=1e-9)


def test_additive_of_one_law_is_nearly_zero_whatever_the_numbers_of_rows():
    rng = np.random.default_rng(9)
    p, q = rng.normal(size=(20_000, 1)), rng.normal(size=(5000, 1))
    assert error(in_scores(p, q)(p), np.zeros(len(p))) < 0.12


# --- the distance from the mean ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 8])
def test_radial_finds_what_depends_on_the_distance_from_a_common_centre(d):
    rng = np.random.default_rng(5)
    p, q, rows = rng.normal(size=(8000, d)), 1.5 * rng.normal(size=(8000, d)), rng.normal(size=(2000, d))
    truth = stats.norm.logpdf(rows).sum(axis=1) - stats.norm.logpdf(rows, scale=1.5).sum(axis=1)
    assert error(radial(p, q)(rows), truth) < 0.2 < np.std(truth)


def test_radial_is_a_function_of_the_distance_alone():
    rng = np.random.default_rng(6)
    p, q = rng.normal(size=(4000, 3)), rng.multivariate_normal([0.4, -0.2, 0.0], COVARIANCE, size=4000)
    made = radial(p, q)
    pooled = np.concatenate([p, q])
    factor = np.linalg.cholesky(np.cov(pooled, rowvar=False))
    sphere = np.random.default_rng(0).normal(size=(40, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    assert np.ptp(made(pooled.mean(axis=0) + 1.7 * sphere @ factor.T)) < 1e-2
    near, far = (made(pooled.mean(axis=0) + r * sphere @ factor.T).mean() for r in (0.5, 3.0))
    assert abs(near - far) > 0.1
