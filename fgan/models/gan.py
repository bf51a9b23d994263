"""The f-GAN: init(key), step(key, state, batch), sample(state, key, n), all pure.

The critic climbs the variational bound of D_f(P‖Q) (P data, Q generator), the generator descends an objective built
from the same outputs (Nowozin, Cseke, Tomioka 2016, sections 2.3 and 3.2; `objectives` lists them).

`normalise` divides the weights of generated samples by their batch mean, so that no divergence stalls or bursts by its
scale alone. Instance noise joins both measures and fades as they meet. A step that would make anything non-finite is
left out and counted, never applied.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from estimators.critics.kernel import ALONE, Metrics, Replicas
from estimators.divergences.bounds import BOUNDS, fenchel
from estimators.divergences.generator import SMOOTHING, FDivergence, derivative
from estimators.divergences.table import divergence
from fgan.config.schema import Config
from fgan.data.dataset import Dataset
from fgan.models.instance_noise import InstanceNoise, NoiseState, instance_noise
from fgan.models.model import keep_finite
from fgan.models.objectives import Objective, Outputs, descends, minimax, objective
from fgan.models.penalties import WeightedPenalty, critic_values, weighted
from fgan.models.players import Critic, Generator, InPrecision, optimizer
from fgan.networks.conditional import conditional, middle_of
from fgan.networks.critics import CRITICS
from fgan.networks.generators import GENERATORS

STEADY = optax.constant_schedule(SMOOTHING)
MODELS = {"fgan": "a generator against a critic under an f-divergence"}


class GANState(NamedTuple):
    """Everything a step changes."""

    generator: Any
    critic: Any
    generator_optimizer: Any
    critic_optimizer: Any
    average: Any  # moving average of the generator's parameters, what `sample` uses
    step: jax.Array  # generator updates tried so far
    skipped: jax.Array  # consecutive updates left out because something was not finite
    instance_noise: NoiseState | None = None


class Draws(NamedTuple):
    """The random numbers of a step, less its batch."""

    z: jax.Array  # the generator's, [generator_batches·b, latent]
    fake: tuple[jax.Array, ...]  # the critic's, one [b, latent] a critic update; empty where all updates share z
    critic: tuple[jax.Array, ...]  # a key for each of these updates
    generator: jax.Array  # the key of the generator's update


@dataclass(frozen=True, kw_only=True)
class FGAN:
    """A generator against a critic under a named divergence.

    `normalise` divides the critic's loss and its penalty by f''(1), and the weights of the generator's samples by their
    mean; these then move along the critic's output as it is before its output bound. With instance noise the bound is
    that between the noisy measures, a lower bound on the divergence of the sharp ones.
    """

    divergence: FDivergence  # the D_f that the generator descends and that `bound` in the metrics estimates
    generator: Generator
    critic: Critic  # the divergence whose bound it climbs may be another
    batch: int  # the global batch size, over all devices
    objective: Objective = minimax  # what the generator minimises, an entry of OBJECTIVES
    smoothing: optax.Schedule = STEADY  # step → nats, the width of the step that stands in for f' where f has a kink
    normalise: bool = False
    penalty: WeightedPenalty | None = None
    instance_noise: InstanceNoise | None = None
    critic_steps: int = 1  # critic updates a generator update
    generator_batches: int = 1  # batches of generated samples in a generator update; a penalty on it sees the first
    update: Literal["alternating", "simultaneous"] = "alternating"  # or the paper's single-step simultaneous update
    classes: int = 0  # of images trained with their class: the last columns of a point say which, one-hot
    replicas: Replicas = ALONE

    headline = "bound"

    @property
    def batches(self) -> int:
        """Batches of real samples that a step takes."""
        return self.critic_steps

    @property
    def notes(self) -> tuple[str, ...]:
        """What trains what, where the generator does not descend the divergence whose bound trains the critic."""
        return descends(self.objective, self.divergence, self.critic.divergence)

    def init(self, key: jax.Array) -> GANState:
        """Fresh parameters and optimiser states."""
        g_key, c_key = jax.random.split(key)
        generator, generator_optimizer = self.generator.init(g_key)
        critic, critic_optimizer = self.critic.init(c_key)
        average, noise = jax.tree.map(jnp.copy, generator), self.instance_noise.init() if self.instance_noise else None
        step, skipped = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
        return GANState(generator, critic, generator_optimizer, critic_optimizer, average, step, skipped, noise)

    def step(self, key: jax.Array, state: GANState, batch: jax.Array) -> tuple[GANState, Metrics]:
        """One generator update with the critic updates that go with it.

        `batch` are real samples [critic_steps, b, d], b this device's share of the global batch.
        """
        return self.advance(self.noise(key), state, batch)

    def noise(self, key: jax.Array) -> Draws:
        """The random numbers of a step, which may be drawn before it."""
        first, *rest = jax.random.split(key, self.critic_steps + 1)
        z_key, g_key = jax.random.split(first)
        fake_keys, c_keys = zip(*(jax.random.split(k) for k in rest))
        latent = self.generator.inputs
        fake = () if self.update == "simultaneous" else tuple(self.normal(k, latent) for k in fake_keys)
        return Draws(self.normal(z_key, latent, self.generator_batches), fake, c_keys, g_key)

    def advance(self, noise: Draws, state: GANState, batch: jax.Array) -> tuple[GANState, Metrics]:
        """`step` with its random numbers given."""
        return keep_finite(state, *self.attempt(noise, state, batch))

    def attempt(self, noise: Draws, state: GANState, batch: jax.Array) -> tuple[GANState, Metrics]:
        """(state, metrics) after a step, finite or not."""
        trained, old = state, state.critic
        fake = noise.fake or (noise.z[: batch.shape[1]],) * self.critic_steps
        for real, z, key in zip(batch, fake, noise.critic, strict=True):
            trained, metrics = self.critic_update(key, trained, real, self.generate(state.generator, z))
        opponent = old if self.update == "simultaneous" else trained.critic
        new, paid = self.generator_update(noise.generator, trained, opponent, noise.z, batch[-1])
        return new, metrics | paid

    def explain(self, noise: Draws, state: GANState, batch: jax.Array) -> dict[str, Any]:
        """What a step computes, by name: the critic's outputs are those of its first update."""
        new, metrics = self.attempt(noise, state, batch)
        x_q = self.generate(state.generator, (noise.fake or (noise.z,))[0][: batch.shape[1]])
        trained = ("critic_optimizer", "critic", "generator_optimizer", "generator", "average")
        return {
            "data": batch,
            **{f"{name} before": getattr(state, name) for name in trained},
            "generated samples": x_q,
            "critic on data": self.outputs(state.critic, batch[0], state.instance_noise),
            "critic on generated samples": self.outputs(state.critic, x_q, state.instance_noise),
            **metrics,
            **{f"{name} after": getattr(new, name) for name in trained},
        }

    @jax.named_scope("critic_update")
    def critic_update(
        self, key: jax.Array, state: GANState, x_p: jax.Array, x_q: jax.Array
    ) -> tuple[GANState, Metrics]:
        """(`state`, metrics) after one ascent of the bound, less the penalty; the instance noise follows the bound."""
        p_key, q_key, penalty_key = jax.random.split(key, 3)
        x_p, x_q = self.noisy(p_key, state, x_p), self.noisy(q_key, state, x_q)
        unit = self.critic.curvature if self.normalise else 1.0

        def loss(critic):
            v_p, v_q, penalty = self.outputs_and_penalty(penalty_key, state, critic, x_p, x_q, "critic")
            value = self.critic.lower_bound(v_p, v_q, self.replicas.expectation)
            paid = (penalty - value) / unit
            if self.critic.out_of_bound_penalty:
                raw = self.raw(critic, jnp.concatenate([x_p, x_q]), state.instance_noise)
                paid += self.critic.out_of_bound_penalty * self.replicas.expectation(self.critic.out_of_bound(raw))
            return paid, (value, {"bound": self.lower_bound(v_p, v_q, value), "penalty": penalty})

        (_, (value, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(state.critic)
        gradient = self.replicas.mean(gradient)
        critic, moments = self.critic.descend(gradient, state.critic, state.critic_optimizer)
        metrics["critic_gradient"] = optax.tree.norm(gradient)
        noise = state.instance_noise
        if self.instance_noise and noise:
            metrics["noise"] = noise.standard_deviation
            excess = (value - self.critic.divergence.value_at_one) / self.critic.curvature
            noise = self.instance_noise.follow(noise, excess, self.critic_steps * state.step)
        return state._replace(critic=critic, critic_optimizer=moments, instance_noise=noise), metrics

    @jax.named_scope("generator_update")
    def generator_update(
        self, key: jax.Array, state: GANState, critic: Any, z: jax.Array, x_p: jax.Array
    ) -> tuple[GANState, Metrics]:
        """(`state`, its penalty if it pays one) after one descent of the generator's objective against `critic`.

        z is the noise [generator_batches·b, latent]; real samples x_p [b, d] serve the penalty alone.
        """
        q_key, p_key, penalty_key = jax.random.split(key, 3)

        def loss(generator):
            x_q = self.noisy(q_key, state, self.generate(generator, z), self.generator_batches)
            value = self.generator_loss(self.raw(critic, x_q, state.instance_noise), state.step)
            if self.penalty is None or self.penalty.on != "generator":
                return value, {}
            noisy_p = self.noisy(p_key, state, x_p)
            as_many = x_q[: len(noisy_p)]
            penalty = self.outputs_and_penalty(penalty_key, state, critic, noisy_p, as_many, "generator")[2]
            return value + penalty, {"penalty": penalty}

        gradient, metrics = jax.grad(loss, has_aux=True)(state.generator)
        gradient = self.replicas.mean(gradient)
        generator, moments = self.generator.descend(gradient, state.generator, state.generator_optimizer)
        average = self.generator.averaged(state.average, generator, state.step)
        return state._replace(generator=generator, generator_optimizer=moments, average=average), metrics

    def sample(self, state: GANState, key: jax.Array, n: int) -> jax.Array:
        """n generated points [n, d], from the averaged generator (the generator itself where it keeps no average).

        Images come without the columns that say which class they are of.
        """
        return self._without_class(self.generate(state.average, self._noise(key, n)))

    def sample_class(self, state: GANState, key: jax.Array, n: int, chosen: int) -> jax.Array:
        """`sample` of one of the classes, counted from 0."""
        t = middle_of(state.average["params"]["shares"], chosen)
        return self._without_class(self.generate(state.average, self._noise(key, n).at[:, -1].set(t)))

    def _noise(self, key: jax.Array, n: int) -> jax.Array:
        return jax.random.normal(key, (n, self.generator.inputs))

    def _without_class(self, points: jax.Array) -> jax.Array:
        return points[:, : points.shape[1] - self.classes] if self.classes else points

    def generate(self, parameters: Any, z: jax.Array) -> jax.Array:
        """G(z): [b, latent] → [b, d]."""
        return self.generator.network.apply(parameters, z)

    def raw(self, parameters: Any, x: jax.Array, noise: NoiseState | None = None) -> jax.Array:
        """v(x) before the output bound, at points that hold `noise`: [b, d] → [b]."""
        if not (self.instance_noise and noise):
            return self.critic.network.apply(parameters, x)
        deviation = (noise.standard_deviation,) if self.critic.takes_noise else ()
        return self.critic.network.apply(parameters, self.instance_noise.rescaled(x, noise), *deviation)

    def outputs(self, parameters: Any, x: jax.Array, noise: NoiseState | None = None) -> jax.Array:
        """v(x), within the output bound if there is one, at points that hold `noise`: [b, d] → [b]."""
        return self.critic.bounded(self.raw(parameters, x, noise))

    def outputs_and_penalty(self, key: jax.Array, state: GANState, critic: Any, x_p, x_q, player: str):
        """(v_p [b], v_q [b], the weighted penalty that `player` pays); input gradients only where that counts."""
        function = partial(self.outputs, critic, noise=state.instance_noise)
        if self.penalty is None or self.penalty.on != player:
            v = function(jnp.concatenate([x_p, x_q]))
            return v[: len(v) // 2], v[len(v) // 2 :], jnp.zeros(())
        u_key, n_key = jax.random.split(key)
        values = critic_values(
            function,
            x_p,
            x_q,
            self.critic.divergence,
            activation=self.critic.activation,
            expectation=self.replicas.expectation,
            uniform=self.replicas.shard(jax.random.uniform(u_key, (self.batch,))),
            normal=self.normal(n_key, self.critic.inputs),
        )
        return values.v_p, values.v_q, self.penalty(values, state.step)

    def lower_bound(self, v_p: jax.Array, v_q: jax.Array, value: jax.Array) -> jax.Array:
        """The bound on the named divergence that outputs [b] on P and Q give; `value` if that trains the critic."""
        if self.critic.divergence is self.divergence:
            return value
        log_ratio, expectation = self.critic.output_activation.log_ratio, self.replicas.expectation
        return fenchel(self.divergence, log_ratio(v_p), log_ratio(v_q), activation="log_ratio", expectation=expectation)

    def cost(self, v: jax.Array, step: jax.Array | int = 0) -> jax.Array:
        """What the generator pays for each sample in a step, from the critic's outputs on them: [b] → [b]."""
        return self.objective(Outputs(v, self.critic.output_activation, self.divergence, self.smoothing(step)))

    def generator_loss(self, raw: jax.Array, step: jax.Array | int = 0) -> jax.Array:
        """The generator's objective from the critic's outputs on its samples, before the output bound: [b] → []."""
        expectation, v = self.replicas.expectation, self.critic.bounded(raw)
        if self.normalise:
            weight = jax.lax.stop_gradient(derivative(lambda v: self.cost(v, step))(v))
            return -expectation(weight / expectation(weight) * raw)
        if self.objective is minimax and self.critic.bound is not fenchel:
            return self.critic.lower_bound(jax.lax.stop_gradient(v), v, expectation)  # P's term is a constant here
        return expectation(self.cost(v, step))

    def normal(self, key: jax.Array, dim: int, batches: int = 1) -> jax.Array:
        """This device's share of each of so many global batches of N(0, I) in `dim` dimensions, one after another."""
        if batches > 1:
            return jnp.concatenate([self.normal(k, dim) for k in jax.random.split(key, batches)])
        return self.replicas.shard(jax.random.normal(key, (self.batch, dim)))

    def noisy(self, key: jax.Array, state: GANState, x: jax.Array, batches: int = 1) -> jax.Array:
        """x, so many batches of it, with the instance noise of this step, if there is any: [n, d] → [n, d]."""
        noise = state.instance_noise
        return x if noise is None else x + noise.standard_deviation * self.normal(key, self.critic.inputs, batches)


def build(config: Config, data: Dataset, replicas: Replicas = ALONE) -> FGAN:
    """The FGAN that `config` describes, for the dimension of `data`."""
    named = divergence(config.divergence)
    trained = divergence(config.critic.divergence or (named if named.smooth else "js"))
    updates = config.horizon * config.game.critic_steps
    first, last = config.game.smoothing
    g, c = config.generator, config.critic
    generator_network, critic_network = GENERATORS[g.kind](g, data), CRITICS[c.kind](c, data)
    latent = getattr(generator_network, "latent", g.latent + g.linear)
    if data.classes:
        generator_network = conditional(generator_network, latent, data)
    return FGAN(
        divergence=named,
        generator=Generator(
            network=_in_precision(generator_network, config),
            inputs=getattr(generator_network, "latent", latent),
            optimizer=optimizer(config.generator_optimizer, config.horizon),
            average=g.average,
        ),
        critic=Critic(
            network=_in_precision(critic_network, config),
            inputs=data.dim + data.classes,
            optimizer=optimizer(config.critic_optimizer, updates),
            divergence=trained,
            activation=None if c.activation == "default" else c.activation,
            bound=BOUNDS[c.bound],
            output_bound=c.output_bound,
            out_of_bound_penalty=c.out_of_bound_penalty,
            takes_noise=bool(getattr(critic_network, "frequencies", 0)),
        ),
        batch=config.batch,
        objective=objective(config.game.objective, named, trained),
        smoothing=optax.exponential_decay(first, config.horizon, last / first, end_value=last),
        normalise=config.game.normalise,
        penalty=weighted(config.penalty, config.horizon),
        instance_noise=instance_noise(config.instance_noise, updates),
        critic_steps=config.game.critic_steps,
        generator_batches=config.game.generator_batches,
        update=config.game.update,
        classes=data.classes,
        replicas=replicas,
    )


def _in_precision(network: nn.Module, config: Config) -> nn.Module | InPrecision:
    return network if config.compute == "float32" else InPrecision(network, jnp.dtype(config.compute))
