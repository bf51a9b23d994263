"""Geodesics are straight where they should be, and Chernoff's information is the largest exponent."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar

from estimators.distributions import Normal, Poisson
from estimators.exact_values import exponential_families, gaussian
from estimators.exact_values.quadrature import line_rule
from estimators.geometry.geodesics import (
    chernoff,
    chernoff_gaussian,
    chernoff_of_family,
    e_geodesic,
    log_moment,
    m_geodesic,
)

RNG = np.random.default_rng(5)
P, Q = (RNG.dirichlet(np.ones(4), 3) for _ in range(2))
T = np.array([0.0, 0.3, 1.0])
X, W = line_rule((-14.0, 16.0), 40)


def test_geodesics_of_categoricals_by_definition(dtype):
    log_p, log_q = (np.log(law).astype(dtype) for law in (P, Q))
    t = T[:, None, None]
    mixed = np.exp(m_geodesic(log_p, log_q, T))
    assert mixed.shape == (3, 3, 4) and mixed.dtype == dtype
    np.testing.assert_allclose(mixed, (1.0 - t) * P + t * Q, rtol=1e-5)
    geometric = P ** (1.0 - t) * Q**t
    expected = geometric / geometric.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(np.exp(e_geodesic(log_p, log_q, T)), expected, rtol=1e-5)
    np.testing.assert_allclose(np.exp(e_geodesic(log_p + 3.0, log_q - 1.0, T)), expected, rtol=1e-5)  # logits


def test_zeros_stay_zeros(x64):
    """0 · log 0 = 0 at the ends; between them the e-geodesic has the common support, and may have none."""
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.25, 0.75])
    with np.errstate(divide="ignore"):
        log_p, log_q = np.log(p), np.log(q)
        apart = np.log([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(np.exp(e_geodesic(log_p, log_q, T)), [p, [0.0, 1.0, 0.0], q], atol=1e-15)
    np.testing.assert_allclose(np.exp(m_geodesic(log_p, log_q, T)), [p, 0.7 * p + 0.3 * q, q], atol=1e-15)
    assert np.all(np.isneginf(e_geodesic(apart[0], apart[1], 0.5)))
    assert float(chernoff(apart[0], apart[1]).value) == math.inf


def test_the_e_geodesic_of_gaussians_on_a_grid_stays_gaussian(x64):
    log_p, log_q = stats.norm(0.0, 1.0).logpdf(X), stats.norm(2.0, 2.0).logpdf(X)
    middle = exponential_families.e_geodesic(Normal(0.0, 1.0), Normal(2.0, 2.0), 0.4)
    expected = stats.norm(float(middle.mean), float(middle.scale)).logpdf(X)
    np.testing.assert_allclose(e_geodesic(log_p, log_q, 0.4, W), expected, atol=1e-9)
    assert float(exponential_families.e_geodesic(Poisson(2.0), Poisson(8.0), 0.5).rate) == pytest.approx(4.0)


def test_beyond_the_ends():
    with pytest.raises(ValueError, match="0 ≤ t ≤ 1"):
        m_geodesic(np.log(P), np.log(Q), 1.2)
    assert np.all(np.isfinite(e_geodesic(np.log(P), np.log(Q), 1.2)))
    with pytest.raises(ValueError, match="one k"):
        e_geodesic(np.log(P), np.log(Q)[:, :3], 0.5)
    with pytest.raises(ValueError, match="two exponential families"):
        exponential_families.e_geodesic(Poisson(1.0), Normal(0.0, 1.0), 0.5)


# --- Chernoff --------------------------------------------------------------------------------------------------------
def kl(log_p, log_q):
    return np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)


def test_chernoff_of_categoricals_is_the_maximum_and_meets_the_bisector(dtype):
    log_p, log_q = (np.log(law).astype(dtype) for law in (P, Q))
    found = jax.jit(chernoff)(log_p, log_q)
    for value, t, p, q, a, b in zip(*found, P, Q, log_p, log_q):
        best = minimize_scalar(lambda s, p=p, q=q: np.sum(p ** (1 - s) * q**s), bounds=(0, 1), method="bounded")
        assert value == pytest.approx(-math.log(best.fun), rel=1e-5)
        between = np.asarray(e_geodesic(a, b, t), float)
        assert kl(between, np.asarray(a, float)) == pytest.approx(kl(between, np.asarray(b, float)), rel=2e-5)
        assert value == pytest.approx(kl(between, np.asarray(a, float)), rel=2e-5)


def test_chernoff_of_conditioning_is_reached_at_the_end(x64):
    """P = Q given an event A: ∫ p^{1−t} q^t = Q(A)^t, so the information is −log Q(A)."""
    with np.errstate(divide="ignore"):
        found = chernoff(np.log([0.25, 0.75, 0.0]), np.log([0.1, 0.3, 0.6]))
    assert float(found.value) == pytest.approx(-math.log(0.4)) and float(found.t) == pytest.approx(1.0)


@pytest.mark.slow
def test_chernoff_of_gaussians(x64):
    cov = np.array([[2.0, 0.3], [0.3, 1.0]])
    gap = np.array([1.0, -0.5])
    equal = chernoff_gaussian(gap, cov, np.zeros(2), cov)
    assert float(equal.value) == pytest.approx(gap @ np.linalg.solve(cov, gap) / 8.0, rel=1e-12)
    pair = np.zeros(1), np.ones(1), np.full(1, 2.0), np.full(1, 4.0)
    found = chernoff_gaussian(*pair)
    grid = chernoff(stats.norm(0.0, 1.0).logpdf(X), stats.norm(2.0, 2.0).logpdf(X), W)
    family = chernoff_of_family(Normal(0.0, 1.0), Normal(2.0, 2.0))
    for other in (grid, family):
        assert [float(v) for v in other] == pytest.approx([float(v) for v in found], rel=1e-8)
    best = minimize_scalar(lambda t: float(gaussian.log_moment(*pair, 1.0 - t)), bounds=(0, 1), method="bounded")
    assert float(found.value) == pytest.approx(-best.fun, rel=1e-9)
    assert float(chernoff_gaussian(*pair[:2], *pair[:2]).value) == pytest.approx(0.0, abs=1e-15)


def test_chernoff_of_poissons_in_closed_form(x64):
    """With r = a/b the best r^α is (r − 1)/log r, and the information b(1 + α(r − 1) − r^α)."""
    a, b = 5.0, 2.0
    r = a / b
    power = (r - 1.0) / math.log(r)
    order = math.log(power) / math.log(r)
    found = chernoff_of_family(Poisson(a), Poisson(b))
    assert float(found.value) == pytest.approx(b * (1.0 + order * (r - 1.0) - power), rel=1e-10)
    assert float(found.t) == pytest.approx(1.0 - order, rel=1e-8)
    batch = chernoff_of_family(Poisson(np.array([a, b])), Poisson(np.array([b, a])))
    np.testing.assert_allclose(batch.value, float(found.value), rtol=1e-10)
    np.testing.assert_allclose(batch.t, [float(found.t), 1.0 - float(found.t)], rtol=1e-8)
    k = np.arange(80)
    on_counts = chernoff(stats.poisson(a).logpmf(k), stats.poisson(b).logpmf(k))
    assert float(on_counts.value) == pytest.approx(float(found.value), rel=1e-10)


def test_the_gradient_of_chernoff_is_that_at_the_maximum(x64):
    slope = jax.grad(lambda m: chernoff_gaussian(m, jnp.ones(1), jnp.zeros(1), jnp.full(1, 3.0)).value)
    h = 1e-5
    ends = [chernoff_gaussian(jnp.full(1, 1.0 + s), jnp.ones(1), jnp.zeros(1), jnp.full(1, 3.0)).value for s in (h, -h)]
    assert float(slope(jnp.ones(1))[0]) == pytest.approx(float(ends[0] - ends[1]) / (2.0 * h), rel=1e-7)


def test_the_moment_is_convex_and_zero_at_both_ends(x64):
    moment = np.asarray(log_moment(np.log(P), np.log(Q), np.linspace(0.0, 1.0, 21)))
    np.testing.assert_allclose(moment[[0, -1]], 0.0, atol=1e-14)
    assert np.all(np.diff(moment, 2, axis=0) > 0.0)
