"""Distributions made of SciPy's on the line: products, boxes, and a uniform variable with uniform noise."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """Independent coordinates, each with a frozen one-dimensional SciPy distribution such as `scipy.stats.gamma(2.0)`.

    Attributes:
        marginals: d of them; give equal ones as one object, and they are evaluated together. Exact tails need one whose
            `logpdf` is not the logarithm of its `pdf`: gennorm(1), not laplace, which underflows 745 scales out.
    """

    marginals: tuple[Any, ...]

    @property
    def dim(self) -> int:
        return len(self.marginals)

    def _groups(self) -> Iterator[tuple[Any, list[int]]]:
        for law in dict.fromkeys(self.marginals):
            yield law, [j for j, marginal in enumerate(self.marginals) if marginal is law]

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        x = np.empty((n, self.dim))
        for law, columns in self._groups():
            x[:, columns] = law.rvs(size=(n, len(columns)), random_state=rng)
        return x

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """Σ_j log p_j(x_j), [n] at x [n, d], nats."""
        return sum((law.logpdf(x[:, columns]).sum(axis=1) for law, columns in self._groups()), np.zeros(len(x)))


@dataclass(frozen=True, kw_only=True)
class Box:
    """The uniform distribution on Π [low_j, high_j]: d numbers each, low < high."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self):
        if len(self.low) != len(self.high) or not all(a < b for a, b in zip(self.low, self.high)):
            raise ValueError(f"box from {self.low} to {self.high}: every low end must lie below its high end")

    @property
    def dim(self) -> int:
        return len(self.low)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.uniform(self.low, self.high, (n, self.dim))

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """−log volume inside, −inf outside: [n] at x [n, d], nats."""
        return np.where(np.all((x >= self.low) & (x <= self.high), axis=1), -self.log_volume(), -np.inf)

    def log_volume(self) -> float:
        """log Π (high_j − low_j)."""
        return float(np.log(np.subtract(self.high, self.low)).sum())

    def log_overlap(self, other: Self) -> float:
        """log volume of the intersection with `other`; −inf if they do not meet."""
        sides = np.minimum(self.high, other.high) - np.maximum(self.low, other.low)
        return float(np.log(sides).sum()) if np.all(sides > 0.0) else -math.inf


@dataclass(frozen=True, kw_only=True)
class AdditiveNoise:
    """(X, Z) with X uniform on [0, 1] and Z = X + N, N uniform on [−ε, ε], ε = epsilon > 0."""

    epsilon: float
    dim = 2

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        x = rng.uniform(0.0, 1.0, n)
        return np.stack([x, x + rng.uniform(-self.epsilon, self.epsilon, n)], axis=1)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """−log 2ε inside the band, −inf outside: [n] at x [n, 2], nats."""
        inside = (x[:, 0] >= 0.0) & (x[:, 0] <= 1.0) & (np.abs(x[:, 1] - x[:, 0]) <= self.epsilon)
        return np.where(inside, -math.log(2.0 * self.epsilon), -np.inf)

    def mutual_information(self, k: int = 1) -> float:
        """I(X; Z) = H(Z) − log 2ε: ε − log 2ε up to ε = ½, 1/(4ε) beyond, nats. Z is a trapezium."""
        return self.epsilon - math.log(2.0 * self.epsilon) if self.epsilon <= 0.5 else 0.25 / self.epsilon
