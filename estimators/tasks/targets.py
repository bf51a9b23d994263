"""Benchmark tasks: what is sampled, its exact log-ratio, and the truth an estimate is held against.

`DIVERGENCE_TASKS` are pairs (P, Q) with the truth of eight divergences, exact wherever the pair has a closed form or
reduces to one dimension. `MUTUAL_INFORMATION_TASKS` are the forty of Czyż, Grabowski, Vogt, Beerenwinkel, Marx 2023,
Beyond Normal. Both halves of the divergence tasks, "tuning" and "reporting", hold every kind with different parameters:
choose settings on the first, quote the second. A map that P and Q share, or one of X and one of Z alone, changes the
samples and no truth. Nats, float64; P before Q.

Layer 1: imports estimators.divergences.table, estimators.distributions.families, estimators.exact_values.gaussian, estimators.exact_values.quadrature,
estimators.samples.arrays and estimators.distributions.examples.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

import jax
import numpy as np
from scipy import special, stats
from scipy.optimize import elementwise

from estimators.distributions.examples import FGAN_MIXTURE, TWO_MODES, normal, ring
from estimators.distributions.families import (
    AdditiveNoise,
    Box,
    Distribution,
    Elliptical,
    Gaussian,
    Mixture,
    MixtureOf,
    Product,
    StudentT,
    in_numpy,
)
from estimators.divergences.table import divergence
from estimators.exact_values import gaussian
from estimators.exact_values.quadrature import REAL_LINE, Line, LogDensity, exact_divergence
from estimators.samples.arrays import DataError

# --- maps shared by P and Q, or applied to X or Z --------------------------------------------------------------------
Points = Callable[[np.ndarray], np.ndarray]


def _identity(x: np.ndarray) -> np.ndarray:
    return x


@dataclass(frozen=True, kw_only=True, eq=False)
class Bijection:
    """An invertible map of ℝ^d onto its image, row by row.

    Attributes:
        name: as it ends the names of tasks.
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


# --- truths ----------------------------------------------------------------------------------------------------------
class Truth(NamedTuple):
    """A divergence of two known laws: nats, its standard error (0 unless Monte Carlo), and how it was found."""

    value: float
    standard_error: float
    how: Literal["closed form", "quadrature", "Monte Carlo"]


BENCHMARKED = ("kl", "reverse_kl", "jeffreys", "js", "total_variation", "squared_hellinger", "triangular", "pearson")
"""The divergences whose truth every task knows."""

_GAUSSIAN = {
    "kl": gaussian.kl,
    "reverse_kl": gaussian.reverse_kl,
    "jeffreys": gaussian.jeffreys,
    "squared_hellinger": gaussian.squared_hellinger,
    "pearson": gaussian.pearson,
}


@cache
def true_divergence(p: Distribution, q: Distribution, name: str) -> Truth:
    """D_f(P‖Q) of two laws, nats, by the most exact of these that applies.

    Closed forms (P = Q, boxes by volumes, Gaussians); quadrature on the line, for one-dimensional laws and for pairs
    whose log-ratio is a function of one coordinate (`_line`) or a sum over independent ones (`_of_product`); Monte
    Carlo with the exact log-ratio.

    Args:
        p, q: laws of one dimension; cached by identity.
        name: one of `BENCHMARKED`.
    """
    if p is q:
        return Truth(0.0, 0.0, "closed form")
    if isinstance(p, Box) and isinstance(q, Box):
        return Truth(_of_boxes(p, q, name), 0.0, "closed form")
    if isinstance(p, Gaussian) and isinstance(q, Gaussian) and name in _GAUSSIAN:
        with jax.enable_x64(True):
            value = _GAUSSIAN[name](p.location, p.scatter, q.location, q.scatter)
        return Truth(float(value), 0.0, "closed form")
    if (line := _line(p, q)) is not None:
        return Truth(exact_divergence(line.log_p, line.log_q, name, line.support), 0.0, "quadrature")
    if isinstance(p, Product) and isinstance(q, Product) and name in _FROM_MARGINALS:
        return Truth(_of_product(p, q, name), 0.0, "quadrature")
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        return _between_gaussians(p, q)[name]
    return _monte_carlo(p, q)[name]


def _of_boxes(p: Box, q: Box, name: str) -> float:
    """|Q∖P|/|Q| f(0) + |P∖Q|/|P| f'(∞) + |P∩Q|/|Q| f(|Q|/|P|); infinite by the first two terms only."""
    row = divergence(name)
    share_p, share_q = (math.exp(p.log_overlap(q) - box.log_volume()) for box in (p, q))
    with jax.enable_x64(True):
        inside = share_q * float(row.f(np.exp(q.log_volume() - p.log_volume())))
    only_q = (1.0 - share_q) * row.value_at_zero if share_q < 1.0 - 1e-12 else 0.0
    only_p = (1.0 - share_p) * row.slope_at_infinity if share_p < 1.0 - 1e-12 else 0.0
    return inside + only_p + only_q


# --- one dimension ---------------------------------------------------------------------------------------------------
class _Pair(NamedTuple):
    log_p: LogDensity
    log_q: LogDensity
    support: Line


@cache
def _line(p: Distribution, q: Distribution) -> _Pair | None:
    """Two laws on the line between which every D_f is that between p and q, if this module knows such.

    The coordinate is x itself, the one along μp − μq between Gaussians of equal covariance, or the Mahalanobis radius
    between elliptical laws of one centre and of proportional scatters: it is sufficient, so D_f stays.
    """
    if isinstance(p, Product) and isinstance(q, Product) and p.dim == 1:
        return _marginals(p.marginals[0], q.marginals[0])
    if p.dim == 1:
        return _Pair(_column(p), _column(q), REAL_LINE)
    if not (isinstance(p, Elliptical) and isinstance(q, Elliptical)):
        return None
    if isinstance(p, Gaussian) and isinstance(q, Gaussian) and np.array_equal(p.scatter, q.scatter):
        delta = float(np.linalg.norm(np.linalg.solve(p.factor, p.location - q.location)))
        return _marginals(stats.norm(delta), stats.norm())
    ratio = q.scatter[0, 0] / p.scatter[0, 0]
    if np.array_equal(p.location, q.location) and np.allclose(q.scatter, ratio * p.scatter, rtol=1e-13, atol=0.0):
        return _Pair(_radial(p, p), _radial(q, p), (0.0, math.inf))
    return None


def _column(law: Distribution) -> LogDensity:
    return lambda x: law.log_prob(np.asarray(x)[:, None])  # type: ignore[return-value]


@cache
def _marginals(law_p, law_q) -> _Pair:
    ends_p, ends_q = law_p.support(), law_q.support()
    support = float(min(ends_p[0], ends_q[0])), float(max(ends_p[1], ends_q[1]))
    return _Pair(lambda x: law_p.logpdf(np.asarray(x)), lambda x: law_q.logpdf(np.asarray(x)), support)


def _radial(law: Elliptical, frame: Elliptical) -> LogDensity:
    """log density of ρ = √((x − m)ᵀ S⁻¹ (x − m)), m and S those of `frame`: surface of the sphere, times ρ^{d−1} p."""
    d, ray = law.dim, frame.factor[:, 0]
    surface = math.log(2.0) + 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d)
    constant = surface + float(np.log(np.diagonal(frame.factor)).sum())

    def log_density(radius):
        rho = np.asarray(radius)
        return constant + (d - 1) * np.log(rho) + law.log_prob(frame.location + rho[:, None] * ray)

    return log_density


@cache
def _of_marginals(law_p, law_q, name: str) -> float:
    return 0.0 if law_p is law_q else exact_divergence(*_marginals(law_p, law_q)[:2], name, _marginals(law_p, law_q)[2])


_FROM_MARGINALS: Mapping[str, Callable[[np.ndarray], float]] = {
    "kl": lambda parts: float(parts.sum()),
    "reverse_kl": lambda parts: float(parts.sum()),
    "jeffreys": lambda parts: float(parts.sum()),
    "squared_hellinger": lambda parts: float(-2.0 * np.expm1(np.log1p(-0.5 * parts).sum())),
    "pearson": lambda parts: float(np.expm1(np.log1p(parts).sum())),
}


def _of_product(p: Product, q: Product, name: str) -> float:
    """KL adds up over independent coordinates, 1 − ½H² and 1 + χ² multiply."""
    parts = [_of_marginals(law_p, law_q, name) for law_p, law_q in zip(p.marginals, q.marginals)]
    return _FROM_MARGINALS[name](np.array(parts))


# --- Monte Carlo -----------------------------------------------------------------------------------------------------
DRAWS = 2**20
"""Draws from each of P and Q on the line and in the plane; fewer beyond."""

_CHUNK = 2**15

_INTEGRANDS: Mapping[str, Callable[..., np.ndarray]] = {
    "kl": lambda w, v, gap, ell: 2.0 * (w * ell - gap),
    "reverse_kl": lambda w, v, gap, ell: 2.0 * (gap - v * ell),
    "jeffreys": lambda w, v, gap, ell: 2.0 * gap * ell,
    "js": lambda w, v, gap, ell: math.log(2.0) + special.xlogy(w, w) + special.xlogy(v, v),
    "total_variation": lambda w, v, gap, ell: np.abs(gap),
    "squared_hellinger": lambda w, v, gap, ell: 2.0 * (np.sqrt(w) - np.sqrt(v)) ** 2,
    "triangular": lambda w, v, gap, ell: 2.0 * gap**2,
    "pearson": lambda w, v, gap, ell: 2.0 * gap**2 * (1.0 + np.exp(ell)),
}
"""2 f̃(r)/(1 + r), f̃(u) = f(u) − f'(1)(u − 1), from ell = log r: w = r/(1 + r), v = 1/(1 + r), gap = w − v."""


@cache
def _monte_carlo(p: Distribution, q: Distribution) -> dict[str, Truth]:
    """D_f = E_M[2 f(r)/(1 + r)], M = (P + Q)/2, r = p/q, for every benchmarked f from one set of draws.

    Half the draws come from each law, so that the integrands of the bounded divergences are bounded and none sees a
    weight p/m or q/m above 2. Where a law has mass outside the other's support, tasks declare what is infinite.
    """

    def integrands(x):
        ell = np.clip(p.log_prob(x) - q.log_prob(x), -350.0, 350.0)  # squares of e^ell fit float64
        w, v, gap = special.expit(ell), special.expit(-ell), np.tanh(0.5 * ell)
        return np.stack([integrand(w, v, gap, ell) for integrand in _INTEGRANDS.values()])

    n = min(DRAWS, 4 * DRAWS // p.dim)
    rng = np.random.default_rng(0)
    (mean_p, error_p), (mean_q, error_q) = (_expectation(law, integrands, rng, n) for law in (p, q))
    values, errors = 0.5 * (mean_p + mean_q), 0.5 * np.hypot(error_p, error_q)
    return {name: Truth(float(v), float(e), "Monte Carlo") for name, v, e in zip(_INTEGRANDS, values, errors)}


@cache
def _between_gaussians(p: Gaussian, q: Gaussian) -> dict[str, Truth]:
    """The bounded divergences as sup D_f − BC E_G[cosh(ℓ/2) (deficit at ℓ)], G ∝ √(pq), ℓ = log p/q.

    E_M[h] = BC E_G[cosh(ℓ/2) h] with M = (P + Q)/2 and BC = ∫√(pq). What is missing to the supremum lies where p and q
    meet, which is where G lives: bounded terms, and digits left where P and Q hardly overlap.
    """
    precisions = [np.linalg.inv(law.scatter) for law in (p, q)]
    scatter = np.linalg.inv(0.5 * (precisions[0] + precisions[1]))
    location = 0.5 * scatter @ (precisions[0] @ p.location + precisions[1] @ q.location)
    with jax.enable_x64(True):
        overlap = float(gaussian.bhattacharyya(p.location, p.scatter, q.location, q.scatter))

    def deficits(x):
        ell = np.abs(p.log_prob(x) - q.log_prob(x))
        w, v = special.expit(ell), special.expit(-ell)
        missing = np.stack([-special.xlogy(w, w) - special.xlogy(v, v), 2.0 * v, 8.0 * w * v])
        return overlap * np.cosh(0.5 * ell) * missing

    middle = Gaussian(location=location, scatter=0.5 * (scatter + scatter.T))
    n = min(DRAWS, 4 * DRAWS // p.dim)
    means, errors = _expectation(middle, deficits, np.random.default_rng(0), n)
    suprema = {"js": math.log(2.0), "total_variation": 1.0, "triangular": 2.0}
    return {
        name: Truth(supremum - float(mean), float(error), "Monte Carlo")
        for (name, supremum), mean, error in zip(suprema.items(), means, errors)
    }


def _expectation(
    law: Distribution, functions: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """(E h(X) [k], its standard error [k]) over n draws of X ~ law, h: points [m, d] → [k, m]."""
    total, squares = 0.0, 0.0
    for start in range(0, n, _CHUNK):
        values = functions(law.sample(rng, min(_CHUNK, n - start)))
        total += values.sum(axis=1)
        squares += values.shape[1] * values.var(axis=1)  # about each chunk's own mean, so that nothing cancels
    return np.asarray(total / n), np.sqrt(squares) / n


# --- divergence tasks ------------------------------------------------------------------------------------------------
Split = Literal["tuning", "reporting"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DivergenceTask:
    """Two laws to be told apart from samples, perhaps seen through a common invertible map.

    Attributes:
        name: kind, dimension, what else tells it apart, and the map.
        kind: the family of pairs it belongs to.
        split: which half of the benchmark.
        p, q: the laws before the map.
        map: applied to the samples of both, or None.
        infinite: name of a divergence → why it is infinite, where no closed form says so.

    >>> task = DIVERGENCE_TASKS["shift_d5"]
    >>> x, y = task.sample(0, 1000)
    >>> task.truth("kl").how, round(task.truth("kl").value, 9)
    ('closed form', 0.625)
    """

    name: str
    kind: str
    split: Split
    p: Distribution
    q: Distribution
    map: Bijection | None = None
    infinite: Mapping[str, str] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Coordinates of a sample, after the map."""
        return self.p.dim if self.map is None or self.map.dim is None else self.map.dim

    def under(self, common: Bijection) -> DivergenceTask:
        """The same pair seen through `common`; its samples are this task's, mapped."""
        return replace(self, name=f"{self.name}_{common.name}", map=common)

    def sample(self, seed: int, n: int, m: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(x [n, dim], y [m, dim]), x ~ P and y ~ Q independent, float64; m = n if None.

        The numbers depend on the seed, the pair and n alone, so that a mapped task sees what its pair sees.
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


def _gaussian(d: int, mean: float = 0.0, covariance: float | np.ndarray = 1.0) -> Gaussian:
    scatter = covariance * np.eye(d) if np.ndim(covariance) == 0 else np.asarray(covariance)
    return Gaussian(location=np.full(d, mean), scatter=scatter)


def _student(d: int, df: float, mean: float = 0.0, scale: float = 1.0) -> StudentT:
    return StudentT(location=np.full(d, mean), scatter=scale**2 * np.eye(d), df=df)


def _cube(d: int, low: float, high: float) -> Box:
    return Box(low=(low,) * d, high=(high,) * d)


def _equal(d: int, correlation: float) -> np.ndarray:
    """Unit variances, one correlation between all."""
    return (1.0 - correlation) * np.eye(d) + correlation


def _autoregressive(d: int, correlation: float) -> np.ndarray:
    """Correlation ρ^|i−j|."""
    return correlation ** np.abs(np.subtract.outer(np.arange(d), np.arange(d)))


def _blocks(d: int, correlation: float) -> np.ndarray:
    """d/2 independent pairs of one correlation."""
    return np.kron(np.eye(d // 2), _equal(2, correlation))


def _gaussians_at(points: Sequence[Sequence[float]], sigma: float) -> MixtureOf:
    """Equal Gaussians N(point, σ² I)."""
    weights, sigmas = (1.0 / len(points),) * len(points), (sigma,) * len(points)
    return in_numpy(Mixture(weights=weights, means=tuple(tuple(point) for point in points), sigmas=sigmas))


def _halves(d: int, norm: float, sigma: float) -> MixtureOf:
    """½ N(a, σ² I) + ½ N(−a, σ² I) with ‖a‖ = norm, along the diagonal."""
    a = np.full(d, norm / math.sqrt(d))
    return _gaussians_at([a.tolist(), (-a).tolist()], sigma)


def _laplace(mean: float = 0.0, scale: float = 1.0):
    """The Laplace law as a generalised normal, whose log-density SciPy computes without underflow."""
    return stats.gennorm(1.0, mean, scale)


def _iid(law, d: int) -> Product:
    return Product(marginals=(law,) * d)


def _cycled(laws: Sequence, d: int) -> Product:
    return Product(marginals=tuple(laws[j % len(laws)] for j in range(d)))


_HEAVIER = "p²/q grows without bound in the tails: polynomial or exponential ones of P over Gaussian ones of Q"
_WIDER = "p²/q grows without bound in the tails: some component of P has over twice every variance of Q"
_POLE = "p²/q has a pole at 0 that is not integrable"


_KINDS = {
    "chasm": "covariance",
    "exponential": "exponential_family",
    "gamma": "exponential_family",
    "beta": "exponential_family",
}

_TUNING_P = (stats.norm(), _laplace(), stats.gamma(2.0), stats.beta(2.0, 2.0))
_TUNING_Q = (stats.norm(0.4), _laplace(0.0, 1.3), stats.gamma(2.0, 0.0, 1.3), stats.beta(1.5, 2.0))
_REPORTING_P = (stats.norm(), stats.expon(), stats.beta(3.0, 2.0), stats.logistic())
_REPORTING_Q = (stats.norm(0.0, 1.3), stats.expon(0.0, 1.5), stats.beta(2.0, 2.0), stats.logistic(0.8))


def _task(split: Split, name: str, p: Distribution, q: Distribution, **infinite: str) -> DivergenceTask:
    word = name.split("_")[0]
    return DivergenceTask(name=name, kind=_KINDS.get(word, word), split=split, p=p, q=q, infinite=infinite)


def _tuning() -> Iterator[DivergenceTask]:
    """The pairs that settings may be chosen on."""
    task = partial(_task, "tuning")
    yield task("shift_d1", _gaussian(1), _gaussian(1, 1.0))
    yield task("shift_d2", _gaussian(2), _gaussian(2, 0.8))
    yield task("shift_d20_near", _gaussian(20), _gaussian(20, 0.3))
    yield task("shift_d50", _gaussian(50), _gaussian(50, 0.4))
    yield task("scale_d2_narrow", _gaussian(2, covariance=0.6**2), _gaussian(2))
    yield task("scale_d50", _gaussian(50, covariance=0.8**2), _gaussian(50))
    yield task("covariance_d2", _gaussian(2, covariance=_equal(2, 0.8)), _gaussian(2))
    yield task("covariance_d5", _gaussian(5, covariance=_equal(5, 0.5)), _gaussian(5, 0.3))
    yield task("covariance_d20_alternating", _gaussian(20, covariance=_autoregressive(20, -0.5)), _gaussian(20))
    yield task("chasm_d100", _gaussian(100, covariance=_blocks(100, 0.795)), _gaussian(100))
    yield task("mixture_d1_paper", in_numpy(FGAN_MIXTURE), in_numpy(normal(*FGAN_MIXTURE.moments())))
    yield task("mixture_d2_ring", in_numpy(ring(6, 2.0, 0.7)), _gaussian(2, covariance=2.0 + 0.7**2))
    yield task("mixture_d20_halves", _halves(20, 1.4, 1.0), _gaussian(20, covariance=1.1**2))
    yield task("laplace_d1_shift", _iid(_laplace(), 1), _iid(_laplace(1.0), 1))
    yield task("laplace_d5_scale", _iid(_laplace(), 5), _iid(_laplace(0.0, 1.7), 5))
    yield task("student_d1_shift", _student(1, 3.0), _student(1, 3.0, 1.0))
    yield task("student_d2_shift", _student(2, 3.0), _student(2, 3.0, 1.2))
    yield task("student_d5_gaussian", _student(5, 5.0), _gaussian(5), pearson=_HEAVIER)
    yield task("student_d20_freedom", _student(20, 4.0), _student(20, 6.0, scale=1.2))
    yield task("uniform_d1", _cube(1, 0.0, 1.0), _cube(1, 0.3, 1.3))
    yield task("uniform_d2_nested", _cube(2, 0.0, 1.0), _cube(2, -0.25, 1.25))
    yield task("uniform_d20", _cube(20, 0.0, 1.0), _cube(20, 0.02, 1.02))
    yield task("exponential_d1", _iid(stats.expon(), 1), _iid(stats.expon(0.0, 1.4), 1))
    yield task("beta_d2", _iid(stats.beta(2.0, 5.0), 2), _iid(stats.beta(2.0, 3.0), 2))
    yield task("gamma_d5", _iid(stats.gamma(3.0), 5), _iid(stats.gamma(2.0), 5))
    yield task("product_d5_gamma", _cycled(_TUNING_P, 5), _cycled(_TUNING_Q, 5))
    yield task("product_d20_gamma", _cycled(_TUNING_P, 20), _cycled(_TUNING_Q, 20))
    same = _gaussian(5, covariance=_autoregressive(5, 0.5))
    yield task("null_d5_gaussian", same, same)


def _reporting() -> Iterator[DivergenceTask]:
    """The pairs that results are quoted on; settings are not looked at here."""
    task = partial(_task, "reporting")
    yield task("shift_d5", _gaussian(5), _gaussian(5, 0.5))
    yield task("shift_d20", _gaussian(20), _gaussian(20, 0.5))
    yield task("shift_d160", _gaussian(160), _gaussian(160, 0.25))
    yield task("scale_d2_wide", _gaussian(2, covariance=1.5**2), _gaussian(2))
    yield task("scale_d5", _gaussian(5, covariance=1.3**2), _gaussian(5))
    yield task("scale_d20", _gaussian(20, covariance=0.75**2), _gaussian(20))
    yield task("covariance_d20", _gaussian(20, covariance=_autoregressive(20, 0.4)), _gaussian(20))
    yield task("covariance_d50", _gaussian(50, covariance=_autoregressive(50, 0.7)), _gaussian(50))
    yield task("chasm_d40", _gaussian(40, covariance=_blocks(40, 0.795)), _gaussian(40))
    yield task("chasm_d160", _gaussian(160, covariance=_blocks(160, 0.795)), _gaussian(160))
    yield task("mixture_d1_modes", in_numpy(TWO_MODES), _gaussian(1, covariance=2.0**2))
    yield task("mixture_d2_rings", in_numpy(ring(3, 1.5, 0.6)), in_numpy(ring(2, 1.0, 1.0)))
    narrow, wide = _gaussian(5), _gaussian(5, covariance=9.0)
    yield task("mixture_d5", MixtureOf(weights=(0.8, 0.2), components=(narrow, wide)), narrow, pearson=_WIDER)
    yield task("mixture_d20_wide", _halves(20, 1.5, 1.0), _gaussian(20, covariance=1.2**2))
    deviation = math.sqrt(2.0)
    yield task("laplace_d1_normal", _iid(_laplace(), 1), _iid(stats.norm(0.0, deviation), 1), pearson=_HEAVIER)
    yield task("laplace_d5_shift", _iid(_laplace(), 5), _iid(_laplace(0.6), 5))
    yield task("student_d1_gaussian", _student(1, 5.0), _gaussian(1), pearson=_HEAVIER)
    yield task("student_d2_scale", _student(2, 4.0), _student(2, 4.0, scale=1.8))
    yield task("student_d5_shift", _student(5, 4.0), _student(5, 4.0, 0.6))
    yield task("student_d20_gaussian", _gaussian(20), _student(20, 3.0))
    yield task("uniform_d2", _cube(2, 0.0, 1.0), _cube(2, 0.2, 1.2))
    yield task("uniform_d5_nested", _cube(5, 0.0, 1.0), _cube(5, -0.1, 1.1))
    yield task("gamma_d1", _iid(stats.gamma(2.0), 1), _iid(stats.gamma(4.5), 1), pearson=_POLE)
    yield task("beta_d5", _iid(stats.beta(2.0, 2.0), 5), _iid(stats.beta(3.0, 2.0), 5))
    yield task("exponential_d5", _iid(stats.expon(), 5), _iid(stats.expon(0.0, 1.8), 5))
    yield task("product_d5_logistic", _cycled(_REPORTING_P, 5), _cycled(_REPORTING_Q, 5))
    yield task("product_d20_logistic", _cycled(_REPORTING_P, 20), _cycled(_REPORTING_Q, 20))
    same = _student(5, 4.0)
    yield task("null_d5_student", same, same)


_MAPS: tuple[tuple[str, Bijection], ...] = (
    ("shift_d2", CUBE),
    ("shift_d20_near", spiral_of_pairs(20)),
    ("scale_d2_narrow", NORMAL_CDF),
    ("covariance_d2", ASINH),
    ("covariance_d5", CUBE),
    ("chasm_d100", ASINH),
    ("mixture_d2_ring", ASINH),
    ("laplace_d5_scale", ASINH),
    ("student_d2_shift", ASINH),
    ("uniform_d2_nested", CUBE),
    ("gamma_d5", embedding(5, 20)),
    ("product_d5_gamma", spiral_of_pairs(5)),
    ("null_d5_gaussian", CUBE),
    ("shift_d5", embedding(5, 50)),
    ("shift_d20", NORMAL_CDF),
    ("scale_d20", spiral_of_pairs(20)),
    ("covariance_d20", CUBE),
    ("chasm_d40", ASINH),
    ("chasm_d40", CUBE),
    ("chasm_d160", ASINH),
    ("chasm_d160", CUBE),
    ("mixture_d2_rings", NORMAL_CDF),
    ("laplace_d5_shift", CUBE),
    ("student_d5_shift", ASINH),
    ("uniform_d5_nested", spiral_of_pairs(5, 4.0)),
    ("exponential_d5", ASINH),
    ("product_d5_logistic", embedding(5, 20)),
    ("null_d5_student", ASINH),
)


def _divergence_tasks() -> Mapping[str, DivergenceTask]:
    pairs = {task.name: task for task in (*_tuning(), *_reporting())}
    mapped = [pairs[name].under(common) for name, common in _MAPS]
    return MappingProxyType(pairs | {task.name: task for task in mapped})


DIVERGENCE_TASKS: Mapping[str, DivergenceTask] = _divergence_tasks()
"""Every divergence task by name."""


# --- mutual information ----------------------------------------------------------------------------------------------
class Joint(Protocol):
    """A law of pairs (x, z) side by side whose mutual information is known."""

    @property
    def dim(self) -> int:
        """Coordinates of x and z together."""

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n independent points [n, dim], float64."""

    def mutual_information(self, k: int) -> float:
        """I(X; Z) of the first k coordinates and the rest, nats."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MutualInformationTask:
    """Dependent X and Z, each perhaps seen through its own invertible map, and the exact I(X; Z).

    Attributes:
        name: the benchmark's own identifier.
        joint: the law of both before the maps.
        split: how many of its coordinates are X's.
        dim_x, dim_y: coordinates of x and of z in a sample, after the maps.
        map_x, map_y: [n, d] → [n, D] on x and on z, invertible on what they see.
    """

    name: str
    joint: Joint
    split: int
    dim_x: int
    dim_y: int
    map_x: Points = _identity
    map_y: Points = _identity

    @property
    def mutual_information(self) -> float:
        """I(X; Z), nats, in closed form; the maps leave it as it is."""
        return self.joint.mutual_information(self.split)

    def sample(self, seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """n pairs (x [n, dim_x], z [n, dim_y]), float64."""
        stream = np.random.SeedSequence([seed, zlib.crc32(self.name.encode())])
        points = self.joint.sample(np.random.default_rng(stream), n)
        return self.map_x(points[:, : self.split]), self.map_y(points[:, self.split :])

    def under(self, prefix: str, map_x: Points, map_y: Points) -> MutualInformationTask:
        """The same pair seen through further maps, which keep its dimensions; its name after the prefix."""
        first_x, first_y = self.map_x, self.map_y
        return replace(
            self,
            name=f"{prefix}-{self.name}",
            map_x=lambda x: map_x(first_x(x)),
            map_y=lambda y: map_y(first_y(y)),
        )


def staircase_pairs(
    rng: np.random.Generator, n: int, mutual_information: float, dim: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """(x, z), [n, dim] each: standard Gaussians correlated coordinate by coordinate, ρ² = 1 − e^{−2I/dim}.

    Args:
        mutual_information: I(X; Z) in nats, of all coordinates together, at least 0.

    Raises:
        ValueError: a negative or infinite mutual information.

    Source: Belghazi et al. 2018 (MINE), the staircase of Poole et al. 2019.
    """
    if not 0.0 <= mutual_information < math.inf:
        raise ValueError(f"mutual information {mutual_information} nats: give a finite number, at least 0")
    x, noise = rng.standard_normal((2, n, dim))
    rate = 2.0 * mutual_information / dim
    return x, math.sqrt(-math.expm1(-rate)) * x + math.exp(-0.5 * rate) * noise


def _half_cube(x: np.ndarray) -> np.ndarray:
    return x * np.sqrt(np.abs(x))


def _wiggly_x(x: np.ndarray) -> np.ndarray:
    return x + 0.4 * np.sin(x) + 0.2 * np.sin(1.7 * x + 1.0) + 0.03 * np.sin(3.3 * x - 2.5)


def _wiggly_y(x: np.ndarray) -> np.ndarray:
    return x - 0.4 * np.sin(0.4 * x) + 0.17 * np.sin(1.3 * x + 3.5) + 0.02 * np.sin(4.3 * x - 2.5)


def _swiss_roll(u: np.ndarray) -> np.ndarray:
    """[0, 1] rolled up in the plane: [n, 1] → [n, 2]."""
    t = 1.5 * math.pi * (1.0 + 2.0 * u)
    return np.concatenate([t * np.cos(t), t * np.sin(t)], axis=1) / 21.0


def _to_modes(weight: float, low: float, high: float) -> Points:
    """A standard normal coordinate → weight N(low, 1) + (1 − weight) N(high, 1), increasing, by bisection in Φ."""

    def excess(x, z):
        upper = weight * special.ndtr(low - x) + (1.0 - weight) * special.ndtr(high - x)
        lower = weight * special.ndtr(x - low) + (1.0 - weight) * special.ndtr(x - high)
        return np.where(z > 0.0, special.ndtr(-z) - upper, lower - special.ndtr(z))

    return lambda z: elementwise.find_root(excess, (z + low - 1e-9, z + high + 1e-9), args=(z,)).x


def _two_pairs(d: int) -> np.ndarray:
    """Unit variances, correlation 0.8 between xᵢ and zᵢ for i = 1, 2 only."""
    scatter = np.eye(2 * d)
    for i in range(2):
        scatter[i, d + i] = scatter[d + i, i] = 0.8
    return scatter


def _jointly(name: str, joint: Joint) -> MutualInformationTask:
    half = joint.dim // 2
    return MutualInformationTask(name=name, joint=joint, split=half, dim_x=half, dim_y=half)


def _spiralled(task: MutualInformationTask) -> MutualInformationTask:
    speed = 1.0 / task.dim_x
    return task.under("spiral", spiral(speed, [(0, 1)]).forward, spiral(speed, [(1, 2)]).forward)


def _mutual_information_tasks() -> Iterator[MutualInformationTask]:
    """The forty of Czyż et al. 2023, re-implemented, in the order and under the identifiers of the published list."""
    binormal = _jointly("1v1-normal-0.75", Gaussian(location=np.zeros(2), scatter=_equal(2, 0.75)))
    uniform = binormal.under("normal_cdf", special.ndtr, special.ndtr)
    cauchy = _jointly("student-identity-1-1-1", _student(2, 1))
    yield from (binormal, uniform)
    yield from (_jointly(f"1v1-additive-{epsilon}", AdditiveNoise(epsilon=epsilon)) for epsilon in (0.1, 0.75))
    yield replace(binormal, name="1v1-bimodal-0.75", map_x=_to_modes(0.3, 0.0, 5.0), map_y=_to_modes(0.5, -1.0, 3.0))
    yield binormal.under("wiggly", _wiggly_x, _wiggly_y)
    yield binormal.under("half_cube", _half_cube, _half_cube)
    yield from (cauchy, cauchy.under("asinh", np.arcsinh, np.arcsinh))
    yield replace(uniform.under("swissroll_x", _swiss_roll, _identity), dim_x=2)
    for d in (2, 3, 5, 25, 50):
        yield _jointly(f"multinormal-dense-{d}-{d}-0.5", _gaussian(2 * d, covariance=_equal(2 * d, 0.5)))
    sparse = {
        d: _jointly(f"multinormal-sparse-{d}-{d}-2-2.0", _gaussian(2 * d, covariance=_two_pairs(d)))
        for d in (2, 3, 5, 25)
    }
    yield from sparse.values()
    shapes = [(2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3)]
    student = {(d, df): _jointly(f"student-identity-{d}-{d}-{df}", _student(2 * d, df)) for d, df in shapes}
    yield from student.values()
    bases = [sparse[d] for d in (3, 5, 25)]
    on_cubes = [base.under("normal_cdf", special.ndtr, special.ndtr) for base in bases]
    yield from on_cubes
    yield from (base.under("half_cube", _half_cube, _half_cube) for base in bases)
    yield from (_spiralled(base) for base in (*bases, *on_cubes))
    yield from (student[shape].under("asinh", np.arcsinh, np.arcsinh) for shape in [(2, 1), (3, 2), (5, 2)])


MUTUAL_INFORMATION_TASKS: Mapping[str, MutualInformationTask] = MappingProxyType(
    {task.name: task for task in _mutual_information_tasks()}
)
"""The forty tasks of Beyond Normal by the benchmark's own identifiers."""
