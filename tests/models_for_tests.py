"""A second, tiny model: it shows that the loop, the sweep, the evaluation and the commands ask no more than `Model`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from estimators.critics.kernel import ALONE, Metrics, Replicas
from fgan.config.schema import Config
from fgan.data.dataset import Dataset
from fgan.models.players import optimizer

NAME = "location_scale_mle"
ABOUT = "μ + σz with a σ for each axis, fitted by maximum likelihood"


class State(NamedTuple):
    """Mean and log σ [d] each, the optimiser's state, and the steps left out in a row."""

    parameters: dict[str, jax.Array]
    optimizer: Any
    skipped: jax.Array


@dataclass(frozen=True, kw_only=True)
class LocationScale:
    """x = μ + σz, z ~ N(0, I): descends −E_P log q(x) = E_P Σ ½((x − μ)/σ)² + log σ + ½ log 2π."""

    dim: int
    optimizer: optax.GradientTransformation
    replicas: Replicas = ALONE
    headline = "negative_log_likelihood"
    batches = 1
    notes = ()

    def init(self, key: jax.Array) -> State:
        parameters = {"mean": jax.random.normal(key, (self.dim,)), "log_sigma": jnp.ones(self.dim)}
        return State(parameters, self.optimizer.init(parameters), jnp.zeros((), jnp.int32))

    def step(self, key: jax.Array, state: State, batch: jax.Array) -> tuple[State, Metrics]:
        def loss(p):
            z = (batch[0] - p["mean"][None]) * jnp.exp(-p["log_sigma"])[None]
            log_q = -jnp.sum(0.5 * z**2 + p["log_sigma"][None] + 0.5 * math.log(2.0 * math.pi), axis=1)
            return -self.replicas.expectation(log_q)

        value, gradient = jax.value_and_grad(loss)(state.parameters)
        gradient = self.replicas.mean(gradient)
        change, rest = self.optimizer.update(gradient, state.optimizer, state.parameters)
        new = State(optax.apply_updates(state.parameters, change), rest, jnp.zeros((), jnp.int32))
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(new.parameters["log_sigma"]))
        kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state._replace(skipped=state.skipped + 1))
        return kept, {self.headline: value, "skipped": 1.0 - finite.astype(jnp.float32)}

    def sample(self, state: State, key: jax.Array, n: int) -> jax.Array:
        p = state.parameters
        return p["mean"][None] + jnp.exp(p["log_sigma"])[None] * jax.random.normal(key, (n, self.dim))


def build(config: Config, data: Dataset, replicas: Replicas = ALONE) -> LocationScale:
    """The model for the dimension of `data`; `generator_optimizer` is its only optimiser."""
    return LocationScale(dim=data.dim, optimizer=optimizer(config.generator_optimizer, config.steps), replicas=replicas)
