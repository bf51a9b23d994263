"""Distributions of categories and counts."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import log_softmax, softplus
from jax.scipy.special import entr, gammaln, logsumexp, xlog1py, xlogy

from estimators.distributions.exponential_family import ExponentialFamily, Natural
from estimators.distributions.parametric import (
    COUNT,
    POSITIVE,
    SHARE,
    Domain,
    Shape,
    Support,
    is_concrete,
    named,
    parameter,
    precision,
)
from estimators.distributions.saddle_point import deviance, log_binomial, stirling_error

LOGIT = Domain("a number or ±∞", lambda v: v == v, 0, jnp.zeros_like)
LOGITS = Domain(
    "numbers, or −∞ where the probability is 0, and not all −∞", lambda v: _some_finite(v), 1, jnp.zeros_like
)
SUM_TOLERANCE = 1e-4  # how far probabilities may add up from 1, as computed in float32 they do
PROBABILITIES = Domain(
    "not negative with sum 1", lambda v: _sums_to_one(v), 1, lambda v: jnp.full_like(v, 1.0 / v.shape[-1])
)
PROPER_SHARE = Domain("above 0, at most 1", lambda v: (v > 0.0) & (v <= 1.0))
WINDOW = 40.0  # standard deviations beyond which no entropy is summed; the terms are far below rounding there
LARGE_RATE = 1e4
"""Of a Poisson law, above which it is drawn from the normal one corrected for its skewness: what is left is of order
1/rate. The sampler of JAX, in float32, has a kurtosis that is off at 1e5 and 0.954 of the variance at 9.9e5; the
corrected normal law was within 0.6 standard errors of the true moments at 1e4, 1e5 and 9.9e5."""
WHOLE = 2.0**24  # tries above which float32 does not hold every whole number


def _sums_to_one(v: np.ndarray) -> Any:
    return (v >= 0.0).all(-1) & (abs(v.sum(-1) - 1.0) <= SUM_TOLERANCE)


def _some_finite(v: np.ndarray) -> Any:
    return (v < np.inf).all(-1) & (v > -np.inf).any(-1)


def _one_of(distribution: Any, *names: str) -> None:
    given = [name for name in names if getattr(distribution, name) is not None]
    if len(given) != 1:
        raise ValueError(f"{type(distribution).__name__}: give one of {', '.join(names)}, not {given or 'none'}")


def _is_count(x: jax.Array) -> jax.Array:
    return (x >= 0.0) & (x == jnp.floor(x))


def _log_odds(probs: Any, logits: Any) -> jax.Array:
    return logits if logits is not None else jnp.log(probs) - jnp.log1p(-probs)


@named
class Categorical(ExponentialFamily):
    """One of K categories 0 … K − 1, by `probs` [K] that add up to 1 or by `logits` [K]. T is one-hot, θ = log p.

    >>> float(Categorical(probs=[0.25, 0.75]).log_prob(1)).__round__(4)
    -0.2877
    """

    probs: Any = parameter(PROBABILITIES, default=None)
    logits: Any = parameter(LOGITS, default=None)
    natural_ndims = (1,)

    def __post_init__(self):
        _one_of(self, "probs", "logits")
        super().__post_init__()

    @property
    def size(self) -> int:
        """K."""
        return np.shape(self.probs if self.probs is not None else self.logits)[-1]

    @property
    def support(self) -> Support:
        return Support("integers", 0, self.size - 1)

    @property
    def log_probs(self) -> jax.Array:
        """log p [*batch, K]; −∞ where a probability is 0."""
        return self._log_probs(*self._ranked())

    @staticmethod
    def _log_probs(probs, logits):
        if probs is None:
            return log_softmax(logits, axis=-1)
        positive = probs > 0.0
        log_total = jnp.log(jnp.sum(probs, axis=-1, keepdims=True))
        return jnp.where(positive, jnp.log(jnp.where(positive, probs, 1.0)) - log_total, -jnp.inf)

    def _log_prob(self, x, *parameters):
        logs = self._log_probs(*parameters)
        held = _is_count(x) & (x < self.size)
        index = jnp.where(held, x, 0.0).astype(int)
        shape = jnp.broadcast_shapes(index.shape, logs.shape[:-1])
        logs = jnp.broadcast_to(logs, (*shape, self.size))
        picked = jnp.take_along_axis(logs, jnp.broadcast_to(index, shape)[..., None], axis=-1)[..., 0]
        return jnp.where(held, picked, -jnp.inf)

    def _sample(self, key, shape, *parameters):
        return jax.random.categorical(key, self._log_probs(*parameters), axis=-1, shape=shape)

    def _mean(self, *parameters):
        return jnp.sum(jnp.exp(self._log_probs(*parameters)) * self._values(parameters), axis=-1)

    def _variance(self, *parameters):
        p, values = jnp.exp(self._log_probs(*parameters)), self._values(parameters)
        mean = jnp.sum(p * values, axis=-1, keepdims=True)
        return jnp.sum(p * (values - mean) ** 2, axis=-1)

    def _values(self, parameters: Any) -> jax.Array:
        rank = next(v.ndim for v in parameters if v is not None)
        return jnp.arange(self.size, dtype=precision()).reshape((1,) * (rank - 1) + (-1,))

    def _entropy(self, *parameters):
        return jnp.sum(entr(jnp.exp(self._log_probs(*parameters))), axis=-1)

    def carrier(self):
        return (self.size,)

    def _natural(self, *parameters) -> Natural:
        return (self._log_probs(*parameters),)

    def _log_partition(self, a):
        return logsumexp(a, axis=-1)

    def _statistics(self, x):
        return (jax.nn.one_hot(x.astype(int), self.size, dtype=x.dtype),)

    def _from_natural(self, a):
        return Categorical(logits=a)


@named
class Bernoulli(ExponentialFamily):
    """1 with probability p, else 0, by `probs` or `logits` = log p/(1 − p). T = x, θ = logit p."""

    probs: Any = parameter(SHARE, default=None)
    logits: Any = parameter(LOGIT, default=None)

    def __post_init__(self):
        _one_of(self, "probs", "logits")
        super().__post_init__()

    @property
    def support(self) -> Support:
        return Support("integers", 0, 1)

    def _log_prob(self, x, probs, logits):
        held = (x == 0.0) | (x == 1.0)
        if probs is not None:
            value = xlogy(x, probs) + xlog1py(1.0 - x, -probs)
        else:
            value = -softplus(jnp.where(x > 0.5, -logits, logits))
        return jnp.where(held, value, -jnp.inf)

    def _p(self, probs, logits):
        return probs if logits is None else jax.nn.sigmoid(logits)

    def _sample(self, key, shape, probs, logits):
        return jax.random.bernoulli(key, self._p(probs, logits), shape).astype(int)

    def _mean(self, *parameters):
        return self._p(*parameters)

    def _variance(self, *parameters):
        p = self._p(*parameters)
        return p * (1.0 - p)

    def _entropy(self, *parameters):
        p = self._p(*parameters)
        return entr(p) + entr(1.0 - p)

    def _natural(self, *parameters) -> Natural:
        return (_log_odds(*parameters),)

    def _log_partition(self, a):
        return jnp.log1p(jnp.exp(a)) if jnp.iscomplexobj(a) else softplus(a)

    def _statistics(self, x):
        return (x,)

    def _from_natural(self, a):
        return Bernoulli(logits=a)


def _poisson(key: jax.Array, rate: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Counts of these rates, int32, or int64 where x64 is on."""
    rate = jnp.broadcast_to(rate, shape)
    first, second = jax.random.split(key)
    large = rate > LARGE_RATE
    few = jax.random.poisson(first, jnp.where(large, 1.0, rate), shape)
    z, base = jax.random.normal(second, shape, rate.dtype), jnp.floor(jnp.where(large, rate, 0.0))
    off = rate - base + jnp.sqrt(rate) * z + (z**2 - 1.0) / 6.0  # by itself, since float32 would round the sum
    return jnp.where(large, base.astype(few.dtype) + jnp.round(off).astype(few.dtype), few)


class _Count(ExponentialFamily):
    """What distributions on 0, 1, 2, … share: an entropy by summation, and samples that fit the integers there are."""

    def sample(self, key: jax.Array, shape: Shape = ()) -> jax.Array:
        """Independent whole numbers [*shape, *batch]: int32, or int64 where x64 is on.

        Raises:
            ValueError: a sample may be larger than these integers hold. Of traced parameters it is not known.
        """
        if all(value is None or is_concrete(value) for value in self.parameters().values()):
            most, held = self._largest(), self._holds()
            if most > held:
                more = "" if precision() == jnp.float64 else ", or switch on x64 (jax.enable_x64)"
                raise ValueError(
                    f"{self._title()}: counts up to {most:.3g} are beyond {held:.3g}, the most that samples hold here; "
                    f"take smaller parameters{more}"
                )
        return super().sample(key, shape)

    def _largest(self) -> float:
        """A count that no sample exceeds, by the odds."""
        return float(np.max(np.asarray(self.mean, float) + WINDOW * np.sqrt(np.asarray(self.variance, float))))

    def _holds(self) -> float:
        """The largest count that samples can be."""
        return float(jnp.iinfo(jnp.zeros(0, int).dtype).max)

    @property
    def support(self) -> Support:
        return Support("integers", 0)

    def entropy(self) -> jax.Array:
        """−Σ p log p, [*batch], summed from 0 to `WINDOW` standard deviations above the mean; not under jit."""
        if not all(value is None or is_concrete(value) for value in self.parameters().values()):
            raise TypeError(f"{self._title()}: its entropy is a sum over its support, which jit cannot bound")
        top = np.max(np.asarray(self.mean) + WINDOW * np.sqrt(np.asarray(self.variance))) + WINDOW
        high = np.max(np.asarray(self.support.high))
        x = jnp.arange(int(min(top, high)) + 1, dtype=precision())
        logs = self.log_prob(x.reshape((-1,) + (1,) * len(self.batch_shape)))
        return jnp.sum(entr(jnp.exp(logs)), axis=0)


@named
class Binomial(_Count):
    """How many of `total` tries succeed, each with probability `probs`. T = x, θ = logit p, h = C(n, x)."""

    total: Any = parameter(COUNT)
    probs: Any = parameter(SHARE)

    @property
    def support(self) -> Support:
        return Support("integers", 0, np.asarray(self.total) if is_concrete(self.total) else self.total)

    def _log_prob(self, x, n, p):
        held = _is_count(x) & (x <= n)
        inner = held & (x > 0.0) & (x < n)
        safe_x, safe_n = jnp.where(inner, x, 1.0), jnp.where(inner, n, 2.0)
        value = log_binomial(safe_x, safe_n - safe_x, safe_n, p)
        x = jnp.where(held & ~inner, x, 0.0)  # at an end one power stands alone
        ends = xlogy(x, p) + xlog1py(n - x, -p)
        return jnp.where(held, jnp.where(inner, value, ends), -jnp.inf)

    def _largest(self) -> float:
        return float(np.max(np.asarray(self.total)))

    def _holds(self) -> float:
        return 1.0 / float(jnp.finfo(precision()).eps) if precision() == jnp.float64 else WHOLE

    def _sample(self, key, shape, n, p):
        return jax.random.binomial(key, n, p, shape, precision()).astype(int)

    def _mean(self, n, p):
        return n * p

    def _variance(self, n, p):
        return n * p * (1.0 - p)

    def carrier(self):
        return (self.total,)

    def _natural(self, n, p) -> Natural:
        return (_log_odds(p, None) + 0.0 * n,)

    def _log_partition(self, a):
        log_z = jnp.log1p(jnp.exp(a)) if jnp.iscomplexobj(a) else softplus(a)
        return jnp.asarray(self.total) * log_z

    def _statistics(self, x):
        return (x,)

    def _log_base(self, x):
        n = jnp.asarray(self.total)
        return gammaln(n + 1.0) - gammaln(x + 1.0) - gammaln(n - x + 1.0)

    def _from_natural(self, a):
        return Binomial(self.total, jax.nn.sigmoid(a))


@named
class Poisson(_Count):
    """λˣ e^{−λ} / x!, λ = rate. T = x, θ = log λ, h = 1/x!."""

    rate: Any = parameter(POSITIVE)

    def _log_prob(self, x, rate):
        held = _is_count(x)
        x, none = jnp.where(held & (x > 0.0), x, 1.0), x == 0.0
        value = -stirling_error(x) - deviance(x, rate, x - rate) - 0.5 * (jnp.log(x) + math.log(2.0 * math.pi))
        return jnp.where(held, jnp.where(none, -rate, value), -jnp.inf)

    def _sample(self, key, shape, rate):
        return _poisson(key, rate, shape)

    def _mean(self, rate):
        return rate

    def _variance(self, rate):
        return rate

    def _natural(self, rate) -> Natural:
        return (jnp.log(rate),)

    def _log_partition(self, a):
        return jnp.exp(a)

    def _statistics(self, x):
        return (x,)

    def _log_base(self, x):
        return -gammaln(x + 1.0)

    def _from_natural(self, a):
        return Poisson(jnp.exp(a))


@named
class NegativeBinomial(_Count):
    """How many tries fail before `total` > 0 succeed, each with probability `probs`: C(x + r − 1, x) pʳ (1 − p)ˣ.

    As SciPy's nbinom; torch and numpyro name the other probability, 1 − p. r = total may be no integer. T = x,
    θ = log(1 − p).
    """

    total: Any = parameter(POSITIVE)
    probs: Any = parameter(PROPER_SHARE)

    def _log_prob(self, x, r, p):
        held = _is_count(x)
        x, none = jnp.where(held & (x > 0.0), x, 1.0), x == 0.0
        n = x + r
        value = log_binomial(r, x, n, p) + jnp.log(r / n)
        return jnp.where(held, jnp.where(none, xlogy(r, p), value), -jnp.inf)

    def _largest(self) -> float:
        """As for any count, and `WINDOW` e-folds (1 − p)/p of its tail, which for small r is wider than the deviation.

        A gamma law of mean r has a tail e^{−x} whatever r is.
        """
        p = np.asarray(self.probs, float)
        deviation = np.sqrt(np.asarray(self.variance, float))
        return float(np.max(np.asarray(self.mean, float) + WINDOW * (deviation + (1.0 - p) / p)))

    def _sample(self, key, shape, r, p):
        first, second = jax.random.split(key)
        odds = (1.0 - p) / p
        return _poisson(second, odds * jax.random.gamma(first, r, shape, precision()), shape)

    def _mean(self, r, p):
        return r * (1.0 - p) / p

    def _variance(self, r, p):
        return r * (1.0 - p) / p**2

    def carrier(self):
        return (self.total,)

    def _natural(self, r, p) -> Natural:
        return (jnp.log1p(-p) + 0.0 * r,)

    def _log_partition(self, a):
        return -jnp.asarray(self.total) * jnp.log(-jnp.expm1(a))

    def _statistics(self, x):
        return (x,)

    def _log_base(self, x):
        r = jnp.asarray(self.total)
        return gammaln(x + r) - gammaln(x + 1.0) - gammaln(r)

    def _from_natural(self, a):
        return NegativeBinomial(self.total, -jnp.expm1(a))

    def _in_domain(self, a):
        return a < 0.0


@named
class Geometric(_Count):
    """How many tries fail before the first success: p(1 − p)ˣ, x = 0, 1, …; SciPy's geom counts the success too.

    T = x, θ = log(1 − p).
    """

    probs: Any = parameter(PROPER_SHARE)

    def _log_prob(self, x, p):
        held = _is_count(x)
        return jnp.where(held, jnp.log(p) + xlog1py(jnp.where(held, x, 0.0), -p), -jnp.inf)

    def _sample(self, key, shape, p):
        return jax.random.geometric(key, p, shape) - 1

    def _mean(self, p):
        return (1.0 - p) / p

    def _variance(self, p):
        return (1.0 - p) / p**2

    def _natural(self, p) -> Natural:
        return (jnp.log1p(-p),)

    def _log_partition(self, a):
        return -jnp.log(-jnp.expm1(a))

    def _statistics(self, x):
        return (x,)

    def _from_natural(self, a):
        return Geometric(-jnp.expm1(a))

    def _in_domain(self, a):
        return a < 0.0
