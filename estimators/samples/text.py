"""Text files: tables of numbers separated by commas, semicolons or tabs, and labels, one a line."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from array import array as packed
from collections.abc import Iterator

import numpy as np

from estimators.samples.arrays import DataError, Raw
from estimators.samples.binary import CHUNK, Source

MAX_LINE = 2**24  # characters
MISSING = frozenset(("", "nan", "-nan", "na", "n/a", "#n/a", "<na>", "null", "none"))

Cells = tuple[int, list[str]]  # a line's number, from 1, and its cells


def read_text(source: Source) -> Raw:
    """A table of numbers."""
    # a byte outside UTF-8 stands in a header, where it does no harm, or in a cell that is refused
    with io.TextIOWrapper(source.stream, encoding="utf-8-sig", errors="replace", newline="") as text:
        head = text.read(CHUNK)
        text.seek(0)
        lines = [re.sub(r'"[^"]*"', "", line) for line in head.splitlines()]
        delimiter = max("\t;,", key=lambda d: sum(d in line for line in lines))  # "1,5;2,5": the first wins a tie
        comma = delimiter != "," and re.search(r'(?m)(^|[;\t])\s*"?[+-]?\d*,\d', head) is not None
        rows = _rows(text, delimiter=delimiter, skipinitialspace=True)
        return _table((row for row in rows if len(row[1]) > 1 or "".join(row[1]).strip()), comma)


def read_words(source: Source) -> Raw:
    """One label a line, quoted or not."""
    words = []
    with io.TextIOWrapper(source.stream, encoding="utf-8-sig", newline="") as text:
        for line, row in list(_rows(text)):
            if len(row) != 1 or not row[0].strip():
                raise DataError(f"row {line} has {len(row)} cells, or is blank; write one label a row")
            words.append(row[0].strip())
    return Raw(np.array(words, str))


def _rows(text: io.TextIOWrapper, **dialect) -> Iterator[Cells]:
    reader = csv.reader(_lines(text), strict=True, **dialect)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"row {reader.line_num}: {error}; check the quotes there") from error


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines of `text`; one without end is refused before it fills the memory."""
    for number in itertools.count(1):
        line = text.readline(MAX_LINE)
        if len(line) == MAX_LINE:
            raise DataError(f"row {number} is longer than {MAX_LINE} characters; not a table of numbers")
        if not line:
            return
        yield line


def _table(rows: Iterator[Cells], comma: bool) -> Raw:
    """The rows as numbers, without their header; `comma` is the decimal point if set."""
    first = list(itertools.islice(rows, 2))
    header = _is_header([row for _, row in first], comma)
    values, lines, width = packed("d"), packed("q"), len(first[0][1]) if first else 0
    for line, row in itertools.chain(first[header:], rows):
        if len(row) != width:
            raise DataError(f"row {line} has {len(row)} cells, the first row {width}; make the rows equally long")
        numbers = [_number(cell, comma) for cell in row]
        if None in numbers:
            column = numbers.index(None)
            raise DataError(f"row {line}, column {column + 1}: {row[column][:40]!r} is not a number; correct it")
        values.extend(numbers)  # type: ignore[arg-type]
        lines.append(line)
    notes = ("decimal commas read as points",) if comma else ()
    if header and "0" in first[0][1]:
        notes = (*notes, "first row 0, 1, … taken for column names")
    return Raw(np.array(values).reshape(len(lines), width), notes, np.array(lines))


def _number(cell: str, comma: bool) -> float | None:
    """The number in a cell, NaN if it is missing, None if it is text (1_000, which float takes, is text too)."""
    cell = cell.strip()
    if cell.lower() in MISSING:
        return math.nan
    try:
        return None if "_" in cell or (comma and "." in cell) else float(cell.replace(",", ".") if comma else cell)
    except ValueError:
        return None


def _is_header(rows: list[list[str]], comma: bool) -> bool:
    """Whether the first row is text without a number, or pandas' names 0, 1, … above a row not all of digits."""
    numbers = [_number(cell, comma) for cell in rows[0]] if rows else []
    if len(rows) < 2 or None in numbers:
        return None in numbers and all(number is None or math.isnan(number) for number in numbers)
    names = rows[0] if rows[0][0].strip() else rows[0][1:]
    digits = all(cell.strip().lstrip("+-").isdigit() for cell in rows[1])
    return names == [str(j) for j in range(len(names))] != [] and not (digits and names is rows[0])
