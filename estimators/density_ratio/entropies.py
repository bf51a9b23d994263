"""Entropies and mutual information of discrete laws from counts, in nats.

The entropy of the shares themselves is too small by about (values − 1)/2n, more where many values are rare. Two
corrections, which fail on different sides for even laws and may fail on one for uneven ones:

    grassberger    log n − Σ_i (n_i/n) G(n_i),  G(n) = ψ(n) + ½(−1)ⁿ (ψ((n + 1)/2) − ψ(n/2))       (Grassberger 2003)
    chao_shen      −Σ_i C p_i log(C p_i) / (1 − (1 − C p_i)ⁿ),  C = 1 − f₁/n, f₁ values that occur once

(Chao, Shen 2003: each value weighed by its chance of being seen.)
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import digamma

from estimators.contract import Interval

HALF = 0.5  # rows that a value, bin or region counts for where a share of 0 will not do (Jeffreys' prior of shares)
SHUFFLES = 20  # of z: the error of their mean is a quarter of that of the value where x and z are independent


def grassberger(counts: np.ndarray) -> float:
    """The entropy behind positive `counts` [k], nearly without bias down to a few rows a value."""
    n = counts.sum()
    sign = np.where(counts % 2 == 0, 0.5, -0.5)
    g = digamma(counts) + sign * (digamma(0.5 * (counts + 1.0)) - digamma(0.5 * counts))
    return float(np.log(n) - counts @ g / n)


def chao_shen(counts: np.ndarray) -> float:
    """The entropy behind positive `counts` [k] with an allowance for values that were never seen."""
    n = counts.sum()
    covered = 1.0 - min((counts == 1).sum(), n - 1.0) / n
    p = covered * counts / n
    return float(-np.sum(p * np.log(p) / -np.expm1(n * np.log1p(-np.minimum(p, 1.0 - 1e-12)))))


def _tally(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Rows of each pair of labels that occurs."""
    return np.unique(x * (z.max() + 1) + z, return_counts=True)[1].astype(float)


def information(x: np.ndarray, z: np.ndarray, quantile: float, groups: np.ndarray | None = None) -> Interval:
    """I(X; Z) = H(X) + H(Z) − H(X, Z) from labels x, z [n], whole numbers from 0.

    The value has Grassberger's entropies. With many rare pairs it is too large, by most where x and z are independent:
    as much as between x and shuffled z. So the interval reaches down by that, and over both corrections, `quantile`
    standard errors beyond each end.
    """
    n, pair = len(x), np.unique(x * (z.max() + 1) + z, return_inverse=True)[1]
    sides = [np.bincount(labels).astype(float) for labels in (x, z, pair)]
    found = [entropy(sides[0]) + entropy(sides[1]) - entropy(sides[2]) for entropy in (grassberger, chao_shen)]
    rng, alone = np.random.default_rng(0), grassberger(sides[0]) + grassberger(sides[1])
    shuffled = [alone - grassberger(_tally(x, rng.permutation(z))) for _ in range(SHUFFLES)]
    log_ratio = np.log(n * sides[2][pair] / (sides[0][x] * sides[1][z]))
    sums = np.bincount(np.arange(n) if groups is None else groups, log_ratio - log_ratio.mean())
    error = math.sqrt(len(sums) / max(len(sums) - 1.0, 1.0) * float(sums @ sums)) / n
    second = (len(sides[0]) - 1.0) * (len(sides[1]) - 1.0) / (2.0 * n * n)  # its variance where x and z are independent
    error = math.sqrt(error**2 + second)
    least = min(*found, found[0] - max(float(np.mean(shuffled)), 0.0))
    margin = quantile * math.hypot(error, float(np.std(shuffled, ddof=1)))
    ends = least - margin, max(found) + quantile * error
    value, low, high = (max(v, 0.0) for v in (found[0], *ends))
    return Interval(value, low, high, error, diagnostics={"values": [len(s) for s in sides]})
