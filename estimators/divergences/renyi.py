"""What a user may ask an estimate of: an f-divergence, or Rényi's, which is a monotone function of one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from estimators.divergences.families import alpha
from estimators.divergences.generator import FDivergence
from estimators.divergences.table import DIVERGENCES, UnknownDivergence, divergence


class Functional(NamedTuple):
    """transform(D_f), with the derivative `slope` of `transform`; D_f itself where both are None."""

    name: str
    divergence: FDivergence
    transform: Callable[[float], float] | None = None
    slope: Callable[[float], float] | None = None


def renyi(a: float) -> Functional:
    """Rényi's D_α = log(1 + α(α−1) D_{alpha(α)}) / (α−1), α > 0, a monotone function of the α-divergence.

    Source: Rényi 1961; van Erven & Harremoës 2014. α = 1 is kl.
    """
    if not a > 0.0 or not math.isfinite(a):
        raise UnknownDivergence(f"renyi({a:g}): the order must be positive and finite")
    if a == 1.0:
        return Functional("renyi(1)", DIVERGENCES["kl"])
    factor, d = a * (a - 1.0), alpha(a)

    def transform(value):
        inside = 1.0 + factor * value
        if value >= d.upper_limit():
            return math.inf
        if a > 1.0 and inside < 0.5:  # a negative estimate: the tangent there, since the logarithm soon ends
            return (2.0 * inside - 1.0 - math.log(2.0)) / (a - 1.0)
        return math.log(inside) / (a - 1.0)

    def slope(value):
        inside = 1.0 + factor * value
        return a / (max(inside, 0.5) if a > 1.0 else inside)

    return Functional(f"renyi({a:g})", d, transform, slope)


def functional(name: str | FDivergence) -> Functional:
    """The functional called `name`: any divergence of the table, the user's own, or `renyi(α)`.

    Raises:
        UnknownDivergence: as `divergence`, or an order that is not a positive number.
    """
    if isinstance(name, str) and (parsed := re.fullmatch(r"\s*renyi\(\s*([\d.e+-]+)\s*\)\s*", name.lower())):
        try:
            return renyi(float(parsed[1]))
        except ValueError as error:
            raise UnknownDivergence(str(error)) from None
    d = divergence(name)
    return Functional(d.name, d)


def everything() -> list[Functional]:
    """What "all" stands for: every divergence of the table but gan, and renyi(2)."""
    return [functional(name) for name in DIVERGENCES if name != "gan"] + [renyi(2.0)]
