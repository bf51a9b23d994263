"""Every warning of an estimate: each function returns its text, or "" where its condition does not hold."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from estimators.divergences.generator import FDivergence

HEAVY = 0.1
"""Share of a value that may rest on ratios beyond what the samples support before a warning says so."""
MANY_DIMENSIONS = 8
"""Dimensions beyond which the curvature of the densities biases nearest-neighbour ratios by a tenth and more."""
UNLIKELY = 1e-3
"""p-value of Mardia's test below which a sample set is called not Gaussian."""
LOST = 1e-6
"""Gap between neighbouring float64 numbers, in standard deviations of a column, from which digits count as lost."""


def report(*texts: str) -> tuple[str, ...]:
    """The warnings that apply."""
    return tuple(filter(None, texts))


# --- samples ---------------------------------------------------------------------------------------------------------


def lost_digits(x: np.ndarray, y: np.ndarray) -> str:
    """Of the first column whose values lie so far from 0 that float64 rounds off digits of their deviations."""
    pooled = np.concatenate([x, y])
    deviation, gap = pooled.std(axis=0), np.spacing(np.abs(pooled).max(axis=0))
    lost = np.flatnonzero((deviation > 0.0) & (gap > LOST * deviation))
    remedy = "lies so far from 0 that float64 rounds its spread to few digits; subtract an offset from both sets"
    return f"column {lost[0]} (counting from 0) {remedy}" if len(lost) else ""


def flat(rank: int, dim: int) -> str:
    return f"the two sets fill {rank} of {dim} dimensions; the divergence is taken there" if rank < dim else ""


def coinciding(rows: int) -> str:
    if not rows:
        return ""
    return (
        f"{rows} rows coincide with others: at distance 0 the next neighbour that lies apart was used, which "
        "suits continuous data with a few repeated rows, not discrete data"
    )


# --- held-out log-ratios ---------------------------------------------------------------------------------------------


def separable(log_p: np.ndarray, log_q: np.ndarray) -> str:
    """Of held-out log-ratios [n], [m] of which every one of P exceeds every one of Q."""
    text = "separable: the critic tells every held-out sample of P from every one of Q, so high is unlimited"
    return text if log_p.min() > log_q.max() else ""


def few_weights(side: str, effective: float, n: int) -> str:
    """Of weights on the n samples of `side`, Q (ratios p/q) or P (q/p), with an effective sample size below 1 %."""
    if effective >= max(0.01 * n, min(20.0, 0.5 * n)):
        return ""
    ratio = "p/q (kl, pearson, jeffreys)" if side == "Q" else "q/p (reverse_kl, neyman, jeffreys)"
    return (
        f"the ratio weights on {side} have an effective sample size of {effective:.0f} of {n}: divergences that "
        f"grow with {ratio} rest on few samples"
    )


def through_gaussians() -> str:
    return "telescoping: where the sets do not overlap the value rests on Gaussian references and their critics"


# --- values ----------------------------------------------------------------------------------------------------------


def negative(value: float, d: FDivergence) -> str:
    text = "negative: as chance allows when the divergence is small; the interval holds 0"
    return text if value < 0.0 <= d.value_at_one else ""


def saturated(value: float, d: FDivergence, n: int) -> str:
    """Of a value above log n, the most that n samples can certify of an unbounded divergence."""
    if math.isfinite(d.upper_limit()) or value <= math.log(n):
        return ""
    return f"saturated: above log n = {math.log(n):.2f}, more than {n} samples can certify"


def infinite_error(error: float) -> str:
    return "" if math.isfinite(error) else "heavy tails: the standard error is not finite"


def unsupported(value: float, rows: int, part: float) -> str:
    """Of a `part` of the value that rests on how far the ratios of `rows` samples exceed the number of samples."""
    if part <= HEAVY * abs(value):
        return ""
    share = f"{min(100.0 * part / value, 100.0):.0f} % of the value" if value > 0.0 else "much of the value"
    return (
        f"heavy tails: {share} rests on how far the ratios of {rows} rows lie beyond the number of samples, where no "
        "sample checks the critic; the interval allows for that part"
    )


# --- nearest neighbours ----------------------------------------------------------------------------------------------


def many_dimensions(rank: int) -> str:
    if rank <= MANY_DIMENSIONS:
        return ""
    return (
        f"{rank} dimensions: nearest neighbours lie far apart and the value is biased, mostly downwards (in 20 "
        "dimensions by a tenth to a half); the interval need not cover that bias, use method='neural'"
    )


# --- Gaussian fits ---------------------------------------------------------------------------------------------------


def assumes_gaussian() -> str:
    return "assumes that both sets are Gaussian: the value is that of the fitted Gaussians, not a lower bound"


def not_gaussian(p_values: Mapping[str, float]) -> str:
    """Of p-values of Mardia's kurtosis test by name."""
    bad = " and ".join(f"{name} = {p:.2g}" for name, p in p_values.items() if p < UNLIKELY)
    return f"not Gaussian: Mardia's kurtosis test has p-values {bad}; use another method" if bad else ""


def edge_of_divergence(whole: float, all_finite: bool) -> str:
    """Of an infinite divergence between the whole sets' fits, or between fits with some rows left out."""
    if not math.isfinite(whole):
        return "infinite between the fitted Gaussians, one too wide for the other; low is only the trivial bound"
    if not all_finite:
        return "infinite without some rows: the fitted Gaussians are at the edge where the divergence diverges"
    return ""


def missed_tails(d: FDivergence, drawn: bool) -> str:
    """Of an unbounded divergence that was averaged over draws."""
    text = "no closed form and no upper limit: an average over draws may miss tails, even infinite ones"
    return text if drawn and math.isinf(d.upper_limit()) else ""
