"""Noisy curves against closed forms, SciPy's quadrature, their own samples and scikit-learn's generators."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from estimators.distributions.curves import Arc, Curve
from estimators.distributions.examples import swiss_roll, two_moons

CURVES = {"two_moons": two_moons(), "swiss_roll": swiss_roll()}
each = pytest.mark.parametrize("name", CURVES)
KEY = jax.random.key(7)
N = 8_000
PI = math.pi


def exact_moments(name: str, sigma: float) -> tuple[np.ndarray, float]:
    """(E x, E‖x‖²): integrals of the parametrisations over t, done by hand."""
    if name == "two_moons":
        return np.array([0.5, 0.25]), 0.5 * (3.25 - 2.0 / PI) + 2.0 * sigma**2
    return np.array([2.0, 2.0 / (3.0 * PI)]), 9.75 * PI**2 + 2.0 * sigma**2


def position(name: str, u: float) -> tuple[float, float]:
    """The curve at u, from the formulas as scikit-learn states them."""
    if name == "swiss_roll":
        t = 1.5 * PI * (1.0 + 2.0 * u)
        return t * math.cos(t), t * math.sin(t)
    t = 2.0 * PI * (u % 0.5)
    return (math.cos(t), math.sin(t)) if u < 0.5 else (1.0 - math.cos(t), 0.5 - math.sin(t))


def drawn(name: str, n: int = N) -> np.ndarray:
    return np.asarray(CURVES[name].sample(KEY, n), np.float64)


@each
def test_places_are_those_of_the_formula(name):
    u = np.linspace(0.0, 1.0, 40, endpoint=False)
    np.testing.assert_allclose(CURVES[name].at(u), [position(name, v) for v in u], atol=1e-14)
    inexact = CURVES[name].at(jnp.asarray(u, jnp.float32), jnp)
    assert inexact.dtype == np.float32
    np.testing.assert_allclose(inexact[:19], CURVES[name].at(u)[:19], atol=1e-5)


@each
def test_density_integrates_to_one_with_its_moments(name, x64):
    """By the trapezoidal rule in the plane, and in the mixture that stands for the curve."""
    curve = CURVES[name]
    mean, square = exact_moments(name, curve.sigma)
    law = curve.mixture()
    weights, means = np.array(law.weights), np.array(law.means)
    np.testing.assert_allclose(weights @ means, mean, rtol=1e-12)
    assert weights @ (means**2).sum(axis=1) + 2.0 * curve.sigma**2 == pytest.approx(square, rel=1e-12)
    low, high, step = means.min(axis=0) - 7 * curve.sigma, means.max(axis=0) + 7 * curve.sigma, 0.9 * curve.sigma
    grid = np.stack(np.meshgrid(*(np.arange(a, b, step) for a, b in zip(low, high))), axis=-1).reshape(-1, 2)
    mass = step**2 * np.exp(np.asarray(curve.log_prob(grid)))
    assert mass.sum() == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_allclose(mass @ grid, mean, atol=1e-8)
    assert mass @ (grid**2).sum(axis=1) == pytest.approx(square, rel=1e-9)


@each
def test_density_is_scipys_integral_along_the_curve(name, x64):
    """On the curve, within its noise, between its arcs and beyond its ends."""
    curve, length = CURVES[name], len(CURVES[name].arcs) * CURVES[name].steps(1.0)
    start, inside = np.array(position(name, 0.0)), np.array(position(name, 0.3))
    points = np.array([inside, inside + 2 * curve.sigma, start - 4 * curve.sigma, 0.2 * start, -1.3 * start])
    edges = np.unique(np.append(np.linspace(0.0, 1.0, length // 4), 0.5))

    def density(point):
        def at(u):
            x, y = position(name, u)
            return math.exp(-0.5 * ((x - point[0]) ** 2 + (y - point[1]) ** 2) / curve.sigma**2)

        parts = [integrate.quad(at, a, b - 1e-15 * (b == 0.5), epsabs=0.0)[0] for a, b in pairwise(edges)]
        return sum(parts) / (2.0 * PI * curve.sigma**2)

    exact = np.log([density(point) for point in points])
    np.testing.assert_allclose(curve.log_prob(points), exact, rtol=1e-10, atol=1e-10)


@each
def test_log_prob_has_the_precision_of_its_points(name):
    x = drawn(name, 50)
    single = CURVES[name].log_prob(jnp.asarray(x, jnp.float32))
    assert single.dtype == np.float32 and single.shape == (50,)
    with jax.enable_x64(True):
        double = CURVES[name].log_prob(x)
        assert double.dtype == np.float64
    np.testing.assert_allclose(single, double, atol=1e-4)


@each
def test_samples_follow_the_density(name):
    """Means, mean square and mean log-density within five standard errors."""
    curve, x = CURVES[name], drawn(name)
    mean, square = exact_moments(name, curve.sigma)
    assert np.all(np.abs(x.mean(axis=0) - mean) < 5.0 * x.std(axis=0) / math.sqrt(N))
    squares = (x**2).sum(axis=1)
    assert abs(squares.mean() - square) < 5.0 * squares.std() / math.sqrt(N)
    with jax.enable_x64(True):
        log_p = np.asarray(curve.log_prob(x))
    assert abs(log_p.mean() + curve.entropy()) < 5.0 * log_p.std() / math.sqrt(N)


@each
def test_samples_are_spread_evenly_along_and_normally_across(name):
    curve = CURVES[name]
    distance, u = curve.nearest(drawn(name))
    counts = np.histogram(u, 20, (0.0, 1.0))[0]
    assert stats.chisquare(counts).pvalue > 1e-4 and stats.kstest(u, "uniform").pvalue > 1e-4
    assert stats.kstest(distance[:2000] / curve.sigma, "halfnorm").pvalue > 1e-4


@each
def test_the_nearest_place_is_the_nearest(name):
    curve, x = CURVES[name], drawn(name, 40)
    u = np.linspace(0.0, 1.0, 40_000, endpoint=False)
    distances = np.linalg.norm(x[:, None] - curve.at(u)[None], axis=-1)
    distance, place = curve.nearest(x)
    np.testing.assert_allclose(distance, distances.min(axis=1), atol=curve.sigma / 30)
    np.testing.assert_allclose(np.linalg.norm(x - curve.at(place), axis=1), distance, rtol=1e-12)


@each
def test_scikit_learn_draws_from_the_same_law(name):
    """Means, mean square and mean log-density within five standard errors; its moons are stratified, which is finer."""
    datasets = pytest.importorskip("sklearn.datasets")
    curve = CURVES[name]
    if name == "two_moons":
        x = datasets.make_moons(N, noise=curve.sigma, random_state=0)[0]
    else:
        x = datasets.make_swiss_roll(N, noise=curve.sigma, random_state=0)[0][:, [0, 2]]
    mean, square = exact_moments(name, curve.sigma)
    squares = (x**2).sum(axis=1)
    assert np.all(np.abs(x.mean(axis=0) - mean) < 5.0 * x.std(axis=0) / math.sqrt(N))
    assert abs(squares.mean() - square) < 5.0 * squares.std() / math.sqrt(N)
    with jax.enable_x64(True):
        log_p = np.asarray(curve.log_prob(x))
    assert abs(log_p.mean() + curve.entropy()) < 5.0 * log_p.std() / math.sqrt(N)


@each
def test_samples_follow_from_the_key(name, dtype):
    x = CURVES[name].sample(KEY, 50)
    assert x.shape == (50, 2) and x.dtype == np.float32  # in either precision the same
    np.testing.assert_array_equal(x, CURVES[name].sample(KEY, 50))
    assert np.all(np.asarray(x) != np.asarray(CURVES[name].sample(jax.random.key(8), 50)))


@pytest.mark.parametrize("wrong", [{"arcs": ()}, {"sigma": 0.0}, {"sigma": math.nan}, {"sigma": math.inf}])
def test_bad_curves_are_refused(wrong):
    good = {"arcs": (Arc(start=0.0, end=1.0, radius=1.0),), "sigma": 0.1}
    Curve(**good)
    with pytest.raises(ValueError, match="at least one arc and a positive sigma"):
        Curve(**good | wrong)
