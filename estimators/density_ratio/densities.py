"""Log densities fitted to rows [n, d]: of a Gaussian and of Student's t. Float64, nats."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import digamma, gammaln

DEGREES_OF_FREEDOM = np.array([1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0, 1000.0])
"""Of the t densities among which a fit chooses, from Cauchy to nearly Gaussian."""
RIDGE = 1e-6  # added to a covariance, relative to its diagonal, so that columns may depend on each other
TINY = 1e-12  # least variance of a column to which the ridge is relative


@dataclass(frozen=True, eq=False)
class GaussianDensity:
    """log N(x; mean, Σ) at rows x [k, d]: [k], as log_peak − ½ ‖W(x − mean)‖² with WᵀW = Σ⁻¹.

    A fitted density, where `estimators.distributions.elliptical.Gaussian` is a known distribution: it holds W, so that
    many rows cost one matrix product, and both W and log_peak may be corrected for the fit (`unbiased_density`).

    Attributes:
        whiten: W [d, d].
        log_peak: the log density at the mean.
    """

    mean: np.ndarray
    whiten: np.ndarray
    log_peak: float

    @classmethod
    def of(cls, mean: np.ndarray, covariance: np.ndarray) -> GaussianDensity:
        """Raises numpy.linalg.LinAlgError where the covariance is singular."""
        factor = np.linalg.cholesky(covariance)
        whiten = solve_triangular(factor, np.eye(len(factor)), lower=True)
        return cls(mean, whiten, float(np.log(np.diag(whiten)).sum() - 0.5 * len(mean) * math.log(2.0 * math.pi)))

    @classmethod
    def with_ridge(cls, mean: np.ndarray, covariance: np.ndarray) -> GaussianDensity:
        """The density of a covariance that may be singular."""
        return cls.of(mean, covariance + RIDGE * np.diag(np.maximum(np.diag(covariance), TINY)))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.log_peak - 0.5 * self.square_distance(rows)

    def square_distance(self, rows: np.ndarray) -> np.ndarray:
        """The squared Mahalanobis distance from the mean, ‖W(x − mean)‖² [k]."""
        return np.sum(((rows - self.mean) @ self.whiten.T) ** 2, axis=1)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n points [n, d] of N(mean, Σ)."""
        return self.mean + np.linalg.solve(self.whiten, rng.standard_normal((len(self.mean), n))).T


class GaussianFit(NamedTuple):
    """A Gaussian fitted to n rows: mean [d], unbiased covariance [d, d] and its lower Cholesky factor."""

    n: int
    mean: np.ndarray
    covariance: np.ndarray
    factor: np.ndarray

    @classmethod
    def from_rows(cls, rows: np.ndarray) -> GaussianFit:
        """Raises numpy.linalg.LinAlgError where the rows [n, d] lie on a plane."""
        mean = rows.mean(axis=0)
        centred = rows - mean  # one array, so that the product is symmetric to the last bit
        return cls.from_sums(len(rows), np.zeros(len(mean)), centred.T @ centred, mean)

    @classmethod
    def from_sums(cls, n: int, total: np.ndarray, products: np.ndarray, origin: np.ndarray) -> GaussianFit:
        """The fit to n rows with the sum `total` [d] and the sum of products [d, d] about `origin`.

        So a fit without some of the rows costs only their sums. Raises numpy.linalg.LinAlgError as `from_rows`.
        """
        shift = total / n
        covariance = (products - n * np.outer(shift, shift)) / (n - 1)
        return cls(n, origin + shift, covariance, np.linalg.cholesky(covariance))

    def log_det(self) -> float:
        """log |Σ|, unbiased for Gaussian rows."""
        return float(2.0 * np.log(np.diagonal(self.factor)).sum() - self._log_det_bias())

    def unbiased_density(self) -> GaussianDensity:
        """A log density that is unbiased at any fixed point, but for the error of the mean; for n > d + 2.

        E[S⁻¹] = (n − 1)/(n − d − 2) Σ⁻¹ for Gaussian rows with sample covariance S.

        Source: Muirhead 1982, theorem 3.2.12.
        """
        n, d = self.n, len(self.mean)
        plain = GaussianDensity.of(self.mean, self.covariance)
        shrunk = plain.whiten * np.sqrt((n - d - 2.0) / (n - 1.0))
        return GaussianDensity(self.mean, shrunk, plain.log_peak + 0.5 * self._log_det_bias())

    def _log_det_bias(self) -> float:
        """E log |S| − log |Σ| = Σ_j ψ((n − j)/2) + d log(2/(n − 1)), j = 1…d. Source: Muirhead 1982, theorem 3.2.15."""
        d = len(self.mean)
        return float(np.sum(digamma(0.5 * (self.n - np.arange(1, d + 1)))) + d * np.log(2.0 / (self.n - 1.0)))


@dataclass(frozen=True, eq=False)
class StudentDensity:
    """log t_ν(x; mean, Σ) at rows x [k, d]: [k].

    Attributes:
        gaussian: the Gaussian of the same mean and Σ, the t law's scatter.
        df: the degrees of freedom ν.
    """

    gaussian: GaussianDensity
    df: float

    @classmethod
    def fit(cls, rows: np.ndarray, dfs: np.ndarray = DEGREES_OF_FREEDOM, iterations: int = 7) -> StudentDensity:
        """Maximum likelihood by ECME, ν one of `dfs`, from a Cauchy law of median and median deviation.

        So an outlier, however far, never weighs on the first fit.

        Source: Liu & Rubin 1995.
        """
        mean = np.median(rows, axis=0)
        deviation = np.median(np.abs(rows - mean), axis=0)
        scale = np.where(deviation > 0.0, deviation, rows.std(axis=0) + TINY)
        gaussian, df = GaussianDensity.of(mean, np.diag(scale**2)), 1.0
        square = gaussian.square_distance(rows)
        d = rows.shape[1]
        for _ in range(iterations):
            weight = (df + d) / (df + square)
            mean = weight @ rows / weight.sum()
            centred = (rows - mean) * np.sqrt(weight / len(rows))[:, None]
            gaussian = GaussianDensity.with_ridge(mean, centred.T @ centred)
            square = gaussian.square_distance(rows)
            tails = [0.5 * (nu + d) * float(np.mean(np.log1p(square / nu))) for nu in dfs]
            df = float(dfs[np.argmax(_peak_ratio(dfs, d) - tails)])
        return cls(gaussian, df)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        nu, d = self.df, rows.shape[1]
        tails = 0.5 * (nu + d) * np.log1p(self.gaussian.square_distance(rows) / nu)
        return self.gaussian.log_peak + _peak_ratio(nu, d) - tails


def _peak_ratio(df: Any, d: int) -> Any:
    """log of the t density at its mean, less that of the Gaussian of the same scatter."""
    return gammaln(0.5 * (df + d)) - gammaln(0.5 * df) - 0.5 * d * np.log(0.5 * df)
