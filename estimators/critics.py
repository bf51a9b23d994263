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
            (Tancik et al. 2020, Fourier features).

    Called with the standard deviation `blur` of Gaussian noise in x, it weighs each octave by e^{−½(2^k blur)²}, what
    the noise leaves of it on average (Barron et al. 2021, mip-NeRF, eq. 14), and sees these weights: detail comes in
    as the noise fades.
    """

    features: Sequence[int] = (64, 64)
    nonlinearity: str = "tanh"
    width_out: int | None = None
    gain: float = 1.0
    frequencies: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, blur: jax.Array | float = 0.0) -> jax.Array:
        act = NONLINEARITIES[self.nonlinearity]
        x = self._with_waves(x, blur) if self.frequencies else x
        for width in self.features:
            x = act(self.gain * nn.Dense(width)(x))
        out = nn.Dense(1 if self.width_out is None else self.width_out)(x)
        return out[:, 0] if self.width_out is None else out

    def _with_waves(self, x: jax.Array, blur: jax.Array | float) -> jax.Array:
        """[n, d] → [n, d + k + 2dk]: x, the weight of each octave, and its weighted waves."""
        octaves = 2.0 ** jnp.arange(self.frequencies)
        weights = jnp.exp(-0.5 * (octaves * blur) ** 2)
        angles = octaves[None, None] * x[:, :, None]
        waves = weights[None, None] * jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)
        seen = jnp.broadcast_to(weights, (x.shape[0], self.frequencies))
        return jnp.concatenate([x, seen, waves.reshape(x.shape[0], -1)], axis=-1)
