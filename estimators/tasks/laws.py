"""Short names for the distributions that tasks are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from estimators.distributions.elliptical import Gaussian, StudentT
from estimators.distributions.mixture import Mixture, MixtureOf, in_numpy
from estimators.distributions.product import Box, Product


def gaussian(d: int, mean: float = 0.0, covariance: float | np.ndarray = 1.0) -> Gaussian:
    """N((mean, …, mean), covariance), the covariance a matrix or a multiple of I."""
    scatter = covariance * np.eye(d) if np.ndim(covariance) == 0 else np.asarray(covariance)
    return Gaussian(location=np.full(d, mean), scatter=scatter)


def student(d: int, df: float, mean: float = 0.0, scale: float = 1.0) -> StudentT:
    """The t distribution at (mean, …, mean) with scatter scale² I."""
    return StudentT(location=np.full(d, mean), scatter=scale**2 * np.eye(d), df=df)


def cube(d: int, low: float, high: float) -> Box:
    """The uniform distribution on [low, high]^d."""
    return Box(low=(low,) * d, high=(high,) * d)


def equal_correlation(d: int, correlation: float) -> np.ndarray:
    """The covariance with unit variances and one correlation between all."""
    return (1.0 - correlation) * np.eye(d) + correlation


def autoregressive(d: int, correlation: float) -> np.ndarray:
    """The covariance with correlations ρ^|i−j|."""
    return correlation ** np.abs(np.subtract.outer(np.arange(d), np.arange(d)))


def blocks(d: int, correlation: float) -> np.ndarray:
    """The covariance of d/2 independent pairs of one correlation."""
    return np.kron(np.eye(d // 2), equal_correlation(2, correlation))


def opposed_gaussians(d: int, norm: float, sigma: float) -> MixtureOf:
    """½ N(a, σ² I) + ½ N(−a, σ² I) with ‖a‖ = norm, along the diagonal."""
    a = np.full(d, norm / math.sqrt(d))
    return in_numpy(Mixture(weights=(0.5, 0.5), means=(tuple(a.tolist()), tuple((-a).tolist())), sigmas=(sigma, sigma)))


def laplace(mean: float = 0.0, scale: float = 1.0):
    """The Laplace distribution as a generalised normal, whose log density SciPy computes without underflow."""
    return stats.gennorm(1.0, mean, scale)


def iid(law: Any, d: int) -> Product:
    """d independent coordinates of one frozen SciPy distribution."""
    return Product(marginals=(law,) * d)


def cycled(laws: Sequence[Any], d: int) -> Product:
    """d independent coordinates of frozen SciPy distributions, which repeat in order."""
    return Product(marginals=tuple(laws[j % len(laws)] for j in range(d)))
