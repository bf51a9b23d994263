"""The two players of an f-GAN: each a network, the optimiser that trains it, and what is its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from estimators.divergences.bounds import Bound, Expectation, fenchel, mean
from estimators.divergences.generator import Activation, ActivationName, FDivergence
from fgan.config.schema import Optimizer

SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": lambda rate, final, steps: optax.constant_schedule(rate),
    "cosine": lambda rate, final, steps: optax.cosine_decay_schedule(rate, steps, alpha=final),
    "exponential": lambda rate, final, steps: optax.exponential_decay(rate, steps, final, end_value=rate * final),
    "linear": lambda rate, final, steps: optax.linear_schedule(rate, rate * final, steps),
}
"""name → (first rate, share of it at the end, updates) → schedule."""

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": lambda rate, o: optax.adam(rate, b1=o.b1, b2=o.b2),
    "optimistic_adam": lambda rate, o: optax.optimistic_adam_v2(rate, b1=o.b1, b2=o.b2),
    "adamw": lambda rate, o: optax.adamw(rate, b1=o.b1, b2=o.b2),
    "rmsprop": lambda rate, o: optax.rmsprop(rate, decay=o.b2),
    "sgd": lambda rate, o: optax.sgd(rate, momentum=o.b1 or None),
    "lion": lambda rate, o: optax.lion(rate, b1=o.b1, b2=o.b2),
}
"""name → (schedule, the config's group) → optimiser."""


def optimizer(o: Optimizer, steps: int) -> optax.GradientTransformation:
    """The optimiser that `o` describes, its schedule spread over `steps` updates."""
    rate = SCHEDULES[o.schedule](o.learning_rate, o.final, steps)
    made = OPTIMIZERS[o.name](rate, o)
    return optax.chain(optax.clip_by_global_norm(o.clip), made) if o.clip else made


@dataclass(frozen=True, kw_only=True)
class Player:
    """A network (a flax module, or a wrapper around one) of points of `inputs` dimensions, and what trains it."""

    network: Any
    inputs: int
    optimizer: optax.GradientTransformation

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Fresh (parameters, optimiser state)."""
        parameters = self.network.init(key, jnp.zeros((1, self.inputs)))
        return parameters, self.optimizer.init(parameters)

    def descend(self, gradient: Any, parameters: Any, moments: Any) -> tuple[Any, Any]:
        """(parameters, optimiser state) after one step of the optimiser down `gradient`; `moments` is its state."""
        change, moments = self.optimizer.update(gradient, moments, parameters)
        return optax.apply_updates(parameters, change), moments


@dataclass(frozen=True, kw_only=True)
class Generator(Player):
    """A network z [n, latent] → x [n, d], and the moving average of its parameters that samples come from."""

    average: float = 0.0  # decay of that average, a step; 0 keeps none

    def averaged(self, average: Any, parameters: Any, step: jax.Array) -> Any:
        """The moving average after `step`, in which the start weighs little."""
        if not self.average:
            return parameters
        decay = jnp.minimum(self.average, (1.0 + step) / (10.0 + step))
        return optax.incremental_update(parameters, average, 1.0 - decay)


@dataclass(frozen=True, kw_only=True)
class Critic(Player):
    """A network x [n, d] → v [n], what its outputs v stand for, and the bound that it ascends.

    Within ±output_bound no divergence can run away, infinite between disjoint supports or not; the bound stays one. The
    out-of-bound penalty is a way back from where the output bound leaves next to no slope.
    """

    divergence: FDivergence  # the one whose bound trains it
    activation: ActivationName | None = None  # of its outputs; None for the divergence's default
    bound: Bound = fenchel  # an entry of estimators.divergences.bounds.BOUNDS
    output_bound: float = 0.0  # 0 leaves outputs free
    out_of_bound_penalty: float = 0.0  # weight, in its loss, of E (|v| − output_bound)₊² over raw outputs v
    takes_noise: bool = False  # whether the network also takes the standard deviation of the noise in x

    @property
    def output_activation(self) -> Activation:
        """v → T, f*(T) and ℓ."""
        return self.divergence.activation(self.activation)

    @property
    def curvature(self) -> jax.Array | float:
        """f''(1), the unit in which all bounds agree near P = Q; 1 where f has a kink."""
        return self.divergence.second(jnp.ones(())) if self.divergence.smooth else 1.0

    def lower_bound(self, v_p: jax.Array, v_q: jax.Array, expectation: Expectation = mean) -> jax.Array:
        """The bound on its divergence that outputs on P and Q, [b] each, give: []."""
        return self.bound(self.divergence, v_p, v_q, activation=self.activation, expectation=expectation)

    def bounded(self, raw: jax.Array) -> jax.Array:
        """Raw outputs within the output bound c: c·tanh(v/c), if there is one."""
        return self.output_bound * jnp.tanh(raw / self.output_bound) if self.output_bound else raw

    def out_of_bound(self, raw: jax.Array) -> jax.Array:
        """(|v| − output_bound)₊² of raw outputs v."""
        return jnp.maximum(jnp.abs(raw) - self.output_bound, 0.0) ** 2


@dataclass(frozen=True)
class InPrecision:
    """`network` computed in `dtype`: parameters keep their own type, outputs have the type of the first input."""

    network: Any
    dtype: Any

    def init(self, *arguments: Any) -> Any:
        """The network's own parameters."""
        return self.network.init(*arguments)

    def apply(self, parameters: Any, *inputs: jax.Array, **options: Any) -> Any:
        """The network's outputs."""
        narrow = jax.tree.map(lambda x: x.astype(self.dtype), (parameters, inputs))
        outputs = self.network.apply(narrow[0], *narrow[1], **options)
        return jax.tree.map(lambda y: y.astype(inputs[0].dtype), outputs)
