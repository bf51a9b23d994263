"""A critic on a batch: its outputs and their exact per-sample input gradients, in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from estimators.divergences.bounds import Expectation, mean
from estimators.divergences.generator import Activation, ActivationName, FDivergence

CriticFunction = Callable[[jax.Array], jax.Array]


class CriticValues(NamedTuple):
    """All that a penalty may use: the critic, the batch, and the critic's outputs and input gradients on it.

    Attributes:
        critic: x [n, d] → v [n].
        x_p, x_q: the batch, [n, d] each.
        v_p, v_q: the critic's outputs on it, [n].
        gradient_p, gradient_q: ∇ₓv there, [n, d].
        divergence: the one that trains the critic.
        activation: of the critic: v → T, f*(T) and ℓ.
        expectation: the mean over the batch.
        uniform, normal: [n] of U(0, 1) and [n, d] of N(0, 1), for penalties at other points than the batch.
    """

    critic: CriticFunction
    x_p: jax.Array
    x_q: jax.Array
    v_p: jax.Array
    v_q: jax.Array
    gradient_p: jax.Array
    gradient_q: jax.Array
    divergence: FDivergence
    activation: Activation
    expectation: Expectation
    uniform: jax.Array
    normal: jax.Array


def critic_values(
    critic: CriticFunction,
    x_p: jax.Array,
    x_q: jax.Array,
    divergence: FDivergence,
    *,
    activation: ActivationName | None = None,
    expectation: Expectation = mean,
    uniform: jax.Array | float = 0.5,
    normal: jax.Array | float = 0.0,
) -> CriticValues:
    """The CriticValues of a batch; `critic` treats every point on its own, `activation` None is the default one."""
    n = x_p.shape[0]
    v, gradient = values_and_gradients(critic, jnp.concatenate([x_p, x_q]))
    return CriticValues(
        critic=critic,
        x_p=x_p,
        x_q=x_q,
        v_p=v[:n],
        v_q=v[n:],
        gradient_p=gradient[:n],
        gradient_q=gradient[n:],
        divergence=divergence,
        activation=divergence.activation(activation),
        expectation=expectation,
        uniform=jnp.broadcast_to(uniform, x_p.shape[:1]),
        normal=jnp.broadcast_to(normal, x_p.shape),
    )


def values_and_gradients(critic: CriticFunction, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(v(x), ∇ₓv(x)) at each of the points x: [n, d] → [n], [n, d].

    Each v depends on its own point alone, so one pass back from Σv finds every gradient: what vmap of grad finds, with
    the products of a whole batch instead of n small ones.
    """
    v, pull = jax.vjp(critic, x)
    return v, pull(jnp.ones_like(v))[0]
