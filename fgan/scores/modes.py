"""Scores on mixtures whose modes are known: how many are captured, by how many samples, how evenly, and how wide.

Source: the protocol of Lin, Khetan, Fanti, Oh 2018 (PacGAN), section 4.1; the widths are ours.
"""

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from fgan.scores.histograms import histogram_kl
from fgan.scores.points import same_dimension

WIDTH_RADIUS = 5.0
"""Samples farther than this many sigma from their mode belong to no mode and do not enter its width."""

MINIMUM_FOR_WIDTH = 10
"""Fewer samples than this give no width ratio."""


class ModeScores(NamedTuple):
    """How samples spread over the K modes of a known mixture; see `mode_scores`."""

    captured: int
    high_quality: float
    kl: float
    kl_floor: float
    width_ratio: np.ndarray
    missing: tuple[int, ...]


def mode_scores(samples: ArrayLike, centres: ArrayLike, sigma: float, *, radius: float = 3.0) -> ModeScores:
    """Mode capture of samples from an equal mixture of N(centre_k, sigma² I), each sample scored by its nearest mode.

    A sample is of high quality within `radius` sigma (Euclidean) of its mode; a mode with such a sample is captured.

    Args:
        samples: [n, d], n >= 1.
        centres: [K, d], far apart on the scale of sigma.
        sigma: standard deviation of every mode along every axis, > 0.
        radius: in units of sigma. A perfect sampler reaches `perfect_high_quality(d, radius)`, not 1: a higher
            share means modes that are too narrow, not a better generator.

    Returns:
        captured: captured modes, of K; missing: indices of the others.
        high_quality: share of the n samples.
        kl, kl_floor: `histogram_kl` of the high-quality samples over the modes against uniform, log K − H, nats.
        width_ratio: [K] `width_ratio`, NaN where fewer than 10 samples fell.

    Raises:
        ValueError: not finite, not the same dimension, or sigma or radius not positive.
    """
    points, modes = same_dimension(samples=samples, centres=centres)
    if not (0 < sigma < np.inf and 0 < radius < np.inf):
        raise ValueError(f"sigma and radius must be positive and finite, got sigma={sigma}, radius={radius}")
    distance, nearest = scipy.spatial.cKDTree(modes).query(points)
    distance = distance / sigma
    good = distance <= radius
    counts = np.bincount(nearest[good], minlength=len(modes))
    kl, floor = histogram_kl(counts, np.ones(len(modes)))
    return ModeScores(
        captured=int(np.count_nonzero(counts)),
        high_quality=float(good.mean()),
        kl=kl,
        kl_floor=floor,
        width_ratio=width_ratio(distance, nearest, *modes.shape),
        missing=tuple(np.flatnonzero(counts == 0).tolist()),
    )


def width_ratio(distance: np.ndarray, nearest: np.ndarray, n_modes: int, dim: int) -> np.ndarray:
    """[K] √(mean r² / E[r² | r <= 5]) over the samples of each mode, r = `distance` in sigma; NaN below 10 samples.

    1 is right, below 1 too narrow, above 1 too wide or off centre: bias and variance both enter.
    """
    inside = distance <= WIDTH_RADIUS
    count = np.bincount(nearest[inside], minlength=n_modes)
    total = np.bincount(nearest[inside], weights=distance[inside] ** 2, minlength=n_modes)
    square = np.where(count >= MINIMUM_FOR_WIDTH, total / np.maximum(count, 1), np.nan)
    return np.sqrt(square / truncated_mean_square(dim, WIDTH_RADIUS))


def truncated_mean_square(dim: int, radius: float) -> float:
    """E[r² | r <= radius] of the chi distribution, d F_{d+2}(radius²) / F_d(radius²) with F the chi-square CDF."""
    # Kummer's form of that ratio: both CDFs underflow to 0/0 where the dimension is large against radius².
    half, x = dim / 2, radius**2 / 2
    return float(dim * x / (half + 1) * scipy.special.hyp1f1(1, half + 2, x) / scipy.special.hyp1f1(1, half + 1, x))


def perfect_high_quality(d: int, radius: float = 3.0) -> float:
    """P(r <= radius) of the chi distribution with d degrees of freedom: the high-quality share of a perfect sampler.

    >>> round(perfect_high_quality(2), 4)
    0.9889
    """
    return float(scipy.special.gammainc(d / 2, radius**2 / 2))


def mean_or_none(values: np.ndarray) -> float | None:
    """The mean of the finite `values`; None if there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None
