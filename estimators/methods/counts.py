"""Divergences between discrete laws from the shares of their values: for categories, codes, counts and rounded numbers.

With n_c of N rows of P and m_c of M rows of Q at the value c (a whole row, over all its columns), shares p = n/N and
q = m/M give D̂ = Σ_c q_c f(p_c/q_c), the divergence of the two samples themselves. The order of the values and their
distances mean nothing, as for codes.

Noise in the shares makes D̂ too large. Halves of both samples show by how much, Δ = mean D̂(half) − D̂, where the bias
falls as 1/N:

    value = D̂ − Δ,        interval from D̂ − 3 Δ to D̂ − 0.6 Δ,

beyond each end by the deviation of D̂ over samples drawn from p and q (the parametric bootstrap: Efron, Tibshirani 1993,
chapter 6) times the quantile. The bias falls as 1/√N where f has a kink between nearly equal laws, which sets the low
end, and faster than 1/N where most rare values have been seen, which sets the high one.

A value that one set never took may still be possible there. Where D_f is infinite if it is not (kl, for a value of P
without rows of Q), the interval is [low, ∞): no sample can rule that out. `low` is certified by merging all such values
into one, which lowers every divergence, and giving it the largest share that its absence allows (`unseen_share`).
"""

import math
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from estimators.contract import Fit, Interval, Request, Scores
from estimators.density_ratio.entropies import HALF
from estimators.density_ratio.plug_in import influence_of_means, standard_error
from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.methods.knn import tangent
from estimators.samples.arrays import FEWEST_GROUPS, DataError, row_hashes

METHODS = {"counts": "shares of the values themselves: for categories, codes and counts"}
BIAS = 3.0, 0.6
"""Most and least of the bias, in Δ. The true one was 0.63 to 2.66 Δ wherever there was any: Zipf's laws of 300 values,
200 values of two shares, equal laws, 600 to 20,000 rows; 2.41 Δ is that of a bias like 1/√N."""
DRAWS = 400  # of the bootstrap: the error of an error is 1/√800, 4 %
MOST, FEWEST_DRAWS = 4_000_000, 40  # numbers of all draws, 32 MB; and draws where there are very many values
FEWEST = 2.0  # rows a value: with fewer most values occur once, and shares say nothing
SPLITS = 16  # into halves; to first order the mean of two is D̂ itself, whatever the split


class Counts(NamedTuple):
    """The values that occur: rows of P [k] and of Q [k] at each."""

    n: np.ndarray
    m: np.ndarray


def estimate(request: Request) -> Fit:
    """D_f(P‖Q) for each divergence of `request`, from the shares of equal rows.

    Raises DataError: rows that hardly repeat.
    """
    keys = [row_hashes(rows) for rows in (request.x, request.y)]
    values, place = np.unique(np.concatenate(keys), return_inverse=True)
    if len(place) < FEWEST * len(values):
        raise DataError(f"{len(place)} rows have {len(values)} values: counts needs values that repeat, as codes do")
    if request.groups is not None and min(len(np.unique(g)) for g in request.groups) < FEWEST_GROUPS:
        raise DataError(f"an interval needs {FEWEST_GROUPS} groups a set; use more, smaller groups")
    at_p, at_q = np.split(place, [len(keys[0])])
    counts = Counts(*(np.bincount(at, minlength=len(values)).astype(float) for at in (at_p, at_q)))
    rng, order = np.random.default_rng(request.seed), np.lexsort(counts)  # other names of the values draw the same
    draws = max(min(DRAWS, MOST // len(values)), FEWEST_DRAWS)
    likely = [np.maximum(s[order], HALF) for s in counts]  # a share of 0 has an error too
    drawn = Counts(
        *(rng.multinomial(int(s.sum()), t / t.sum(), draws) * 1.0 for s, t in zip(counts, likely, strict=True))
    )
    halves = split(Counts(*(s[order] for s in counts)), rng)
    log_ratios = np.log(np.maximum(counts.n, HALF) / len(at_p)) - np.log(np.maximum(counts.m, HALF) / len(at_q))

    def log_ratio(points: np.ndarray) -> np.ndarray:
        hashes = row_hashes(np.ascontiguousarray(points, np.float64))
        at = np.minimum(np.searchsorted(values, hashes), len(values) - 1)
        return np.where(values[at] == hashes, log_ratios[at], math.log(len(at_q) / len(at_p)))

    def interval(d: FDivergence) -> Interval:
        filled = np.pad(log_ratios, (0, _filling(len(log_ratios))))
        slope, conjugate = (side[: len(log_ratios)] for side in tangent(d, filled))
        on_rows = influence_of_means(slope[at_p], -conjugate[at_q])
        wider = 1.0
        if request.groups is not None:
            alone = standard_error(on_rows, len(at_p))
            wider = standard_error(on_rows, len(at_p), request.groups) / alone if alone else 1.0
        return of_counts(d, counts, drawn, halves, request, max(wider, 1.0))

    scores = Scores(log_ratios[at_p], log_ratios[at_q])
    figures = {"values": len(values), "only_in_x": int((counts.m == 0).sum()), "only_in_y": int((counts.n == 0).sum())}
    return Fit(request.method, [interval(d) for d in request.divergences], log_ratio, scores, figures)


def split(counts: Counts, rng: np.random.Generator) -> Counts:
    """Counts of halves of both samples at random [2·SPLITS, k]."""

    def halves(side: np.ndarray) -> np.ndarray:
        whole = side.astype(np.int64)
        taken = rng.multivariate_hypergeometric(whole, int(whole.sum()) // 2, SPLITS, method="marginals")
        return np.concatenate([taken, whole - taken]).astype(float)

    return Counts(*map(halves, counts))


def of_counts(
    d: FDivergence, counts: Counts, drawn: Counts, halves: Counts, request: Request, wider: float = 1.0
) -> Interval:
    """The interval of D_f from counts [k], and those of bootstrap draws and of halves [any, k]. Rows in groups are
    worth 1/wider² of as many: error and bias grow."""
    least, most = d.value_at_one, d.upper_limit()
    plain, error = float(plugged_in(d, counts)), float(plugged_in(d, drawn).std(ddof=1)) * wider
    lost = max(float(plugged_in(d, halves).mean()) - plain, 0.0) * wider**2
    margin = request.quantile * error
    ends = plain - lost, plain - BIAS[0] * lost - margin, plain - BIAS[1] * lost + margin
    value, low, high = (min(max(v, least), most) for v in ends)
    found = Interval(value, low, high, error)
    missing = (counts.m == 0) & math.isinf(d.slope_at_infinity), (counts.n == 0) & math.isinf(d.value_at_zero)
    if not (missing[0].any() or missing[1].any()):
        return found
    low = min(certified(d, counts, missing, request) - BIAS[0] * lost - margin, found.value)
    words = [
        f"{int(at.sum())} values of {own}, {100.0 * side[at].sum() / side.sum():.2g} % of its rows, never occur in "
        f"{other}: if they cannot, {d.name} is infinite, so the interval has no upper end"
        for at, own, other, side in ((missing[0], "x", "y", counts.n), (missing[1], "y", "x", counts.m))
        if at.any()
    ]
    return found._replace(low=max(low, least), high=math.inf, warnings=tuple(words))


def plugged_in(d: FDivergence, counts: Counts) -> np.ndarray:
    """D_f of the shares [..., k] themselves; a value without rows counts for half of one where it would be infinite."""
    n, m = counts
    if math.isinf(d.slope_at_infinity):
        m = np.where((m == 0) & (n > 0), HALF, m)
    if math.isinf(d.value_at_zero):
        n = np.where((n == 0) & (m > 0), HALF, n)
    return of_shares(d, n / n.sum(axis=-1, keepdims=True), m / m.sum(axis=-1, keepdims=True))


def of_shares(d: FDivergence, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Σ q f(p/q) over the last axis, float64; inf where it is."""
    wider = [(0, 0)] * (p.ndim - 1) + [(0, _filling(p.shape[-1]))]
    with jax.enable_x64(True), np.errstate(divide="ignore"):
        return np.asarray(_sum(d)(*(np.log(np.pad(side, wider)) for side in (p, q))))


def _filling(k: int) -> int:
    """How many values to add to k, for few lengths and so few compilations."""
    return 2 ** max(k - 1, 31).bit_length() - k


@lru_cache(maxsize=64)
def _sum(d: FDivergence):
    log_cost = log_perspective(d)

    def total(log_p, log_q):
        nowhere = (log_p == -jnp.inf) & (log_q == -jnp.inf)
        return d.value_at_one + jnp.sum(jnp.where(nowhere, 0.0, jnp.exp(log_cost(log_p, log_q))), axis=-1)

    return jax.jit(total)


def certified(d: FDivergence, counts: Counts, missing: tuple[np.ndarray, np.ndarray], request: Request) -> float:
    """D_f where the values that one set lacks are one value, of the largest share there that their absence allows."""
    shares = [side / side.sum() for side in counts]
    for i in (0, 1):
        if missing[i].any():  # P has these values, Q (i = 0) lacks them; or the other way round
            lacking = 1 - i
            own, other = (np.append(shares[s][~missing[i]], shares[s][missing[i]].sum()) for s in (i, lacking))
            most = min(unseen_share(counts[lacking], request), own[-1])
            other = np.append(other[:-1] * (1.0 - most), most)
            shares[i], shares[lacking] = own, other
            missing = tuple(np.append(at[~missing[i]], False) for at in missing)  # type: ignore[assignment]
    return float(of_shares(d, *shares))


def unseen_share(side: np.ndarray, request: Request) -> float:
    """The largest share, at level `confidence`, of all values together that a sample with counts `side` never showed.

    Good–Turing: about f₁/m, f_r values with r rows among m, with the variance of Esty 1983; without any such value
    log(1/(1 − confidence))/m, as of one value.
    """
    once, twice = (float((side == r).sum()) for r in (1.0, 2.0))
    rows = once + request.quantile * math.sqrt(once + 2.0 * twice) - math.log1p(-request.confidence)
    return min(rows / float(side.sum()), 1.0)
