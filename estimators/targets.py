"""Named distributions with sampler, log-density and, where it is known, the exact divergence between them.

A `Mixture` of isotropic Gaussians is all the toy targets need: one component is a Gaussian, several on the line are
the f-GAN paper's target, several in the plane are the ring and the grid.

Layer 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Σ_k w_k N(m_k, s_k² I_d): a mixture of k isotropic Gaussians in d dimensions.

    Attributes:
        weights: k positive numbers that sum to 1.
        means: k points of d coordinates each.
        sigmas: k standard deviations.
    """

    weights: tuple[float, ...]
    means: tuple[tuple[float, ...], ...]
    sigmas: tuple[float, ...]

    def __post_init__(self):
        if not len(self.weights) == len(self.means) == len(self.sigmas) > 0:
            raise ValueError("a mixture needs as many weights as means and sigmas, at least one")
        if not (all(w > 0.0 for w in self.weights) and abs(sum(self.weights) - 1.0) <= 1e-9):
            raise ValueError(f"mixture weights {self.weights}: they must be positive and sum to 1")
        if not all(0.0 < s < math.inf for s in self.sigmas):
            raise ValueError(f"mixture sigmas {self.sigmas}: they must be positive and finite")
        if len({len(mean) for mean in self.means}) > 1 or not np.isfinite(np.concatenate(self.means)).all():
            raise ValueError(f"mixture means {self.means}: they must be finite, with as many coordinates each")

    @property
    def dim(self) -> int:
        return len(self.means[0])

    def log_prob(self, x: jax.typing.ArrayLike) -> jax.Array:
        """log density at x: [n, d] → [n], or [n] → [n] on the line. In the precision of x."""
        x = jnp.asarray(x, dtype=jnp.result_type(x, float))
        points = x[..., None] if self.dim == 1 and x.ndim < 2 else x
        means, sigmas, weights = (jnp.asarray(np.array(v), x.dtype) for v in (self.means, self.sigmas, self.weights))
        squares = jnp.sum((points[..., None, :] - means[(None,) * (points.ndim - 1)]) ** 2, axis=-1)
        scales = jnp.expand_dims(sigmas, tuple(range(squares.ndim - 1)))
        heights = jnp.log(weights) - self.dim * (jnp.log(sigmas) + 0.5 * math.log(2.0 * math.pi))
        return logsumexp(jnp.expand_dims(heights, tuple(range(squares.ndim - 1))) - 0.5 * squares / scales**2, axis=-1)

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """n points [n, d], float32."""
        pick, noise = jax.random.split(key)
        means, sigmas, weights = (
            jnp.asarray(np.array(v), jnp.float32) for v in (self.means, self.sigmas, self.weights)
        )
        k = jax.random.categorical(pick, jnp.log(weights), shape=(n,))
        return means[k] + sigmas[k][:, None] * jax.random.normal(noise, (n, self.dim), jnp.float32)

    def moments(self) -> tuple[float, float]:
        """(mean, standard deviation) on the line."""
        w, m, s = np.array(self.weights), np.array(self.means)[:, 0], np.array(self.sigmas)
        mean = float(w @ m)
        return mean, float(math.sqrt(w @ (s**2 + m**2) - mean**2))


def normal(mean: float | Sequence[float], sigma: float) -> Mixture:
    """The Gaussian N(mean, sigma² I)."""
    centre = tuple(float(m) for m in np.atleast_1d(mean))
    return Mixture(weights=(1.0,), means=(centre,), sigmas=(float(sigma),))


def ring(modes: int = 8, radius: float = 1.0, sigma: float = 0.01) -> Mixture:
    """Equal Gaussians on a circle. Protocol: Lin, Khetan, Fanti, Oh 2018 (PacGAN), section 4.1."""
    angles = 2.0 * np.pi * np.arange(modes) / modes
    means = tuple((radius * math.cos(a), radius * math.sin(a)) for a in angles)
    return Mixture(weights=(1.0 / modes,) * modes, means=means, sigmas=(sigma,) * modes)


FGAN_MIXTURE = Mixture(weights=(0.33, 0.67), means=((-1.0,), (2.0,)), sigmas=(0.255, math.sqrt(2.0)))
"""The target of Nowozin et al. 2016, table 4; not printed there, recovered from the fifteen numbers it reports."""

TWO_MODES = Mixture(weights=(0.5, 0.5), means=((-2.0,), (2.0,)), sigmas=(0.6, 0.6))
"""Two equal modes 4 apart: covering spreads over both, seeking settles on either."""

TARGETS = {"mixture_1d": FGAN_MIXTURE, "two_modes": TWO_MODES, "ring": ring()}
