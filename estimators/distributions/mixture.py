"""Mixtures: of isotropic Gaussians in jax, and of any distributions in NumPy."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.scipy.special import logsumexp

from estimators.distributions.elliptical import Distribution, Gaussian


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Σ_k w_k N(m_k, s_k² I_d): a mixture of isotropic Gaussians, in jax; what generators are trained on."""

    weights: tuple[float, ...]
    means: tuple[tuple[float, ...], ...]
    sigmas: tuple[float, ...]

    def __post_init__(self):
        if not len(self.weights) == len(self.means) == len(self.sigmas) > 0:
            raise ValueError("a mixture needs as many weights as means and sigmas, at least one")
        _check_weights(self.weights)
        if not all(0.0 < s < math.inf for s in self.sigmas):
            raise ValueError(f"mixture sigmas {self.sigmas}: they must be positive and finite")
        if len({len(mean) for mean in self.means}) > 1 or not np.isfinite(np.concatenate(self.means)).all():
            raise ValueError(f"mixture means {self.means}: they must be finite, with as many coordinates each")

    @property
    def dim(self) -> int:
        return len(self.means[0])

    def _arrays(self, dtype: Any) -> list[jax.Array]:
        return [jnp.asarray(np.array(v), dtype) for v in (self.means, self.sigmas, self.weights)]

    def log_prob(self, x: jax.typing.ArrayLike) -> jax.Array:
        """log density at x: [n, d] → [n], or [n] → [n] on the line. In the precision of x."""
        x = jnp.asarray(x, dtype=jnp.result_type(x, float))
        points = x[..., None] if self.dim == 1 and x.ndim < 2 else x
        means, sigmas, weights = self._arrays(x.dtype)
        squares = jnp.sum((points[..., None, :] - means[(None,) * (points.ndim - 1)]) ** 2, axis=-1)
        heights = jnp.log(weights) - self.dim * (jnp.log(sigmas) + 0.5 * math.log(2.0 * math.pi))
        heights, scales = (jnp.expand_dims(v, tuple(range(squares.ndim - 1))) for v in (heights, sigmas))
        return logsumexp(heights - 0.5 * squares / scales**2, axis=-1)

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """n points [n, d], float32."""
        pick, noise = jax.random.split(key)
        means, sigmas, weights = self._arrays(jnp.float32)
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


@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureOf:
    """Σ_k w_k P_k of any distributions P_k, in NumPy float64."""

    weights: tuple[float, ...]
    components: tuple[Distribution, ...]

    def __post_init__(self):
        if not len(self.weights) == len(self.components) > 0 or len({p.dim for p in self.components}) > 1:
            raise ValueError("a mixture needs as many weights as components, at least one, all of one dimension")
        _check_weights(self.weights)

    @property
    def dim(self) -> int:
        return self.components[0].dim

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        counts = rng.multinomial(n, np.array(self.weights) / sum(self.weights))
        return rng.permutation(np.concatenate([p.sample(rng, k) for p, k in zip(self.components, counts) if k]))

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """log Σ_k w_k p_k(x), [n] at x [n, d], nats."""
        logs = [p.log_prob(x) + math.log(weight) for p, weight in zip(self.components, self.weights)]
        return scipy.special.logsumexp(logs, axis=0)


def in_numpy(mixture: Mixture) -> MixtureOf:
    """The same distribution in NumPy float64."""
    modes = zip(mixture.means, mixture.sigmas)
    components = tuple(Gaussian(location=np.array(m), scatter=s**2 * np.eye(mixture.dim)) for m, s in modes)
    return MixtureOf(weights=mixture.weights, components=components)


def _check_weights(weights: tuple[float, ...]) -> None:
    if not (all(w > 0.0 for w in weights) and abs(sum(weights) - 1.0) <= 1e-9):
        raise ValueError(f"mixture weights {weights}: they must be positive and sum to 1")
