"""Rényi's divergence over its orders: limits, monotony, concavity, skew symmetry; and its variational bound."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from estimators.divergences.table import renyi as functional
from estimators.exact_values import gaussian
from estimators.geometry.categorical import between
from estimators.geometry.renyi_orders import draw, renyi, renyi_bound, renyi_gaussian

RNG = np.random.default_rng(2)
P, Q = (RNG.dirichlet(np.ones(5), 3) for _ in range(2))
LOGS = np.log(P), np.log(Q)
ORDERS = np.array([0.0, 0.1, 0.5, 0.9, 1.0, 1.5, 2.0, 7.0, np.inf])
NARROW = np.array([0.3, 0.0]), np.array([[0.5, 0.1], [0.1, 0.4]]), np.zeros(2), np.array([1.0, 2.0])
WIDE = NARROW[2:] + NARROW[:2]


@pytest.mark.slow
def test_each_limit_is_its_own_formula(dtype):
    value = renyi(*(law.astype(dtype) for law in LOGS), ORDERS.astype(dtype))
    assert value.shape == (9, 3) and value.dtype == dtype
    expected = {
        0.0: np.zeros(3),
        0.5: -2.0 * np.log(np.sqrt(P * Q).sum(axis=1)),
        1.0: between(P, Q, "kl"),
        2.0: np.log1p(between(P, Q, "pearson")),
        np.inf: np.log((P / Q).max(axis=1)),
    }
    for order, truth in expected.items():
        np.testing.assert_allclose(value[list(ORDERS).index(order)], truth, rtol=2e-5, atol=1e-6)


def test_it_is_the_functional_of_the_table(x64):
    """`est.estimate(…, "renyi(1.5)")` is of this number."""
    value = renyi(*LOGS, ORDERS)
    for i in (2, 5, 6):
        f = functional(ORDERS[i])
        expected = [f.transform(float(v)) for v in between(P, Q, f.divergence)]
        np.testing.assert_allclose(value[i], expected, rtol=1e-9)


@pytest.mark.slow
def test_it_grows_with_the_order_and_its_scaled_form_is_concave(x64):
    assert np.all(np.diff(renyi(*LOGS, ORDERS), axis=0) > 0.0)
    orders = np.linspace(0.0, 4.0, 9)
    scaled = (1.0 - orders)[:, None] * np.asarray(renyi(*LOGS, orders))
    assert np.all(np.diff(scaled, 2, axis=0) < 1e-12)
    gaussians = np.array([float(renyi_gaussian(*NARROW, a)) for a in (0.0, 0.5, 1.0, math.inf)])
    assert np.all(np.diff(gaussians) > 0.0)


def test_skew_symmetry(x64):
    orders = np.linspace(0.1, 0.9, 9)
    swapped = (orders / (1.0 - orders))[:, None] * np.asarray(renyi(*LOGS[::-1], 1.0 - orders))
    np.testing.assert_allclose(renyi(*LOGS, orders), swapped, rtol=1e-11)


def test_supports_that_differ(x64):
    """Q misses a value of P; P is Q given an event; the two are singular."""
    p = np.array([[0.5, 0.5, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0, 0.0]])
    q = np.array([[0.0, 0.25, 0.75, 0.0, 0.0], [0.25, 0.75, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5, 0.0]])
    with np.errstate(divide="ignore"):
        overlapping, inside, singular = np.asarray(renyi(np.log(p), np.log(q), ORDERS)).T
    assert overlapping[0] == pytest.approx(-math.log(0.25))
    assert np.all(np.isinf(overlapping[4:])) and np.all(np.isfinite(overlapping[:4]))
    np.testing.assert_allclose(inside, math.log(4.0), rtol=1e-12)  # the same at every order
    assert np.all(np.isinf(singular))


@pytest.mark.slow
def test_close_to_order_one_digits_stay():
    """In float32, 1e-4 away from KL the difference is ½(α − 1) Var log p/q."""
    kl = float(between(P, Q, "kl")[0])
    near = renyi(LOGS[0][0].astype(np.float32), LOGS[1][0].astype(np.float32), jnp.asarray([1.0 - 1e-4, 1.0 + 1e-4]))
    np.testing.assert_allclose(near, kl, rtol=5e-4)
    assert float(near[1] - near[0]) == pytest.approx(
        1e-4 * float(np.sum(P[0] * (LOGS[0] - LOGS[1])[0] ** 2) - kl**2), rel=0.05
    )


@pytest.mark.slow
def test_gradients_are_finite_with_zeros_about():
    def total(logits):
        return jnp.sum(
            renyi(
                jnp.append(jax.nn.log_softmax(logits), -jnp.inf),
                jnp.log(jnp.full(3, 1 / 3)),
                jnp.asarray([0.5, 1.0, 3.0]),
            )
        )

    assert np.all(np.isfinite(jax.grad(total)(jnp.asarray([0.3, -0.2]))))


def test_the_worst_case_of_gaussians(x64):
    """A narrower P: the largest ratio on a grid; a wider or as wide one: infinite, but for equal coordinates."""
    axis = np.linspace(-6.0, 6.0, 1201)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    ratio = stats.multivariate_normal(NARROW[0], NARROW[1]).logpdf(grid)
    ratio = ratio - stats.multivariate_normal(NARROW[2], np.diag(NARROW[3])).logpdf(grid)
    assert float(renyi_gaussian(*NARROW, math.inf)) == pytest.approx(ratio.max(), abs=1e-4)
    assert float(renyi_gaussian(*NARROW, 1e6)) == pytest.approx(ratio.max(), abs=1e-4)
    assert float(renyi_gaussian(*WIDE, math.inf)) == math.inf
    shared = np.array([0.0, 1.0]), np.array([1.0, 0.5]), np.array([0.0, 1.0]), np.array([1.0, 2.0])
    assert float(renyi_gaussian(*shared, math.inf)) == pytest.approx(0.5 * math.log(4.0))
    assert float(renyi_gaussian(*NARROW, 0.0)) == 0.0
    assert float(renyi_gaussian(*NARROW, 1.0)) == pytest.approx(float(gaussian.kl(*NARROW)))


# --- the variational bound -------------------------------------------------------------------------------------------
def frequencies(law, n=40):
    """Indices 0 … k − 1 as often as n·law says: samples whose means are exact expectations."""
    return np.repeat(np.arange(len(law)), np.rint(n * np.asarray(law)).astype(int))


@pytest.mark.slow
@pytest.mark.parametrize("order", [0.5, 1.0, 3.0])
def test_the_bound_is_below_the_truth_and_tight_at_the_log_ratio(x64, order):
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.25, 0.25, 0.5])
    on_p, on_q = frequencies(p), frequencies(q)
    truth = float(renyi(np.log(p), np.log(q), order))
    log_ratio = jnp.asarray(np.log(p / q))
    assert float(renyi_bound(log_ratio[on_p] + 2.0, log_ratio[on_q] + 2.0, order)) == pytest.approx(truth, rel=1e-12)
    for noise in np.random.default_rng(0).normal(size=(20, 3)):
        critic = log_ratio + noise
        assert float(renyi_bound(critic[on_p], critic[on_q], order)) < truth


@pytest.mark.slow
@pytest.mark.parametrize("order", [pytest.param(0.5, marks=pytest.mark.slow), 2.0])
def test_a_critic_trained_on_the_bound_finds_the_divergence(order):
    """Quadratic critics contain the log-ratio of Gaussians; quantiles stand for samples."""
    quantiles = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    x, y = (jnp.asarray(a, jnp.float32) for a in (0.5 + 0.8 * quantiles, quantiles))
    optimiser = optax.adam(0.05)

    def bound(c):
        return renyi_bound(c[0] * x + c[1] * x**2, c[0] * y + c[1] * y**2, order)

    @jax.jit
    def train(c):
        def step(carry, _):
            c, state = carry
            updates, state = optimiser.update(jax.grad(lambda c: -bound(c))(c), state)
            return (optax.apply_updates(c, updates), state), None

        return jax.lax.scan(step, (c, optimiser.init(c)), None, length=300)[0][0]

    critic = train(jnp.zeros(2))
    truth = float(gaussian.renyi(np.full(1, 0.5), np.full(1, 0.64), np.zeros(1), np.ones(1), order))
    assert float(bound(critic)) == pytest.approx(truth, rel=0.01)
    assert np.asarray(critic) == pytest.approx([0.5 / 0.64, 0.5 - 0.5 / 0.64], abs=0.05)  # log p/q, less a constant


def test_bad_orders_are_named():
    with pytest.raises(ValueError, match=r"alpha = -0.5: orders lie in \[0, ∞\]"):
        renyi(*LOGS, -0.5)
    with pytest.raises(ValueError, match=r"alpha = nan"):
        renyi_gaussian(*NARROW, math.nan)
    with pytest.raises(ValueError, match="positive, finite order"):
        renyi_bound(jnp.zeros(2), jnp.zeros(2), math.inf)
    with pytest.raises(ValueError, match="one k"):
        renyi(LOGS[0], LOGS[1][:, :2], 0.5)


@pytest.mark.slow
def test_the_picture(tmp_path):
    assert draw(tmp_path / "orders.png").stat().st_size > 20_000


def test_the_slope_at_order_one_is_half_the_variance_of_the_log_ratio(x64):
    log_p, log_q = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    slope = jax.grad(lambda a: renyi(log_p, log_q, a))(1.0)
    assert float(slope) == pytest.approx(0.5 * np.var(log_p - log_q), rel=1e-9)
