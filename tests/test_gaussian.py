"""Closed forms between Gaussians: held against quadrature, against each other, and against their own limits."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, linalg, stats

from estimators.divergences.generator import from_generator
from estimators.divergences.table import DIVERGENCES as TABLE
from estimators.divergences.table import divergence
from estimators.exact_values import gaussian
from estimators.exact_values.moments import OF_MOMENTS

RENYI = {f"renyi({a})": partial(gaussian.renyi, alpha=a) for a in (0.3, 0.5, 1.6)}
ALPHA = {f"alpha({a})": partial(gaussian.alpha, alpha=a) for a in (-0.4, 0.4, 1.6)}
GEOMETRIC = {
    f"geometric_js(0.2, {convention}, dual={dual})": partial(
        gaussian.geometric_js, alpha=0.2, convention=convention, dual=dual
    )
    for convention in ("nielsen", "deasy")
    for dual in (False, True)
}
PLAIN = {name: gaussian.closed_form(TABLE[name]) for name in OF_MOMENTS}
PLAIN["extended_geometric_js"] = PLAIN.pop("geometric_js")
pearson, neyman, squared_hellinger, extended_geometric_js = (
    PLAIN[name] for name in ("pearson", "neyman", "squared_hellinger", "extended_geometric_js")
)
DIVERGENCES = PLAIN | RENYI | ALPHA | GEOMETRIC
FORMS = DIVERGENCES | {"wasserstein2": gaussian.wasserstein2}
EQUAL_COVARIANCE = (gaussian.total_variation_equal_covariance, gaussian.js_equal_covariance)


@jax.jit
def forms(*pair):
    """Every form by name, in one compilation a shape."""
    return {name: f(*pair) for name, f in FORMS.items()}


def approx(expected, **tolerance):
    return pytest.approx(float(expected), **tolerance)


def random_pair(d, seed=36, spread=0.25):
    """(mean_p, cov_p, mean_q, cov_q), the covariances full and within a factor of about 1 ± spread of each other."""
    rng = np.random.default_rng(seed)
    mix = np.eye(d) + 0.3 * rng.normal(size=(d, d)) / np.sqrt(d)
    eigenvectors = np.linalg.qr(rng.normal(size=(d, d)))[0]
    ratio = eigenvectors @ np.diag(1.0 + spread * rng.uniform(-1.0, 1.0, d)) @ eigenvectors.T
    return 0.6 * rng.normal(size=d), mix @ ratio @ mix.T, 0.6 * rng.normal(size=d), mix @ mix.T


def spread_out(pair, kinds):
    """The pair with each covariance full ("f") or cut to its diagonal ("d"), as variances [d] and as a matrix."""
    mean_p, cov_p, mean_q, cov_q = pair
    short = [np.diag(c).copy() if kind == "d" else c for kind, c in zip(kinds, (cov_p, cov_q))]
    full = [np.diag(c) if c.ndim == 1 else c for c in short]
    return (mean_p, short[0], mean_q, short[1]), (mean_p, full[0], mean_q, full[1])


# --- oracles ---------------------------------------------------------------------------------------------------------
def by_definition(integral):
    """Every divergence of the table, by name, from `integral`: (function of (log p, log q)) → ∫ of it."""

    def moment(a):
        return integral(lambda p, q: np.exp(a * p + (1.0 - a) * q))

    def kl(first, second):
        return integral(lambda p, q: np.exp(first(p, q)) * (first(p, q) - second(p, q)))

    def geometric(weight, share, dual):
        log_z = np.log(moment(1.0 - share))

        def mean(p, q):
            return (1.0 - share) * p + share * q - log_z

        to = [(mean, end) if dual else (end, mean) for end in (lambda p, q: p, lambda p, q: q)]
        return (1.0 - weight) * kl(*to[0]) + weight * kl(*to[1])

    truth = {
        "kl": kl(lambda p, q: p, lambda p, q: q),
        "reverse_kl": kl(lambda p, q: q, lambda p, q: p),
        "jeffreys": integral(lambda p, q: (np.exp(p) - np.exp(q)) * (p - q)),
        "squared_hellinger": integral(lambda p, q: (np.exp(p / 2) - np.exp(q / 2)) ** 2),
        "pearson": integral(lambda p, q: (np.exp(p) - np.exp(q)) ** 2 / np.exp(q)),
        "neyman": integral(lambda p, q: (np.exp(p) - np.exp(q)) ** 2 / np.exp(p)),
        "extended_geometric_js": integral(
            lambda p, q: (np.exp(p) - np.exp(q)) * (p - q) / 4 + np.exp((p + q) / 2) - np.exp(q)
        ),
    }
    truth |= {name: np.log(moment(a)) / (a - 1.0) for name, a in ((n, f.keywords["alpha"]) for n, f in RENYI.items())}
    truth |= {
        name: (moment(a) - 1.0) / (a * (a - 1.0)) for name, a in ((n, f.keywords["alpha"]) for n, f in ALPHA.items())
    }
    for name, f in GEOMETRIC.items():
        a = f.keywords["alpha"]
        share = a if f.keywords["convention"] == "nielsen" else 1.0 - a
        truth[name] = geometric(a, share, f.keywords["dual"])
    return truth


def on_grid(pair, half_width=12.0, step=0.4):
    """Integrals in space by the trapezoidal rule, geometrically convergent for Gaussians, on a grid fitted to Q."""
    axis = np.arange(-half_width, half_width + step / 2, step)
    factor = np.linalg.cholesky(pair[3])
    points = np.stack(np.meshgrid(axis, axis, axis), axis=-1) @ factor.T + pair[2]
    log_p, log_q = (stats.multivariate_normal(pair[i], pair[i + 1]).logpdf(points) for i in (0, 2))
    return lambda function: np.sum(function(log_p, log_q)) * step**3 * np.linalg.det(factor)


def on_line(mean_p, var_p, mean_q, var_q):
    """Integrals on the line by scipy's adaptive quadrature."""
    log_p, log_q = stats.norm(mean_p, var_p**0.5).logpdf, stats.norm(mean_q, var_q**0.5).logpdf

    def integral(function):
        return integrate.quad(
            lambda x: function(log_p(x), log_q(x)), -25, 25, points=[mean_p, mean_q], epsabs=1e-12, limit=300
        )[0]

    return integral


@pytest.fixture(scope="module", params=["ff", "fd", "df", "dd"])
def space(request):
    short, full = spread_out(random_pair(3), request.param)
    return short, full, by_definition(on_grid(full))


@pytest.fixture(scope="module", params=[(0.3, 1.0, -0.4, 1.5), (1.0, 0.5, 0.0, 0.8), (0.0, 1.4, 0.0, 1.0)])
def line(request):
    return request.param, by_definition(on_line(*request.param))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_equals_its_definition_on_the_line(name, line, x64):
    parameters, truth = line
    assert forms(*(np.full(1, v) for v in parameters))[name] == approx(truth[name], rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_equals_its_definition_in_space(name, space, x64):
    short, full, truth = space
    assert forms(*short)[name] == approx(truth[name], rel=1e-9, abs=1e-11)
    assert forms(*full)[name] == approx(truth[name], rel=1e-9, abs=1e-11)  # diagonal = full


@pytest.mark.parametrize("kinds", ["ff", "fd", "df", "dd"])
def test_wasserstein_equals_its_definition(kinds, x64):
    short, (mean_p, cov_p, mean_q, cov_q) = spread_out(random_pair(3, spread=0.9), kinds)
    root = linalg.sqrtm(cov_q)
    bures = np.trace(cov_p + cov_q - 2.0 * linalg.sqrtm(root @ cov_p @ root).real)
    assert gaussian.wasserstein2(*short) == approx(np.sum((mean_p - mean_q) ** 2) + bures, rel=1e-10)


# --- equal covariances -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("delta", [0.0, 1e-3, 0.1, 0.7, 2.0, 5.0, 8.6, 13.0, 25.0, 40.0])
def test_equal_covariance_forms_at_every_distance(delta, x64):
    def js(x):
        log_p, log_q = stats.norm.logpdf(x, delta / 2), stats.norm.logpdf(x, -delta / 2)
        log_m = np.logaddexp(log_p, log_q) - np.log(2.0)
        return 0.5 * (np.exp(log_p) * (log_p - log_m) + np.exp(log_q) * (log_q - log_m))

    exact_js = 2.0 * integrate.quad(js, 0.0, delta / 2 + 12.0, points=[delta / 2], epsabs=1e-13, limit=500)[0]
    mean, origin, unit = np.array([delta]), np.zeros(1), np.ones(1)
    assert gaussian.js_equal_covariance(mean, origin, unit) == approx(exact_js, rel=1e-9, abs=1e-12)
    exact_tv = stats.norm.cdf(delta / 2) - stats.norm.cdf(-delta / 2)
    assert gaussian.total_variation_equal_covariance(mean, origin, unit) == approx(exact_tv, abs=1e-14)


@pytest.mark.parametrize("kind", ["f", "d"])
def test_equal_covariance_forms_in_space(kind, x64):
    mean_p, _, mean_q, cov = spread_out(random_pair(3, seed=3), "f" + kind)[0]
    full = cov if kind == "f" else np.diag(cov)
    integral = on_grid((mean_p, full, mean_q, full))

    def js(p, q):
        m = np.logaddexp(p, q) - np.log(2.0)
        return 0.5 * (np.exp(p) * (p - m) + np.exp(q) * (q - m))

    assert gaussian.js_equal_covariance(mean_p, mean_q, cov) == approx(integral(js), abs=1e-10)
    exact_tv = integral(lambda p, q: 0.5 * np.abs(np.exp(p) - np.exp(q)))  # a kink: the rule is of second order
    assert gaussian.total_variation_equal_covariance(mean_p, mean_q, cov) == approx(exact_tv, abs=1e-3)


@pytest.mark.parametrize("seed", [1, 7, 36])
def test_inequalities_tie_the_forms_together(seed, x64):
    mean_p, _, mean_q, cov = random_pair(3, seed)
    pair = (mean_p, cov, mean_q, cov)
    tv, js = (f(mean_p, mean_q, cov) for f in EQUAL_COVARIANCE)
    h2, kl = squared_hellinger(*pair), gaussian.kl(*pair)
    assert h2 / 2 < tv < jnp.sqrt(h2 * (1 - h2 / 4))
    assert tv < jnp.sqrt(kl / 2) and tv < jnp.sqrt(-jnp.expm1(-kl))
    assert tv**2 / 2 < js < min(tv * np.log(2.0), kl / 4 + 1e-12)


@pytest.mark.parametrize("f, limit", [*zip(EQUAL_COVARIANCE, (1.0, np.log(2.0)))])
def test_equal_covariance_forms_saturate(f, limit):
    rise = jax.jit(jax.value_and_grad(f))
    for delta in (60.0, 1e4, 1e25):
        value, gradient = rise(np.full(1, delta, np.float32), np.zeros(1, np.float32), np.ones(1, np.float32))
        assert value == approx(limit, rel=1e-6) and np.all(np.abs(gradient) < 1e-30)


# --- laws ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", FORMS)
def test_zero_at_equality_only(name, dtype):
    mean_p, cov_p, mean_q, cov_q = (a.astype(dtype) for a in random_pair(3))
    value = forms(mean_p, cov_p, mean_p, cov_p)[name]
    assert value.dtype == dtype and value.shape == ()
    assert abs(value) < 50 * np.finfo(dtype).eps
    assert forms(mean_p, cov_p, mean_q, cov_p)[name] > 0.01
    assert forms(mean_p, cov_p, mean_p, cov_q)[name] > 1e-3


@pytest.mark.parametrize("name", DIVERGENCES)
def test_invariant_under_a_common_affine_map(name, x64):
    mean_p, cov_p, mean_q, cov_q = random_pair(3)
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(3, 3)), 10.0 * rng.normal(size=3)
    mapped = (a @ mean_p + b, a @ cov_p @ a.T, a @ mean_q + b, a @ cov_q @ a.T)
    assert forms(*mapped)[name] == approx(forms(mean_p, cov_p, mean_q, cov_q)[name], rel=1e-9)


def test_wasserstein_under_motions_and_scaling(x64):
    mean_p, cov_p, mean_q, cov_q = random_pair(3)
    rotation = 3.0 * np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))[0]
    mapped = (
        rotation @ mean_p + 1,
        rotation @ cov_p @ rotation.T,
        rotation @ mean_q + 1,
        rotation @ cov_q @ rotation.T,
    )
    value = forms(mean_p, cov_p, mean_q, cov_q)["wasserstein2"]
    assert forms(*mapped)["wasserstein2"] == approx(9.0 * value, rel=1e-10)
    assert forms(mean_q, cov_q, mean_p, cov_p)["wasserstein2"] == approx(value, rel=1e-10)


@pytest.mark.parametrize("seed", [1, 7, 36])
def test_the_forms_agree_with_each_other(seed, x64):
    p = random_pair(3, seed)
    q = p[2:] + p[:2]
    bc, jeffreys, h2 = gaussian.bhattacharyya(*p), gaussian.jeffreys(*p), squared_hellinger(*p)
    assert jeffreys == approx(gaussian.kl(*p) + gaussian.kl(*q))
    assert gaussian.reverse_kl(*p) == approx(gaussian.kl(*q))
    assert h2 == approx(2 - 2 * bc)
    assert gaussian.renyi(*p, 0.5) == approx(-2 * jnp.log(bc))
    assert pearson(*p) == approx(jnp.exp(gaussian.renyi(*p, 2.0)) - 1)
    assert gaussian.alpha(*p, 0.5) == approx(2 * h2)
    assert gaussian.alpha(*p, 2.0) == approx(pearson(*p) / 2)
    assert gaussian.alpha(*p, -1.0) == approx(neyman(*p) / 2)
    assert gaussian.alpha(*p, 0.3) == approx(gaussian.alpha(*q, 0.7))
    assert 0.7 * gaussian.renyi(*p, 0.3) == approx(0.3 * gaussian.renyi(*q, 0.7))
    gjs = gaussian.geometric_js(*p)
    assert gjs == approx(jeffreys / 4 + jnp.log(bc))
    assert extended_geometric_js(*p) == approx(gjs - jnp.log(bc) + bc - 1)


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jeffreys", "renyi(0.3)", "renyi(1.6)", "wasserstein2"])
def test_independent_coordinates_add(name, x64):
    p = spread_out(random_pair(3), "dd")[0]
    alone = [forms(*(a[i : i + 1] for a in p))[name] for i in range(3)]
    assert forms(*p)[name] == approx(sum(alone), rel=1e-12)


@pytest.mark.parametrize("kinds", ["ff", "dd"])
@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
def test_orders_near_the_ends_tend_to_kl(kinds, gap, x64):
    p, _ = spread_out(random_pair(3), kinds)
    kl, reverse = gaussian.kl(*p), gaussian.reverse_kl(*p)
    for sign in (-1.0, 1.0):
        assert gaussian.renyi(*p, 1.0 + sign * gap) == approx(kl, rel=10 * gap)
        assert gaussian.alpha(*p, 1.0 + sign * gap) == approx(kl, rel=10 * gap)
        rounding = 1e-15 / gap  # ∫ p^α q^{1−α} is close to 1 there, and its logarithm is divided by α
        assert gaussian.alpha(*p, sign * gap) == approx(reverse, rel=10 * gap + rounding)


def test_renyi_increases_with_its_order(x64):
    p = random_pair(3)
    values = [float(gaussian.renyi(*p, a)) for a in (0.1, 0.5, 0.9, 1.1, 2.0, 3.0)]
    assert np.all(np.diff(values) > 0) and values[2] < gaussian.kl(*p) < values[3]


def test_geometric_js_ends(x64):
    """Deasy's mean leads from one divergence to the other, Nielsen's back to zero; their duals alike."""
    p = random_pair(3)
    forward, backward = gaussian.kl(*p), gaussian.reverse_kl(*p)
    ends = {
        ("nielsen", False): (0.0, 0.0),
        ("nielsen", True): (0.0, 0.0),
        ("deasy", False): (forward, backward),
        ("deasy", True): (backward, forward),
    }
    for (convention, dual), limits in ends.items():
        for a, limit in zip((0.0, 1.0), limits):
            value = partial(gaussian.geometric_js, *p, convention=convention, dual=dual)
            assert value(a) == approx(limit, abs=1e-12)
            assert value(abs(a - 1e-7)) == approx(limit, abs=1e-5)


# --- where the integral diverges -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "f, finite, infinite",
    [
        (pearson, np.diag([0.9, 1.9]), np.diag([0.9, 2.1])),
        (partial(gaussian.renyi, alpha=3.0), np.diag([1.4, 1.0]), np.diag([1.6, 1.0])),
        (partial(gaussian.alpha, alpha=-1.0), np.diag([0.6, 1.0]), np.diag([0.4, 1.0])),
        (neyman, np.diag([0.6, 1.0]), np.diag([0.4, 1.0])),
    ],
)
@pytest.mark.parametrize("diagonal", [False, True])
def test_infinite_without_spoiling_its_neighbours(f, finite, infinite, diagonal, x64):
    mean_p, mean_q = np.array([0.3, -0.2]), np.zeros(2)
    mix = np.eye(2) if diagonal else np.array([[1.0, 0.5], [-0.3, 2.0]])
    covs = np.stack([mix @ c @ mix.T for c in (finite, infinite)])
    cov_q = mix @ mix.T
    if diagonal:
        covs, cov_q = np.diagonal(covs, axis1=1, axis2=2).copy(), np.diag(cov_q).copy()
    batch = jax.jit(jax.vmap(jax.value_and_grad(f, argnums=(0, 1)), (None, 0, None, None)))
    spoilt, sound = (batch(mean_p, covs[rows], mean_q, cov_q) for rows in ([0, 1], [0, 0]))
    assert np.isfinite(sound[0][0]) and all(np.all(np.isfinite(g)) and np.any(g != 0.0) for g in sound[1])
    for one, two in zip(jax.tree.leaves(spoilt), jax.tree.leaves(sound)):
        np.testing.assert_array_equal(one[0], two[0])
    assert spoilt[0][1] == np.inf and all(np.all(g[1] == 0.0) for g in spoilt[1])


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("cov", [[1.0, -1.0, 1.0], [[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
def test_a_matrix_that_is_no_covariance_gives_nan(cov, name):
    mean, cov = np.zeros(3, np.float32), np.array(cov, np.float32)
    other = np.ones(3, np.float32) if cov.ndim == 1 else np.eye(3, dtype=np.float32)
    assert np.isnan(forms(mean, cov, mean, other)[name]) and np.isnan(forms(mean, other, mean, cov)[name])


# --- numerics --------------------------------------------------------------------------------------------------------
def nudged(arrays, directions, size):
    return [a + size * direction for a, direction in zip(arrays, directions)]


DISTINCT = ("kl", "squared_hellinger", "pearson", "alpha(-0.4)", "geometric_js(0.2, deasy, dual=True)", "wasserstein2")
"""One form of each way to a gradient; the others are sums and functions of these."""


@jax.jit
@partial(jax.grad, argnums=(1, 2, 3, 4))
def slopes(chosen, *pair):
    """Gradients of the form that the one-hot `chosen` picks: again one compilation a shape."""
    return sum(pick * FORMS[name](*pair) for pick, name in zip(chosen, DISTINCT))


def slopes_of(name, *pair):
    return slopes(np.array([float(name == other) for other in DISTINCT]), *pair)


@pytest.mark.parametrize("name", DISTINCT)
@pytest.mark.parametrize("kinds", ["ff", "dd"])
def test_gradient_equals_finite_differences(kinds, name, x64):
    short, _ = spread_out(random_pair(3), kinds)
    rng = np.random.default_rng(1)
    directions = [rng.normal(size=a.shape) for a in short]
    directions = [v + v.T if v.ndim == 2 else v for v in directions]
    ahead, behind = (forms(*nudged(short, directions, size))[name] for size in (1e-5, -1e-5))
    along = sum(np.sum(slope * v) for slope, v in zip(slopes_of(name, *short), directions))
    assert along == approx((ahead - behind) / 2e-5, rel=1e-6, abs=1e-8)


def test_gradient_of_the_equal_covariance_forms(x64):
    mean_p, _, mean_q, cov = random_pair(3)
    directions = np.array([1.0, 0.3, -0.5]), np.array([0.2, -1.0, 0.4]), np.diag([0.3, -0.2, 0.5])
    for f in map(jax.jit, EQUAL_COVARIANCE):
        gradient = jax.jit(jax.grad(f, argnums=(0, 1, 2)))
        ahead, behind = (f(*nudged((mean_p, mean_q, cov), directions, size)) for size in (1e-5, -1e-5))
        along = sum(np.sum(slope * v) for slope, v in zip(gradient(mean_p, mean_q, cov), directions))
        assert along == approx((ahead - behind) / 2e-5, rel=1e-7)
        assert all(jnp.all(slope == 0.0) for slope in gradient(mean_p, mean_p, cov))


@pytest.mark.parametrize("name", DISTINCT)
@pytest.mark.parametrize("kinds", ["ff", "dd"])
def test_gradient_vanishes_at_equality(kinds, name, x64):
    mean, cov = spread_out(random_pair(3), kinds)[0][:2]
    assert max(np.max(np.abs(slope)) for slope in slopes_of(name, mean, cov, mean, cov)) < 1e-13


CURVATURES = {
    "kl": 1.0,
    "squared_hellinger": 0.5,
    "extended_geometric_js": 0.25,
    "renyi(1.6)": 1.6,
    "geometric_js(0.2, nielsen, dual=False)": 0.16,
}


@pytest.mark.parametrize("name", CURVATURES)
def test_curvature_is_f_second_times_fisher(name, x64):
    """Near equality D_f ≈ ½ f''(1) dθᵀ I dθ; the Fisher information of a mean is Σ⁻¹."""
    mean, cov = random_pair(3)[:2]
    hessian = jax.jit(jax.hessian(DIVERGENCES[name]))(mean, cov, mean, cov)
    np.testing.assert_allclose(hessian, CURVATURES[name] * np.linalg.inv(cov), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kinds", ["ff", "dd"])
@pytest.mark.parametrize("name", FORMS)
def test_float32_equals_float64(name, kinds):
    short, _ = spread_out([a.astype(np.float32) for a in random_pair(3, spread=0.5)], kinds)
    single = forms(*short)[name]
    with jax.enable_x64(True):
        double = forms(*(a.astype(np.float64) for a in short))[name]
    assert single.dtype == np.float32 and single == approx(float(double), rel=2e-4)


@pytest.mark.parametrize("kinds", ["ff", "dd"])
@pytest.mark.parametrize("name", ["kl", "squared_hellinger", "pearson", "renyi(1.6)", "wasserstein2"])
def test_float32_resolves_close_gaussians(name, kinds):
    """Values near 1e-6, where tr − d − log det would lose nearly every digit."""
    mean, cov = random_pair(3)[:2]
    other = mean, cov * (1.0 + 1e-3 * np.eye(3)), mean + 1e-4, cov
    short, _ = spread_out([a.astype(np.float32) for a in other], kinds)
    with jax.enable_x64(True):
        double = float(forms(*(a.astype(np.float64) for a in short))[name])
    assert 1e-8 < double < 1e-5 and forms(*short)[name] == approx(double, rel=5e-3)


def test_orders_may_be_traced_and_pairs_mapped(x64):
    pairs = [np.stack(arrays) for arrays in zip(*(random_pair(3, seed) for seed in (1, 7, 10, 36)))]
    orders = np.array([0.3, 0.8, 1.2, 1.6])
    for f in (gaussian.renyi, gaussian.alpha, gaussian.geometric_js):
        alphas = orders / 2 if f is gaussian.geometric_js else orders
        mapped = jax.jit(jax.vmap(f))(*pairs, alphas)
        single = [f(*(a[i] for a in pairs), alphas[i]) for i in range(4)]
        np.testing.assert_allclose(mapped, single, rtol=1e-10)


# --- at the door -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "shapes, message",
    [
        (((2,), (2,), (3,), (3,)), "means of shape"),
        (((2, 2), (2,), (2, 2), (2,)), "vmap"),
        (((), (), (), ()), "means of shape"),
        (((2,), (3,), (2,), (2,)), "covariance of P"),
        (((2,), (2,), (2,), (2, 3)), "covariance of Q"),
        (((2,), (2,), (2,), ()), "covariance of Q"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(shapes, message):
    for f in (gaussian.kl, pearson, gaussian.wasserstein2, gaussian.geometric_js):
        with pytest.raises(ValueError, match=message):
            f(*(np.ones(shape) for shape in shapes))


def test_equal_covariance_forms_check_shapes_too():
    for f in EQUAL_COVARIANCE:
        with pytest.raises(ValueError, match="covariance of P"):
            f(np.ones(2), np.zeros(2), np.ones(3))


@pytest.mark.parametrize(
    "f, order, message",
    [
        *((gaussian.renyi, order, "use kl") for order in (1.0, 1, 0.0, -0.5, np.inf, np.nan)),
        *((gaussian.alpha, order, "use kl for 1 and reverse_kl for 0") for order in (0, 1.0, np.nan, -np.inf)),
        *((gaussian.geometric_js, order, r"\[0, 1\]") for order in (-0.1, 1.5, np.nan)),
        (partial(gaussian.geometric_js, convention="deasey"), 0.5, "choose nielsen or deasy"),
    ],
)
def test_orders_out_of_range_are_refused(f, order, message):
    with pytest.raises(ValueError, match=message):
        f(np.zeros(2), np.ones(2), np.ones(2), np.ones(2), order)


# --- by divergence ---------------------------------------------------------------------------------------------------
def test_closed_forms_are_found_by_divergence(x64):
    p = random_pair(3)
    for name, plain in (("kl", gaussian.kl), ("reverse_kl", gaussian.reverse_kl), ("jeffreys", gaussian.jeffreys)):
        assert gaussian.closed_form(divergence(name))(*p) == plain(*p)
    for order in (0.5, 1.5, -0.4):
        found = gaussian.closed_form(divergence(f"alpha({order})"))
        assert found(*p) == approx(gaussian.alpha(*p, order), rel=1e-14)


@pytest.mark.parametrize("name", ["kl", "alpha(0.5)", "alpha(x)", "alpha()", "mine"])
def test_a_divergence_of_the_user_has_no_closed_form_whatever_its_name(name):
    assert gaussian.closed_form(from_generator(name, lambda u: (u - 1.0) ** 2)) is None


def test_divergences_without_a_closed_form():
    assert all(gaussian.closed_form(divergence(name)) is None for name in ("js", "gan", "hockey_stick(2)"))


@pytest.mark.parametrize("log_scale", [-8.0, -16.0, -20.0, -40.0])
def test_a_narrow_gaussian_beside_a_wide_one_keeps_its_digits(log_scale):
    """float32: ½(σ² − 1) − log σ, where 1 + r has no digits left."""
    pair = np.zeros(1), np.exp([2.0 * log_scale]), np.zeros(1), np.ones(1)
    assert float(gaussian.kl(*pair)) == pytest.approx(-0.5 - log_scale, rel=1e-5)
    slope = jax.grad(lambda v: gaussian.kl(pair[0], jnp.exp(2.0 * v), *pair[2:]))(jnp.array([log_scale]))
    assert float(slope[0]) == pytest.approx(-1.0, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("derivative", [False, True])
@pytest.mark.parametrize("name", ["kl", "renyi", "wasserstein2"])
def test_many_pairs_end_on_two_threads(name, derivative):
    """Two factorisations of one program, each of many matrices, waited for one another for ever."""
    program = f"""
import jax, jax.numpy as jnp, numpy as np
from estimators.exact_values import gaussian
between = gaussian.{name}
value = (lambda *four: between(*four, 0.5)) if between is gaussian.renyi else between
value = jax.grad(value, argnums=(1, 3)) if {derivative} else value
a = jax.random.normal(jax.random.key(0), (10_000, 8, 8))
covariance, mean = a @ jnp.swapaxes(a, 1, 2) + jnp.eye(8)[None], jnp.zeros((10_000, 8))
found = jax.jit(jax.vmap(value))
for _ in range(5):
    jax.tree.map(np.asarray, found(mean, covariance, mean, covariance[::-1]))
"""
    environment = os.environ | {"NPROC": "2"}  # threads of the pool
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120)
