"""Distributions of pairs (X, Z) whose mutual information is known in closed form, besides the elliptical ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class AdditiveNoise:
    """(X, Z) with X uniform on [0, 1] and Z = X + N, N uniform on [−ε, ε].

    Attributes:
        epsilon: ε > 0.
    """

    epsilon: float

    @property
    def dim(self) -> int:
        return 2

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n points (x, z), [n, 2], float64."""
        x = rng.uniform(0.0, 1.0, n)
        return np.stack([x, x + rng.uniform(-self.epsilon, self.epsilon, n)], axis=1)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """−log 2ε inside the band, −inf outside: [n] at x [n, 2], nats."""
        inside = (x[:, 0] >= 0.0) & (x[:, 0] <= 1.0) & (np.abs(x[:, 1] - x[:, 0]) <= self.epsilon)
        return np.where(inside, -math.log(2.0 * self.epsilon), -np.inf)

    def mutual_information(self, k: int = 1) -> float:
        """I(X; Z) = H(Z) − log 2ε: ε − log 2ε up to ε = ½, 1/(4ε) beyond, nats. Z is a trapezium."""
        return self.epsilon - math.log(2.0 * self.epsilon) if self.epsilon <= 0.5 else 0.25 / self.epsilon
