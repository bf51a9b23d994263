"""Invertible maps of samples: one that P and Q share, or one of X and one of Z, changes no divergence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy.optimize import elementwise

Points = Callable[[np.ndarray], np.ndarray]


def identity(x: np.ndarray) -> np.ndarray:
    """x."""
    return x


@dataclass(frozen=True, kw_only=True, eq=False)
class Bijection:
    """An invertible map of ℝ^d onto its image, applied to each point.

    Attributes:
        name: the ending of the names of tasks under this map.
        forward: [n, d] → [n, D].
        inverse: [n, D] → [n, d] on the image.
        dim: D, where it is not d.
    """

    name: str
    forward: Points
    inverse: Points
    dim: int | None = None


def spiral(speed: float, planes: Sequence[tuple[int, int]]) -> Bijection:
    """x → R(speed ‖x‖²) x, R turning every plane (i, j) of disjoint coordinates: it keeps norms and volumes.

    Args:
        speed: radians per unit of ‖x‖²; positive from coordinate i towards j.
        planes: disjoint pairs (i, j).

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
