"""The relativistic pair: the game of the paper by a transcription, and no f-divergence where one is promised."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import estimators as est
from estimators.divergences.bounds import BOUNDS
from fgan.config.checks import check, unused
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Critic, Data, Generator, Optimizer, Penalty, replace
from fgan.config.toml import to_toml
from fgan.data.sources import load as load_data
from fgan.models import relativistic
from fgan.models.model import MODELS, build

KEY = jax.random.key(0)
SGD = Optimizer(name="sgd", b1=0.0, learning_rate=1.0)
PAIR = Config(
    model="relativistic",
    batch=16,
    data=Data(name="ring"),
    generator=Generator(features=(5,)),
    critic=Critic(features=(6,)),
    penalty=Penalty(names=("r1", "r2"), weight=0.3),
    generator_optimizer=SGD,
    critic_optimizer=SGD,
)


def test_the_loss_of_pairs_is_that_of_numpy(x64):
    rng = np.random.default_rng(0)
    winner, loser = rng.normal(size=(2, 50))
    expected = np.mean(np.log1p(np.exp(-(winner - loser))))
    assert float(relativistic.pair_loss(jnp.asarray(winner), jnp.asarray(loser))) == pytest.approx(expected, rel=1e-12)
    assert float(relativistic.pair_loss(jnp.ones(3), jnp.ones(3))) == pytest.approx(math.log(2.0))
    far = jax.grad(relativistic.pair_loss, argnums=(0, 1))(jnp.asarray([1e4, -1e4]), jnp.asarray([-1e4, 1e4]))
    np.testing.assert_allclose(far, [[0.0, -0.5], [0.0, 0.5]])


def test_both_players_descend_the_game_of_the_paper(x64):
    """Huang et al. 2024: softplus of the difference of paired outputs, the critic with ½γ(R1 + R2), γ = 2λ."""
    data = load_data(PAIR.data)
    pair = build(PAIR, data)
    state = jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, pair.init(KEY))
    x = jax.random.normal(jax.random.key(5), (1, 16, 2), np.float64)
    noise = pair.noise(jax.random.key(6))
    new, metrics = pair.advance(noise, state, x)
    networks = pair.players.generator.network, pair.players.critic.network

    def v(critic, points):
        return networks[1].apply(critic, points)

    def critic_loss(critic):
        fake = networks[0].apply(state.generator, noise.fake[0])
        slopes = [jax.vmap(jax.grad(lambda one: v(critic, one[None])[0]))(points) for points in (x[0], fake)]
        gamma = 2.0 * PAIR.penalty.weight
        penalty = 0.5 * gamma * sum(jnp.mean(jnp.sum(slope**2, axis=1)) for slope in slopes)
        return jnp.mean(jnp.log1p(jnp.exp(-(v(critic, x[0]) - v(critic, fake))))) + penalty

    def generator_loss(generator):
        fake = networks[0].apply(generator, noise.z)
        return jnp.mean(jnp.log1p(jnp.exp(-(v(new.critic, fake) - v(new.critic, x[0])))))

    for after, before, loss in (
        (new.critic, state.critic, critic_loss),
        (new.generator, state.generator, generator_loss),
    ):
        moved = jax.tree.map(lambda a, b: b - a, after, before)  # by a rate of 1, kept in float32
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-9), moved, jax.grad(loss)(before))
        assert float(optax.tree.norm(moved)) > 1e-4
    assert float(metrics["pair_loss"] + metrics["penalty"]) == pytest.approx(float(critic_loss(state.critic)))
    assert set(metrics) == {"pair_loss", "penalty", "critic_gradient", "skipped"}


def test_a_pair_is_refused_where_a_divergence_is_promised():
    assert "relativistic" in MODELS and "relativistic" not in BOUNDS
    assert "relativistic" not in est.DIVERGENCES and "relativistic" not in est.METHODS
    with pytest.raises(ValueError, match="relativistic"):
        est.estimate(np.zeros((20, 1)), np.ones((20, 1)), "relativistic")
    with pytest.raises(ConfigError, match="minimises no f-divergence"):
        check(replace(PAIR, {"divergence": "kl"}))
    with pytest.raises(ConfigError, match=r"roth of a divergence.*r1"):
        build(replace(PAIR, {"penalty.names": ("roth",)}), load_data(PAIR.data))
    with pytest.raises(ConfigError, match="on the critic only"):
        check(replace(PAIR, {"penalty.on": "generator"}))
    ignored = replace(PAIR, {"game.normalise": True, "instance_noise.start": 0.5, "critic.divergence": "js"})
    assert all(name in unused(ignored) for name in ("game.normalise", "instance_noise.start", "critic.divergence"))
    assert "critic.features" not in unused(PAIR) and unused(PAIR) == "" and PAIR.minimised == "relativistic"


def test_what_a_pair_does_not_use_changes_nothing():
    data = load_data(PAIR.data)
    ignored = replace(PAIR, {"game.normalise": True, "instance_noise.start": 0.5, "game.objective": "alternative"})
    assert to_toml(ignored) != to_toml(PAIR)
    x = data.draw(KEY, data.rows, 16)[None]
    one, other = (build(c, data).step(KEY, build(c, data).init(KEY), x)[0] for c in (PAIR, ignored))
    jax.tree.map(np.testing.assert_array_equal, one, other)
