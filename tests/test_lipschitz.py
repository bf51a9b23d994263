"""Lipschitz critics: the slope never exceeds its bound, and their values are those of (f,Γ)-divergences."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from estimators.critics.lipschitz import SQUARINGS, STEEPEST, spectral_bound
from estimators.critics.networks import MLP, NONLINEARITIES
from estimators.distributions.examples import normal
from estimators.divergences.bounds import fenchel
from estimators.divergences.table import DIVERGENCES, divergence
from estimators.exact_values.quadrature import exact_bound
from fgan.config.checks import check
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Critic, Data, Generator, InstanceNoise, Penalty
from fgan.data.sources import load
from fgan.models.model import build

ROUNDING = 1e-5  # float32, through five layers


# --- the slope --------------------------------------------------------------------------------------------------------

BOUND = jax.jit(spectral_bound)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (3, 3), (2, 64), (64, 128), (128, 128)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_bound_is_above_the_largest_singular_value_and_close(shape, scale):
    kernel = np.asarray(scale * np.random.default_rng(0).normal(size=shape), np.float32)
    exact = np.linalg.svd(kernel.astype(float), compute_uv=False)[0]
    assert 1.0 - ROUNDING <= float(BOUND(kernel)) / exact <= min(shape) ** (1.0 / 2 ** (SQUARINGS + 2)) + ROUNDING


def test_the_bound_is_the_schatten_norm():
    """Even where it is furthest from σ₁: all singular values equal."""
    kernel = np.linalg.qr(np.random.default_rng(1).normal(size=(64, 64)))[0].astype(np.float32)
    assert float(BOUND(kernel)) == pytest.approx(64.0 ** (1.0 / 512.0), rel=ROUNDING)
    assert float(BOUND(np.zeros((3, 4), np.float32))) == pytest.approx(0.0, abs=1e-15)


def test_the_gradient_of_the_bound_is_that_of_the_largest_singular_value(x64):
    """u vᵀ of the leading pair, where the others are well below."""
    rng = np.random.default_rng(2)
    kernel = rng.normal(size=(6, 4)) + 3.0 * np.outer(np.ones(6), np.ones(4))
    u, _, v = np.linalg.svd(kernel)
    gradient = jax.jit(jax.grad(spectral_bound))
    np.testing.assert_allclose(gradient(kernel), np.outer(u[:, 0], v[0]), atol=1e-10)
    assert np.isfinite(gradient(np.zeros((3, 4)))).all()


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_no_nonlinearity_is_steeper_than_its_constant(x64, name):
    x = np.linspace(-8.0, 8.0, 160_000)  # an even number: none at 0, where relu bends
    slopes = jax.jit(jax.vmap(jax.grad(NONLINEARITIES[name])))(x)
    steepest = float(np.max(np.abs(slopes)))
    constant = STEEPEST.get(name, 1.0)
    assert steepest <= constant <= steepest * (1.0 + 2e-3)


def largest_slope(network: MLP, parameters, points: np.ndarray) -> float:
    """The largest ‖∇v‖, and |v(x) − v(y)|/‖x − y‖ between neighbours, over `points` [n, d]."""

    def values(x):
        return network.apply(parameters, x)

    @jax.jit
    def with_slopes(x):
        gradients = jax.vmap(jax.grad(lambda point: values(point[None])[0]))(x)
        return values(x), jnp.linalg.norm(gradients, axis=1)

    v, slopes = with_slopes(np.asarray(points, np.float32))
    apart = np.linalg.norm(np.diff(points, axis=0), axis=1)
    chords = np.abs(np.diff(np.asarray(v, float)))[apart > 0.1] / apart[apart > 0.1]
    return max(float(np.max(slopes)), float(np.max(chords)))


def started(network: MLP, dim: int, seed: int = 0):
    """Fresh parameters, from one compiled program."""
    return jax.jit(network.init)(jax.random.key(seed), jnp.zeros((1, dim)))


def points(dim: int) -> np.ndarray:
    return 3.0 * np.random.default_rng(3).normal(size=(400, dim))


@pytest.mark.parametrize("nonlinearity, gain", list(zip(NONLINEARITIES, (0.5, 4.0) * 4)))
def test_fresh_networks_keep_the_bound(nonlinearity, gain):
    network = MLP((32, 16), nonlinearity, gain=gain, lipschitz=2.5)
    parameters = started(network, 3)
    slope = largest_slope(network, parameters, points(3))
    assert 0.0 < slope <= 2.5 * (1.0 + ROUNDING)


SILU = MLP((8, 8), "silu", gain=2.0, lipschitz=1.0)
SLOPES = jax.jit(lambda w, x: jax.vmap(jax.grad(lambda point: SILU.apply(w, point[None])[0]))(x))


@given(seed=st.integers(0, 2**31), scales=st.tuples(*[st.floats(-3.0, 3.0)] * 3))
def test_whatever_the_weights(seed, scales):
    rng = np.random.default_rng(seed)
    shapes = {f"Contraction_{i}": shape for i, shape in enumerate([(2, 8), (8, 8), (8, 1)])}
    layers = {
        name: {"kernel": 10.0**s * rng.standard_cauchy(size=shape), "bias": rng.normal(size=shape[1])}
        for (name, shape), s in zip(shapes.items(), scales)
    }
    parameters = {"params": jax.tree.map(lambda a: np.asarray(a, np.float32), layers)}
    slopes = np.linalg.norm(SLOPES(parameters, points(2).astype(np.float32)), axis=1)
    assert np.max(slopes) <= 1.0 + ROUNDING


def test_a_bound_of_one_layer_is_reached():
    network = MLP((), lipschitz=3.0)
    parameters = {"params": {"Contraction_0": {"kernel": np.full((2, 1), 5.0, np.float32), "bias": np.zeros(1)}}}
    assert largest_slope(network, parameters, points(2)) == pytest.approx(3.0, rel=ROUNDING)


def test_frequencies_have_no_bound_and_are_refused():
    with pytest.raises(ValueError, match="lipschitz"):
        MLP((4,), lipschitz=1.0, frequencies=3).init(jax.random.key(0), jnp.zeros((1, 2)))


# --- the value --------------------------------------------------------------------------------------------------------


def trained(network: MLP, name: str, x_p, x_q, activation: str, steps: int = 400, rate: float = 0.05):
    """(parameters, bound) after full-batch ascent of the fenchel bound between samples [n, 1].

    The seed is one whose single layer begins below its bound and with the right sign: a 1 × 1 kernel beyond the bound
    has no gradient, W/|W| being its sign.
    """
    x_p, x_q = (jnp.asarray(x, jnp.float32) for x in (x_p, x_q))
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def bound(parameters):
        v = network.apply(parameters, jnp.concatenate([x_p, x_q]))
        return fenchel(divergence(name), v[: len(x_p)], v[len(x_p) :], activation=activation)

    @jax.jit
    def climb(parameters):
        def step(carry, _):
            parameters, moments = carry
            change, moments = optimizer.update(jax.grad(lambda w: -bound(w))(parameters), moments)
            return (optax.apply_updates(parameters, change), moments), None

        (parameters, _), _ = jax.lax.scan(step, (parameters, optimizer.init(parameters)), None, length=steps)
        return parameters, bound(parameters)

    parameters, value = climb(started(network, 1, seed=3))
    return parameters, float(value)


def between_points(name: str, activation: str, distance: float) -> float:
    """sup of T(v₀) − f*(T(v₁)) over |v₀ − v₁| ≤ L times the distance: the (f,Γ)-divergence of two points, L = 1.

    T increases, so v₀ = v₁ + distance.
    """
    g = divergence(name).activation(activation)
    pair = jax.jit(lambda v: g.output(v + distance) - g.conjugate(v))
    best = minimize_scalar(lambda v: -float(pair(v)), bounds=(-15.0, 15.0), method="bounded", options={"xatol": 1e-8})
    return -best.fun


@pytest.mark.parametrize("name, activation", [("kl", "paper"), ("kl", "log_ratio"), ("jeffreys", "paper")])
def test_between_two_points_lipschitz_functions_give_their_distance(x64, name, activation):
    """L·W₁ = L·a bounds every divergence whose Γ is all L-Lipschitz functions; kl reaches it."""
    value = between_points(name, activation, 1.5)
    assert value <= 1.5 + 1e-9 and (name != "kl" or value == pytest.approx(1.5, abs=1e-9))


KINDS = [("kl", "log_ratio"), ("pearson", "paper"), ("js", "log_ratio"), ("gan", "log_ratio")]
KINDS += [("reverse_kl", "log_ratio")]
"""T is v plus a constant; 0 ≤ T' ≤ s; T' unbounded, the three kinds of `estimators.critics.lipschitz`."""


@pytest.mark.slow
@pytest.mark.parametrize("name, activation", KINDS)
def test_a_trained_critic_reaches_the_value_between_two_points_from_below(name, activation):
    with jax.enable_x64(True):
        exact = between_points(name, activation, 1.5)
    network = MLP((16,), "leaky_relu", lipschitz=1.0)
    _, value = trained(network, name, [[0.0]], [[1.5]], activation)
    assert exact - 0.01 <= value <= exact + ROUNDING


def test_the_value_grows_to_the_divergence(x64):
    """With L; towards f(0) + f'(∞), what D_f is between two points."""
    for name in ("js", "squared_hellinger", "triangular"):
        values = [between_points(name, "log_ratio", a) for a in (0.0, 0.5, 1.0, 2.0, 4.0, 20.0)]
        assert values[0] == pytest.approx(0.0, abs=1e-9) and (np.diff(values) > 0.0).all()
        limit = DIVERGENCES[name].upper_limit()
        assert 0.98 * limit < values[-1] < limit


@pytest.mark.slow
@pytest.mark.parametrize("lipschitz, features", [(0.5, (16,)), (1.0, (16,)), (3.0, ())])
def test_between_two_gaussians(lipschitz, features):
    """kl of N(0, 1) and N(m, 1): Lm − ½L² for L ≤ m, where T = −Lx + c is optimal, and ½m², the divergence, beyond.

    For L ≤ m the infimum over η of L·W₁(P, η) + KL(η‖Q) has this very value at η = N(m − L, 1). Beyond, a critic of one
    layer, since steeper ones fit the gaps between the quantiles they are trained on.
    """
    m = 1.5
    exact = lipschitz * m - 0.5 * lipschitz**2 if lipschitz <= m else 0.5 * m**2
    quantiles = norm.ppf((np.arange(128) + 0.5) / 128)[:, None]
    network = MLP(features, "leaky_relu", lipschitz=lipschitz)
    parameters, _ = trained(network, "kl", quantiles, quantiles + m, "log_ratio")
    assert largest_slope(network, parameters, points(1)) <= lipschitz * (1.0 + ROUNDING)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda w: jnp.asarray(w, jnp.float64), parameters)
        laws = normal(0.0, 1.0).log_prob, normal(m, 1.0).log_prob
        value = exact_bound(*laws, lambda x: network.apply(wide, x[:, None]), divergence("kl"), activation="log_ratio")
    assert 0.97 * exact <= value <= exact + 1e-6


# --- in a training ----------------------------------------------------------------------------------------------------


def small(critic: Critic, **changes) -> Config:
    return check(Config(batch=16, critic=critic, generator=Generator(features=(8,)), **changes))


def test_three_steps_of_a_training():
    """With a penalty and instance noise, which must not break the bound."""
    critic, penalty = Critic(features=(8, 8), lipschitz=1.0, nonlinearity="silu"), Penalty(names=("r1",))
    config = small(critic, divergence="kl", penalty=penalty, instance_noise=InstanceNoise(start=0.5))
    gan = build(config, load(Data(name="ring")))
    batch = jax.random.normal(jax.random.key(0), (1, 16, 2))
    state, step = jax.jit(gan.init)(jax.random.key(1)), jax.jit(gan.step)
    for i in range(3):
        state, metrics = step(jax.random.key(i), state, batch)
    assert float(metrics["skipped"]) == 0.0 and math.isfinite(float(metrics["bound"])) and int(state.step) == 3
    assert isinstance(gan.critic.network, MLP) and gan.critic.network.lipschitz == 1.0
    assert largest_slope(gan.critic.network, state.critic, points(2)) <= 1.0 + ROUNDING


@pytest.mark.parametrize(
    "critic, words",
    [
        (Critic(lipschitz=1.0, frequencies=2), "critic.frequencies = 0"),
        (Critic(lipschitz=1.0, kind="image"), "critic.kind = mlp"),
        *[(Critic(lipschitz=value), "finite and at least 0") for value in (-1.0, math.nan, math.inf)],
    ],
)
def test_what_cannot_be_bounded_is_refused_at_the_door(critic, words):
    with pytest.raises(ConfigError) as error:
        check(dataclasses.replace(Config(), critic=critic))
    assert "critic.lipschitz" in str(error.value) and words in str(error.value) and "\n" not in str(error.value)
