"""Logistic regression against a general optimiser; calibration against what it must leave alone."""

import numpy as np
import pytest
from scipy import optimize

from estimators.density_ratio.plug_in import basis, calibrate
from estimators.density_ratio.references import logistic

DRAWS = 200


def features(seed: int, n: int, m: int, k: int = 3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, k)) + 0.4, rng.normal(size=(m, k)) * 1.3


def loss_of(phi_p, phi_q, start, ridge):
    """The same penalised loss, written out per class."""
    offset = np.log(len(phi_p) / len(phi_q))

    def loss(theta):
        fit = np.logaddexp(0.0, -(phi_p @ theta + offset)).sum() + np.logaddexp(0.0, phi_q @ theta + offset).sum()
        return fit + 0.5 * np.sum(np.asarray(ridge) * (theta - start) ** 2)

    return loss


def normals(seed: int, n: int, shift: float, m: int | None = None):
    """The true log-ratio of N(0, 1) to N(shift, 1) at draws of either."""
    rng = np.random.default_rng(seed)
    return tuple(shift**2 / 2 - shift * x for x in (rng.normal(size=n), shift + rng.normal(size=m or n)))


@pytest.mark.parametrize("n, m", [(300, 300), (60, 500)])
@pytest.mark.parametrize("ridge", [1e-6, 2.0, 50.0])
def test_the_fit_is_that_of_a_general_optimiser(n, m, ridge):
    phi_p, phi_q = features(0, n, m)
    start, weights = np.array([0.5, -1.0, 0.0]), np.full(3, ridge)
    loss = loss_of(phi_p, phi_q, start, weights)
    oracle = optimize.minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-6})
    found = logistic(phi_p, phi_q, start=start, ridge=weights)
    np.testing.assert_allclose(found.theta, oracle.x, atol=1e-4)
    assert loss(found.theta) <= oracle.fun + 1e-6


def test_the_covariance_is_the_inverse_curvature():
    phi_p, phi_q = features(1, 200, 100)
    start, ridge = np.zeros(3), np.array([1.0, 0.1, 3.0])
    found = logistic(phi_p, phi_q, start=start, ridge=ridge)
    loss, h = loss_of(phi_p, phi_q, start, ridge), 1e-3
    steps = h * np.eye(3)
    curvature = [
        [sum(s * t * loss(found.theta + s * a + t * b) for s in (1, -1) for t in (1, -1)) / (4 * h * h) for b in steps]
        for a in steps
    ]
    np.testing.assert_allclose(found.covariance @ np.array(curvature), np.eye(3), atol=2e-3)


def test_a_far_start_and_separable_rows_still_end_at_the_optimum():
    phi_p, phi_q = features(2, 100, 100)
    near, far = (logistic(phi_p, phi_q, start=[s] * 3, ridge=[1e-9] * 3).theta for s in (0.0, 30.0))
    np.testing.assert_allclose(far, near, atol=1e-3)
    apart = logistic(np.ones((20, 1)), -np.ones((20, 1)), start=[0.0], ridge=[1.0])
    assert 0.5 < apart.theta[0] < 10.0 and np.isfinite(apart.covariance).all()


def test_the_basis_is_a_shift_a_slope_and_a_bend():
    v = np.linspace(-30.0, 30.0, 121)
    one, slope, bend = basis(v).T
    np.testing.assert_array_equal(one, 1.0)
    np.testing.assert_array_equal(slope, v)
    np.testing.assert_allclose(bend, 2.0 * np.log(np.cosh(v / 2.0)), atol=1e-12)
    np.testing.assert_allclose(bend, bend[::-1])
    assert bend[60] == pytest.approx(0.0, abs=1e-15)
    np.testing.assert_allclose(np.diff(bend)[[0, -1]], [-0.5, 0.5], atol=1e-6)
    assert np.isfinite(basis(np.array([-1e4, 1e4]))).all() and basis(np.zeros((2, 5))).shape == (2, 5, 3)


def test_the_true_log_ratio_is_left_alone_within_the_stated_covariance():
    """(θ − θ₀)ᵀ C⁻¹ (θ − θ₀) has mean 3 were there no ridge, which can only hold θ closer to θ₀."""
    distances = []
    for seed in range(DRAWS):
        found = calibrate(*normals(seed, 600, 1.5, 300))
        gap = found.theta - np.array([0.0, 1.0, 0.0])
        distances.append(gap @ np.linalg.solve(found.covariance, gap))
    error = np.std(distances) / np.sqrt(DRAWS)
    assert 0.75 * 3.0 - 4.0 * error < np.mean(distances) < 3.0 + 4.0 * error


@pytest.mark.parametrize("shift, slope", [(0.3, 1.0), (0.0, 0.5), (-0.2, 2.0)])
def test_a_wrong_shift_and_slope_are_taken_back(shift, slope):
    log_p, log_q = normals(0, 40_000, 1.5)
    found = calibrate(shift + slope * log_p, shift + slope * log_q)
    mended = basis(shift + slope * np.linspace(-2.0, 2.0, 9)) @ found.theta
    np.testing.assert_allclose(mended, np.linspace(-2.0, 2.0, 9), atol=0.1)


def test_exchanging_the_sets_turns_the_sign_of_the_odd_part_alone():
    log_p, log_q = normals(3, 500, 1.0, 700)
    one, other = calibrate(log_p, 0.7 * log_q), calibrate(-0.7 * log_q, -log_p)
    np.testing.assert_allclose(other.theta, one.theta * [-1.0, 1.0, -1.0], atol=1e-5)


def test_a_constant_log_ratio_becomes_no_divergence():
    for level in (0.0, 0.4):
        found = calibrate(np.full(50, level), np.full(80, level))
        assert float((basis(np.array([level])) @ found.theta)[0]) == pytest.approx(0.0, abs=1e-3)
