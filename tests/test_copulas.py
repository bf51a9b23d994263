"""References for two variables: each recovers the dependence that it models, and finds none where there is none."""

import numpy as np
import pytest
from scipy import stats

from estimators.density_ratio.coordinates import NormalScores
from estimators.density_ratio.copulas import canonical, degrees_of_freedom, of_pairs, student_copula


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean((found - truth) ** 2)))


def test_canonical_is_the_gaussian_dependence_and_its_rank_the_leading_pairs():
    rho = np.array([0.8, 0.3])
    rng = np.random.default_rng(10)
    x, noise = rng.normal(size=(2, 20_000, 2))
    z = rho * x + np.sqrt(1.0 - rho**2) * noise
    mix_x, mix_z = rng.normal(size=(2, 2, 2))
    joint = np.concatenate([x @ mix_x, z @ mix_z], axis=1)
    each = (rho * x * z - 0.5 * rho**2 * (x**2 + z**2)) / (1.0 - rho**2) - 0.5 * np.log1p(-(rho**2))
    assert error(canonical(joint, 2, None)(joint), each.sum(axis=1)) < 0.05
    assert error(canonical(joint, 2, 1)(joint), each[:, 0]) < 0.05


def test_canonical_correlations_of_independent_variables_are_not_there():
    joint = np.random.default_rng(11).normal(size=(200, 12))
    assert canonical(joint, 6, None).correlations.sum() < 1.0
    raw = np.corrcoef(joint, rowvar=False)[:6, 6:]
    assert np.linalg.svd(raw)[1].sum() > 1.0


def test_references_of_pairs_hold_a_dependence():
    rng = np.random.default_rng(12)
    x, noise = rng.normal(size=(2, 4000, 1))
    joint = np.concatenate([x, 0.8 * x + 0.6 * noise], axis=1)
    product = np.concatenate([x, rng.permutation(joint[:, 1:])], axis=1)
    phi, points = of_pairs(1)(joint, product, None)(joint)
    truth = (0.8 * joint.prod(axis=1) - 0.32 * (joint**2).sum(axis=1)) / 0.36 - 0.5 * np.log(0.36)
    assert min(error(column, truth) for column in phi.T) < 0.1 and points.shape == (4000, 3)


@pytest.mark.parametrize("df", [2.0, 5.0])
@pytest.mark.parametrize("marginals", [np.asarray, np.arcsinh, np.cbrt], ids=["plain", "asinh", "cube root"])
def test_variables_that_share_one_scale_are_a_students_copula(df, marginals):
    """Uncorrelated, yet dependent; what the marginals are is no matter. Compared with scipy's densities."""
    t = [stats.multivariate_t(np.zeros(d), np.eye(d), df=df) for d in (4, 1, 3)]
    rows = t[0].rvs(4000, random_state=np.random.default_rng(3))
    truth = t[0].logpdf(rows) - t[1].logpdf(rows[:, 0]) - t[2].logpdf(rows[:, 1:])
    seen = marginals(rows)
    scores = NormalScores.fit(seen, seen)(seen)
    chosen = degrees_of_freedom(scores, 1)
    found = student_copula(scores, 1, chosen)
    assert error(found(scores), truth) < 0.3 * truth.std() and abs(np.mean(found(scores) - truth)) < 0.1 * truth.mean()
    assert 0.5 * df <= chosen <= 2.0 * df
