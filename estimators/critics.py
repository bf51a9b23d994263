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
    """

    features: Sequence[int] = (64, 64)
    nonlinearity: str = "tanh"
    width_out: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        act = NONLINEARITIES[self.nonlinearity]
        for width in self.features:
            x = act(nn.Dense(width)(x))
        out = nn.Dense(1 if self.width_out is None else self.width_out)(x)
        return out[:, 0] if self.width_out is None else out
