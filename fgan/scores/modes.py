"""Scores on mixtures whose modes are known: how many are captured, by how many samples, how evenly, and how wide.

Source: the protocol of Lin, Khetan, Fanti, Oh 2018 (PacGAN), section 4.1; the widths are ours.
"""

from typing import NamedTuple

import jax
import numpy as np
import scipy
from numpy.typing import ArrayLike

from estimators.distributions.curves import Curve
from fgan.scores.precision_recall import histogram_kl, same_dimension

WIDTH_RADIUS = 5.0
"""Samples farther than this many sigma from their mode belong to no mode and do not enter its width."""
MINIMUM_FOR_WIDTH = 10
"""Fewer samples than this give no width ratio."""


class ModeScores(NamedTuple):
    """How samples spread over the K modes of a known mixture; see `mode_scores`."""

    captured: int  # modes, of K
    high_quality: float  # share of the n samples
    kl: float  # `histogram_kl` of the high-quality samples over the modes against uniform, log K − H, nats
    kl_floor: float
    width_ratio: np.ndarray  # [K], NaN where fewer than 10 samples fell
    missing: tuple[int, ...]  # indices of the modes that are not captured


def mode_scores(samples: ArrayLike, centres: ArrayLike, sigma: float, *, radius: float = 3.0) -> ModeScores:
    """Mode capture of samples from an equal mixture of N(centre_k, sigma² I), each sample scored by its nearest mode.

    A sample is of high quality within `radius` sigma (Euclidean) of its mode; a mode with such a sample is captured.

    A perfect sampler reaches `perfect_high_quality(d, radius)`, not 1: a higher share means modes that are too narrow,
    not a better generator. The centres [K, d] are far apart on the scale of sigma.

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

    Returns:
        high_quality: as `mode_scores`, `perfect_in_subspace(r)` of a perfect sampler's.
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


CURVE_BINS = 20
"""Pieces of a curve, equally likely under its law, over which its coverage is counted."""


class CurveScores(NamedTuple):
    """How samples follow a noisy curve; see `curve_scores`."""

    high_quality: float  # share within `radius` sigma of the curve
    kl: float  # `histogram_kl` of the high-quality samples over `CURVE_BINS` pieces of the curve against uniform
    kl_floor: float
    width_ratio: float  # as in `mode_scores`, across the curve; below 1 too narrow
    log_density: float  # mean of log p over the samples, nats; −H(p) for a perfect sampler


def curve_scores(samples: ArrayLike, curve: Curve, *, radius: float = 3.0) -> CurveScores:
    """Quality and coverage of samples from a noisy curve, each sample scored by the nearest point of the curve.

    The bends of the curve are wide on the scale of its sigma; `radius` is in units of it.

    A perfect sampler's high-quality share is that of the noise across the curve, `perfect_high_quality(1, radius)`,
    less about 1e-4 for the bends and ends. KL(samples‖p) is −H(samples) − log_density.

    Raises:
        ValueError: not finite, not in the plane, or radius not positive.
    """
    points, _ = same_dimension(samples=samples, plane=np.zeros((1, 2)))
    if not 0 < radius < np.inf:
        raise ValueError(f"radius must be positive and finite, got {radius}")
    distance, position = curve.nearest(points)
    good = distance <= radius * curve.sigma
    counts = np.histogram(position[good], CURVE_BINS, (0.0, 1.0))[0]
    kl, floor = histogram_kl(counts, np.ones(CURVE_BINS))
    with jax.enable_x64(True):
        log_density = float(np.mean(curve.log_prob(points)))
    width = width_ratio(distance / curve.sigma, np.zeros(len(points), int), 1, 1)
    return CurveScores(float(good.mean()), kl, floor, float(width[0]), log_density)
