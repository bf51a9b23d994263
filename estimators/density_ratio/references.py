"""Parametric log-ratios, closed form or nearly: where a critic's training starts, and the anchors of telescoping.

    discriminant   of two fitted Gaussians, covariances shrunk to the pooled one (Friedman 1989): quadratic to linear
    additive       Σ_j log p_j/q_j of the coordinates, each a smoothed histogram (naive Bayes): exact for products
    student        of two fitted multivariate t laws: as the discriminant, where tails are heavy in either set
    radial         log-ratio of the Mahalanobis distance from the pooled mean: exact for common-centred elliptical laws
    stack          the combination of these, in two kinds of coordinates, that judging rows find best

Layer 1: imports calibration, coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.linalg import solve_triangular, solveh_banded
from scipy.special import expit, gammaln, ndtr, stdtrit

from estimators.density_ratio.calibration import logistic
from estimators.density_ratio.coordinates import NormalScores, Standard

LogRatio = Callable[[np.ndarray], np.ndarray]
Coordinates = tuple[Standard, NormalScores]
STEEPEST = 300.0  # |log-ratio| of one reference, so that an outlier does not outweigh the rest
SHRINKAGES = (0.0, 1.0)
WIDEST = 3.6  # normal score of the outermost bin
PIECE = 2000  # rows seen at once: their arrays stay in the processor's cache
GRAINS = ((48, 20.0), (144, 0.5))
"""Bins of a column and the weight of their second differences: one for smooth densities, one for edges and spikes."""


@dataclass(frozen=True, eq=False)
class Normal:
    """log N(x; μ, Σ) of rows [k, d], as −½ ‖W(x − μ)‖² + level, WᵀW = Σ⁻¹.

    Attributes:
        whiten: W [d, d].
        level: log-density at the mean.
    """

    mean: np.ndarray
    whiten: np.ndarray
    level: float

    @classmethod
    def of(cls, mean: np.ndarray, covariance: np.ndarray) -> Normal:
        factor = np.linalg.cholesky(covariance)
        whiten = solve_triangular(factor, np.eye(len(factor)), lower=True)
        return cls(mean, whiten, float(np.log(np.diag(whiten)).sum() - 0.5 * len(mean) * math.log(2.0 * math.pi)))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.level - 0.5 * np.sum(((rows - self.mean) @ self.whiten.T) ** 2, axis=1)


@dataclass(frozen=True, eq=False)
class Discriminant:
    """log p̂(x) − log q̂(x) of two fitted laws."""

    p: LogRatio
    q: LogRatio

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.p(rows) - self.q(rows)


def discriminant(p: np.ndarray, q: np.ndarray, shrinkage: float) -> Discriminant:
    """The Gaussians of p [n, d] and q [m, d], covariances (1 − s) Σ + s Σ_pooled: quadratic at s = 0, linear at 1."""
    covariances = [np.cov(rows, rowvar=False, ddof=0).reshape(rows.shape[1], -1) for rows in (p, q)]
    pooled = np.average(covariances, axis=0, weights=[len(p), len(q)])
    floor = (1e-6 + 1.0 / (len(p) + len(q))) * np.diag(np.maximum(np.diag(pooled), 1e-12))
    shrunk = [(1.0 - shrinkage) * c + shrinkage * pooled + floor for c in covariances]
    return Discriminant(*(Normal.of(rows.mean(axis=0), c) for rows, c in zip((p, q), shrunk, strict=True)))


FREEDOMS = np.array([1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0, 1000.0])
WIDE = 64  # dimensions up to which t laws are fitted


@dataclass(frozen=True, eq=False)
class Student:
    """log t_ν(x; μ, Σ) of rows [k, d], W and level as for a Gaussian but for the constants of ν."""

    normal: Normal
    freedom: float

    @classmethod
    def fit(cls, rows: np.ndarray, freedoms: np.ndarray = FREEDOMS, iterations: int = 7) -> Student:
        """Maximum likelihood by ECME (Liu & Rubin 1995), ν on a grid, from a Cauchy law of median and median deviation.

        So an outlier, however far, never weighs on the first fit.
        """
        d = rows.shape[1]
        mean = np.median(rows, axis=0)
        deviation = np.median(np.abs(rows - mean), axis=0)
        normal = Normal.of(mean, np.diag(np.where(deviation > 0.0, deviation, rows.std(axis=0) + 1e-12) ** 2))
        freedom, square = 1.0, 2.0 * (normal.level - normal(rows))
        level = gammaln(0.5 * (freedoms + d)) - gammaln(0.5 * freedoms) - 0.5 * d * np.log(0.5 * freedoms)
        for _ in range(iterations):
            weight = (freedom + d) / (freedom + square)
            mean = weight @ rows / weight.sum()
            centred = (rows - mean) * np.sqrt(weight / len(rows))[:, None]
            covariance = centred.T @ centred
            normal = Normal.of(mean, covariance + 1e-6 * np.diag(np.maximum(np.diag(covariance), 1e-12)))
            square = 2.0 * (normal.level - normal(rows))
            fall = [0.5 * (nu + d) * float(np.mean(np.log1p(square / nu))) for nu in freedoms]
            freedom = float(freedoms[np.argmax(level - fall)])
        return cls(normal, freedom)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        nu, d = self.freedom, rows.shape[1]
        square = 2.0 * (self.normal.level - self.normal(rows))
        level = gammaln(0.5 * (nu + d)) - gammaln(0.5 * nu) - 0.5 * d * math.log(0.5 * nu)
        return self.normal.level + level - 0.5 * (nu + d) * np.log1p(square / nu)


@dataclass(frozen=True, eq=False)
class Additive:
    """Σ_j g_j(z_j), each g_j linear between the centres of the bins [d, bins]."""

    levels: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        bins = self.levels.shape[1]
        place = np.clip((rows + WIDEST) * (bins / (2.0 * WIDEST)) - 0.5, 0.0, bins - 1.0)
        left = np.minimum(place.astype(np.intp), bins - 2)
        columns = np.arange(rows.shape[1])
        low, high = self.levels[columns, left], self.levels[columns, left + 1]
        return np.sum(low + (place - left) * (high - low), axis=1)


def student(p: np.ndarray, q: np.ndarray) -> Discriminant:
    """The t laws of p [n, d] and q [m, d]."""
    return Discriminant(Student.fit(p), Student.fit(q))


def additive(p: np.ndarray, q: np.ndarray, bins: int = GRAINS[0][0], smoothness: float = GRAINS[0][1]) -> Additive:
    """Each column's log p_j/q_j: a binomial fit to counts in bins of a normal score, second differences penalised,

        Σ count_p log σ(g + offset) + count_q log σ(−g − offset) − ½ gᵀ penalty g.

    Source: P-splines (Eilers & Marx 1996), of degree zero.
    """
    count_p, count_q = (_counts(rows, bins) for rows in (p, q))
    bend = np.diff(np.eye(bins), n=2, axis=0)
    penalty = smoothness * bend.T @ bend + 1e-3 * np.eye(bins)
    banded = np.stack([np.r_[np.zeros(k), np.diag(penalty, k)] for k in (2, 1, 0)])
    offset = np.log(len(p) / len(q))
    total, g = count_p + count_q, np.zeros(count_p.shape)
    for _ in range(20):  # Newton's method, for all columns at once: their bands side by side
        share = expit(g + offset)
        curvature = np.tile(banded, len(g))
        curvature[2] += (total * share * (1.0 - share)).ravel()
        step = solveh_banded(curvature, (count_p - total * share - g @ penalty).ravel())
        g = g + np.clip(step, -2.0, 2.0).reshape(g.shape)
        if np.abs(step).max() < 1e-4:
            break
    return Additive(g)


def _counts(rows: np.ndarray, bins: int) -> np.ndarray:
    """Rows in each bin of each column [d, bins]."""
    place = np.clip(((rows + WIDEST) * (bins / (2.0 * WIDEST))).astype(np.intp), 0, bins - 1)
    d = rows.shape[1]
    return np.bincount((place + bins * np.arange(d)).ravel(), minlength=d * bins).reshape(d, bins).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Radial:
    """g(‖W(x − μ)‖): a log-ratio that depends on the distance from the pooled mean alone."""

    pooled: Normal
    scores: NormalScores
    of_score: Additive

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.of_score(self.score(rows))

    def score(self, rows: np.ndarray) -> np.ndarray:
        """The normal score of the distance [k, 1]."""
        return self.scores(_distance(self.pooled, rows))


def radial(p: np.ndarray, q: np.ndarray) -> Radial:
    """The additive log-ratio of one column, the Mahalanobis distance from the mean of p [n, d] and q [m, d] pooled."""
    both = np.concatenate([p, q])
    covariance = np.cov(both, rowvar=False, ddof=0).reshape(both.shape[1], -1)
    pooled = Normal.of(both.mean(axis=0), covariance + 1e-6 * np.diag(np.maximum(np.diag(covariance), 1e-12)))
    far_p, far_q = (_distance(pooled, rows) for rows in (p, q))
    scores = NormalScores.fit(far_p, far_q)
    return Radial(pooled, scores, additive(scores(far_p), scores(far_q)))


def _distance(pooled: Normal, rows: np.ndarray) -> np.ndarray:
    return np.sqrt(2.0 * (pooled.level - pooled(rows)))[:, None]


def _heavy(plain: tuple[np.ndarray, np.ndarray]) -> tuple[LogRatio, ...]:
    return (student(*plain),) if plain[0].shape[1] <= WIDE else ()


@dataclass(frozen=True, eq=False)
class References:
    """Several log-ratios of one training half: rows [k, d] → ([k, references], points [k, d + 1]).

    Points are what a network sees: normal scores of the coordinates, and of the distance from the pooled mean.
    """

    standard: Standard
    scores: NormalScores
    plain: tuple[LogRatio, ...]
    ranked: tuple[LogRatio, ...]
    centre: Radial

    @classmethod
    def fit(cls, p: np.ndarray, q: np.ndarray, coordinates: Coordinates | None = None) -> References:
        standard, scores = coordinates or (Standard.fit(p, q), NormalScores.fit(p, q))
        plain, ranked = (standard(p), standard(q)), (scores(p), scores(q))
        centre = radial(*plain)
        return cls(
            standard,
            scores,
            (*(discriminant(*plain, s) for s in SHRINKAGES), *_heavy(plain), centre),
            (
                *(discriminant(*ranked, s) for s in SHRINKAGES),
                *(additive(*ranked, *grain) for grain in GRAINS),
                radial(*ranked),
            ),
            centre,
        )

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(rows) > PIECE:
            seen = [self(rows[start : start + PIECE]) for start in range(0, len(rows), PIECE)]
            phi, points = map(np.concatenate, zip(*seen, strict=True))
            return phi, points
        plain, ranked = self.standard(rows), self.scores(rows)
        found = [f(plain) for f in self.plain] + [f(ranked) for f in self.ranked]
        points = np.concatenate([ranked, self.centre.score(plain)], axis=1)
        return np.clip(np.stack(found, axis=1), -STEEPEST, STEEPEST), points


def stack(phi_p: np.ndarray, phi_q: np.ndarray) -> np.ndarray:
    """Weights θ of (1, references): the logistic fit on rows that trained none of them [n, k], [m, k] → [1 + k]."""
    with_one = [np.concatenate([np.ones((len(phi), 1)), phi], axis=1) for phi in (phi_p, phi_q)]
    k = phi_p.shape[1]
    return logistic(*with_one, start=[0.0] + [1.0 / k] * k, ridge=[1e-6] + [3.0] * k).theta


RANKS = (1, 2, 4, 8)
"""Canonical pairs that a Gaussian dependence is built of; and all of them."""


@dataclass(frozen=True, eq=False)
class Canonical:
    """log N(a, b; correlations ρ) − log N(a) N(b) summed over the leading canonical pairs (a, b) of two variables.

    Attributes:
        to_a, to_b: [d_x, k], [d_z, k] from centred coordinates to canonical ones.
        correlations: ρ [k], decreasing.
        split: coordinates of the first variable.
    """

    mean: np.ndarray
    to_a: np.ndarray
    to_b: np.ndarray
    correlations: np.ndarray
    split: int

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        centred = rows - self.mean
        a, b = centred[:, : self.split] @ self.to_a, centred[:, self.split :] @ self.to_b
        rho, left = self.correlations, 1.0 - self.correlations**2
        return np.sum((rho * a * b - 0.5 * rho**2 * (a**2 + b**2)) / left - 0.5 * np.log(left), axis=1)


def canonical(joint: np.ndarray, split: int, rank: int | None) -> Canonical:
    """The canonical correlations of rows (x, z) [n, d_x + d_z] (Hotelling 1936), the leading `rank` of them.

    Sample correlations are too large by chance: ρ² is corrected to 1 − (1 − ρ²)(n − 1)/(n − d − 1), not below 0.
    """
    n, d = joint.shape
    mean = joint.mean(axis=0)
    centred = joint - mean
    (u_x, s_x, v_x), (u_z, s_z, v_z) = (
        np.linalg.svd(part, full_matrices=False) for part in (centred[:, :split], centred[:, split:])
    )
    keep_x, keep_z = (s > 1e-6 * s[0] for s in (s_x, s_z))
    left, rho, right = np.linalg.svd(u_x[:, keep_x].T @ u_z[:, keep_z], full_matrices=False)
    corrected = np.clip(1.0 - (1.0 - rho**2) * (n - 1.0) / max(n - d - 1.0, 1.0), 0.0, 0.9999)[:rank]
    to_a = math.sqrt(n) * (v_x[keep_x].T / s_x[keep_x]) @ left[:, :rank]
    to_b = math.sqrt(n) * (v_z[keep_z].T / s_z[keep_z]) @ right.T[:, :rank]
    return Canonical(mean, to_a, to_b, np.sqrt(corrected), split)


COPULA_FREEDOMS = (1.0, 2.0, 3.0, 5.0, 8.0, 15.0)
COPULA_REACH = 4.0
"""Largest normal score that is told from the next."""


@dataclass(frozen=True, eq=False)
class StudentCopula:
    """log t_ν(u, w) − log t_ν(u) − log t_ν(w): two variables that share one scale, whatever their marginals.

    Attributes:
        knots: normal scores, and the quantiles of t_ν at the same level.
        joint, first, second: of (u, w), of u and of w.
        split: coordinates of the first variable.
    """

    knots: tuple[np.ndarray, np.ndarray]
    joint: Student
    first: Student
    second: Student
    split: int

    @classmethod
    def fit(cls, scores: np.ndarray, split: int, freedom: float, iterations: int = 5) -> StudentCopula:
        knots = _student_quantiles(freedom)
        u = np.interp(scores, *knots)
        joint, first, second = (
            Student.fit(part, np.array([freedom]), iterations) for part in (u, u[:, :split], u[:, split:])
        )
        return cls(knots, joint, first, second, split)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        u = np.interp(scores, *self.knots)
        return self.joint(u) - self.first(u[:, : self.split]) - self.second(u[:, self.split :])


@cache
def _student_quantiles(freedom: float) -> tuple[np.ndarray, np.ndarray]:
    levels = np.linspace(-COPULA_REACH, COPULA_REACH, 401)
    return levels, stdtrit(freedom, ndtr(levels))


def student_copula(joint: np.ndarray, split: int) -> StudentCopula:
    """Of normal scores of rows (x, z) [n, d_x + d_z], with the ν whose log-ratio is largest on average.

    Source: Demarta & McNeil 2005. A few hundred rows and two iterations tell one ν from the next.
    """
    some = joint[:600]
    gains = [float(np.mean(StudentCopula.fit(some, split, nu, 2)(some))) for nu in COPULA_FREEDOMS]
    return StudentCopula.fit(joint, split, COPULA_FREEDOMS[int(np.argmax(gains))])


def of_pairs(split: int) -> Callable[[np.ndarray, np.ndarray, Coordinates | None], References]:
    """References for a joint law P against the product Q of its marginals, whose first `split` columns are X.

    A column alone says nothing there, and a Gaussian dependence lies in a few canonical pairs.
    """

    def fit(p: np.ndarray, q: np.ndarray, coordinates: Coordinates | None = None) -> References:
        standard, scores = coordinates or (Standard.fit(p, q), NormalScores.fit(p, q))
        ranks = [r for r in RANKS if r < min(split, p.shape[1] - split)] + [None]

        def of(kind: Standard | NormalScores) -> tuple[LogRatio, ...]:
            seen = np.clip(kind(p), -10.0, 10.0), np.clip(kind(q), -10.0, 10.0)
            return (discriminant(*seen, 0.0), radial(*seen), *(canonical(seen[0], split, r) for r in ranks))

        heavy = (student_copula(scores(p), split),) if p.shape[1] <= WIDE else ()
        return References(standard, scores, of(standard), (*of(scores), *heavy), radial(standard(p), standard(q)))

    return fit
