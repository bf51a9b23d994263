"""The front door: two sample sets in, divergences with intervals out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from estimators.contract import METHODS, BadArgument, Estimate, Fit, Interval, Request, check_settings, numbered
from estimators.divergences.generator import FDivergence
from estimators.divergences.table import Functional, everything, functional
from estimators.samples.arrays import ConstantColumns, Samples, as_samples, check_pair, constant_columns, twins


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
    asked = everything() if isinstance(names, str) else list(map(functional, names))
    if not asked:
        raise BadArgument("no divergence asked for; name one, several, or all")
    check_settings(seed, confidence, method, list(METHODS))
    p = x if isinstance(x, Samples) else as_samples(x, name="x", nan_policy=nan_policy)
    q = y if isinstance(y, Samples) else as_samples(y, name="y", nan_policy=nan_policy)
    labels = twins(p, q) if groups is None else numbered(groups, p, q)
    notes = (*p.notes, *q.notes, *check_pair(p, q))
    columns = constant_columns(p.values, q.values)
    varying = np.setdiff1d(np.arange(p.values.shape[1]), columns.equal)
    request = Request(
        x=p.values[:, varying],
        y=q.values[:, varying],
        divergences=[f.divergence for f in asked],
        method=method,
        seed=seed,
        confidence=confidence,
        groups=labels,
    )
    if (apart := _apart(columns, p.values, q.values)) or not len(varying):
        reason = apart or "every column is constant and equal in both sets"
        values = (d.upper_limit() if apart else d.value_at_one for d in request.divergences)
        fit = Fit("exact", [Interval(v, v, v, 0.0, (reason,)) for v in values])
    else:
        fit = METHODS[method](request)
    if (narrow := fit.log_ratio) is not None:  # the user's points have all columns
        fit = fit._replace(log_ratio=lambda points: narrow(points[:, varying]))
    results = [
        Estimate.of(f.name, _transformed(interval, f), fit, request, dim=p.values.shape[1], notes=notes)
        for f, interval in zip(asked, fit.intervals, strict=True)
    ]
    return results[0] if single else results


def _transformed(interval: Interval, f: Functional) -> Interval:
    if f.transform is None or f.slope is None:
        return interval
    value, low, high = (f.transform(v) for v in interval[:3])
    error = abs(f.slope(interval.value)) * interval.standard_error if interval.standard_error else 0.0
    return interval._replace(value=value, low=low, high=high, standard_error=error)


def _apart(columns: ConstantColumns, x: np.ndarray, y: np.ndarray) -> str:
    """Why constant columns prove the supports disjoint, so that D_f is its supremum; "" where they do not.

    A column constant in one set proves that only if the other set never takes its value: rare values may be unseen.
    """
    for j in columns.different:
        return f"disjoint support: column {j} is constant in each set with different values"
    for constant, one, other in ((columns.x_only, x, y), (columns.y_only, y, x)):
        for j in constant:
            if not np.any(other[:, j] == one[0, j]):
                return f"disjoint support: column {j} is constant in one set at a value the other never takes"
    return ""
