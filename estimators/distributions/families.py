"""Families of distributions with a sampler and an exact log-density: what targets and benchmark tasks are made of.

Every family but one speaks NumPy float64: `sample(rng, n) -> [n, d]` from a `numpy.random.Generator` and
`log_prob(x [n, d]) -> [n]` in nats, −inf outside the support; SciPy's frozen distributions do the work. `Mixture`, the
target generators are trained against, speaks jax; `in_numpy` turns it into the others' kind. Families with arrays
compare by identity, so that one object is one entry of a cache.

Layer 0: imports jax, numpy and scipy only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.scipy.special import logsumexp


class Distribution(Protocol):
    """A law on ℝ^d that can be sampled and evaluated."""

    @property
    def dim(self) -> int:
        """d."""

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n independent points [n, d], float64."""

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """log density [n] at x [n, d], nats."""

    def __hash__(self) -> int: ...


# --- elliptical laws -------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True, eq=False)
class Elliptical:
    """A law whose density depends on x only through (x − m)ᵀ S⁻¹ (x − m). Abstract: a family says which `law`.

    Attributes:
        location: m, [d].
        scatter: S, [d, d], symmetric, positive definite.
    """

    location: np.ndarray
    scatter: np.ndarray

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
        """n points [n, d], float64."""
        return np.reshape(self.law.rvs(size=n, random_state=rng), (n, self.dim))

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """log density [n] at x [n, d], nats."""
        return np.reshape(self.law.logpdf(x), len(x))

    def entropy(self) -> float:
        """−E log p, nats."""
        return float(self.law.entropy())

    def marginal(self, coordinates: slice) -> Elliptical:
        """The law of some coordinates, of the same family."""
        return replace(self, location=self.location[coordinates], scatter=self.scatter[coordinates, coordinates])

    def mutual_information(self, k: int) -> float:
        """I(X; Z) = H(X) + H(Z) − H(X, Z) of the first k coordinates X and the rest Z, nats.

        For the Student-t the Gaussian value plus a term of (k, d − k, df) alone, positive even where S = I.
        Source: Arellano-Valle, Contreras-Reyes, Genton 2013, for the entropies.
        """
        parts = self.marginal(slice(None, k)), self.marginal(slice(k, None))
        return sum(part.entropy() for part in parts) - self.entropy()


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussian(Elliptical):
    """N(location, scatter), the scatter being its covariance."""

    @cached_property
    def law(self) -> Any:
        return scipy.stats.multivariate_normal(self.location, scipy.stats.Covariance.from_cholesky(self.factor))

    def entropy(self) -> float:
        """½ log |2πe S|, nats."""
        return 0.5 * self.dim * (1.0 + math.log(2.0 * math.pi)) + float(np.log(np.diagonal(self.factor)).sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class StudentT(Elliptical):
    """Multivariate t: location + N(0, scatter) / √(χ²_df / df), one divisor for all coordinates.

    Attributes:
        df: degrees of freedom; the covariance is df/(df − 2) times the scatter, for df > 2.
    """

    df: float

    @cached_property
    def law(self) -> Any:
        return scipy.stats.multivariate_t(self.location, self.scatter, df=self.df)


# --- independent coordinates -----------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """Independent coordinates, each with a frozen one-dimensional SciPy law such as `scipy.stats.gamma(2.0)`.

    Attributes:
        marginals: d laws; give equal ones as one object, and they are evaluated together. Exact tails need a law whose
            `logpdf` is no logarithm of a density: gennorm(1), not laplace, which underflows 745 scales out.
    """

    marginals: tuple[Any, ...]

    @property
    def dim(self) -> int:
        return len(self.marginals)

    def _groups(self) -> Iterator[tuple[Any, list[int]]]:
        for law in dict.fromkeys(self.marginals):
            yield law, [j for j, marginal in enumerate(self.marginals) if marginal is law]

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n points [n, d], float64."""
        x = np.empty((n, self.dim))
        for law, columns in self._groups():
            x[:, columns] = law.rvs(size=(n, len(columns)), random_state=rng)
        return x

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """Σ_j log p_j(x_j), [n] at x [n, d], nats."""
        return sum((law.logpdf(x[:, columns]).sum(axis=1) for law, columns in self._groups()), np.zeros(len(x)))


@dataclass(frozen=True, kw_only=True)
class Box:
    """The uniform law on Π [low_j, high_j].

    Attributes:
        low, high: d numbers each, low < high.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self):
        if len(self.low) != len(self.high) or not all(a < b for a, b in zip(self.low, self.high)):
            raise ValueError(f"box from {self.low} to {self.high}: every low end must lie below its high end")

    @property
    def dim(self) -> int:
        return len(self.low)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n points [n, d], float64."""
        return rng.uniform(self.low, self.high, (n, self.dim))

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """−log volume inside, −inf outside: [n] at x [n, d], nats."""
        inside = np.all((x >= self.low) & (x <= self.high), axis=1)
        return np.where(inside, -self.log_volume(), -np.inf)

    def log_volume(self) -> float:
        """log Π (high_j − low_j)."""
        return float(np.log(np.subtract(self.high, self.low)).sum())

    def log_overlap(self, other: Box) -> float:
        """log volume of the intersection with `other`; −inf if they do not meet."""
        sides = np.minimum(self.high, other.high) - np.maximum(self.low, other.low)
        return float(np.log(sides).sum()) if np.all(sides > 0.0) else -math.inf


# --- mixtures --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureOf:
    """Σ_k w_k P_k of any distributions of this module.

    Attributes:
        weights: positive numbers that sum to 1.
        components: as many laws, of one dimension.
    """

    weights: tuple[float, ...]
    components: tuple[Distribution, ...]

    def __post_init__(self):
        if not len(self.weights) == len(self.components) > 0 or len({part.dim for part in self.components}) > 1:
            raise ValueError("a mixture needs as many weights as components, at least one, all of one dimension")
        if not (all(w > 0.0 for w in self.weights) and abs(sum(self.weights) - 1.0) <= 1e-9):
            raise ValueError(f"mixture weights {self.weights}: they must be positive and sum to 1")

    @property
    def dim(self) -> int:
        return self.components[0].dim

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n points [n, d], float64, in random order."""
        counts = rng.multinomial(n, np.array(self.weights) / sum(self.weights))
        return rng.permutation(np.concatenate([part.sample(rng, k) for part, k in zip(self.components, counts) if k]))

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """log Σ_k w_k p_k(x), [n] at x [n, d], nats."""
        logs = [part.log_prob(x) + math.log(weight) for part, weight in zip(self.components, self.weights)]
        return scipy.special.logsumexp(logs, axis=0)


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

    def mean_and_covariance(self) -> tuple[np.ndarray, np.ndarray]:
        """(E x [d], E xxᵀ − E x E xᵀ [d, d]), float64."""
        w, m, s = np.array(self.weights), np.array(self.means), np.array(self.sigmas)
        mean = w @ m
        return mean, (w * (m - mean).T) @ (m - mean) + (w @ s**2) * np.eye(self.dim)

    def moments(self) -> tuple[float, float]:
        """(mean, standard deviation) on the line."""
        w, m, s = np.array(self.weights), np.array(self.means)[:, 0], np.array(self.sigmas)
        mean = float(w @ m)
        return mean, float(math.sqrt(w @ (s**2 + m**2) - mean**2))


def in_numpy(mixture: Mixture) -> MixtureOf:
    """The same law in float64 NumPy, sampled from a Generator."""
    parts = zip(mixture.means, mixture.sigmas)
    components = tuple(Gaussian(location=np.array(m), scatter=s**2 * np.eye(mixture.dim)) for m, s in parts)
    return MixtureOf(weights=mixture.weights, components=components)


# --- pairs -----------------------------------------------------------------------------------------------------------
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
