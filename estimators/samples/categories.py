"""Columns of words: what they stand for, which is numbers with or without a unit, truth values, dates, or categories.

Words of a column come as codes 0, 1, … in any order, NaN where a cell is missing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from estimators.samples.cells import (
    ABSENT,
    FLAGS,
    ISO,
    MISSING,
    Numbers,
    Quantity,
    decimal_comma,
    kind,
    level,
    plain_type,
    quantity,
)
from estimators.samples.names import Where
from estimators.samples.raw import DataError, printable
from estimators.samples.written import BETWEEN, COMMA, date_style

FEW = 20  # different words that always pass for categories, if one repeats: more than forms and surveys offer
NUMBERED_DAY = re.compile(r"(\d{1,2})([/.])(\d{1,2})\2(\d{4})")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAYS = "days since 1970-01-01"
DATES, IN_UTC = f"dates: taken as {DAYS}", ", in UTC"
OR_CATEGORIES = "correct it, or name the column in categorical= (--categorical) if its cells are names"
Words = Mapping[int, str]
"""The word of each code, but for those that say a cell is missing."""


class Meaning(NamedTuple):
    """What a column holds: its numbers, its categories if these are codes, what was done to it, in words, "" for
    nothing, the unit of the numbers, "" without any, and how they were written, "" for plain numbers."""

    values: np.ndarray
    levels: tuple[str, ...] = ()
    note: str = ""
    unit: str = ""
    written: str = ""


class Column(NamedTuple):
    """Words [k] of a column, the code of each row [n], NaN where a cell is missing, and how messages call a cell."""

    words: Sequence[str]
    codes: np.ndarray
    where: Where

    def place(self, code: int) -> str:
        """How messages call the first cell that holds a word."""
        return f"{self.where(int(np.argmax(self.codes == code)))}: {printable(self.words[code][:40])!r}"

    def rows(self, codes: Iterable[int]) -> int:
        """How many rows hold one of the words."""
        return int(np.isin(self.codes, list(codes)).sum())

    def each(self, values: Mapping[int, float]) -> np.ndarray:
        """The value of each row, by its code; NaN where it has none."""
        table = np.full(len(self.words) + 1, np.nan)
        table[list(values)] = list(values.values())
        return table[np.where(np.isnan(self.codes), len(self.words), self.codes).astype(np.intp)]


def meaning(
    words: Sequence[str], codes: np.ndarray, where: Where, forced: bool = False, numeric: bool = True
) -> Meaning:
    """What a column of `words` [k] holds, of which each row has one, by `codes` [n]; `forced` makes it categories, and
    where it is not `numeric` words that look like numbers are names.

    Raises DataError: days that may be months, numbers in several units, words among numbers, or a column whose cells
        hardly repeat, as names of persons do.
    """
    column = Column([word.strip() for word in words], codes, where)
    present = {code: word for code, word in enumerate(column.words) if word.lower() not in ABSENT}
    if not present:
        return Meaning(np.full(len(codes), np.nan))
    if not forced:
        flags = {code: FLAGS[word.lower()] for code, word in present.items() if word.lower() in FLAGS}
        if len(flags) == len(present):
            spelled = {flag: present[code] for code, flag in flags.items()}
            pair = f"{spelled.get(0.0, 'False')}|{spelled.get(1.0, 'True')}"
            return Meaning(column.each(flags), (), "true and false: taken as 1 and 0", written=pair)
        clear = {code: word for code, word in present.items() if word.lower() not in MISSING}
        if found := _days(column, clear) or (_numbers(column, clear) if numeric else None):
            return found
        different, rows = len(set(present.values())), column.rows(present)
        if different == rows or different > max(FEW, rows / 2):
            counted = f"{different} of {rows} cells of its column differ, as identifiers do"
            first = column.place(next(iter(present)))
            raise DataError(f"{first} is not a number, and {counted}; correct it or drop the column (--drop NAME)")
    called = {code: level(word) if forced else word for code, word in present.items()}
    levels = tuple(sorted(set(called.values())))
    ranks = {word: float(rank) for rank, word in enumerate(levels)}
    codes = column.each({code: ranks[word] for code, word in called.items()})
    spelt = {name: present[code] for code, name in reversed(called.items())}  # how each is where it comes first
    style = "" if all(spelt[name] == name for name in levels) else BETWEEN.join(spelt[name] for name in levels)
    return Meaning(codes, levels, f"text: taken as {len(levels)} categories", written=style)


def _numbers(column: Column, words: Words) -> Meaning | None:
    """The numbers that words stand for, with one unit or with none; None if few are numbers.

    Raises DataError: most are numbers, but not all; units differ; or a comma may be a decimal sign or separate
        thousands.
    """
    found = {code: number for code, word in words.items() if (number := quantity(word))}
    units = Counter(number.unit for number in found.values())
    if len(units) > 1 and not any(number.known for number in found.values()):  # 1st, 2nd: names
        found = {code: number for code, number in found.items() if not number.unit}
        units = Counter(number.unit for number in found.values())
    if 2 * column.rows(found) <= column.rows(words):
        return None
    if other := [code for code in words if code not in found]:
        if not any(number.known or not number.unit for number in found.values()):
            return None
        raise DataError(f"{column.place(other[0])} is not a number, as most cells of its column are; {OR_CATEGORIES}")
    if len(units) > 1:
        (usual, _), *_ = units.most_common()
        odd = next(code for code, number in found.items() if number.unit != usual)
        beside = f"beside numbers {f'in {printable(usual)}' if usual else 'without a unit'}"
        remedy = "write all numbers of a column in one unit, or name it in categorical= (--categorical)"
        raise DataError(f"{column.place(odd)} stands {beside}: units differ; {remedy}")
    return _read(column, found, next(iter(units)))


def _read(column: Column, found: Mapping[int, Quantity], unit: str) -> Meaning:
    """Numbers that are written in one way and one unit."""
    kinds = Counter(kind(number.number) for number in found.values())
    doubtful = next((code for code, number in found.items() if kind(number.number) == "comma?"), None)
    # a currency stands before the number where commas separate thousands
    settled = doubtful is None or found[doubtful].before
    numbers = Numbers(decimal_comma(kinds, "" if settled else column.place(doubtful)), thousands=True)  # type: ignore[arg-type]
    values = {}
    for code, number in found.items():
        value = numbers.cell(number.number)
        if value is None:
            raise DataError(f"{column.place(code)} is not a number as the others of its column; {OR_CATEGORIES}")
        values[code] = value
    example = ", 70 % as 70" if unit == "%" else ""
    what = (
        f"numbers in {printable(unit)}: taken as given{example}"
        if unit
        else "texts: taken as the numbers they stand for"
    )
    model = next((code for code, number in found.items() if number.number[0] not in "+-"), None)
    around = f"{{}} {unit}".strip() if model is None else _around(column.words[model], found[model].number)
    written = around.replace("{}", COMMA) if numbers.comma else around if unit else ""
    return Meaning(column.each(values), (), ", ".join([what, *numbers.notes()]), unit, written)


def _around(cell: str, number: str) -> str:
    """What stands around the number of a cell, with {} in its place."""
    before, _, after = plain_type(cell).partition(number)
    return f"{before}{{}}{after}"


def _days(column: Column, words: Words) -> Meaning | None:
    """Days since 1970 of words that are dates, None if few are.

    Raises DataError: most are dates, but not all, or days and months cannot be told apart.
    """
    numbered = {code: found for code, word in words.items() if (found := NUMBERED_DAY.fullmatch(word))}
    iso = {code: found for code, word in words.items() if (found := ISO.fullmatch(word))}
    if 2 * (len(numbered) + len(iso)) <= len(words):
        return None
    if other := [code for code in words if code not in numbered and code not in iso]:
        raise DataError(f"{column.place(other[0])} is no date, as most cells of its column are; correct it")
    fields = [(int(m[1]), int(m[3])) for m in numbered.values()]
    day_first, month_first = any(a > 12 for a, _ in fields), any(b > 12 for _, b in fields)
    if fields and (day_first == month_first or iso):
        example = column.place(next(iter(numbered)))
        raise DataError(f"{example} may begin with the day or the month; write dates as 2024-02-01")
    order = (4, 3, 1) if day_first else (4, 1, 3)
    texts = {code: "-".join(m[k].zfill(2) for k in order) for code, m in numbered.items()}
    texts |= {code: words[code].replace("/", "-") for code in iso}
    zoned = any(m["zone"] for m in iso.values())
    days = {code: _moment(text, column, code) for code, text in texts.items()}
    example = max(words.values(), key=len)  # the one with the most parts
    return Meaning(column.each(days), (), DATES + (IN_UTC if zoned else ""), DAYS, date_style(example, day_first))


def _moment(text: str, column: Column, code: int) -> float:
    """Days since 1970 of an ISO date or time; one without a zone is in UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise DataError(f"{column.place(code)} is no date; correct it") from error
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH) / timedelta(days=1)
