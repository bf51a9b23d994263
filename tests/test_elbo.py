"""Bounds on log p(x): exact on a linear-Gaussian model, where everything is known, and ordered on any weights.

x = Wz + b + σε with z ~ N(0, I) has log p(x) and p(z|x) in closed form, and log w is a quadratic function of z. Its
mean under q is then exact from the 2L points mean ± √(L·variance) along each axis.
"""

import itertools
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from estimators.divergences.generator import from_generator
from estimators.divergences.table import DIVERGENCES, divergence
from estimators.exact_values import gaussian
from estimators.objectives import elbo as objective
from estimators.objectives.elbo import bounds_from_below, f_bound, importance_weighted, kl_rate, log_weights

KEY = jax.random.key(0)
MEAN, VARIANCE = np.array([0.4, -1.3, 0.0]), np.array([0.3, 1.7, 1.0])
BELOW = [name for name, d in DIVERGENCES.items() if bounds_from_below(d)]
ABOVE = ["kl", "pearson", "alpha(1.5)"]
KINDS = ("reverse_kl", "neyman", "js", "total_variation", "pearson", "kl")
"""A power mean, one of the inverses, a root, one with a kink, and the two upper bounds."""


class Linear(NamedTuple):
    """x = Wz + b + σε in three dimensions, z in two, and a point x."""

    w: np.ndarray
    x: np.ndarray = np.array([1.0, -0.5, 0.7])
    b: np.ndarray = np.array([0.1, 0.2, -0.3])
    sigma: float = 0.6

    @property
    def log_evidence(self) -> float:
        return stats.multivariate_normal(self.b, self.w @ self.w.T + self.sigma**2 * np.eye(3)).logpdf(self.x)

    @property
    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        covariance = np.linalg.inv(np.eye(2) + self.w.T @ self.w / self.sigma**2)
        return covariance @ self.w.T @ (self.x - self.b) / self.sigma**2, covariance

    def log_likelihood(self, z):
        residual = (jnp.asarray(self.x) - jnp.asarray(self.b))[None] - z @ jnp.asarray(self.w).T
        return -0.5 * jnp.sum(residual**2, axis=-1) / self.sigma**2 - 1.5 * math.log(2.0 * math.pi * self.sigma**2)

    def log_weights(self, noise, mean, variance):
        z = objective.draws(noise, mean, variance)
        return log_weights(self.log_likelihood(z), z, mean, variance)


COUPLED = Linear(np.array([[1.0, 0.3], [-0.4, 0.8], [0.5, 0.5]]))
SEPARATE = Linear(np.array([[1.0, 0.0], [0.0, 0.8], [0.0, 0.0]]))  # whose posterior has independent coordinates
SPHERE = math.sqrt(2.0) * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
"""Noise over whose four points quadratic functions have the mean that they have over N(0, I)."""
Q = np.array([0.2, -0.4]), np.array([0.5, 0.3])


@pytest.fixture(scope="module")
def random_weights() -> jax.Array:
    """Logarithms of weights of very different spread [6, 40]."""
    return jnp.array([[0.01], [0.3], [1.0], [3.0], [10.0], [30.0]]) * jax.random.normal(KEY, (6, 40)) - 100.0


# --- rates and weights ------------------------------------------------------------------------------------------------


def test_the_rate_is_its_formula(dtype):
    m, v = MEAN.astype(dtype), VARIANCE.astype(dtype)
    rate = kl_rate(jnp.asarray(m), jnp.asarray(v))
    assert rate.dtype == dtype and rate.shape == (3,)
    np.testing.assert_allclose(rate, 0.5 * (m**2 + v - 1.0 - np.log(v)), rtol=1e-5, atol=1e-7)


def test_the_geometric_rate_adds_up_to_that_of_the_whole(x64):
    options = [{"convention": c, "dual": dual} for c in ("nielsen", "deasy") for dual in (False, True)]

    @jax.jit
    def both(mean, variance):
        each = [objective.geometric_js_rate(mean[None], variance[None], 0.3, **o).sum(axis=1)[0] for o in options]
        prior = jnp.zeros_like(mean), jnp.ones_like(mean)
        return each, [gaussian.geometric_js(mean, variance, *prior, 0.3, **o) for o in options]

    each, whole = both(jnp.asarray(MEAN), jnp.asarray(VARIANCE))
    np.testing.assert_allclose(each, whole, rtol=1e-12)
    assert len(set(map(float, each))) == 4


RATES = {
    "kl": kl_rate,
    "gjs": objective.geometric_js_rate,
    "dual": partial(objective.geometric_js_rate, alpha=0.5, dual=True),
}


def test_rates_have_finite_gradients_and_the_dual_regularises_less_than_half_of_kl():
    """At the prior and far from it."""

    @jax.jit
    def all_of_them(mean, variance):
        return {
            name: jax.value_and_grad(lambda m, v, rate=rate: rate(m, v).sum(), argnums=(0, 1))(mean, variance)
            for name, rate in RATES.items()
        }

    found = all_of_them(jnp.array([0.0, 30.0, 0.0]), jnp.array([1.0, 1e-6, 1e3]))
    for value, gradient in found.values():
        assert np.isfinite(value) and all(np.isfinite(g).all() for g in gradient)
        assert gradient[0][0] == 0.0 and abs(gradient[1][0]) < 1e-6
    values = {name: value for name, (value, _) in all_of_them(jnp.asarray(MEAN), jnp.asarray(VARIANCE)).items()}
    assert values["dual"] < values["gjs"] and values["dual"] < 0.5 * values["kl"]


def test_weights_are_those_of_the_densities(x64):
    mean, variance = jnp.asarray(MEAN), jnp.asarray(VARIANCE)
    z = objective.draws(jax.random.normal(KEY, (5, 3)), mean, variance)
    ratio = (stats.norm.logpdf(z) - stats.norm(MEAN, np.sqrt(VARIANCE)).logpdf(z)).sum(axis=1)
    likelihood = np.arange(5.0)
    for beta in (1.0, 4.0):
        found = log_weights(jnp.asarray(likelihood), z, mean, variance, beta)
        np.testing.assert_allclose(found, likelihood + beta * ratio, rtol=1e-12)


# --- the linear-Gaussian model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [COUPLED, SEPARATE], ids=["coupled", "separate"])
def test_the_gap_of_the_elbo_is_kl_to_the_posterior(x64, model):
    """Exactly; both by the closed rate and by weights alone."""
    z = objective.draws(jnp.asarray(SPHERE), *map(jnp.asarray, Q))
    value = objective.elbo(model.log_likelihood(z), kl_rate(*Q).sum())
    gap = gaussian.kl(*Q, *model.posterior)
    assert gap > 0.1 and model.log_evidence - float(value) == pytest.approx(float(gap), abs=1e-12)
    by_weights = f_bound(model.log_weights(jnp.asarray(SPHERE), *map(jnp.asarray, Q)), divergence("reverse_kl"))
    assert float(by_weights) == pytest.approx(float(value), abs=1e-12)


def bounds(logs: jax.Array, names) -> dict[str, jax.Array]:
    """name → f_bound of each of the divergences, in one program."""
    return jax.jit(lambda logs: {name: f_bound(logs, divergence(name)) for name in names})(logs)


def test_every_bound_is_tight_at_the_posterior(dtype):
    mean, covariance = SEPARATE.posterior
    noise = jnp.asarray(np.asarray(jax.random.normal(KEY, (32, 2))), dtype)
    logs = SEPARATE.log_weights(noise, jnp.asarray(mean, dtype), jnp.asarray(np.diag(covariance), dtype))
    tolerance = 3e-6 if dtype == np.float32 else 1e-12
    for name, bound in bounds(logs, KINDS).items():
        assert float(bound) == pytest.approx(SEPARATE.log_evidence, abs=tolerance), name


def test_the_importance_weighted_bound_climbs_to_the_evidence(x64):
    """ELBO ≤ k = 2 ≤ k = 16 ≤ log p(x), by means of n draws with their standard errors; the same points serve all."""
    n, most = 20_000, 16
    noise = jax.random.normal(KEY, (n, most, 2))
    logs = jax.jit(jax.vmap(lambda noise: COUPLED.log_weights(noise, *map(jnp.asarray, Q))))(noise)
    weighted = [np.asarray(importance_weighted(logs[:, :k])) for k in (1, 2, most)]
    exact = COUPLED.log_evidence - float(gaussian.kl(*Q, *COUPLED.posterior))
    assert abs(weighted[0].mean() - exact) < 4.0 * error(weighted[0])
    for lower, higher in itertools.pairwise(weighted):
        assert (higher - lower).mean() > 4.0 * error(higher - lower)
    assert weighted[-1].mean() < COUPLED.log_evidence + 4.0 * error(weighted[-1])
    assert COUPLED.log_evidence - weighted[-1].mean() < 0.25 * (COUPLED.log_evidence - exact)


@pytest.mark.parametrize("order", [0.5, *(pytest.param(a, marks=pytest.mark.slow) for a in (-0.5, 0.9))])
def test_alpha_bounds_are_below_the_evidence_by_a_renyi_divergence(x64, order):
    """log (E_q w^a)^{1/a} = log p(x) − (1 − a)/a D_a(posterior‖q), and for a < 0 the gap is D_{1−a}(q‖posterior)."""
    k = 200_000
    q = (
        Q[0],
        np.full(2, 0.5 if order > 0.0 else 0.12),
    )  # powers of w have a variance under a wide q, of 1/w a narrow one
    logs = COUPLED.log_weights(jax.random.normal(KEY, (k, 2)), *map(jnp.asarray, q))
    if order > 0.0:
        gap = (1.0 - order) / order * gaussian.renyi(*COUPLED.posterior, *q, order)
    else:
        gap = gaussian.renyi(*q, *COUPLED.posterior, 1.0 - order)
    powers = np.exp(order * np.asarray(logs - logs.max()))
    tolerance = 4.0 * powers.std() / powers.mean() / math.sqrt(k) / abs(order)
    assert tolerance < 0.05
    assert float(f_bound(logs, divergence(f"alpha({order})"))) == pytest.approx(
        COUPLED.log_evidence - float(gap), abs=tolerance
    )


def error(values: np.ndarray) -> float:
    """The standard error of their mean."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


# --- f-means of any weights -------------------------------------------------------------------------------------------


def test_each_bound_lies_on_its_side_of_the_mean_weight(random_weights):
    """For every sample, not only on average."""
    most, slack = importance_weighted(random_weights), 1e-4  # float32 at −100
    for name, bound in bounds(random_weights, [*BELOW, *ABOVE]).items():
        assert bool((bound <= most + slack).all()) if name in BELOW else bool((bound >= most - slack).all()), name
        assert bool((random_weights.min(axis=-1) - slack <= bound).all()), name
        assert bool((bound <= random_weights.max(axis=-1) + slack).all()), name
        if divergence(name).smooth:  # those with a kink may be the mean itself
            assert bool((jnp.abs(bound - most)[2:] > 1e-3).all()), name


def test_bounds_rise_with_alpha(random_weights):
    names = ("alpha(-2)", "neyman", "reverse_kl", "squared_hellinger", "alpha(0.9)", "alpha(1.1)", "pearson")
    found = bounds(random_weights, names)
    rises = jnp.diff(jnp.stack([found[name] for name in names]), axis=0)
    assert bool((rises > -1e-4).all()) and bool((rises[:, 2:] > 1e-3).all())


@pytest.mark.parametrize("name", ["squared_hellinger", pytest.param("neyman", marks=pytest.mark.slow)])
def test_the_root_is_the_closed_form(x64, name):
    """A divergence of the same f under a name of its own takes the other way."""
    logs = jnp.array([[0.3], [1.0], [3.0]]) * jax.random.normal(KEY, (3, 20))
    d = divergence(name)
    mine = from_generator("mine", d.f)
    found, closed = (jax.jit(jax.value_and_grad(lambda x, d=d: f_bound(x, d).sum()))(logs) for d in (mine, d))
    np.testing.assert_allclose(found[0], closed[0], rtol=1e-9)
    np.testing.assert_allclose(found[1], closed[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["js", "kl"])
def test_the_gradient_is_that_of_the_value_and_shifts_change_nothing_else(x64, name):
    logs, bound = jax.random.normal(KEY, (12,)), jax.jit(lambda logs: f_bound(logs, divergence(name)))
    gradient, h = jax.jit(jax.grad(bound))(logs), 1e-5
    differences = [(bound(logs + h * e) - bound(logs - h * e)) / (2 * h) for e in jnp.eye(12)]
    np.testing.assert_allclose(gradient, differences, atol=1e-8)
    assert float(gradient.sum()) == pytest.approx(1.0, abs=1e-9)
    assert float(bound(logs - 700.0)) == pytest.approx(float(bound(logs)) - 700.0, abs=1e-9)


def test_weights_of_any_spread_leave_the_gradient_finite():
    logs = jnp.array([[-500.0, -300.0, -100.0], [-90.0, -90.0, -90.0], [3e3, 0.0, -3e3]])

    @jax.jit
    def gradients(logs):
        return {name: jax.value_and_grad(lambda x, n=name: f_bound(x, divergence(n)).sum())(logs) for name in KINDS}

    for name, (value, gradient) in gradients(logs).items():
        assert np.isfinite(value) and np.isfinite(gradient).all(), name


def test_bounds_are_batched_and_vmapped(random_weights):
    d = divergence("js")
    one_by_one, at_once, folded = jax.jit(
        lambda x: (jax.vmap(lambda x: f_bound(x, d))(x), f_bound(x, d), f_bound(x.reshape(2, 3, 40), d))
    )(random_weights)
    np.testing.assert_allclose(one_by_one, at_once, rtol=1e-6)
    np.testing.assert_array_equal(folded.ravel(), at_once)


@pytest.mark.parametrize("name", ["jeffreys", "geometric_js"])
def test_a_divergence_without_a_bound_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}: f'.∞. is infinite"):
        f_bound(jnp.zeros(3), divergence(name))


# --- posterior collapse -----------------------------------------------------------------------------------------------


def test_free_bits_cost_nothing_until_they_are_used():
    def cost(rates, least):
        return objective.free_bits(rates, least)

    rates = jnp.array([[0.1, 2.0], [0.3, 4.0]])  # means 0.2 and 3
    assert float(cost(rates, 0.5)) == pytest.approx(3.5) and float(cost(rates, 0.0)) == pytest.approx(3.2)
    np.testing.assert_array_equal(jax.grad(cost)(rates, 0.5), [[0.0, 0.5], [0.0, 0.5]])
    with pytest.raises(ValueError, match=r"least = -1\.0"):
        cost(rates, -1.0)


def test_active_units_are_those_that_follow_the_data():
    means = jnp.asarray(np.random.default_rng(0).normal(size=(5000, 4)) * np.sqrt([1.0, 0.02, 0.005, 0.0]))[:, None]
    assert int(objective.active_units(means[:, 0] + 3.0)) == 2
    assert int(objective.active_units(jnp.zeros((9, 4)))) == 0
