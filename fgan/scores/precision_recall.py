"""How two sets of samples compare: precision and recall, and the KL between their histograms."""

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from estimators.samples.arrays import as_samples


def same_dimension(**arrays: ArrayLike) -> tuple[np.ndarray, ...]:
    """The named arrays as finite float64 [n, d] with one d; ValueError names those that disagree."""
    samples = {name: as_samples(array, name=name, minimum=1) for name, array in arrays.items()}
    for side in samples.values():
        side.require_numbers("leave it out")
    checked = {name: side.values for name, side in samples.items()}
    if len({values.shape[1] for values in checked.values()}) > 1:
        shapes = " and ".join(f"{name} {values.shape}" for name, values in checked.items())
        raise ValueError(f"{shapes} differ in dimension")
    return tuple(checked.values())


def histogram_kl(counts: ArrayLike, reference: ArrayLike) -> tuple[float, float]:
    """(KL(counts/n ‖ reference), (K−1)/(2n)) in nats, n = Σ counts.

    The second number is the mean of the first, to O(1/n²), when the counts are drawn from the reference: 2n KL tends
    to a chi-square variable with K−1 degrees of freedom.

    The reference [K] holds probabilities or counts; K−1 counts its positive entries. The KL is +inf where the reference
    is 0 and a count is not; every count 0 gives (nan, inf).

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
    # kl_div's p log(p/q) − p + q is non-negative entry by entry, so rounding cannot make the sum negative.
    return float(scipy.special.kl_div(p / n, q / q.sum()).sum()), float((np.count_nonzero(q) - 1) / (2 * n))


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

    Raises:
        ValueError: not finite, not [n, k] and [m, k], or n or m not above `neighbours` (3 in the paper).
    """
    real, fake = same_dimension(features_real=features_real, features_fake=features_fake)
    if not 1 <= neighbours < min(len(real), len(fake)):
        raise ValueError(
            f"neighbours must be at least 1 and below both sample sizes, got {neighbours} for {len(real)}, {len(fake)}"
        )
    radius_real, radius_fake = radii(real, neighbours), radii(fake, neighbours)
    precise, recalled = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for rows in blocks(len(fake)):
        distance = cdist(fake[rows], real)
        precise[rows] = (distance <= radius_real).any(axis=1)
        recalled |= (distance <= radius_fake[rows, None]).any(axis=0)
    return PrecisionRecall(float(precise.mean()), float(recalled.mean()))


def radii(points: np.ndarray, neighbours: int) -> np.ndarray:
    """[n] distance from each point to its `neighbours`-th nearest other point."""
    # Index 0 of every row is the point itself, at distance exactly 0 (which ‖a‖² + ‖b‖² − 2ab would not give).
    rows = (np.partition(cdist(points[block], points), neighbours)[:, neighbours] for block in blocks(len(points)))
    return np.concatenate(list(rows))


def blocks(n: int) -> list[slice]:
    """Slices of at most BLOCK rows that cover 0..n−1."""
    return [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]
