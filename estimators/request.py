"""What a method is asked, in one checked object, and the table of the methods.

Imports no jax, so that help can list `METHODS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from estimators.rooms import Room
from estimators.samples.arrays import Samples
from estimators.samples.folds import Groups

if TYPE_CHECKING:
    from estimators.divergences.generator import FDivergence

METHODS = Room("estimators.methods", "METHODS", "estimate")
"""Every way of estimating by name: a function Request → Fit. A file of the room offers one or more."""


class BadArgument(ValueError):
    """A setting with which nothing can be estimated; the message says which can."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Which divergences D_f(P‖Q) to estimate, and from which samples.

    Attributes:
        x, y: samples of P [n, d] and of Q [m, d], float64, finite.
        divergences: one fit serves them all.
        method: the name in `METHODS` that the user chose; a file that offers several tells them apart by it.
        seed: of everything random.
        confidence: level of the intervals.
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

    Raises:
        DataError, BadArgument: labels that are not one a row, or neither whole numbers nor text.
    """
    if not isinstance(groups, tuple | list) or len(groups) != 2:
        raise BadArgument("groups must be a pair: a label for each row of x, and one for each row of y")
    labels = [side.aligned(np.asarray(given)) for side, given in zip((p, q), groups, strict=True)]
    if any(given.dtype.kind not in "biuSU" for given in labels):
        raise BadArgument("groups must be whole numbers or text, one label a row")
    _, inverse = np.unique(np.concatenate(labels), return_inverse=True)
    return inverse[: len(labels[0])], inverse[len(labels[0]) :]
