"""Categories made by a generator: exact zeros and ones ahead, the slopes of a softmax on the way back."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

SHARP = 4.0
"""Factor on the outputs before the softmax. A category that leads by 1, the distance of two rows of zeros and ones, has
98 % of two: the slope is that of a step, and has not vanished."""


class OneHot(nn.Module):
    """`network` with each block of its outputs [n, d] replaced by 1 at its largest and 0 elsewhere.

    The gradient is that of softmax(`SHARP`·outputs): the straight-through estimator (Bengio, Léonard, Courville 2013).
    What is random about a category comes from the network's noise.
    """

    network: Any
    blocks: Sequence[tuple[int, int]]  # (first output, how many)
    latent: int  # the dimension of the input

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        x = self.network(z)
        for first, width in self.blocks:
            block = x[:, first : first + width]
            soft = jax.nn.softmax(SHARP * block, axis=1)
            hard = jax.nn.one_hot(jnp.argmax(block, axis=1), width, dtype=x.dtype)
            x = x.at[:, first : first + width].set(hard + (soft - jax.lax.stop_gradient(soft)))
        return x
