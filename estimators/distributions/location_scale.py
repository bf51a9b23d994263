"""Distributions on the line that a location and a scale describe, and no exponential family."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import softplus
from jax.scipy import stats
from jax.scipy.special import betaln, digamma

from estimators.distributions.gamma import EULER
from estimators.distributions.parametric import (
    POSITIVE,
    REAL,
    Parametric,
    Support,
    is_concrete,
    named,
    parameter,
    precision,
    within,
)


@named
class Laplace(Parametric):
    """The density e^{−|x − loc|/scale} / 2 scale."""

    loc: Any = parameter(REAL, default=0.0)
    scale: Any = parameter(POSITIVE, default=1.0)

    def _log_prob(self, x, loc, scale):
        return stats.laplace.logpdf(x, loc, scale)

    def _sample(self, key, shape, loc, scale):
        return loc + scale * jax.random.laplace(key, shape, precision())

    def _mean(self, loc, scale):
        return loc

    def _variance(self, loc, scale):
        return 2.0 * scale**2

    def _entropy(self, loc, scale):
        return 1.0 + jnp.log(2.0 * scale)


@named
class Logistic(Parametric):
    """The law whose distribution function is 1/(1 + e^{−(x − loc)/scale})."""

    loc: Any = parameter(REAL, default=0.0)
    scale: Any = parameter(POSITIVE, default=1.0)

    def _log_prob(self, x, loc, scale):
        z = (x - loc) / scale
        return -softplus(z) - softplus(-z) - jnp.log(scale)

    def _sample(self, key, shape, loc, scale):
        return loc + scale * jax.random.logistic(key, shape, precision())

    def _mean(self, loc, scale):
        return loc

    def _variance(self, loc, scale):
        return (math.pi * scale) ** 2 / 3.0

    def _entropy(self, loc, scale):
        return 2.0 + jnp.log(scale)


@named
class StudentT(Parametric):
    """loc + scale · t, t of Student's distribution with df degrees of freedom."""

    df: Any = parameter(POSITIVE)
    loc: Any = parameter(REAL, default=0.0)
    scale: Any = parameter(POSITIVE, default=1.0)

    def _log_prob(self, x, df, loc, scale):
        z = (x - loc) / scale
        return -0.5 * (df + 1.0) * jnp.log1p(z**2 / df) - 0.5 * jnp.log(df) - betaln(0.5, 0.5 * df) - jnp.log(scale)

    def _sample(self, key, shape, df, loc, scale):
        return loc + scale * jax.random.t(key, df, shape, precision())

    def _mean(self, df, loc, scale):
        return jnp.where(df > 1.0, loc + 0.0 * scale, jnp.nan)

    def _variance(self, df, loc, scale):
        finite = scale**2 * df / jnp.where(df > 2.0, df - 2.0, 1.0)
        return jnp.where(df > 2.0, finite, jnp.where(df > 1.0, jnp.inf, jnp.nan)) + 0.0 * loc

    def _entropy(self, df, loc, scale):
        spread = 0.5 * (df + 1.0) * (digamma(0.5 * (df + 1.0)) - digamma(0.5 * df))
        return spread + 0.5 * jnp.log(df) + betaln(0.5, 0.5 * df) + jnp.log(scale)


@named
class Cauchy(Parametric):
    """The density 1 / (π scale (1 + ((x − loc)/scale)²)). It has no mean."""

    loc: Any = parameter(REAL, default=0.0)
    scale: Any = parameter(POSITIVE, default=1.0)

    def _log_prob(self, x, loc, scale):
        return stats.cauchy.logpdf(x, loc, scale)

    def _sample(self, key, shape, loc, scale):
        return loc + scale * jax.random.cauchy(key, shape, precision())

    def _mean(self, loc, scale):
        return jnp.nan * (loc + scale)

    def _variance(self, loc, scale):
        return jnp.nan * (loc + scale)

    def _entropy(self, loc, scale):
        return jnp.log(4.0 * math.pi * scale)


@named
class Gumbel(Parametric):
    """The law of the largest of many: its distribution function is exp(−e^{−(x − loc)/scale})."""

    loc: Any = parameter(REAL, default=0.0)
    scale: Any = parameter(POSITIVE, default=1.0)

    def _log_prob(self, x, loc, scale):
        z = (x - loc) / scale
        return -z - jnp.exp(-z) - jnp.log(scale)

    def _sample(self, key, shape, loc, scale):
        return loc + scale * jax.random.gumbel(key, shape, precision())

    def _mean(self, loc, scale):
        return loc + EULER * scale

    def _variance(self, loc, scale):
        return (math.pi * scale) ** 2 / 6.0

    def _entropy(self, loc, scale):
        return jnp.log(scale) + EULER + 1.0


@named
class Uniform(Parametric):
    """The density 1/(high − low) on low ≤ x ≤ high."""

    low: Any = parameter(REAL, default=0.0)
    high: Any = parameter(REAL, default=1.0)

    def _check_shapes(self):
        super()._check_shapes()
        if (
            is_concrete(self.low)
            and is_concrete(self.high)
            and not (np.asarray(self.low) < np.asarray(self.high)).all()
        ):
            raise ValueError(f"Uniform: low = {self.low} and high = {self.high}: low must lie below high")

    @property
    def support(self) -> Support:
        return Support("reals", self.low, self.high)

    def _log_prob(self, x, low, high):
        return within(x, (x >= low) & (x <= high), lambda x: -jnp.log(high - low) + 0.0 * x, 0.0)

    def _sample(self, key, shape, low, high):
        return low + (high - low) * jax.random.uniform(key, shape, precision())

    def _mean(self, low, high):
        return 0.5 * (low + high)

    def _variance(self, low, high):
        return (high - low) ** 2 / 12.0

    def _entropy(self, low, high):
        return jnp.log(high - low)
