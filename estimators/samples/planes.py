"""Columns that depend linearly on others, as dummies of a category or a sum beside its terms do.

A column that is the same linear function of others in both sets changes no divergence, and is left out. One that nearly
is gives way to the difference, an invertible change that shows it. Where one set alone fulfils an equation, and no row
of the other does, their supports are disjoint.
"""

from typing import NamedTuple, Self

import numpy as np
from scipy.linalg import lstsq

from estimators.samples.columns import decimals
from estimators.samples.names import NUMBERED, Called

ROUNDINGS = 8.0  # rounding errors of a number that an exact equation may leave: it takes a few operations
NEAR = 1e-3
"""Deviation from an equation, in standard deviations of the column, up to which it replaces the column: the difference
of two times stored as numbers of a year may be all that matters, and references do not see it beside them."""
SURE = 1e-7  # least eigenvalue of the correlations from which on no equation can hold to `NEAR`
MORE = 10  # rows beyond the columns that an equation needs: d + 2 rows of a continuous law fulfil none
LEAST_SLOPE = 1e-9
"""Share of the largest slope, in standard deviations, that rounding may leave of a column outside the equation."""


class Equation(NamedTuple):
    """A column and the columns of which it is nearly a linear function.

    `holds` says that it is, up to rounding; `error` is the root mean square of what it differs by, or of what rounding
    may leave where that is more.
    """

    column: int
    of: tuple[int, ...]
    slopes: tuple[float, ...]
    offset: float
    holds: bool
    error: float

    def words(self, called: Called = NUMBERED) -> str:
        """The equation in words, with the columns as messages have `called` them."""
        return f"{called(self.column)} is a linear function of {called(self.of)}"

    def __str__(self) -> str:
        return self.words()

    def residual(self, rows: np.ndarray) -> np.ndarray:
        """What the column differs by from its linear function [n], at rows of all columns."""
        return rows[:, self.column] - self.offset - rows[:, list(self.of)] @ np.array(self.slopes)


def equations(rows: np.ndarray, names: np.ndarray, near: float = NEAR) -> list[Equation]:
    """The columns of rows [n, d] that are linear functions of columns before them, up to `near` standard deviations.

    None may be constant; [] for n < d + 10. `names` [d] are their numbers among all columns.
    """
    n, d = rows.shape
    if d < 2 or n < d + MORE:
        return []
    z = standard(rows)
    if np.linalg.eigvalsh(z.T @ z / n)[0] > SURE:
        return []
    fitted = _LeastSquares.of(rows, z)
    flat = np.abs(np.diagonal(fitted.triangle)) < NEAR * np.sqrt(n)
    decided = np.zeros(d, bool)  # by others, up to rounding
    found = []
    for j in np.flatnonzero(flat).tolist():
        sure, before = np.flatnonzero(~flat[:j]), np.flatnonzero(~decided[:j])
        decided[j] = fitted(j, before, 0.0).holds
        shortest_first = (fitted(j, *of) for of in ((sure, NEAR), (before, LEAST_SLOPE), (before, 0.0)))
        limit = near * fitted.deviation[j] * fitted.unit[j]
        found += [e for e in shortest_first if (e.holds if decided[j] else e.error < limit)][:1]
    return [e._replace(column=int(names[e.column]), of=tuple(names[list(e.of)].tolist())) for e in found]


class _LeastSquares(NamedTuple):
    """Columns [n, d] in a `unit` each, their mean, deviation and rounding [d] in it, and the triangle of z = QR.

    z are the standardised columns: entry (j, j)² of the triangle, over n, is the variance that earlier columns leave in
    column j.
    """

    rows: np.ndarray
    unit: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    rounding: np.ndarray
    triangle: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, z: np.ndarray) -> Self:
        unit = np.abs(rows).max(axis=0)  # squares of very small numbers would be 0
        rounding, triangle = _typical(rounding_of(rows) / unit), np.asarray(np.linalg.qr(z, mode="r"))
        rows = rows / unit
        return cls(rows, unit, rows.mean(axis=0), rows.std(axis=0), rounding, triangle)

    def __call__(self, j: int, of: np.ndarray, least: float) -> Equation:
        """Column j from those `of` the columns before it whose slopes are at least that share of the largest."""
        slopes = lstsq(self.triangle[:j, of], self.triangle[:j, j], lapack_driver="gelsy")[0]
        if not (long := np.abs(slopes) >= least * np.abs(slopes).max()).all():
            return self(j, of[long], 0.0)
        slopes *= self.deviation[j] / self.deviation[of]
        offset = float(self.mean[j] - self.mean[of] @ slopes)
        left = float(_typical(self.rows[:, j] - offset - self.rows[:, of] @ slopes))
        rounding = float(self.rounding[j] + self.rounding[of] @ np.abs(slopes))
        unit, raw = float(self.unit[j]), tuple((slopes * self.unit[j] / self.unit[of]).tolist())
        return Equation(j, tuple(of.tolist()), raw, unit * offset, left <= rounding, unit * max(left, rounding))


def _typical(values: np.ndarray) -> np.ndarray:
    """Root mean squares over the first axis."""
    return np.sqrt(np.mean(values**2, axis=0))


def standard(values: np.ndarray) -> np.ndarray:
    """The columns of values [n, d], none constant, with mean 0 and standard deviation 1."""
    scaled = values / np.abs(values).max(axis=0)  # squares of very small numbers would be 0
    return (scaled - scaled.mean(axis=0)) / scaled.std(axis=0)


def rounding_of(values: np.ndarray) -> np.ndarray:
    """What rounding may change values [n, d] by: columns that float32 holds may have been rounded to it."""
    narrow = [np.array_equal(c.astype(np.float32), c) and decimals(c) is None for c in values.T]
    return ROUNDINGS * np.where(narrow, np.finfo(np.float32).eps, np.finfo(np.float64).eps) * np.abs(values)


def apart(x: np.ndarray, y: np.ndarray, columns: np.ndarray, called: Called = NUMBERED) -> str:
    """How the rows of one set fulfil an equation of `columns` that no row of the other does; "" where neither's do.

    That proves nothing of columns with few decimals, which take few values, or of few rows.
    """
    if min(len(x), len(y)) < x.shape[1] + MORE:
        return ""
    for rows, others, name, other in ((x, y, "x", "y"), (y, x, "y", "x")):
        varying = columns[np.ptp(rows[:, columns], axis=0) > 0.0]
        for equation in (e for e in equations(rows[:, varying], varying) if e.holds):
            here, there = np.abs(equation.residual(rows)).max(), np.abs(equation.residual(others)).min()
            far = 1.0 + (np.abs(others - rows.mean(axis=0)) / rows.std(axis=0))[:, list(equation.of)].max()
            full = all(decimals(rows[:, j]) is None for j in (equation.column, *equation.of))
            rounding = rounding_of(others[:, [equation.column]]).max()
            if full and there > 2.0 * far * max(here, rounding):
                return (
                    f"disjoint support: in {name} {equation.words(called)}, and no row of {other} fulfils that equation"
                )
    return ""


def reduced(rows: np.ndarray, found: list[Equation]) -> np.ndarray:
    """Rows with what columns differ by from their equations, where these do not hold, in place of the columns."""
    near = [equation for equation in found if not equation.holds]
    changed = rows.copy() if near else rows
    for equation in near:
        changed[:, equation.column] = equation.residual(rows)
    return changed
