"""Convolutions that halve and double the sides of images, the compiler's own on accelerators.

On CPUs these are matrix products of the same parameters: inside a scan, XLA's CPU convolution is a naive loop, ten
times slower.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

THIN = 16  # channels below which the four windows of a convolution share one product; above, joining them costs more


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """y[i, j] = Σ_st x[i+s, j+t] K[s, t]: images [n, h, w, c], kernel [2, 2, c, f] → [n, h − 1, w − 1, f]."""

    def by_product(x, kernel):
        (h, w), (c, f) = x.shape[1:3], kernel.shape[2:]
        windows = [x[:, s : h - 1 + s, t : w - 1 + t] for s in (0, 1) for t in (0, 1)]
        if c < THIN:
            return jnp.concatenate(windows, axis=-1) @ kernel.reshape(4 * c, f)
        return sum(window @ tap for window, tap in zip(windows, kernel.reshape(4, c, f), strict=True))

    return jax.lax.platform_dependent(x, kernel, cpu=by_product, default=partial(_compiled, pad=0))


def convolve_transposed(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """y[i, j] = Σ_st x[i−s, j−t] K[s, t]: images [n, h, w, c], kernel [2, 2, c, f] → [n, h + 1, w + 1, f]."""

    def by_product(x, kernel):
        c, f = kernel.shape[2:]
        y = x @ kernel.transpose(2, 0, 1, 3).reshape(c, 4 * f)
        taps = jnp.split(y, 4, axis=-1)
        shifts = [(s, t) for s in (0, 1) for t in (0, 1)]
        return sum(
            jnp.pad(tap, ((0, 0), (s, 1 - s), (t, 1 - t), (0, 0))) for tap, (s, t) in zip(taps, shifts, strict=True)
        )

    def by_compiler(x, kernel):
        return _compiled(x, kernel[::-1, ::-1], pad=1)

    return jax.lax.platform_dependent(x, kernel, cpu=by_product, default=by_compiler)


def _compiled(x: jax.Array, kernel: jax.Array, pad: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), ((pad, pad), (pad, pad)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def space_to_depth(x: jax.Array) -> jax.Array:
    """[n, 2h, 2w, c] → [n, h, w, 4c]: each 2 × 2 block becomes one pixel's channels."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)


def depth_to_space(x: jax.Array) -> jax.Array:
    """[n, h, w, 4c] → [n, 2h, 2w, c]: each pixel's channels become a 2 × 2 block."""
    n, h, w, c = x.shape
    return x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // 4)


class Halving(nn.Module):
    """Images [n, 2h, 2w, c] → [n, h, w, features]: the convolution of 4 × 4 windows, stride 2 and padding 1.

    Such a window is 2 × 2 blocks of 2 × 2 pixels.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        blocks = space_to_depth(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (2, 2, blocks.shape[-1], self.features))
        return convolve(blocks, kernel) + _bias(self)


class Doubling(nn.Module):
    """Images [n, h, w, c] → [n, 2h, 2w, features]: the transposed convolution of such windows, `Halving` backwards.

    Attributes:
        features: channels of the result.
        use_bias: add a number a channel.
    """

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (2, 2, x.shape[-1], 4 * self.features))
        y = depth_to_space(convolve_transposed(x, kernel))[:, 1:-1, 1:-1]
        return y + _bias(self) if self.use_bias else y


def _bias(module: Halving | Doubling) -> jax.Array:
    """A parameter to add to each channel: [1, 1, 1, features], 0 at first."""
    return module.param("bias", nn.initializers.zeros, (module.features,))[None, None, None]
