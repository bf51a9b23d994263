"""Targets against SciPy and their own samples; the scan every training uses; the shapes of critics."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from estimators.critics import MLP, NONLINEARITIES
from estimators.fitting import ALONE, Replicas, steps
from estimators.quadrature import integrate
from estimators.targets import FGAN_MIXTURE, TARGETS, TWO_MODES, Mixture, normal, ring

LINE = {"mixture_1d": FGAN_MIXTURE, "two_modes": TWO_MODES, "normal": normal(-0.7, 0.3)}
on_the_line = pytest.mark.parametrize("target", LINE.values(), ids=LINE)
everywhere = pytest.mark.parametrize(
    "target", [FGAN_MIXTURE, ring(), normal((1.0, -2.0, 0.5), 2.0)], ids=["mixture_1d", "ring", "normal in space"]
)
KEY = jax.random.key(7)


# --- densities and samples -------------------------------------------------------------------------------------------
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
    found = target.log_prob(jnp.asarray(points))
    assert found.shape == (9,) and found.dtype == dtype
    np.testing.assert_allclose(found, logsumexp(parts, axis=0), rtol=200 * np.finfo(dtype).eps)


@on_the_line
def test_points_on_the_line_come_with_or_without_an_axis(target, dtype):
    x = jnp.linspace(-3.0, 3.0, 7, dtype=dtype)
    np.testing.assert_array_equal(target.log_prob(x), target.log_prob(x[:, None]))
    assert target.log_prob(x[0]).shape == ()


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
    if target.dim == 1:
        assert target.moments() == pytest.approx((mean[0], math.sqrt(variance[0])), rel=1e-12)
        entropy = integrate(lambda x: -target.log_prob(x) * jnp.exp(target.log_prob(x)))
        logs = -np.asarray(target.log_prob(jnp.asarray(x, jnp.float32)))
        assert abs(logs.mean() - entropy) < 5.0 * logs.std() / math.sqrt(n)


@everywhere
def test_samples_follow_from_the_key(target, dtype):
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


def test_targets_by_name():
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


# --- many steps in one scan ------------------------------------------------------------------------------------------
def draw(key):
    return jax.random.normal(key, (16,))


def step(key, state, batch):
    noise = jax.random.normal(key, state.shape)
    state = state - 0.1 * (state - batch.mean()) + 0.01 * noise
    return state, {"state": state, "first": batch[0]}


def run(state, start, n, key=KEY):
    return jax.jit(steps, static_argnums=(0, 1, 5))(step, draw, key, state, start, n)


def test_200_steps_are_four_times_50_bit_for_bit():
    start = jnp.arange(3.0)
    whole, whole_metrics = run(start, 0, 200)
    state, metrics = start, []
    for chunk in range(4):
        state, some = run(state, 50 * chunk, 50)
        metrics.append(some)
    np.testing.assert_array_equal(whole, state)
    for name, values in whole_metrics.items():
        assert values.shape[0] == 200
        np.testing.assert_array_equal(values, np.concatenate([some[name] for some in metrics]))
    assert not np.array_equal(whole, run(start, 50, 200)[0])  # the step's number makes its numbers
    assert not np.array_equal(whole, run(start, 0, 200, jax.random.key(8))[0])


def test_steps_are_the_loop_they_stand_for():
    """Step i splits fold_in(key, i) into the batch's key and the step's own."""
    state = jnp.zeros(3)
    for i in range(5, 9):
        batch_key, step_key = jax.random.split(jax.random.fold_in(KEY, i))
        state, _ = step(step_key, state, draw(batch_key))
    scanned, metrics = run(jnp.zeros(3), 5, 4)
    np.testing.assert_allclose(scanned, state, rtol=1e-6)
    assert len(np.unique(metrics["first"])) == 4  # a fresh batch every step


def test_steps_over_seeds():
    keys = jax.random.split(KEY, 3)
    seeds = jax.vmap(lambda key: steps(step, draw, key, jnp.zeros(2), 0, 20)[0])(keys)
    for key, state in zip(keys, seeds):
        np.testing.assert_allclose(state, run(jnp.zeros(2), 0, 20, key)[0], rtol=1e-5, atol=1e-6)


def test_a_single_device_is_no_spread():
    values = jnp.arange(6.0)
    assert ALONE.expectation(values) == 2.5
    assert ALONE.shard(values) is values and ALONE.mean(values) is values


def test_replicas_average_over_the_global_batch():
    values = jnp.arange(12.0).reshape(4, 3)
    replicas = Replicas(
        mean=lambda tree: jax.lax.pmean(tree, "device"),
        shard=lambda rows: jax.lax.dynamic_slice_in_dim(rows, 3 * jax.lax.axis_index("device"), 3),
    )
    shards = jax.vmap(lambda _: replicas.shard(values.ravel()), axis_name="device")(jnp.arange(4))
    np.testing.assert_array_equal(shards, values)
    found = jax.vmap(lambda _: replicas.expectation(replicas.shard(values.ravel())), axis_name="device")(jnp.arange(4))
    np.testing.assert_allclose(found, values.mean())


# --- critics ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("width_out", "shape"), [(None, (11,)), (1, (11, 1)), (3, (11, 3))])
def test_mlp_shapes(width_out, shape):
    network = MLP(features=(5, 4), width_out=width_out)
    x = jax.random.normal(KEY, (11, 2))
    parameters = network.init(KEY, x)
    assert network.apply(parameters, x).shape == shape
    kernels = [layer["kernel"].shape for layer in parameters["params"].values()]
    assert kernels == [(2, 5), (5, 4), (4, width_out or 1)]


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_mlp_treats_each_point_alone_and_bends(nonlinearity):
    network = MLP(features=(8,), nonlinearity=nonlinearity)
    x = jax.random.normal(KEY, (6, 2))
    parameters = jax.jit(network.init)(KEY, x)

    @jax.jit
    def critic(x):
        return network.apply(parameters, x)

    np.testing.assert_allclose(critic(x[::-1])[::-1], critic(x), rtol=1e-5, atol=1e-6)
    assert np.max(np.abs(critic(x + 1.0) + critic(x - 1.0) - 2.0 * critic(x))) > 1e-3
