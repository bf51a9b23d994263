"""What a distribution offers, and the elliptical ones: the Gaussian and the multivariate t.

But for `Mixture` and `Curve`, which are in jax, all distributions of this room take and return NumPy float64 arrays;
SciPy's frozen distributions do the work. One that holds arrays compares by identity: one object, one entry of a cache.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import scipy


class Distribution(Protocol):
    """A distribution on ℝ^d that can be sampled and evaluated."""

    @property
    def dim(self) -> int:
        """d."""

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n independent points [n, d], float64."""

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """log density [n] at x [n, d], nats; −inf outside the support."""

    def __hash__(self) -> int: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Elliptical:
    """A distribution whose density depends on x only through (x − m)ᵀ S⁻¹ (x − m). A family gives its `law`."""

    location: np.ndarray  # m, [d]
    scatter: np.ndarray  # S, [d, d], symmetric, positive definite

    def __post_init__(self):
        location, scatter = (np.asarray(v, np.float64) for v in (self.location, self.scatter))
        if location.ndim != 1 or scatter.shape != location.shape * 2:
            raise ValueError(f"location {location.shape} and scatter {scatter.shape}: they must be [d] and [d, d]")
        object.__setattr__(self, "location", location)
        object.__setattr__(self, "scatter", scatter)

    @property
    def dim(self) -> int:
        return self.location.size

    @cached_property
    def factor(self) -> np.ndarray:
        """L, lower triangular, with S = LLᵀ. Raises numpy.linalg.LinAlgError (a ValueError) for no such S."""
        return np.linalg.cholesky(self.scatter)

    @property
    def law(self) -> Any:
        """The frozen SciPy distribution."""
        raise NotImplementedError

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return np.reshape(self.law.rvs(size=n, random_state=rng), (n, self.dim))

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        return np.reshape(self.law.logpdf(x), len(x))

    def entropy(self) -> float:
        """−E log p, nats."""
        return float(self.law.entropy())

    def marginal(self, coordinates: slice) -> Self:
        """The distribution of some coordinates, of the same family."""
        return replace(self, location=self.location[coordinates], scatter=self.scatter[coordinates, coordinates])

    def mutual_information(self, k: int) -> float:
        """I(X; Z) = H(X) + H(Z) − H(X, Z) of the first k coordinates X and the rest Z, nats.

        For the Student-t the Gaussian value plus a term of (k, d − k, df) alone, positive even where S = I.
        Source: Arellano-Valle, Contreras-Reyes, Genton 2013, for the entropies.
        """
        return sum(self.marginal(s).entropy() for s in (slice(k), slice(k, None))) - self.entropy()


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussian(Elliptical):
    """N(location, scatter), the scatter being its covariance; `examples.normal` is its isotropic relative in jax."""

    @cached_property
    def law(self) -> Any:
        return scipy.stats.multivariate_normal(self.location, scipy.stats.Covariance.from_cholesky(self.factor))

    def entropy(self) -> float:
        """½ log |2πe S|, nats."""
        return 0.5 * self.dim * (1.0 + math.log(2.0 * math.pi)) + float(np.log(np.diagonal(self.factor)).sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class StudentT(Elliptical):
    """Multivariate t: location + N(0, scatter) / √(χ²_df / df), one divisor for all coordinates."""

    df: float  # degrees of freedom; the covariance is df/(df − 2) times the scatter, for df > 2

    @cached_property
    def law(self) -> Any:
        return scipy.stats.multivariate_t(self.location, self.scatter, df=self.df)
