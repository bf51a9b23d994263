"""The contract of front doors and methods: a method takes a `Request` and returns a `Fit`.

Imports no jax, so that help can list `METHODS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from estimators.rooms import Room
from estimators.samples.arrays import DataError, Groups
from estimators.samples.names import called

if TYPE_CHECKING:
    from estimators.divergences.generator import FDivergence

METHODS = Room("estimators.methods", "METHODS", "estimate")
"""Every way of estimating by name: a function Request → Fit. A file of the room offers one or more."""
LogRatio = Callable[[np.ndarray], np.ndarray]
"""Points [k, d] → log p/q [k], in nats."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Which divergences D_f(P‖Q) to estimate, and from which samples.

    Attributes:
        x, y: samples of P [n, d] and of Q [m, d], float64, finite.
        method: the name in `METHODS` that the user chose; a file that offers several tells them apart by it.
        groups: labels of the samples of P [n] and of Q [m], or [n, k] where a sample belongs to k groups. Samples of
            one group are not independent of each other. All are independent if None.
        categories: the columns that hold codes of categories, whose order and distances mean nothing.
        columns: how messages call the columns.
    """

    x: np.ndarray
    y: np.ndarray
    divergences: Sequence[FDivergence]
    method: str
    seed: int = 0
    confidence: float = 0.95
    groups: Groups | None = None
    categories: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()

    def called(self, column: int) -> str:
        """How messages call a column of `x` and `y`."""
        return self.columns[column] if self.columns else called(column, ())

    def require_numbers(self) -> None:
        """Raise DataError where a column holds categories, for methods that know numbers only."""
        if self.categories:
            raise DataError(
                f"{self.called(self.categories[0])} holds categories, but method {self.method!r} takes numbers only; "
                "choose auto, neural or counts, or drop the column"
            )

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
