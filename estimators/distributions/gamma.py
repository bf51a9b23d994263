"""The gamma distribution and its relatives: exponential, inverse gamma, Weibull, and Wishart over matrices."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import stats
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import digamma, gammaln, multigammaln

from estimators.distributions.exponential_family import ExponentialFamily, Natural, log_gamma
from estimators.distributions.parametric import (
    POSITIVE,
    POSITIVE_DEFINITE,
    Parametric,
    Support,
    diagonal_matrix,
    named,
    parameter,
    precision,
    within,
)

HALF_LINE = Support("reals", 0.0)
EULER = 0.5772156649015329  # −Γ'(1)


@named
class Exponential(ExponentialFamily):
    """The density λe^{−λx}, x ≥ 0, λ = rate. T = x, θ = −λ."""

    rate: Any = parameter(POSITIVE, default=1.0)

    @property
    def support(self) -> Support:
        return HALF_LINE

    def _log_prob(self, x, rate):
        return within(x, x >= 0.0, lambda x: jnp.log(rate) - rate * x, 0.0)

    def _sample(self, key, shape, rate):
        return jax.random.exponential(key, shape, precision()) / rate

    def _mean(self, rate):
        return 1.0 / rate

    def _variance(self, rate):
        return 1.0 / rate**2

    def _entropy(self, rate):
        return 1.0 - jnp.log(rate)

    def _natural(self, rate) -> Natural:
        return (-rate,)

    def _log_partition(self, a):
        return -jnp.log(-a)

    def _statistics(self, x):
        return (x,)

    def _from_natural(self, a):
        return Exponential(-a)

    def _in_domain(self, a):
        return a < 0.0


@named
class Gamma(ExponentialFamily):
    """The density bᵃ x^{a−1} e^{−bx} / Γ(a), x > 0, a = concentration, b = rate. T = (log x, x), θ = (a − 1, −b)."""

    concentration: Any = parameter(POSITIVE)
    rate: Any = parameter(POSITIVE, default=1.0)
    natural_ndims = (0, 0)

    @property
    def support(self) -> Support:
        return HALF_LINE

    def _log_prob(self, x, a, b):
        return within(x, x > 0.0, lambda x: stats.gamma.logpdf(x, a, scale=1.0 / b), 1.0)

    def _sample(self, key, shape, a, b):
        return jax.random.gamma(key, a, shape, precision()) / b

    def _mean(self, a, b):
        return a / b

    def _variance(self, a, b):
        return a / b**2

    def _entropy(self, a, b):
        return a - jnp.log(b) + gammaln(a) + (1.0 - a) * digamma(a)

    def _natural(self, a, b) -> Natural:
        return a - 1.0 + 0.0 * b, -b + 0.0 * a

    def _log_partition(self, s, t):
        return log_gamma(s + 1.0) - (s + 1.0) * jnp.log(-t)

    def _statistics(self, x):
        return jnp.log(x), x

    def _from_natural(self, s, t):
        return Gamma(s + 1.0, -t)

    def _in_domain(self, s, t):
        return (s > -1.0) & (t < 0.0)


@named
class InverseGamma(ExponentialFamily):
    """The law of 1/X, X ~ Gamma(a, b): bᵃ x^{−a−1} e^{−b/x} / Γ(a). T = (log x, 1/x), θ = (−a − 1, −b)."""

    concentration: Any = parameter(POSITIVE)
    rate: Any = parameter(POSITIVE, default=1.0)
    natural_ndims = (0, 0)

    @property
    def support(self) -> Support:
        return HALF_LINE

    def _log_prob(self, x, a, b):
        def inside(x):
            return a * jnp.log(b) - gammaln(a) - (a + 1.0) * jnp.log(x) - b / x

        return within(x, x > 0.0, inside, 1.0)

    def _sample(self, key, shape, a, b):
        return b / jax.random.gamma(key, a, shape, precision())

    def _mean(self, a, b):
        return jnp.where(a > 1.0, b / jnp.where(a > 1.0, a - 1.0, 1.0), jnp.inf)

    def _variance(self, a, b):
        fits = a > 2.0
        safe = jnp.where(fits, a, 3.0)
        return jnp.where(fits, b**2 / ((safe - 1.0) ** 2 * (safe - 2.0)), jnp.inf)

    def _entropy(self, a, b):
        return a + jnp.log(b) + gammaln(a) - (1.0 + a) * digamma(a)

    def _natural(self, a, b) -> Natural:
        return -a - 1.0 + 0.0 * b, -b + 0.0 * a

    def _log_partition(self, s, t):
        return log_gamma(-s - 1.0) + (s + 1.0) * jnp.log(-t)

    def _statistics(self, x):
        return jnp.log(x), 1.0 / x

    def _from_natural(self, s, t):
        return InverseGamma(-s - 1.0, -t)

    def _in_domain(self, s, t):
        return (s < -1.0) & (t < 0.0)


@named
class Weibull(Parametric):
    """The law of scale · E^{1/k}, E standard exponential, k = concentration."""

    scale: Any = parameter(POSITIVE)
    concentration: Any = parameter(POSITIVE)

    @property
    def support(self) -> Support:
        return HALF_LINE

    def _log_prob(self, x, scale, k):
        def inside(x):
            z = jnp.log(x / scale)
            return jnp.log(k / scale) + (k - 1.0) * z - jnp.exp(k * z)

        return within(x, x > 0.0, inside, 1.0)

    def _sample(self, key, shape, scale, k):
        return scale * jax.random.exponential(key, shape, precision()) ** (1.0 / k)

    def _mean(self, scale, k):
        return scale * jnp.exp(gammaln(1.0 + 1.0 / k))

    def _variance(self, scale, k):
        first, second = (jnp.exp(gammaln(1.0 + n / k)) for n in (1.0, 2.0))
        return scale**2 * (second - first**2)

    def _entropy(self, scale, k):
        return EULER * (1.0 - 1.0 / k) + jnp.log(scale / k) + 1.0


@named
class Wishart(ExponentialFamily):
    """The law of Σ xxᵀ of df normal vectors N(0, scale), over positive definite [d, d]; df > d − 1 may be no integer.

    T = (log |X|, X), θ = ((df − d − 1)/2, −½ scale⁻¹).
    """

    df: Any = parameter(POSITIVE)
    scale: Any = parameter(POSITIVE_DEFINITE)
    event_ndim = 2
    natural_ndims = (0, 2)
    complex_ready = False

    def _check_shapes(self):
        super()._check_shapes()
        d = np.shape(self.scale)[-1]
        if not (np.asarray(self.df) > d - 1.0).all():
            raise ValueError(f"Wishart: df = {self.df}: with [{d}, {d}] matrices it must be above {d - 1}")

    @property
    def event_shape(self):
        return np.shape(self.scale)[-2:]

    @property
    def support(self) -> Support:
        return Support("positive definite")

    def _log_prob(self, x, df, scale):
        theta = self._natural(df, scale)
        factor = jnp.linalg.cholesky(x)
        log_det = 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
        value = theta[0] * log_det + jnp.sum(theta[1] * x, axis=(-2, -1)) - self._log_partition(*theta)
        return jnp.where(jnp.isnan(value), -jnp.inf, value)

    def _sample(self, key, shape, df, scale):
        """Bartlett's decomposition: X = L A Aᵀ Lᵀ, A lower triangular of normals and roots of χ²."""
        d = scale.shape[-1]
        below, on = jax.random.split(key)
        freedom = 0.5 * (df[..., None] - jnp.arange(d, dtype=precision()).reshape((1,) * df.ndim + (d,)))
        roots = jnp.sqrt(2.0 * jax.random.gamma(on, freedom, (*shape, d), precision()))
        a = jnp.tril(jax.random.normal(below, (*shape, d, d), precision()), -1) + diagonal_matrix(roots)
        root = jnp.matmul(jnp.linalg.cholesky(scale), a, precision="highest")
        return jnp.matmul(root, jnp.swapaxes(root, -1, -2), precision="highest")

    def _mean(self, df, scale):
        return df[..., None, None] * scale

    def _variance(self, df, scale):
        diagonal = jnp.diagonal(scale, axis1=-2, axis2=-1)
        return df[..., None, None] * (scale**2 + diagonal[..., :, None] * diagonal[..., None, :])

    def _entropy(self, df, scale):
        theta = self._natural(df, scale)
        d, a = scale.shape[-1], 0.5 * df
        steps = 0.5 * jnp.arange(d, dtype=precision()).reshape((1,) * df.ndim + (d,))
        log_det = 2.0 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(scale), axis1=-2, axis2=-1)), axis=-1)
        expected = jnp.sum(digamma(a[..., None] - steps), axis=-1) + d * math.log(2.0) + log_det
        return self._log_partition(*theta) - theta[0] * expected + 0.5 * df * d

    def _natural(self, df, scale) -> Natural:
        d = scale.shape[-1]
        factor = jnp.linalg.cholesky(scale)
        inverse = solve_triangular(factor, jnp.broadcast_to(jnp.eye(d, dtype=scale.dtype), scale.shape), lower=True)
        precision_matrix = jnp.matmul(jnp.swapaxes(inverse, -1, -2), inverse, precision="highest")
        return 0.5 * (df - d - 1.0), -0.5 * precision_matrix

    def _log_partition(self, s, b):
        d = b.shape[-1]
        a = s + 0.5 * (d + 1.0)
        factor = jnp.linalg.cholesky(-0.5 * (b + jnp.swapaxes(b, -1, -2)))
        log_det = 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)), axis=-1)
        return _multigammaln(a, d) - a * log_det

    def _statistics(self, x):
        return jnp.linalg.slogdet(x)[1], x

    def _log_base(self, x):
        return jnp.zeros(x.shape[:-2], x.dtype)

    def _from_natural(self, s, b):
        inverse = jnp.linalg.inv(-(b + jnp.swapaxes(b, -1, -2)))
        return Wishart(2.0 * s + b.shape[-1] + 1.0, 0.5 * (inverse + jnp.swapaxes(inverse, -1, -2)))

    def _in_domain(self, s, b):
        return (s > -1.0) & (jnp.linalg.eigvalsh(-(b + jnp.swapaxes(b, -1, -2)))[..., 0] > 0.0)


def _multigammaln(a: jax.Array, d: int) -> jax.Array:
    """log Γ_d(a), for complex a too."""
    if not jnp.iscomplexobj(a):
        return multigammaln(a, d)
    return sum((log_gamma(a - 0.5 * j) for j in range(d)), 0.25 * d * (d - 1) * math.log(math.pi) + 0.0 * a)
