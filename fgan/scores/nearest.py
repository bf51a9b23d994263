"""Whether generated samples are copies of training samples: how near they lie to them, beside samples held out.

Samples of a model that has learnt its training rows by heart lie nearer to them than unseen samples of the data do.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

BLOCK = 4096
"""Training rows in memory at once: 13 MB of 28 × 28 pixels in float32."""


FEW = 30
"""Distances of a set below which intervals by the estimated standard error miss too often: of 10 and 2 a quarter do."""


class Nearer(NamedTuple):
    """A rank statistic of distances and its standard error; see `nearer`."""

    auc: float
    standard_error: float


def nearest_distance(points: np.ndarray, rows: Any, most: int | None = None) -> np.ndarray:
    """[k] Euclidean distance from each of points [k, d] to the nearest of rows [n, d], the first `most` of them.

    Rows are read in blocks.

    float32: distances below a thousandth of the norm of a point are rounding.
    """
    points = np.asarray(points, np.float32)
    square = np.full(len(points), np.inf, np.float32)
    n = len(rows) if most is None else min(most, len(rows))
    for start in range(0, n, BLOCK):
        block = np.asarray(rows[start : min(start + BLOCK, n)], np.float32)
        found = np.sum(block**2, axis=1)[None] - 2.0 * (points @ block.T)
        np.minimum(square, found.min(axis=1), out=square)
    return np.sqrt(np.maximum(square + np.sum(points**2, axis=1), 0.0))


def nearer(generated: Sequence[float] | np.ndarray, held_out: Sequence[float] | np.ndarray) -> Nearer:
    """AUC = P(D > E) + ½ P(D = E), D the distance of a generated sample to the nearest training row, E of a held-out.

    ½ where both are as near; 0 where every generated sample is nearer than every held-out one, as copies are; above ½
    where generated samples are farther from the training rows than data are.

    Args:
        generated: [m] distances, m >= 2.
        held_out: [n] distances, n >= 2.

    Of few distances, and where the AUC is 0 or 1, the standard error is at least that of equal laws,
    √((m + n + 1)/12mn): the estimated one may be far too small, even 0.

    Source: Mann, Whitney 1947; DeLong, DeLong, Clarke-Pearson 1988 for the standard error.
    """
    d, e = np.asarray(generated, np.float64), np.asarray(held_out, np.float64)
    m, n = len(d), len(e)
    if min(m, n) < 2:
        raise ValueError(f"{m} generated and {n} held-out distances: at least two of each are needed")
    ranks = rankdata(np.concatenate([d, e]))
    over = (ranks[:m] - rankdata(d)) / n  # of each generated sample, the share of held-out ones that are nearer
    under = 1.0 - (ranks[m:] - rankdata(e)) / m  # of each held-out one, the share of generated ones that are farther
    auc, error = float(over.mean()), float(np.sqrt(over.var(ddof=1) / m + under.var(ddof=1) / n))
    if min(m, n) < FEW or auc in (0.0, 1.0):
        error = max(error, float(np.sqrt((m + n + 1) / (12.0 * m * n))))
    return Nearer(auc, error)
