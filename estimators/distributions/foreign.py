"""Distributions of other libraries as those of this room: SciPy's frozen ones, NumPyro's, or anything with a log_prob.

named_as(scipy.stats.gamma(2.0, scale=0.5))     Gamma(2.0, 2.0), closed forms and all
named_as(scipy.stats.beta(2.0, 3.0, loc=1.0))   a Foreign: evaluated and sampled by SciPy
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from estimators.distributions.beta import Beta, Dirichlet
from estimators.distributions.circle import VonMises
from estimators.distributions.counts import Bernoulli, Binomial, Categorical, Geometric, NegativeBinomial, Poisson
from estimators.distributions.gamma import Exponential, Gamma, InverseGamma, Weibull
from estimators.distributions.location_scale import Cauchy, Gumbel, Laplace, Logistic, StudentT, Uniform
from estimators.distributions.normal import LogNormal, MultivariateNormal, Normal
from estimators.distributions.parametric import Parametric, Shape, Support, as_shape


@dataclass(frozen=True, eq=False)
class Foreign:
    """A distribution that another library evaluates: log_prob on NumPy arrays, and `draw` if it can be sampled."""

    log_prob: Callable[[Any], Any]
    support: Support
    event_shape: tuple[int, ...] = ()
    batch_shape: tuple[int, ...] = ()
    draw: Callable[[jax.Array, tuple[int, ...]], Any] | None = None

    @property
    def event_ndim(self) -> int:
        return len(self.event_shape)

    def sample(self, key: jax.Array, shape: Shape = ()) -> Any:
        if self.draw is None:
            raise ValueError("this distribution has no method to sample from it")
        return self.draw(key, as_shape(shape))


_LINE: dict[str, Callable[..., Any]] = {
    "norm": lambda loc, scale: Normal(loc, scale),
    "laplace": lambda loc, scale: Laplace(loc, scale),
    "logistic": lambda loc, scale: Logistic(loc, scale),
    "cauchy": lambda loc, scale: Cauchy(loc, scale),
    "gumbel_r": lambda loc, scale: Gumbel(loc, scale),
    "uniform": lambda loc, scale: Uniform(loc, loc + scale),
    "t": lambda df, loc, scale: StudentT(df, loc, scale),
    "vonmises": lambda kappa, loc, scale: VonMises(loc, kappa) if scale == 1.0 else None,
    "expon": lambda loc, scale: Exponential(1.0 / scale) if loc == 0.0 else None,
    "gamma": lambda a, loc, scale: Gamma(a, 1.0 / scale) if loc == 0.0 else None,
    "invgamma": lambda a, loc, scale: InverseGamma(a, scale) if loc == 0.0 else None,
    "beta": lambda a, b, loc, scale: Beta(a, b) if (loc, scale) == (0.0, 1.0) else None,
    "lognorm": lambda s, loc, scale: LogNormal(math.log(scale), s) if loc == 0.0 else None,
    "weibull_min": lambda k, loc, scale: Weibull(scale, k) if loc == 0.0 else None,
    "bernoulli": lambda p, loc: Bernoulli(p) if loc == 0.0 else None,
    "binom": lambda n, p, loc: Binomial(n, p) if loc == 0.0 else None,
    "poisson": lambda mu, loc: Poisson(mu) if loc == 0.0 else None,
    "geom": lambda p, loc: Geometric(p) if loc == -1.0 else None,
    "nbinom": lambda n, p, loc: NegativeBinomial(n, p) if loc == 0.0 else None,
}
"""SciPy's name → the same distribution here, from its shape parameters, loc and scale; None where it is shifted."""

_NUMPYRO: dict[str, tuple[Callable[..., Any], str]] = {
    "Normal": (Normal, "loc scale"),
    "LogNormal": (LogNormal, "loc scale"),
    "MultivariateNormal": (MultivariateNormal, "loc covariance_matrix"),
    "Laplace": (Laplace, "loc scale"),
    "Logistic": (Logistic, "loc scale"),
    "Cauchy": (Cauchy, "loc scale"),
    "Gumbel": (Gumbel, "loc scale"),
    "StudentT": (StudentT, "df loc scale"),
    "Uniform": (Uniform, "low high"),
    "Exponential": (Exponential, "rate"),
    "Gamma": (Gamma, "concentration rate"),
    "InverseGamma": (InverseGamma, "concentration rate"),
    "Weibull": (Weibull, "scale concentration"),
    "Beta": (Beta, "concentration1 concentration0"),
    "Dirichlet": (Dirichlet, "concentration"),
    "VonMises": (VonMises, "loc concentration"),
    "Poisson": (Poisson, "rate"),
    "BernoulliProbs": (Bernoulli, "probs"),
    "BernoulliLogits": (lambda logits: Bernoulli(logits=logits), "logits"),
    "CategoricalProbs": (Categorical, "probs"),
    "CategoricalLogits": (lambda logits: Categorical(logits=logits), "logits"),
    "BinomialProbs": (Binomial, "total_count probs"),
    "GeometricProbs": (Geometric, "probs"),
}
"""NumPyro's name → (the same distribution here, NumPyro's names of its parameters)."""


def named_as(p: Any, name: str = "P") -> Any:
    """`p` itself, its equal of this room, or a Foreign.

    Raises:
        ValueError: neither a distribution of this room, nor SciPy's frozen, nor an object with log_prob and support.
    """
    if isinstance(p, (Parametric, Foreign)):
        return p
    if isinstance(p, type):
        raise ValueError(f"{name} is the class {p.__name__}: give one with its parameters, such as Normal(0.0, 1.0)")
    if hasattr(p, "dist") and hasattr(p, "kwds"):
        return _of_scipy(p)
    if (found := _NUMPYRO.get(type(p).__name__)) and all(hasattr(p, each) for each in found[1].split()):
        return found[0](*(np.asarray(getattr(p, each), np.float64) for each in found[1].split()))
    if callable(getattr(p, "log_prob", None)) and hasattr(p, "support"):
        return _of_object(p, name)
    if hasattr(p, "logpdf") or hasattr(p, "logpmf"):
        return _of_multivariate(p, name)
    raise ValueError(
        f"{name} is {type(p).__name__}: give a distribution of estimators.distributions, a frozen one of scipy.stats, "
        "or an object with log_prob(x) and support = (low, high)"
    )


def _of_scipy(p: Any) -> Any:
    """A frozen one-dimensional distribution of SciPy."""
    shapes, loc, scale = p.dist._parse_args(*p.args, **p.kwds)  # as SciPy's own methods read them
    discrete = hasattr(p.dist, "pmf")
    if make := _LINE.get(p.dist.name):
        numbers = [np.asarray(v, np.float64) for v in (*shapes, loc, *(() if discrete else (scale,)))]
        if all(v.ndim == 0 for v in numbers) and (same := make(*(float(v) for v in numbers))) is not None:
            return same
    low, high = p.support()
    if discrete and np.any(np.asarray(low) != np.round(low)):
        raise ValueError(
            f"{p.dist.name} of SciPy with loc = {loc}: its values are no integers; shift it by a whole number"
        )
    support = Support("integers" if discrete else "reals", low, high)
    log_prob = p.logpmf if discrete else p.logpdf
    return Foreign(lambda x: log_prob(np.asarray(x)), support, batch_shape=np.shape(low), draw=_by_scipy(p))


def _of_multivariate(p: Any, name: str) -> Any:
    """A frozen multivariate distribution of SciPy."""
    kind = type(p).__name__.removesuffix("_frozen")
    if kind == "multivariate_normal":
        return MultivariateNormal(p.mean, p.cov_object.covariance)
    if kind == "dirichlet":
        return Dirichlet(p.alpha)
    if kind == "multivariate_t":
        event, support = np.shape(p.loc), Support("vectors")
        return Foreign(lambda x: p.logpdf(np.asarray(x)), support, event_shape=event, draw=_by_scipy(p))
    raise ValueError(f"{name}: {kind} of SciPy is not known here; give an object with log_prob(x) and support")


def _by_scipy(p: Any) -> Callable[[jax.Array, tuple[int, ...]], Any]:
    def draw(key: jax.Array, shape: tuple[int, ...]) -> Any:
        seed = np.asarray(jax.random.key_data(key)).ravel()
        return p.rvs(size=shape or None, random_state=np.random.default_rng(seed))

    return draw


def _of_object(p: Any, name: str) -> Foreign:
    """An object with log_prob and support: a pair of ends, a Support, or a constraint with lower_bound, upper_bound."""
    draw = None
    if callable(getattr(p, "sample", None)):
        draw = lambda key, shape: p.sample(key, shape)  # noqa: E731
    event, batch = tuple(getattr(p, "event_shape", ())), tuple(getattr(p, "batch_shape", ()))
    if type(p).__name__ == "Delta":
        raise ValueError(f"{name} is a point mass, which has no density; compare it with distributions on integers")
    support = _support(p.support, event, name)
    return Foreign(p.log_prob if event else _inside(p.log_prob, support), support, event, batch, draw)


def _inside(log_prob: Callable[[Any], Any], support: Support) -> Callable[[Any], Any]:
    """log_prob, and −∞ outside the support, where a library may return anything."""

    def masked(x: Any) -> Any:
        held = (x >= support.low) & (x <= support.high)
        return jnp.where(held, log_prob(x), -jnp.inf)

    return masked


def _support(given: Any, event: tuple[int, ...], name: str) -> Support:
    if isinstance(given, Support):
        return given
    if event:
        return Support("vectors")
    if isinstance(given, (tuple, list)) and len(given) == 2:
        return Support("reals", float(given[0]), float(given[1]))
    words = type(given).__name__.lower()
    kind = "integers" if getattr(given, "is_discrete", "integer" in words) else "reals"
    low = getattr(given, "lower_bound", 0.0 if "positive" in words or "nonnegative" in words else -math.inf)
    high = getattr(given, "upper_bound", math.inf)
    if "interval" in words and not hasattr(given, "lower_bound"):
        raise ValueError(f"{name}: its support {given!r} has no ends that can be read; give support = (low, high)")
    return Support(kind, np.asarray(low, np.float64), np.asarray(high, np.float64))  # type: ignore[arg-type]
