"""Residual networks of square images in the plain form: no normalisation, blocks that begin as the identity.

Source: Huang, Gokaslan, Kuleshov, Tompkin 2024, 'The GAN is dead; long live the GAN!' (R3GAN), section 4 and appendix:
fix-up initialisation, resampling by interpolation, leaky units, bottlenecks of 1 × 1, 3 × 3 and 1 × 1, a learned basis
at the smallest scale of both networks. Three things differ. Blocks begin at half the side, for at the full side one
costs as much as four there: windows of 4 × 4 pixels lead to it and from it. Edges are repeated where images are
resampled, not filled with zeros. The critic's output has a bias, since a log-ratio has a level.

A network of k widths has k scales, from side/2 to side/2ᵏ; `features` are those of the image networks in `images`.
"""

from collections.abc import Sequence
from math import sqrt

import jax
import jax.numpy as jnp
from flax import linen as nn

from estimators.critics.networks import NONLINEARITIES
from fgan.config.fields import ConfigError
from fgan.networks.conditional import ClassTerm, split
from fgan.networks.convolutions import convolve_same, doubled, halved
from fgan.networks.images import Doubling, Halving, cropped, padded, padded_side

GAIN = sqrt(2.0 / (1.0 + 0.2**2))
"""Keeps the variance through a leaky unit of slope 0.2 (He et al. 2015, eq. 15); near that of the other units."""
UNIT = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
"""Keeps the variance through a linear map."""


class ResidualBlock(nn.Module):
    """x + A₃ a(A₂ a(A₁ x)): images [n, h, w, c] → the same shape; A₁, A₃ mix channels, A₂ sees windows of 3 × 3.

    Attributes:
        depth: D, the number of blocks in the network. A₃ begins at 0, so that the block begins as the identity; A₁ and
            A₂ are smaller by D^(−1/4), which keeps a step of all blocks together as large as one of a single block
            (Zhang, Dauphin, Ma 2019, Fixup, with three layers a block).
        group: channels that a channel of A₂ sees, of 2c; 0: all, of c/2.
    """

    depth: int
    group: int = 0
    nonlinearity: str = "leaky_relu"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        act, width = NONLINEARITIES[self.nonlinearity], x.shape[-1]
        inner = inner_width(width, self.group)
        start = nn.initializers.variance_scaling(GAIN**2 / sqrt(self.depth), "fan_in", "normal")
        y = act(nn.Dense(inner, kernel_init=start)(x))
        kernel = self.param("kernel", start, (3, 3, self.group or inner, inner))
        bias = self.param("bias", nn.initializers.zeros, (inner,))
        y = act(convolve_same(y, kernel) + bias[None, None, None])
        return x + nn.Dense(width, use_bias=False, kernel_init=nn.initializers.zeros)(y)


def inner_width(width: int, group: int) -> int:
    """Channels within a block of `width`: twice as many where they are grouped, which makes them cheap, else half."""
    return 2 * width if group else max(width // 2, 1)


def _linear(features: int) -> nn.Dense:
    """A linear map of channels."""
    return nn.Dense(features, use_bias=False, kernel_init=UNIT)


class ResidualGenerator(nn.Module):
    """z [n, latent] → images as rows [n, side² · channels] in (−1, 1).

    A learned basis [low, low, c], low = side/2ᵏ, whose channels z weighs; blocks and doublings in turn; at last a
    transposed convolution of 4 × 4 windows to pixels. `features` are the channels at side/2ᵏ, …, side/2.
    """

    side: int
    features: Sequence[int] = (128, 64)
    nonlinearity: str = "leaky_relu"
    channels: int = 1
    blocks: int = 1
    group: int = 0

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        scales, (first, *others) = len(self.features), self.features
        low = padded_side(self.side, scales) >> scales
        basis = self.param("basis", nn.initializers.normal(1.0), (low, low, first))
        x = self._blocks(basis[None] * _linear(first)(z)[:, None, None])
        for width in others:
            x = self._blocks(doubled(_linear(width)(x)))
        return jnp.tanh(cropped(Doubling(self.channels)(x), self.side).reshape(x.shape[0], -1))

    def _blocks(self, x: jax.Array) -> jax.Array:
        depth = self.blocks * len(self.features)
        for _ in range(self.blocks):
            x = ResidualBlock(depth, self.group, self.nonlinearity)(x)
        return x


class ResidualCritic(nn.Module):
    """Images as rows [n, side² · channels] → v [n].

    A convolution of 4 × 4 windows and stride 2; blocks and halvings in turn; then φ(x) [n, c], the sums of the smallest
    maps in a learned basis, and v = ψφ(x) + b. `features` are the channels at side/2, …, side/2ᵏ. A row of one of
    `classes` ends with its class, which adds a `ClassTerm`.
    """

    side: int
    features: Sequence[int] = (64, 128)
    nonlinearity: str = "leaky_relu"
    channels: int = 1
    blocks: int = 1
    group: int = 0
    classes: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        (first, *others), depth = self.features, self.blocks * len(self.features)
        x, one_hot = split(x, self.classes) if self.classes else (x, None)
        x = Halving(first)(padded(x.reshape(-1, self.side, self.side, self.channels), len(self.features)))
        for width in (None, *others):
            x = x if width is None else _linear(width)(halved(x))
            for _ in range(self.blocks):
                x = ResidualBlock(depth, self.group, self.nonlinearity)(x)
        low = x.shape[1]
        basis = self.param("basis", nn.initializers.normal(1.0 / low), x.shape[1:])
        phi = jnp.sum(x * basis[None], axis=(1, 2))
        v = nn.Dense(1, kernel_init=UNIT)(phi)[:, 0]
        return v if one_hot is None else v + ClassTerm()(phi, one_hot)


def check_groups(name: str, features: Sequence[int], group: int) -> None:
    """Raise ConfigError unless the widths within blocks are multiples of the config's `name`.group."""
    odd = [width for width in features if group and inner_width(width, group) % group]
    if odd:
        raise ConfigError(
            f"{name}.group = {group}: must divide twice each width of {name}.features, and does not divide "
            f"{2 * odd[0]}; set 0 for no groups, or 16"
        )
