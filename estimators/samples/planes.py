"""Columns that depend linearly on others, as dummies of a category or a sum beside its terms do.

A column that is the same linear function of others in both sets changes no divergence, and is left out. One that nearly
is gives way to the difference, an invertible change that shows it. Where one set alone fulfils an equation, and no row
of the other does, their supports are disjoint.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from estimators.samples.columns import decimals
from estimators.samples.names import NUMBERED, Called

ROUNDINGS = 8.0  # units in the last place that a sum of a few numbers may be off by
NEAR = 1e-3
"""Deviation from an equation, in standard deviations of the column, up to which it replaces the column: the difference
of two times stored as numbers of a year may be all that matters, and references do not see it beside them."""
SURE = 1e-7  # least eigenvalue of the correlations from which on no equation can hold to `NEAR`
MORE = 10  # rows beyond the columns that an equation needs: d + 2 rows of a continuous law fulfil none


class Equation(NamedTuple):
    """A column and the columns of which it is nearly a linear function; `holds` says that it is, up to rounding."""

    column: int
    of: tuple[int, ...]
    slopes: tuple[float, ...]
    offset: float
    holds: bool

    def words(self, called: Called = NUMBERED) -> str:
        """The equation in words, with the columns as messages have `called` them."""
        return f"{called(self.column)} is a linear function of {called(self.of)}"

    def __str__(self) -> str:
        return self.words()

    def residual(self, rows: np.ndarray) -> np.ndarray:
        """What the column differs by from its linear function [n], at rows of all columns."""
        return rows[:, self.column] - self.offset - rows[:, list(self.of)] @ np.array(self.slopes)


def equations(rows: np.ndarray, names: np.ndarray) -> list[Equation]:
    """The columns of rows [n, d] that are nearly linear functions of columns before them; [] for n < d + 10.

    None is constant. `names` [d] are their numbers among all columns.
    """
    n, d = rows.shape
    if d < 2 or n < d + MORE:
        return []
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    z = (rows - mean) / np.maximum(deviation, np.finfo(float).tiny)
    if np.linalg.eigvalsh(z.T @ z / n)[0] > SURE:
        return []
    # entry (j, j)² of the triangle, over n, is the variance that earlier columns leave in column j
    triangle = np.asarray(np.linalg.qr(z, mode="r"))
    flat = np.abs(np.diagonal(triangle)) < NEAR * np.sqrt(n)
    found = []
    for j in np.flatnonzero(flat):
        before = np.flatnonzero(~flat[:j])
        slopes = np.linalg.lstsq(triangle[:j, before], triangle[:j, j], rcond=None)[0]
        of = before[np.abs(slopes) > NEAR * np.abs(slopes).max()]
        exact = np.linalg.lstsq(z[:, of], z[:, j], rcond=None)[0] * deviation[j] / deviation[of]
        offset = float(mean[j] - mean[of] @ exact)
        off = np.abs(rows[:, j] - offset - rows[:, of] @ exact)
        holds = off.max() <= (_precision(rows[:, [j, *of]]) * np.r_[1.0, np.abs(exact)]).sum()
        places = tuple(names[of].tolist())
        found.append(Equation(int(names[j]), places, tuple(exact.tolist()), offset, bool(holds)))
    return found


def _precision(rows: np.ndarray) -> np.ndarray:
    """What rounding may change the numbers of each column by [d]: those that float32 holds may have been rounded to."""
    largest = np.abs(rows).max(axis=0)
    narrow = np.array([np.array_equal(c.astype(np.float32), c) and decimals(c) is None for c in rows.T])
    return ROUNDINGS * largest * np.where(narrow, np.finfo(np.float32).eps, np.finfo(np.float64).eps)


def apart(x: np.ndarray, y: np.ndarray, columns: np.ndarray, called: Called = NUMBERED) -> str:
    """How the rows of one set fulfil an equation of `columns` that no row of the other does; "" where neither's do.

    That proves nothing of columns with few decimals, which take few values, or of few rows.
    """
    if min(len(x), len(y)) < x.shape[1] + MORE:
        return ""
    for rows, others, name, other in ((x, y, "x", "y"), (y, x, "y", "x")):
        varying = columns[rows[:, columns].std(axis=0) > 0.0]
        for equation in (e for e in equations(rows[:, varying], varying) if e.holds):
            here, there = np.abs(equation.residual(rows)).max(), np.abs(equation.residual(others)).min()
            far = 1.0 + (np.abs(others - rows.mean(axis=0)) / rows.std(axis=0))[:, list(equation.of)].max()
            full = all(decimals(rows[:, j]) is None for j in (equation.column, *equation.of))
            if full and there > 2.0 * far * max(here, _precision(others)[equation.column]):
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
