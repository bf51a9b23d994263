"""Networks of square images, each a row of pixels [side² · channels]: convolutions that double sides, or halve them.

A network of k widths has k scales. Where 2ᵏ does not divide the side, it works on the next larger side that it does.

The convolutions are the compiler's own on accelerators. On CPUs they are matrix products of the same parameters: inside
a scan, XLA's CPU convolution is a naive loop, ten times slower.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from estimators.critics.networks import NONLINEARITIES
from fgan.config.fields import ConfigError
from fgan.networks.conditional import ClassTerm, split

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

    return jax.lax.platform_dependent(x, kernel, cpu=by_product, default=lambda x, k: _compiled(x, k[::-1, ::-1], 1))


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
    """Images [n, h, w, c] → [n, 2h, 2w, features]: the transposed convolution of such windows, `Halving` backwards."""

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


class ImageGenerator(nn.Module):
    """z [n, latent] → images as rows [n, side² · channels] in (−1, 1): dense to side/2ᵏ, doubled by k convolutions.

    `features` are the channels at side/2ᵏ, …, side/2.
    """

    side: int
    features: Sequence[int] = (128, 64)
    nonlinearity: str = "relu"
    channels: int = 1

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        act, scales = NONLINEARITIES[self.nonlinearity], len(self.features)
        first, *others = self.features
        low = padded_side(self.side, scales) >> scales
        x = act(nn.LayerNorm()(nn.Dense(low * low * first)(z))).reshape(-1, low, low, first)
        for channels in others:
            x = act(nn.LayerNorm()(Doubling(channels, use_bias=False)(x)))
        return jnp.tanh(cropped(Doubling(self.channels)(x), self.side).reshape(x.shape[0], -1))


class ImageCritic(nn.Module):
    """Images as rows [n, side² · channels] → v [n]: k convolutions of 4 × 4 windows and stride 2, then a dense layer.

    `features` are the channels at side/2, …, side/2ᵏ. A row of one of `classes` ends with its class, which meets the
    smallest maps in a `ClassTerm`.
    """

    side: int
    features: Sequence[int] = (64, 128)
    nonlinearity: str = "leaky_relu"
    channels: int = 1
    classes: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        act = NONLINEARITIES[self.nonlinearity]
        x, one_hot = split(x, self.classes) if self.classes else (x, None)
        x = padded(x.reshape(-1, self.side, self.side, self.channels), len(self.features))
        for channels in self.features:
            x = act(Halving(channels)(x))
        phi = x.reshape(x.shape[0], -1)
        v = nn.Dense(1)(phi)[:, 0]
        return v if one_hot is None else v + ClassTerm()(phi, one_hot)


def padded_side(side: int, scales: int) -> int:
    """The least multiple of 2^scales that is at least `side`."""
    return -(-side >> scales) << scales


def padded(x: jax.Array, scales: int) -> jax.Array:
    """Images [n, h, h, c] with their edges repeated on all sides, up to `padded_side`."""
    more = padded_side(x.shape[1], scales) - x.shape[1]
    margin = (more // 2, more - more // 2)
    return jnp.pad(x, ((0, 0), margin, margin, (0, 0)), mode="edge") if more else x


def cropped(x: jax.Array, side: int) -> jax.Array:
    """The middle of images [n, h, h, c]: [n, side, side, c], `padded` backwards."""
    begin = (x.shape[1] - side) // 2
    return x[:, begin : begin + side, begin : begin + side]


def check_images(group: str, features: Sequence[int], data: Any) -> None:
    """Raise ConfigError unless `data` are images that can be halved once for each width of the config's `group`."""
    if not data.side:
        raise ConfigError(
            f"{group}.kind = image or residual needs images; {data.name} has none: use --{group}.kind mlp"
        )
    if data.side < 2 ** len(features) or not features:
        raise ConfigError(
            f"{group}.features = {list(features)}: images of {data.side} × {data.side} pixels can be halved "
            f"{data.side.bit_length() - 1} times; name at least one width and at most so many"
        )
