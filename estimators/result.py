"""What a method returns, `Fit`, and what the user gets, `Estimate`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from estimators.request import Request

LogRatio = Callable[[np.ndarray], np.ndarray]
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Scores(NamedTuple):
    """Held-out log-ratios of the samples of P [n] and of Q [m]."""

    log_p: np.ndarray
    log_q: np.ndarray


class Interval(NamedTuple):
    """The estimate of one divergence with its confidence interval, in nats.

    Attributes:
        value: inf only where that is provable.
        low, high: the interval.
        standard_error: of `value`.
        warnings: what limits the number, in plain language.
        diagnostics: further figures of this divergence, by name.
    """

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
    """What a method returns.

    Attributes:
        method: how it was estimated; for `auto` the method chosen.
        intervals: one for each divergence of the request, in its order.
        log_ratio: points [k, d] → log p/q [k], where the method has one.
        scores: held-out log-ratios, where the method has them.
        diagnostics: further figures of the fit, by name.
    """

    method: str
    intervals: Sequence[Interval]
    log_ratio: LogRatio | None = None
    scores: Scores | None = None
    diagnostics: Mapping[str, Any] = NOTHING


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One divergence between two sample sets, in nats, with its interval.

    Attributes:
        divergence: the divergence's name.
        value: the estimate; inf only where that is provable.
        low, high: the interval at level `confidence`.
        standard_error: of `value`, over draws of the held-out samples.
        confidence: nominal level of the interval.
        method: how it was estimated.
        n_p, n_q, dim: samples of P and of Q, and their dimension.
        warnings: what limits the number, in plain language.
        diagnostics: further figures by name.
        ratio: points [k, d] → log p/q, behind `log_ratio`.
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
        return cls(
            divergence=name,
            value=interval.value,
            low=interval.low,
            high=interval.high,
            standard_error=interval.standard_error,
            confidence=request.confidence,
            method=fit.method,
            n_p=len(request.x),
            n_q=len(request.y),
            dim=dim,
            warnings=(*notes, *interval.warnings),
            diagnostics={**fit.diagnostics, **interval.diagnostics},
            ratio=fit.log_ratio,
            scores=fit.scores,
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
            "value": number(self.value),
            "low": number(self.low),
            "high": number(self.high),
            "standard_error": number(self.standard_error),
            "method": self.method,
            "units": "nats",
            "confidence": self.confidence,
            "lower_bound": number(self.diagnostics.get("lower_bound", math.nan)),
            "warnings": list(self.warnings),
        }
