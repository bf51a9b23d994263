"""The normal distributions: on the line, its exponential, and in ℝ^d."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import stats
from jax.scipy.linalg import solve_triangular

from estimators.distributions.exponential_family import ExponentialFamily, Natural
from estimators.distributions.parametric import (
    POSITIVE,
    POSITIVE_DEFINITE,
    POSITIVE_VECTOR,
    REAL,
    VECTOR,
    Domain,
    Support,
    diagonal_matrix,
    identity_like,
    named,
    parameter,
    precision,
    within,
)

LOG_2PI = math.log(2.0 * math.pi)
TRIANGLE = Domain(
    "lower triangular with a positive diagonal, [d, d]",
    lambda v: _is_triangle(v),
    2,
    identity_like,
)


def _is_triangle(v: Any) -> Any:
    if v.shape[-1] != v.shape[-2]:
        return np.zeros((), bool)
    below = np.tri(v.shape[-1], dtype=bool).reshape((1,) * (v.ndim - 2) + v.shape[-2:])
    on = np.eye(v.shape[-1], dtype=bool).reshape(below.shape)
    return (((v == 0.0) | below) & ((v > 0.0) | ~on) & (abs(v) < np.inf)).all((-2, -1))


@named
class Normal(ExponentialFamily):
    """N(loc, scale²). T = (x, x²), θ = (μ/σ², −1/2σ²)."""

    loc: Any = parameter(REAL, default=0.0)
    scale: Any = parameter(POSITIVE, default=1.0)
    natural_ndims = (0, 0)

    def _log_prob(self, x, loc, scale):
        return stats.norm.logpdf(x, loc, scale)

    def _sample(self, key, shape, loc, scale):
        return loc + scale * jax.random.normal(key, shape, precision())

    def _mean(self, loc, scale):
        return loc

    def _variance(self, loc, scale):
        return scale**2

    def _entropy(self, loc, scale):
        return 0.5 * (1.0 + LOG_2PI) + jnp.log(scale)

    def _natural(self, loc, scale) -> Natural:
        return loc / scale**2, -0.5 / scale**2 + 0.0 * loc

    def _log_partition(self, a, b):
        return -(a**2) / (4.0 * b) - 0.5 * jnp.log(-2.0 * b)

    def _statistics(self, x):
        return x, x**2

    def _log_base(self, x):
        return jnp.full_like(x, -0.5 * LOG_2PI)

    def _from_natural(self, a, b):
        return type(self)(-0.5 * a / b, jnp.sqrt(-0.5 / b))

    def _in_domain(self, a, b):
        return b < 0.0


@named
class LogNormal(Normal):
    """The law of exp(N(loc, scale²)). T = (log x, log² x), θ as the normal's."""

    @property
    def support(self) -> Support:
        return Support("reals", 0.0)

    def _log_prob(self, x, loc, scale):
        return within(x, x > 0.0, lambda x: stats.norm.logpdf(jnp.log(x), loc, scale) - jnp.log(x), 1.0)

    def _sample(self, key, shape, loc, scale):
        return jnp.exp(super()._sample(key, shape, loc, scale))

    def _mean(self, loc, scale):
        return jnp.exp(loc + 0.5 * scale**2)

    def _variance(self, loc, scale):
        return jnp.expm1(scale**2) * jnp.exp(2.0 * loc + scale**2)

    def _entropy(self, loc, scale):
        return super()._entropy(loc, scale) + loc

    def _statistics(self, x):
        return jnp.log(x), jnp.log(x) ** 2

    def _log_base(self, x):
        return -0.5 * LOG_2PI - jnp.log(x)


@named
class MultivariateNormal(ExponentialFamily):
    """N(mean, Σ) in ℝ^d, Σ given as `covariance` [d, d], as `diagonal` [d] (the variances) or as `cholesky` [d, d].

    T = (x, xxᵀ), θ = (Σ⁻¹μ, −½Σ⁻¹).

    >>> MultivariateNormal([0.0, 1.0], diagonal=[1.0, 4.0]).event_shape
    (2,)
    """

    mean: Any = parameter(VECTOR, default=None)  # type: ignore[assignment]
    covariance: Any = parameter(POSITIVE_DEFINITE, default=None)
    diagonal: Any = parameter(POSITIVE_VECTOR, default=None)
    cholesky: Any = parameter(TRIANGLE, default=None)
    event_ndim = 1
    natural_ndims = (1, 2)
    complex_ready = False  # the logarithm of a complex determinant has branches

    def __post_init__(self):
        given = [name for name in ("covariance", "diagonal", "cholesky") if getattr(self, name) is not None]
        if self.mean is None or len(given) != 1:
            raise ValueError(f"MultivariateNormal: give mean and one of covariance, diagonal, cholesky, not {given}")
        super().__post_init__()

    def _check_shapes(self):
        super()._check_shapes()
        spread = next(v for v in (self.covariance, self.diagonal, self.cholesky) if v is not None)
        if np.shape(self.mean)[-1] != np.shape(spread)[-1]:
            raise ValueError(
                f"MultivariateNormal: mean has {np.shape(self.mean)[-1]} coordinates, its covariance "
                f"{np.shape(spread)[-1]}: give as many"
            )

    @property
    def event_shape(self):
        return np.shape(self.mean)[-1:]

    @property
    def support(self) -> Support:
        return Support("vectors")

    @staticmethod
    def _factor(mean, covariance, diagonal, cholesky):
        """L with Σ = LLᵀ, [*batch, d, d]."""
        if cholesky is not None:
            return cholesky
        if covariance is not None:
            return jnp.linalg.cholesky(covariance)
        return diagonal_matrix(jnp.sqrt(diagonal))

    def covariance_or_diagonal(self) -> jax.Array:
        """Σ [*batch, d, d], or its diagonal [*batch, d] where that was given."""
        if self.diagonal is not None:
            return jnp.asarray(self.diagonal)
        return jnp.asarray(self.covariance) if self.covariance is not None else _gram(jnp.asarray(self.cholesky))

    def _log_prob(self, x, mean, *spread):
        factor = self._factor(mean, *spread)
        shape = jnp.broadcast_shapes(jnp.shape(x - mean)[:-1], factor.shape[:-2])
        centred = jnp.broadcast_to(x - mean, (*shape, x.shape[-1]))
        z = solve_triangular(jnp.broadcast_to(factor, (*shape, *factor.shape[-2:])), centred[..., None], lower=True)
        log_det = jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
        return -0.5 * (jnp.sum(z[..., 0] ** 2, axis=-1) + x.shape[-1] * LOG_2PI) - log_det

    def _sample(self, key, shape, mean, *spread):
        noise = jax.random.normal(key, (*shape, *self.event_shape), precision())
        return mean + _matmul(self._factor(mean, *spread), noise[..., None])[..., 0]

    def _variance(self, mean, *spread):
        return jnp.sum(self._factor(mean, *spread) ** 2, axis=-1)

    def _entropy(self, mean, *spread):
        factor = self._factor(mean, *spread)
        log_det = jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
        return 0.5 * factor.shape[-1] * (1.0 + LOG_2PI) + log_det

    def _natural(self, mean, *spread) -> Natural:
        factor = self._factor(mean, *spread)
        eye = jnp.broadcast_to(jnp.eye(factor.shape[-1], dtype=factor.dtype), factor.shape)
        inverse = solve_triangular(factor, eye, lower=True)
        precision_matrix = _matmul(jnp.swapaxes(inverse, -1, -2), inverse)
        return _matmul(precision_matrix, mean[..., None])[..., 0], -0.5 * precision_matrix

    def _log_partition(self, a, b):
        factor = jnp.linalg.cholesky(-(b + jnp.swapaxes(b, -1, -2)))
        z = solve_triangular(factor, a[..., None], lower=True)[..., 0]
        return 0.5 * jnp.sum(z**2, axis=-1) - jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)

    def _statistics(self, x):
        return x, x[..., :, None] * x[..., None, :]

    def _log_base(self, x):
        return jnp.full(x.shape[:-1], -0.5 * x.shape[-1] * LOG_2PI, x.dtype)

    def _from_natural(self, a, b):
        covariance = jnp.linalg.inv(-(b + jnp.swapaxes(b, -1, -2)))
        covariance = 0.5 * (covariance + jnp.swapaxes(covariance, -1, -2))
        return MultivariateNormal(_matmul(covariance, a[..., None])[..., 0], covariance=covariance)

    def _in_domain(self, a, b):
        return jnp.linalg.eigvalsh(-(b + jnp.swapaxes(b, -1, -2)))[..., 0] > 0.0


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")  # accelerators round the inputs otherwise


def _gram(factor: jax.Array) -> jax.Array:
    return _matmul(factor, jnp.swapaxes(factor, -1, -2))
