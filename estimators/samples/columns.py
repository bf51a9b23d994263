"""What the numbers of a column are: measurements of full precision, or values on a grid of few decimals that repeat."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

MOST_DECIMALS = 6  # a float32 holds 7 digits: numbers that need more were not written down by hand, nor counted
FINE = 1e-3  # chance of so few digits, for want of more in the type, up to which they count
LEVELS = 10  # fewest values of a column whose grid is spoken of


def decimals(column: np.ndarray) -> int | None:
    """The digits after the point that a column [n] needs, 0 for whole numbers; None for more than `MOST_DECIMALS`, or
    than its type holds.

    Numbers that float32 holds are compared as float32: 0.1 stored so is 0.1.
    """
    values = np.unique(column)
    narrow = values.astype(np.float32)
    if np.array_equal(narrow, values):
        values = narrow
    gap = float(np.spacing(np.abs(values).max()))
    for digits in range(MOST_DECIMALS + 1):
        chance = gap * 10**digits  # that a number has so few digits because its type holds no more
        if chance >= 1.0:
            return None
        if np.array_equal(np.round(values.astype(np.float64), digits).astype(values.dtype), values):
            return digits if len(values) * math.log(chance) < math.log(FINE) else None
    return None


def written(values: np.ndarray) -> np.ndarray:
    """Which numbers have at most `MOST_DECIMALS` digits after the point, as 0, 3.7 or −999 have: bool, as `values`."""
    narrow = values.astype(np.float32)
    single = narrow == values
    gap = np.where(single, np.spacing(np.abs(narrow)).astype(np.float64), np.spacing(np.abs(values)))
    found = np.zeros(values.shape, bool)
    for digits in range(MOST_DECIMALS + 1):
        near = np.round(values, digits)
        found |= (gap * 10**digits <= FINE) & np.where(single, near.astype(np.float32) == narrow, near == values)
    return found


def grids(x: np.ndarray, y: np.ndarray, names: tuple[str, str], called: Sequence[str]) -> Iterator[str]:
    """Warnings of columns, as messages have `called` them, that one set holds to fewer decimals than the other."""
    for j, (p, q) in enumerate(zip(x.T, y.T, strict=True)):
        if min(len(np.unique(p)), len(np.unique(q))) < LEVELS:
            continue
        in_x, in_y = decimals(p), decimals(q)
        if in_x == in_y:
            continue
        words = [
            f"{name} to {'full precision' if k is None else f'{k} decimals'}" for name, k in zip(names, (in_x, in_y))
        ]
        fewer = min(k for k in (in_x, in_y) if k is not None)
        yield (
            f"{called[j]} is rounded differently, {' and '.join(words)}: as stored, one set has "
            f"values that the other cannot take, which alone makes divergences large; round both to {fewer} decimals "
            f"(decimals={fewer}, --round {fewer}), or take the numbers as continuous with method='neural'"
        )
