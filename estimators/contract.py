"""What passes between user, front doors and methods: a method takes a `Request` and returns a `Fit`, of which the user
gets one `Estimate` for each divergence.

Imports no jax, so that help can list `METHODS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from estimators.rooms import Room
from estimators.samples.arrays import Samples
from estimators.samples.folds import Groups

if TYPE_CHECKING:
    from estimators.divergences.generator import FDivergence

METHODS = Room("estimators.methods", "METHODS", "estimate")
"""Every way of estimating by name: a function Request → Fit. A file of the room offers one or more."""
LogRatio = Callable[[np.ndarray], np.ndarray]
"""Points [k, d] → log p/q [k], in nats."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


class BadArgument(ValueError):
    """A setting with which nothing can be estimated; the message says which can."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Which divergences D_f(P‖Q) to estimate, and from which samples.

    Attributes:
        x, y: samples of P [n, d] and of Q [m, d], float64, finite.
        method: the name in `METHODS` that the user chose; a file that offers several tells them apart by it.
        groups: labels of the samples of P [n] and of Q [m], or [n, k] where a sample belongs to k groups. Samples of
            one group are not independent of each other. All are independent if None.
    """

    x: np.ndarray
    y: np.ndarray
    divergences: Sequence[FDivergence]
    method: str
    seed: int = 0
    confidence: float = 0.95
    groups: Groups | None = None

    @property
    def quantile(self) -> float:
        """Standard errors from a normal estimate to either end of its interval."""
        return float(ndtri(0.5 + 0.5 * self.confidence))


class Scores(NamedTuple):
    """Held-out log-ratios of the samples of P [n] and of Q [m]."""

    log_p: np.ndarray
    log_q: np.ndarray


class Interval(NamedTuple):
    """The estimate of one divergence with its confidence interval [low, high], in nats, as in `Estimate`."""

    value: float
    low: float
    high: float
    standard_error: float
    warnings: tuple[str, ...] = ()
    diagnostics: Mapping[str, Any] = NOTHING

    @classmethod
    def around(cls, value: float, error: float, quantile: float, least: float, most: float) -> Interval:
        """value ± quantile × error, all three inside [least, most]; all of it where the error is not finite."""
        margin = quantile * error
        if not math.isfinite(margin):
            return cls(min(max(value, least), most), least, most, error)
        value, low, high = (min(max(v, least), most) for v in (value, value - margin, value + margin))
        return cls(value, low, high, error)


class Fit(NamedTuple):
    """What a method returns: how it was estimated (for `auto` the method chosen), and an interval for each divergence
    of the request, in its order. The log-ratio and the held-out scores are there where the method has them."""

    method: str
    intervals: Sequence[Interval]
    log_ratio: LogRatio | None = None
    scores: Scores | None = None
    diagnostics: Mapping[str, Any] = NOTHING


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
            "lower_bound": number(self.diagnostics.get("lower_bound", math.nan)),
            "warnings": list(self.warnings),
        }


def check_settings(seed: int, confidence: float, method: str | None = None, methods: Sequence[str] = ()) -> None:
    """Raise BadArgument for a seed, a level or a method that cannot be."""
    if method is not None and method not in methods:
        raise BadArgument(f"unknown method {method!r}; choose from {', '.join(methods)}")
    if not 0.0 < confidence < 1.0:
        raise BadArgument(f"confidence = {confidence}: must lie strictly between 0 and 1")
    if not 0 <= seed < 2**32:
        raise BadArgument(f"seed = {seed}: must be a whole number from 0 to 2^32 - 1")


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
