"""The f-GAN: init(key), step(key, state, batch), sample(state, key, n), all pure.

The critic climbs the variational bound of D_f(P‖Q) (P data, Q generator), the generator descends an objective built
from the same outputs (Nowozin, Cseke, Tomioka 2016, sections 2.3 and 3.2):

    minimax       −E_Q[f*(T(v))]                the bound itself, its algorithm 1
    alternative   −E_Q[T(v)]                    the paper's way past vanishing gradients
    ratio         −E_Q[f_G*(f_G'(e^ℓ))]         any divergence f_G through the critic's log-ratio ℓ, whatever trained it
    covering      −E_Q[e^ℓ]                     the gradient of KL(P‖Q) through that ratio, whatever trained the critic

Under each, a sample x_q moves along w(v)∇v with a weight of its own, such as e^{2v}f''(e^v) for minimax and
e^v f''(e^v) for alternative under log_ratio. Where w grows as v falls, samples between modes, far below, drown the
differences that would balance the modes; `covering` weighs by e^ℓ and lets regions lead that the model lacks. It leaves
the critic its divergence and takes the generator's from another, so it is never a default. A divergence with a kink
keeps its smoothed `ratio`. `normalise` divides the weights by their batch mean, so that no divergence
stalls or bursts by its scale alone. `spread` blurs both measures by noise that fades as they meet.

A step that would make anything non-finite is left out and counted, never applied.

Layer 5: imports penalties and spread; networks through its fields only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from estimators.critics.kernel import ALONE, Metrics, Replicas
from estimators.divergences.bounds import Bound, fenchel
from estimators.divergences.generator import SMOOTHING, ActivationName, FDivergence, derivative
from fgan.models.instance_noise import Blur, Spread
from fgan.models.penalties import Look, look


class GANState(NamedTuple):
    """Everything a step changes.

    Attributes:
        generator, critic: parameters.
        generator_optimizer, critic_optimizer: optax states.
        average: exponential moving average of the generator's parameters, what `sample` uses.
        step: generator updates tried so far.
        skipped: consecutive updates left out because something was not finite.
        blur: the noise of a spread divergence; None without one.
    """

    generator: Any
    critic: Any
    generator_optimizer: Any
    critic_optimizer: Any
    average: Any
    step: jax.Array
    skipped: jax.Array
    blur: Blur | None = None


class Noise(NamedTuple):
    """What a step draws, less its batch.

    Attributes:
        z: the generator's, [b, latent].
        fake: the critic's, one [b, latent] a critic update; empty where all updates share z.
        critic: a key for each of these updates.
        generator: the key of the generator's update.
    """

    z: jax.Array
    fake: tuple[jax.Array, ...]
    critic: tuple[jax.Array, ...]
    generator: jax.Array


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
        bound: a row of estimators.divergences.bounds.BOUNDS.
        objective: the generator's: minimax, alternative, ratio or covering.
        update: alternating, or the paper's single-step simultaneous update.
        critic_steps: critic updates a generator update.
        generator_optimizer, critic_optimizer: optax transformations.
        penalty: a Look → the scalar added to a loss.
        penalty_weight: step → the factor on it.
        penalty_on: whose loss it is added to.
        normalise: divide the critic's loss and its penalty by f''(1), and the weights of the generator's samples by
            their mean; these then move along the critic's output as it is before `reach`.
        spread: the noise added to both measures; None adds none. The bound is then that between the blurred measures,
            a lower bound on the divergence of the sharp ones.
        average: decay of the moving average of the generator.
        reach: the raw outputs are squashed into ±reach, so that no divergence, infinite between disjoint supports or
            not, can run away; the bound stays a bound. 0 leaves them free.
        leash: weight, in the critic's loss, of E (|v| − reach)₊² over raw outputs v on both samples: a way back from
            where `reach` leaves next to no slope. Not divided by f''(1).
        smoothing: width in nats of the step that stands in for f' where the generator's divergence has a kink.
        dim, latent, batch: d, the dimension of z, and the global batch size.
        compute: the type the networks compute in; parameters stay as they are, and outputs are float32 again.
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
    objective: Literal["minimax", "alternative", "ratio", "kl_gradient"] = "minimax"
    update: Literal["alternating", "simultaneous"] = "alternating"
    critic_steps: int = 1
    penalty: Callable[[Look], jax.Array] | None = None
    penalty_weight: Callable[[jax.Array], jax.Array] = jnp.ones_like
    penalty_on: Literal["critic", "generator"] = "critic"
    normalise: bool = False
    spread: Spread | None = None
    average: float = 0.0
    reach: float = 0.0
    leash: float = 0.0
    smoothing: float = SMOOTHING
    compute: Any = None
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
            blur=self.spread.init() if self.spread else None,
        )

    def apply(self, network: nn.Module, parameters: Any, *inputs: jax.Array) -> jax.Array:
        """The network's output, computed in `compute` if that is set, and in the type of its first input."""
        if self.compute is None:
            return network.apply(parameters, *inputs)  # type: ignore[return-value]
        narrow = jax.tree.map(lambda x: x.astype(self.compute), (parameters, inputs))
        return network.apply(narrow[0], *narrow[1]).astype(inputs[0].dtype)  # type: ignore[union-attr]

    def generate(self, parameters: Any, z: jax.Array) -> jax.Array:
        """G(z): [b, latent] → [b, d]."""
        return self.apply(self.generator, parameters, z)

    def outputs(self, parameters: Any, x: jax.Array, blur: Blur | None = None) -> jax.Array:
        """v(x), the critic's raw outputs on points blurred by `blur`: [b, d] → [b], within ±`reach` if that is set."""
        return self.squashed(self.unsquashed(parameters, x, blur))

    def unsquashed(self, parameters: Any, x: jax.Array, blur: Blur | None = None) -> jax.Array:
        """v(x) before `reach`: [b, d] → [b]. A critic that sees frequencies is told how far `blur` fades each."""
        told = (blur.level,) if blur is not None and getattr(self.critic, "frequencies", None) else ()
        seen = self.spread.seen(x, blur) if self.spread and blur is not None else x
        return self.apply(self.critic, parameters, seen, *told)

    def squashed(self, v: jax.Array) -> jax.Array:
        """v brought within ±`reach`, if that is set."""
        return self.reach * jnp.tanh(v / self.reach) if self.reach else v

    def excess(self, parameters: Any, x: jax.Array, blur: Blur | None = None) -> jax.Array:
        """E (|v| − reach)₊² of the raw outputs v at x: [b, d] → []."""
        beyond = jnp.maximum(jnp.abs(self.unsquashed(parameters, x, blur)) - self.reach, 0.0)
        return self.replicas.expectation(beyond**2)

    def normal(self, key: jax.Array, dim: int) -> jax.Array:
        """This device's share of a global batch of N(0, I) in `dim` dimensions."""
        return self.replicas.shard(jax.random.normal(key, (self.batch, dim)))

    def blurred(self, key: jax.Array, state: GANState, x: jax.Array) -> jax.Array:
        """x with the noise of this step's spread divergence, if there is one: [b, d] → [b, d]."""
        return x if state.blur is None else x + state.blur.level * self.normal(key, self.dim)

    def step(self, key: jax.Array, state: GANState, batch: jax.Array) -> tuple[GANState, Metrics]:
        """One generator update with the critic updates that go with it.

        Args:
            batch: real samples [critic_steps, b, d], b this device's share of the global batch.
        """
        return self.advance(self.noise(key), state, batch)

    def noise(self, key: jax.Array) -> Noise:
        """The random numbers of a step, which may be drawn before it."""
        first, *rest = jax.random.split(key, self.critic_steps + 1)
        z_key, g_key = jax.random.split(first)
        fake_keys, c_keys = zip(*(jax.random.split(k) for k in rest))
        fake = () if self.update == "simultaneous" else tuple(self.normal(k, self.latent) for k in fake_keys)
        return Noise(self.normal(z_key, self.latent), fake, c_keys, g_key)

    def advance(self, noise: Noise, state: GANState, batch: jax.Array) -> tuple[GANState, Metrics]:
        """`step` with its random numbers given."""
        trained, old = state, state.critic
        fake = noise.fake or (noise.z,) * self.critic_steps
        for real, z, key in zip(batch, fake, noise.critic, strict=True):
            trained, metrics = self.critic_update(key, trained, real, self.generate(state.generator, z))
        opponent = old if self.update == "simultaneous" else trained.critic
        new, paid = self.generator_update(noise.generator, trained, opponent, noise.z, batch[-1])
        return self._keep_finite(state, new, metrics | paid)

    @jax.named_scope("critic_update")
    def critic_update(
        self, key: jax.Array, state: GANState, x_p: jax.Array, x_q: jax.Array
    ) -> tuple[GANState, Metrics]:
        """(`state`, metrics) after one ascent of the bound, less the penalty; the blur follows the bound."""
        p_key, q_key, look_key = jax.random.split(key, 3)
        x_p, x_q = self.blurred(p_key, state, x_p), self.blurred(q_key, state, x_q)
        unit = self._bend() if self.normalise else 1.0

        def loss(critic):
            v_p, v_q, penalty = self.see(look_key, state, critic, x_p, x_q, "critic")
            expectation = self.replicas.expectation
            value = self.bound(self.trained, v_p, v_q, activation=self.activation, expectation=expectation)
            metrics = {"bound": self.own_bound(v_p, v_q, value), "penalty": penalty}
            paid = (penalty - value) / unit
            if self.leash:
                paid += self.leash * self.excess(critic, jnp.concatenate([x_p, x_q]), state.blur)
            return paid, (value, metrics)

        (_, (value, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(state.critic)
        gradient = self.replicas.mean(gradient)
        change, optimizer = self.critic_optimizer.update(gradient, state.critic_optimizer, state.critic)
        metrics["critic_gradient"] = optax.tree.norm(gradient)
        blur = state.blur
        if self.spread and blur is not None:
            metrics["noise"] = blur.level
            excess = (value - self.trained.value_at_one) / self._bend()
            blur = self.spread.follow(blur, excess, self.critic_steps * state.step)
        critic = optax.apply_updates(state.critic, change)
        return state._replace(critic=critic, critic_optimizer=optimizer, blur=blur), metrics

    def _bend(self) -> jax.Array | float:
        """f''(1) of the divergence that trains the critic; 1 where f has a kink."""
        return self.trained.second(jnp.ones(())) if self.trained.smooth else 1.0

    def see(self, key: jax.Array, state: GANState, critic: Any, x_p: jax.Array, x_q: jax.Array, player: str):
        """(v_p [b], v_q [b], the penalty that `player` pays, weighted), with input gradients only where they count."""
        function = partial(self.outputs, critic, blur=state.blur)
        if self.penalty is None or self.penalty_on != player:
            v = function(jnp.concatenate([x_p, x_q]))
            return v[: x_p.shape[0]], v[x_p.shape[0] :], jnp.zeros(())
        u_key, n_key = jax.random.split(key)
        seen = look(
            function,
            x_p,
            x_q,
            self.trained,
            activation=self.activation,
            expectation=self.replicas.expectation,
            uniform=self.replicas.shard(jax.random.uniform(u_key, (self.batch,))),
            normal=self.normal(n_key, self.dim),
        )
        return seen.v_p, seen.v_q, self.penalty_weight(state.step) * self.penalty(seen)

    def own_bound(self, v_p: jax.Array, v_q: jax.Array, value: jax.Array) -> jax.Array:
        """The lower bound on the named divergence that this critic gives: `value`, unless another one trained it."""
        if self.trained is self.divergence:
            return value
        read = self.trained.activation(self.activation).log_ratio
        expectation = self.replicas.expectation
        return fenchel(self.divergence, read(v_p), read(v_q), activation="log_ratio", expectation=expectation)

    def cost(self, v: jax.Array) -> jax.Array:
        """What the generator pays for a sample, a decreasing function of the critic's output there: [b] → [b]."""
        g = self.trained.activation(self.activation)
        if self.objective == "kl_gradient" and self.divergence.smooth:
            return -jnp.exp(g.log_ratio(v))
        if self.trained is not self.divergence or self.objective == "ratio":
            ratio = g.log_ratio(v)
            if not self.divergence.smooth:
                kink = self.divergence.kink
                ratio = kink + SMOOTHING / self.smoothing * (ratio - kink)
            return -self.divergence.log_ratio.conjugate(ratio)
        return -g.output(v) if self.objective == "alternative" else -g.conjugate(v)

    def generator_loss(self, raw_q: jax.Array) -> jax.Array:
        """The generator's objective from the critic's outputs on its samples, before `reach`: [b] → []."""
        expectation, v_q = self.replicas.expectation, self.squashed(raw_q)
        if self.normalise:
            weight = jax.lax.stop_gradient(derivative(self.cost)(v_q))
            return -expectation(weight / expectation(weight) * raw_q)
        if self.bound is not fenchel and self.objective == "minimax":
            v_p = jax.lax.stop_gradient(v_q)  # the term on P is a constant to the generator
            return self.bound(self.trained, v_p, v_q, activation=self.activation, expectation=expectation)
        return expectation(self.cost(v_q))

    @jax.named_scope("generator_update")
    def generator_update(
        self, key: jax.Array, state: GANState, critic: Any, z: jax.Array, x_p: jax.Array
    ) -> tuple[GANState, Metrics]:
        """(`state`, its penalty if it pays one) after one descent of the generator's objective against `critic`.

        Args:
            z: the noise [b, latent].
            x_p: real samples [b, d], for a penalty.
        """
        q_key, p_key, look_key = jax.random.split(key, 3)
        pays = self.penalty is not None and self.penalty_on == "generator"

        def loss(generator):
            x_q = self.blurred(q_key, state, self.generate(generator, z))
            value = self.generator_loss(self.unsquashed(critic, x_q, state.blur))
            if not pays:
                return value, {}
            penalty = self.see(look_key, state, critic, self.blurred(p_key, state, x_p), x_q, "generator")[2]
            return value + penalty, {"penalty": penalty}

        gradient, metrics = jax.grad(loss, has_aux=True)(state.generator)
        gradient = self.replicas.mean(gradient)
        change, optimizer = self.generator_optimizer.update(gradient, state.generator_optimizer, state.generator)
        generator = optax.apply_updates(state.generator, change)
        average = self.averaged(generator, state)
        return state._replace(generator=generator, generator_optimizer=optimizer, average=average), metrics

    def averaged(self, generator: Any, state: GANState) -> Any:
        """The moving average of the generator's parameters, of which the start weighs little."""
        if not self.average:
            return generator
        decay = jnp.minimum(self.average, (1.0 + state.step) / (10.0 + state.step))
        return optax.incremental_update(generator, state.average, 1.0 - decay)

    def _keep_finite(self, old: GANState, new: GANState, metrics: Metrics) -> tuple[GANState, Metrics]:
        finite = all_finite((new, metrics))
        kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
        state = kept._replace(step=old.step + 1, skipped=jnp.where(finite, 0, old.skipped + 1))
        return state, metrics | {"skipped": 1.0 - finite.astype(jnp.float32)}

    def sample(self, state: GANState, key: jax.Array, n: int) -> jax.Array:
        """n generated points [n, d], from the averaged generator (the generator itself where `average` is 0)."""
        return self.generate(state.average, jax.random.normal(key, (n, self.latent)))


def all_finite(tree: Any) -> jax.Array:
    """Whether no number in `tree` is infinite or NaN: []. Leaves of one shape are read in one pass."""
    shapes: dict[tuple[int, ...], list[jax.Array]] = {}
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            shapes.setdefault(leaf.shape, []).append(jnp.isfinite(leaf))
    return jnp.stack([jnp.all(reduce(jnp.logical_and, same)) for same in shapes.values()]).all()
