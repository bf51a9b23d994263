"""Whitened coordinates, in which the two sets' mean covariance is the identity: for distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from estimators.samples.arrays import DataError

FLAT = 1e-10
"""Variance, relative to the widest direction's or to the two sets' mean, below which a direction counts as flat."""


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
