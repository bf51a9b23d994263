"""Generator and critic networks. All take and return rows: z [n, latent] → x [n, d], x [n, d] → v [n].

Image networks write their convolutions as patches × one matrix product: inside a scan, XLA's CPU convolution falls
back to a naive loop that is an order of magnitude slower.

Layer 4: imports estimators.critics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from estimators.critics import MLP, NONLINEARITIES


class LocationScale(nn.Module):
    """x = μ + σz on the line, the generator of the f-GAN paper's toy experiment; parameters μ and log σ.

    Attributes:
        start: (μ, σ) to begin from.
    """

    start: tuple[float, float] = (0.0, 1.0)

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        mu = self.param("mu", lambda _: jnp.asarray(self.start[0], jnp.float32))
        log_sigma = self.param("log_sigma", lambda _: jnp.asarray(math.log(self.start[1]), jnp.float32))
        return mu + jnp.exp(log_sigma) * z


class Affine(nn.Module):
    """x = μ + Lz in d dimensions, the Gaussian N(μ, LLᵀ); parameters μ [d] and `root` [d, d], read by `factor`."""

    dim: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        mu = self.param("mu", nn.initializers.zeros, (self.dim,))
        root = self.param("root", nn.initializers.zeros, (self.dim, self.dim))
        return mu[None] + jnp.matmul(z, factor(root).T, precision="highest")  # accelerators round z otherwise


def factor(root: jax.Array) -> jax.Array:
    """L, lower triangular with a positive diagonal: exp of root's diagonal, and what root has below it: [d, d].

    One root for every covariance LLᵀ. Source: Pinheiro, Bates 1996, the log-Cholesky parametrisation.
    """
    return jnp.tril(root, -1) + jnp.diag(jnp.exp(jnp.diagonal(root)))


def patches(x: jax.Array, size: int, stride: int, pad: int) -> jax.Array:
    """The size × size windows of images [n, h, w, c], side by side on channels: [n, h', w', size²·c]."""
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    h, w = ((side - size) // stride + 1 for side in x.shape[1:3])
    windows = [
        x[:, i : i + stride * (h - 1) + 1 : stride, j : j + stride * (w - 1) + 1 : stride]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(windows, axis=-1)


def depth_to_space(x: jax.Array) -> jax.Array:
    """[n, h, w, 4c] → [n, 2h, 2w, c]: each pixel's channels become a 2 × 2 block."""
    n, h, w, c = x.shape
    return x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // 4)


class ImageGenerator(nn.Module):
    """z [n, latent] → images as rows [n, side²] in (−1, 1): dense to side/4, then two convolutions that double it.

    Attributes:
        side: height and width; a multiple of 4.
        features: channels at side/4 and at side/2.
        nonlinearity: a name in NONLINEARITIES.
    """

    side: int
    features: Sequence[int] = (128, 64)
    nonlinearity: str = "relu"

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        act, low = NONLINEARITIES[self.nonlinearity], self.side // 4
        first, second = self.features
        x = act(nn.LayerNorm()(nn.Dense(low * low * first)(z)))
        x = patches(x.reshape(-1, low, low, first), 3, 1, 1)
        x = act(nn.LayerNorm()(depth_to_space(nn.Dense(4 * second)(x))))
        x = depth_to_space(nn.Dense(4)(patches(x, 3, 1, 1)))
        return jnp.tanh(x.reshape(x.shape[0], -1))


class ImageCritic(nn.Module):
    """Images as rows [n, side²] → v [n]: two 4 × 4 convolutions of stride 2, then a dense layer.

    Attributes:
        side: height and width; a multiple of 4.
        features: channels at side/2 and at side/4.
        nonlinearity: a name in NONLINEARITIES.
    """

    side: int
    features: Sequence[int] = (64, 128)
    nonlinearity: str = "leaky_relu"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        act = NONLINEARITIES[self.nonlinearity]
        x = x.reshape(-1, self.side, self.side, 1)
        for channels in self.features:
            x = act(nn.Dense(channels)(patches(x, 4, 2, 1)))
        return nn.Dense(1)(x.reshape(x.shape[0], -1))[:, 0]


SHALLOW = nn.initializers.variance_scaling(0.01, "fan_in", "normal")
"""A tenth of the usual deviation: what `Convolved` begins with is narrower than the data, whose deviation is 1."""


class Convolved(nn.Module):
    """x = m(z₁) + A z₂ with z = (z₁, z₂): the law of m(z₁) convolved with N(0, AAᵀ), A learnt.

    Where m has steep steps, so that little falls between modes, it is flat within them; A gives them their width, one
    for all modes, on top of what m leaves.

    Attributes:
        network: m.
        width: dimension of z₂, the last coordinates of z.
        dim: d.
    """

    network: nn.Module
    width: int
    dim: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        return self.network(z[:, : -self.width]) + nn.Dense(self.dim, use_bias=False, kernel_init=SHALLOW)(
            z[:, -self.width :]
        )


class Bounded(nn.Module):
    """An MLP generator whose rows lie in (−1, 1), for images scaled that way."""

    features: Sequence[int]
    nonlinearity: str
    dim: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        return jnp.tanh(MLP(self.features, self.nonlinearity, self.dim)(z))
