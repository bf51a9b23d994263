"""The perspective: its two forms agree with the definition, and its rules hold where a density vanishes."""

import math
from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from estimators.divergences.families import alpha
from estimators.divergences.generator import from_generator
from estimators.divergences.perspective import growth, integrand, log_perspective, perspective
from estimators.divergences.table import DIVERGENCES, divergence

FURTHER = ("alpha(1.5)", "alpha(2)", "alpha(-1)", "hockey_stick(1)")
ALL = [divergence(name) for name in (*DIVERGENCES, *FURTHER)]
N = 40
INF = math.inf


def weighted(d, ratios, weight):
    """exp of the logarithmic form at p/m and q/m."""
    log_p, log_q = (
        -jnp.logaddexp(jnp.log(weight), jnp.log1p(-weight) - ratios),
        -jnp.logaddexp(jnp.log(weight) + ratios, jnp.log1p(-weight)),
    )
    return jnp.exp(log_perspective(d)(log_p, log_q))


def test_it_is_its_definition(x64):
    """f(r) less its tangent at 1, over πr + 1 − π; and both forms are one function, out to where r fills float64."""
    ratios, weight = jnp.linspace(-9.0, 9.0, N), 0.2
    r = jnp.exp(ratios)
    for d in ALL:
        slope = d.prime(jnp.ones(N))
        expected = (d.f(r) - d.value_at_one - slope * (r - 1.0)) / (weight * r + 1.0 - weight)
        np.testing.assert_allclose(perspective(d)(ratios, weight), expected, rtol=1e-9, atol=1e-12, err_msg=d.name)
        far = jnp.linspace(-340.0, 340.0, N)
        value = perspective(d)(far, weight)
        assert np.all(value >= 0.0), d
        np.testing.assert_allclose(value, weighted(d, far, weight), rtol=1e-11, atol=1e-300, err_msg=d.name)


def test_close_to_ratio_one_it_is_the_taylor_term(x64):
    ratios = jnp.asarray(np.resize([1e-9, -1e-7, 3e-6, 0.0], N))
    for d in (d for d in ALL if d.smooth):
        curvature = d.second(jnp.ones(N))
        expected = 0.5 * curvature * jnp.expm1(ratios) ** 2
        np.testing.assert_allclose(weighted(d, ratios, 0.5), expected, rtol=1e-4, err_msg=d.name)


def test_where_a_density_vanishes_the_limits_of_f_are_its_cost(x64):
    """q > 0 = p costs q (f(0) − f(1) + f'(1)), p > 0 = q costs p (f'(∞) − f'(1))."""
    half = np.log(0.5)
    log_p, log_q = (jnp.asarray(np.resize(logs, N)) for logs in ([-INF, half, -INF], [half, -INF, -INF]))
    ratios = jnp.asarray(np.resize([-INF, INF], N))
    for d in ALL:
        slope = float(d.prime(jnp.ones(N))[0])
        zero, infinity = d.value_at_zero - d.value_at_one + slope, d.slope_at_infinity - slope
        value = jnp.exp(log_perspective(d)(log_p, log_q))[:3]
        np.testing.assert_allclose(value, [0.5 * zero, 0.5 * infinity, 0.0], rtol=1e-12, atol=1e-15, err_msg=d.name)
        value = perspective(d)(ratios)[:2]
        np.testing.assert_allclose(value, [2.0 * zero, 2.0 * infinity], rtol=1e-12, atol=1e-15, err_msg=d.name)


@pytest.mark.parametrize("name", ["kl", "jeffreys", "geometric_js", "pearson"])
def test_tails_go_on_as_the_formula(name, x64):
    """Where e^r no longer fits float64, in logarithms: log p + log[e^{−r} f̃(e^r)]."""
    r = np.linspace(310.0, 2000.0, N)
    cost = {  # log of e^{−r} f̃(e^r)
        "kl": np.log(r - 1.0),
        "jeffreys": np.log(r),
        "geometric_js": np.log(0.25 * r - 0.5),
        "pearson": r,
    }[name]
    found = log_perspective(divergence(name))(jnp.asarray(r), jnp.zeros(N)) - r
    np.testing.assert_allclose(found, cost, rtol=1e-6)


def test_its_mean_under_the_mixture_is_the_divergence(x64):
    """E_M[f̃(r)/(πr + 1 − π)] with M = πP + (1 − π)Q, for the KL of two normals."""
    p, q, weight = stats.norm(0.4, 0.8), stats.norm(-0.2, 1.0), 0.3

    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = 8.0 * nodes
    m = weight * p.pdf(x) + (1.0 - weight) * q.pdf(x)
    found = perspective(divergence("kl"))(jnp.asarray(p.logpdf(x) - q.logpdf(x)), weight)
    exact = math.log(1.0 / 0.8) + (0.8**2 + 0.6**2) / 2.0 - 0.5
    assert 8.0 * np.sum(weights * m * found) == pytest.approx(exact, abs=1e-8)


def test_it_may_be_made_while_jax_traces(x64):
    """So that a jitted function may take the divergence as a static argument."""
    mine = from_generator("mine", lambda u: (u - 1.0) ** 2)
    found = jax.jit(lambda ratios: perspective(mine)(ratios))(jnp.linspace(-1.0, 1.0, N))
    np.testing.assert_allclose(found, perspective(divergence("pearson"))(jnp.linspace(-1.0, 1.0, N)), rtol=1e-9)


FLOAT32 = ["kl", "gan", "alpha(-1)", "hockey_stick(2)"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOAT32)
def test_float32_holds_the_digits_that_it_states(name):
    """Terms of the same float32 numbers, the larger mass 1: close to ratio one, at a few, and out to e^±90."""
    near, far = np.linspace(-0.6, 0.6, 25, dtype=np.float32), np.linspace(-90.0, 90.0, 73, dtype=np.float32)
    ratios = np.concatenate([near, 1e-3 * near, far])
    log_p, log_q = np.minimum(ratios, 0.0), np.minimum(-ratios, 0.0)
    found = jax.jit(integrand(divergence(name)))(log_p, log_q, ratios)
    assert found.dtype == np.float32
    with jax.enable_x64(True):
        exact = np.asarray(integrand(divergence(name))(*(x.astype(float) for x in (log_p, log_q, ratios))))
    finite = exact < np.finfo(np.float32).max
    kinked = 2e-7 if name.startswith("hockey") else 0.0
    np.testing.assert_allclose(found[finite], exact[finite], rtol=2e-5, atol=kinked)
    assert np.all(np.isinf(found[~finite]))


@pytest.mark.parametrize(("name", "dtype"), [("kl", "float64"), ("neyman", "float32")], indirect=["dtype"])
def test_gradients_have_no_nan(name, dtype):
    """Where masses vanish, and at ratios out to the end of float32; second ones are right at p = q."""
    far = np.linspace(-85.0, 85.0, 60)
    log_p = np.concatenate([[-np.inf, -np.inf, -1.0], np.minimum(far, 0.0)]).astype(dtype)
    log_q = np.concatenate([[-np.inf, -2.0, -np.inf], np.minimum(-far, 0.0)]).astype(dtype)
    term = integrand(divergence(name))

    @jax.jit
    def derivatives(log_p, log_q):
        slopes = jax.grad(lambda p, q: jnp.sum(term(p, q)), argnums=(0, 1))(log_p, log_q)
        return slopes, jax.grad(jax.grad(lambda p: term(p, jnp.zeros_like(p))))(jnp.zeros_like(log_p[0]))

    slopes, curvature = derivatives(log_p, log_q)
    assert np.all(np.isfinite(slopes)), slopes
    assert float(curvature) == pytest.approx(float(divergence(name).second(jnp.ones(()))), rel=1e-5)


def test_growth_is_how_the_excess_grows(x64):
    for d in ALL:
        slope = float(d.prime(jnp.float64(1.0)))
        for sign, exponent in zip((-1.0, 1.0), growth(d), strict=True):
            r = sign * jnp.array([100.0, 200.0])
            excess = d.f(jnp.exp(r)) - d.value_at_one - slope * jnp.expm1(r)
            near, far = excess / jnp.maximum(jnp.exp(r), 1.0)  # of a unit of the larger mass
            if near > 0.0 and math.isfinite(far):
                assert math.log(far / near) / 100.0 == pytest.approx(exponent, abs=0.02), d


def alpha_cost(a, ratio):
    """f(u)/max(u, 1) of the α-divergence at u = e^ratio, in sixty digits."""
    with localcontext() as context:
        context.prec = 60
        u, power, a = Decimal(ratio).exp(), (Decimal(a) * Decimal(ratio)).exp(), Decimal(a)
        return float((power - 1 - a * (u - 1)) / (a * (a - 1)) / max(u, Decimal(1)))


NEAR_ONE = (0.5, 0.9, 0.99, 0.999, 1.0 - 1e-4, 1.0 - 1e-7, 1.0 + 1e-7, 1.0 + 1e-4, 1.001, 1.1)


@pytest.mark.parametrize("a", [*NEAR_ONE, *(1.0 - a for a in NEAR_ONE)])
def test_alpha_has_its_digits_near_orders_zero_and_one_at_every_ratio(a, dtype):
    """Where it grows without end, or up to 1/(1 − α) = 10⁷, more slowly than the formula reaches."""
    ratios = np.resize(
        [-3000.0, -400.0, -299.0, -85.0, -79.0, -3.0, -0.26, 0.26, 3.0, 79.0, 85.0, 299.0, 400.0, 3000.0], N
    )
    ratios = ratios.astype(dtype)
    found = np.asarray(integrand(alpha(a))(jnp.minimum(ratios, 0.0), jnp.minimum(-ratios, 0.0)))
    exact = np.array([alpha_cost(a, float(r)) for r in ratios])
    fits = exact < np.finfo(dtype).max
    np.testing.assert_allclose(found[fits], exact[fits], rtol=1e-5 if dtype == np.float32 else 1e-11)
    assert np.all(np.isinf(found[~fits]))


def test_a_users_generator_climbs_slowly_to_its_limits():
    """f(0) = 1/ε, left as u^ε; in float32 the formula ends at a ratio of e^−80, where u^ε is still 0.2."""
    slow = from_generator("slow", lambda u: (1.0 - u**0.02) / 0.02 + u - 1.0)
    ratios = jnp.asarray(np.resize([-50.0, -79.0, -81.0, -200.0, -1000.0], N), jnp.float32)
    found = integrand(slow)(ratios, jnp.zeros_like(ratios))
    np.testing.assert_allclose(found, np.expm1(0.02 * np.float64(ratios)) / -0.02 - 1.0, rtol=1e-5)


def test_a_cost_that_grows_as_a_square_of_a_logarithm(x64):
    """f(u) = u log² u + …: e^{−r} f̃(e^r) = r² − 1 + e^{−r} beyond every float."""
    square = from_generator("square", lambda u: jnp.where(u > 1.0, u * jnp.log(jnp.maximum(u, 1.0)) ** 2, 0.0))
    r = jnp.linspace(310.0, 3000.0, N)
    np.testing.assert_allclose(log_perspective(square)(r, jnp.zeros(N)) - r, np.log(np.asarray(r) ** 2), rtol=1e-6)
