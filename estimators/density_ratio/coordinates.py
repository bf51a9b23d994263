"""Coordinates of samples: maps of the rows [k, d] of both sets, fitted to the two sets together.

Every f-divergence is unchanged by an invertible map common to P and Q, so a method may choose the coordinates that suit
it: standardised; normal scores, which undo any increasing map of a single coordinate; whitened, for distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from estimators.samples.arrays import DataError

FARTHEST = 1e6  # standard deviations to which coordinates are clipped; float32 can still square it
KNOTS = 129  # quantiles between which a normal score interpolates
EDGE = 3.2  # normal score of the outermost quantiles; the map is linear beyond
LIMIT = 8.0  # largest normal score; the map is constant beyond
FLAT = 1e-10
"""Variance, relative to the widest direction's or to the two sets' mean, below which a direction counts as flat."""


@dataclass(frozen=True, eq=False)
class Standard:
    """(x − mean) / standard deviation of the pooled rows, column by column, in float64."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def fit(cls, p: np.ndarray, q: np.ndarray) -> Standard:
        pooled = np.concatenate([p, q])
        deviation = pooled.std(axis=0)
        return cls(pooled.mean(axis=0), np.where(deviation > 0.0, deviation, 1.0))

    def log_slope(self, rows: np.ndarray) -> np.ndarray:
        """log |det dz/dx| at each row [k]."""
        return np.full(len(rows), -np.log(self.deviation).sum())

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return np.clip((rows - self.mean) / self.deviation, -FARTHEST, FARTHEST)


@dataclass(frozen=True, eq=False)
class NormalScores:
    """Φ⁻¹(F̂(x)) with F̂ the pooled empirical distribution of a column: increasing, piecewise linear, linear beyond.

    For each column `knots` has increasing values and their scores, fewer than `KNOTS` where values repeat.
    """

    knots: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def fit(cls, p: np.ndarray, q: np.ndarray) -> NormalScores:
        pooled = np.concatenate([p, q])
        outermost = 1.5 / len(pooled)
        levels = np.unique(np.clip(ndtr(np.linspace(-EDGE, EDGE, KNOTS)), outermost, 1.0 - outermost))
        quantiles = np.quantile(pooled, levels, axis=0)
        return cls(tuple(_extended(column, ndtri(levels)) for column in quantiles.T))

    def log_slope(self, rows: np.ndarray) -> np.ndarray:
        """log |det dz/dx| at each row [k], of the outermost pieces beyond the knots."""
        total = np.zeros(len(rows))
        for x, (at, score) in zip(rows.T, self.knots, strict=True):
            piece = np.clip(np.searchsorted(at, x, side="right") - 1, 0, len(at) - 2)
            total += np.log(np.diff(score) / np.diff(at))[piece]
        return total

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(x, *knots) for x, knots in zip(rows.T, self.knots, strict=True)], axis=1)


def _extended(values: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots without repeated values (which share their mean score), and one on either side where the score ends."""
    knots, inverse = np.unique(values, return_inverse=True)
    at = np.bincount(inverse, scores) / np.bincount(inverse)
    if len(knots) < 2:
        return np.array([knots[0] - 1.0, knots[0], knots[0] + 1.0]), np.array([at[0] - 1.0, at[0], at[0] + 1.0])
    c = max(1, len(knots) // 32)
    slopes = (at[c] - at[0]) / (knots[c] - knots[0]), (at[-1] - at[-1 - c]) / (knots[-1] - knots[-1 - c])
    below = knots[0] - (at[0] + LIMIT) / slopes[0]
    above = knots[-1] + (LIMIT - at[-1]) / slopes[1]
    return np.r_[below, knots, above], np.r_[-LIMIT, at, LIMIT]


@dataclass(frozen=True, eq=False)
class Whitening:
    """(x − mean) map [k, rank], after which the mean covariance ½(Σx + Σy) of the two sets is I."""

    mean: np.ndarray
    map: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray) -> Whitening:
        """Directions that the pooled rows do not fill (variance at most `FLAT` of the widest, columns standardised)
        are left out. The pooled covariance would not do: it shrinks the very direction in which the sets lie apart.

        Raises DataError: no column varies.
        """
        pooled = np.concatenate([x, y])
        if not np.any((deviation := pooled.std(axis=0)) > 0.0):
            raise DataError("every column is constant; give samples that vary")
        mean, scale = pooled.mean(axis=0), np.where(deviation > 0.0, deviation, 1.0)
        variances, directions = np.linalg.eigh(_covariance((pooled - mean) / scale))
        kept = variances > FLAT * variances[-1]
        filled = cls(mean, directions[:, kept] / np.sqrt(variances[kept]) / scale[:, None])
        variances, directions = np.linalg.eigh(0.5 * (_covariance(filled(x)) + _covariance(filled(y))))
        return cls(mean, filled.map @ (directions / np.sqrt(np.maximum(variances, FLAT))))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.mean) @ self.map

    @property
    def rank(self) -> int:
        return self.map.shape[1]

    def flatness(self) -> str:
        """A warning where directions are left out, else ""."""
        dim = len(self.map)
        return f"the two sets fill {self.rank} of {dim} dimensions; the divergence is taken there" * (self.rank < dim)


def _covariance(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=0)
    return centred.T @ centred / len(rows)
