"""Published cures for mode collapse: each is what it is called, and its noise is held where its divergence stands."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.stabilisers import Packs, Relativistic, packed, pairs, relativistic
from benchmarks.variants import configured
from estimators.critics.networks import MLP
from estimators.divergences.table import divergence
from fgan.models.gan import FGAN
from fgan.models.instance_noise import InstanceNoise
from fgan.models.objectives import OBJECTIVES
from fgan.models.penalties import PENALTIES, WeightedPenalty
from fgan.models.players import Critic, Generator, optimizer
from fgan.networks.generators import LocationScale

KEY = jax.random.key(0)
NOISE = InstanceNoise(start=0.5, end=0.01, overlap=(0.1, 0.2), fall=10.0, steps=20)


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


LINEAR = MLP(())


def line(name="js", *, network=LINEAR, dim=1, activation="log_ratio", objective="alternative", batch=16, **changes):
    """The smallest f-GAN: generator μ + σz, critic w·x + b, plain gradient descent of rate 1."""
    d, descent = divergence(name), optax.sgd(1.0)
    return FGAN(
        divergence=d,
        generator=Generator(network=LocationScale((0.5, 1.5)), inputs=1, optimizer=descent),
        critic=Critic(network=network, inputs=dim, optimizer=descent, divergence=d, activation=activation),
        objective=OBJECTIVES[objective],
        batch=batch,
        **changes,
    )


@pytest.mark.slow
@pytest.mark.parametrize("noise", [None, NOISE])
def test_packs_of_one_are_the_plain_game(noise):
    plain = line("kl", objective="kl_gradient", normalise=True, instance_noise=noise)
    real = jax.random.normal(jax.random.key(1), (1, 16, 1))
    states = [gan.step(KEY, gan.init(KEY), real) for gan in (plain, packed(plain, 1))]
    for a, b in zip(*map(leaves, states), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_pack_is_scored_as_one():
    """Packs permute with their values; what is in another pack does not matter, what is in its own does."""
    gan = packed(line(network=MLP((8,)), dim=2), 4)
    critic = gan.init(KEY).critic
    x = jax.random.normal(KEY, (16, 2))
    v = gan.outputs(critic, x)
    assert v.shape == (4,)
    np.testing.assert_allclose(gan.outputs(critic, x[::-1].reshape(4, 4, 2)[:, ::-1].reshape(16, 2)), v[::-1])
    changed = gan.outputs(critic, x.at[5].add(1.0))
    assert (np.flatnonzero(changed != v) == [1]).all()


def test_the_packed_bound_is_that_of_the_products():
    """With the exact log-ratio of N(μ, 1)^m to N(0, 1)^m it finds KL(P^m‖Q^m) = mμ²/2."""
    mu, n, m = 0.4, 30_000, 3
    gan = packed(line("kl", batch=n), m)
    exact = {"params": {"Dense_0": {"kernel": jnp.full((m, 1), mu), "bias": jnp.array([-m * mu**2 / 2])}}}
    x_q = jax.random.normal(KEY, (n, 1))
    x_p = mu + jax.random.normal(jax.random.key(1), (n, 1))
    state = gan.init(KEY)._replace(critic=exact)
    _, metrics = jax.jit(gan.critic_update)(KEY, state, x_p, x_q)
    kl = m * mu**2 / 2
    error = math.sqrt((2 * kl + math.expm1(2 * kl)) / (n / m))  # Var_P ℓ = 2 KL, Var_Q e^ℓ = e^{2 KL} − 1
    assert float(metrics["bound"]) == pytest.approx(kl, abs=4 * error)


def test_packs_are_checked_at_the_door():
    with pytest.raises(ValueError, match="a batch of 16 does not fall into packs of 3"):
        packed(line(), 3)
    with pytest.raises(ValueError, match="leave the penalty out"):
        packed(line(penalty=WeightedPenalty(penalties=(PENALTIES["r1"],))), 2)


@pytest.mark.parametrize("name", ["js", "kl", "reverse_kl", "squared_hellinger"])
def test_pairs_that_nothing_tells_apart_are_worth_f_of_one(name):
    d, v = divergence(name), jnp.full(8, 1.7)
    assert float(pairs(d, v, v, activation="log_ratio")) == pytest.approx(d.value_at_one, abs=1e-6)


def test_pairs_under_js_are_the_relativistic_loss():
    v_p, v_q = jax.random.normal(KEY, (2, 50))
    expected = math.log(2.0) - float(jnp.mean(jnp.log1p(jnp.exp(v_q - v_p))))
    assert float(pairs(divergence("js"), v_p, v_q, activation="log_ratio")) == pytest.approx(expected, rel=1e-5)


def test_pairs_under_kl_find_jeffreys():
    """With the exact log-ratio of N(μ, 1) to N(0, 1): KL(P⊗Q‖Q⊗P) = μ²."""
    mu, n = 0.4, 100_000
    x_p, x_q = mu + jax.random.normal(KEY, (n,)), jax.random.normal(jax.random.key(1), (n,))
    value = pairs(divergence("kl"), mu * x_p, mu * x_q, activation="log_ratio")
    assert float(value) == pytest.approx(mu**2, abs=4 * math.sqrt((2 * mu**2 + math.expm1(2 * mu**2)) / n))


def test_a_relativistic_step_descends_its_formula():
    """Under js and the alternative: ½E log(1 + e^{v_p − v_q}), up to a constant, with the real batch as rivals."""
    gan = relativistic(line("js"))
    state = gan.init(KEY)
    z, x_p = (jax.random.normal(jax.random.key(i), (16, 1)) for i in (3, 4))

    def loss(generator):
        v_p, v_q = gan.outputs(state.critic, x_p), gan.outputs(state.critic, gan.generate(generator, z))
        return 0.5 * jnp.mean(jax.nn.softplus(v_p - v_q))

    new, _ = gan.generator_update(KEY, state, state.critic, z, x_p)
    moved = jax.tree.map(jnp.subtract, state.generator, new.generator)
    for a, b in zip(leaves(moved), leaves(jax.grad(loss)(state.generator)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_pairs_need_a_log_ratio():
    for changes in ({"activation": "paper"}, {"objective": "minimax"}):
        with pytest.raises(ValueError, match="activation log_ratio, and the objective"):
            relativistic(line(**changes))


@pytest.mark.parametrize("cure", [packed, relativistic])
def test_the_noise_is_held_where_the_larger_divergence_stands(cure):
    cured = cure(line(objective="kl_gradient", instance_noise=NOISE))
    assert isinstance(cured, Relativistic) or isinstance(cured.critic.network, Packs)
    assert cured.instance_noise.overlap == pytest.approx((0.2, 0.4))


def bilinear(o, n):
    """√(x² + y²) over `n` steps of simultaneous descent in x and ascent in y of x·y, from 1."""

    def step(carry, _):
        players, state = carry
        change, state = o.update({"x": players["y"], "y": -players["x"]}, state, players)
        players = optax.apply_updates(players, change)
        return (players, state), jnp.hypot(players["x"], players["y"])

    start = {"x": jnp.array(0.6), "y": jnp.array(0.8)}
    return np.asarray(jax.lax.scan(step, (start, o.init(start)), None, length=n)[1])


@pytest.mark.slow
def test_optimism_converges_where_gradient_descent_spirals_out():
    """x·y has its saddle at 0; plain steps of size η grow by √(1 + η²) each, optimistic ones shrink."""
    assert bilinear(optax.sgd(0.1), 200)[-1] == pytest.approx(1.01**100, rel=1e-3)
    assert bilinear(optax.optimistic_gradient_descent(0.1), 1000)[-1] < 0.05
    ours = configured("optimistic", "ring", "js", steps=4000).generator_optimizer
    ours = dataclasses.replace(ours, schedule="constant", learning_rate=0.01)
    ends = [
        bilinear(optimizer(dataclasses.replace(ours, name=name), 1), 4000)[-500:].max() for name in ("adam", ours.name)
    ]
    assert ours.name == "optimistic_adam" and ends[1] < 0.25 * ends[0]
