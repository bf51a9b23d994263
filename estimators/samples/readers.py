"""Readers of each format: .npy and .npz, IDX, Parquet, tables of numbers as text, and labels, one a line of text.

Each takes a `Source` and returns a `Raw` array. A declared size is compared with the bytes that are there before memory
is taken.
"""

from __future__ import annotations

import ast
import csv
import io
import itertools
import math
import operator
import os
import re
import struct
import zipfile
from array import array as packed
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any, NamedTuple

import numpy as np

from estimators.samples.arrays import REMEDIES, DataError, Raw, printable, require_numbers

CHUNK = 2**20  # bytes read at once
FREE_EXPANSION = 2**24  # bytes that any file may unpack to
MAX_RATIO, MAX_EXPANSION = 200, 2**32  # beyond these, a limit relative to its size on disk, and one in bytes
MAX_NPY_HEADER, MAX_AXES = 10_000, 32  # bytes, and axes of an array: NumPy's own limits
IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MAX_LINE = 2**24  # characters
MISSING = frozenset(("", "nan", "-nan", "na", "n/a", "#n/a", "<na>", "null", "none"))

Cells = tuple[int, list[str]]  # a line's number, from 1, and its cells


class Source(NamedTuple):
    """A stream, its bytes (None inside gzip), its bytes on disk, and the array asked for."""

    stream: IO[bytes]
    size: int | None
    stored: int
    key: str | None = None


def read_npy(source: Source) -> Raw:
    """An .npy array."""
    return Raw(_payload(source, *_npy_header(source)))


def map_npy(source: Source) -> Raw:
    """An .npy array that stays in its file, if its rows lie there one after the other."""
    dtype, shape, offset, order = _npy_header(source)
    nbytes = _declared(source, dtype, shape, offset)
    if nbytes and shape and source.size == offset + nbytes and (order == "C" or len(shape) == 1):
        with suppress(OSError):  # a file system that cannot map
            return Raw(np.memmap(source.stream, dtype, "r", offset, shape))  # type: ignore[call-overload]
        source.stream.seek(offset)
    return Raw(_payload(source, dtype, shape, offset, order))


def _npy_header(source: Source) -> tuple[np.dtype, tuple[int, ...], int, str]:
    """(dtype, shape, bytes before the data, order): a literal of bounded length, its dtype in the form NumPy writes."""
    start = _take(source, 8)
    wide = 2 if start[6] == 1 else 4
    length = int.from_bytes(_take(source, wide, 8), "little")
    if not re.match(rb"\x93NUMPY[\x01-\x03]", start) or length > MAX_NPY_HEADER:
        raise DataError(f"damaged .npy header ({length} bytes declared); save it again")
    text = _take(source, length, 8 + wide)
    try:
        header = ast.literal_eval(text.decode("utf-8" if start[6] == 3 else "latin-1"))
        descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
        plain = re.fullmatch(r"[<>|=][?biufcmMOSUV]\d{0,9}(\[\w+\])?", str(descr))
        dtype, sizes = np.dtype(descr if plain else "V"), tuple(map(operator.index, shape))
    except (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError) as error:
        raise DataError("damaged .npy header; save it again") from error
    if not plain:
        raise DataError(f"dtype {descr!r:.80} {REMEDIES['V']}")
    return dtype, sizes, 8 + wide + length, "F" if fortran else "C"


def read_npz(source: Source) -> Raw:
    """One array of a zip archive of .npy members."""
    if not zipfile.is_zipfile(source.stream):
        raise DataError(f"truncated: {source.stored} bytes, without the directory that ends a zip file; save it again")
    archive = zipfile.ZipFile(source.stream)
    members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
    chosen = [m for m in members if source.key in (None, m.filename.removesuffix(".npy"))]
    if len(chosen) != 1:
        keys = ", ".join(printable(m.filename.removesuffix(".npy")) for m in members[:20]) or "none"
        named = f", {len(chosen)} named {source.key!r}" if source.key else ""
        raise DataError(f"{len(members)} arrays ({keys}){named}; name one, once in the file, by key= (--key)")
    (member,) = chosen
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"zip compression {member.compress_type}; save it with numpy.savez_compressed")
    with archive.open(member) as stream:
        stored = min(member.compress_size, source.stored)
        return read_npy(source._replace(stream=stream, size=member.file_size, stored=stored))


def read_idx(source: Source) -> Raw:
    """An IDX array: two zero bytes, type, number of axes, the axes and data, big-endian (yann.lecun.com/exdb/mnist)."""
    _, _, kind, axes = _take(source, 4)
    shape = struct.unpack(f">{axes}i", _take(source, 4 * axes, 4))
    return Raw(_payload(source, np.dtype(IDX_TYPES[kind]), shape, 4 + 4 * axes))


def read_parquet(source: Source) -> Raw:
    """The columns of a Parquet file as float64, nulls as NaN, without the index columns pandas adds."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError("Parquet needs pyarrow; pip install 'fgan[parquet]'") from error
    source.stream.seek(-4, os.SEEK_END)
    if source.stream.read(4) != b"PAR1":
        raise DataError(f"truncated: {source.stored} bytes, without the closing PAR1; copy or save it again")
    try:
        file = pq.ParquetFile(source.stream)
        fields = list(file.schema_arrow)
        numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
        if strange := [f"{f.name!r}: {f.type}" for f in fields if not any(test(f.type) for test in numeric)]:
            raise DataError(f"{len(strange)} columns are not numbers, first {strange[0][:80]}; drop or convert them")
        _refuse_bomb(source, 8 * file.metadata.num_rows * len(fields))
        table = file.read()
        kept = [i for i, field in enumerate(fields) if not re.fullmatch(r"__index_level_\d+__", field.name)]
        columns = [table.column(i).cast(pa.float64(), safe=False).to_numpy() for i in kept]
    except pa.ArrowException as error:
        raise ValueError(error) from error
    notes = ("dropped the index written by pandas",) if len(kept) < len(fields) else ()
    names = tuple(fields[i].name for i in kept)
    return Raw(np.stack(columns, axis=1) if columns else np.empty((table.num_rows, 0)), notes, columns=names)


def _take(source: Source, count: int, offset: int = 0) -> bytes:
    """The next `count` bytes of a header, of which `offset` have been read."""
    taken = source.stream.read(count)
    if len(taken) < count:
        raise _truncated(offset + count, offset + len(taken))
    return taken


def _payload(source: Source, dtype: np.dtype, shape: tuple[int, ...], offset: int, order: Any = "C") -> np.ndarray:
    """The array after a header of `offset` bytes; no memory is taken before its declared size is found credible."""
    nbytes = _declared(source, dtype, shape, offset)
    _refuse_bomb(source, nbytes)
    buffer, have = np.empty(nbytes, np.uint8), 0
    with suppress(EOFError):  # packed data that ends early; the count says by how much
        while have < nbytes and (chunk := source.stream.read1(min(CHUNK, nbytes - have))):  # type: ignore[attr-defined]
            buffer[have : have + len(chunk)] = np.frombuffer(chunk, np.uint8)
            have += len(chunk)
    if have < nbytes:
        raise _truncated(offset + nbytes, offset + have)
    if source.stream.read(1):  # at the end gzip and zip compare checksums
        raise DataError(f"more than the {offset + nbytes} bytes its header declares; save one array per file")
    return buffer.view(dtype).reshape(shape, order=order)


def _declared(source: Source, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> int:
    """The bytes of an array that follows a header of `offset` bytes, found credible."""
    require_numbers(dtype)
    if min(shape, default=0) < 0 or len(shape) > MAX_AXES or math.prod(k or 1 for k in shape) * dtype.itemsize >= 2**62:
        raise DataError(f"impossible shape {str(shape)[:80]} in the header; save it again")
    nbytes = math.prod(shape) * dtype.itemsize
    if source.size is not None and source.size < offset + nbytes:
        raise _truncated(offset + nbytes, source.size)
    return nbytes


def _refuse_bomb(source: Source, nbytes: int) -> None:
    plain = source.size == source.stored
    if nbytes > FREE_EXPANSION and (nbytes > MAX_RATIO * source.stored or (nbytes > MAX_EXPANSION and not plain)):
        raise DataError(f"{source.stored} bytes would unpack to {nbytes}; if you trust it, save it unpacked")


def _truncated(expected: int, have: int) -> DataError:
    return DataError(f"truncated: expected {expected} bytes, have {have}; copy or save it again")


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
    names = tuple(cell.strip() for cell in first[0][1]) if header else ()
    if "0" in names:
        notes, names = (*notes, "first row 0, 1, … taken for column names"), ()
    return Raw(np.array(values).reshape(len(lines), width), notes, np.array(lines), columns=names)


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
