"""Precision and recall of generated samples in a space where only real samples are known.

Source: Kynkäänniemi, Karras, Laine, Lehtinen, Aila 2019, equations 1 and 2.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from fgan.scores.points import same_dimension

BLOCK = 512
"""Rows of a distance matrix held at once: 20 MB against 5000 points."""


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: fakes that look real, and reals that the fakes could have been; see `precision_recall`."""

    precision: float
    recall: float


def precision_recall(features_real: ArrayLike, features_fake: ArrayLike, *, neighbours: int = 3) -> PrecisionRecall:
    """Improved precision and recall: shares of fakes inside the real manifold and of reals inside the fake one.

    A set's manifold is the union of balls around its points, each reaching to the point's `neighbours`-th nearest
    neighbour in the same set, itself excluded. Exact, O((n + m)² k): some seconds at n = m = 5000, k = 64. Both shares
    depend on n and m: compare equal sizes.

    Args:
        features_real: [n, k], n > neighbours.
        features_fake: [m, k], m > neighbours.
        neighbours: >= 1; 3 in the paper.

    Raises:
        ValueError: not finite, not the same dimension, or too few points for `neighbours`.
    """
    real, fake = same_dimension(features_real=features_real, features_fake=features_fake)
    if not 1 <= neighbours < min(len(real), len(fake)):
        raise ValueError(
            f"neighbours must be at least 1 and below both sample sizes, got {neighbours} for {len(real)}, {len(fake)}"
        )
    radius_real, radius_fake = _radii(real, neighbours), _radii(fake, neighbours)
    precise, recalled = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for rows in _blocks(len(fake)):
        distance = cdist(fake[rows], real)
        precise[rows] = (distance <= radius_real).any(axis=1)
        recalled |= (distance <= radius_fake[rows, None]).any(axis=0)
    return PrecisionRecall(float(precise.mean()), float(recalled.mean()))


def _radii(points: np.ndarray, neighbours: int) -> np.ndarray:
    """[n] distance from each point to its `neighbours`-th nearest other point."""
    # Index 0 of every row is the point itself, at distance exactly 0 (which ‖a‖² + ‖b‖² − 2ab would not give).
    rows = (np.partition(cdist(points[block], points), neighbours)[:, neighbours] for block in _blocks(len(points)))
    return np.concatenate(list(rows))


def _blocks(n: int) -> list[slice]:
    """Slices of at most BLOCK rows that cover 0..n−1."""
    return [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]
