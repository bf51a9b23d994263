"""Log-ratios from smoothed histograms: of each column, and of the distance from the mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded
from scipy.special import expit

from estimators.density_ratio.coordinates import NormalScores
from estimators.density_ratio.densities import GaussianDensity

WIDEST = 3.6  # normal score at the edge of the outermost bin
SMOOTH, FINE = (48, 20.0), (144, 0.5)
"""Bins of a column and the weight of their second differences: for smooth densities, and for edges and spikes."""


@dataclass(frozen=True, eq=False)
class Additive:
    """Σ_j g_j(z_j) at rows z [k, d]: [k], each g_j linear between the centres of its bins.

    Attributes:
        values: g at the centres [d, bins].
    """

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

    Exact for products but for the bins. Source: P-splines (Eilers & Marx 1996), of degree zero.
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
    index = np.clip(((rows + WIDEST) * (bins / (2.0 * WIDEST))).astype(np.intp), 0, bins - 1)
    d = rows.shape[1]
    return np.bincount((index + bins * np.arange(d)).ravel(), minlength=d * bins).reshape(d, bins).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Radial:
    """g(‖W(x − mean)‖) at rows x [k, d]: [k], a log-ratio that depends on the distance from the pooled mean alone."""

    pooled: GaussianDensity
    scores: NormalScores
    of_score: Additive

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.of_score(self.score(rows))

    def score(self, rows: np.ndarray) -> np.ndarray:
        """The normal score of the distance [k, 1]."""
        return self.scores(_distance(self.pooled, rows))


def radial(p: np.ndarray, q: np.ndarray) -> Radial:
    """The additive log-ratio of one column, the Mahalanobis distance from the mean of p [n, d] and q [m, d] pooled.

    Exact for elliptical laws with one centre but for the bins.
    """
    both = np.concatenate([p, q])
    covariance = np.cov(both, rowvar=False, ddof=0).reshape(both.shape[1], -1)
    pooled = GaussianDensity.with_ridge(both.mean(axis=0), covariance)
    distance_p, distance_q = (_distance(pooled, rows) for rows in (p, q))
    scores = NormalScores.fit(distance_p, distance_q)
    return Radial(pooled, scores, additive(scores(distance_p), scores(distance_q)))


def _distance(pooled: GaussianDensity, rows: np.ndarray) -> np.ndarray:
    return np.sqrt(pooled.square_distance(rows))[:, None]
