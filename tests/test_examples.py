"""Example distributions against SciPy and their own samples."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from estimators.distributions.examples import FGAN_MIXTURE, MIXTURES, TARGETS, TWO_MODES, normal, ring
from estimators.distributions.mixture import Mixture
from estimators.exact_values.quadrature import integrate

LINE = {"mixture_1d": FGAN_MIXTURE, "two_modes": TWO_MODES, "normal": normal(-0.7, 0.3)}
on_the_line = pytest.mark.parametrize("target", LINE.values(), ids=LINE)
everywhere = pytest.mark.parametrize(
    "target",
    [FGAN_MIXTURE, ring(), normal((1.0, -2.0, 0.5), 2.0)],
    ids=["mixture_1d", "ring", "normal in space"],
)
KEY = jax.random.key(7)


@pytest.mark.slow
@on_the_line
def test_density_integrates_to_one_with_its_moments(target):
    mean, sigma = target.moments()
    powers = [lambda x: jnp.ones_like(x), lambda x: x, lambda x: x**2]
    found = [integrate(lambda x, power=power: power(x) * jnp.exp(target.log_prob(x))) for power in powers]
    assert found == pytest.approx([1.0, mean, mean**2 + sigma**2], rel=1e-9)


@everywhere
def test_density_is_scipys(target, dtype):
    points = np.random.default_rng(0).normal(size=(9, target.dim)).astype(dtype)
    parts = [
        math.log(weight) + stats.multivariate_normal(mean, sigma**2 * np.eye(target.dim)).logpdf(points)
        for weight, mean, sigma in zip(target.weights, target.means, target.sigmas)
    ]
    found = jax.jit(target.log_prob)(jnp.asarray(points))
    assert found.shape == (9,) and found.dtype == dtype
    np.testing.assert_allclose(found, logsumexp(parts, axis=0), rtol=200 * np.finfo(dtype).eps)


def test_points_on_the_line_come_with_or_without_an_axis(dtype):
    x, log_prob = jnp.linspace(-3.0, 3.0, 7, dtype=dtype), jax.jit(FGAN_MIXTURE.log_prob)
    np.testing.assert_array_equal(log_prob(x), log_prob(x[:, None]))
    assert log_prob(x[0]).shape == ()


@pytest.mark.slow
@everywhere
def test_samples_have_the_moments_of_the_target(target):
    """Within five standard errors: means and variances per coordinate, and the mean log density."""
    n = 20_000
    x = np.asarray(target.sample(KEY, n), np.float64)
    weights, means, sigmas = (np.array(v) for v in (target.weights, target.means, target.sigmas))
    mean = weights @ means
    variance = weights @ (sigmas[:, None] ** 2 + means**2) - mean**2
    squares = (x - mean) ** 2
    assert np.all(np.abs(x.mean(0) - mean) < 5.0 * np.sqrt(variance / n))
    assert np.all(np.abs(squares.mean(0) - variance) < 5.0 * squares.std(0) / math.sqrt(n))
    centre, covariance = target.mean_and_covariance()
    np.testing.assert_allclose(centre, mean, atol=1e-12)
    np.testing.assert_allclose(np.diagonal(covariance), variance, rtol=1e-9)
    products = (x - mean)[:, :, None] * (x - mean)[:, None, :]
    assert np.all(np.abs(products.mean(0) - covariance) < 5.0 * products.std(0) / math.sqrt(n))
    if target.dim == 1:
        assert target.moments() == pytest.approx((mean[0], math.sqrt(variance[0])), rel=1e-12)
        entropy = integrate(lambda x: -target.log_prob(x) * jnp.exp(target.log_prob(x)))
        logs = -np.asarray(target.log_prob(jnp.asarray(x, jnp.float32)))
        assert abs(logs.mean() - entropy) < 5.0 * logs.std() / math.sqrt(n)


def test_samples_follow_from_the_key(dtype):
    target = ring()
    x = target.sample(KEY, 50)
    assert x.shape == (50, target.dim) and x.dtype == np.float32  # in either precision the same
    np.testing.assert_array_equal(x, target.sample(KEY, 50))
    assert np.all(np.asarray(x) != np.asarray(target.sample(jax.random.key(8), 50)))


@pytest.mark.parametrize(("modes", "radius", "sigma"), [(8, 1.0, 0.01), (5, 3.0, 0.2)])
def test_ring(modes, radius, sigma):
    """Modes at equal angles and radius, each drawn equally often."""
    target, n = ring(modes, radius, sigma), 4000
    means = np.array(target.means)
    np.testing.assert_allclose(np.hypot(*means.T), radius)
    np.testing.assert_allclose(np.diff(np.unwrap(np.arctan2(means[:, 1], means[:, 0]))), 2.0 * np.pi / modes)
    distances = np.linalg.norm(np.asarray(target.sample(KEY, n))[:, None] - means, axis=-1)
    assert np.all(distances.min(1) < 6.0 * sigma)
    counts = np.bincount(distances.argmin(1), minlength=modes)
    assert np.all(np.abs(counts - n / modes) < 5.0 * math.sqrt(n / modes))


def test_the_grid_is_pacgans():
    target = TARGETS["grid"]
    means = np.array(target.means)
    assert len(means) == 25 and set(means.ravel()) == {-4.0, -2.0, 0.0, 2.0, 4.0} and set(target.sigmas) == {0.05}
    assert len(np.unique(means, axis=0)) == 25 and set(target.weights) == {1 / 25}


def test_targets_by_name():
    assert set(MIXTURES) == {"mixture_1d", "two_modes", "ring", "hazy_ring", "hazy_moons", "grid"}
    assert TARGETS["mixture_1d"] is FGAN_MIXTURE and TARGETS["two_modes"] is TWO_MODES and TARGETS["ring"] == ring()
    assert FGAN_MIXTURE.moments() == pytest.approx((1.01, 1.83067), abs=1e-5)
    assert normal((1.0, 2.0), 3.0).dim == 2 and normal(1.0, 3.0).moments() == pytest.approx((1.0, 3.0))


GOOD = {"weights": (0.5, 0.5), "means": ((0.0,), (1.0,)), "sigmas": (1.0, 2.0)}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"weights": (1.0,)}, "as many"),
        ({"sigmas": (1.0,)}, "as many"),
        ({"weights": (), "means": (), "sigmas": ()}, "at least one"),
        ({"weights": (0.5, 0.6)}, "sum to 1"),
        ({"weights": (1.5, -0.5)}, "positive"),
        ({"weights": (1.0, 0.0)}, "positive"),
        ({"weights": (math.nan, 0.5)}, "positive"),
        ({"weights": (0.5, math.nan)}, "positive"),
        ({"sigmas": (1.0, 0.0)}, "sigmas"),
        ({"sigmas": (1.0, math.nan)}, "sigmas"),
        ({"sigmas": (1.0, math.inf)}, "sigmas"),
        ({"means": ((0.0,), (1.0, 2.0))}, "coordinates"),
        ({"means": ((0.0,), (math.nan,))}, "finite"),
    ],
)
def test_bad_mixtures_are_refused(wrong, reason):
    Mixture(**GOOD)
    with pytest.raises(ValueError, match=reason):
        Mixture(**GOOD | wrong)
