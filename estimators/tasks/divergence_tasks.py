"""Pairs (P, Q) whose divergences are known, exact wherever the pair has a closed form or reduces to one dimension.

Both splits, "tuning" and "reporting", hold every kind of pair with different parameters: choose settings on the first,
quote the second. An invertible map that P and Q share changes the samples and no truth. Nats, float64; P before Q.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from scipy import special, stats

from estimators.distributions.elliptical import Distribution, Gaussian, StudentT
from estimators.distributions.examples import FGAN_MIXTURE, TWO_MODES, normal, ring
from estimators.distributions.mixture import Mixture, MixtureOf, in_numpy
from estimators.distributions.product import Box, Product
from estimators.exact_values.truth import Truth, true_divergence
from estimators.samples.arrays import DataError

BENCHMARKED = ("kl", "reverse_kl", "jeffreys", "js", "total_variation", "squared_hellinger", "triangular", "pearson")
"""The divergences that are benchmarked on every task."""

Split = Literal["tuning", "reporting"]
Points = Callable[[np.ndarray], np.ndarray]


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


@dataclass(frozen=True, kw_only=True, eq=False)
class DivergenceTask:
    """Two distributions to be compared by samples, perhaps under a common invertible map.

    >>> task = DIVERGENCE_TASKS["shift_d5"]
    >>> x, y = task.sample(0, 1000)
    >>> task.truth("kl").how, round(task.truth("kl").value, 9)
    ('closed form', 0.625)
    """

    name: str  # kind, dimension, what else distinguishes it, and the map
    kind: str
    split: Split
    p: Distribution  # before the map, as q
    q: Distribution
    map: Bijection | None = None
    infinite: Mapping[str, str] = field(default_factory=dict)  # divergence → why it is infinite, if no formula shows it

    @property
    def dim(self) -> int:
        """Coordinates of a sample, after the map."""
        return self.p.dim if self.map is None or self.map.dim is None else self.map.dim

    def under(self, common: Bijection) -> DivergenceTask:
        """The same pair under the map `common`; its samples are this task's, mapped."""
        return replace(self, name=f"{self.name}_{common.name}", map=common)

    def sample(self, seed: int, n: int, m: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(x [n, dim], y [m, dim]), x ~ P and y ~ Q independent, float64; m = n if None.

        The numbers depend on the seed, the pair and n alone, so that a mapped task has the samples of its pair.
        """
        pair = self.name if self.map is None else self.name.removesuffix(f"_{self.map.name}")
        streams = np.random.SeedSequence([seed, zlib.crc32(pair.encode())]).spawn(2)
        rng_p, rng_q = (np.random.default_rng(stream) for stream in streams)
        x, y = self.p.sample(rng_p, n), self.q.sample(rng_q, n if m is None else m)
        return (x, y) if self.map is None else (self.map.forward(x), self.map.forward(y))

    def log_ratio(self, points: np.ndarray) -> np.ndarray:
        """log p/q [k] at points [k, dim] of the mapped space: the map's Jacobian cancels.

        Raises:
            DataError: points of another shape.
        """
        points = np.asarray(points, np.float64)
        if points.ndim != 2 or points.shape[1] != self.dim:
            raise DataError(f"points of shape {points.shape}: {self.name} takes [k, {self.dim}]")
        x = points if self.map is None else self.map.inverse(points)
        return self.p.log_prob(x) - self.q.log_prob(x)

    def truth(self, name: str) -> Truth:
        """D_f(P‖Q) in nats with its standard error, by `true_divergence`; inf where `infinite` says why.

        Raises:
            ValueError: a name that is not in `BENCHMARKED`.
        """
        if name not in BENCHMARKED:
            raise ValueError(f"no truth for {name!r}; choose from {', '.join(BENCHMARKED)}")
        if name in self.infinite:
            return Truth(math.inf, 0.0, "closed form")
        return true_divergence(self.p, self.q, name)


# --- short names for distributions -----------------------------------------------------------------------------------
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


_HEAVIER = "p²/q grows without bound in the tails: polynomial or exponential ones of P over Gaussian ones of Q"
_WIDER = "p²/q grows without bound in the tails: some component of P has over twice every variance of Q"
_POLE = "p²/q has a pole at 0 that is not integrable"


_KINDS = {"chasm": "covariance"} | dict.fromkeys(("exponential", "gamma", "beta"), "exponential_family")

_GAMMA_P = (stats.norm(), laplace(), stats.gamma(2.0), stats.beta(2.0, 2.0))
_GAMMA_Q = (stats.norm(0.4), laplace(0.0, 1.3), stats.gamma(2.0, 0.0, 1.3), stats.beta(1.5, 2.0))
_LOGISTIC_P = (stats.norm(), stats.expon(), stats.beta(3.0, 2.0), stats.logistic())
_LOGISTIC_Q = (stats.norm(0.0, 1.3), stats.expon(0.0, 1.5), stats.beta(2.0, 2.0), stats.logistic(0.8))


def _tasks(
    split: Split, name: str, p: Distribution, q: Distribution, *maps: Bijection, **infinite: str
) -> Iterator[DivergenceTask]:
    """The pair itself, and the pair under each of the maps."""
    word = name.split("_")[0]
    pair = DivergenceTask(name=name, kind=_KINDS.get(word, word), split=split, p=p, q=q, infinite=infinite)
    yield pair
    yield from (pair.under(common) for common in maps)


def _tuning() -> Iterator[DivergenceTask]:
    """The pairs on which settings may be chosen."""
    pair = partial(_tasks, "tuning")
    yield from pair("shift_d1", gaussian(1), gaussian(1, 1.0))
    yield from pair("shift_d2", gaussian(2), gaussian(2, 0.8), CUBE)
    yield from pair("shift_d20_near", gaussian(20), gaussian(20, 0.3), spiral_of_pairs(20))
    yield from pair("shift_d50", gaussian(50), gaussian(50, 0.4))
    yield from pair("scale_d2_narrow", gaussian(2, covariance=0.6**2), gaussian(2), NORMAL_CDF)
    yield from pair("scale_d50", gaussian(50, covariance=0.8**2), gaussian(50))
    yield from pair("covariance_d2", gaussian(2, covariance=equal_correlation(2, 0.8)), gaussian(2), ASINH)
    yield from pair("covariance_d5", gaussian(5, covariance=equal_correlation(5, 0.5)), gaussian(5, 0.3), CUBE)
    yield from pair("covariance_d20_alternating", gaussian(20, covariance=autoregressive(20, -0.5)), gaussian(20))
    yield from pair("chasm_d100", gaussian(100, covariance=blocks(100, 0.795)), gaussian(100), ASINH)
    yield from pair("mixture_d1_paper", in_numpy(FGAN_MIXTURE), in_numpy(normal(*FGAN_MIXTURE.moments())))
    yield from pair("mixture_d2_ring", in_numpy(ring(6, 2.0, 0.7)), gaussian(2, covariance=2.0 + 0.7**2), ASINH)
    yield from pair("mixture_d20_halves", opposed_gaussians(20, 1.4, 1.0), gaussian(20, covariance=1.1**2))
    yield from pair("laplace_d1_shift", independent(1, laplace()), independent(1, laplace(1.0)))
    yield from pair("laplace_d5_scale", independent(5, laplace()), independent(5, laplace(0.0, 1.7)), ASINH)
    yield from pair("student_d1_shift", student(1, 3.0), student(1, 3.0, 1.0))
    yield from pair("student_d2_shift", student(2, 3.0), student(2, 3.0, 1.2), ASINH)
    yield from pair("student_d5_gaussian", student(5, 5.0), gaussian(5), pearson=_HEAVIER)
    yield from pair("student_d20_freedom", student(20, 4.0), student(20, 6.0, scale=1.2))
    yield from pair("uniform_d1", cube(1, 0.0, 1.0), cube(1, 0.3, 1.3))
    yield from pair("uniform_d2_nested", cube(2, 0.0, 1.0), cube(2, -0.25, 1.25), CUBE)
    yield from pair("uniform_d20", cube(20, 0.0, 1.0), cube(20, 0.02, 1.02))
    yield from pair("exponential_d1", independent(1, stats.expon()), independent(1, stats.expon(0.0, 1.4)))
    yield from pair("beta_d2", independent(2, stats.beta(2.0, 5.0)), independent(2, stats.beta(2.0, 3.0)))
    yield from pair("gamma_d5", independent(5, stats.gamma(3.0)), independent(5, stats.gamma(2.0)), embedding(5, 20))
    yield from pair("product_d5_gamma", independent(5, *_GAMMA_P), independent(5, *_GAMMA_Q), spiral_of_pairs(5))
    yield from pair("product_d20_gamma", independent(20, *_GAMMA_P), independent(20, *_GAMMA_Q))
    same = gaussian(5, covariance=autoregressive(5, 0.5))
    yield from pair("null_d5_gaussian", same, same, CUBE)


def _reporting() -> Iterator[DivergenceTask]:
    """The pairs on which results are quoted; no setting is chosen here."""
    pair = partial(_tasks, "reporting")
    yield from pair("shift_d5", gaussian(5), gaussian(5, 0.5), embedding(5, 50))
    yield from pair("shift_d20", gaussian(20), gaussian(20, 0.5), NORMAL_CDF)
    yield from pair("shift_d160", gaussian(160), gaussian(160, 0.25))
    yield from pair("scale_d2_wide", gaussian(2, covariance=1.5**2), gaussian(2))
    yield from pair("scale_d5", gaussian(5, covariance=1.3**2), gaussian(5))
    yield from pair("scale_d20", gaussian(20, covariance=0.75**2), gaussian(20), spiral_of_pairs(20))
    yield from pair("covariance_d20", gaussian(20, covariance=autoregressive(20, 0.4)), gaussian(20), CUBE)
    yield from pair("covariance_d50", gaussian(50, covariance=autoregressive(50, 0.7)), gaussian(50))
    yield from pair("chasm_d40", gaussian(40, covariance=blocks(40, 0.795)), gaussian(40), ASINH, CUBE)
    yield from pair("chasm_d160", gaussian(160, covariance=blocks(160, 0.795)), gaussian(160), ASINH, CUBE)
    yield from pair("mixture_d1_modes", in_numpy(TWO_MODES), gaussian(1, covariance=2.0**2))
    yield from pair("mixture_d2_rings", in_numpy(ring(3, 1.5, 0.6)), in_numpy(ring(2, 1.0, 1.0)), NORMAL_CDF)
    narrow, wide = gaussian(5), gaussian(5, covariance=9.0)
    yield from pair("mixture_d5", MixtureOf(weights=(0.8, 0.2), components=(narrow, wide)), narrow, pearson=_WIDER)
    yield from pair("mixture_d20_wide", opposed_gaussians(20, 1.5, 1.0), gaussian(20, covariance=1.2**2))
    normal_like = independent(1, stats.norm(0.0, math.sqrt(2.0)))
    yield from pair("laplace_d1_normal", independent(1, laplace()), normal_like, pearson=_HEAVIER)
    yield from pair("laplace_d5_shift", independent(5, laplace()), independent(5, laplace(0.6)), CUBE)
    yield from pair("student_d1_gaussian", student(1, 5.0), gaussian(1), pearson=_HEAVIER)
    yield from pair("student_d2_scale", student(2, 4.0), student(2, 4.0, scale=1.8))
    yield from pair("student_d5_shift", student(5, 4.0), student(5, 4.0, 0.6), ASINH)
    yield from pair("student_d20_gaussian", gaussian(20), student(20, 3.0))
    yield from pair("uniform_d2", cube(2, 0.0, 1.0), cube(2, 0.2, 1.2))
    yield from pair("uniform_d5_nested", cube(5, 0.0, 1.0), cube(5, -0.1, 1.1), spiral_of_pairs(5, 4.0))
    yield from pair("gamma_d1", independent(1, stats.gamma(2.0)), independent(1, stats.gamma(4.5)), pearson=_POLE)
    yield from pair("beta_d5", independent(5, stats.beta(2.0, 2.0)), independent(5, stats.beta(3.0, 2.0)))
    yield from pair("exponential_d5", independent(5, stats.expon()), independent(5, stats.expon(0.0, 1.8)), ASINH)
    yield from pair("product_d5_logistic", independent(5, *_LOGISTIC_P), independent(5, *_LOGISTIC_Q), embedding(5, 20))
    yield from pair("product_d20_logistic", independent(20, *_LOGISTIC_P), independent(20, *_LOGISTIC_Q))
    same = student(5, 4.0)
    yield from pair("null_d5_student", same, same, ASINH)


DIVERGENCE_TASKS: dict[str, DivergenceTask] = {
    task.name: task for task in sorted((*_tuning(), *_reporting()), key=lambda task: task.map is not None)
}
"""Every divergence task by name, those under a map last."""
