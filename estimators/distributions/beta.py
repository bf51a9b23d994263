"""Distributions of shares: beta on [0, 1], Dirichlet on the simplex, and von Mises on the circle."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betaln, digamma, xlog1py, xlogy

from estimators.distributions.exponential_family import ExponentialFamily, Natural, log_gamma
from estimators.distributions.parametric import (
    POSITIVE,
    POSITIVE_VECTOR,
    Support,
    named,
    parameter,
    precision,
    within,
)

SIMPLEX_TOLERANCE = 1e-4  # how far the coordinates of a point may add up from 1, as rounded to float32 they do


@named
class Beta(ExponentialFamily):
    """The density x^{a−1}(1 − x)^{b−1} / B(a, b), 0 < x < 1. T = (log x, log(1 − x)), θ = (a − 1, b − 1)."""

    a: Any = parameter(POSITIVE)
    b: Any = parameter(POSITIVE)
    natural_ndims = (0, 0)

    @property
    def support(self) -> Support:
        return Support("reals", 0.0, 1.0)

    def _log_prob(self, x, a, b):
        def inside(x):
            return xlogy(a - 1.0, x) + xlog1py(b - 1.0, -x) - betaln(a, b)

        return within(x, (x > 0.0) & (x < 1.0), inside, 0.5)

    def _sample(self, key, shape, a, b):
        return jax.random.beta(key, a, b, shape, precision())

    def _mean(self, a, b):
        return a / (a + b)

    def _variance(self, a, b):
        return a * b / ((a + b) ** 2 * (a + b + 1.0))

    def _entropy(self, a, b):
        total = (a + b - 2.0) * digamma(a + b)
        return betaln(a, b) - (a - 1.0) * digamma(a) - (b - 1.0) * digamma(b) + total

    def _natural(self, a, b) -> Natural:
        return a - 1.0 + 0.0 * b, b - 1.0 + 0.0 * a

    def _log_partition(self, s, t):
        return log_gamma(s + 1.0) + log_gamma(t + 1.0) - log_gamma(s + t + 2.0)

    def _statistics(self, x):
        return jnp.log(x), jnp.log1p(-x)

    def _from_natural(self, s, t):
        return Beta(s + 1.0, t + 1.0)

    def _in_domain(self, s, t):
        return (s > -1.0) & (t > -1.0)


@named
class Dirichlet(ExponentialFamily):
    """The density Π x_k^{a_k − 1} Γ(Σa) / Π Γ(a_k) on the simplex, a = concentration [K]. T = log x, θ = a − 1."""

    concentration: Any = parameter(POSITIVE_VECTOR)
    event_ndim = 1
    natural_ndims = (1,)

    @property
    def event_shape(self):
        return np.shape(self.concentration)[-1:]

    @property
    def support(self) -> Support:
        return Support("simplex")

    def _log_prob(self, x, a):
        inside = jnp.all(x > 0.0, axis=-1) & (jnp.abs(jnp.sum(x, axis=-1) - 1.0) < SIMPLEX_TOLERANCE)
        safe = jnp.where(inside[..., None], x, 1.0 / x.shape[-1])
        value = jnp.sum((a - 1.0) * jnp.log(safe), axis=-1) - self._log_partition(a - 1.0)
        return jnp.where(inside, value, -jnp.inf)

    def _sample(self, key, shape, a):
        return jax.random.dirichlet(key, a, shape, precision())

    def _mean(self, a):
        return a / jnp.sum(a, axis=-1, keepdims=True)

    def _variance(self, a):
        total = jnp.sum(a, axis=-1, keepdims=True)
        return a * (total - a) / (total**2 * (total + 1.0))

    def _entropy(self, a):
        total = jnp.sum(a, axis=-1)
        spread = (total - a.shape[-1]) * digamma(total) - jnp.sum((a - 1.0) * digamma(a), axis=-1)
        return self._log_partition(a - 1.0) + spread

    def _natural(self, a) -> Natural:
        return (a - 1.0,)

    def _log_partition(self, s):
        return jnp.sum(log_gamma(s + 1.0), axis=-1) - log_gamma(jnp.sum(s + 1.0, axis=-1))

    def _statistics(self, x):
        return (jnp.log(x),)

    def _log_base(self, x):
        return jnp.zeros(x.shape[:-1], x.dtype)

    def _from_natural(self, s):
        return Dirichlet(s + 1.0)

    def _in_domain(self, s):
        return jnp.all(s > -1.0, axis=-1)
