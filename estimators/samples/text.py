"""Tables as text, and labels, one a line.

Encoding, delimiter, decimal sign and header are found in the content. What can be read in two ways is refused.
A table of plain numbers is read at once. If that fails, all its cells are surveyed, and it is read again.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import math
import re
from array import array as packed
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

import numpy as np

from estimators.samples.categories import OR_CATEGORIES, Meaning, meaning
from estimators.samples.cells import ABSENT, ERRORS, WORDS, Numbers, decimal_comma, kind, quantity
from estimators.samples.names import INDEX_NAMES, called, cell_of, find, is_index, recalling
from estimators.samples.raw import DataError, Raw, printable
from estimators.samples.readers import CHUNK, Source
from estimators.samples.written import COMMA

MAX_LINE = 2**24  # characters
SAMPLE = 1000  # lines that settle the delimiter: among so many decimals some begin with 0 after the sign
DELIMITERS = "\t;|, "  # the first wins a tie; a blank stands for any number of them
ALONE = "\x1f"  # the delimiter of a single column: text never holds it
PAIRS = re.compile(r"[+-]?\d+,\d+(, ?[+-]?\d+,\d+)+")  # two or more numbers, each with a decimal comma
ZEROS = re.compile(r",0\d|(^|[^\d])-0,")  # as decimals have, but no whole numbers
COMMENT = re.compile(rf"#(?!(?:{'|'.join(error[1:] for error in ERRORS).replace('?', '[?]')}))", re.IGNORECASE)

COMMENTED_NAMES = re.compile(r"# ?[^\W\d][^\s,]*(, ?[^\W\d][^\s,]*)+")

Cells = tuple[int, list[str]]  # a line's number, from 1, and its cells
Convert = Callable[[list[str]], list[float | None]]


def read_text(source: Source) -> Raw:
    """A table of numbers, of categories and of dates."""
    # a byte outside the encoding stands in a header, where it does no harm, or in a cell or word that is refused
    with _decoded(source, "replace") as stream:
        table = Table(stream)
        if not source.categorical:  # whose cells are words, 01067 no number
            with suppress(DataError):
                return _plain(table)
        return _surveyed(table, source)


def read_words(source: Source) -> Raw:
    """One label a line, quoted or not."""
    words = []
    with _decoded(source, "strict") as text:
        for line, row in list(_rows(_lines(text))):
            if len(row) != 1 or not row[0].strip():
                raise DataError(f"row {line} has {len(row)} cells, or is blank; write one label a row")
            words.append(row[0].strip())
    return Raw(np.array(words, str))


def _decoded(source: Source, errors: str) -> io.TextIOWrapper:
    """The text in a stream: UTF-8, or UTF-16 by its mark or by the zero bytes of its first letter."""
    start = source.stream.read(2)
    source.stream.seek(0)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    else:
        encoding = {0: "utf-16-be", 1: "utf-16-le", -1: "utf-8-sig"}[start.find(0)]
    return io.TextIOWrapper(source.stream, encoding=encoding, errors=errors, newline="")


def _rows(lines: Iterator[str], **dialect) -> Iterator[Cells]:
    reader = csv.reader(lines, strict=True, **dialect)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"row {reader.line_num}: {printable(str(error))}; check the quotes there") from error


def _lines(text: io.TextIOWrapper, comments: dict[int, str] | None = None) -> Iterator[str]:
    """The lines of `text`; one without end is refused before it fills the memory.

    Lines that begin with # become blank, and go to `comments` by their numbers, where that is given.
    """
    for number in itertools.count(1):
        line = text.readline(MAX_LINE)
        if len(line) == MAX_LINE:
            raise DataError(f"row {number} is longer than {MAX_LINE} characters; not a table of numbers")
        if not line:
            return
        if comments is not None and COMMENT.match(line):
            comments[number] = line[1:].strip()
            line = "\n"
        yield line


class Table:
    """A table as text, which may be read several times: its delimiter, the line of its first row, its comments by line,
    and whether the decimal sign of its first lines is a comma."""

    def __init__(self, stream: io.TextIOWrapper):
        self._stream = stream
        self.comments: dict[int, str] = {}
        self.begins = 0
        head = stream.read(CHUNK)
        every = [line for line in re.split(r"\r\n|\r|\n", head) if line.strip()]
        lines = [line for line in every if not COMMENT.match(line)]
        lines = lines[:-1] if len(head) == CHUNK and len(lines) > 1 else lines
        above = list(itertools.takewhile(COMMENT.match, every))
        self.delimiter = "," if above and _has_names(above[-1], lines[:SAMPLE]) else delimiter_of(lines[:SAMPLE])
        kinds = Counter(kind(cell) for _, row in itertools.islice(self._sound(), SAMPLE) for cell in row)
        self.comma = kinds["comma"] > kinds["point"]

    def _sound(self) -> Iterator[Cells]:
        """The rows up to the first that is broken."""
        with suppress(DataError):
            yield from self.rows()

    def rows(self) -> Iterator[Cells]:
        """The rows that are neither blank nor comments, from the first on."""
        self._stream.seek(0)
        lines = _lines(self._stream, self.comments)
        lines = map(_single_blanks, lines) if self.delimiter == " " else lines
        for line, row in _rows(lines, delimiter=self.delimiter, skipinitialspace=True):
            if len(row) > 1 or (row and row[0].strip()):
                self.begins = self.begins or line
                yield line, row

    def commented(self, width: int) -> list[str] | None:
        """The names of `width` columns in the last line before the first row, if that is a comment, as numpy.savetxt
        writes a header; None without."""
        text = next((text for line, text in reversed(self.comments.items()) if line < self.begins and text), "")
        text = _single_blanks(text) if self.delimiter == " " else text
        with suppress(csv.Error):
            cells = [
                c.strip() for row in csv.reader([text], delimiter=self.delimiter, skipinitialspace=True) for c in row
            ]
            named = len(set(cells)) == len(cells) == width and all(kind(cell) == "word" for cell in cells)
            return cells if named and (width > 1 or " " not in text) else None
        return None


def _single_blanks(line: str) -> str:
    return re.sub(r"[ \t]+", " ", line.strip()) + "\n"


def _has_names(comment: str, lines: Sequence[str]) -> bool:
    """Whether a comment holds names between commas, as many as all lines have cells."""
    names = COMMENTED_NAMES.fullmatch(comment.strip()) is not None
    return names and bool(lines) and all(line.count(",") == comment.count(",") for line in lines)


OR_NAMES = "write a header, with a name for each column, or other separators"


def delimiter_of(lines: Sequence[str]) -> str:
    """The delimiter that gives lines the same number of cells, the most of them numbers.

    Raises DataError: lines hold one number each, or one on each side of a delimiter, and nothing tells which.
    """
    shares = {d: share for d in DELIMITERS if (share := _share(lines, d, many=True)) is not None}
    shares = {d: share for d, share in shares.items() if d != " " or share > 0.0}
    best = max(shares, key=lambda d: shares[d], default=None)
    several = bool(lines) and kind(lines[0]) == "word" and (best or ",") in lines[0]  # names, or no number
    if (best is None or shares[best] == 1.0) and not several and _share(lines, ALONE, many=False) == 1.0:
        return ALONE if best is None or _is_one_number(lines, best) else best
    if best == "," and all(PAIRS.fullmatch(line.strip()) for line in lines) and re.search(ZEROS, "\n".join(lines)):
        raise DataError(f"row 1: {lines[0][:40]!r} holds decimal commas between commas; separate columns by ; or tabs")
    if best in (None, ",", " ") and not several and _is_one_quantity(lines):
        if best == ",":
            raise DataError(f"row 1: {lines[0].strip()[:40]!r} is one number or several; {OR_NAMES}")
        return ALONE
    if best is None:  # of unequal lines
        return max(DELIMITERS[:-1], key=lambda d: sum(d in re.sub(r'"[^"]*"', "", line) for line in lines))
    return best


def _share(lines: Sequence[str], delimiter: str, many: bool) -> float | None:
    """The share of numbers and missing cells below a first line; where commas delimit, no number holds blanks.

    None if lines differ in their number of cells, or have one though there should be `many`.
    """
    lines = [_single_blanks(line) for line in lines] if delimiter == " " else lines
    try:
        rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    except csv.Error:  # which is told with its row when the table is read
        return None
    below = rows[1:] or rows
    widths = {len(row) for row in below}
    width = max(widths, default=0)
    if len(widths) != 1 or (width == 1) == many or not (len(rows[0]) == width or 1 < len(rows[0]) == width - 1):
        return None
    cells = [cell for row in below for cell in row]
    return sum(_is_numeric(cell, delimiter) for cell in cells) / len(cells)


def _is_numeric(cell: str, delimiter: str) -> bool:
    what = kind(cell)
    return what == "quantity" or (what not in WORDS and not (delimiter == "," and " " in cell.strip()))


def _is_one_quantity(lines: Sequence[str]) -> bool:
    """Whether lines, below a first one, hold one number each, with one unit for all."""
    found = [quantity(line) for line in lines[1:] or lines]
    return bool(found) and None not in found and len({each.unit for each in found}) == 1 and bool(found[0].unit)  # type: ignore[union-attr]


def _is_one_number(lines: Sequence[str], delimiter: str) -> bool:
    """Whether lines that hold numbers around a `delimiter`, a comma or blank, hold one number each."""
    if delimiter not in ", " or any('"' in line for line in lines):
        return False
    if re.search(ZEROS, "\n".join(lines).replace(delimiter, ",")):
        return True
    ends = [line.strip().rpartition(delimiter)[2] for line in lines]
    if len({len(end) for end in ends}) > 1 and any(len(end) > 1 and end[-1] == "0" for end in ends):
        return False  # decimals have equally many digits, or do not end in 0
    name = {",": "comma", " ": "blank"}[delimiter]
    raise DataError(
        f"row 1: {lines[0].strip()[:40]!r} is one number or several, for nothing tells whether the {name} separates "
        f"columns; {OR_NAMES}"
    )


def _plain(table: Table) -> Raw:
    """A table of numbers without thousands separators."""
    numbers = Numbers(table.comma, thousands=False)
    first = [row for _, row in itertools.islice(table.rows(), 2)]
    header = first[0] if _is_header(first) else None
    values, lines = _parse(table.rows(), header, numbers)
    commas = dict.fromkeys(range(values.shape[1]), COMMA) if numbers.comma else {}
    return _finished(table, header, values, lines, tuple(numbers.notes()), written=commas)


def _parse(rows: Iterator[Cells], header: list[str] | None, convert: Convert) -> tuple[np.ndarray, np.ndarray]:
    """The numbers below a header [n, d], and the line of each row [n]."""
    values, lines, width = packed("d"), packed("q"), 0
    top = next(rows, (0, []))[1] if header is not None else []
    for line, row in rows:
        if len(row) != width:
            if lines or (header is not None and not _fits(top, row)):
                raise _ragged(line, row, len(top) or width)
            width = len(row)
        numbers = convert(row)
        if None in numbers:
            column = numbers.index(None)
            place = f"row {line}, {called(column, (), 1)}"
            raise DataError(f"{place}: {row[column][:40]!r} is not a number; {OR_CATEGORIES}")
        values.extend(numbers)  # type: ignore[arg-type]
        lines.append(line)
    return np.array(values).reshape(len(lines), width or len(top)), np.array(lines, np.int64)


def _fits(first: list[str], second: list[str]) -> bool:
    """Whether rows are equally long, or the first is a header without a name for the index."""
    return len(first) == len(second) or 1 < len(first) == len(second) - 1


def _ragged(line: int, row: list[str], first: int) -> DataError:
    return DataError(f"row {line} has {len(row)} cells, the first row {first}; make the rows equally long")


def _finished(
    table: Table,
    header: list[str] | None,
    values: np.ndarray,
    lines: np.ndarray,
    notes: tuple[str, ...],
    levels: Mapping[int, tuple[str, ...]] = MappingProxyType({}),
    units: Mapping[int, str] = MappingProxyType({}),
    written: Mapping[int, str] = MappingProxyType({}),
) -> Raw:
    """The table with the names of its columns, without an empty last one."""
    width = values.shape[1]
    empty = width > 1 and len(lines) > 0 and bool(np.isnan(values[:, -1]).all())
    names = _names(header, width, empty)
    if header and len(header) < width and not empty and not is_index(values[:, 0], None):
        have = f"row {lines[0]} has {width} cells, the first row {len(header)} names"
        raise DataError(f"{have}; name each column, and separate numbers with decimal commas by ; or tabs")
    comments = len(table.comments)
    if header is None and (commented := table.commented(width)):
        names, comments = tuple(commented), comments - 1
        notes = (*notes, "names of columns taken from a line that begins with #")
    if comments:
        notes = (*notes, f"{comments} lines that begin with # taken for comments")
    if empty and not (names and names[-1]):
        values, names, notes = values[:, :-1], names[:-1], (*notes, "dropped an empty last column")
    stood = names
    if header is None and names:
        stood = (f"# {names[0]}", *names[1:])
    if "0" in names:
        notes, names = (*notes, "first row 0, 1, … taken for column names"), ()
    delimiter = "," if width == 1 or table.delimiter == ALONE else table.delimiter
    raw = Raw(values, notes, lines, columns=names, levels=levels, units=units)
    return raw._replace(written=written, delimiter=delimiter, header=stood)


def _names(header: list[str] | None, width: int, empty: bool) -> tuple[str, ...]:
    """The names of `width` columns: a header may lack that of an index, or of an `empty` last column."""
    names = tuple(cell.strip() for cell in header or ())
    if len(names) == width - 1 > 0:
        return (*names, "") if empty else ("", *names)
    return names


def _is_header(rows: list[list[str]]) -> bool:
    """Whether the first row is text without a number, or pandas' names 0, 1, … above a row not all of digits."""
    kinds = {kind(cell) for cell in rows[0]} if rows else set()
    if kinds & set(WORDS) or len(rows) < 2:
        return "word" in kinds and kinds <= {*WORDS, "missing"}
    names = rows[0] if rows[0][0].strip() else rows[0][1:]
    digits = all(cell.strip().lstrip("+-").isdigit() for cell in rows[1])
    return names == [str(j) for j in range(len(names))] != [] and not (digits and names is rows[0])


class Survey:
    """All cells of a table: the first row, and for each column the kinds of the others, the first number that has two
    readings, and whether the first cell occurs again."""

    def __init__(self, table: Table):
        rows = table.rows()
        self.first = next(rows, (0, []))[1]
        below = list(itertools.islice(rows, 1))
        self._second = below[0][1] if below else self.first
        if not _fits(self.first, self._second):
            raise _ragged(*below[0], len(self.first))
        width = len(self._second)
        self.top = [kind(cell) for cell in self.first]
        self.kinds: list[Counter[str]] = [Counter() for _ in range(width)]
        self.doubtful: dict[int, str] = {}
        again, first = [False] * width, [*self.first, ""][:width]
        for line, row in itertools.chain(below, rows):
            if len(row) != width:
                raise _ragged(line, row, width)
            for j, cell in enumerate(row):
                what = kind(cell)
                self.kinds[j][what] += 1
                again[j] |= cell == first[j]
                if what == "comma?":
                    self.doubtful.setdefault(j, f"row {line}, {called(j, (), 1)}: {cell.strip()[:40]!r}")
        self._unique = [not found for found in again]

    def is_text(self, j: int) -> bool:
        """Whether more than half of the cells of a column are words, dates, numbers with a unit, true or false."""
        words = sum(self.kinds[j][what] for what in WORDS)
        return 2 * words > self.kinds[j].total() - self.kinds[j]["missing"]

    def header(self, drop: Sequence[str], commented: bool) -> list[str] | None:
        """The first row, if it is words above other things, or words of which none occurs again below.

        A column to `drop`, by number, does not count.

        Raises DataError: it may be either, for it holds numbers beside such words, and no header is `commented` out.
        """
        names = [j for j, what in enumerate(self.top) if what == "word" and str(j + 1) not in drop]
        if self._is_named(names, commented):
            return self.first
        for kinds, what in zip(self.kinds, self.top):
            kinds[what] += 1
        return None

    def _is_named(self, words: list[int], commented: bool) -> bool:
        unique = bool(words) and all(self._unique[j] and self.is_text(j) for j in words)
        if "word" in self.top and set(self.top) <= {*WORDS, "missing"}:
            above = any(not self.is_text(j) for j, what in enumerate(self.top) if what in WORDS)
            above |= any(self.kinds[j].most_common(1)[0][0] != "word" for j in words if self.kinds[j])
            return unique or above or len(self.first) != len(self.kinds)
        numbered = set(self.top) <= {"word", "missing", "whole"}
        if numbered and unique and not commented and all(set(self.kinds[j]) <= {"word", "missing"} for j in words):
            raise DataError(
                f"row 1: {self.first[words[0]][:40]!r} occurs only there, beside numbers: in a header, or in data? "
                "write a header without numbers"
            )
        return not words and _is_header([self.first, self._second])

    def comma(self, columns: Sequence[int]) -> bool:
        """Whether the decimal sign of some columns is a comma. Raises DataError: it may be, or separate thousands."""
        counts = sum((self.kinds[j] for j in columns), Counter[str]())
        return decimal_comma(counts, next((self.doubtful[j] for j in columns if j in self.doubtful), ""))


def _surveyed(table: Table, source: Source) -> Raw:
    """A table that is not all plain numbers."""
    survey = Survey(table)
    width = len(survey.kinds)
    commented = table.commented(width)
    header = survey.header(source.drop, commented is not None)
    empty = width > 0 and set(survey.kinds[-1]) == {"missing"}
    names = _names(header or commented, width, empty)
    ignored, absent = find(source.drop, names, width, 1, source.absent_ok)
    forced, _ = find(source.categorical, names, width, 1)
    words = {j: Words() for j in range(width) if j not in ignored and (j in forced or survey.is_text(j))}
    numbers = Numbers(survey.comma([j for j in range(width) if j not in ignored and j not in words]), thousands=True)

    def convert(row: list[str]) -> list[float | None]:
        return [words[j](c) if j in words else 0.0 if j in ignored else numbers.cell(c) for j, c in enumerate(row)]

    with recalling(absent, names):
        values, lines = _parse(table.rows(), header, convert)
        found = _meanings(words, values, lines, names, forced)
    notes = [*numbers.notes(), *(f"{called(j, names, 1)} holds {each.note}" for j, each in found.items() if each.note)]
    for j, each in found.items():
        values[:, j] = each.values
    levels = {j: each.levels for j, each in found.items() if each.levels}
    units = {j: each.unit for j, each in found.items() if each.unit}
    written = {j: COMMA for j in range(width) if numbers.comma and j not in found}
    written |= {j: each.written for j, each in found.items() if each.written}
    return _finished(table, header, values, lines, tuple(notes), levels, units, written)


def _meanings(
    words: Mapping[int, Words], codes: np.ndarray, lines: np.ndarray, names: Sequence[str], forced: Sequence[int]
) -> dict[int, Meaning]:
    """What columns of words hold, of which `codes` [n, d] say where each stands."""
    found = {}
    for j, each in words.items():
        if j == 0 and names and INDEX_NAMES.fullmatch(names[0]) and len(each) == len(codes) and j not in forced:
            continue  # codes that all differ, as those of an index do
        where = cell_of(called(j, names, 1), lines)
        found[j] = meaning(list(each), codes[:, j], where, j in forced)
    return found


class Words(dict[str, float]):
    """A code for each word of a column, in the order of their first occurrence."""

    def __call__(self, cell: str) -> float:
        word = cell.strip()
        if "\ufffd" in word:
            raise DataError(f"{word[:40]!r} holds a letter that is not UTF-8; save the file as UTF-8")
        return math.nan if word.lower() in ABSENT else self.setdefault(word, float(len(self)))
