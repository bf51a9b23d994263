"""Distributions that can be sampled and whose density is exact.

    from estimators import distributions as dist
    dist.Normal(0.0, 1.0), dist.Gamma(2.0, 1.0), dist.Mixture([0.5, 0.5], [dist.Normal(-1.0), dist.Normal(1.0)])

Named ones (`parametric.Parametric`: parameters, batches, jax) stand in one file a kind: normal, gamma, beta, circle,
counts, location_scale, compound. A new one is a class there and its name in `_HOMES` below; one of an exponential
family states its log-partition, and all its closed forms follow. Benchmarks and generators use those of elliptical,
product, mixture, curves and subspaces, with the methods of `elliptical.Distribution`; a known target that a config may
name is one entry of `examples.TARGETS`. Imports nothing of the project
but the look-up of names.
"""

from typing import Any

from estimators.rooms import loaded

_HOMES = {
    "normal": "Normal LogNormal MultivariateNormal",
    "location_scale": "Laplace Logistic StudentT Cauchy Gumbel Uniform",
    "gamma": "Exponential Gamma InverseGamma Weibull Wishart",
    "beta": "Beta Dirichlet",
    "circle": "VonMises",
    "counts": "Bernoulli Binomial Categorical Poisson Geometric NegativeBinomial",
    "compound": "Product Mixture Transformed Map Affine Power NegativeLog EXP RECIPROCAL TANH SIGMOID",
}

__all__ = sorted(" ".join(_HOMES.values()).split())  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    globals()[name] = value = loaded(__name__, _HOMES, name)
    return value


def __dir__() -> list[str]:
    return list(__all__)
