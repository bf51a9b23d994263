"""Scores on mixtures whose modes lie in subspaces: distances within and off them, widths, and directions of width."""

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from fgan.scores.histograms import histogram_kl
from fgan.scores.modes import MINIMUM_FOR_WIDTH, perfect_high_quality
from fgan.scores.points import same_dimension

SLACK = 3.0
"""Standard deviations that a sample in a subspace may be farther from its mean than √rank of them."""


class SubspaceScores(NamedTuple):
    """How samples lie over K Gaussians in subspaces; see `subspace_scores`."""

    captured: int
    high_quality: float
    kl: float
    kl_floor: float
    inside: np.ndarray
    off: np.ndarray
    width_ratio: np.ndarray
    effective_rank: np.ndarray


def subspace_scores(samples: ArrayLike, means: ArrayLike, bases: ArrayLike, sigma: float) -> SubspaceScores:
    """Mode capture of samples from an equal mixture of N(mean_k, sigma² B_kᵀB_k), each scored by its nearest mean.

    With x − mean = a + b, a in the mode's subspace and b orthogonal to it, a sample is of high quality if
    ‖a‖ ≤ (√r + 3) sigma and ‖b‖ ≤ √(d − r) sigma; a mode with such a sample is captured. The limit on b is generous:
    noise of standard deviation sigma in all d dimensions meets it half the time, and the mean alone is of high
    quality, so widths and ranks belong to the score.

    Args:
        samples: [n, d], n >= 1.
        means: [K, d], far apart on the scale of sigma √r.
        bases: [K, r, d], orthonormal rows, r < d.
        sigma: standard deviation of every mode along every direction of its subspace, > 0.

    Returns:
        captured: captured modes, of K.
        high_quality: share of the n samples; `perfect_in_subspace(r)` of a perfect sampler's.
        kl, kl_floor: `histogram_kl` of the high-quality samples over the modes against uniform, nats.
        inside, off: [n] ‖a‖/sigma and ‖b‖/sigma.
        width_ratio: [K] root-mean-square of a about its own mean, over sigma √r, from the samples within twice both
            limits; 1 is right, 0 a point. NaN below 10 samples.
        effective_rank: [K] (tr C)²/tr C² of the covariance C of the same a, the number of equal directions it amounts
            to; about 1/(1/r + 1/n_k) for a perfect sampler. NaN below 10 samples or without any width.

    Raises:
        ValueError: not finite, not the same dimension, or sigma not positive.
    """
    points, modes = same_dimension(samples=samples, means=means)
    directions = np.asarray(bases, np.float64)
    (k, d), r = modes.shape, directions.shape[1] if directions.ndim == 3 else 0
    if directions.shape != (k, r, d) or not 0 < r < d:
        raise ValueError(f"bases {directions.shape}: must be [{k}, r, {d}] with 0 < r < {d}")
    if not 0 < sigma < np.inf:
        raise ValueError(f"sigma must be positive and finite, got {sigma}")
    nearest = scipy.spatial.cKDTree(modes).query(points)[1]
    inside, off, width, rank = np.empty(len(points)), np.empty(len(points)), np.empty(k), np.empty(k)
    for i, (mean, basis) in enumerate(zip(modes, directions, strict=True)):
        mine = nearest == i
        x = (points[mine] - mean) / sigma
        a = x @ basis.T
        inside[mine], off[mine] = np.linalg.norm(a, axis=1), np.linalg.norm(x - a @ basis, axis=1)
        near = (inside[mine] <= 2 * (np.sqrt(r) + SLACK)) & (off[mine] <= 2 * np.sqrt(d - r))
        width[i], rank[i] = _width_and_rank(a[near])
    good = (inside <= np.sqrt(r) + SLACK) & (off <= np.sqrt(d - r))
    counts = np.bincount(nearest[good], minlength=k)
    return SubspaceScores(
        int(np.count_nonzero(counts)), float(good.mean()), *histogram_kl(counts, np.ones(k)), inside, off, width, rank
    )


def _width_and_rank(a: np.ndarray) -> tuple[float, float]:
    """(√(tr C / r), (tr C)²/tr C²) of the covariance C of rows [n, r]; NaN below 10 of them."""
    n, r = a.shape
    if n < MINIMUM_FOR_WIDTH:
        return np.nan, np.nan
    a = a - a.mean(axis=0)
    gram = (a.T @ a if r < n else a @ a.T) / (n - 1)  # of equal traces
    trace, square = np.trace(gram), np.sum(gram**2)
    return float(np.sqrt(trace / r)), float(trace**2 / square) if square > 0 else np.nan


def perfect_in_subspace(r: int) -> float:
    """P(χ_r <= √r + 3): the high-quality share of a perfect sampler of Gaussians in subspaces of dimension r.

    >>> round(1 - perfect_in_subspace(700), 6)
    1.4e-05
    """
    return perfect_high_quality(r, np.sqrt(r) + SLACK)
