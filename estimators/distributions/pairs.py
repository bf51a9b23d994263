"""Pairs (X, Z) of dependent variables: what such a law offers, one scalar pair, and independent copies of a pair.

`product.AdditiveNoise` is another scalar pair, and a Gaussian or a Student-t of any dimension is a `Joint` too. Nats,
float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import special, stats

from estimators.distributions.elliptical import Distribution


class Joint(Distribution, Protocol):
    """A distribution of pairs (x, z) side by side whose mutual information is known."""

    def mutual_information(self, k: int) -> float:
        """I(X; Z) of the first k coordinates and the rest, nats."""


@dataclass(frozen=True, kw_only=True)
class GammaExponential:
    """(X, Z) with X ~ Gamma(shape) and Z given X exponential of rate X; shape > 0.

    Z has the Lomax law: p(z) = shape (1 + z)^{−shape−1}.
    """

    shape: float
    dim = 2

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        x = rng.gamma(self.shape, size=n)
        return np.stack([x, rng.exponential(size=n) / x], axis=1)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """log p(x) + log x − x z at x > 0 and z ≥ 0, −inf elsewhere: [n] at x [n, 2], nats."""
        first, second = x.T
        inside = (first > 0.0) & (second >= 0.0)
        rate = np.where(inside, first, 1.0)
        return np.where(inside, stats.gamma.logpdf(rate, self.shape) + np.log(rate) - rate * second, -np.inf)

    def mutual_information(self, k: int = 1) -> float:
        """I(X; Z) = E[log X − XZ] − E[log p(Z)] = ψ(shape + 1) − log shape, nats.

        E[log X] = ψ(shape), E[XZ] = 1, and log(1 + Z) is exponential of mean 1/shape.
        """
        return float(special.digamma(self.shape + 1.0)) - math.log(self.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Independent copies of a scalar pair: x = (x₁, …, x_k), then z = (z₁, …, z_k), [n, 2k]."""

    law: Distribution  # of one pair, dim 2
    copies: int  # k

    def __post_init__(self):
        if self.law.dim != 2 or self.copies < 1:
            raise ValueError(f"{self.copies} copies of a law of dimension {self.law.dim}: give at least 1, of dim 2")

    @property
    def dim(self) -> int:
        return 2 * self.copies

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        pairs = self.law.sample(rng, n * self.copies).reshape(n, self.copies, 2)
        return np.swapaxes(pairs, 1, 2).reshape(n, self.dim)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """Σ_j log p(x_j, z_j), [n] at x [n, 2k], nats."""
        pairs = np.swapaxes(x.reshape(len(x), 2, self.copies), 1, 2)
        return self.law.log_prob(pairs.reshape(-1, 2)).reshape(len(x), self.copies).sum(axis=1)
