"""What a config becomes: the players, the objective, the penalty and the noise of an f-GAN, or a refusal."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from estimators.divergences.table import DIVERGENCES, divergence
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Critic, Data, Game, Generator, InstanceNoise, Penalty, replace
from fgan.data.sources import load
from fgan.models.model import build
from fgan.models.objectives import OBJECTIVES
from fgan.models.penalties import critic_values
from fgan.models.players import InPrecision

BASE = Config(steps=40, batch=16, generator=Generator(features=(8,)), critic=Critic(features=(8,)))
RING, LINE = (load(Data(name=name)) for name in ("ring", "mixture_1d"))
IMAGES = dataclasses.replace(RING, dim=64, side=8)
ODD = dataclasses.replace(IMAGES, dim=49, side=7)
UNBUILDABLE = [
    (RING, Generator(kind="location_scale", latent=1), Critic(), "data on the line"),
    (LINE, Generator(kind="location_scale", latent=2), Critic(), "latent = 1"),
    (RING, Generator(kind="image"), Critic(), "needs images"),
    (RING, Generator(), Critic(kind="image"), "needs images"),
    (ODD, Generator(), Critic(kind="image", features=(8, 8, 8)), "7 × 7 pixels can be halved 2 times"),
    (IMAGES, Generator(), Critic(kind="image", features=()), "at least one width"),
    (IMAGES, Generator(kind="image", features=(8, 8, 8, 8)), Critic(), "8 × 8 pixels can be halved 3 times"),
]


@pytest.mark.parametrize("data, generator, critic, words", UNBUILDABLE)
def test_what_cannot_be_built_is_refused(data, generator, critic, words):
    with pytest.raises(ConfigError, match=words):
        build(replace(BASE, {"generator": generator, "critic": critic}), data)


def test_penalties_add_up_with_their_scheduled_weight():
    rng = np.random.default_rng(0)
    x_p, x_q = (jnp.asarray(rng.normal(size=(9, 2)), jnp.float32) for _ in range(2))
    values = critic_values(lambda x: jnp.sum(x**3, axis=-1), x_p, x_q, DIVERGENCES["js"])

    def penalty(*names, **options):
        return build(replace(BASE, {"penalty": Penalty(names=names, **options)}), RING).penalty

    exact = [np.mean(np.sum((3 * np.asarray(x) ** 2) ** 2, axis=1)) for x in (x_p, x_q)]
    assert [float(penalty(name)(values, 0)) for name in ("r1", "r2")] == pytest.approx(exact, rel=1e-5)
    assert float(penalty("r1", "r2")(values, 0)) == pytest.approx(sum(exact), rel=1e-5)
    annealed = penalty("r1", weight=10.0, schedule="annealed")
    at = [float(annealed(values, jnp.int32(step))) / exact[0] for step in (0, BASE.steps)]
    assert at == pytest.approx([10.0, 0.1], rel=1e-5)
    assert penalty("r1", on="generator").on == "generator"
    assert penalty() is None and penalty("none") is None


def test_the_instance_noise_knows_the_length_of_the_training():
    noise = InstanceNoise(start=0.5, end=0.1, overlap=(0.1, 0.3), fall=0.25)
    built = build(replace(BASE, {"instance_noise": noise, "game.critic_steps": 2}), RING).instance_noise
    expected = {"start": 0.5, "end": 0.1, "overlap": (0.1, 0.3)}
    assert vars(built) == expected | {"fall": 0.5 * BASE.steps, "steps": 2 * BASE.steps}
    assert build(BASE, RING).instance_noise is None


def test_the_step_of_a_kink_narrows_over_the_training():
    """Geometrically, from the first width to the last; the generator's cost in a step has the width of that step."""
    gan = build(replace(BASE, {"divergence": "total_variation", "game.smoothing": (2.0, 0.5)}), RING)
    v = jnp.linspace(-1.0, 1.0, 5)
    for step, width in ((0, 2.0), (BASE.steps // 2, 1.0), (BASE.steps, 0.5), (2 * BASE.steps, 0.5)):
        assert float(gan.smoothing(step)) == pytest.approx(width)
        np.testing.assert_allclose(gan.cost(v, step), -0.5 * np.tanh(v / width), rtol=1e-5)


@pytest.mark.parametrize(
    "name, critic, trained",
    [
        ("kl", "", "kl"),
        ("total_variation", "", "js"),
        ("hockey_stick(3)", "", "js"),
        ("total_variation", "tv", "total_variation"),
        ("kl", "pearson", "pearson"),
        ("chi2", "pearson", "pearson"),
        ("alpha(0.3)", "alpha(0.3)", "alpha(0.3)"),
    ],
)
def test_the_critic_trains_under_the_named_divergence_or_js_for_a_kinked_one(name, critic, trained):
    gan = build(Config(divergence=name, critic=Critic(divergence=critic)), RING)
    assert gan.critic.divergence is divergence(trained) and gan.divergence is divergence(name)


def test_the_fields_of_the_config_reach_the_gan():
    game = Game(objective="alternative", critic_steps=4, smoothing=(0.7, 0.7))
    critic = Critic(output_bound=5.0, out_of_bound_penalty=0.5, activation="paper", frequencies=2)
    config = Config(game=game, generator=Generator(latent=7, linear=3, average=0.9), critic=critic, batch=12)
    gan = build(config, RING)
    assert (gan.objective, gan.update, gan.critic_steps) == (OBJECTIVES["alternative"], "alternating", 4)
    assert float(gan.smoothing(3)) == pytest.approx(0.7) and gan.batches == 4
    assert (gan.generator.inputs, gan.generator.average, gan.batch, gan.critic.inputs) == (10, 0.9, 12, 2)
    assert (gan.critic.output_bound, gan.critic.out_of_bound_penalty, gan.critic.takes_noise) == (5.0, 0.5, True)
    assert gan.critic.activation == "paper" and gan.penalty is None and gan.instance_noise is None
    narrow = build(dataclasses.replace(config, compute="bfloat16"), RING)
    assert isinstance(narrow.critic.network, InPrecision) and narrow.critic.takes_noise
    assert narrow.generator.network == InPrecision(gan.generator.network, jnp.dtype("bfloat16"))
