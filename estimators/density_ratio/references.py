"""References: parametric log-ratios, closed form or nearly, from which the training of a critic starts.

discriminant   of two fitted Gaussians, covariances shrunk to the pooled one (Friedman 1989): quadratic to linear
student        of two fitted multivariate t laws: as the discriminant, where tails are heavy in either set
additive       Σ_j log p_j/q_j of the columns, each a smoothed histogram (naive Bayes): exact for products
radial         of the Mahalanobis distance from the pooled mean: exact for elliptical laws with one centre
stack          the combination of these, in two kinds of coordinates, that fits validation rows best

Exact but for the bins of the histograms. Between the joint law P of two dependent variables and the product Q of its
marginals the columns say nothing, and instead of `additive` there are

canonical        of a Gaussian dependence, in its leading canonical pairs
student_copula   of two variables that share one scale, whatever their marginals
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded
from scipy.special import expit, ndtr, stdtrit

from estimators.contract import LogRatio
from estimators.density_ratio.calibration import logistic
from estimators.density_ratio.coordinates import NormalScores, Standard
from estimators.density_ratio.densities import GaussianDensity, StudentDensity

Coordinates = tuple[Standard, NormalScores]
STEEPEST = 300.0  # |log-ratio| of one reference at most, so that an outlier does not outweigh the rest
SHRINKAGES = (0.0, 1.0)  # of the quadratic and of the linear discriminant
WIDE = 64  # columns up to which t laws are fitted
CHUNK = 2000  # rows evaluated at once: their arrays stay in the processor's cache
WIDEST = 3.6  # normal score at the edge of the outermost bin of a histogram
SMOOTH, FINE = (48, 20.0), (144, 0.5)
"""Bins of a column and the weight of their second differences: for smooth densities, and for edges and spikes."""
RANKS = (1, 2, 4, 8)  # numbers of canonical pairs of which a Gaussian dependence is built; all pairs are tried too
LARGEST = 10.0  # standard deviations to which coordinates are clipped before a fit, so that no outlier decides it
COPULA_DEGREES = (1.0, 2.0, 3.0, 5.0, 8.0, 15.0)  # of the t copulas that are tried
HIGHEST_SCORE = 4.0  # normal score beyond which the quantiles of a t copula are constant
SUBSAMPLE = 600  # rows that choose the degrees of freedom: with two iterations they distinguish one from the next


def discriminant(p: np.ndarray, q: np.ndarray, shrinkage: float) -> LogRatio:
    """The log-ratio of the Gaussians of p [n, d] and q [m, d], with covariances (1 − s) Σ + s Σ_pooled.

    It is quadratic at s = 0 and linear at s = 1.
    """
    covariances = [np.cov(rows, rowvar=False, ddof=0).reshape(rows.shape[1], -1) for rows in (p, q)]
    pooled = np.average(covariances, axis=0, weights=[len(p), len(q)])
    floor = (1e-6 + 1.0 / (len(p) + len(q))) * np.diag(np.maximum(np.diag(pooled), 1e-12))
    shrunk = [(1.0 - shrinkage) * c + shrinkage * pooled + floor for c in covariances]
    in_p, in_q = (GaussianDensity.of(rows.mean(axis=0), c) for rows, c in zip((p, q), shrunk, strict=True))
    return lambda rows: in_p(rows) - in_q(rows)


def student(p: np.ndarray, q: np.ndarray) -> LogRatio:
    """The log-ratio of the t laws of p [n, d] and q [m, d]."""
    in_p, in_q = StudentDensity.fit(p), StudentDensity.fit(q)
    return lambda rows: in_p(rows) - in_q(rows)


@dataclass(frozen=True, eq=False)
class Additive:
    """Σ_j g_j(z_j) at rows z [k, d]: [k], each g_j linear between the centres of its bins, where it is `values`[j]."""

    values: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        bins = self.values.shape[1]
        position = np.clip((rows + WIDEST) * (bins / (2.0 * WIDEST)) - 0.5, 0.0, bins - 1.0)
        left = np.minimum(position.astype(np.intp), bins - 2)
        columns = np.arange(rows.shape[1])
        low, high = self.values[columns, left], self.values[columns, left + 1]
        return np.sum(low + (position - left) * (high - low), axis=1)


def additive(p: np.ndarray, q: np.ndarray, bins: int = SMOOTH[0], smoothness: float = SMOOTH[1]) -> Additive:
    """Each column's log p_j/q_j: a binomial fit to counts in bins of a normal score, second differences penalised,

        Σ count_p log σ(g + offset) + count_q log σ(−g − offset) − ½ gᵀ penalty g.
    Source: P-splines (Eilers & Marx 1996), of degree zero.
    """
    d = p.shape[1]

    def counts(rows: np.ndarray) -> np.ndarray:  # in each bin of each column [d, bins]
        index = np.clip(((rows + WIDEST) * (bins / (2.0 * WIDEST))).astype(np.intp), 0, bins - 1)
        found = np.bincount((index + bins * np.arange(d)).ravel(), minlength=d * bins)
        return found.reshape(d, bins).astype(np.float64)

    count_p, count_q = counts(p), counts(q)
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


@dataclass(frozen=True, eq=False)
class Radial:
    """g(‖W(x − mean)‖) at rows x [k, d]: [k], a log-ratio that depends on the distance from the pooled mean alone."""

    distance: Callable[[np.ndarray], np.ndarray]
    scores: NormalScores
    of_score: Additive

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.of_score(self.score(rows))

    def score(self, rows: np.ndarray) -> np.ndarray:
        """The normal score of the distance [k, 1]."""
        return self.scores(self.distance(rows))


def radial(p: np.ndarray, q: np.ndarray) -> Radial:
    """The additive log-ratio of one column, the Mahalanobis distance from the mean of p [n, d] and q [m, d] pooled."""
    both = np.concatenate([p, q])
    covariance = np.cov(both, rowvar=False, ddof=0).reshape(both.shape[1], -1)
    pooled = GaussianDensity.with_ridge(both.mean(axis=0), covariance)

    def distance(rows: np.ndarray) -> np.ndarray:
        return np.sqrt(pooled.square_distance(rows))[:, None]

    scores = NormalScores.fit(distance(p), distance(q))
    return Radial(distance, scores, additive(scores(distance(p)), scores(distance(q))))


@dataclass(frozen=True, eq=False)
class References:
    """Several log-ratios fitted to one set of training rows: rows [k, d] → ([k, references], points [k, d + 1]).

    Points are the inputs of a network: normal scores of the columns, and of the distance from the pooled mean, which is
    that of `centre`. Log-ratios take rows in either kind of coordinates: `of_standard`, `of_scores`.
    """

    standard: Standard
    scores: NormalScores
    of_standard: tuple[LogRatio, ...]
    of_scores: tuple[LogRatio, ...]
    centre: Radial

    @classmethod
    def fit(cls, p: np.ndarray, q: np.ndarray, coordinates: Coordinates | None = None) -> References:
        standard, scores = coordinates or (Standard.fit(p, q), NormalScores.fit(p, q))
        z, s = (standard(p), standard(q)), (scores(p), scores(q))
        centre = radial(*z)
        heavy_tailed = (student(*z),) if p.shape[1] <= WIDE else ()
        gaussian = [[discriminant(*rows, shrinkage) for shrinkage in SHRINKAGES] for rows in (z, s)]
        histograms = (additive(*s, *bins) for bins in (SMOOTH, FINE))
        of_standard: tuple[LogRatio, ...] = (*gaussian[0], *heavy_tailed, centre)
        of_scores: tuple[LogRatio, ...] = (*gaussian[1], *histograms, radial(*s))
        return cls(standard, scores, of_standard, of_scores, centre)

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(rows) > CHUNK:
            chunks = [self(rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK)]
            phi, points = map(np.concatenate, zip(*chunks, strict=True))
            return phi, points
        z, s = self.standard(rows), self.scores(rows)
        log_ratios = [f(z) for f in self.of_standard] + [f(s) for f in self.of_scores]
        points = np.concatenate([s, self.centre.score(z)], axis=1)
        return np.clip(np.stack(log_ratios, axis=1), -STEEPEST, STEEPEST), points


def stack(phi_p: np.ndarray, phi_q: np.ndarray) -> np.ndarray:
    """Weights θ of (1, references): the logistic fit on rows that trained none of them [n, k], [m, k] → [1 + k]."""
    with_one = [np.concatenate([np.ones((len(phi), 1)), phi], axis=1) for phi in (phi_p, phi_q)]
    k = phi_p.shape[1]
    return logistic(*with_one, start=[0.0] + [1.0 / k] * k, ridge=[1e-6] + [3.0] * k).theta


@dataclass(frozen=True, eq=False)
class Canonical:
    """log N(a, b; correlations ρ) − log N(a) N(b) summed over the leading canonical pairs (a, b) of two variables.

    `to_a` [d_x, k] and `to_b` [d_z, k] map centred coordinates to canonical ones; `correlations` are ρ [k], decreasing;
    the first variable has `split` coordinates.
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

    Sample correlations are too large by chance, so ρ² is corrected to 1 − (1 − ρ²)(n − 1)/(n − d − 1), not below 0.
    """
    n, d = joint.shape
    mean = joint.mean(axis=0)
    centred = joint - mean
    sides = centred[:, :split], centred[:, split:]
    (u_x, s_x, v_x), (u_z, s_z, v_z) = (np.linalg.svd(side, full_matrices=False) for side in sides)
    keep_x, keep_z = (s > 1e-6 * s[0] for s in (s_x, s_z))
    left, rho, right = np.linalg.svd(u_x[:, keep_x].T @ u_z[:, keep_z], full_matrices=False)
    corrected = np.clip(1.0 - (1.0 - rho**2) * (n - 1.0) / max(n - d - 1.0, 1.0), 0.0, 0.9999)[:rank]
    to_a = math.sqrt(n) * (v_x[keep_x].T / s_x[keep_x]) @ left[:, :rank]
    to_b = math.sqrt(n) * (v_z[keep_z].T / s_z[keep_z]) @ right.T[:, :rank]
    return Canonical(mean, to_a, to_b, np.sqrt(corrected), split)


def student_copula(scores: np.ndarray, split: int, df: float, iterations: int = 5) -> LogRatio:
    """log t_ν(u, w) − log t_ν(u) − log t_ν(w): two variables that share one scale, whatever their marginals.

    u and w are the quantiles of t_ν at the levels of normal scores, of rows (x, z) [n, d_x + d_z].
    Source: Demarta & McNeil 2005.
    """
    levels = np.linspace(-HIGHEST_SCORE, HIGHEST_SCORE, 401)
    knots = levels, stdtrit(df, ndtr(levels))
    columns = slice(None), slice(None, split), slice(split, None)
    u = np.interp(scores, *knots)
    joint, first, second = (StudentDensity.fit(u[:, c], np.array([df]), iterations) for c in columns)

    def log_ratio(scores: np.ndarray) -> np.ndarray:
        u = np.interp(scores, *knots)
        return joint(u) - first(u[:, :split]) - second(u[:, split:])

    return log_ratio


def degrees_of_freedom(scores: np.ndarray, split: int) -> float:
    """The ν of the t copula whose log-ratio is largest on average."""
    some = scores[:SUBSAMPLE]
    gains = [float(np.mean(student_copula(some, split, df, 2)(some))) for df in COPULA_DEGREES]
    return COPULA_DEGREES[int(np.argmax(gains))]


def of_pairs(split: int) -> Callable[[np.ndarray, np.ndarray, Coordinates | None], References]:
    """How to fit `References` for a joint law P and the product Q of its marginals; the first `split` columns are X.

    A single column has the same law under both, so no reference is additive.
    """

    def fit(p: np.ndarray, q: np.ndarray, coordinates: Coordinates | None = None) -> References:
        standard, scores = coordinates or (Standard.fit(p, q), NormalScores.fit(p, q))
        ranks = [r for r in RANKS if r < min(split, p.shape[1] - split)] + [None]

        def of(kind: Standard | NormalScores) -> tuple[LogRatio, ...]:
            z_p, z_q = (np.clip(kind(rows), -LARGEST, LARGEST) for rows in (p, q))
            return (discriminant(z_p, z_q, 0.0), radial(z_p, z_q), *(canonical(z_p, split, r) for r in ranks))

        ranked = of(scores)
        if p.shape[1] <= WIDE:
            ranked += (student_copula(scores(p), split, degrees_of_freedom(scores(p), split)),)
        return References(standard, scores, of(standard), ranked, radial(standard(p), standard(q)))

    return fit
