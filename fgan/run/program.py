"""The compiled part of a run: many steps a call, vmapped over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from estimators.critics.kernel import Replicas, steps
from fgan.config.schema import Config, replace
from fgan.data.dataset import Dataset
from fgan.devices import engines as parallel
from fgan.devices.engines import Layout
from fgan.models.gan import GANState
from fgan.models.model import build


def chunk(config: Config, data: Dataset, n: int):
    """(replicas) → (rows, seeds, state, start) → (state, metrics averaged over the n steps), vmapped over seeds.

    `rows` are this device's share of the data (`parallel.shares`). A further argument holds fields of `config` that
    differ from seed to seed: {dotted name: values [seeds]}. They are traced, so that one program serves all values; a
    sweep's ARRAYS can be.
    """

    def spread(replicas: Replicas):
        def run(rows, seeds, state, start, values: Mapping[str, jax.Array] = MappingProxyType({})):
            def draw(key):
                keys = jax.random.split(key, config.game.critic_steps)
                return jnp.stack([data.draw(k, rows, config.batch, replicas) for k in keys])

            def alone(seed, state, values):
                gan = build(replace(config, values), data, replicas)
                key = jax.random.key(seed)
                state, metrics = steps(gan.advance, draw, key, state, start, n, noise=gan.noise, replicas=replicas)
                return state, jax.tree.map(lambda m: jnp.mean(m, axis=0), metrics)

            return jax.vmap(alone)(seeds, state, dict(values))

        return run

    return spread


def seed_numbers(config: Config) -> jax.Array:
    """seed, seed + 1, …: the seeds trained at once."""
    return jnp.arange(config.seed, config.seed + config.seeds, dtype=jnp.uint32)


def fresh(config: Config, data: Dataset, seeds: jax.Array | None = None, *, where: Layout | None = None) -> GANState:
    """The state before the first step, vmapped over `seeds`, those of `config` if None, laid out as `where` has it."""
    gan = build(config, data)

    def init(seeds):
        return jax.vmap(lambda seed: gan.init(jax.random.fold_in(jax.random.key(seed), 2**32 - 1)))(seeds)

    seeds = seed_numbers(config) if seeds is None else seeds
    if where is None or where.n == 1:
        return jax.jit(init)(seeds)
    return jax.jit(init, out_shardings=parallel.shardings(jax.eval_shape(init, seeds), where))(np.asarray(seeds))
