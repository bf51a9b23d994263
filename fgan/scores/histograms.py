"""KL between a histogram of samples and what it should be, and the floor that no sampler beats on average."""

import numpy as np
import scipy
from numpy.typing import ArrayLike


def histogram_kl(counts: ArrayLike, reference: ArrayLike) -> tuple[float, float]:
    """(KL(counts/n ‖ reference), (K−1)/(2n)) in nats, n = Σ counts.

    The second number is the mean of the first, to O(1/n²), when the counts are drawn from the reference: 2n KL tends
    to a chi-square variable with K−1 degrees of freedom.

    Args:
        counts: [K] non-negative.
        reference: [K] non-negative with a positive sum, probabilities or counts; K−1 counts its positive entries.

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
    # kl_div's p log(p/q) − p + q is non-negative entry by entry, so rounding cannot make the sum negative.
    return float(scipy.special.kl_div(p / n, q / q.sum()).sum()), float((np.count_nonzero(q) - 1) / (2 * n))
