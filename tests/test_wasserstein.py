"""Wasserstein distances against SciPy, closed forms and each other; and where they and KL disagree."""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import estimators as est
from estimators.exact_values import gaussian
from estimators.geometry.wasserstein import beside_kl, by_assignment, draw, of_quantiles, on_the_line, sinkhorn

RNG = np.random.default_rng(4)
X, Y = RNG.normal(size=37), 0.5 + 2.0 * RNG.normal(size=24)


def test_on_the_line_it_is_that_of_scipy_and_of_sorted_samples(dtype):
    x, y = X.astype(dtype), Y.astype(dtype)
    assert on_the_line(x, y).dtype == dtype
    assert float(on_the_line(x, y)) == pytest.approx(stats.wasserstein_distance(X, Y), rel=1e-5)
    for p in (2.0, 3.0):
        expected = np.mean(np.abs(np.sort(X[:24]) - np.sort(Y)) ** p) ** (1.0 / p)
        assert float(on_the_line(x[:24], y, p)) == pytest.approx(expected, rel=1e-5)
    assert float(on_the_line(x[:24], y, math.inf)) == pytest.approx(
        np.abs(np.sort(X[:24]) - np.sort(Y)).max(), rel=1e-5
    )


def test_repeating_every_sample_changes_nothing():
    doubled = on_the_line(np.repeat(X, 3), np.repeat(Y, 2), 2.0)
    assert float(doubled) == pytest.approx(float(on_the_line(X, Y, 2.0)), rel=1e-5)


def test_it_is_batched_and_differentiable():
    batch = jax.jit(on_the_line)(np.stack([X, X + 1.0]), np.stack([Y, Y]))
    assert batch.shape == (2,) and float(batch[0]) == pytest.approx(float(on_the_line(X, Y)), rel=1e-5)
    shifted = jax.grad(lambda c: on_the_line(jnp.asarray(X) + c, jnp.asarray(X), 2.0))(3.0)
    assert float(shifted) == pytest.approx(1.0, rel=1e-5)


def test_quantile_functions_of_gaussians_give_bures():
    args = np.ones(1), np.full(1, 4.0), np.zeros(1), np.ones(1)
    expected = math.sqrt(float(gaussian.wasserstein2(*args)))
    assert of_quantiles(stats.norm(1.0, 2.0).ppf, stats.norm.ppf, 2.0) == pytest.approx(expected, rel=1e-6)
    assert of_quantiles(stats.uniform(0, 1).ppf, stats.uniform(0.3, 1).ppf) == pytest.approx(0.3, rel=1e-9)


def test_the_best_matching_agrees_on_the_line_and_is_invariant_to_rotations():
    x, y = X[:24], Y
    assert by_assignment(x[:, None], y[:, None], 2.0) == pytest.approx(float(on_the_line(x, y, 2.0)), rel=1e-5)
    plane_x, plane_y = RNG.normal(size=(30, 2)), RNG.normal(size=(30, 2)) + 1.0
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert by_assignment(plane_x @ turn, plane_y @ turn) == pytest.approx(by_assignment(plane_x, plane_y), rel=1e-9)
    assert by_assignment(plane_x, plane_x + np.array([3.0, 4.0])) == pytest.approx(5.0, rel=1e-9)


def test_two_points_apart():
    """A distance ε: KL is infinite and JS log 2 for every ε, W is ε."""
    for gap in (0.01, 1.0):
        found = beside_kl(np.zeros((200, 1)), np.full((150, 1), gap), est.estimate)
        assert found.kl == math.inf and found.js == pytest.approx(math.log(2.0), abs=1e-6)
        assert found[:2] == pytest.approx((gap, gap), rel=1e-6)


@pytest.mark.slow
def test_beside_kl_of_gaussians():
    x, y = RNG.normal(size=(1500, 2)), RNG.normal(size=(1200, 2)) + np.array([1.0, 0.0])
    found = beside_kl(x, y, est.estimate)
    assert found.kl == pytest.approx(0.5, abs=0.15) and found.wasserstein2 == pytest.approx(1.0, abs=0.15)


@pytest.mark.filterwarnings("ignore:JAXopt is no longer maintained:DeprecationWarning")
@pytest.mark.slow
def test_sinkhorn_is_close_to_the_exact_distance():
    pytest.importorskip("ott")
    x, y = RNG.normal(size=(60, 2)), RNG.normal(size=(60, 2)) + 1.0
    found = sinkhorn(x, y, epsilon=0.05)
    assert found.converged and found.squared == pytest.approx(by_assignment(x, y) ** 2, rel=0.05)
    assert sinkhorn(x, x, epsilon=0.05).squared == pytest.approx(0.0, abs=1e-4)


def test_without_ott_the_error_says_what_to_install(monkeypatch):
    for name in ("ott", "ott.tools", "ott.tools.sinkhorn_divergence"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "fgan\[ot\]"'):
        sinkhorn(np.zeros((3, 1)), np.zeros((3, 1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: on_the_line(X, Y, 0.5), "p = 0.5"),
        (lambda: on_the_line(X, []), "n and m at least 1"),
        (lambda: by_assignment(X[:, None], Y[:, None]), "of one size"),
        (lambda: of_quantiles(abs, abs, math.inf), "finite p"),
        (lambda: sinkhorn(X, Y), "on the line"),
        (lambda: beside_kl(X, Y, est.estimate), "on the line"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_the_picture(tmp_path):
    assert draw(tmp_path / "beside.png").stat().st_size > 20_000


def test_high_powers_and_heavy_tails_keep_to_the_float(x64):
    assert float(on_the_line(np.array([0.0]), np.array([1e-3]), 200.0)) == pytest.approx(1e-3)
    assert by_assignment([[0.0], [1.0]], [[1e-3], [1.0 + 1e-3]], 200.0) == pytest.approx(1e-3)
    assert of_quantiles(stats.pareto(4.0).ppf, stats.uniform.ppf) == pytest.approx(1.0 / 0.75 - 0.5, rel=1e-6)
    with pytest.raises(ValueError, match="give a smaller p"):
        of_quantiles(stats.pareto(1.1).ppf, stats.uniform.ppf, 1.0)
