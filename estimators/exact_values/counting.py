"""Divergences on the integers by summation, to a bounded tail."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.exact_values.log_ratio_law import NotThisWay
from estimators.exact_values.quadrature import in_blocks

LogMass = Callable[[jax.Array], jax.typing.ArrayLike]  # x [n] → log probabilities [n]

FIRST = 2**12  # integers summed at first; later blocks double the range
MOST = 2**22  # integers summed at most, in seconds: a Poisson rate of a million has its mass within 2²⁰
ENDLESS = 1e30  # a term beyond which the sum counts as infinite: it holds the share of a probability of 1
MASS = 1e-9  # of either distribution that may be missing when the sum may end
TAIL = 1e-14  # of the sum that may be missing, by the ratio of its last terms
LAST = 64  # terms from which that ratio is taken


def summed(log_p: LogMass, log_q: LogMass, d: FDivergence, low: int, high: float) -> float:
    """Σ q f(p/q) over the integers from `low` to `high`, which may be ∞; inf where the sum diverges.

    Terms are those of `perspective`, none negative. An infinite range is cut where both distributions have all their
    mass behind and the last terms fall geometrically: what is cut off is at most last · r/(1 − r), r the largest ratio
    of neighbours among the last terms.

    Raises:
        NotThisWay: the range is too wide, or nothing is left of the mass within it.
    """
    cost = log_perspective(d)

    def terms(x: jax.Array) -> jax.Array:
        logs = [jnp.asarray(side(x), jnp.float64) for side in (log_p, log_q)]
        return jnp.stack([jnp.exp(cost(*logs)), *(jnp.exp(each) for each in logs)], axis=-1)

    total, start, size, settled = np.zeros(3), low, FIRST, False
    while not settled and start - low < MOST:
        end = int(min(start + size, high + 1.0))
        block = in_blocks(terms, np.arange(start, end, dtype=np.float64))
        with np.errstate(over="ignore"):
            total += block.sum(axis=0)
        if not math.isfinite(total[0]) or block[:, 0].max() > ENDLESS:
            return math.inf
        whole = bool(np.all(total[1:] > 1.0 - MASS))
        settled = end > high or (whole and _tail(block[-LAST:, 0]) <= TAIL * (1.0 + total[0]))
        start, size = end, 2 * size
    if not settled:
        if whole and block[-1, 0] >= block[-LAST, 0]:  # the terms do not fall
            return math.inf
        raise NotThisWay(f"the sum does not settle within {MOST:,} integers")
    for name, mass in zip("PQ", total[1:]):
        if abs(mass - 1.0) > 1e-6:
            raise NotThisWay(f"the probabilities of {name} add up to {mass:.6g} from {low} to {high:g}, not to 1")
    return d.value_at_one + float(total[0])


def _tail(last: np.ndarray) -> float:
    """What the terms after these sum to at most, if their ratios do not grow."""
    if not last.any():
        return 0.0
    if not np.all(last[:-1] > 0.0):
        return math.inf if last[-1] > 0.0 else 0.0
    ratio = float((last[1:] / last[:-1]).max())
    return float(last[-1]) * ratio / (1.0 - ratio) if ratio < 1.0 else math.inf
