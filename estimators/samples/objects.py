"""Arrays and data frames whose columns hold objects: numbers, truth values, dates or words, each read as such."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from estimators.samples.categories import DATES, DAYS, IN_UTC, Meaning, meaning
from estimators.samples.names import Where, called, cell_of, find, recalling
from estimators.samples.raw import DataError, Raw, printable
from estimators.samples.written import DAY, FINE, FLAGS, MOMENT, NUMBERS

KNOWN = (str, bool, int, float, np.bool_, np.number, Decimal, Fraction, date)
"""Types that cells may have: none runs code of its own."""
DURATIONS = "durations: taken as days"


def names_of(array: Any) -> tuple[str, ...]:
    """The names of the columns of a data frame or table, () of anything else."""
    found = getattr(array, "column_names", None) or getattr(array, "columns", ())
    found = tuple(found) if found is not None and hasattr(array, "shape") else ()
    return tuple(map(str, found)) if any(isinstance(name, str) for name in found) else ()


def of_frame(frame: Any, drop: Sequence[str], categorical: Sequence[str], absent_ok: bool) -> Raw:
    """The columns of a data frame, with their names unless these are numbers."""
    found, names = tuple(frame.columns), names_of(frame)
    at = frame.iloc if hasattr(frame, "iloc") else None
    series = [frame[name] if at is None else at[:, j] for j, name in enumerate(found)]
    coded = [j for j, column in enumerate(series) if str(column.dtype).lower().startswith("categor")]
    columns = list(map(np.asarray, series))
    if not coded and columns and len({c.dtype for c in columns}) == 1 and columns[0].dtype.kind in "biuf":
        types = {j: _type(column) for j, column in enumerate(columns)}
        flags = {j: FLAGS for j, column in enumerate(columns) if column.dtype.kind == "b"}
        return Raw(np.stack(columns, axis=1), columns=names, types=types, written=flags)
    return of_columns(columns, names, len(frame), drop, categorical, absent_ok, coded)


def of_columns(
    columns: Sequence[np.ndarray],
    names: tuple[str, ...],
    rows: int,
    drop: Sequence[str],
    categorical: Sequence[str],
    absent_ok: bool = False,
    coded: Sequence[int] = (),
) -> Raw:
    """Columns of any type, [rows] each, as numbers, those `coded` and those that are `categorical` as categories.

    What one that is to `drop` holds is not asked.

    Raises DataError: a column that is neither numbers, dates nor categories.
    """
    ignored, absent = find(drop, names, len(columns), 0, absent_ok)
    forced, _ = find(categorical, names, len(columns), 0)
    kept = [j for j in range(len(columns)) if j not in ignored]
    with recalling(absent, names):
        found = {j: read(columns[j], cell_of(called(j, names)), j in forced or j in coded) for j in kept}
    types = {j: _type(columns[j]) for j in kept}
    return of_meanings(found, names, rows, len(columns))._replace(types=types)


def of_meanings(columns: dict[int, Meaning], names: tuple[str, ...], rows: int, width: int) -> Raw:
    """Columns that were read, by number, of a table [rows, width]; the others, which will be dropped, are 0."""
    values = np.zeros((rows, width))
    for j, column in columns.items():
        values[:, j] = column.values
    notes = [f"{called(j, names)} holds {column.note}" for j, column in columns.items() if column.note]
    levels = {j: column.levels for j, column in columns.items() if column.levels}
    units = {j: column.unit for j, column in columns.items() if column.unit}
    written = {j: column.written for j, column in columns.items() if column.written}
    return Raw(values, tuple(notes), columns=names, levels=levels, units=units, written=written)


def read(cells: np.ndarray, where: Where, forced: bool = False) -> Meaning:
    """What a column [n] of any type holds.

    Raises DataError: objects of other types, or words that hardly repeat.
    """
    if cells.dtype.kind in "biuf" and not forced:
        return Meaning(cells.astype(np.float64), written=FLAGS if cells.dtype.kind == "b" else "")
    if cells.dtype.kind in "mM" and not forced:
        return of_times(cells)
    numbers = cells.dtype.kind in "iuf"
    cells = cells.astype(object)
    missing = np.array([_missing(cell) for cell in cells], bool)
    present, values = cells[~missing], np.full(len(cells), np.nan)
    for row in np.flatnonzero(~missing):
        if not isinstance(cells[row], KNOWN):
            kind = printable(type(cells[row]).__name__)
            raise DataError(f"{where(int(row))} is of type {kind}: neither number, text nor date; drop the column")
    if len(present) and all(isinstance(cell, date) for cell in present):
        moments, zoned = zip(*map(_in_utc, present), strict=True)
        values[~missing] = of_times(np.array(moments, "M8[us]")).values
        timed = any(isinstance(cell, datetime) for cell in present)
        return Meaning(values, (), DATES + (IN_UTC if any(zoned) else ""), DAYS, MOMENT if timed else DAY)
    if not forced and not any(isinstance(cell, str | date) for cell in present):
        values[~missing] = [float(cell) for cell in present]
        return Meaning(values, (), "objects: taken as the numbers they stand for" if len(present) else "")
    words, values[~missing] = np.unique(present.astype(str), return_inverse=True)
    found = meaning(list(map(str, words)), values, where, forced)
    return found._replace(written=NUMBERS) if numbers else found


def _type(column: np.ndarray) -> str:
    """How a column was stored: numbers by the name of their type, anything else as text, "" for dates and objects that
    are no words."""
    if column.dtype.kind in "biuf":
        return str(column.dtype)
    words = column.dtype.kind in "UT" or any(isinstance(cell, str) for cell in column[:100])
    return "text" if words else ""


def of_times(times: np.ndarray) -> Meaning:
    """Dates as days since 1970, or durations as days [n]; NaT is missing."""
    is_date = times.dtype.kind == "M"
    days = np.where(
        np.isnat(times), np.nan, times.astype("M8[us]" if is_date else "m8[us]").astype(np.float64) / 86_400e6
    )
    seconds = days[np.isfinite(days)] * 86_400
    style = MOMENT if np.abs(seconds - np.round(seconds)).max(initial=0.0) < 1e-5 else FINE
    return Meaning(days, (), DATES, DAYS, style) if is_date else Meaning(days, (), DURATIONS, "days")


def _in_utc(moment: date) -> tuple[date, bool]:
    """The same moment without a zone, and whether it had one."""
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        return moment, False
    return moment.astimezone(UTC).replace(tzinfo=None), True


def _missing(cell: Any) -> bool:
    """None, NaN, NaT and pandas' NA: what does not equal itself, or will not say."""
    try:
        return cell is None or bool(cell != cell)
    except (TypeError, ValueError, ArithmeticError):
        return True
