"""Families that variational inference fits: reparameterised samples, and their log density. Nats.

A family is two functions of its parameters, any pytree. A new one is one function that returns a `Family`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

Parameters = Any  # a pytree of arrays


class Family(NamedTuple):
    """θ → a distribution that can be sampled, and whose density is known.

    Attributes:
        sample: (θ, key, n) → x = T(θ, ε) [n, d], differentiable in θ at fixed noise ε: the key alone decides ε.
        log_prob: (θ, x [n, d]) → log q_θ(x) [n].
    """

    sample: Callable[[Parameters, jax.Array, int], jax.Array]
    log_prob: Callable[[Parameters, jax.Array], jax.Array]


class GaussianParameters(NamedTuple):
    """θ of N(mean, LLᵀ), L = diag(exp log_scale) + the strict lower triangle: any real numbers are parameters."""

    mean: jax.Array  # [d]
    log_scale: jax.Array  # [d]
    lower: jax.Array  # [d (d − 1)/2], row by row

    @classmethod
    def of(cls, mean: ArrayLike, covariance: ArrayLike) -> Self:
        """The parameters of N(mean [d], covariance [d, d]).

        Raises:
            ValueError: shapes that do not fit, or a covariance that is not symmetric and positive definite.

        >>> GaussianParameters.of([0.0, 1.0], [[4.0, 2.0], [2.0, 2.0]]).lower
        Array([1.], dtype=float32)
        """
        centre, matrix = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
        if centre.ndim != 1 or matrix.shape != (centre.size, centre.size):
            raise ValueError(f"mean of shape {centre.shape}, covariance of shape {matrix.shape}: give [d] and [d, d]")
        try:
            factor = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            factor = None
        if factor is None or not np.allclose(matrix, matrix.T) or not np.isfinite(factor).all():
            raise ValueError(f"covariance {matrix.tolist()}: it must be symmetric and positive definite")
        below = factor[np.tril_indices(centre.size, -1)]
        return cls(*map(jnp.asarray, (centre.astype(float), np.log(np.diagonal(factor)), below)))

    def factor(self) -> jax.Array:
        """L, [d, d]."""
        d = self.mean.shape[0]
        return jnp.diag(jnp.exp(self.log_scale)).at[np.tril_indices(d, -1)].set(self.lower)

    def covariance(self) -> jax.Array:
        """LLᵀ, [d, d]."""
        factor = self.factor()
        return factor @ factor.T


def _sample_gaussian(theta: GaussianParameters, key: jax.Array, n: int) -> jax.Array:
    noise = jax.random.normal(key, (n, theta.mean.shape[0]), theta.mean.dtype)
    return theta.mean[None] + noise @ theta.factor().T


def _log_prob_gaussian(theta: GaussianParameters, x: jax.Array) -> jax.Array:
    d = theta.mean.shape[0]
    inverse = solve_triangular(theta.factor(), jnp.eye(d, dtype=x.dtype), lower=True)
    z = (x - theta.mean[None]) @ inverse.T
    return -0.5 * jnp.sum(z**2, axis=1) - jnp.sum(theta.log_scale) - 0.5 * d * math.log(2.0 * math.pi)


GAUSSIAN = Family(sample=_sample_gaussian, log_prob=_log_prob_gaussian)
"""Gaussians of any covariance, x = mean + Lε; θ is a `GaussianParameters`."""
