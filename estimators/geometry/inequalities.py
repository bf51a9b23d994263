"""Inequalities between divergences: what the value of one says about another, for every pair of distributions.

Each is a function of the known divergence, elementwise on arrays of any shape, in the precision of the input, and
written so that float32 keeps its digits for small divergences too. `INEQUALITIES` lists them by name with what they
bound. The divergences are normalised as in `DIVERGENCES`: TV = ½∫|p − q| ≤ 1, H² = ∫(√p − √q)² ≤ 2, nats. Arguments
are not checked: outside the range of their divergence the bounds mean nothing. At 0 the bounds that are square roots
have no derivative.

`joint_range` gives the best possible bound between any two divergences; these are its closed forms, and simple
relaxations of them. `reverse_pinsker` needs a bound on p/q, without which TV bounds no unbounded divergence from above.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy
from jax.typing import ArrayLike

from estimators.divergences.generator import FDivergence, as_float
from estimators.divergences.table import divergence
from estimators.geometry.categorical import costs


def pinsker(kl: ArrayLike) -> jax.Array:
    """TV ≤ √(KL/2). Source: Pinsker 1960; with this constant Csiszár 1967, Kullback 1967, Kemperman 1969.

    >>> float(pinsker(0.02))
    0.10000000149011612
    """
    return jnp.sqrt(0.5 * as_float(kl))


def bretagnolle_huber(kl: ArrayLike) -> jax.Array:
    """TV ≤ √(1 − e^{−KL}), which stays below 1 where Pinsker's does not. Source: Bretagnolle & Huber 1979, lemma 2.1.

    >>> round(float(bretagnolle_huber(3.0)), 6)
    0.974789
    """
    return jnp.sqrt(-jnp.expm1(-as_float(kl)))


def gilardoni(total_variation: ArrayLike) -> jax.Array:
    """KL ≥ −log(1 − TV) − (1 − TV) log(1 + TV), infinite at TV = 1. Source: Gilardoni 2010.

    Up to TV = 0.57 it is a little below 2 TV², Pinsker's inequality turned round; beyond, it grows without bound.

    >>> round(float(gilardoni(0.5)), 4), round(float(gilardoni(0.9)), 4)
    (0.4904, 2.2384)
    """
    t = as_float(total_variation)
    return -jnp.log1p(-t * t) + t * jnp.log1p(t)  # the terms as printed are of order TV and cancel


def hellinger_below_total_variation(squared_hellinger: ArrayLike) -> jax.Array:
    """TV ≥ H²/2. Source: Le Cam 1973; Tsybakov 2009, lemma 2.3.

    >>> float(hellinger_below_total_variation(1.0))
    0.5
    """
    return 0.5 * as_float(squared_hellinger)


def hellinger_above_total_variation(squared_hellinger: ArrayLike) -> jax.Array:
    """TV ≤ H √(1 − H²/4). Source: Le Cam 1973; Tsybakov 2009, lemma 2.3.

    >>> round(float(hellinger_above_total_variation(1.0)), 6)
    0.866025
    """
    h2 = as_float(squared_hellinger)
    return jnp.sqrt(h2 * (1.0 - 0.25 * h2))


def hellinger_below_kl(squared_hellinger: ArrayLike) -> jax.Array:
    """KL ≥ −2 log(1 − H²/2) ≥ H²: KL is at least Rényi's divergence of order ½.

    Source: van Erven & Harremoës 2014, theorem 3 (Rényi's divergence grows with its order).

    >>> round(float(hellinger_below_kl(1.0)), 6)
    1.386294
    """
    return -2.0 * jnp.log1p(-0.5 * as_float(squared_hellinger))


def chi_squared_above_kl(pearson: ArrayLike) -> jax.Array:
    """KL ≤ log(1 + χ²): KL is at most Rényi's divergence of order 2. Source: Gibbs & Su 2002, theorem 5.

    >>> round(float(chi_squared_above_kl(1.0)), 6)
    0.693147
    """
    return jnp.log1p(as_float(pearson))


def total_variation_below_chi_squared(total_variation: ArrayLike) -> jax.Array:
    """χ² ≥ 4 TV² up to TV = ½, and TV/(1 − TV) beyond: the best possible. Source: Polyanskiy & Wu 2025, chapter 7.

    >>> float(total_variation_below_chi_squared(0.25)), float(total_variation_below_chi_squared(0.75))
    (0.25, 3.0)
    """
    t = as_float(total_variation)
    return jnp.where(t <= 0.5, 4.0 * t * t, t / (1.0 - t))


def total_variation_above_js(total_variation: ArrayLike) -> jax.Array:
    """JS ≤ TV log 2. Source: Lin 1991.

    >>> round(float(total_variation_above_js(0.5)), 6)
    0.346574
    """
    return jnp.log(2.0) * as_float(total_variation)


def total_variation_below_js(total_variation: ArrayLike) -> jax.Array:
    """JS ≥ ½[(1 + TV) log(1 + TV) + (1 − TV) log(1 − TV)], the best possible. Source: Sason 2015.

    >>> round(float(total_variation_below_js(0.5)), 6)
    0.130812
    """
    t = as_float(total_variation)
    middle = jnp.where(t < 0.5, t, 0.0)
    small = middle * jnp.arctanh(middle) + 0.5 * jnp.log1p(-middle * middle)  # no terms of order TV, which cancel
    return jnp.where(t < 0.5, small, 0.5 * (xlogy(1.0 + t, 1.0 + t) + xlogy(1.0 - t, 1.0 - t)))


def total_variation_below_triangular(total_variation: ArrayLike) -> jax.Array:
    """∫(p − q)²/(p + q) ≥ 2 TV². Source: Topsøe 2000, in terms of ∫|p − q| = 2 TV.

    >>> float(total_variation_below_triangular(0.5))
    0.5
    """
    return 2.0 * as_float(total_variation) ** 2


def total_variation_above_triangular(total_variation: ArrayLike) -> jax.Array:
    """∫(p − q)²/(p + q) ≤ 2 TV. Source: Topsøe 2000, in terms of ∫|p − q| = 2 TV.

    >>> float(total_variation_above_triangular(0.5))
    1.0
    """
    return 2.0 * as_float(total_variation)


class Inequality(NamedTuple):
    """`bounded` ≤ or ≥ bound(`known`), both names of `DIVERGENCES` between the same P and Q in the same order."""

    known: str
    bounded: str
    side: Literal["at most", "at least"]
    bound: Callable[[ArrayLike], jax.Array]


INEQUALITIES: dict[str, Inequality] = {
    "Pinsker": Inequality("kl", "total_variation", "at most", pinsker),
    "Bretagnolle–Huber": Inequality("kl", "total_variation", "at most", bretagnolle_huber),
    "Gilardoni": Inequality("total_variation", "kl", "at least", gilardoni),
    "Le Cam, lower": Inequality("squared_hellinger", "total_variation", "at least", hellinger_below_total_variation),
    "Le Cam, upper": Inequality("squared_hellinger", "total_variation", "at most", hellinger_above_total_variation),
    "KL above Rényi ½": Inequality("squared_hellinger", "kl", "at least", hellinger_below_kl),
    "KL below Rényi 2": Inequality("pearson", "kl", "at most", chi_squared_above_kl),
    "χ² of TV": Inequality("total_variation", "pearson", "at least", total_variation_below_chi_squared),
    "Lin": Inequality("total_variation", "js", "at most", total_variation_above_js),
    "Sason": Inequality("total_variation", "js", "at least", total_variation_below_js),
    "Topsøe, lower": Inequality("total_variation", "triangular", "at least", total_variation_below_triangular),
    "Topsøe, upper": Inequality("total_variation", "triangular", "at most", total_variation_above_triangular),
}
"""Every inequality by name."""


def reverse_pinsker(
    total_variation: ArrayLike, smallest: ArrayLike, largest: ArrayLike, d: str | FDivergence = "kl"
) -> np.ndarray:
    """D_f ≤ TV · [f(m)/(1 − m) + f(M)/(M − 1)] where m ≤ p/q ≤ M, with equality if p/q is always m, 1 or M.

    In float64. For KL it is TV · [φ(M) − φ(m)] with φ(u) = u log u/(u − 1). With m = 0 and M = ∞ it is TV · sup D_f.

    Args:
        total_variation: ½∫|p − q|, in [0, 1]; broadcasts with m and M.
        smallest: m in [0, 1], a lower bound of p/q.
        largest: M in [1, ∞], an upper bound of p/q.
        d: any f-divergence with f(1) = 0.

    Raises:
        ValueError: a number outside its range.

    Source: Sason & Verdú 2016, theorem 23, for KL; Binette 2019, theorem 1, for every f.

    >>> p, q = np.array([0.2, 0.8]), np.array([0.4, 0.6])
    >>> bound = reverse_pinsker(0.2, 0.5, 4.0 / 3.0)
    >>> round(float(bound), 12) == round(float(np.sum(p * np.log(p / q))), 12)
    True
    """
    t, m, most = (np.asarray(value, np.float64) for value in (total_variation, smallest, largest))
    for name, value, low, high in (("total_variation", t, 0.0, 1.0), ("smallest", m, 0.0, 1.0)):
        if not np.all((value >= low) & (value <= high)):
            raise ValueError(f"{name} = {value}: it lies in [{low:g}, {high:g}]")
    if not np.all(most >= 1.0):
        raise ValueError(f"largest = {most}: densities integrate to 1, so p/q is 1 or more somewhere; give M ≥ 1")
    d = divergence(d)
    if d.value_at_one != 0.0:
        raise ValueError(f"{d.name} has f(1) = {d.value_at_one:g}, so it is not 0 at P = Q; use js")
    with np.errstate(divide="ignore"):
        steepness = chord(d, np.log(m)) + chord(d, np.log(most))
    return np.where(t == 0.0, 0.0, np.where(t == 0.0, 1.0, t) * steepness)


def chord(d: FDivergence, log_ratio: ArrayLike) -> np.ndarray:
    """f̃(u)/|u − 1| at u = e^ℓ, f̃(u) = f(u) − f(1) − f'(1)(u − 1): D_f per unit of TV of points where p/q = u; float64.

    ℓ may be ±∞; at ℓ = 0 it is 0, though a kink of f there may leave any value up to its jump.

    >>> bool(np.isclose(chord(divergence("pearson"), np.log(3.0)), 2.0))
    True
    """
    ratio = np.asarray(log_ratio, np.float64)
    apart = np.where(ratio == 0.0, 1.0, ratio)
    log_gap = np.log(-np.expm1(-np.abs(apart)))  # log |u − 1| − max(ℓ, 0): p = u/|u − 1|, q = 1/|u − 1| stay finite
    value = costs(d, np.minimum(apart, 0.0) - log_gap, -np.maximum(apart, 0.0) - log_gap)
    return np.where(ratio == 0.0, 0.0, value)
