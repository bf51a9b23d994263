"""Columns by name or number: how messages call them, which a person means, which only number the rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np

from estimators.samples.cells import level
from estimators.samples.raw import DataError, NoColumn, Raw, printable
from estimators.samples.written import NUMBERS

LISTED = 5  # columns that a message names before it counts the others
INDEX_NAMES = re.compile(r"|index|unnamed: \d+|__index_level_\d+__", re.IGNORECASE)
"""Names that say a column is an index: none, of a first column, and those that pandas gives."""
IDENTIFIERS = re.compile(r"(.*[^A-Za-z])?(id|ID|Id)|.*[a-z](Id|ID)|[Rr]ow([ _.-]?(id|names?|number|no))?")
INDEX = "taken for an index and dropped"
IF_INDEX = "if it numbers the rows, leave it out (drop=, --drop)"
ONCE = 10  # rows from which on whole numbers without a gap, each once, are no chance
Called = Callable[[int | Sequence[int]], str]
"""How messages call columns, by their numbers."""
Where = Callable[[int], str]
"""How messages call a cell of a column, by the index of its row."""


def called(columns: int | Sequence[int], names: Sequence[str], start: int = 0, places: Sequence[int] = ()) -> str:
    """How messages call columns: by number, counted from `start` as the person who made the table counts them, and by
    name where they have one. `places` are their numbers, from 0, before others were dropped."""
    found = [columns] if isinstance(columns, int | np.integer) else list(columns)
    words = [
        f"{(places[j] if places else j) + start}" + (f" ({printable(names[j])})" if names and names[j] else "")
        for j in found[:LISTED]
    ]
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return f"column{'s' if len(found) > 1 else ''} {', '.join(words)}{more}"


NUMBERED: Called = partial(called, names=())


def cell_of(column: str, lines: np.ndarray | None = None) -> Where:
    """How messages call the cells of a column that is called `column`, by their `lines` in a text if they have any."""
    return lambda row: f"row {row if lines is None else lines[row]}, {column}"


def find(
    wanted: Sequence[str], names: Sequence[str], width: int, start: int, absent_ok: bool = False
) -> tuple[list[int], tuple[str, ...]]:
    """(the columns that are `wanted`, by name, or where they have no names by number, counted from `start`; those of
    `wanted` that do not exist).

    Raises NoColumn: there is none of that name, unless that is `absent_ok`.
    """
    known = list(names) or [str(j + start) for j in range(width)]
    absent = tuple(name for name in wanted if name not in known)
    if absent and not absent_ok:
        error = NoColumn(_none_of(absent, known))
        error.column = absent[0]
        raise error
    return [j for j, name in enumerate(known) if name in wanted], absent


def _none_of(absent: Sequence[str], known: Sequence[str]) -> str:
    return f"no column {printable(absent[0])!r}; the columns are {listed(known)}"


@contextmanager
def recalling(absent: Sequence[str], names: Sequence[str]) -> Iterator[None]:
    """Say with a DataError that a column to drop is `absent`, which may be why there is an error."""
    try:
        yield
    except DataError as error:
        if not absent:
            raise
        known = f", {_none_of(absent, names)}" if names else f" and no column {printable(absent[0])!r}"
        raise error.again(f"{error}{known}") from error.__cause__


def listed(known: Sequence[str]) -> str:
    """The names of columns as messages list them."""
    return printable(", ".join(known[:20])) + (f" and {len(known) - 20} more" if len(known) > 20 else "")


def select(raw: Raw, drop: Sequence[str] = (), categorical: Sequence[str] = (), absent_ok: bool = False) -> Raw:
    """`raw` without the columns to `drop`, with numbers in those that are `categorical` replaced by codes.

    Columns without names are counted from 1 in text, from 0 in arrays.

    Raises DataError: a column that does not exist (one to drop may be absent if that is `absent_ok`), or an array
        without columns.
    """
    if not (drop or categorical):
        return raw
    if raw.array.ndim != 2:
        raise DataError(f"shape {raw.array.shape} has no columns to drop or to take as categories; give two axes")
    width = raw.array.shape[1]
    dropped, absent = find(drop, raw.columns, width, raw.start, absent_ok)
    coded, _ = find(categorical, raw.columns, width, raw.start)
    array, levels, written, notes = raw.array, dict(raw.levels), dict(raw.written), []
    for j in coded:
        if j in levels or j in dropped:
            continue
        array = array.astype(np.float64) if array is raw.array else array
        finite = np.isfinite(array[:, j])
        numbers, codes = np.unique(array[finite, j], return_inverse=True)
        array[finite, j] = codes
        levels[j], written[j] = tuple(map(level, numbers)), NUMBERS
        notes.append(f"{called(j, raw.columns, raw.start)}: taken as {len(numbers)} categories")
    units = {j: unit for j, unit in raw.units.items() if j not in levels}
    raw = raw._replace(array=array, levels=levels, units=units, written=written, absent=absent)
    raw = raw._replace(notes=(*raw.notes, *notes))
    return without(raw, dropped, f"dropped {called(dropped, raw.columns, raw.start)}") if dropped else raw


def without(raw: Raw, dropped: Sequence[int], *notes: str) -> Raw:
    """`raw` without some columns; the others keep their places."""
    kept = [j for j in range(raw.array.shape[1]) if j not in set(dropped)]
    return raw._replace(
        array=raw.array[:, kept],
        notes=(*raw.notes, *notes),
        columns=tuple(raw.columns[j] for j in kept) if raw.columns else (),
        header=tuple(raw.header[j] for j in kept) if raw.header else (),
        types={new: raw.types[j] for new, j in enumerate(kept) if j in raw.types},
        levels={new: raw.levels[j] for new, j in enumerate(kept) if j in raw.levels},
        units={new: raw.units[j] for new, j in enumerate(kept) if j in raw.units},
        written={new: raw.written[j] for new, j in enumerate(kept) if j in raw.written},
        places=tuple(raw.places[j] if raw.places else j for j in kept),
    )


def each_once(values: np.ndarray) -> bool:
    """Whether values [n] are the whole numbers from the least to the largest, each once, in any order: `ONCE` rows of
    independent draws never are."""
    n = len(values)
    if n < ONCE or not np.isfinite(values).all() or values.max() - values.min() != n - 1 or np.any(values % 1):
        return False
    return len(np.unique(values)) == n


def is_index(values: np.ndarray, name: str | None, first: bool = True) -> bool:
    """Whether a column [n] of a table is a row index: whole numbers that all differ below the `name` of an index (None
    without a header), or in the `first` column of a text numbers that count the rows, or did before a shuffle."""
    if len(values) < 3 or not np.isfinite(values).all() or np.any(values % 1):
        return False
    if name is not None and (first or name.strip()) and INDEX_NAMES.fullmatch(name.strip()):
        return len(np.unique(values)) == len(values)
    if name is not None and IDENTIFIERS.fullmatch(name.strip()) and each_once(values):
        return True
    return first and bool(np.all(np.diff(values) == 1) or (name is None and each_once(values)))


def is_called_an_identifier(values: np.ndarray, name: str | None) -> bool:
    """Whether a column is called `id` or the like and holds whole numbers that all differ, as numbers of rows do."""
    whole = len(values) >= ONCE and bool(np.isfinite(values).all()) and not np.any(values % 1)
    return whole and bool(name and IDENTIFIERS.fullmatch(name.strip())) and len(np.unique(values)) == len(values)


def without_index(raw: Raw) -> Raw:
    """`raw` without columns that number its rows, with a note; and with a note on what may be such a column."""
    if raw.array.ndim != 2 or raw.array.shape[1] < 2 or not len(raw.array) or raw.array.dtype.kind not in "iuf":
        return raw
    with np.errstate(invalid="ignore", over="ignore"):
        dense = raw.array.max(axis=0) - raw.array.min(axis=0) == len(raw.array) - 1
    text, found, notes = raw.lines is not None, [], []
    for j in np.flatnonzero(dense | bool(raw.columns) | text).tolist():
        if j in raw.levels or j in raw.units:
            continue
        name, place = raw.columns[j] if raw.columns else None, raw.places[j] if raw.places else j
        column = raw.array[:, j]
        words = called(j, raw.columns, raw.start, raw.places)
        if is_index(column, name, first=text and place == 0):
            found.append(j)
            notes.append(f"{words} numbers the rows: {INDEX}")
        elif each_once(column):
            notes.append(
                f"{words} holds each whole number from {column.min():.0f} to {column.max():.0f} once; {IF_INDEX}"
            )
        elif is_called_an_identifier(column, name):
            notes.append(f"{words} holds whole numbers that all differ; {IF_INDEX}")
    if len(found) == raw.array.shape[1]:
        return raw
    return without(raw, found, *notes) if found else raw._replace(notes=(*raw.notes, *notes))
