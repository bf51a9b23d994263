"""A normalising flow as a generator: z ~ N(0, I) → x by an invertible map, so that the density of x is known.

Layers of couplings (Dinh, Krueger, Bengio 2015) move half of the coordinates by a spline whose knots an MLP computes
from the other half. The spline is the rational-quadratic one on [−B, B] of Durkan, Bekasov, Murray, Papamakarios 2019
(section 3.1), the identity outside. Grover, Dhar, Ermon 2018 (Flow-GAN) train a flow under a GAN's loss.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from estimators.critics.networks import NONLINEARITIES

BOUND = 4.0
"""B. One coordinate of z in 16,000 lies outside, and few coordinates of data whose deviation is 1."""
FLOOR = 1e-3
"""Smallest width and height of a bin, as a share of 2B, and smallest slope: that of Durkan et al.'s code."""
UNIT = math.log(math.expm1(1.0 - FLOOR))
"""softplus(UNIT) + FLOOR = 1."""


class Spline(NamedTuple):
    """An increasing map of [−B, B] onto itself for each coordinate: K + 1 knots (x, y), and the slopes there."""

    x: jax.Array
    y: jax.Array
    slope: jax.Array

    @classmethod
    def of(cls, raw: jax.Array) -> Self:
        """The spline of any real numbers [..., 3K − 1]: widths, heights, inner slopes; 0 is the identity."""
        bins = (raw.shape[-1] + 1) // 3
        slope = FLOOR + nn.softplus(raw[..., 2 * bins :] + UNIT)
        ends = [(0, 0)] * (raw.ndim - 1) + [(1, 1)]
        return cls(_knots(raw[..., :bins]), _knots(raw[..., bins : 2 * bins]), jnp.pad(slope, ends, constant_values=1))


def _knots(raw: jax.Array) -> jax.Array:
    """K + 1 increasing numbers from −B to B, from K of any size."""
    shares = FLOOR + (1.0 - raw.shape[-1] * FLOOR) * jax.nn.softmax(raw)
    inner = BOUND * (2.0 * jnp.cumsum(shares[..., :-1], axis=-1) - 1.0)
    ends = [(0, 0)] * (raw.ndim - 1)
    lower = jnp.pad(inner, [*ends, (1, 0)], constant_values=-BOUND)
    return jnp.pad(lower, [*ends, (0, 1)], constant_values=BOUND)


class Bin(NamedTuple):
    """The bin of a spline that a point lies in: lower corner (x, y), width, height, slopes at both ends."""

    x: jax.Array
    y: jax.Array
    width: jax.Array
    height: jax.Array
    first: jax.Array
    last: jax.Array


def _bin(s: Spline, knots: jax.Array, value: jax.Array) -> Bin:
    index = jnp.sum(value[..., None] >= knots[..., 1:-1], axis=-1, keepdims=True)

    def at(array: jax.Array, i: jax.Array) -> jax.Array:
        return jnp.take_along_axis(array, i, axis=-1)[..., 0]

    x, y = at(s.x, index), at(s.y, index)
    width, height = at(s.x, index + 1) - x, at(s.y, index + 1) - y
    return Bin(x, y, width, height, at(s.slope, index), at(s.slope, index + 1))


def forward(s: Spline, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(y, log dy/dx) at x, a number a spline. Source: Durkan et al. 2019, eqs. 4 and 5."""
    inside = jnp.abs(x) < BOUND
    b = _bin(s, s.x, jnp.where(inside, x, 0.0))
    share = (jnp.where(inside, x, 0.0) - b.x) / b.width
    y = b.y + b.height * _fraction(b, share)
    return jnp.where(inside, y, x), jnp.where(inside, _log_slope(b, share), 0.0)


def inverse(s: Spline, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(x, log dy/dx) where the spline takes x to y. Source: Durkan et al. 2019, eqs. 6 to 8."""
    inside = jnp.abs(y) < BOUND
    b = _bin(s, s.y, jnp.where(inside, y, 0.0))
    mean, rise = b.height / b.width, jnp.where(inside, y, 0.0) - b.y
    bend = b.first + b.last - 2.0 * mean
    a = b.height * (mean - b.first) + rise * bend
    c = -mean * rise
    half = b.height * b.first - rise * bend
    share = 2.0 * c / (-half - jnp.sqrt(jnp.maximum(half**2 - 4.0 * a * c, 0.0)))  # stable where a is near 0
    x = b.x + b.width * share
    return jnp.where(inside, x, y), jnp.where(inside, _log_slope(b, share), 0.0)


def _denominator(b: Bin, share: jax.Array) -> jax.Array:
    mean = b.height / b.width
    return mean + (b.first + b.last - 2.0 * mean) * share * (1.0 - share)


def _fraction(b: Bin, share: jax.Array) -> jax.Array:
    """How far up its bin the spline is at `share` of the bin's width."""
    return (b.height / b.width * share**2 + b.first * share * (1.0 - share)) / _denominator(b, share)


def _log_slope(b: Bin, share: jax.Array) -> jax.Array:
    mean, rest = b.height / b.width, 1.0 - share
    top = b.last * share**2 + 2.0 * mean * share * rest + b.first * rest**2
    return 2.0 * jnp.log(mean) + jnp.log(top) - 2.0 * jnp.log(_denominator(b, share))


class Conditioner(nn.Module):
    """The numbers of the splines of `moved` coordinates from the others, [n, k] → [n, moved, 3·bins − 1].

    All splines start as the identity. Where there are no others, k = 0, all points share a spline.
    """

    features: Sequence[int]
    nonlinearity: str
    moved: int
    bins: int

    @nn.compact
    def __call__(self, kept: jax.Array) -> jax.Array:
        size = self.moved * (3 * self.bins - 1)
        raw = self.param("shared", nn.initializers.zeros, (1, size))
        if kept.shape[1]:
            for width in self.features:
                kept = NONLINEARITIES[self.nonlinearity](nn.Dense(width)(kept))
            raw = raw + nn.Dense(size, use_bias=False, kernel_init=nn.initializers.zeros)(kept)
        return jnp.broadcast_to(raw, (len(kept), size)).reshape(len(kept), self.moved, -1)


class Flow(nn.Module):
    """z [n, d] → x [n, d], invertible. Layer i moves the coordinates j with i + j odd, given those with i + j even.

    On the line every layer moves the only coordinate.

    Attributes:
        layers: how many couplings.
        features: widths of the hidden layers of each conditioner.
        nonlinearity: theirs, a name in `NONLINEARITIES`.
        dim: d.
        bins: of a spline; 8 as Durkan et al. 2019 have in their experiments with images.
    """

    layers: int
    features: Sequence[int]
    nonlinearity: str
    dim: int
    bins: int = 8

    @property
    def latent(self) -> int:
        """Dimension of z, which is that of x."""
        return self.dim

    def setup(self) -> None:
        self.conditioners = [
            Conditioner(self.features, self.nonlinearity, moved.size, self.bins)
            for _, moved in map(self._split, range(self.layers))
        ]

    def _split(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """(kept, moved) coordinates of a layer."""
        odd = (np.arange(self.dim) + layer) % 2 == 1
        moved = odd if self.dim > 1 else np.ones(1, bool)
        return np.flatnonzero(~moved), np.flatnonzero(moved)

    def __call__(self, z: jax.Array) -> jax.Array:
        """x at z."""
        return self.with_log_slope(z)[0]

    def with_log_slope(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(x at z, log |det dx/dz|): [n, d] → ([n, d], [n])."""
        slopes = jnp.zeros(len(z), z.dtype)
        for layer, conditioner in enumerate(self.conditioners):
            kept, moved = self._split(layer)
            y, log_slope = forward(Spline.of(conditioner(z[:, kept])), z[:, moved])
            z, slopes = z.at[:, moved].set(y), slopes + jnp.sum(log_slope, axis=1)
        return z, slopes

    def log_prob(self, x: jax.Array) -> jax.Array:
        """log q(x) = log N(z; 0, I) − Σ log dy/dx over all layers, for the z that the flow takes to x: [n, d] → [n]."""
        slopes = jnp.zeros(len(x), x.dtype)
        for layer in reversed(range(self.layers)):
            kept, moved = self._split(layer)
            y, log_slope = inverse(Spline.of(self.conditioners[layer](x[:, kept])), x[:, moved])
            x, slopes = x.at[:, moved].set(y), slopes + jnp.sum(log_slope, axis=1)
        return standard_normal(x) - slopes


def standard_normal(z: jax.Array) -> jax.Array:
    """log N(z; 0, I): [n, d] → [n]."""
    return -0.5 * jnp.sum(z**2, axis=1) - 0.5 * z.shape[1] * math.log(2.0 * math.pi)
