"""Closed forms between Gaussians: held against quadrature, against each other, and against their own limits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import integrate, linalg, stats

from estimators import gaussian

RENYI = {f"renyi({a})": partial(gaussian.renyi, alpha=a) for a in (0.3, 0.5, 1.6)}
ALPHA = {f"alpha({a})": partial(gaussian.alpha, alpha=a) for a in (-0.7, 0.4, 1.6)}
GEOMETRIC = {
    f"geometric_js({a}, {convention}, dual={dual})": partial(
        gaussian.geometric_js, alpha=a, convention=convention, dual=dual
    )
    for a in (0.5, 0.2)
    for convention in ("nielsen", "deasy")
    for dual in (False, True)
}
PLAIN = {
    f.__name__: f
    for f in (
        gaussian.kl,
        gaussian.reverse_kl,
        gaussian.jeffreys,
        gaussian.squared_hellinger,
        gaussian.pearson,
        gaussian.neyman,
        gaussian.extended_geometric_js,
    )
}
DIVERGENCES = PLAIN | RENYI | ALPHA | GEOMETRIC
EQUAL_COVARIANCE = (gaussian.total_variation_equal_covariance, gaussian.js_equal_covariance)


def random_pair(d, seed=0, spread=0.25):
    """(mean_p, cov_p, mean_q, cov_q), the covariances full and within a factor of about 1 ± spread of each other."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) / np.sqrt(d) + np.eye(d)
    eigenvectors = np.linalg.qr(rng.normal(size=(d, d)))[0]
    ratio = eigenvectors @ np.diag(1.0 + spread * rng.uniform(-1.0, 1.0, d)) @ eigenvectors.T
    return rng.normal(size=d), mix @ ratio @ mix.T, rng.normal(size=d), mix @ mix.T


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
        def mean(p, q):
            return (1.0 - share) * p + share * q - np.log(moment(1.0 - share))

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


def on_grid(pair, half_width=11.0, step=0.1):
    """Integrals in the plane by the trapezoidal rule, which converges geometrically for Gaussians."""
    axis = np.arange(-half_width, half_width + step / 2, step)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    log_p, log_q = (stats.multivariate_normal(pair[i], pair[i + 1]).logpdf(points) for i in (0, 2))
    return lambda function: np.sum(function(log_p, log_q)) * step**2


def on_line(mean_p, var_p, mean_q, var_q):
    """Integrals on the line by scipy's adaptive quadrature."""
    log_p, log_q = stats.norm(mean_p, var_p**0.5).logpdf, stats.norm(mean_q, var_q**0.5).logpdf

    def integral(function):
        return integrate.quad(
            lambda x: function(log_p(x), log_q(x)), -25, 25, points=[mean_p, mean_q], epsabs=1e-12, limit=300
        )[0]

    return integral


@pytest.fixture(scope="module", params=["ff", "fd", "df", "dd"])
def plane(request):
    short, full = spread_out(random_pair(2), request.param)
    return short, full, by_definition(on_grid(full))


@pytest.fixture(scope="module", params=[(0.3, 1.0, -0.4, 1.5), (1.0, 0.5, 0.0, 0.8), (0.0, 1.4, 0.0, 1.0)])
def line(request):
    return request.param, by_definition(on_line(*request.param))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_equals_its_definition_on_the_line(name, line, x64):
    parameters, truth = line
    assert DIVERGENCES[name](*([v] for v in parameters)) == pytest.approx(truth[name], rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_equals_its_definition_in_the_plane(name, plane, x64):
    short, full, truth = plane
    assert DIVERGENCES[name](*short) == pytest.approx(truth[name], rel=1e-9, abs=1e-11)
    assert DIVERGENCES[name](*full) == pytest.approx(truth[name], rel=1e-9, abs=1e-11)  # diagonal = full


@pytest.mark.parametrize("kinds", ["ff", "fd", "df", "dd"])
def test_wasserstein_equals_its_definition(kinds, x64):
    short, (mean_p, cov_p, mean_q, cov_q) = spread_out(random_pair(4, spread=0.9), kinds)
    root = linalg.sqrtm(cov_q)
    bures = np.trace(cov_p + cov_q - 2.0 * linalg.sqrtm(root @ cov_p @ root).real)
    assert gaussian.wasserstein2(*short) == pytest.approx(np.sum((mean_p - mean_q) ** 2) + bures, rel=1e-10)


# --- equal covariances -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("delta", [0.0, 1e-3, 0.1, 0.7, 2.0, 5.0, 8.6, 13.0, 25.0, 40.0])
def test_equal_covariance_forms_at_every_distance(delta, x64):
    def js(x):
        log_p, log_q = stats.norm.logpdf(x, delta / 2), stats.norm.logpdf(x, -delta / 2)
        log_m = np.logaddexp(log_p, log_q) - np.log(2.0)
        return 0.5 * (np.exp(log_p) * (log_p - log_m) + np.exp(log_q) * (log_q - log_m))

    exact_js = 2.0 * integrate.quad(js, 0.0, delta / 2 + 12.0, points=[delta / 2], epsabs=1e-13, limit=500)[0]
    mean, origin, unit = np.array([delta]), np.zeros(1), np.ones(1)
    assert gaussian.js_equal_covariance(mean, origin, unit) == pytest.approx(exact_js, rel=1e-9, abs=1e-12)
    exact_tv = stats.norm.cdf(delta / 2) - stats.norm.cdf(-delta / 2)
    assert gaussian.total_variation_equal_covariance(mean, origin, unit) == pytest.approx(exact_tv, abs=1e-14)


@pytest.mark.parametrize("kind", ["f", "d"])
def test_equal_covariance_forms_in_the_plane(kind, x64):
    mean_p, _, mean_q, cov = spread_out(random_pair(2, seed=3), "f" + kind)[0]
    integral = on_grid((mean_p, cov if kind == "f" else np.diag(cov)) + (mean_q, cov if kind == "f" else np.diag(cov)))

    def js(p, q):
        m = np.logaddexp(p, q) - np.log(2.0)
        return 0.5 * (np.exp(p) * (p - m) + np.exp(q) * (q - m))

    assert gaussian.js_equal_covariance(mean_p, mean_q, cov) == pytest.approx(integral(js), abs=1e-10)
    exact_tv = integral(lambda p, q: 0.5 * np.abs(np.exp(p) - np.exp(q)))  # a kink: the rule is of second order
    assert gaussian.total_variation_equal_covariance(mean_p, mean_q, cov) == pytest.approx(exact_tv, abs=1e-3)


@pytest.mark.parametrize("d, seed", [(1, 0), (3, 1), (6, 2)])
def test_inequalities_tie_the_forms_together(d, seed, x64):
    mean_p, _, mean_q, cov = random_pair(d, seed)
    pair = (mean_p, cov, mean_q, cov)
    tv, js = (f(mean_p, mean_q, cov) for f in EQUAL_COVARIANCE)
    h2, kl = gaussian.squared_hellinger(*pair), gaussian.kl(*pair)
    assert h2 / 2 < tv < jnp.sqrt(h2 * (1 - h2 / 4))
    assert tv < jnp.sqrt(kl / 2) and tv < jnp.sqrt(-jnp.expm1(-kl))
    assert tv**2 / 2 < js < min(tv * np.log(2.0), kl / 4 + 1e-12)


def test_equal_covariance_forms_saturate(dtype):
    for delta in (60.0, 1e4, 1e25):
        mean, origin, unit = np.full(1, delta, dtype), np.zeros(1, dtype), np.ones(1, dtype)
        for f, limit in zip(EQUAL_COVARIANCE, (1.0, np.log(2.0))):
            value, gradient = jax.value_and_grad(f)(mean, origin, unit)
            assert value == pytest.approx(limit, rel=1e-6) and jnp.all(gradient == 0.0)


# --- laws ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*DIVERGENCES, "wasserstein2"])
def test_zero_at_equality_only(name, dtype):
    f = DIVERGENCES.get(name, gaussian.wasserstein2)
    mean_p, cov_p, mean_q, cov_q = (a.astype(dtype) for a in random_pair(5))
    value = f(mean_p, cov_p, mean_p, cov_p)
    assert value.dtype == dtype and value.shape == ()
    assert abs(value) < 50 * np.finfo(dtype).eps
    assert f(mean_p, cov_p, mean_q, cov_p) > 0.01 and f(mean_p, cov_p, mean_p, cov_q) > 1e-3


@pytest.mark.parametrize("name", DIVERGENCES)
def test_invariant_under_a_common_affine_map(name, x64):
    mean_p, cov_p, mean_q, cov_q = random_pair(4)
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(4, 4)), 10.0 * rng.normal(size=4)
    mapped = (a @ mean_p + b, a @ cov_p @ a.T, a @ mean_q + b, a @ cov_q @ a.T)
    assert DIVERGENCES[name](*mapped) == pytest.approx(DIVERGENCES[name](mean_p, cov_p, mean_q, cov_q), rel=1e-9)


def test_wasserstein_under_motions_and_scaling(x64):
    mean_p, cov_p, mean_q, cov_q = random_pair(4)
    rotation = 3.0 * np.linalg.qr(np.random.default_rng(7).normal(size=(4, 4)))[0]
    mapped = (
        rotation @ mean_p + 1,
        rotation @ cov_p @ rotation.T,
        rotation @ mean_q + 1,
        rotation @ cov_q @ rotation.T,
    )
    value = gaussian.wasserstein2(mean_p, cov_p, mean_q, cov_q)
    assert gaussian.wasserstein2(*mapped) == pytest.approx(9.0 * value, rel=1e-10)
    assert gaussian.wasserstein2(mean_q, cov_q, mean_p, cov_p) == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_the_forms_agree_with_each_other(seed, x64):
    p = random_pair(4, seed)
    q = p[2:] + p[:2]
    bc, jeffreys, h2 = gaussian.bhattacharyya(*p), gaussian.jeffreys(*p), gaussian.squared_hellinger(*p)
    assert jeffreys == pytest.approx(gaussian.kl(*p) + gaussian.kl(*q))
    assert gaussian.reverse_kl(*p) == pytest.approx(gaussian.kl(*q))
    assert h2 == pytest.approx(2 - 2 * bc)
    assert gaussian.renyi(*p, 0.5) == pytest.approx(-2 * jnp.log(bc))
    assert gaussian.pearson(*p) == pytest.approx(jnp.exp(gaussian.renyi(*p, 2.0)) - 1)
    assert gaussian.alpha(*p, 0.5) == pytest.approx(2 * h2)
    assert gaussian.alpha(*p, 2.0) == pytest.approx(gaussian.pearson(*p) / 2)
    assert gaussian.alpha(*p, -1.0) == pytest.approx(gaussian.neyman(*p) / 2)
    assert gaussian.alpha(*p, 0.3) == pytest.approx(gaussian.alpha(*q, 0.7))
    assert 0.7 * gaussian.renyi(*p, 0.3) == pytest.approx(0.3 * gaussian.renyi(*q, 0.7))
    gjs = gaussian.geometric_js(*p)
    assert gjs == pytest.approx(jeffreys / 4 + jnp.log(bc))
    assert gaussian.extended_geometric_js(*p) == pytest.approx(gjs - jnp.log(bc) + bc - 1)


@pytest.mark.parametrize("kinds", ["ff", "fd", "dd"])
def test_independent_coordinates_add(kinds, x64):
    first, blocks = spread_out(random_pair(3), kinds)[0], spread_out(random_pair(2, 1), kinds)[0]
    joint = [np.concatenate([a, b]) if a.ndim == 1 else linalg.block_diag(a, b) for a, b in zip(first, blocks)]
    for f in (gaussian.kl, RENYI["renyi(1.6)"], gaussian.wasserstein2):
        assert f(*joint) == pytest.approx(f(*first) + f(*blocks), rel=1e-10)


@pytest.mark.parametrize("kinds", ["ff", "dd"])
@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
def test_orders_near_the_ends_tend_to_kl(kinds, gap, x64):
    p, _ = spread_out(random_pair(4), kinds)
    kl, reverse = gaussian.kl(*p), gaussian.reverse_kl(*p)
    for sign in (-1.0, 1.0):
        assert gaussian.renyi(*p, 1.0 + sign * gap) == pytest.approx(kl, rel=10 * gap)
        assert gaussian.alpha(*p, 1.0 + sign * gap) == pytest.approx(kl, rel=10 * gap)
        assert gaussian.alpha(*p, sign * gap) == pytest.approx(reverse, rel=10 * gap)


def test_renyi_increases_with_its_order(x64):
    p = random_pair(4)
    values = [float(gaussian.renyi(*p, a)) for a in (0.1, 0.5, 0.9, 1.1, 2.0, 3.0)]
    assert np.all(np.diff(values) > 0) and values[2] < gaussian.kl(*p) < values[3]


def test_geometric_js_ends(x64):
    """Deasy's mean leads from one divergence to the other, Nielsen's back to zero; their duals alike."""
    p = random_pair(4)
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
            assert value(a) == pytest.approx(limit, abs=1e-12)
            assert value(abs(a - 1e-7)) == pytest.approx(limit, abs=1e-5)


# --- where the integral diverges -------------------------------------------------------------------------------------
UNIT, WIDE, NARROW = np.eye(2), np.diag([0.9, 2.1]), np.diag([0.9, 1.9])


@pytest.mark.parametrize(
    "f, finite, infinite",
    [
        (gaussian.pearson, NARROW, WIDE),
        (partial(gaussian.renyi, alpha=2.0), NARROW, WIDE),
        (partial(gaussian.renyi, alpha=3.0), np.diag([1.4, 1.0]), np.diag([1.6, 1.0])),
        (partial(gaussian.alpha, alpha=2.0), NARROW, WIDE),
        (partial(gaussian.alpha, alpha=-1.0), np.diag([0.6, 1.0]), np.diag([0.4, 1.0])),
        (gaussian.neyman, np.diag([0.6, 1.0]), np.diag([0.4, 1.0])),
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
    alone = jax.value_and_grad(f, argnums=(0, 1))(mean_p, covs[0], mean_q, cov_q)
    batched = jax.vmap(jax.value_and_grad(f, argnums=(0, 1)), (None, 0))(mean_p, covs, mean_q, cov_q)
    assert jnp.isfinite(alone[0]) and jnp.all(alone[1][0] != 0.0)
    assert batched[0][1] == jnp.inf
    for one, two in zip(jax.tree.leaves(alone), jax.tree.leaves(batched)):
        np.testing.assert_allclose(two[0], one, rtol=1e-12)
    assert all(jnp.all(g[1] == 0.0) for g in batched[1])


@pytest.mark.parametrize("name", ["kl", "pearson", "squared_hellinger", "renyi(1.6)"])
@pytest.mark.parametrize("cov", [[1.0, -1.0], [[1.0, 2.0], [2.0, 1.0]]])
def test_a_matrix_that_is_no_covariance_gives_nan(name, cov):
    assert jnp.isnan(DIVERGENCES[name]([0.0, 0.0], cov, [0.0, 0.0], [1.0, 1.0]))


# --- numerics --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kinds", ["ff", "fd", "dd"])
@pytest.mark.parametrize("name", [*DIVERGENCES, "wasserstein2"])
def test_gradient_equals_finite_differences(name, kinds, x64):
    short, _ = spread_out(random_pair(3), kinds)
    f = DIVERGENCES.get(name, gaussian.wasserstein2)
    check_grads(f, short, order=1, modes=["rev"], rtol=1e-5, atol=1e-6)


def test_gradient_of_the_equal_covariance_forms(x64):
    mean_p, _, mean_q, cov = random_pair(3)
    for f in EQUAL_COVARIANCE:
        check_grads(f, (mean_p, mean_q, cov), order=1, modes=["rev"], rtol=1e-5, atol=1e-6)
        assert all(jnp.all(g == 0.0) for g in jax.grad(f, argnums=(0, 1, 2))(mean_p, mean_p, cov))


@pytest.mark.parametrize("name", [*DIVERGENCES, "wasserstein2"])
def test_gradient_vanishes_at_equality(name, dtype):
    mean, cov = (a.astype(dtype) for a in random_pair(3)[:2])
    for c in (cov, np.diag(cov).copy()):
        gradients = jax.grad(DIVERGENCES.get(name, gaussian.wasserstein2), argnums=(0, 1, 2, 3))(mean, c, mean, c)
        assert max(float(jnp.max(jnp.abs(g))) for g in gradients) < 1e3 * np.finfo(dtype).eps


CURVATURES = {
    "kl": 1.0,
    "jeffreys": 2.0,
    "squared_hellinger": 0.5,
    "pearson": 2.0,
    "extended_geometric_js": 0.25,
    "alpha(-0.7)": 1.0,
    "renyi(1.6)": 1.6,
    "geometric_js(0.5, nielsen, dual=False)": 0.25,
}


@pytest.mark.parametrize("name", CURVATURES)
def test_curvature_is_f_second_times_fisher(name, x64):
    """Near equality D_f ≈ ½ f''(1) dθᵀ I dθ; the Fisher information of a mean is Σ⁻¹."""
    mean, cov = random_pair(3)[:2]
    hessian = jax.hessian(DIVERGENCES[name])(mean, cov, mean, cov)
    np.testing.assert_allclose(hessian, CURVATURES[name] * np.linalg.inv(cov), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kinds", ["ff", "dd"])
@pytest.mark.parametrize("name", [*DIVERGENCES, "wasserstein2"])
def test_float32_equals_float64(name, kinds):
    f = DIVERGENCES.get(name, gaussian.wasserstein2)
    short, _ = spread_out([a.astype(np.float32) for a in random_pair(5, spread=0.5)], kinds)
    single = f(*short)
    with jax.enable_x64(True):
        double = f(*(a.astype(np.float64) for a in short))
    assert single.dtype == np.float32 and single == pytest.approx(float(double), rel=2e-4)


@pytest.mark.parametrize("kinds", ["ff", "dd"])
@pytest.mark.parametrize("name", ["kl", "squared_hellinger", "pearson", "renyi(1.6)", "wasserstein2"])
def test_float32_resolves_close_gaussians(name, kinds):
    """Values near 1e-6, where tr − d − log det would lose nearly every digit."""
    f = DIVERGENCES.get(name, gaussian.wasserstein2)
    mean, cov = random_pair(5)[:2]
    other = mean, cov * (1.0 + 1e-3 * np.eye(5)), mean + 1e-4, cov
    short, _ = spread_out([a.astype(np.float32) for a in other], kinds)
    with jax.enable_x64(True):
        double = float(f(*(a.astype(np.float64) for a in short)))
    assert 1e-8 < double < 1e-5 and f(*short) == pytest.approx(double, rel=5e-3)


def test_orders_may_be_traced_and_pairs_mapped(x64):
    pairs = [np.stack(arrays) for arrays in zip(*(random_pair(3, seed) for seed in range(4)))]
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
    for f in (gaussian.kl, gaussian.pearson, gaussian.wasserstein2, gaussian.geometric_js):
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
