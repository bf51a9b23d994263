"""A fixed random network with Gaussian noise: X = f(Z) + σε of a Gaussian Z. NumPy, float64, nats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special, stats


@dataclass(frozen=True, kw_only=True)
class NoisyNetwork:
    """The law of (X, Z), X = f(Zᵀ A) + σε with Z ~ N(0, I) and ε ~ N(0, I) independent.

    A [dim_z, latent] has orthonormal columns, so that X depends on Z through `latent` standard normal numbers s. f has
    one hidden layer: f(s) = W₂ tanh(W₁ s + b), W₁ ~ N(0, gain²/latent), b ~ N(0, 1), W₂ ~ N(0, 1/hidden). All are drawn
    once, from `seed`: equal fields make equal laws.
    """

    dim_x: int
    dim_z: int
    latent: int
    sigma: float  # of the noise
    hidden: int = 32
    gain: float = 2.0
    seed: int = 0

    @property
    def dim(self) -> int:
        return self.dim_x + self.dim_z

    @cached_property
    def weights(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(A [dim_z, latent], W₁ [latent, hidden], b [hidden], W₂ [hidden, dim_x])."""
        rng = np.random.default_rng([self.seed, self.dim_x, self.dim_z, self.latent])
        frame = np.linalg.qr(rng.standard_normal((self.dim_z, self.latent)))[0]
        first = rng.standard_normal((self.latent, self.hidden)) * self.gain / math.sqrt(self.latent)
        bias = rng.standard_normal(self.hidden)
        return frame, first, bias, rng.standard_normal((self.hidden, self.dim_x)) / math.sqrt(self.hidden)

    def network(self, latent: np.ndarray) -> np.ndarray:
        """f: [n, latent] → [n, dim_x]."""
        _, first, bias, second = self.weights
        return np.tanh(latent @ first + bias) @ second

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        z = rng.standard_normal((n, self.dim_z))
        x = self.network(z @ self.weights[0]) + self.sigma * rng.standard_normal((n, self.dim_x))
        return np.concatenate([x, z], axis=1)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """log N(z; 0, I) + log N(x; f(zᵀA), σ²I), [n] at (x, z) [n, dim], nats."""
        first, z = np.split(x, [self.dim_x], axis=1)
        return stats.norm.logpdf(z).sum(axis=1) + self.log_likelihood(first, z)

    def log_likelihood(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """log p(x | z), [n], nats."""
        return stats.norm.logpdf(x, self.network(z @ self.weights[0]), self.sigma).sum(axis=1)

    def log_marginal(self, x: np.ndarray, step: float) -> np.ndarray:
        """log p(x) = log ∫ N(s; 0, I) N(x; f(s), σ²I) ds, [n], nats, by the trapezoidal rule in the latent numbers.

        The rule is exact to rounding where `step` is below the width σ/|f'| of the peaks in s.
        """
        axis = np.arange(-REACH, REACH + 0.5 * step, step)
        nodes = np.stack(np.meshgrid(*[axis] * self.latent, indexing="ij"), axis=-1).reshape(-1, self.latent)
        heights = stats.norm.logpdf(nodes).sum(axis=1) + self.latent * math.log(step)
        centres = self.network(nodes) / self.sigma
        heights -= 0.5 * np.sum(centres**2, axis=1) + self.dim_x * math.log(self.sigma * math.sqrt(2.0 * math.pi))
        found = []
        for part in np.array_split(x / self.sigma, max(len(x) * len(nodes) // BLOCK, 1)):
            found.append(special.logsumexp(part @ centres.T + heights, axis=1) - 0.5 * np.sum(part**2, axis=1))
        return np.concatenate(found)


REACH = 6.0  # of the rule along each latent number: N(0, 1) has a mass of 2e-9 beyond it
BLOCK = 2**22  # numbers of that rule in memory at once
