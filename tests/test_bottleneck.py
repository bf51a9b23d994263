"""Bounds on mutual information against Gaussians, and the anchor against exact sums over a small alphabet."""

import math
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from estimators.exact_values import gaussian
from estimators.objectives.bottleneck import (
    anchor_information,
    bottleneck_bound,
    infonce,
    infonce_anchor,
    rates,
)

# --- the bottleneck ---------------------------------------------------------------------------------------------------


@pytest.fixture
def encoder(x64):
    """x ~ N(0, C) in R³, z = Wx + noise in R²: (means [6, 2] at points with the moments of x, noise, law of z, I)."""
    rng = np.random.default_rng(0)
    root, w = rng.normal(size=(3, 3)), rng.normal(size=(2, 3))
    noise = np.diag([0.5, 2.0]) + 0.3
    marginal = w @ root @ root.T @ w.T + noise
    points = math.sqrt(3.0) * np.concatenate([root.T, -root.T])  # mean 0, second moment C: exact for quadratics
    information = 0.5 * (np.linalg.slogdet(marginal)[1] - np.linalg.slogdet(noise)[1])
    return points @ w.T, np.tile(noise, (6, 1, 1)), marginal, information


def test_the_bound_is_the_information_plus_what_the_prior_misses(encoder):
    """E KL(p(z|x)‖r) = I + KL(p(z)‖r), exactly; tight where r is the marginal."""
    means, noise, marginal, information = encoder
    bound = jax.jit(bottleneck_bound)
    tight = bound(means, noise, np.zeros(2), marginal)
    assert float(tight.value) == pytest.approx(information, abs=1e-12)
    for prior in ((np.ones(2), marginal), (np.zeros(2), np.array([1.0, 3.0]))):
        excess = float(gaussian.kl(np.zeros(2), marginal, *prior))
        found = float(bound(means, noise, *prior).value)
        assert found == pytest.approx(information + excess, abs=1e-12) and excess > 0.1


def test_rates_of_variances_and_of_matrices_agree():
    dtype = np.float32
    rng = np.random.default_rng(0)
    mean, variance = rng.normal(size=(5, 3)).astype(dtype), rng.uniform(0.1, 2.0, size=(5, 3)).astype(dtype)
    full = rates(mean, np.stack([np.diag(v) for v in variance]), np.zeros(3, dtype), np.ones(3, dtype))
    found = rates(mean, variance, np.zeros(3, dtype), np.ones(3, dtype))
    expected = 0.5 * (variance + mean**2 - 1.0 - np.log(variance)).sum(axis=1)
    np.testing.assert_allclose(full, expected, rtol=1e-4)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    bound = bottleneck_bound(mean, variance, np.zeros(3, dtype), np.ones(3, dtype))
    assert float(bound.standard_error) == pytest.approx(expected.std(ddof=1) / math.sqrt(5), rel=1e-4)


# --- InfoNCE on Gaussian pairs ----------------------------------------------------------------------------------------


def pairs(key: jax.Array, rho: float, n: int, dim: int = 1) -> tuple[jax.Array, jax.Array]:
    """x, z [n, dim], standard normal, of correlation `rho` in each coordinate: I = −½ dim log(1 − ρ²)."""
    x, noise = jax.random.normal(key, (2, n, dim))
    return x, rho * x + math.sqrt(1.0 - rho**2) * noise


def log_ratio(x: jax.Array, z: jax.Array, rho: float) -> jax.Array:
    """log p(x, z)/(p(x)p(z)) of every x with every z: [n, n]."""
    x, z, rest = x[:, None, :], z[None, :, :], 1.0 - rho**2
    each = -0.5 * math.log(rest) - (rho**2 * (x**2 + z**2) - 2.0 * rho * x * z) / (2.0 * rest)
    return each.sum(axis=-1)


def batches(rho: float, n: int, count: int, dim: int, score) -> np.ndarray:
    keys = jax.random.split(jax.random.key(1), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: score(*pairs(key, rho, n, dim))))(keys))


@pytest.mark.parametrize("rho, dim, n", [(0.9, 3, 32), pytest.param(0.99, 4, 16, marks=pytest.mark.slow)])
def test_infonce_is_below_the_truth_and_below_its_ceiling(rho, dim, n):
    truth = -0.5 * dim * math.log(1.0 - rho**2)
    found = batches(rho, n, 400, dim, lambda x, z: infonce(log_ratio(x, z, rho)).value)
    error = found.std(ddof=1) / 20.0
    assert found.max() <= math.log(n) + 1e-5
    assert found.mean() <= truth + 3.0 * error
    wrong = batches(rho, n, 400, dim, lambda x, z: infonce(0.5 * log_ratio(x, z, rho)).value)
    assert wrong.mean() < found.mean(), "the true log-ratio is the best critic"


@pytest.mark.slow
def test_infonce_is_tight_below_the_ceiling_and_saturates_above_it():
    low, high = -0.5 * math.log(1.0 - 0.25), -2.0 * math.log(1.0 - 0.99**2)
    below = batches(0.5, 256, 100, 1, lambda x, z: infonce(log_ratio(x, z, 0.5)).value)
    second = 1.0 / (1.0 - 0.25) - 1.0  # χ²(p(x,z)‖p(x)p(z)) = 1/(1 − ρ²) − 1; the bias is about χ²/(2n)
    error = float(below.std(ddof=1)) / 10.0
    assert below.mean() == pytest.approx(low, abs=3.0 * error + second / 256)
    above = batches(0.99, 8, 400, 4, lambda x, z: infonce(log_ratio(x, z, 0.99)).value)
    assert 0.9 * math.log(8.0) < above.mean() < math.log(8.0) < 0.3 * high


def test_the_plug_in_passes_the_ceiling():
    """Where InfoNCE of 8 pairs stops at log 8 = 2.1, the mean of the true log-ratio is I = 7.8."""
    truth = -2.0 * math.log(1.0 - 0.99**2)
    x, z = pairs(jax.random.key(0), 0.99, 2000, 4)
    found = anchor_information(jax.vmap(lambda x, z: log_ratio(x[None], z[None], 0.99)[0, 0])(x, z))
    assert float(found.value) == pytest.approx(truth, abs=3.0 * float(found.standard_error))
    assert found.standard_error < 0.1


# --- the anchor -------------------------------------------------------------------------------------------------------

JOINT = np.array([[0.35, 0.1], [0.15, 0.4]])
RATIO = JOINT / (JOINT.sum(axis=1, keepdims=True) * JOINT.sum(axis=0, keepdims=True))


def expected(loss, table: jax.Array, n: int = 3) -> jax.Array:
    """E loss(scores) over n pairs from JOINT, by summing over all (2·2)ⁿ batches; s_ij = table[x_i, z_j]."""
    drawn = np.array(list(product(product(range(2), repeat=2), repeat=n)))  # [4ⁿ, n, (x, z)]
    x, z = jnp.asarray(drawn[..., 0]), jnp.asarray(drawn[..., 1])
    weights = jnp.asarray(np.prod(JOINT[drawn[..., 0], drawn[..., 1]], axis=1))
    return weights @ jax.vmap(lambda x, z: loss(table[x[:, None], z[None, :]]))(x, z)


@pytest.mark.slow
@pytest.mark.parametrize("weight", [1.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_the_anchors_optimum_is_the_log_ratio_and_nothing_else(x64, weight):
    """Gradient 0 at log r, curvature positive in all directions: at most one optimum, since the loss is convex."""
    population = lambda table: expected(lambda s: infonce_anchor(s, weight), table)  # noqa: E731
    truth = jnp.log(RATIO)
    np.testing.assert_allclose(jax.jit(jax.grad(population))(truth), 0.0, atol=1e-12)
    curvature = np.linalg.eigvalsh(jax.jit(jax.hessian(lambda t: population(t.reshape(2, 2))))(truth.ravel()))
    assert curvature.min() > 1e-3
    assert population(truth + 0.3) > population(truth) + 1e-3


def test_without_the_anchor_a_function_of_x_stays_open(x64):
    population = lambda table: -expected(lambda s: infonce(s).value, table)  # noqa: E731
    truth = jnp.log(RATIO)
    np.testing.assert_allclose(jax.jit(jax.grad(population))(truth), 0.0, atol=1e-12)
    curvature = np.linalg.eigvalsh(jax.jit(jax.hessian(lambda t: population(t.reshape(2, 2))))(truth.ravel()))
    assert (np.abs(curvature) < 1e-12).sum() == 2 and curvature[2:].min() > 1e-3  # one for each x
    assert float(population(truth + jnp.array([[3.0], [-1.0]]))) == pytest.approx(float(population(truth)), abs=1e-12)


def test_of_two_pairs_it_is_the_logistic_loss(x64):
    s = np.random.default_rng(0).normal(size=(2, 2))
    pair, apart = np.diag(s), s[[0, 1], [1, 0]]
    logistic = 0.5 * (np.log1p(np.exp(-pair)) + np.log1p(np.exp(apart))).mean()
    assert float(infonce_anchor(s)) == pytest.approx(logistic, abs=1e-12)


@pytest.mark.slow
def test_trained_scores_recover_the_log_ratio_of_gaussians_and_those_of_infonce_do_not():
    """Scores a + bxz + c(x² + z²): the anchor finds all three, infonce not the constant. I within 5 %."""
    rho, n = 0.8, 64
    rest = 2.0 * (1.0 - rho**2)
    truth = np.array([-0.5 * math.log(1.0 - rho**2), 2.0 * rho / rest, -(rho**2) / rest])

    def scores(w, x, z):
        x, z = x[:, None, 0], z[None, :, 0]
        return w[0] + w[1] * (x * z) + w[2] * (x**2 + z**2)

    def fitted(loss):
        descent = optax.adam(optax.cosine_decay_schedule(0.05, 800))

        def step(state, key):
            w, moments = state
            change, moments = descent.update(jax.grad(lambda w: loss(scores(w, *pairs(key, rho, n))))(w), moments)
            return (optax.apply_updates(w, change), moments), None

        start = jnp.zeros(3)
        keys = jax.random.split(jax.random.key(0), 800)
        return jax.jit(lambda: jax.lax.scan(step, (start, descent.init(start)), keys)[0][0])()

    w = fitted(infonce_anchor)
    np.testing.assert_allclose(w, truth, rtol=0.06)
    x, z = pairs(jax.random.key(9), rho, 4000)
    found = anchor_information(w[0] + w[1] * (x * z)[:, 0] + w[2] * (x**2 + z**2)[:, 0])
    assert float(found.value) == pytest.approx(truth[0], abs=0.05 * truth[0] + 3.0 * float(found.standard_error))
    open_scale = jax.grad(lambda w: infonce(scores(w, *pairs(jax.random.key(0), rho, n))).value)(jnp.zeros(3))
    assert abs(open_scale[0]) < 1e-6 < 0.1 < abs(open_scale[1])


@pytest.mark.slow
@pytest.mark.parametrize("function", [lambda s: infonce(s).value, infonce_anchor])
def test_extreme_scores_stay_finite_in_float32(function):
    both = jax.jit(jax.value_and_grad(function))
    for s in (1e4 * jnp.eye(3), -1e4 * jnp.eye(3), jnp.full((3, 3), 1e4), jnp.full((3, 3), -1e4)):
        value, gradient = both(s)
        assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: infonce(np.zeros((2, 3))), ["(2, 3)", "[n, n]"]),
        (lambda: infonce_anchor(np.zeros((3, 3)), 0.0), ["weight = 0.0", "infonce"]),
        (lambda: rates(np.zeros((3, 2)), np.ones((3, 1)), np.zeros(2), np.ones(2)), ["(3, 2)", "(3, 1)", "[n, d]"]),
        (lambda: bottleneck_bound(np.zeros((1, 2)), np.ones((1, 2)), np.zeros(2), np.ones(2)), ["1 rows"]),
    ],
)
def test_bad_input_is_refused_with_the_remedy(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value
