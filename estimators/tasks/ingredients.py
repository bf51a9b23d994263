"""What tasks are made of: short names for distributions, and invertible maps of samples.

A map that P and Q share, or one of X and one of Z, changes no divergence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats
from scipy.optimize import elementwise

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


def independent(d: int, *laws: Any) -> Product:
    """d independent coordinates of frozen SciPy distributions, which repeat in order."""
    return Product(marginals=tuple(laws[j % len(laws)] for j in range(d)))


# --- maps of P and Q ------------------------------------------------------------------------------------------------
Points = Callable[[np.ndarray], np.ndarray]


def identity(x: np.ndarray) -> np.ndarray:
    """x."""
    return x


@dataclass(frozen=True, kw_only=True, eq=False)
class Bijection:
    """An invertible map of ℝ^d onto its image in ℝ^D, applied to each point."""

    name: str  # the ending of the names of tasks under this map
    forward: Points
    inverse: Points
    dim: int | None = None  # D, where it is not d


def spiral(speed: float, planes: Sequence[tuple[int, int]]) -> Bijection:
    """x → R(speed ‖x‖²) x, R turning every plane (i, j) of disjoint coordinates: it keeps norms and volumes.

    The speed is in radians per unit of ‖x‖², positive from coordinate i towards j.
    Source: Czyż et al. 2023, where one plane turns.
    """
    i, j = (list(axes) for axes in zip(*planes))

    def turn(x, direction):
        angle = direction * speed * np.sum(x**2, axis=1, keepdims=True)
        turned = np.array(x, np.float64)
        turned[:, i] = np.cos(angle) * x[:, i] - np.sin(angle) * x[:, j]
        turned[:, j] = np.sin(angle) * x[:, i] + np.cos(angle) * x[:, j]
        return turned

    return Bijection(name="spiral", forward=lambda x: turn(x, 1.0), inverse=lambda x: turn(x, -1.0))


def spiral_of_pairs(d: int, speed: float = 1.0) -> Bijection:
    """The spiral of the planes (0, 1), (2, 3), …, at `speed`/d: the angle does not grow with the dimension."""
    return spiral(speed / d, [(i, i + 1) for i in range(0, d - 1, 2)])


def embedding(d: int, dim: int) -> Bijection:
    """x → A x with one fixed Gaussian A [dim, d]: densities relative to the subspace, so ratios stay.

    The inverse projects points off the subspace onto it (least squares).
    """
    a = np.random.default_rng(dim).standard_normal((dim, d)) / math.sqrt(d)
    inverse = np.linalg.pinv(a)
    return Bijection(name="embedded", forward=lambda x: x @ a.T, inverse=lambda z: z @ inverse.T, dim=dim)


ASINH = Bijection(name="asinh", forward=np.arcsinh, inverse=np.sinh)
CUBE = Bijection(name="cube", forward=lambda x: x**3, inverse=np.cbrt)
NORMAL_CDF = Bijection(name="cdf", forward=special.ndtr, inverse=special.ndtri)


# --- of X or of Z in the tasks of Czyż et al. 2023 -------------------------------------------------------------------
def half_cube(x: np.ndarray) -> np.ndarray:
    """sign(x) |x|^{3/2}."""
    return x * np.sqrt(np.abs(x))


def wiggly_x(x: np.ndarray) -> np.ndarray:
    """An increasing sum of x and sines; `wiggly_y` is another."""
    return x + 0.4 * np.sin(x) + 0.2 * np.sin(1.7 * x + 1.0) + 0.03 * np.sin(3.3 * x - 2.5)


def wiggly_y(x: np.ndarray) -> np.ndarray:
    """An increasing sum of x and sines."""
    return x - 0.4 * np.sin(0.4 * x) + 0.17 * np.sin(1.3 * x + 3.5) + 0.02 * np.sin(4.3 * x - 2.5)


def swiss_roll(u: np.ndarray) -> np.ndarray:
    """[0, 1] rolled up in the plane: [n, 1] → [n, 2]."""
    t = 1.5 * math.pi * (1.0 + 2.0 * u)
    return np.concatenate([t * np.cos(t), t * np.sin(t)], axis=1) / 21.0


def to_modes(weight: float, low: float, high: float) -> Points:
    """A standard normal coordinate → weight N(low, 1) + (1 − weight) N(high, 1), increasing, by bisection in Φ."""

    def excess(x, z):
        upper = weight * special.ndtr(low - x) + (1.0 - weight) * special.ndtr(high - x)
        lower = weight * special.ndtr(x - low) + (1.0 - weight) * special.ndtr(x - high)
        return np.where(z > 0.0, special.ndtr(-z) - upper, lower - special.ndtr(z))

    return lambda z: elementwise.find_root(excess, (z + low - 1e-9, z + high + 1e-9), args=(z,)).x
