"""The front door: two sample sets in, divergences with intervals out.

Layer 3: imports neural, samples, divergences, result.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from estimators import neural
from estimators.divergences import DIVERGENCES, FDivergence, UnknownDivergence, alpha, divergence
from estimators.result import Estimate
from estimators.samples import Samples, as_samples, check_pair, constant_columns

Method = Callable[..., list[Estimate]]

METHODS: Mapping[str, Method] = MappingProxyType({"neural": neural.estimate})
"""Every way of estimating; each takes (x, y, divergences, *, seed, confidence) and returns an Estimate a divergence."""


class Functional(NamedTuple):
    """What the user asked for: an f-divergence, perhaps seen through a monotone transform (Rényi's)."""

    name: str
    row: FDivergence
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
    factor = a * (a - 1.0)

    def transform(d):
        inside = 1.0 + factor * d
        if math.isinf(d):
            return math.inf
        return math.log(inside) / (a - 1.0) if inside > 0.0 else math.inf

    def slope(d):
        return a / (1.0 + factor * d) if 1.0 + factor * d > 0.0 else math.inf

    return Functional(f"renyi({a:g})", alpha(a), transform, slope)


def functional(name: str | FDivergence) -> Functional:
    """The functional called `name`: any divergence of the table, or `renyi(α)`."""
    if isinstance(name, str) and (parsed := re.fullmatch(r"\s*renyi\(\s*([\d.e+-]+)\s*\)\s*", name.lower())):
        try:
            return renyi(float(parsed[1]))
        except ValueError as error:
            raise UnknownDivergence(str(error)) from None
    row = divergence(name)
    return Functional(row.name, row)


def everything() -> list[Functional]:
    """What `"all"` stands for: every row of the table but gan, and renyi(2)."""
    return [functional(name) for name in DIVERGENCES if name != "gan"] + [renyi(2.0)]


def estimate(
    x: Any,
    y: Any,
    divergence: str | FDivergence | Sequence[str | FDivergence] = "kl",
    *,
    method: str = "auto",
    seed: int = 0,
    confidence: float = 0.95,
    nan_policy: str = "raise",
) -> Any:
    """Estimates of D(P‖Q) in nats from samples x ~ P and y ~ Q.

    Args:
        x, y: [n, d] and [m, d]; NumPy, JAX, or anything with `__array__`.
        divergence: a name, an FDivergence, `renyi(α)`, a list of these, or "all". One fit serves them all.
        method: a name in `METHODS`; auto is neural.
        seed: the same seed gives the same numbers.
        confidence: level of the intervals.
        nan_policy: raise, or omit rows that hold NaN or inf.

    Returns:
        An Estimate, or a list of them if a list (or "all") was asked for.

    Raises:
        DataError, UnknownDivergence, ValueError: all ValueErrors, saying what to change.
    """
    single = isinstance(divergence, FDivergence) or (isinstance(divergence, str) and divergence != "all")
    names: Any = [divergence] if single else divergence
    asked = everything() if isinstance(names, str) else [functional(name) for name in names]
    if method != "auto" and method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose from auto, {', '.join(METHODS)}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence = {confidence}: must lie strictly between 0 and 1")
    p = x if isinstance(x, Samples) else as_samples(x, name="x", nan_policy=nan_policy)
    q = y if isinstance(y, Samples) else as_samples(y, name="y", nan_policy=nan_policy)
    warnings = (*p.notes, *q.notes, *check_pair(p, q))
    run = METHODS["neural" if method == "auto" else method]
    columns = constant_columns(p.values, q.values)
    if len(columns.different):
        found = [_singular(f, p, q, int(columns.different[0]), confidence) for f in asked]
    else:
        kept = np.setdiff1d(np.arange(p.values.shape[1]), columns.equal)
        rows = [f.row for f in asked]
        if len(kept):
            found = run(p.values[:, kept], q.values[:, kept], rows, seed=seed, confidence=confidence)
            found = [_widened(e, kept, p.values.shape[1]) for e in found]
        else:
            found = [_identical(f, p, q, confidence) for f in asked]
    results = [
        dataclasses.replace(_transformed(e, f), warnings=(*warnings, *e.warnings))
        for e, f in zip(found, asked, strict=True)
    ]
    return results[0] if single else results


def _transformed(e: Estimate, f: Functional) -> Estimate:
    if f.transform is None or f.slope is None:
        return dataclasses.replace(e, divergence=f.name)
    value, low, high = (f.transform(v) for v in (e.value, e.low, e.high))
    error = abs(f.slope(e.value)) * e.standard_error if e.standard_error else 0.0
    return dataclasses.replace(e, divergence=f.name, value=value, low=low, high=high, standard_error=error)


def _widened(e: Estimate, kept: np.ndarray, dim: int) -> Estimate:
    """`e`, found without the columns that say nothing, for points that have them."""
    if len(kept) == dim or e.ratio is None:
        return e
    narrow = e.ratio
    return dataclasses.replace(e, dim=dim, ratio=lambda points: narrow(points[:, kept]))


def _plain(f: Functional, p: Samples, q: Samples, value: float, confidence: float, warning: str) -> Estimate:
    n, m, dim = len(p.values), len(q.values), p.values.shape[1]
    return Estimate(
        divergence=f.name,
        value=value,
        low=value,
        high=value,
        standard_error=0.0,
        confidence=confidence,
        method="exact",
        n_p=n,
        n_q=m,
        dim=dim,
        warnings=(warning,),
    )


def _singular(f: Functional, p: Samples, q: Samples, column: int, confidence: float) -> Estimate:
    reason = f"disjoint support: column {column} is constant in each set with different values"
    return _plain(f, p, q, f.row.upper_limit(), confidence, reason)


def _identical(f: Functional, p: Samples, q: Samples, confidence: float) -> Estimate:
    return _plain(f, p, q, f.row.value_at_one, confidence, "every column is constant and equal in both sets")
