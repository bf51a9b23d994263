"""Columns that hold no numbers: categories, true and false, dates. Columns that a person drops or takes as categories.

Words of a column come as codes 0, 1, … in the order of their first occurrence, NaN where a cell is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from estimators.samples.raw import DataError, Raw, printable

FEW = 20  # different words that always pass for categories, if one repeats: more than forms and surveys offer
FLAGS = {"false": 0.0, "true": 1.0}
ISO = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?")
NUMBERED_DAY = re.compile(r"(\d{1,2})([/.])(\d{1,2})\2(\d{4})")
INDEX_NAMES = re.compile(r"|index|unnamed: 0|__index_level_\d+__", re.IGNORECASE)
"""Names of a first column that say it is an index: none, and those that pandas gives."""
INDEX = "the first column counts the rows, or all differs under no name: taken for an index and dropped"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Where = Callable[[int], str]
"""How messages call a cell of the column, by the index of its row."""
Meaning = tuple[np.ndarray, tuple[str, ...], str]
"""The numbers of a column, its categories if it holds codes, and what was done to it, in words."""


def meaning(words: Sequence[str], codes: np.ndarray, where: Where, forced: bool = False) -> Meaning:
    """What a column of `words` [k] holds, of which each row has one, by `codes` [n]; `forced` makes it categories.

    Raises DataError: days that may be months, or a column whose cells hardly repeat, as names of persons do.
    """

    def place(code: int) -> str:
        return f"{where(int(np.argmax(codes == code)))}: {printable(words[code][:40])!r}"

    if not forced and words:
        flags = [FLAGS.get(word.lower()) for word in words]
        if None not in flags:
            return _each(flags, codes), (), "true and false: taken as 1 and 0"  # type: ignore[arg-type]
        if (days := _days(words, place)) is not None:
            return _each(days, codes), (), "dates: taken as days since 1970-01-01"
        rows = int(np.isfinite(codes).sum())
        if len(words) == rows or len(words) > max(FEW, rows / 2):
            counted = f"{len(words)} of {rows} cells of its column differ, as identifiers do"
            raise DataError(f"{place(0)} is not a number, and {counted}; correct it or drop the column (--drop NAME)")
    called = [level(word) for word in words] if forced else list(words)
    levels = tuple(sorted(set(called)))
    ranks = {word: float(rank) for rank, word in enumerate(levels)}
    return _each([ranks[word] for word in called], codes), levels, f"text: taken as {len(levels)} categories"


def level(cell: str | float) -> str:
    """The name of a category that may be written as a number: 7 is 7.0 is 07."""
    try:
        number = float(cell)
    except ValueError:
        return str(cell)
    return str(int(number)) if number == np.floor(number) and np.isfinite(number) else repr(number)


def _each(values: Sequence[float], codes: np.ndarray) -> np.ndarray:
    """The value of each row, by its code; NaN where that is missing."""
    table = np.append(np.asarray(values, float), np.nan)
    return table[np.where(np.isnan(codes), len(values), codes).astype(np.intp)]


def _days(words: Sequence[str], place: Where) -> list[float] | None:
    """Days since 1970 of words that are dates, None if few are.

    Raises DataError: most are dates, but not all, or days and months cannot be told apart.
    """
    numbered = [NUMBERED_DAY.fullmatch(word) for word in words]
    dates = [bool(found or ISO.fullmatch(word)) for found, word in zip(numbered, words)]
    if 2 * sum(dates) <= len(words):
        return None
    if not all(dates):
        raise DataError(f"{place(dates.index(False))} is no date, as most cells of its column are; correct it")
    fields = [(int(m[1]), int(m[3]), int(m[4])) for m in numbered if m]
    day_first, month_first = any(a > 12 for a, _, _ in fields), any(b > 12 for _, b, _ in fields)
    if fields and (day_first == month_first or len(fields) < len(words)):
        example = next(code for code, found in enumerate(numbered) if found)
        raise DataError(f"{place(example)} may begin with the day or the month; write dates as 2024-02-01")
    iso = [f"{y:04}-{b:02}-{a:02}" if day_first else f"{y:04}-{a:02}-{b:02}" for a, b, y in fields] or words
    return [_moment(word, place, code) for code, word in enumerate(iso)]


def _moment(word: str, place: Where, code: int) -> float:
    """Days since 1970 of an ISO date or time; one without a zone is in UTC."""
    try:
        moment = datetime.fromisoformat(word)
    except ValueError as error:
        raise DataError(f"{place(code)} is no date; correct it") from error
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH) / timedelta(days=1)


def is_index(values: np.ndarray, name: str | None) -> bool:
    """Whether a first column [n] of a table is a row index: it counts the rows, as independent draws never do, or has
    the `name` of an index (None without a header) above whole numbers that all differ."""
    if len(values) < 3 or not np.isfinite(values).all() or np.any(values % 1):
        return False
    named = name is not None and INDEX_NAMES.fullmatch(name.strip()) is not None
    return bool(np.all(np.diff(values) == 1)) or (named and len(np.unique(values)) == len(values))


def find(wanted: Sequence[str], names: Sequence[str], width: int, start: int) -> list[int]:
    """The columns that are `wanted`, by name, or where they have no names by number, counted from `start`.

    Raises DataError: there is none of that name.
    """
    known = list(names) or [str(j + start) for j in range(width)]
    if unknown := [name for name in wanted if name not in known]:
        listed = printable(", ".join(known[:20])) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
        raise DataError(f"no column {printable(unknown[0])!r}; the columns are {listed}")
    return [j for j, name in enumerate(known) if name in wanted]


def label(j: int, names: Sequence[str], start: int) -> str:
    """How messages call a column: by its number in text, where `start` is 1, else by its name if it has one."""
    name = printable(names[j]) if names else ""
    return f"column {name if name and not start else j + start}" + (f" ({name})" if name and start else "")


def without(raw: Raw, dropped: Sequence[int], note: str) -> Raw:
    """`raw` without some columns; the others keep their places."""
    kept = [j for j in range(raw.array.shape[1]) if j not in set(dropped)]
    return raw._replace(
        array=raw.array[:, kept],
        notes=(*raw.notes, note),
        columns=tuple(raw.columns[j] for j in kept) if raw.columns else (),
        levels={new: raw.levels[j] for new, j in enumerate(kept) if j in raw.levels},
        places=tuple(raw.places[j] if raw.places else j for j in kept),
    )


def select(raw: Raw, drop: Sequence[str] = (), categorical: Sequence[str] = ()) -> Raw:
    """`raw` without the columns to `drop`, with numbers in those that are `categorical` replaced by codes.

    Columns without names are counted from 1 in text, from 0 in arrays.

    Raises DataError: a column that does not exist, or an array without columns.
    """
    if not (drop or categorical):
        return raw
    if raw.array.ndim != 2:
        raise DataError(f"shape {raw.array.shape} has no columns to drop or to take as categories; give two axes")
    start = 0 if raw.lines is None else 1
    dropped, coded = (find(wanted, raw.columns, raw.array.shape[1], start) for wanted in (drop, categorical))
    array, levels, notes = raw.array, dict(raw.levels), []
    for j in coded:
        if j in levels or j in dropped:
            continue
        array = array.astype(np.float64) if array is raw.array else array
        finite = np.isfinite(array[:, j])
        numbers, codes = np.unique(array[finite, j], return_inverse=True)
        array[finite, j] = codes
        levels[j] = tuple(map(level, numbers))
        notes.append(f"{label(j, raw.columns, start)}: taken as {len(numbers)} categories")
    raw = raw._replace(array=array, levels=levels, notes=(*raw.notes, *notes))
    return without(raw, dropped, f"dropped {', '.join(label(j, raw.columns, start) for j in dropped)}") if drop else raw
