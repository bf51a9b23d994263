"""A generator of known density fitted to a known target by the divergence itself: no critic, so no game.

    D_f(P‖Q) = f(1) + E_M[(q/m) f̃(r)],        r = p/q,  M = ½(P + Q),  f̃(u) = f(u) − f(1) − f'(1)(u − 1),
    ∇D_f     = −E_M[(q/m) f*(f'(r)) ∇log q].

Both averages are over points of M, with weights q/m ≤ 2: importance sampling from a defensive mixture (Hesterberg
1995), without bias. Where the descent ends is the mark for an f-GAN with the same generator.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from estimators.critics.kernel import ALONE, Metrics, Replicas
from estimators.distributions.examples import TARGETS
from estimators.divergences.generator import FDivergence
from estimators.divergences.table import divergence
from fgan.config.fields import ConfigError
from fgan.config.schema import Config
from fgan.data.dataset import Dataset
from fgan.models.model import keep_finite
from fgan.models.objectives import stepped
from fgan.models.players import Generator, optimizer
from fgan.networks.generators import GENERATORS

MODELS = {"direct_fit": "a flow fitted to a known distribution by the divergence itself, without a critic"}
FARTHEST = 30.0
"""nats; log-ratios beyond count as this. e^60, which pearson may need, is a number in float32."""
STEP = 1e-3
"""nats; width of the step that stands in for f' where f has a kink: fewer samples fall into it than change a mean."""


class FitState(NamedTuple):
    """Everything a step changes."""

    generator: Any
    optimizer: Any
    average: Any  # moving average of the generator's parameters, what `sample` uses
    step: jax.Array  # updates tried so far
    skipped: jax.Array  # consecutive updates left out because something was not finite


@dataclass(frozen=True, kw_only=True)
class DirectFit:
    """A flow that descends D_f(data‖flow) by Monte Carlo averages over both."""

    divergence: FDivergence
    data: Dataset  # of known density
    generator: Generator
    batch: int  # points of P, and of Q, in all of a step
    replicas: Replicas = ALONE

    headline = "divergence"
    batches = 1

    @property
    def notes(self) -> tuple[str, ...]:
        """What trains the flow."""
        return (f"generator: gradient of {self.divergence.name} by the exact densities, no critic",)

    def init(self, key: jax.Array) -> FitState:
        """Fresh parameters and optimiser state."""
        parameters, moments = self.generator.init(key)
        zero = jnp.zeros((), jnp.int32)
        return FitState(parameters, moments, jax.tree.map(jnp.copy, parameters), zero, zero)

    def step(self, key: jax.Array, state: FitState, batch: jax.Array) -> tuple[FitState, Metrics]:
        """One descent of D_f; `batch` are samples of the target [1, b, d], b this device's share."""
        return keep_finite(state, *self.attempt(key, state, batch))

    def explain(self, key: jax.Array, state: FitState, batch: jax.Array) -> dict[str, Any]:
        """What a step computes, by name."""
        new, metrics = self.attempt(key, state, batch)
        before = {"data": batch, "generator before": state.generator, "optimizer before": state.optimizer}
        return before | metrics | {"optimizer after": new.optimizer, "generator after": new.generator}

    def attempt(self, key: jax.Array, state: FitState, batch: jax.Array) -> tuple[FitState, Metrics]:
        """(state, metrics) after a step, finite or not."""
        z = self.replicas.shard(jax.random.normal(key, (self.batch, self.generator.inputs)))
        x = jnp.concatenate([batch[0], self.generator.network.apply(state.generator, z)])
        value, gradient = jax.value_and_grad(self.value)(state.generator, jax.lax.stop_gradient(x))
        gradient = self.replicas.mean(gradient)
        parameters, moments = self.generator.descend(gradient, state.generator, state.optimizer)
        average = self.generator.averaged(state.average, parameters, state.step)
        new = state._replace(generator=parameters, optimizer=moments, average=average)
        return new, {"divergence": value, "generator_gradient": optax.tree.norm(gradient)}

    def value(self, parameters: Any, x: jax.Array) -> jax.Array:
        """D_f from points x [2b, d], half of them of P and half of Q, whose gradient is that of D_f: []."""
        d, log_q = self.divergence, self.log_prob(parameters, x)
        fixed = jax.lax.stop_gradient(log_q)
        log_ratio = jnp.clip(self.data.log_prob(x) - fixed, -FARTHEST, FARTHEST)
        weight = 2.0 * jax.nn.sigmoid(-log_ratio)  # q/m
        excess = d.f(jnp.exp(log_ratio)) - d.value_at_one - d.prime(jnp.ones(())) * jnp.expm1(log_ratio)
        pull = self.slope(log_ratio) - self.slope(jnp.zeros(()))  # any constant has a mean of 0; this one steadies it
        return d.value_at_one + self.replicas.expectation(weight * (excess + pull * (log_q - fixed)))

    def slope(self, log_ratio: jax.Array) -> jax.Array:
        """−f*(f'(r)), what a point adds to ∂D_f/∂log q in units of q."""
        return -self.divergence.log_ratio.conjugate(stepped(self.divergence, log_ratio, STEP))

    def log_prob(self, parameters: Any, x: jax.Array) -> jax.Array:
        """log q(x): [n, d] → [n]."""
        return self.generator.network.apply(parameters, x, method="log_prob")

    def sample(self, state: FitState, key: jax.Array, n: int) -> jax.Array:
        """n points [n, d] of the averaged flow (the flow itself where it keeps no average)."""
        return self.generator.network.apply(state.average, jax.random.normal(key, (n, self.generator.inputs)))


def build(config: Config, data: Dataset, replicas: Replicas = ALONE) -> DirectFit:
    """The fit that `config` describes. Raises ConfigError unless both densities are known."""
    if len(data.rows):  # a known target has none
        raise ConfigError(
            f"model = direct_fit: the density of data.name = {data.name} is not known; set data.name to one of "
            f"{', '.join(TARGETS)}"
        )
    network = GENERATORS[config.generator.kind](config.generator, data)
    if not hasattr(network, "log_prob"):
        raise ConfigError(
            f"model = direct_fit: set generator.kind = flow; it does not fit {config.generator.kind} generators"
        )
    return DirectFit(
        divergence=divergence(config.divergence),
        data=data,
        generator=Generator(
            network=network,
            inputs=network.latent,
            optimizer=optimizer(config.generator_optimizer, config.horizon),
            average=config.generator.average,
        ),
        batch=config.batch,
        replicas=replicas,
    )
