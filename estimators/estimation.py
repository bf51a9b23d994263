"""The front door: two sample sets in, divergences with intervals out.

`auto` looks before it chooses: it fits the critics of `neural`, and where these find the sets so far apart that no
classifier can say how far, it hands over to `telescoping`.

Layer 5: imports every method, information, permutation, samples, divergences, result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from estimators import information, permutation
from estimators.divergences.generator import FDivergence
from estimators.divergences.renyi import Functional, everything, functional
from estimators.divergences.table import DIVERGENCES
from estimators.methods import gaussian as moments
from estimators.methods import knn as neighbors
from estimators.methods import neural, telescoping
from estimators.methods import ratio as kernels
from estimators.permutation import PermutationTest
from estimators.result import Estimate
from estimators.samples.arrays import DataError, Samples, as_samples, check_pair, constant_columns, twins
from estimators.samples.folds import Groups

Method = Callable[..., list[Estimate]]

FAR = 0.9
"""Share of its maximum, log 2, from which on the Jensen–Shannon divergence says only that the sets are far apart."""


def automatic(
    x: np.ndarray,
    y: np.ndarray,
    divergences: Sequence[FDivergence],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    groups: Groups | None = None,
) -> list[Estimate]:
    """D_f for each of `divergences` by `neural`, or `telescoping` where the sets hardly overlap; says which and why."""
    options: Any = {"seed": seed, "confidence": confidence, "groups": groups}
    js = DIVERGENCES["js"]
    *found, overlap = neural.estimate(x, y, [*divergences, js], **options)
    share = overlap.value / js.upper_limit()
    seen = f"the held-out Jensen–Shannon divergence is {100.0 * share:.0f} % of its maximum"
    why = f"auto chose neural: {seen}, so the sets overlap"
    if share >= FAR:
        if 2 * min(len(x), len(y)) > 5 * (x.shape[1] + 3):
            why = f"auto chose telescoping: {seen}, more than a classifier can measure"
            found = telescoping.estimate(x, y, divergences, **options)
        else:
            why = f"auto chose neural: {seen}, but telescoping needs more rows in {x.shape[1]} dimensions"
    return [dataclasses.replace(e, diagnostics={**e.diagnostics, "choice": why}) for e in found]


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "neural": neural.estimate,
        "nwj": partial(neural.estimate, objective="nwj"),
        "dv": partial(neural.estimate, objective="dv"),
        "ratio": kernels.estimate,
        "knn": neighbors.estimate,
        "gaussian": moments.estimate,
        "telescoping": telescoping.estimate,
        "auto": automatic,
    }
)
"""Every way of estimating; each takes (x, y, divergences, *, seed, confidence, groups) → an Estimate a divergence."""


class BadArgument(ValueError):
    """A setting with which nothing can be estimated; the message says which can."""


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
    _check(asked, method, seed, confidence)
    p = x if isinstance(x, Samples) else as_samples(x, name="x", nan_policy=nan_policy)
    q = y if isinstance(y, Samples) else as_samples(y, name="y", nan_policy=nan_policy)
    labels = twins(p, q) if groups is None else _labels(groups, p, q)
    warnings = (*p.notes, *q.notes, *check_pair(p, q), *_lost_digits(p, q))
    proofs = [_proof(f.divergence, p.values, q.values) for f in asked]
    fitted: Iterator[Estimate] = iter(())
    if open_rows := [f.divergence for f, proof in zip(asked, proofs, strict=True) if proof is None]:
        kept = np.setdiff1d(np.arange(p.values.shape[1]), constant_columns(p.values, q.values).equal)
        found = METHODS[method](
            p.values[:, kept], q.values[:, kept], open_rows, seed=seed, confidence=confidence, groups=labels
        )
        fitted = iter([_widened(e, kept, p.values.shape[1]) for e in found])
    results = []
    for f, proof in zip(asked, proofs, strict=True):
        e = next(fitted) if proof is None else _proven(f.divergence, p, q, proof, confidence)
        results.append(dataclasses.replace(_transformed(e, f), warnings=(*warnings, *e.warnings)))
    return results[0] if single else results


def mutual_information(
    x: Any,
    z: Any,
    *,
    method: str = "auto",
    seed: int = 0,
    confidence: float = 0.95,
    nan_policy: str = "raise",
    groups: Any = None,
) -> Estimate:
    """I(X; Z) in nats from n pairs: rows of x [n, d_x] and z [n, d_z], the divergence KL of joint from product.

    Args:
        method: a name in `information.INFORMATION`.
        seed, confidence, nan_policy: as in `estimate`; a pair is omitted if either half holds NaN or inf.
        groups: a label a pair; pairs of one label are not independent of each other.

    Raises:
        DataError, ValueError: both ValueErrors, saying what to change.
    """
    if method not in information.INFORMATION:
        raise BadArgument(f"unknown method {method!r}; choose from {', '.join(information.INFORMATION)}")
    _check_settings(seed, confidence)
    first, second = (as_samples(v, name=n, nan_policy=nan_policy) for v, n in ((x, "x"), (z, "z")))
    kept = [np.ones(len(s.values), bool) if s.kept is None else s.kept for s in (first, second)]
    if len(kept[0]) != len(kept[1]):
        raise DataError(f"x has {len(kept[0])} rows and z {len(kept[1])}: rows are pairs, so give as many of each")
    both = kept[0] & kept[1]
    rows = [s.values[both[k]] for s, k in zip((first, second), kept, strict=True)]
    labels = None
    if groups is not None:
        given = np.asarray(groups)
        if given.shape != both.shape:
            raise DataError(f"{len(both)} pairs, but labels of shape {given.shape}; give one label a pair")
        labels = np.unique(given[both], return_inverse=True)[1]
    varying = [np.flatnonzero(np.ptp(values, axis=0) > 0.0) for values in rows]
    said = tuple(
        f"{len(s.values[0]) - len(v)} constant columns of {s.name} left out: they carry no information"
        for s, v in zip((first, second), varying, strict=True)
        if len(v) < s.values.shape[1]
    )
    if not all(map(len, varying)):
        raise DataError("every column of one set is constant: nothing depends on it, the mutual information is 0")
    e = information.mutual_information(
        *(values[:, v] for values, v in zip(rows, varying, strict=True)),
        method=method,
        seed=seed,
        confidence=confidence,
        groups=labels,
    )
    return dataclasses.replace(e, warnings=(*first.notes, *second.notes, *said, *e.warnings))


def permutation_test(
    x: Any,
    y: Any,
    divergence: str | FDivergence = "js",
    *,
    seed: int = 0,
    permutations: int = 999,
    nan_policy: str = "raise",
    groups: tuple[Any, Any] | None = None,
) -> PermutationTest:
    """A test of D_f(P‖Q) = 0, exact for every number of samples; see `permutation`.

    Args:
        x, y, nan_policy, groups: as in `estimate`; here a group holds rows of one set only.
        divergence: whose held-out bound is the statistic.
        seed: of the split, the critics and the relabellings.
        permutations: relabellings; p is at least 1/(permutations + 1).

    Raises:
        DataError, UnknownDivergence, ValueError: all ValueErrors, saying what to change.
    """
    row = functional(divergence).divergence
    _check_settings(seed, 0.95)
    if permutations < 1:
        raise BadArgument(f"permutations = {permutations}: at least 1 is needed, 999 for p down to 0.001")
    p, q = (as_samples(v, name=n, nan_policy=nan_policy) for v, n in ((x, "x"), (y, "y")))
    check_pair(p, q)
    labels = _labels(groups, p, q)
    if labels is not None and np.intersect1d(*labels).size:
        raise BadArgument("a group with rows of both sets cannot be relabelled; give each set its own labels")
    kept = np.setdiff1d(np.arange(p.values.shape[1]), constant_columns(p.values, q.values).equal)
    if not len(kept):
        raise DataError("every column is constant and equal in both sets: there is nothing to test")
    return permutation.permutation_test(
        p.values[:, kept], q.values[:, kept], row, seed=seed, permutations=permutations, groups=labels
    )


def _check(asked: Sequence[Functional], method: str, seed: int, confidence: float) -> None:
    if not asked:
        raise BadArgument("no divergence asked for; name one, several, or all")
    if method not in METHODS:
        raise BadArgument(f"unknown method {method!r}; choose from {', '.join(METHODS)}")
    _check_settings(seed, confidence)


def _check_settings(seed: int, confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise BadArgument(f"confidence = {confidence}: must lie strictly between 0 and 1")
    if not 0 <= seed < 2**32:
        raise BadArgument(f"seed = {seed}: must be a whole number from 0 to 2^32 - 1")


def _labels(groups: tuple[Any, Any] | None, p: Samples, q: Samples) -> Groups | None:
    """Whole numbers in place of the user's labels, the same for the same label in either set."""
    if groups is None:
        return None
    if not isinstance(groups, tuple | list) or len(groups) != 2:
        raise BadArgument("groups must be a pair: a label for each row of x, and one for each row of y")
    labels = [side.aligned(np.asarray(given)) for side, given in zip((p, q), groups, strict=True)]
    if any(given.dtype.kind not in "biuSU" for given in labels):
        raise BadArgument("groups must be whole numbers or text, one label a row")
    _, inverse = np.unique(np.concatenate(labels), return_inverse=True)
    return inverse[: len(labels[0])], inverse[len(labels[0]) :]


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


class Proof(NamedTuple):
    """A value that follows from constant columns alone, and why."""

    value: float
    reason: str


def _proof(row: FDivergence, x: np.ndarray, y: np.ndarray) -> Proof | None:
    """What constant columns prove of D_f: its supremum where one keeps the sets apart, f(1) where all are equal.

    A column constant in one set proves that only if the other set never takes its value: rare values may be unseen.
    """
    columns = constant_columns(x, y)
    for j in columns.different:
        reason = f"disjoint support: column {j} is constant in each set with different values"
        return Proof(row.upper_limit(), reason)
    for constant, one, other in ((columns.x_only, x, y), (columns.y_only, y, x)):
        for j in constant:
            if not np.any(other[:, j] == one[0, j]):
                reason = f"disjoint support: column {j} is constant in one set at a value the other never takes"
                return Proof(row.upper_limit(), reason)
    if len(columns.equal) == x.shape[1]:
        return Proof(row.value_at_one, "every column is constant and equal in both sets")
    return None


def _proven(row: FDivergence, p: Samples, q: Samples, proof: Proof, confidence: float) -> Estimate:
    n, m, dim = len(p.values), len(q.values), p.values.shape[1]
    return Estimate(
        divergence=row.name,
        value=proof.value,
        low=proof.value,
        high=proof.value,
        standard_error=0.0,
        confidence=confidence,
        method="exact",
        n_p=n,
        n_q=m,
        dim=dim,
        warnings=(proof.reason,),
    )


def _lost_digits(p: Samples, q: Samples) -> list[str]:
    """A warning where values lie so far from 0 that float64 rounds off digits of their spread."""
    pooled = np.concatenate([p.values, q.values])
    spread, gap = pooled.std(axis=0), np.spacing(np.abs(pooled).max(axis=0))
    lost = np.flatnonzero((spread > 0.0) & (gap > 1e-6 * spread))
    said = "lies so far from 0 that float64 rounds its spread to few digits; subtract an offset from both sets"
    return [f"column {j} (counting from 0) {said}" for j in lost[:1]]
