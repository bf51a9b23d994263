"""Arrays and data frames whose columns hold objects: numbers, truth values, dates or words, each read as such."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from estimators.samples.categories import INDEX, INDEX_NAMES, Where, is_index, label, meaning
from estimators.samples.raw import DataError, Raw, printable

KNOWN = (str, bool, int, float, np.bool_, np.number, Decimal, Fraction, date)
"""Types that cells may have: none runs code of its own."""
DATES = "dates: taken as days since 1970-01-01"


def of_frame(frame: Any, drop: Sequence[str], categorical: Sequence[str]) -> Raw:
    """The columns of a data frame, with their names unless these are numbers."""
    found = tuple(frame.columns)
    names = tuple(map(str, found)) if any(isinstance(name, str) for name in found) else ()
    at = frame.iloc if hasattr(frame, "iloc") else None
    series = [frame[name] if at is None else at[:, j] for j, name in enumerate(found)]
    coded = [j for j, column in enumerate(series) if str(column.dtype).lower().startswith("categor")]
    columns = list(map(np.asarray, series))
    numeric = bool(columns) and columns[0].dtype.kind in "iuf" and len(columns) > 1
    if names and numeric and INDEX_NAMES.fullmatch(names[0]) and is_index(columns[0], names[0]):
        rest = of_frame(at[:, 1:] if at is not None else frame[list(found[1:])], drop, categorical)
        return rest._replace(notes=(INDEX, *rest.notes))
    if not coded and columns and len({c.dtype for c in columns}) == 1 and columns[0].dtype.kind in "biuf":
        return Raw(np.stack(columns, axis=1), columns=names)
    return of_columns(columns, names, len(frame), drop, categorical, coded)


def of_columns(
    columns: Sequence[np.ndarray],
    names: tuple[str, ...],
    rows: int,
    drop: Sequence[str],
    categorical: Sequence[str],
    coded: Sequence[int] = (),
) -> Raw:
    """Columns of any type, [rows] each, as numbers, those `coded` and those that are `categorical` as categories.

    What one that is to `drop` holds is not asked.

    Raises DataError: a column that is neither numbers, dates nor categories.
    """
    values, levels, notes = np.zeros((rows, len(columns))), {}, []
    for j, column in enumerate(columns):
        known = names[j] if names else str(j)
        if known in drop:
            continue
        called = label(j, names, 0)
        where = lambda row, called=called: f"row {row}, {called}"  # noqa: E731
        values[:, j], found, what = read(column, where, known in categorical or j in coded)
        notes += [f"{called} holds {what}"] if what else []
        if found:
            levels[j] = found
    return Raw(values, tuple(notes), columns=names, levels=levels)


def read(cells: np.ndarray, where: Where, forced: bool = False) -> tuple[np.ndarray, tuple[str, ...], str]:
    """(values, categories, what they were) of a column [n] of any type: values are float64, NaN where missing.

    Raises DataError: objects of other types, or words that hardly repeat.
    """
    if cells.dtype.kind in "biuf" and not forced:
        return cells.astype(np.float64), (), ""
    if cells.dtype.kind == "M" and not forced:
        return _days(cells), (), DATES
    cells = cells.astype(object)
    missing = np.array([_missing(cell) for cell in cells], bool)
    present, values = cells[~missing], np.full(len(cells), np.nan)
    for row in np.flatnonzero(~missing):
        if not isinstance(cells[row], KNOWN):
            kind = printable(type(cells[row]).__name__)
            raise DataError(f"{where(int(row))} is of type {kind}: neither number, text nor date; drop the column")
    if len(present) and all(isinstance(cell, date) for cell in present):
        values[~missing] = _days(np.array(present, "M8[us]"))
        return values, (), DATES
    if not forced and (numbers := _numbers(present)) is not None:
        values[~missing] = numbers
        return values, (), "objects: taken as the numbers they stand for"
    words, values[~missing] = np.unique(present.astype(str), return_inverse=True)
    return meaning(list(map(str, words)), values, where, forced)


def _numbers(cells: np.ndarray) -> np.ndarray | None:
    """The numbers that objects or texts stand for, None if one stands for none (1_000, which float takes, is text)."""
    if any(isinstance(cell, date) or (isinstance(cell, str) and "_" in cell) for cell in cells):
        return None
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError:
        return None


def _days(times: np.ndarray) -> np.ndarray:
    return np.where(np.isnat(times), np.nan, times.astype("M8[us]").astype(np.float64) / 86_400e6)


def _missing(cell: Any) -> bool:
    """None, NaN, NaT and pandas' NA: what does not equal itself, or will not say."""
    try:
        return cell is None or bool(cell != cell)
    except (TypeError, ValueError, ArithmeticError):
        return True
