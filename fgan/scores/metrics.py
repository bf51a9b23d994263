"""Numbers that say how good a generator is, from its samples alone.

Four views: mixtures whose modes are known (`mode_scores`, the protocol of Lin, Khetan, Fanti, Oh 2018, "PacGAN",
section 4.1), those whose modes lie in subspaces (`subspace_scores`), noisy curves in the plane (`curve_scores`), and
feature spaces where only real samples are known (`precision_recall`). Shares lie in [0, 1], divergences are nats, and
each empirical divergence comes with its floor: what a perfect sampler of that size scores.

All of it is float64 NumPy on the host, outside every training step.
"""

from typing import NamedTuple

import jax
import numpy as np
import scipy
from numpy.typing import ArrayLike

from estimators.distributions.curves import Curve
from estimators.samples.arrays import as_samples

WIDTH_RADIUS = 5.0
"""Samples farther than this many sigma from their mode belong to no mode and do not enter its width."""

MINIMUM_FOR_WIDTH = 10
"""Fewer samples than this give no width ratio."""

CURVE_BINS = 20
"""Pieces of a curve, equally likely under its law, over which its coverage is counted."""
SLACK = 3.0
"""Standard deviations that a sample in a subspace may be farther from its mean than √rank of them."""

BLOCK = 512
"""Rows of a distance matrix held at once: 20 MB against 5000 points."""


class ModeScores(NamedTuple):
    """How samples spread over the K modes of a known mixture; see `mode_scores`."""

    captured: int
    high_quality: float
    kl: float
    kl_floor: float
    width_ratio: np.ndarray
    missing: tuple[int, ...]


class CurveScores(NamedTuple):
    """How samples follow a noisy curve; see `curve_scores`."""

    high_quality: float
    kl: float
    kl_floor: float
    width_ratio: float
    log_density: float


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


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: fakes that look real, and reals that the fakes could have been; see `precision_recall`."""

    precision: float
    recall: float


def mode_scores(samples: ArrayLike, centres: ArrayLike, sigma: float, *, radius: float = 3.0) -> ModeScores:
    """Mode capture of samples from an equal mixture of N(centre_k, sigma² I), each sample judged by its nearest mode.

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
        width_ratio: [K] root-mean-square distance from the centre of the samples within 5 sigma, over that of the
            true mode truncated alike: 1 is right, below 1 too narrow, above 1 too wide or off centre; NaN where
            fewer than 10 samples fell. Bias and spread both enter, so 1 needs both right.

    Raises:
        ValueError: not finite, not the same dimension, or sigma or radius not positive.
    """
    points, modes = _same_dimension(samples=samples, centres=centres)
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
        width_ratio=_width_ratio(distance, nearest, *modes.shape),
        missing=tuple(np.flatnonzero(counts == 0).tolist()),
    )


def _width_ratio(distance: np.ndarray, nearest: np.ndarray, n_modes: int, dim: int) -> np.ndarray:
    """[K] √(mean r² / E[r² | r <= 5]) over the samples of each mode, r = `distance` in sigma; NaN below 10 samples."""
    inside = distance <= WIDTH_RADIUS
    count = np.bincount(nearest[inside], minlength=n_modes)
    total = np.bincount(nearest[inside], weights=distance[inside] ** 2, minlength=n_modes)
    square = np.where(count >= MINIMUM_FOR_WIDTH, total / np.maximum(count, 1), np.nan)
    return np.sqrt(square / _truncated_mean_square(dim, WIDTH_RADIUS))


def curve_scores(samples: ArrayLike, curve: Curve, *, radius: float = 3.0) -> CurveScores:
    """Quality and coverage of samples from a noisy curve, each sample judged by the nearest point of the curve.

    Args:
        samples: [n, 2], n >= 1.
        curve: the law; its bends are wide on the scale of its sigma.
        radius: in units of sigma.

    Returns:
        high_quality: share within `radius` sigma of the curve. A perfect sampler reaches that of the noise across the
            curve, `perfect_high_quality(1, radius)`, less about 1e-4 for the bends and ends.
        kl, kl_floor: `histogram_kl` of the high-quality samples over `CURVE_BINS` pieces of the curve against uniform.
        width_ratio: as in `mode_scores`, across the curve; below 1 too narrow.
        log_density: mean of log p over the samples, nats; −H(p) for a perfect sampler. KL(samples‖p) is
            −H(samples) − log_density.

    Raises:
        ValueError: not finite, not in the plane, or radius not positive.
    """
    points, _ = _same_dimension(samples=samples, plane=np.zeros((1, 2)))
    if not 0 < radius < np.inf:
        raise ValueError(f"radius must be positive and finite, got {radius}")
    distance, place = curve.nearest(points)
    good = distance <= radius * curve.sigma
    counts = np.histogram(place[good], CURVE_BINS, (0.0, 1.0))[0]
    kl, floor = histogram_kl(counts, np.ones(CURVE_BINS))
    with jax.enable_x64(True):
        log_density = float(np.mean(curve.log_prob(points)))
    width = _width_ratio(distance / curve.sigma, np.zeros(len(points), int), 1, 1)
    return CurveScores(float(good.mean()), kl, floor, float(width[0]), log_density)


def _truncated_mean_square(dim: int, radius: float) -> float:
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


def subspace_scores(samples: ArrayLike, means: ArrayLike, bases: ArrayLike, sigma: float) -> SubspaceScores:
    """Mode capture of samples from an equal mixture of N(mean_k, sigma² B_kᵀB_k), each judged by its nearest mean.

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
    points, modes = _same_dimension(samples=samples, means=means)
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


def histogram_kl(counts: ArrayLike, reference: ArrayLike) -> tuple[float, float]:
    """(KL(counts/n ‖ reference), (K−1)/(2n)) in nats, n = Σ counts.

    The second number is the mean of the first, to O(1/n²), when the counts are drawn from the reference (2n KL tends
    to a chi-square variable with K−1 degrees of freedom): the score that no sampler of this size beats on average.

    Args:
        counts: [K] non-negative.
        reference: [K] non-negative with a positive sum, probabilities or counts; K−1 counts its positive cells.

    Returns:
        +inf as KL where the reference is 0 and a count is not; (nan, inf) when every count is 0.

    Raises:
        ValueError: different shapes, negative or non-finite entries, or a reference that sums to 0.
    """
    p, q = np.asarray(counts, np.float64), np.asarray(reference, np.float64)
    if p.ndim != 1 or p.shape != q.shape:
        raise ValueError(f"counts and reference must be vectors of one length, got {p.shape} and {q.shape}")
    if not (np.isfinite(p).all() and np.isfinite(q).all() and (p >= 0).all() and (q >= 0).all() and q.sum() > 0):
        raise ValueError("counts and reference must be finite and non-negative, and the reference must not be all zero")
    n = p.sum()
    if n == 0:
        return float("nan"), float("inf")
    # kl_div's p log(p/q) − p + q is non-negative cell by cell, so rounding cannot make the sum negative.
    return float(scipy.special.kl_div(p / n, q / q.sum()).sum()), float((np.count_nonzero(q) - 1) / (2 * n))


def precision_recall(features_real: ArrayLike, features_fake: ArrayLike, *, neighbours: int = 3) -> PrecisionRecall:
    """Improved precision and recall: shares of fakes inside the real manifold and of reals inside the fake one.

    A set's manifold is the union of balls around its points, each reaching to the point's `neighbours`-th nearest
    neighbour in the same set, itself excluded (Kynkäänniemi, Karras, Laine, Lehtinen, Aila 2019, equations 1 and 2).
    Exact, O((n + m)² k): some seconds at n = m = 5000, k = 64. Both shares depend on n and m: compare equal sizes.

    Args:
        features_real: [n, k], n > neighbours.
        features_fake: [m, k], m > neighbours.
        neighbours: >= 1; 3 in the paper.

    Raises:
        ValueError: not finite, not the same dimension, or too few points for `neighbours`.
    """
    real, fake = _same_dimension(features_real=features_real, features_fake=features_fake)
    if not 1 <= neighbours < min(len(real), len(fake)):
        raise ValueError(
            f"neighbours must be at least 1 and below both sample sizes, got {neighbours} for {len(real)}, {len(fake)}"
        )
    reach_real, reach_fake = _reach(real, neighbours), _reach(fake, neighbours)
    precise, recalled = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for rows in _blocks(len(fake)):
        distance = scipy.spatial.distance.cdist(fake[rows], real)
        precise[rows] = (distance <= reach_real).any(axis=1)
        recalled |= (distance <= reach_fake[rows, None]).any(axis=0)
    return PrecisionRecall(float(precise.mean()), float(recalled.mean()))


def _reach(points: np.ndarray, neighbours: int) -> np.ndarray:
    """[n] distance from each point to its `neighbours`-th nearest other point."""
    # Index 0 of every row is the point itself, at distance exactly 0 (which ‖a‖² + ‖b‖² − 2ab would not give).
    cdist = scipy.spatial.distance.cdist
    rows = (np.partition(cdist(points[block], points), neighbours)[:, neighbours] for block in _blocks(len(points)))
    return np.concatenate(list(rows))


def _blocks(n: int) -> list[slice]:
    """Slices of at most BLOCK rows that cover 0..n−1."""
    return [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]


def standard_error_of_share(p: float, n: int) -> float:
    """√(p (1 − p) / n): standard error of a share p seen in n independent samples."""
    if not (0 <= p <= 1 and n >= 1):
        raise ValueError(f"a share needs 0 <= p <= 1 and n >= 1, got p={p}, n={n}")
    return float(np.sqrt(p * (1 - p) / n))


def _same_dimension(**arrays: ArrayLike) -> tuple[np.ndarray, ...]:
    """The named arrays as finite float64 [n, d] with one d; ValueError names the pair that disagrees."""
    checked = {name: as_samples(array, name=name, minimum=1).values for name, array in arrays.items()}
    if len({values.shape[1] for values in checked.values()}) > 1:
        shapes = " and ".join(f"{name} {values.shape}" for name, values in checked.items())
        raise ValueError(f"{shapes} differ in dimension")
    return tuple(checked.values())
