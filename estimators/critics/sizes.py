"""Few sizes of arrays for any number of rows, so that another length compiles nothing: k · 2^i, k = 4 to 7."""

from __future__ import annotations

import numpy as np


def round_down(rows: int) -> int:
    """The largest size that is at most `rows`: at least four fifths of it."""
    step = _step(rows)
    return rows // step * step


def round_up(rows: int) -> int:
    """The smallest size that is at least `rows`: at most five quarters of it."""
    step = _step(rows)
    return -(-rows // step) * step


def _step(rows: int) -> int:
    return 1 << max(rows.bit_length() - 3, 0)


def filled(array: np.ndarray, rows: int) -> np.ndarray:
    """The array with rows of zeros at its end, `rows` in all."""
    return np.concatenate([array, np.zeros((rows - len(array), *array.shape[1:]), array.dtype)])


def thinned(array: np.ndarray, rows: int) -> np.ndarray:
    """So many rows of the array, evenly."""
    return array[np.linspace(0, len(array) - 1, rows).round().astype(np.intp)]
