"""Coordinates: increasing maps common to both sets, blind to increasing maps before them, with the slope they state."""

import numpy as np
import pytest
from scipy import stats

from estimators.density_ratio.references import EDGE, LIMIT, NormalScores, Standard

KINDS = [Standard, NormalScores]
GRID = np.linspace(-60.0, 60.0, 4001)


def sets(n: int = 4000, d: int = 3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)), 0.5 + 1.5 * rng.normal(size=(n, d))


def column(values) -> np.ndarray:
    return np.asarray(values, np.float64)[:, None]


@pytest.mark.parametrize("kind", KINDS)
def test_every_coordinate_is_an_increasing_function_of_its_own_column(kind):
    p, q = sets()
    made = kind.fit(p, q)
    rows = np.stack([GRID, GRID[::-1], np.zeros_like(GRID)], axis=1)
    z = made(rows)
    assert (np.diff(z[:, 0]) >= 0.0).all() and (np.diff(z[:, 1]) <= 0.0).all() and np.ptp(z[:, 2]) == 0.0
    inside = np.abs(GRID) < 3.0
    assert (np.diff(z[inside, 0]) > 0.0).all()


def test_standard_coordinates_have_mean_0_and_variance_1_over_both_sets():
    p, q = sets()
    made = Standard.fit(p, q)
    z = np.concatenate([made(p), made(q)])
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(z.std(axis=0), 1.0, rtol=1e-12)


def test_normal_scores_of_the_pooled_rows_are_standard_normal():
    p, q = sets()
    made = NormalScores.fit(p**3, np.exp(q))
    z = np.concatenate([made(p**3), made(np.exp(q))])
    for scores in z.T:
        assert stats.kstest(scores, "norm").statistic < 0.01


@pytest.mark.parametrize("scale, offset", [(1e-6, 0.0), (3.0, -7.0), (1e6, 1e3)])
@pytest.mark.parametrize("kind", KINDS)
def test_positive_affine_maps_change_nothing(kind, scale, offset):
    p, q = sets()
    rows = np.stack([GRID] * 3, axis=1)
    plain, mapped = kind.fit(p, q), kind.fit(p * scale + offset, q * scale + offset)
    np.testing.assert_allclose(mapped(rows * scale + offset), plain(rows), atol=1e-6)
    there, here = mapped.log_slope(rows * scale + offset), plain.log_slope(rows)
    np.testing.assert_allclose(there, here - 3.0 * np.log(scale), atol=1e-5)


@pytest.mark.parametrize(
    "increasing", [np.exp, lambda x: x**3, np.arctan, np.sinh], ids=["exp", "cube", "atan", "sinh"]
)
def test_normal_scores_are_blind_to_increasing_maps_up_to_interpolation(increasing):
    """Within the knots; values between two of them are where the straight lines of the two fits part."""
    p, q = sets()
    plain, mapped = NormalScores.fit(p, q), NormalScores.fit(increasing(p), increasing(q))
    z = plain(p)
    inside = np.abs(z) < 3.0
    assert inside.mean() > 0.99
    np.testing.assert_allclose(mapped(increasing(p))[inside], z[inside], atol=0.06)
    assert np.abs(Standard.fit(increasing(p), increasing(q))(increasing(p)) - Standard.fit(p, q)(p)).max() > 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_the_stated_slope_is_the_numerical_derivative(kind):
    p, q = sets()
    made = kind.fit(p, np.exp(q))
    rows, step = 0.5 * sets()[1][:200], 1e-7
    rows[:, 1] = np.exp(rows[:, 1])
    found = np.zeros(len(rows))
    for j in range(3):
        nudge = step * np.eye(3)[j]
        found += np.log((made(rows + nudge) - made(rows - nudge))[:, j] / (2.0 * step))
    np.testing.assert_allclose(made.log_slope(rows), found, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_density_keeps_its_mass_under_the_stated_slope(kind):
    """∫ φ(z(x)) z'(x) dx = 1, the change of variables that telescoping rests on."""
    p, q = sets(d=1)
    made = kind.fit(p, q)
    x = np.linspace(-15.0, 15.0, 200_001)
    density = stats.norm.pdf(made(column(x))[:, 0]) * np.exp(made.log_slope(column(x)))
    assert np.trapezoid(density, x) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_constant_columns_give_finite_coordinates(kind):
    p = np.stack([np.full(30, 7.0), np.arange(30.0)], axis=1)
    made = kind.fit(p, p)
    assert np.isfinite(made(p)).all() and np.isfinite(made.log_slope(p)).all()
    assert np.ptp(made(p)[:, 0]) == 0.0 < np.ptp(made(p)[:, 1])


def test_tied_values_share_a_score_and_keep_their_order():
    p, q = column(np.repeat([0.0, 1.0, 2.0], 20)), column(np.repeat([1.0, 2.0, 3.0], 20))
    made = NormalScores.fit(p, q)
    levels = made(column([0.0, 1.0, 2.0, 3.0]))[:, 0]
    assert (np.diff(levels) > 0.1).all() and levels[1] == pytest.approx(-levels[2], abs=0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("far", [1e9, -1e30])
def test_outliers_reach_no_further_than_the_ends(kind, far):
    p, q = sets()
    z = kind.fit(p, q)(np.full((1, 3), far))
    assert np.isfinite(z).all() and np.isfinite(z.astype(np.float32) ** 2).all() and (np.sign(z) == np.sign(far)).all()


def test_scores_go_on_beyond_the_samples_in_straight_lines_that_end():
    p, q = sets(d=1)
    made = NormalScores.fit(p, q)
    last = max(p.max(), q.max())
    beyond = made(column([last, last + 1.0, last + 2.0, 1e6]))[:, 0]
    assert EDGE < beyond[1] < beyond[2] < beyond[3] == LIMIT
    assert beyond[2] - beyond[1] == pytest.approx(beyond[1] - beyond[0])
