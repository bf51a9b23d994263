"""Exact divergences on the line and in the plane against closed forms and theorems."""

import math
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from estimators.distributions.elliptical import Gaussian
from estimators.distributions.examples import FGAN_MIXTURE, RIDGE, TWO_MODES
from estimators.divergences.families import alpha
from estimators.divergences.generator import from_generator
from estimators.divergences.table import divergence
from estimators.exact_values import gaussian
from estimators.exact_values.moments import OF_MOMENTS
from estimators.exact_values.quadrature import PLANE, exact_bound, exact_divergence, integrate

LOG2, INF = math.log(2.0), math.inf
KINDS = [  # finite limits, infinite on either side and on both, f(1) ≠ 0, a kink, powers, nothing but a generator
    *map(divergence, ("js", "kl", "neyman", "geometric_js", "gan", "hockey_stick(2)", "alpha(1.5)")),
    from_generator("derived", lambda u: (u - 1.0) ** 2 / (u + 1.0)),
]
every_kind = pytest.mark.parametrize("d", KINDS, ids=repr)


@lru_cache  # the mass of one function is integrated once
def bell(mean, sigma):
    """log N(mean, sigma²), in three operations."""
    return lambda x: -0.5 * ((x - mean) / sigma) ** 2 - math.log(sigma * math.sqrt(2.0 * math.pi))


@lru_cache
def uniform(low, high):
    return lambda x: jnp.where((low <= x) & (x <= high), -math.log(high - low), -jnp.inf)


def laplace(x):
    return -jnp.abs(x) - LOG2


def cauchy(x):
    return -jnp.log1p(x * x) - math.log(math.pi)


NORMAL = bell(0.0, 1.0)
P, Q = bell(0.4, 0.8), bell(-0.2, 1.0)  # every divergence is finite, pearson and neyman included


# --- integrals -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("function", "support", "value"),
    [
        (lambda x: jnp.exp(-(x**2)), (-INF, INF), math.sqrt(math.pi)),
        (lambda x: jnp.exp(-(((x - 4.0) / 0.01) ** 2)), (-INF, INF), 0.01 * math.sqrt(math.pi)),  # narrow
        (lambda x: x * jnp.exp(-x), (0.0, INF), 1.0),
        (lambda x: jnp.exp(x), (-INF, 1.0), math.e),
        (lambda x: jnp.abs(x - 1.0 / 3.0), (0.0, 1.0), 5.0 / 18.0),  # a kink
        (lambda x: jnp.where(x > 1.0 / 3.0, 1.0, 0.0), (0.0, 1.0), 2.0 / 3.0),  # a jump
        (lambda x: x**-0.5, (0.0, INF), INF),
        (np.cos, (0.0, 1.0), math.sin(1.0)),  # plain NumPy
        (lambda x: 1.0 / (1.0 + x**2), (-INF, INF), math.pi),
        (lambda x: 1.0 / x, (0.0, 1.0), INF),
        (lambda x: -1.0 / (1.0 + x), (0.0, INF), -INF),
        (jnp.ones_like, (-INF, INF), INF),
        (jnp.exp, (0.0, INF), INF),
    ],
)
def test_integrate(function, support, value):
    assert integrate(function, support) == pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("power", [-0.3, -0.5, -0.75])
def test_integrate_over_a_pole(power):
    """Less exact, since halving panels never gets past it, but finite."""
    assert integrate(lambda x: x**power, (0.0, 1.0)) == pytest.approx(1.0 / (1.0 + power), rel=1e-3)


def test_integrate_refuses():
    with pytest.raises(ValueError, match="lower end must lie below"):
        integrate(jnp.exp, (1.0, 1.0))
    with pytest.raises(ValueError, match="NaN at x"):
        integrate(jnp.log, (-1.0, 1.0))


def test_results_are_float64_floats_whatever_the_precision_of_the_caller(dtype):
    found = exact_divergence(P, Q, "kl")
    assert type(found) is float
    assert found == pytest.approx(float(stats_kl(0.4, 0.8, -0.2, 1.0)), rel=1e-14)


def stats_kl(mean_p, sigma_p, mean_q, sigma_q):
    return math.log(sigma_q / sigma_p) + (sigma_p**2 + (mean_p - mean_q) ** 2) / (2.0 * sigma_q**2) - 0.5


@pytest.mark.parametrize(
    ("log_p", "log_q", "name"),
    [
        (NORMAL, lambda x: -0.5 * x**2, "q"),  # not normalised
        (bell(-9.0, 1.0), NORMAL, "p"),  # outside the support
    ],
)
def test_densities_without_their_mass_are_refused(log_p, log_q, name):
    """The message says where peaks were found."""
    with pytest.raises(ValueError, match=rf"density {name} integrates to .* Peaks found there.*\(width"):
        exact_divergence(log_p, log_q, "kl", support=(-INF, INF) if name == "q" else (-6.0, 60.0))
    with pytest.raises(ValueError, match=r"density p integrates to 0 .* away from 0: none"):
        exact_divergence(uniform(1e6 + 0.1, 1e6 + 0.2), NORMAL, "kl")


def pair(log_density):
    """Two halves of it, at -50 and at 100."""
    return lambda x: jnp.logaddexp(log_density(x + 50.0), log_density(x - 100.0)) - LOG2


FAR = {
    **{f"N({m:g}, {s:g})": (bell(m, s), bell(m + s, 2 * s), None) for m, s in ((100.0, 1.0), (1e6, 1.0), (0.0, 1e-6))},
    "far and narrow": (bell(-3e4, 1e-3), bell(-3e4 + 1e-3, 2e-3), None),
    "between the nodes": (bell(40.0, 1e-3), bell(40.001, 2e-3), (-6.0, 60.0)),
    "half a line": (bell(300.0, 0.1), bell(300.1, 0.2), (1.0, INF)),
    "two narrow peaks": (pair(bell(0.0, 1e-4)), pair(bell(1e-4, 2e-4)), None),
    "heavy tails": (
        lambda x: cauchy((x - 1e5) * 10) + math.log(10),
        lambda x: cauchy((x - 1e5) * 5) + math.log(5),
        None,
    ),
}


@pytest.mark.parametrize("case", FAR)
def test_mass_is_found_far_from_zero_and_in_narrow_peaks(case):
    """An affine map of both changes nothing: the value is that of N(0, 1) and N(1, 4), or of two Cauchy densities."""
    log_p, log_q, support = FAR[case]
    expected = math.log(9.0 / 8.0) if case == "heavy tails" else stats_kl(0.0, 1.0, 1.0, 2.0)
    given = {} if support is None else {"support": support}
    assert exact_divergence(log_p, log_q, "kl", **given) == pytest.approx(expected, rel=1e-8)


def test_a_narrow_density_inside_a_wide_one():
    expected = math.log(1e6) - 0.5 + 0.5e-12
    assert exact_divergence(bell(0.0, 1e-6), NORMAL, "kl") == pytest.approx(expected, rel=1e-10)
    assert exact_divergence(NORMAL, bell(100.0, 1e-4), "js") == pytest.approx(LOG2, rel=1e-9)


# --- closed forms ----------------------------------------------------------------------------------------------------
PAIRS = [
    (0.4, 0.8, -0.2, 1.0),
    (0.0, 1.0, 0.0, 1.3),
    (-3.0, 0.5, 3.0, 0.6),
    (0.0, 1.0, 0.1, 0.6),
    (1.0, 1.0, 0.0, 50.0),
]
CLOSED = [*OF_MOMENTS, "alpha(0.5)", "alpha(1.5)", "alpha(2)", "alpha(-1)"]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", CLOSED)
def test_gaussians(name, pair, x64):
    """Infinite exactly where the closed form is."""
    mean_p, sigma_p, mean_q, sigma_q = pair
    closed = float(gaussian.closed_form(divergence(name))([mean_p], [sigma_p**2], [mean_q], [sigma_q**2]))
    exact = exact_divergence(bell(mean_p, sigma_p), bell(mean_q, sigma_q), name)
    assert exact == pytest.approx(closed, rel=1e-8)


@pytest.mark.parametrize("order", [0.3, 0.5, 2.0, 3.5])
def test_renyi_through_alpha(order, x64):
    """D_α = log(1 + α(α − 1) D_{alpha(α)}) / (α − 1)."""
    value = exact_divergence(P, Q, alpha(order))
    renyi = math.log1p(order * (order - 1.0) * value) / (order - 1.0)
    assert renyi == pytest.approx(float(gaussian.renyi([0.4], [0.64], [-0.2], [1.0], order)), rel=1e-9)


@pytest.mark.parametrize("shift", [0.01, 1.0, 5.0])
def test_gaussians_of_equal_variance(shift, x64):
    p, q = bell(0.0, 1.3), bell(shift, 1.3)
    at = ([0.0], [shift], [1.69])
    js = float(gaussian.js_equal_covariance(*at))
    assert exact_divergence(p, q, "js") == pytest.approx(js, rel=1e-8)
    assert exact_divergence(p, q, "gan") == pytest.approx(2.0 * js - 2.0 * LOG2, rel=1e-8)
    total_variation = float(gaussian.total_variation_equal_covariance(*at))
    assert exact_divergence(p, q, "tv") == pytest.approx(total_variation, rel=1e-8)


@pytest.mark.parametrize("gamma", [1.0, 1.5, 4.0])
def test_hockey_stick_is_the_privacy_curve_of_the_gaussian_mechanism(gamma):
    """δ = Φ(s/2 − ε/s) − e^ε Φ(−s/2 − ε/s), ε = log γ (Balle, Wang 2018, theorem 8)."""
    s, epsilon = 0.9, math.log(gamma)
    delta = stats.norm.cdf(s / 2 - epsilon / s) - gamma * stats.norm.cdf(-s / 2 - epsilon / s)
    exact = exact_divergence(bell(s, 1.0), NORMAL, f"hockey_stick({gamma})")
    assert exact == pytest.approx(delta, rel=1e-7)


@every_kind
def test_a_distribution_and_itself(d):
    assert exact_divergence(cauchy, cauchy, d) == pytest.approx(d.value_at_one, abs=1e-15)


UNIFORMS = {
    "overlapping": ((0.0, 2.0), (1.0, 3.0)),
    "ragged": ((0.1, 1.3), (0.77, 2.9)),
    "P within Q": ((0.0, 1.0), (-0.5, 1.5)),
    "Q within P": ((0.0, 2.0), (0.5, 1.0)),
    "disjoint": ((0.0, 1.0), (2.0, 3.0)),
}


@pytest.mark.slow
@every_kind
@pytest.mark.parametrize("case", UNIFORMS)
def test_uniforms(d, case):
    """q f(p/q) on the overlap, f'(∞) for the mass of P outside Q, f(0) for that of Q outside P; inf where they are."""
    (a, b), (low, high) = UNIFORMS[case]
    overlap = max(min(b, high) - max(a, low), 0.0)
    with jax.enable_x64(True):
        f = float(d.f(jnp.asarray((high - low) / (b - a))))
    only_p, only_q = 1.0 - overlap / (b - a), 1.0 - overlap / (high - low)
    by_hand = overlap / (high - low) * f
    by_hand += only_p * d.slope_at_infinity if only_p > 0.0 else 0.0
    by_hand += only_q * d.value_at_zero if only_q > 0.0 else 0.0
    exact = exact_divergence(uniform(a, b), uniform(low, high), d, support=(min(a, low), max(b, high)))
    assert exact == pytest.approx(by_hand, rel=1e-7, abs=1e-7)
    if case == "disjoint":
        assert by_hand == d.upper_limit()


@pytest.mark.parametrize("square", [0.5, 1.9, 1.999, 2.0, 2.001, 2.1, 5.0])
def test_neyman_is_infinite_from_twice_the_variance(square):
    """∫ q²/p − 1 = 1/(s √(2 − s²)) − 1 for N(0, 1) and N(0, s²), s² < 2."""
    exact = exact_divergence(NORMAL, bell(0.0, math.sqrt(square)), "neyman")
    expected = 1.0 / math.sqrt(square * (2.0 - square)) - 1.0 if square < 2.0 else INF
    assert exact == pytest.approx(expected, rel=1e-8)


TAILS = [  # infinite where the first argument's tail is too heavy for the second
    (laplace, NORMAL, "kl", 0.5 * math.log(2.0 * math.pi) - LOG2),
    (laplace, NORMAL, "pearson", INF),
    (NORMAL, laplace, "kl", LOG2 - 0.5 * math.log(2.0 * math.pi) - 0.5 + math.sqrt(2.0 / math.pi)),
    (cauchy, NORMAL, "kl", INF),
    (cauchy, laplace, "kl", INF),
    (cauchy, NORMAL, "alpha(1.5)", INF),
    (cauchy, NORMAL, "geometric_js", INF),
    (NORMAL, cauchy, "reverse_kl", INF),
    (NORMAL, cauchy, "jeffreys", INF),
]


@pytest.mark.slow
@pytest.mark.parametrize(("log_p", "log_q", "name", "value"), TAILS)
def test_tails(log_p, log_q, name, value):
    assert exact_divergence(log_p, log_q, name) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("d", [d for d in KINDS if d.upper_limit() < INF], ids=repr)
def test_bounded_divergences_stay_finite_between_any_tails(d):
    for log_p, log_q in ((laplace, NORMAL), (cauchy, NORMAL), (NORMAL, cauchy)):
        assert d.value_at_one <= exact_divergence(log_p, log_q, d) < d.upper_limit()


# --- theorems --------------------------------------------------------------------------------------------------------
def pushed(log_prob, inverse, log_slope):
    """The density of y = h(x): log p(h⁻¹(y)) + log |dh⁻¹/dy|."""
    return lambda y: log_prob(inverse(y)) + log_slope(y)


@every_kind
def test_invariance_under_a_common_invertible_map(d):
    """exp onto the half line, sinh with its polynomial tails, and an affine map that turns the line round."""
    truth = exact_divergence(P, Q, d)
    maps = [
        (jnp.log, lambda y: -jnp.log(y), (0.0, INF)),
        (jnp.arcsinh, lambda y: -0.5 * jnp.log1p(y * y), (-INF, INF)),
        (lambda y: (5.0 - y) / 100.0, lambda y: -math.log(100.0), (-INF, INF)),
    ]
    for inverse, log_slope, support in maps:
        p, q = (pushed(density, inverse, log_slope) for density in (P, Q))
        assert exact_divergence(p, q, d, support=support) == pytest.approx(truth, rel=1e-9, abs=1e-9)


@every_kind
def test_swap_is_the_reversed_generator(d):
    for p, q in ((P, Q), (uniform(-1.0, 0.0), uniform(-3.0, 3.0))):
        swapped = exact_divergence(q, p, d, support=(-8.0, 8.0))
        reversed_ = exact_divergence(p, q, d.reversed(), support=(-8.0, 8.0))
        assert reversed_ == pytest.approx(swapped, rel=1e-8, abs=1e-8)


@every_kind
def test_data_processing(d, x64):
    """Binning loses: coarser and coarser bins, each a function of the one before, never add."""
    edges = np.concatenate([[-INF], np.linspace(-3.0, 3.0, 15), [INF]])
    p, q = (np.diff(stats.norm(*pair).cdf(edges)) for pair in ((0.4, 0.8), (-0.2, 1.0)))
    values = [exact_divergence(P, Q, d)]
    while p.size > 1:
        values.append(float(q @ d.f(jnp.asarray(np.resize(p / q, 16)))[: q.size]))
        p, q = p.reshape(-1, 2).sum(1), q.reshape(-1, 2).sum(1)
    values.append(d.value_at_one)
    assert np.all(np.diff(values) <= 1e-10) and values[1] < values[0]


@every_kind
def test_between_zero_and_the_upper_limit(d):
    for sigma in (1e-2, 0.9, 1e2):
        exact = exact_divergence(NORMAL, bell(1.0, sigma), d)
        assert d.value_at_one < exact <= d.upper_limit()


def test_kinked_generators_of_the_user():
    """Whatever their slope at 1, which b(u − 1) changes and the divergence does not."""
    kinked = from_generator("kinked", lambda u: 3.0 * (u - 1.0) + jnp.maximum(u - 2.0, 0.0), smooth=False)
    stick = exact_divergence(P, Q, "hockey_stick(2)")
    assert exact_divergence(P, Q, kinked) == pytest.approx(stick, abs=1e-10)


# --- bounds ----------------------------------------------------------------------------------------------------------
def critics(n, seed=0):
    """Random bounded functions of the line, from nearly flat to far off the log-ratio."""
    for a, b, c, d in np.random.default_rng(seed).normal(size=(n, 4)) * [2.0, 1.5, 1.0, 1.0]:
        yield lambda x, a=a, b=b, c=c, d=d: a * jnp.tanh(b * x + c) + d * jnp.sin(b * x - c)


@every_kind
@pytest.mark.parametrize("activation", ["log_ratio", "paper"])
def test_no_critic_exceeds_the_divergence(d, activation):
    truth = exact_divergence(P, Q, d)
    for critic in critics(3):
        assert exact_bound(P, Q, critic, d, activation=activation) <= truth + 1e-8


@pytest.mark.parametrize("d", KINDS[:-1], ids=repr)  # a derived activation saturates
def test_bound_is_tight_at_the_log_ratio(d):
    """Where f has a kink, T is a step: the paper's activation tends to it as the critic grows steep."""
    steep, threshold = (1.0, 0.0) if d.smooth else (1e4, math.log(2.0) * (d.name == "hockey_stick(2)"))

    def critic(x):
        return steep * (P(x) - Q(x) - threshold)

    bound = exact_bound(P, Q, critic, d)
    truth = exact_divergence(P, Q, d)
    assert bound == pytest.approx(truth, abs=1e-8 if d.smooth else 1e-6)


def test_a_worse_critic_gives_a_lower_bound():
    bounds = [
        exact_bound(P, Q, lambda x, a=a: a * (P(x) - Q(x)), "js", support=(-12, 12)) for a in (1.0, 0.7, 0.3, 0.0)
    ]
    assert np.all(np.diff(bounds) < 0.0) and bounds[-1] == pytest.approx(0.0, abs=1e-9)


# --- the plane -------------------------------------------------------------------------------------------------------
WIDE = Gaussian(location=np.array([-0.2, 0.1]), scatter=np.array([[1.0, -0.3], [-0.3, 0.8]]))
NARROW = Gaussian(location=np.array([0.4, -0.3]), scatter=np.array([[0.7, 0.2], [0.2, 0.5]]))
BOX = ((-8.0, 8.0), (-8.0, 8.0))


@pytest.mark.parametrize(
    ("function", "support", "value"),
    [
        (lambda x: jnp.exp(-jnp.sum(x**2, axis=1)), PLANE, math.pi),
        (lambda x: x[:, 0] * x[:, 1] ** 2, ((0.0, 2.0), (-1.0, 3.0)), 2.0 * 28.0 / 3.0),
        (lambda x: jnp.exp(x[:, 1]) / (1.0 + x[:, 0] ** 2), (PLANE[0], (0.0, 1.0)), math.pi * math.expm1(1.0)),
        (lambda x: jnp.exp(jnp.sum(x**2, axis=1)), PLANE, INF),
    ],
)
def test_integrate_over_the_plane(function, support, value):
    assert integrate(function, support, tol=1e-6) == pytest.approx(value, rel=1e-6)


def test_integrate_over_the_plane_refuses(monkeypatch):
    with pytest.raises(ValueError, match="whole line or a finite interval"):
        integrate(lambda x: x[:, 0], ((0.0, INF), (0.0, 1.0)))
    with pytest.raises(ValueError, match="lower end must lie below"):
        integrate(lambda x: x[:, 0], ((0.0, 1.0), (1.0, 1.0)))
    with pytest.raises(ValueError, match="NaN at x"):
        integrate(lambda x: jnp.log(x[:, 0]), ((-1.0, 1.0), (0.0, 1.0)))
    monkeypatch.setattr("estimators.exact_values.quadrature.FINEST", 256)
    with pytest.raises(ValueError, match="does not settle"):
        integrate(lambda x: jnp.where(x[:, 0] > 0.3, 1.0, 0.0), ((0.0, 1.0), (0.0, 1.0)))
    with pytest.raises(ValueError, match=r"density p integrates to 2.*Peaks found there"):
        exact_divergence(lambda x: WIDE.log_prob(x) + LOG2, WIDE.log_prob, "kl", PLANE)


def test_mass_is_found_in_the_plane():
    """Far from the origin and narrow: as N(0, C) and N(e₁, 4C), by the affine map."""
    at, root = np.array([3e4, -2.0]), 1e-2 * np.array([[1.0, 0.0], [0.5, 0.8]])
    log_p, log_q = (
        Gaussian(location=at + shift * root[:, 0], scatter=scale**2 * root @ root.T).log_prob
        for shift, scale in ((0.0, 1.0), (1.0, 2.0))
    )
    expected = 2.0 * math.log(2.0) + 0.5 * (2.0 / 4.0 + 1.0 / 4.0 - 2.0)
    assert exact_divergence(log_p, log_q, "kl", PLANE, tol=1e-7) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["kl", "pearson", "neyman", "squared_hellinger"])
def test_gaussians_in_the_plane(name, x64):
    """Of any covariance; infinite where the closed form is, as neyman is here."""
    at = (NARROW.location, NARROW.scatter, WIDE.location, WIDE.scatter)
    exact = exact_divergence(NARROW.log_prob, WIDE.log_prob, name, PLANE)
    assert exact == pytest.approx(float(gaussian.closed_form(divergence(name))(*at)), rel=1e-10)
    assert (exact == INF) == (name == "neyman")


@pytest.mark.parametrize("name", ["js", "triangular", "total_variation"])
def test_a_coordinate_shared_by_both_adds_nothing(name):
    """D_f(P × G‖Q × G) = D_f(P‖Q), by the routine of the line."""

    def in_the_plane(density):
        return lambda x: density(x[:, 0]) + bell(0.3, 0.9)(x[:, 1])

    kinked = not divergence(name).smooth
    exact = exact_divergence(in_the_plane(P), in_the_plane(Q), name, PLANE, tol=1e-4 if kinked else 1e-11)
    assert exact == pytest.approx(exact_divergence(P, Q, name), abs=1e-4 if kinked else 1e-10)


def test_kl_adds_over_independent_coordinates():
    pairs = [(FGAN_MIXTURE.log_prob, Q), (TWO_MODES.log_prob, bell(0.5, 2.0))]
    p, q = (lambda x, i=i: sum(pair[i](x[:, k]) for k, pair in enumerate(pairs)) for i in (0, 1))
    parts = [exact_divergence(*pair, "kl") for pair in pairs]
    assert exact_divergence(p, q, "kl", PLANE, tol=1e-8) == pytest.approx(sum(parts), rel=1e-8)


def test_invariance_under_rotation():
    turn = np.array([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]])
    still, turned = (
        exact_divergence(
            lambda x, m=m: RIDGE.log_prob(x @ m), lambda x, m=m: WIDE.log_prob(x @ m), "reverse_kl", PLANE, tol=1e-9
        )
        for m in (np.eye(2), turn)
    )
    assert turned == pytest.approx(still, rel=1e-9)
