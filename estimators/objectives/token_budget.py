"""A budget of tokens spent over patches: the whole numbers closest to a relevance map under an f-divergence. Nats.

The problem. Given a map r_i ≥ 0, Σ r_i = 1, of N patches, a budget of K tokens and a cap c, find whole numbers
0 ≤ n_i ≤ c with Σ n_i = K that minimise D_f(r‖n/K) = Σ (n_i/K) f(K r_i/n_i).

The optimum. Each term is convex in n_i, being the perspective of f along a line, and their sum is all that couples the
patches. So the best K of all steps n_i → n_i + 1, each by what it lowers the sum, are an optimum (Fox 1966; the steps
of a patch come in falling order by convexity, so that none is taken before the one below it).

What the divergences do. Over real numbers every strictly convex f has the same optimum, min(c, μ r_i) with μ such that
the sum is K (`water_filled`): ∂D_f/∂n_i is a function of r_i/n_i alone, so that ratio is the same for all uncapped
patches. Forward and reverse KL differ in how they round it:
- kl, D(r‖n/K), is infinite where a relevant patch has nothing. While K is less than the relevant patches, it is so for
  every n; the best in the limit n_i/K ≥ ε → 0 has one token on each of the K most relevant patches: it spreads.
  Beyond that the next token goes where r_i log((n + 1)/n) is largest.
- reverse_kl, D(n/K‖r), may leave patches out: i has its second token before j its first if r_i > 4 r_j. It drops the
  tail, and concentrates.
With c = 1 both are the K most relevant patches.
"""

import math
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.divergences.table import divergence
from estimators.exact_values.quadrature import in_blocks
from estimators.objectives.relevance import check_map


def allocate(relevance: ArrayLike, tokens: int, d: str | FDivergence = "kl", *, cap: int | None = None) -> np.ndarray:
    """argmin_n D_f(relevance‖n/tokens) over whole numbers 0 ≤ n ≤ cap with sum `tokens`: [..., H, W], int.

    kl (forward) spreads, reverse_kl concentrates. Of equals the first in reading order. Where D_f is infinite
    whatever n is, the patches with the largest relevance are served first. Computed on the host, in float64.

    Args:
        cap: tokens a patch, at most; `tokens` if None.

    Raises:
        ValueError: not a map, or a budget that is no positive whole number or does not fit under the cap.

    >>> r = np.array([[0.7, 0.12], [0.1, 0.08]])
    >>> allocate(r, 4, "kl").tolist(), allocate(r, 4, "reverse_kl").tolist()
    ([[1, 1], [1, 1]], [[3, 1], [0, 0]])
    """
    maps, most = _checked(relevance, tokens, cap)
    steps = np.arange(most + 1)
    flat = maps.reshape(-1, maps.shape[-2] * maps.shape[-1])
    made = [_greedy(r, _terms(r, steps / tokens, divergence(d)), tokens) for r in flat]
    return np.array(made).reshape(maps.shape)


def _checked(relevance: ArrayLike, tokens: int, cap: int | None) -> tuple[np.ndarray, int]:
    """(the map in float64 [..., H, W], the most tokens of a patch)."""
    for name, value in (("tokens", tokens), ("cap", cap)):
        if value is not None and not isinstance(value, (int, np.integer)):
            raise ValueError(f"{name} = {value!r}: tokens are whole numbers; round it, or use water_filled for shares")
    maps = np.asarray(check_map("relevance", relevance), np.float64)
    maps = maps / maps.sum(axis=(-2, -1), keepdims=True)
    most, n = tokens if cap is None else min(cap, tokens), maps.shape[-2] * maps.shape[-1]
    if tokens < 1 or most < 1 or n * most < tokens:
        raise ValueError(
            f"tokens = {tokens}, cap = {cap}, {n} patches: give at least 1 and at most cap · patches tokens; raise the "
            "cap or lower the budget"
        )
    return maps, most


def _terms(r: np.ndarray, shares: np.ndarray, d: FDivergence) -> np.ndarray:
    """a f̃(r/a) of every patch at every share a of the tokens: [N, n], +inf where D_f is infinite."""
    with np.errstate(divide="ignore"):
        pairs = np.stack(np.broadcast_arrays(np.log(r)[:, None], np.log(shares)[None]), axis=-1)
    return in_blocks(_cost(d), pairs.reshape(-1, 2)).reshape(pairs.shape[:2])


@lru_cache(maxsize=64)
def _cost(d: FDivergence):
    """(log r, log a) [n, 2] → a f̃(r/a) [n], one program."""
    return jax.jit(lambda pairs: jnp.exp(log_perspective(d)(pairs[:, 0], pairs[:, 1])))


def _greedy(r: np.ndarray, terms: np.ndarray, tokens: int) -> np.ndarray:
    """How many of the best `tokens` steps each patch has, [N]."""
    with np.errstate(invalid="ignore"):
        cost = np.diff(terms, axis=1)
    cost = np.where(np.isnan(cost), np.inf, cost)  # from infinite to infinite: of no use
    served = np.where(np.isneginf(cost), -r[:, None], 0.0)  # from infinite to finite: the most relevant first
    order = np.lexsort((served.ravel(), cost.ravel()), axis=0)[:tokens]
    return np.bincount(order // cost.shape[1], minlength=len(r))


def water_filled(relevance: ArrayLike, tokens: float, cap: float = math.inf) -> np.ndarray:
    """min(cap, μ r) with sum `tokens`: the optimum over real numbers under every strictly convex f: [..., H, W].

    Where fewer than `tokens`/cap patches are relevant, the rest is spread evenly over the others.

    >>> water_filled(np.array([[0.7, 0.2, 0.1]]), 4, cap=2).round(2).tolist()
    [[2.0, 1.33, 0.67]]
    """
    maps = np.asarray(check_map("relevance", relevance), np.float64)
    n = maps.shape[-2] * maps.shape[-1]
    if not 0.0 < tokens <= n * cap:
        raise ValueError(f"tokens = {tokens}, cap = {cap}, {n} patches: give more than 0 and at most cap · patches")
    return np.array([_filled(r, tokens, cap) for r in maps.reshape(-1, n)]).reshape(maps.shape)


def _filled(r: np.ndarray, tokens: float, cap: float) -> np.ndarray:
    full = np.zeros(len(r), bool)
    while True:
        left = tokens - cap * full.sum() if full.any() else tokens
        rest = r[~full].sum()
        share = left * r / rest if rest > 0.0 else np.full(len(r), left / max((~full).sum(), 1))
        over = ~full & (share > cap)
        if not over.any():
            return np.where(full, cap, share)
        full |= over
