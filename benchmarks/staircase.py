"""The staircase: mutual information between the halves of a correlated Gaussian, raised while a critic trains.

d = 20, I = 2, 4, 6, 8, 10 nats for 2000 steps each, batches of 64 pairs, one critic with two hidden layers of 256 units
on the joint input (Poole et al. 2019; Song & Ermon 2020). Every step reports an estimate from its own batch before it
trains on it; scored is the root mean square error over the last 500 steps of each level. A perfect log-ratio would have
.24/.32/.38/.41/.44, the sampling noise of 64 pairs.

Ours is trained as a classifier of the 64 joint pairs against the 64 · 63 mixed ones with their true odds of 1 : 63
(noise-contrastive estimation, Gutmann & Hyvärinen 2010), and the estimate is the plug-in E_P[ℓ] of the critic's moving
average: no exponential of ℓ is averaged.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

DIM, LEVELS, STEPS, BATCH, SCORED = 20, (2.0, 4.0, 6.0, 8.0, 10.0), 2000, 64, 500
NOISE = (0.24, 0.32, 0.38, 0.41, 0.44)


class JointCritic(nn.Module):
    """(x [..., d], z [..., d]) → v [...], a perceptron on (x, z) whose first layer is a sum, so that both broadcast."""

    width: int = 256

    @nn.compact
    def __call__(self, x, z):
        first = nn.Dense(self.width)(x) + nn.Dense(self.width, use_bias=False)(z)
        hidden = nn.relu(nn.Dense(self.width)(nn.relu(first)))
        return nn.Dense(1)(hidden)[..., 0]


CRITIC = JointCritic()


def correlated(key: jax.Array, information: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A batch of x and z ~ N(0, I) whose coordinates have the correlation that makes I(X; Z) = `information`."""
    rho = jnp.sqrt(-jnp.expm1(-2.0 * information / DIM))
    x, noise = jax.random.normal(key, (2, BATCH, DIM))
    return x, rho * x + jnp.sqrt(1.0 - rho**2) * noise


def loss(critic, x, z):
    """Logistic loss of joint against mixed pairs, odds 1 : n − 1 known."""
    logit = jnp.asarray(CRITIC.apply(critic, x[:, None], z[None])) - math.log(BATCH - 1.0)
    diagonal = jnp.diagonal(logit)
    mixed = jnp.sum(jax.nn.softplus(logit)) - jnp.sum(jax.nn.softplus(diagonal))
    return (jnp.sum(jax.nn.softplus(-diagonal)) + mixed) / BATCH


@partial(jax.jit, static_argnames=("rate", "memory"))
def climb(key: jax.Array, rate: float, memory: float) -> jax.Array:
    """The estimate of every step [levels · steps]."""
    optimizer = optax.adam(rate)
    levels = jnp.repeat(jnp.asarray(LEVELS), STEPS)

    def step(carry, now):
        critic, average, moments = carry
        i, information = now
        x, z = correlated(jax.random.fold_in(key, i), information)
        estimate = jnp.mean(jnp.asarray(CRITIC.apply(average, x, z)))
        change, moments = optimizer.update(jax.grad(loss)(critic, x, z), moments)
        critic = optax.apply_updates(critic, change)
        average = optax.incremental_update(critic, average, 1.0 - memory)
        return (critic, average, moments), estimate

    start = CRITIC.init(key, *correlated(key, levels[0]))
    return jax.lax.scan(step, (start, start, optimizer.init(start)), (jnp.arange(len(levels)), levels))[1]


def staircase(seed: int, rate: float = 1e-3, memory: float = 0.99) -> dict[str, list[float]]:
    """{"levels", "rmse", "bias", "noise"}: of the last 500 steps of each level, nats."""
    found = np.asarray(climb(jax.random.key(seed), rate, memory), np.float64).reshape(len(LEVELS), STEPS)[:, -SCORED:]
    error = found - np.array(LEVELS)[:, None]
    return {
        "levels": list(LEVELS),
        "rmse": np.sqrt(np.mean(error**2, axis=1)).tolist(),
        "bias": error.mean(axis=1).tolist(),
        "noise": list(NOISE),
    }
