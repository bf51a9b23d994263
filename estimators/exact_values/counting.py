"""Divergences on the integers by summation, to a bounded tail."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from estimators.exact_values.log_ratio_law import NotThisWay
from estimators.exact_values.quadrature import in_blocks

LogMass = Callable[[jax.Array], jax.Array]  # x [n] → log probabilities [n], float64

FIRST = 2**12  # integers summed at first; later blocks double the range
MOST = 2**22  # integers summed at most, in seconds: a Poisson rate of a million has its mass within 2²⁰
ENDLESS = 2000.0  # log of a term of an infinite range from which on the sum counts as infinite
MASS = 1e-8  # of either distribution that may be missing: the rounding of log Γ of a million, and below
TAIL = math.log(1e-14)  # of the share of the sum that may be missing, by the ratio of its last terms
LAST = 64  # terms from which that ratio is taken


def log_summed(log_p: LogMass, log_q: LogMass, log_term: Callable[..., jax.Array], low: int, high: float) -> float:
    """log Σ e^{log_term(log p, log q)} over the integers from `low` to `high`, which may be ∞; ∞ where it diverges.

    An infinite range is cut where both distributions have all their mass behind and the last terms fall geometrically:
    what is cut off is at most last · r/(1 − r), r the largest ratio of neighbours among the last terms.

    Raises:
        NotThisWay: the range is too wide, or the probabilities do not add up to 1.
    """

    def columns(x: jax.Array) -> jax.Array:
        logs = log_p(x), log_q(x)
        return jnp.stack([log_term(*logs), *logs], axis=-1)

    totals, start, size, settled, whole = np.full(3, -np.inf), low, FIRST, False, False
    while not settled and start - low < MOST:
        end = int(min(start + size, high + 1.0))
        block = in_blocks(columns, np.arange(start, end, dtype=np.float64))
        totals = np.logaddexp(totals, logsumexp(block, axis=0))
        if totals[0] == math.inf or (math.isinf(high) and block[:, 0].max() > ENDLESS):
            return math.inf
        whole = bool(np.all(totals[1:] > -MASS))
        settled = end > high or (whole and _log_tail(block[-LAST:, 0]) <= TAIL + max(float(totals[0]), -30.0))
        start, size = end, 2 * size
    if not settled:
        if whole and block[-1, 0] >= block[-LAST, 0] and block[-1, 0] > -700.0:  # the terms do not fall
            return math.inf
        raise NotThisWay(f"the sum does not settle within {MOST:,} integers")
    for name, mass in zip("PQ", np.exp(totals[1:])):
        if not abs(mass - 1.0) <= MASS:
            raise NotThisWay(f"the probabilities of {name} add up to {mass:.9g} from {low} to {high:g}, not to 1")
    return float(totals[0])


def _log_tail(last: np.ndarray) -> float:
    """log of what the terms after these sum to at most, if their ratios do not grow."""
    if np.isneginf(last[-1]):
        return -math.inf
    if not np.all(np.isfinite(last)):
        return math.inf
    log_ratio = float(np.diff(last).max())
    return float(last[-1]) + log_ratio - math.log(-math.expm1(log_ratio)) if log_ratio < 0.0 else math.inf
