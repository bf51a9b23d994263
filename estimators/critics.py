"""Critic networks: flax modules taking points [n, d] to raw outputs v [n], any real number.

Layer 1: imports flax only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
from flax import linen as nn

NONLINEARITIES: Mapping[str, Callable[[jax.Array], jax.Array]] = MappingProxyType(
    {
        "tanh": jnp.tanh,
        "relu": nn.relu,
        "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
        "elu": nn.elu,
        "silu": nn.silu,
        "gelu": nn.gelu,
        "softplus": nn.softplus,
    }
)


class MLP(nn.Module):
    """A multilayer perceptron [n, d] → [n, width_out], or [n] if `width_out` is None.

    Attributes:
        features: widths of the hidden layers.
        nonlinearity: a name in `NONLINEARITIES`.
        width_out: outputs a point; None for a scalar critic.
        gain: a factor on what enters each nonlinearity; above 1 the network begins, and learns, steeper.
        frequencies: how many octaves of sin(2^k x), cos(2^k x) join the inputs x, so that fine detail is within reach
            (Tancik et al. 2020).
    """

    features: Sequence[int] = (64, 64)
    nonlinearity: str = "tanh"
    width_out: int | None = None
    gain: float = 1.0
    frequencies: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        act = NONLINEARITIES[self.nonlinearity]
        waves = [2.0**k * x for k in range(self.frequencies)]
        x = jnp.concatenate([x, *map(jnp.sin, waves), *map(jnp.cos, waves)], axis=-1)
        for width in self.features:
            x = act(self.gain * nn.Dense(width)(x))
        out = nn.Dense(1 if self.width_out is None else self.width_out)(x)
        return out[:, 0] if self.width_out is None else out
