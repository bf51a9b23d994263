"""The f-GAN: init(key), step(key, state, batch), sample(state, key, n), all pure.

The critic climbs the variational bound of D_f(P‖Q) (P data, Q generator), the generator descends an objective built
from the same outputs (Nowozin, Cseke, Tomioka 2016, sections 2.3 and 3.2):

    minimax       −E_Q[f*(T(v))]                the bound itself, its algorithm 1
    alternative   −E_Q[T(v)]                    the paper's way past vanishing gradients
    ratio         −E_Q[f_G*(f_G'(e^ℓ))]         any divergence f_G through the critic's log-ratio ℓ, whatever trained it

A step that would make anything non-finite is left out and counted, never applied.

Layer 5: imports networks and penalties through its fields only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from estimators.bounds import Bound, fenchel
from estimators.divergences import SMOOTHING, ActivationName, FDivergence
from estimators.fitting import ALONE, Metrics, Replicas


class GANState(NamedTuple):
    """Everything a step changes.

    Attributes:
        generator, critic: parameters.
        generator_optimizer, critic_optimizer: optax states.
        average: exponential moving average of the generator's parameters, what `sample` uses.
        step: generator updates tried so far.
        skipped: consecutive updates left out because something was not finite.
    """

    generator: Any
    critic: Any
    generator_optimizer: Any
    critic_optimizer: Any
    average: Any
    step: jax.Array
    skipped: jax.Array


@dataclass(frozen=True, kw_only=True)
class FGAN:
    """A generator against a critic under a named divergence.

    Attributes:
        generator: flax module, z [n, latent] → x [n, d].
        critic: flax module, x [n, d] → v [n].
        divergence: the D_f that the generator descends and that `bound` in the metrics estimates.
        critic_divergence: the divergence whose bound trains the critic; None means the same one. A different one makes
            the generator's objective `ratio`.
        activation: of the critic's output; None for the row's default.
        bound: a row of estimators.bounds.BOUNDS.
        objective: the generator's: minimax, alternative or ratio.
        update: alternating, or the paper's single-step simultaneous update.
        critic_steps: critic updates a generator update.
        generator_optimizer, critic_optimizer: optax transformations.
        penalty: (critic function, x_p, x_q, expectation) → scalar added to the critic's loss.
        average: decay of the moving average of the generator.
        reach: the raw outputs are squashed into ±reach, so that no divergence, infinite between disjoint supports or
            not, can run away; the bound stays a bound. 0 leaves them free.
        smoothing: width in nats of the step that stands in for f' where the generator's divergence has a kink.
        dim, latent, batch: d, the dimension of z, and the global batch size.
        replicas: how the global batch is spread over devices.
    """

    generator: nn.Module
    critic: nn.Module
    divergence: FDivergence
    dim: int
    latent: int
    batch: int
    generator_optimizer: optax.GradientTransformation
    critic_optimizer: optax.GradientTransformation
    critic_divergence: FDivergence | None = None
    activation: ActivationName | None = None
    bound: Bound = fenchel
    objective: Literal["minimax", "alternative", "ratio"] = "minimax"
    update: Literal["alternating", "simultaneous"] = "alternating"
    critic_steps: int = 1
    penalty: Callable[..., jax.Array] | None = None
    average: float = 0.0
    reach: float = 0.0
    smoothing: float = SMOOTHING
    replicas: Replicas = ALONE

    @property
    def trained(self) -> FDivergence:
        """The divergence whose bound trains the critic."""
        return self.critic_divergence or self.divergence

    def init(self, key: jax.Array) -> GANState:
        """Fresh parameters and optimiser states."""
        g_key, c_key = jax.random.split(key)
        generator = self.generator.init(g_key, jnp.zeros((1, self.latent)))
        critic = self.critic.init(c_key, jnp.zeros((1, self.dim)))
        return GANState(
            generator=generator,
            critic=critic,
            generator_optimizer=self.generator_optimizer.init(generator),
            critic_optimizer=self.critic_optimizer.init(critic),
            average=jax.tree.map(jnp.copy, generator),
            step=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
        )

    def generate(self, parameters: Any, z: jax.Array) -> jax.Array:
        """G(z): [b, latent] → [b, d]."""
        return self.generator.apply(parameters, z)  # type: ignore[return-value]

    def outputs(self, parameters: Any, x: jax.Array) -> jax.Array:
        """v(x), the critic's raw outputs: [b, d] → [b], within ±`reach` if that is set."""
        v: jax.Array = self.critic.apply(parameters, x)  # type: ignore[assignment]
        return self.reach * jnp.tanh(v / self.reach) if self.reach else v

    def noise(self, key: jax.Array) -> jax.Array:
        """This device's share of a global batch of z ~ N(0, I)."""
        return self.replicas.shard(jax.random.normal(key, (self.batch, self.latent)))

    def step(self, key: jax.Array, state: GANState, batch: jax.Array) -> tuple[GANState, Metrics]:
        """One generator update with the critic updates that go with it.

        Args:
            batch: real samples [critic_steps, b, d], b this device's share of the global batch.
        """
        keys = jax.random.split(key, self.critic_steps + 1)
        x_q = self.generate(state.generator, self.noise(keys[0]))
        if self.update == "simultaneous":
            critic, optimizer, metrics = self.critic_update(state, batch[0], x_q)
            opponent = state.critic
        else:
            trained = state
            for real, k in zip(batch, keys[1:], strict=True):
                fake = self.generate(state.generator, self.noise(k))
                critic, optimizer, metrics = self.critic_update(trained, real, fake)
                trained = trained._replace(critic=critic, critic_optimizer=optimizer)
            opponent = trained.critic
        new = self.generator_update(state, opponent, keys[0])._replace(critic=critic, critic_optimizer=optimizer)
        return self._keep_finite(state, new, metrics)

    def critic_update(self, state: GANState, x_p: jax.Array, x_q: jax.Array):
        """(critic parameters, optimiser state, metrics) after one ascent of the bound, less the penalty."""

        def loss(critic):
            v = self.outputs(critic, jnp.concatenate([x_p, x_q]))
            v_p, v_q = v[: x_p.shape[0]], v[x_p.shape[0] :]
            expectation = self.replicas.expectation
            value = self.bound(self.trained, v_p, v_q, activation=self.activation, expectation=expectation)
            penalty = (
                self.penalty(partial(self.outputs, critic), x_p, x_q, expectation) if self.penalty else jnp.zeros(())
            )
            return penalty - value, {"bound": self.own_bound(v_p, v_q, value), "penalty": penalty}

        (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(state.critic)
        gradient = self.replicas.mean(gradient)
        change, optimizer = self.critic_optimizer.update(gradient, state.critic_optimizer, state.critic)
        metrics["critic_gradient"] = optax.tree.norm(gradient)
        return optax.apply_updates(state.critic, change), optimizer, metrics

    def own_bound(self, v_p: jax.Array, v_q: jax.Array, value: jax.Array) -> jax.Array:
        """The lower bound on the named divergence that this critic gives: `value`, unless another one trained it."""
        if self.trained is self.divergence:
            return value
        read = self.trained.activation(self.activation).log_ratio
        expectation = self.replicas.expectation
        return fenchel(self.divergence, read(v_p), read(v_q), activation="log_ratio", expectation=expectation)

    def generator_loss(self, v_q: jax.Array) -> jax.Array:
        """The generator's objective, from critic outputs on its samples [b]."""
        g, expectation = self.trained.activation(self.activation), self.replicas.expectation
        if self.trained is not self.divergence or self.objective == "ratio":
            ratio = g.log_ratio(v_q)
            if not self.divergence.smooth:
                kink = self.divergence.kink
                ratio = kink + SMOOTHING / self.smoothing * (ratio - kink)
            return -expectation(self.divergence.log_ratio.conjugate(ratio))
        if self.objective == "alternative":
            return -expectation(g.output(v_q))
        v_p = jax.lax.stop_gradient(v_q)  # the term on P is a constant to the generator
        return self.bound(self.trained, v_p, v_q, activation=self.activation, expectation=expectation)

    def generator_update(self, state: GANState, critic: Any, key: jax.Array) -> GANState:
        """`state` after one descent of the generator's objective against `critic`."""

        def loss(generator):
            return self.generator_loss(self.outputs(critic, self.generate(generator, self.noise(key))))

        gradient = self.replicas.mean(jax.grad(loss)(state.generator))
        change, optimizer = self.generator_optimizer.update(gradient, state.generator_optimizer, state.generator)
        generator = optax.apply_updates(state.generator, change)
        decay = jnp.minimum(self.average, (1.0 + state.step) / (10.0 + state.step))  # the start weighs little
        average = optax.incremental_update(generator, state.average, 1.0 - decay)
        return state._replace(generator=generator, generator_optimizer=optimizer, average=average)

    def _keep_finite(self, old: GANState, new: GANState, metrics: Metrics) -> tuple[GANState, Metrics]:
        inexact = [x for x in jax.tree.leaves((new, metrics)) if jnp.issubdtype(x.dtype, jnp.inexact)]
        finite = jnp.stack([jnp.all(jnp.isfinite(x)) for x in inexact]).all()
        kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
        state = kept._replace(step=old.step + 1, skipped=jnp.where(finite, 0, old.skipped + 1))
        return state, metrics | {"skipped": 1.0 - finite.astype(jnp.float32)}

    def sample(self, state: GANState, key: jax.Array, n: int) -> jax.Array:
        """n generated points [n, d], from the averaged generator (the generator itself where `average` is 0)."""
        return self.generate(state.average, jax.random.normal(key, (n, self.latent)))
