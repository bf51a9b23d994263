"""The relativistic pair: a critic of pairs and a generator that fools it. A baseline beside the f-GANs, and no f-GAN.

    critic      min E softplus(v(G(z)) − v(x)) + λ·penalty
    generator   min E softplus(v(x) − v(G(z)))

over pairs of a real sample x and a generated one G(z), drawn independently. The critic learns which of the two is real,
so only differences of its outputs mean something. With the penalties r1 and r2 this is the game of R3GAN (Huang,
Gokaslan, Kuleshov, Tompkin 2024, equation 2, f(t) = −log(1 + e^{−t}); the generator's non-saturating form is that of
their code, R3GAN/Trainer.py; their γ is 2λ); without, that of Jolicoeur-Martineau 2019.

The mean over pairs is no expectation under P less one under Q, so it bounds no D_f(P‖Q), and v is no log-ratio. The
metrics therefore have `pair_loss` in place of `bound`, the config's `divergence` says nothing, and penalties that speak
of a divergence or a log-ratio are refused.
"""

from dataclasses import dataclass

import jax
import optax

from estimators.critics.kernel import ALONE, Metrics, Replicas
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Game, InstanceNoise, replace
from fgan.data.dataset import Dataset
from fgan.models import gan
from fgan.models.gan import FGAN, Draws, GANState
from fgan.models.model import keep_finite

MODELS = {"relativistic": "a generator against a critic of pairs (R3GAN's game): a baseline, under no divergence"}
PENALTIES = ("r1", "r2", "r1_r2", "wgan_gp", "dragan", "none")
"""Those of the critic's input gradient alone."""
NEUTRAL = {
    "divergence": "js",
    "critic.divergence": "",
    "critic.bound": "fenchel",
    "critic.activation": "default",
    "critic.out_of_bound_penalty": 0.0,
    "instance_noise": InstanceNoise(),
}
"""What stands in the config for parts of an FGAN that a pair does not use."""


@dataclass(frozen=True, kw_only=True)
class Relativistic:
    """A generator against a critic of pairs, alternating. `players` lends networks, optimisers, penalty and noise."""

    players: FGAN

    headline = "pair_loss"
    notes = ("critic of pairs (relativistic): a baseline under no divergence, pair_loss bounds none",)

    @property
    def batches(self) -> int:
        """Batches of real samples that a step takes."""
        return self.players.critic_steps

    @property
    def replicas(self) -> Replicas:
        """How a batch is spread over devices."""
        return self.players.replicas

    def init(self, key: jax.Array) -> GANState:
        """Fresh parameters and optimiser states."""
        return self.players.init(key)

    def step(self, key: jax.Array, state: GANState, batch: jax.Array) -> tuple[GANState, Metrics]:
        """One generator update after its critic updates; `batch` are real samples [critic_steps, b, d]."""
        return self.advance(self.noise(key), state, batch)

    def noise(self, key: jax.Array) -> Draws:
        """The random numbers of a step."""
        return self.players.noise(key)

    def advance(self, noise: Draws, state: GANState, batch: jax.Array) -> tuple[GANState, Metrics]:
        """`step` with its random numbers given."""
        trained = state
        for real, z, key in zip(batch, noise.fake, noise.critic, strict=True):
            trained, metrics = self.critic_update(key, trained, real, self.players.generate(state.generator, z))
        return keep_finite(state, self.generator_update(trained, noise.z, batch[-1]), metrics)

    @jax.named_scope("critic_update")
    def critic_update(
        self, key: jax.Array, state: GANState, x_p: jax.Array, x_q: jax.Array
    ) -> tuple[GANState, Metrics]:
        """(`state`, metrics) after one descent of E softplus(v(x_q) − v(x_p)) + penalty; log 2 knows nothing."""

        def loss(critic):
            v_p, v_q, penalty = self.players.outputs_and_penalty(key, state, critic, x_p, x_q, "critic")
            value = pair_loss(v_p, v_q, self.replicas)
            return value + penalty, {"pair_loss": value, "penalty": penalty}

        gradient, metrics = jax.grad(loss, has_aux=True)(state.critic)
        gradient = self.replicas.mean(gradient)
        critic, moments = self.players.critic.descend(gradient, state.critic, state.critic_optimizer)
        metrics["critic_gradient"] = optax.tree.norm(gradient)
        return state._replace(critic=critic, critic_optimizer=moments), metrics

    @jax.named_scope("generator_update")
    def generator_update(self, state: GANState, z: jax.Array, x_p: jax.Array) -> GANState:
        """`state` after one descent of E softplus(v(x_p) − v(G(z))), z [b, latent] and x_p [b, d] paired row by row."""
        v_p = self.players.outputs(state.critic, x_p)

        def loss(generator):
            v_q = self.players.outputs(state.critic, self.players.generate(generator, z))
            return pair_loss(v_q, v_p, self.replicas)

        gradient = self.replicas.mean(jax.grad(loss)(state.generator))
        player = self.players.generator
        generator, moments = player.descend(gradient, state.generator, state.generator_optimizer)
        average = player.averaged(state.average, generator, state.step)
        return state._replace(generator=generator, generator_optimizer=moments, average=average)

    def sample(self, state: GANState, key: jax.Array, n: int) -> jax.Array:
        """n generated points [n, d], from the averaged generator."""
        return self.players.sample(state, key, n)


def pair_loss(winner: jax.Array, loser: jax.Array, replicas: Replicas = ALONE) -> jax.Array:
    """E softplus(loser − winner) over pairs of outputs, [b] each: what is lost where the loser's is the larger: []."""
    return replicas.expectation(jax.nn.softplus(loser - winner))


def build(config: Config, data: Dataset, replicas: Replicas = ALONE) -> Relativistic:
    """The pair that `config` describes. Raises ConfigError for a penalty that needs a divergence."""
    if unfit := [name for name in config.penalty.names if name not in PENALTIES]:
        raise ConfigError(
            f"penalty.names: {', '.join(unfit)} of a divergence or a log-ratio, which model = relativistic does not "
            f"have; choose from {', '.join(PENALTIES)}"
        )
    game = Game(critic_steps=config.game.critic_steps)
    return Relativistic(players=gan.build(replace(config, NEUTRAL | {"game": game}), data, replicas))
