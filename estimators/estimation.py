"""The front door: two sample sets in, divergences with intervals out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from estimators import warnings
from estimators.divergences.table import DIVERGENCES, FDivergence, UnknownDivergence, alpha, divergence
from estimators.request import METHODS, BadArgument, Request, check_settings, numbered
from estimators.result import Estimate, Fit, Interval
from estimators.samples.arrays import Samples, as_samples, check_pair, constant_columns, twins


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

    row = alpha(a)

    def transform(d):
        inside = 1.0 + factor * d
        if d >= row.upper_limit():
            return math.inf
        if a > 1.0 and inside < 0.5:  # a negative estimate: the tangent there, since the logarithm soon ends
            return (2.0 * inside - 1.0 - math.log(2.0)) / (a - 1.0)
        return math.log(inside) / (a - 1.0)

    def slope(d):
        inside = 1.0 + factor * d
        return a / (max(inside, 0.5) if a > 1.0 else inside)

    return Functional(f"renyi({a:g})", row, transform, slope)


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
    groups: tuple[Any, Any] | None = None,
) -> Any:
    """Estimates of D(P‖Q) in nats from samples x ~ P and y ~ Q.

    Args:
        x, y: [n, d] and [m, d]; NumPy, JAX, or anything with `__array__`.
        divergence: a name, an FDivergence, `renyi(α)`, a list of these, or "all". One fit serves them all.
        method: a name in `METHODS`.
        seed: the same seed gives the same numbers.
        confidence: level of the intervals.
        nan_policy: raise, or omit rows that hold NaN or inf.
        groups: a label a row of x and a label a row of y, whole numbers or text; rows of one label are not independent
            of each other: they stay in one fold and count as one in the standard error. By default rows that
            occur in both sets do.

    Returns:
        An Estimate, or a list of them if a list (or "all") was asked for.

    Raises:
        DataError, UnknownDivergence, ValueError: all ValueErrors, saying what to change.
    """
    single = isinstance(divergence, FDivergence) or (isinstance(divergence, str) and divergence != "all")
    names: Any = [divergence] if single else divergence
    asked = everything() if isinstance(names, str) else [functional(name) for name in names]
    if not asked:
        raise BadArgument("no divergence asked for; name one, several, or all")
    check_settings(seed, confidence, method, list(METHODS))
    p = x if isinstance(x, Samples) else as_samples(x, name="x", nan_policy=nan_policy)
    q = y if isinstance(y, Samples) else as_samples(y, name="y", nan_policy=nan_policy)
    labels = twins(p, q) if groups is None else numbered(groups, p, q)
    notes = (*p.notes, *q.notes, *check_pair(p, q), *warnings.report(warnings.lost_digits(p.values, q.values)))
    proofs = [_proof(f.row, p.values, q.values) for f in asked]
    varying = np.setdiff1d(np.arange(p.values.shape[1]), constant_columns(p.values, q.values).equal)
    request = Request(
        x=p.values[:, varying],
        y=q.values[:, varying],
        divergences=[f.row for f, proof in zip(asked, proofs, strict=True) if proof is None],
        method=method,
        seed=seed,
        confidence=confidence,
        groups=labels,
    )
    fit = _on_columns(METHODS[method](request), varying) if request.divergences else EXACT
    fitted = iter(fit.intervals)
    results = [
        Estimate.of(
            f.name,
            _transformed(next(fitted), f) if proof is None else _transformed(proof, f),
            fit if proof is None else EXACT,
            request,
            dim=p.values.shape[1],
            notes=notes,
        )
        for f, proof in zip(asked, proofs, strict=True)
    ]
    return results[0] if single else results


def _transformed(interval: Interval, f: Functional) -> Interval:
    if f.transform is None or f.slope is None:
        return interval
    value, low, high = (f.transform(v) for v in interval[:3])
    error = abs(f.slope(interval.value)) * interval.standard_error if interval.standard_error else 0.0
    return interval._replace(value=value, low=low, high=high, standard_error=error)


def _on_columns(fit: Fit, kept: np.ndarray) -> Fit:
    """`fit`, made without the columns that say nothing, for points that have them."""
    if fit.log_ratio is None:
        return fit
    narrow = fit.log_ratio
    return fit._replace(log_ratio=lambda points: narrow(points[:, kept]))


EXACT = Fit("exact", ())
"""Of values that follow from constant columns alone."""


def _proof(d: FDivergence, x: np.ndarray, y: np.ndarray) -> Interval | None:
    """What constant columns prove of D_f, with the reason: its supremum where one keeps the sets apart, f(1) where all
    are equal.

    A column constant in one set proves that only if the other set never takes its value: rare values may be unseen.
    """
    columns = constant_columns(x, y)
    for j in columns.different:
        return _proven(d.upper_limit(), f"disjoint support: column {j} is constant in each set with different values")
    for constant, one, other in ((columns.x_only, x, y), (columns.y_only, y, x)):
        for j in constant:
            if not np.any(other[:, j] == one[0, j]):
                reason = f"disjoint support: column {j} is constant in one set at a value the other never takes"
                return _proven(d.upper_limit(), reason)
    if len(columns.equal) == x.shape[1]:
        return _proven(d.value_at_one, "every column is constant and equal in both sets")
    return None


def _proven(value: float, reason: str) -> Interval:
    return Interval(value, value, value, 0.0, (reason,))
