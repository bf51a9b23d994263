"""Divergences that two integrals determine: KL in both directions, and ∫ p^α q^{1−α}.

Whatever gives the two, a closed form, a sum or quadrature of one coordinate, gives with them every divergence of the
table that is a function of them. Both add up over independent coordinates (the second as its logarithm), and so do all
of these for products.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from estimators.divergences.generator import FDivergence
from estimators.divergences.table import UnknownDivergence, divergence


class Moments(NamedTuple):
    """Of P and Q: `kl()` = KL(P‖Q), `reverse_kl()` = KL(Q‖P), `log(α)` = log ∫ p^α q^{1−α}; arrays [*batch], nats."""

    kl: Callable[[], Any]
    reverse_kl: Callable[[], Any]
    log: Callable[[float], Any]


def jeffreys(m: Moments) -> jax.Array:
    """KL(P‖Q) + KL(Q‖P)."""
    return m.kl() + m.reverse_kl()


def alpha(m: Moments, order: Any) -> jax.Array:
    """(∫ p^α q^{1−α} − 1) / (α(α − 1)), α ∉ {0, 1}."""
    return jnp.expm1(m.log(order)) / (order * (order - 1.0))


def renyi(m: Moments, order: Any) -> jax.Array:
    """log ∫ p^α q^{1−α} / (α − 1), α > 0; KL at α = 1."""
    if not isinstance(order, jax.core.Tracer) and order == 1.0:
        return m.kl()
    return m.log(order) / (order - 1.0)


def bhattacharyya(m: Moments) -> jax.Array:
    """The coefficient ∫ √(pq)."""
    return jnp.exp(m.log(0.5))


OF_MOMENTS: dict[str, Callable[[Moments], jax.Array]] = {
    "kl": lambda m: m.kl(),
    "reverse_kl": lambda m: m.reverse_kl(),
    "jeffreys": jeffreys,
    "pearson": lambda m: jnp.expm1(m.log(2.0)),
    "neyman": lambda m: jnp.expm1(m.log(-1.0)),
    "squared_hellinger": lambda m: -2.0 * jnp.expm1(m.log(0.5)),
    "geometric_js": lambda m: 0.25 * jeffreys(m) + jnp.expm1(m.log(0.5)),
}
"""Name in `DIVERGENCES` → D_f from the moments."""


def of_moments(d: FDivergence) -> Callable[[Moments], jax.Array] | None:
    """D_f as a function of Moments; None where the two integrals do not determine it.

    Found by the name of `d`, if that name stands for `d`: a divergence of the user may have any name.
    """
    with suppress(UnknownDivergence):
        if divergence(d.name) is d:
            order = re.fullmatch(r"alpha\((.+)\)", d.name)
            return (lambda m: alpha(m, float(order[1]))) if order else OF_MOMENTS.get(d.name)
    return None


def of_product(parts: list[Moments]) -> Moments:
    """The Moments of independent coordinates from those of each."""

    def total(name: str, *arguments: float) -> Any:
        return sum(getattr(part, name)(*arguments) for part in parts)

    return Moments(lambda: total("kl"), lambda: total("reverse_kl"), lambda order: total("log", order))
