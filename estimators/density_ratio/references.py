"""References: parametric log-ratios, closed form or nearly, from which the training of a critic starts.

discriminant   of two fitted Gaussians, covariances shrunk to the pooled one (Friedman 1989): quadratic to linear
student        of two fitted multivariate t laws: as the discriminant, where tails are heavy in either set
additive       Σ_j log p_j/q_j of the columns, each a smoothed histogram (naive Bayes): exact for products
radial         of the Mahalanobis distance from the pooled mean: exact for elliptical laws with one centre
stack          the combination of these, in two kinds of coordinates, that fits validation rows best
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from estimators.density_ratio.additive import FINE, SMOOTH, Radial, additive, radial
from estimators.density_ratio.calibration import logistic
from estimators.density_ratio.coordinates import NormalScores, Standard
from estimators.density_ratio.densities import GaussianDensity, StudentDensity

LogRatio = Callable[[np.ndarray], np.ndarray]
Coordinates = tuple[Standard, NormalScores]
STEEPEST = 300.0  # |log-ratio| of one reference at most, so that an outlier does not outweigh the rest
SHRINKAGES = (0.0, 1.0)  # of the quadratic and of the linear discriminant
WIDE = 64  # columns up to which t laws are fitted
CHUNK = 2000  # rows evaluated at once: their arrays stay in the processor's cache


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
class References:
    """Several log-ratios fitted to one set of training rows: rows [k, d] → ([k, references], points [k, d + 1]).

    Points are the inputs of a network: normal scores of the columns, and of the distance from the pooled mean.

    Attributes:
        of_standard, of_scores: the log-ratios in either kind of coordinates.
        centre: the radial log-ratio that gives the last point.
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
        return cls(
            standard,
            scores,
            (*(discriminant(*z, shrinkage) for shrinkage in SHRINKAGES), *heavy_tailed, centre),
            (
                *(discriminant(*s, shrinkage) for shrinkage in SHRINKAGES),
                *(additive(*s, *bins) for bins in (SMOOTH, FINE)),
                radial(*s),
            ),
            centre,
        )

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
