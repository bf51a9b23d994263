"""The front door: two sample sets in, divergences with intervals out, each an `Estimate`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from estimators import heavy_tails, unseen
from estimators.advice import explanation, verdict
from estimators.contract import METHODS, Fit, Interval, LogRatio, Request, Scores
from estimators.density_ratio.folds import unthreaded
from estimators.divergences.generator import FDivergence
from estimators.divergences.table import Functional, everything, functional
from estimators.samples.arrays import (
    ConstantColumns,
    DataError,
    Groups,
    Samples,
    as_samples,
    check_pair,
    constant_columns,
    twins,
)
from estimators.samples.matching import matched
from estimators.samples.planes import Equation, apart, equations, reduced
from estimators.samples.series import block_length, caution, time_blocks, too_short


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
    decimals: int | None = None,
    dependence: str | None = None,
    drop: Sequence[Any] = (),
    categorical: Sequence[Any] = (),
) -> Any:
    """Estimates of D(P‖Q) in nats from samples x ~ P and y ~ Q.

    Args:
        x, y: [n, d] and [m, d]; NumPy, JAX, or anything with `__array__`. Data frames are matched by column names.
        divergence: a name, an FDivergence, `renyi(α)`, a list of these, or "all". One fit serves them all.
        method: a name in `METHODS`.
        confidence: level of the intervals.
        nan_policy: raise, or omit rows that hold NaN or inf.
        groups: a label a row of x and a label a row of y, whole numbers or text; rows of one label are not independent
            of each other: they stay in one fold and count as one in the standard error. By default copies of a row
            do, in one set or in both.
        decimals: round both sets to so many digits after the point first, as where they were stored with different.
        dependence: "time" where rows are in the order of time and neighbours depend on each other: stretches of two
            correlation times are groups. A warning says where it looks so.
        drop, categorical: columns to leave out, and columns whose numbers are names of categories: by name, or where
            they have none by number, from 0. Columns of words are categories anyway. It is enough that one of both
            sets has a column to drop.

    Returns:
        An Estimate, or a list of them if a list (or "all") was asked for.

    Raises:
        DataError, UnknownDivergence, ValueError: all ValueErrors, saying what to change.
    """
    options = _Options(method, seed, confidence, nan_policy, decimals, dependence, drop, categorical)
    return _alone(divergence, _prepared(x, y, _asked(divergence), groups, options.checked()).estimates())


def estimate_many(
    pairs: Iterable[tuple[Any, Any]], divergence: str | FDivergence | Sequence[str | FDivergence] = "kl", **options: Any
) -> list[Any]:
    """`estimate` of each pair (x, y), the same numbers, side by side on all cores.

    All pairs are checked before the first is fitted. Pairs of about the same size share their compiled programs.

    Args:
        pairs: the two sample sets of each estimate.
        divergence, options: as in `estimate`, the same for every pair; all of its options but `groups`.

    Returns:
        What `estimate` returns, for each pair.

    Raises:
        DataError, UnknownDivergence, ValueError: as `estimate`, naming the pair, from 0.

    >>> days = [np.random.default_rng(day).normal(size=(200, 1)) for day in range(3)]
    >>> found = estimate_many([(days[0], day) for day in days[1:]], "js", method="knn")
    >>> [e.low <= 0.0 <= e.high for e in found]
    [True, True]
    """
    if unknown := sorted(set(options) - set(_Options._fields)):
        raise BadArgument(
            f"{', '.join(unknown)}: not taken for many pairs; choose from {', '.join(_Options._fields)}, or call "
            "estimate for each pair"
        )
    asked, settings = _asked(divergence), _Options(**options).checked()

    def named(i: int, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (DataError, BadArgument) as error:
            raise type(error)(f"pair {i}: {error}") from None

    prepared = [named(i, partial(_prepared, x, y, asked, None, settings)) for i, (x, y) in enumerate(pairs)]
    with unthreaded(0), ThreadPoolExecutor(os.cpu_count()) as threads:
        fitted = list(threads.map(lambda i: named(i, prepared[i].estimates), range(len(prepared))))
    return [_alone(divergence, estimates) for estimates in fitted]


def _asked(divergence: Any) -> list[Functional]:
    """The functionals of one or several names. Raises UnknownDivergence, BadArgument."""
    single = isinstance(divergence, str | FDivergence)
    asked = everything() if divergence == "all" else list(map(functional, [divergence] if single else divergence))
    if not asked:
        raise BadArgument("no divergence asked for; name one, several, or all")
    return asked


def _alone(divergence: Any, estimates: list[Estimate]) -> Any:
    """The one estimate where one divergence was asked for by itself, else the list."""
    return estimates[0] if isinstance(divergence, str | FDivergence) and divergence != "all" else estimates


class _Options(NamedTuple):
    """The options of `estimate` that may be the same for many pairs."""

    method: str = "auto"
    seed: int = 0
    confidence: float = 0.95
    nan_policy: str = "raise"
    decimals: int | None = None
    dependence: str | None = None
    drop: Sequence[Any] = ()
    categorical: Sequence[Any] = ()

    def checked(self) -> _Options:
        """Raises BadArgument for those that can be judged without samples."""
        check_settings(self.seed, self.confidence, self.method, list(METHODS))
        if self.decimals is not None and not -15 <= self.decimals <= 15:
            raise BadArgument(f"decimals = {self.decimals}: must be a whole number from -15 to 15")
        return self


class _Prepared(NamedTuple):
    """Two sample sets that were checked, as a request to a method, and what to say of them."""

    asked: list[Functional]
    request: Request
    disjoint: str
    notes: tuple[str, ...]
    dim: int
    columns: np.ndarray  # those of the user's that the request holds
    linear: list[Equation]

    def estimates(self) -> list[Estimate]:
        """An estimate for each divergence that was asked for."""
        fit = _fitted(self.request, self.disjoint)
        if (narrow := fit.log_ratio) is not None:  # the user's points have all columns
            fit = fit._replace(log_ratio=lambda points: narrow(reduced(points, self.linear)[:, self.columns]))
        return [
            Estimate.of(f.name, _transformed(interval, f), fit, self.request, dim=self.dim, notes=self.notes)
            for f, interval in zip(self.asked, fit.intervals, strict=True)
        ]


def _prepared(x: Any, y: Any, asked: list[Functional], groups: Any, options: _Options) -> _Prepared:
    """The sets as the fit gets them: read, matched, rounded, without columns that say nothing."""
    reading = {name: getattr(options, name) for name in ("nan_policy", "drop", "categorical")}
    p, q = matched(*(as_samples(given, name=name, absent_ok=True, **reading) for given, name in ((x, "x"), (y, "y"))))
    if options.decimals is not None:
        p, q = (side.rounded(options.decimals) for side in (p, q))
    notes = (*p.notes, *q.notes, *check_pair(p, q), *cautions(p, q, groups, options.dependence))
    labels = labelled(p, q, groups, options.dependence)
    if labels is None and options.method != "counts":
        labels = twins(p, q)
    varying, linear, disjoint = _looked_at(p, q)
    notes += tuple(
        f"{e.words(p.called)}, in both sets: left out, which changes no divergence" for e in linear if e.holds
    )
    request = Request(
        x=reduced(p.values, linear)[:, varying],
        y=reduced(q.values, linear)[:, varying],
        divergences=[f.divergence for f in asked],
        method=options.method,
        seed=options.seed,
        confidence=options.confidence,
        groups=labels,
        columns=tuple(map(p.called, varying)),
        categories=tuple(np.flatnonzero(np.isin(varying, list(p.levels))).tolist()),
    )
    return _Prepared(asked, request, disjoint, notes, p.values.shape[1], varying, linear)


def _looked_at(p: Samples, q: Samples) -> tuple[np.ndarray, list[Equation], str]:
    """(the columns that matter, equations between columns, why the supports are disjoint or "")."""
    constant = constant_columns(p.values, q.values)
    varying = np.setdiff1d(np.arange(p.values.shape[1]), constant.equal)
    numbers = np.setdiff1d(varying, list(p.levels))
    disjoint = _apart(constant, p, q) or apart(p.values, q.values, numbers, p.called)
    linear = equations(np.concatenate([p.values, q.values])[:, numbers], numbers)
    return np.setdiff1d(varying, [equation.column for equation in linear if equation.holds]), linear, disjoint


def _fitted(request: Request, disjoint: str) -> Fit:
    """The fit by the method of the request, or exact values where none is needed."""
    if disjoint or not request.x.shape[1]:
        values = [d.upper_limit() if disjoint else d.value_at_one for d in request.divergences]
        reason = disjoint or "every column is constant and equal in both sets"
        return Fit("exact", [Interval(v, v, v, 0.0, (reason,)) for v in values])
    with unthreaded(request.x.shape[1]):
        fit = METHODS[request.method](request)
    return fit if fit.method == "counts" else unseen.allowed_for(heavy_tails.allowed_for(fit, request), request)


def check_settings(seed: int, confidence: float, method: str | None = None, methods: Sequence[str] = ()) -> None:
    """Raise BadArgument for a seed, a level or a method that cannot be."""
    if method is not None and method not in methods:
        raise BadArgument(f"unknown method {method!r}; choose from {', '.join(methods)}")
    if not 0.0 < confidence < 1.0:
        raise BadArgument(f"confidence = {confidence}: must lie strictly between 0 and 1")
    if not 0 <= seed < 2**32:
        raise BadArgument(f"seed = {seed}: must be a whole number from 0 to 2^32 - 1")


def labelled(p: Samples, q: Samples, groups: Any, dependence: str | None) -> Groups | None:
    """The groups of the rows that the user gave, or asked for by their order in time.

    Raises BadArgument, DataError.
    """
    if dependence not in (None, "time"):
        raise BadArgument(f"dependence = {dependence!r}: choose 'time' or None")
    if dependence and groups is not None:
        raise BadArgument("dependence and groups both say which rows belong together; give one of them")
    if dependence:
        length = block_length(p.values, q.values)
        first, second = (time_blocks(len(side.values), length) for side in (p, q))
        return first, second + first[-1] + 1
    return None if groups is None else numbered(groups, p, q)


def cautions(p: Samples, q: Samples, groups: Any, dependence: str | None) -> tuple[str, ...]:
    """Warnings of rows that depend on their neighbours, where the user gave no groups or their blocks are too short."""
    if groups is not None:
        return ()
    if dependence:
        length = block_length(p.values, q.values)
        return tuple(filter(None, (too_short(side.values, length, side.name) for side in (p, q))))
    return tuple(filter(None, (caution(side.values, side.name) for side in (p, q))))


def numbered(groups: Any, p: Samples, q: Samples) -> Groups:
    """Whole numbers in place of the user's labels, the same for the same label in either set.

    Raises DataError, BadArgument: labels that are not one a row, or neither whole numbers nor text.
    """
    if not isinstance(groups, tuple | list) or len(groups) != 2:
        raise BadArgument("groups must be a pair: a label for each row of x, and one for each row of y")
    labels = [side.aligned(np.asarray(given)) for side, given in zip((p, q), groups, strict=True)]
    if any(given.dtype.kind not in "biuSU" for given in labels):
        raise BadArgument("groups must be whole numbers or text, one label a row")
    _, inverse = np.unique(np.concatenate(labels), return_inverse=True)
    return inverse[: len(labels[0])], inverse[len(labels[0]) :]


def _transformed(interval: Interval, f: Functional) -> Interval:
    if f.transform is None or f.slope is None:
        return interval
    value, low, high = (f.transform(v) for v in interval[:3])
    error = abs(f.slope(interval.value)) * interval.standard_error if interval.standard_error else 0.0
    return interval._replace(value=value, low=low, high=high, standard_error=error)


def _apart(columns: ConstantColumns, x: Samples, y: Samples) -> str:
    """Why constant columns prove the supports disjoint, so that D_f is its supremum; "" where they do not.

    A column constant in one set proves that only if the other set never takes its value: rare values may be unseen.
    """
    for j in columns.different:
        return f"disjoint support: {x.called(j)} is constant in each set with different values"
    for constant, one, other in ((columns.x_only, x.values, y.values), (columns.y_only, y.values, x.values)):
        for j in constant:
            if not np.any(other[:, j] == one[0, j]):
                return f"disjoint support: {x.called(j)} is constant in one set at a value the other never takes"
    return ""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One divergence between two sample sets, in nats, with its interval.

    Attributes:
        value: the estimate; inf only where that is provable.
        low, high: the interval at level `confidence`, nominal.
        standard_error: of `value`, over draws of the held-out samples.
        method: how it was estimated.
        n_p, n_q, dim: samples of P and of Q, and their dimension.
        warnings: what limits the number, in plain language.
        diagnostics: further figures.
        scores: held-out log-ratios, where the method has them.
    """

    divergence: str
    value: float
    low: float
    high: float
    standard_error: float
    confidence: float
    method: str
    n_p: int
    n_q: int
    dim: int
    warnings: tuple[str, ...] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    ratio: LogRatio | None = field(default=None, repr=False)
    scores: Scores | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls, name: str, interval: Interval, fit: Fit, request: Request, *, dim: int, notes: Sequence[str]
    ) -> Estimate:
        """The estimate of the divergence called `name`; `notes` are warnings about the samples, of dimension `dim`."""
        figures = interval._asdict() | {
            "warnings": (*notes, *interval.warnings),
            "diagnostics": {**fit.diagnostics, **interval.diagnostics},
        }
        return cls(
            divergence=name,
            confidence=request.confidence,
            method=fit.method,
            n_p=len(request.x),
            n_q=len(request.y),
            dim=dim,
            ratio=fit.log_ratio,
            scores=fit.scores,
            **figures,
        )

    @property
    def trust(self) -> str:
        """What to trust: that the interval covers, that its lower end does, or that it may not, and why."""
        return verdict(self.method, self.warnings)

    def explain(self) -> str:
        """The verdict, what each kind of warning means, and what to do, in plain words."""
        return "\n".join([self.trust, *explanation(self.warnings)])

    def log_ratio(self, points) -> np.ndarray:
        """[k] estimates of log p/q at `points` [k, d]. Raises ValueError where the method has none."""
        if self.ratio is None:
            raise ValueError(f"the {self.method} estimate holds no density ratio; use method='neural'")
        values = np.asarray(points, np.float64)
        values = values[:, None] if values.ndim == 1 and self.dim == 1 else values
        if values.ndim != 2 or values.shape[1] != self.dim:
            raise ValueError(f"points have shape {values.shape}, but the estimate's samples have dimension {self.dim}")
        return self.ratio(values)

    def plot(self, ax: Any = None) -> Any:
        """A picture of the fit: log-ratios under P and Q, their calibration, the bound over training; see `pictures`.

        With `ax` only the first is drawn, there. Returns the figure, or `ax`. ValueError where the method has no ratio.
        """
        from estimators.pictures import plot

        return plot(self, ax)

    def as_json(self) -> dict[str, Any]:
        """The object `fgan estimate --json` prints for one divergence; infinite and undefined numbers are None."""

        def number(x):
            return float(x) if math.isfinite(x) else None

        return {
            "divergence": self.divergence,
            **{name: number(getattr(self, name)) for name in ("value", "low", "high", "standard_error")},
            "method": self.method,
            "units": "nats",
            "confidence": self.confidence,
            "trust": self.trust,
            "lower_bound": number(self.diagnostics.get("lower_bound", math.nan)),
            "warnings": list(self.warnings),
        }
