"""Rows in the order of time: whether neighbours depend on each other, and blocks that hardly do.

Rows of a stationary series carry as much as n/τ independent ones, τ = 1 + 2 Σ_k ρ_k with ρ_k the autocorrelation at lag
k. It is that of ranks here, which no monotone change of a column alters, and the sum stops at the first lag beyond 5 τ
(Sokal 1997, Monte Carlo methods in statistical mechanics, section 3).
"""

import math

import numpy as np
from scipy.special import ndtri

from estimators.samples.arrays import FEWEST_GROUPS

WINDOW = 5.0  # in τ; Sokal's choice for correlations that fall exponentially
FALSE_ALARM = 1e-4  # share of samples of independent rows that are called dependent
LENGTH = 2.0  # of a block, in τ: neighbouring blocks of AR(1) rows then share a tenth of their variance


def correlation_time(values: np.ndarray) -> float:
    """τ of the column of values [n, d] in which neighbours depend most, in rows; 1 where none shows any dependence."""
    n, d = values.shape
    if n < 2 * FEWEST_GROUPS or not d:
        return 1.0
    limit = float(ndtri(1.0 - 0.5 * FALSE_ALARM / d)) / math.sqrt(n)
    return max((_time(column, limit) for column in values.T), default=1.0)


def midranks(column: np.ndarray) -> np.ndarray:
    """The rank of each number of a column, from 1; equal numbers share their mean rank.

    As `scipy.stats.rankdata`, whose import takes a second.
    """
    _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - 0.5 * (counts - 1.0))[inverse]


def _time(column: np.ndarray, limit: float) -> float:
    n = len(column)
    ranks = midranks(column) - 0.5 * (n + 1)
    if not ranks.any() or not float(ranks[1:] @ ranks[:-1]) > limit * float(ranks @ ranks):
        return 1.0
    spectrum = np.abs(np.fft.rfft(ranks, 2 * n)) ** 2
    correlations = np.fft.irfft(spectrum)[:n]
    times = 2.0 * np.cumsum(correlations / correlations[0]) - 1.0
    settled = np.flatnonzero(np.arange(n) >= WINDOW * times)
    return float(max(times[settled[0]], 1.0)) if len(settled) else 0.5 * n


def block_length(*sets: np.ndarray) -> int:
    """`LENGTH` correlation times of the sets, the larger, in rows; at most what leaves each `FEWEST_GROUPS` blocks."""
    wanted = math.ceil(LENGTH * max(map(correlation_time, sets)))
    return max(min(wanted, min(map(len, sets)) // FEWEST_GROUPS), 1)


def time_blocks(n: int, length: int) -> np.ndarray:
    """The number of each row's block [n], stretches of `length` rows; the last may be longer."""
    return np.minimum(np.arange(n) // length, max(n // length - 1, 0))


def caution(values: np.ndarray, name: str) -> str:
    """A warning where neighbouring rows depend on each other; "" where they do not."""
    time = correlation_time(values)
    if time == 1.0:
        return ""
    return (
        f"{name}: neighbouring rows resemble each other, so that {len(values)} rows may carry as much as "
        f"{len(values) / time:.0f} independent ones, and more looks certain than is; if they are a series, ask with "
        "dependence='time' (--dependence time) or give groups; if they were only sorted, shuffle them"
    )


def too_short(values: np.ndarray, length: int, name: str) -> str:
    """A warning where blocks of `length` rows are shorter than they should be; "" where they are not."""
    time = correlation_time(values)
    if LENGTH * time <= length + 1.0:
        return ""
    return (
        f"{name}: a series of {len(values)} rows that depend on each other over some {time:.0f} is too short for "
        f"blocks that do not; with those of {length} rows, {FEWEST_GROUPS} or more, more looks certain than is"
    )
