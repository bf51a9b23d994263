"""References: parametric log-ratios, closed form or nearly, from which the training of a critic starts.

discriminant   of two fitted Gaussians, covariances shrunk to the pooled one (Friedman 1989): quadratic to linear
student        of two fitted multivariate t laws: as the discriminant, where tails are heavy in either set
additive       Σ_j log p_j/q_j of the columns, each a smoothed histogram (naive Bayes): exact for products
radial         of the Mahalanobis distance from the pooled mean: exact for elliptical laws with one centre
stack          the combination of these, in two kinds of coordinates, that fits validation rows best

Exact but for the bins of the histograms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded
from scipy.special import expit

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
