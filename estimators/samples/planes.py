"""Columns that depend linearly on others, as dummies of a category or a sum beside its terms do.

A column that is the same linear function of others in both sets changes no divergence, and is left out. Where one set
alone fulfils such an equation, and no row of the other does, their supports are disjoint.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FLAT = 3e-6
"""Deviation from an equation, in standard deviations of the column, up to which it counts as fulfilled: a sum of ten
numbers that float32 holds is off by up to 10⁻⁶ of it."""
SURE = 1e-8  # least eigenvalue of the correlations from which on no equation can hold to `FLAT`, rounding included
MORE = 10  # rows beyond the columns that an equation needs: d + 2 rows of a continuous law fulfil none


class Equation(NamedTuple):
    """A column and the columns of which it is a linear function."""

    column: int
    of: tuple[int, ...]

    def __str__(self) -> str:
        others = [str(j) for j in self.of]
        listed = others[0] if len(others) == 1 else f"{', '.join(others[:-1])} and {others[-1]}"
        return f"column {self.column} is a linear function of column{'s' * (len(others) > 1)} {listed}"


def equations(rows: np.ndarray, names: np.ndarray) -> list[Equation]:
    """The columns of rows [n, d] that are linear functions of columns before them; [] for n < d + 10.

    None is constant. `names` [d] are their numbers in the result.
    """
    n, d = rows.shape
    if d < 2 or n < d + MORE:
        return []
    z = rows - rows.mean(axis=0)
    z /= np.maximum(z.std(axis=0), np.finfo(float).tiny)
    if np.linalg.eigvalsh(z.T @ z / n)[0] > SURE:
        return []
    # entry (j, j)² of the triangle, over n, is the variance that earlier columns leave in column j
    triangle = np.asarray(np.linalg.qr(z, mode="r"))
    flat = np.abs(np.diagonal(triangle)) < FLAT * np.sqrt(n)
    found = []
    for j in np.flatnonzero(flat):
        before = np.flatnonzero(~flat[:j])
        slopes = np.linalg.lstsq(triangle[:j, before], triangle[:j, j], rcond=None)[0]
        found.append(Equation(int(names[j]), tuple(names[before[np.abs(slopes) > FLAT]].tolist())))
    return found


def apart(x: np.ndarray, y: np.ndarray) -> str:
    """How the rows of one set fulfil an equation that no row of the other does; "" where neither's do."""
    for rows, others, name, other in ((x, y, "x", "y"), (y, x, "y", "x")):
        mean, deviation = rows.mean(axis=0), rows.std(axis=0)
        varying = np.flatnonzero(deviation > 0.0)
        for equation in equations(rows[:, varying], varying):
            column, of = equation.column, list(equation.of)
            slopes = np.linalg.lstsq(rows[:, of] - mean[of], rows[:, column] - mean[column], rcond=None)[0]
            off = np.abs(others[:, column] - mean[column] - (others[:, of] - mean[of]) @ slopes)
            if (off > FLAT * deviation[column] * (1.0 + np.abs(slopes).sum())).all():
                return f"disjoint support: in {name} {equation}, and no row of {other} fulfils that equation"
    return ""
