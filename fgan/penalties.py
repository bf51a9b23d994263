"""Gradient penalties: pure functions of the critic and the batch, added with a weight to the critic's loss.

Input gradients are exact and per sample (vmap of grad). Means go through `expectation`. A row here is all that a new
penalty needs.

Layer 4: imports estimators only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from estimators.bounds import Expectation

CriticFunction = Callable[[jax.Array], jax.Array]
PenaltyFunction = Callable[[CriticFunction, jax.Array, jax.Array, Expectation], jax.Array]


def squared_gradient(critic: CriticFunction, x: jax.Array) -> jax.Array:
    """‖∇ₓ v(x)‖² for each row of x: [n, d] → [n]."""

    def alone(point):
        return critic(point[None])[0]

    return jnp.sum(jax.vmap(jax.grad(alone))(x).reshape(x.shape[0], -1) ** 2, axis=-1)


def r1(critic, x_p, x_q, expectation):
    """E_P‖∇ₓ v‖², on the data (Mescheder, Geiger, Nowozin 2018, eq. 9; the weight λ is half their γ)."""
    return expectation(squared_gradient(critic, x_p))


def r2(critic, x_p, x_q, expectation):
    """E_Q‖∇ₓ v‖², on generated samples (Mescheder, Geiger, Nowozin 2018, eq. 10; the weight λ is half their γ)."""
    return expectation(squared_gradient(critic, x_q))


PENALTIES: Mapping[str, PenaltyFunction] = MappingProxyType({"r1": r1, "r2": r2})
