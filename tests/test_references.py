"""References: each where it is exact, discriminants, smoothed histograms and copulas; and the stack that chooses."""

import numpy as np
import pytest
from scipy import stats

from estimators.density_ratio.copulas import canonical, degrees_of_freedom, of_pairs, student_copula
from estimators.density_ratio.references import (
    STEEPEST,
    Boxes,
    NormalScores,
    References,
    additive,
    discriminant,
    radial,
    stack,
    student,
)

MEAN = np.array([0.4, -0.2, 0.0])
COVARIANCE = np.array([[1.5, 0.3, 0.0], [0.3, 0.8, -0.2], [0.0, -0.2, 1.0]])


def correlated(seed: int, n: int = 4000):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)), rng.multivariate_normal(MEAN, COVARIANCE, size=n)


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean((found - truth) ** 2)))


def second_differences(log_ratio, d: int, step: float = 0.5) -> np.ndarray:
    """Of every line along a random direction."""
    rng = np.random.default_rng(9)
    x, h = rng.normal(size=(20, d)), step * rng.normal(size=(20, d))
    return log_ratio(x + h) + log_ratio(x - h) - 2.0 * log_ratio(x)


def test_the_quadratic_discriminant_is_that_of_its_own_moments():
    p, q = correlated(0)
    rows = np.random.default_rng(1).normal(size=(200, 3))
    laws = [stats.multivariate_normal(s.mean(axis=0), np.cov(s, rowvar=False)) for s in (p, q)]
    np.testing.assert_allclose(discriminant(p, q, 0.0)(rows), laws[0].logpdf(rows) - laws[1].logpdf(rows), atol=0.01)


def test_the_linear_discriminant_is_fishers():
    """Its slope is Σ⁻¹(μ_p − μ_q) with the pooled covariance, and it is linear."""
    p, q = correlated(0)
    found = discriminant(p, q, 1.0)
    np.testing.assert_allclose(second_differences(found, 3), 0.0, atol=1e-9)
    pooled = 0.5 * (np.cov(p, rowvar=False) + np.cov(q, rowvar=False))
    slope = np.linalg.solve(pooled, p.mean(axis=0) - q.mean(axis=0))
    np.testing.assert_allclose(found(np.eye(3)) - found(np.zeros((3, 3))), slope, atol=2e-3)
    assert np.abs(second_differences(discriminant(p, q, 0.0), 3)).max() > 0.1


@pytest.mark.parametrize("fit", [lambda p, q: discriminant(p, q, 0.0), lambda p, q: discriminant(p, q, 1.0), student])
def test_exchanging_the_sets_turns_the_sign(fit):
    p, q = correlated(0, 300)
    rows = 3.0 * np.random.default_rng(1).normal(size=(20, 3))
    np.testing.assert_allclose(fit(q, p)(rows), -fit(p, q)(rows), atol=1e-10)


@pytest.mark.parametrize("fit", [lambda p, q: discriminant(p, q, 0.0), student, radial])
def test_fewer_rows_than_columns_and_columns_that_depend_on_each_other_are_borne(fit):
    rng = np.random.default_rng(2)
    p, q = rng.normal(size=(8, 12)), rng.normal(size=(9, 12)) + 0.5
    p[:, 3], q[:, 3] = 2.0 * p[:, 4], 2.0 * q[:, 4]
    assert np.isfinite(fit(p, q)(rng.normal(size=(30, 12)))).all()


def test_t_laws_give_the_log_ratio_of_heavy_tails_where_gaussians_cannot():
    rng = np.random.default_rng(4)
    law_p, law_q = stats.multivariate_t(np.zeros(2), np.eye(2), df=2), stats.multivariate_t([1.0, 0.0], np.eye(2), df=2)
    p, q, rows = (law.rvs(4000, random_state=rng) for law in (law_p, law_q, law_p))
    truth = law_p.logpdf(rows) - law_q.logpdf(rows)
    assert error(student(p, q)(rows), truth) < 0.1 < error(discriminant(p, q, 0.0)(rows), truth)


# --- smoothed histograms ----------------------------------------------------------------------------------------------


def in_scores(p, q):
    """The additive log-ratio as it is used: of normal scores."""
    made = NormalScores.fit(p, q)
    fitted = additive(made(p), made(q))
    return lambda rows: fitted(made(rows))


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


# --- all together -----------------------------------------------------------------------------------------------------


def test_references_are_columns_of_finite_bounded_log_ratios_and_points():
    p, q = correlated(13, 400)
    made = References.fit(p, q)
    rows = np.concatenate([p, np.array([[1e9, -1e30, 0.0]])])
    phi, points = made(rows)
    assert phi.shape == (401, len(made.of_standard) + len(made.of_scores)) and points.shape == (401, 4)
    assert np.isfinite(phi).all() and np.abs(phi).max() <= STEEPEST and np.isfinite(points).all()


def test_the_same_rows_through_given_coordinates_are_the_same():
    p, q = correlated(13, 400)
    made = References.fit(p, q)
    again = References.fit(p, q, (made.standard, made.scores))
    np.testing.assert_array_equal(made(p)[0], again(p)[0])


@pytest.mark.parametrize("right", range(3))
def test_the_stack_picks_the_log_ratio_that_is_right(right):
    """Beside noise and the same upside down, columns of equal spread."""
    rng = np.random.default_rng(14)
    x, y = rng.normal(size=4000), rng.normal(size=4000) + 1.0
    columns = [np.stack([rng.normal(size=4000), rng.normal(size=4000), 0.5 - rows], axis=1) for rows in (x, y)]
    phi_p, phi_q = (np.roll(c, right + 1, axis=1) for c in columns)
    theta = stack(phi_p, phi_q)
    expected = np.zeros(4)
    expected[1 + right] = 1.0
    np.testing.assert_allclose(theta, expected, atol=0.15)


def test_the_stack_of_real_references_is_the_log_ratio():
    p, q = correlated(15)
    made = References.fit(p[:2000], q[:2000])
    theta = stack(made(p[2000:])[0], made(q[2000:])[0])
    fresh = correlated(16)[0]
    truth = stats.norm.logpdf(fresh).sum(axis=1) - stats.multivariate_normal(MEAN, COVARIANCE).logpdf(fresh)
    assert error(theta[0] + made(fresh)[0] @ theta[1:], truth) < 0.15


# --- two dependent variables ------------------------------------------------------------------------------------------


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


def test_canonical_finds_nearly_no_dependence_where_there_is_none():
    joint = np.random.default_rng(11).normal(size=(200, 12))
    by_chance = np.linalg.svd(np.corrcoef(joint, rowvar=False)[:6, 6:])[1]
    assert canonical(joint, 6, None)(joint).mean() < 0.7 * np.sum(-0.5 * np.log1p(-(by_chance**2)))


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


@pytest.mark.parametrize("n", [1000, 4000])
def test_boxes_are_the_log_ratio_of_uniform_laws(n):
    """A cube within a cube of eight times the volume, and two cubes that overlap in half of either."""
    rng = np.random.default_rng(7)
    p, q, error = rng.uniform(0.5, 1.5, (n, 3)), rng.uniform(0.0, 2.0, (n, 3)), 4.0 / np.sqrt(0.125 * n)
    inner, outer = np.full((1, 3), 1.0), np.full((1, 3), 0.1)
    assert Boxes.fit(p, q)(inner) == pytest.approx(np.log(8.0), abs=error)
    assert Boxes.fit(q, p)(inner) == pytest.approx(-np.log(8.0), abs=error)
    assert Boxes.fit(p, q)(outer) < -np.log(0.05 * n) and Boxes.fit(q, p)(outer) > np.log(0.05 * n)
    half = p + np.array([0.5, 0.0, 0.0])
    of_p, both, of_q, neither = (np.array([[x, 1.0, 1.0]]) for x in (0.7, 1.2, 1.7, 9.0))
    found = Boxes.fit(p, half)
    assert found(both) == pytest.approx(0.0, abs=0.05) and found(neither) == pytest.approx(0.0, abs=1e-12)
    assert found(of_p) > np.log(0.05 * n) and found(of_q) < -np.log(0.05 * n)


def test_boxes_find_little_between_samples_of_one_normal_law():
    """Some rows stick out of the other set's box: of the few there are, in the mean of all rows nothing."""
    found = []
    for seed in range(40):
        p, q, rows = np.random.default_rng(seed).normal(size=(3, 1000, 3))
        ratios = Boxes.fit(p, q)(rows)
        assert np.mean(np.abs(ratios)) < 0.05
        found.append(np.mean(ratios))
    assert abs(np.mean(found)) < 4.0 * stats.sem(found)
