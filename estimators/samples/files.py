"""Samples and labels in files: .npy, .npz, .csv, .tsv, .parquet, IDX and gzipped IDX, or standard input as `-`.

A format is recognised by its first bytes. Nothing read is executed (no pickle), and a declared size is compared with
the bytes that are there before memory is taken. Everything unusable is a one-line `DataError`.

Layer 0: imports samples; pyarrow only when a Parquet file is read.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import itertools
import math
import operator
import os
import re
import stat
import struct
import sys
import tempfile
import zipfile
import zlib
from array import array as packed
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import IO, Any, NamedTuple

import numpy as np

from estimators.samples.arrays import REMEDIES, DataError, Raw, Samples, checked, naming, printable, require_numbers

Path = str | os.PathLike[str]
FREE_EXPANSION, MAX_RATIO, MAX_EXPANSION = 2**24, 200, 2**32  # bytes to unpack freely; beyond them limits
MAX_NPY_HEADER, MAX_AXES, MAX_LINE, CHUNK = 10_000, 32, 2**24, 2**20
STANDARD_INPUT = "-"


class _Source(NamedTuple):
    stream: IO[bytes]
    size: int | None  # bytes in the stream, None inside gzip
    stored: int  # bytes on disk
    key: str | None = None


_Reader = Callable[[_Source], Raw]


class _Format(NamedTuple):
    what: str
    magic: bytes  # pattern of the first bytes
    read: _Reader | None = None
    extensions: tuple[str, ...] = ()


def read_samples(
    path: Path, *, key: str | None = None, nan_policy: str = "raise", minimum: int = 2, flatten: bool = False
) -> Samples:
    """Checked samples [n, d] of a file, or of standard input where `path` is `-` (a file of that name is `./-`).

    `key` picks the array of an .npz, the rest as in `as_samples`. A first column of text that counts the rows (0, 1, …
    or 1, 2, …) is a row index: dropped, with a note.
    """
    return _samples(*_read(path, key), nan_policy, minimum, flatten)


class Stretch(NamedTuple):
    """Some of the samples in a file, those from the `begin`-th on, and the table [n, d] of all as it is stored."""

    samples: Samples
    begin: int
    table: np.ndarray


def read_part(
    path: Path, part: int, parts: int, *, key: str | None = None, nan_policy: str = "raise", flatten: bool = False
) -> Stretch:
    """The part-th of `parts` equal parts of the samples that `read_samples` would read, checked.

    The table of an .npy stays in the file, and its rows are read as they are asked for: by this function the part's and
    no others. Other files, an .npy in Fortran's order and any under "omit" are read and checked as a whole.
    """
    name, raw = _read(path, key, {_read_npy: _map_npy})
    mapped = isinstance(raw.array, np.memmap) and nan_policy == "raise"
    whole = None if mapped else _samples(name, raw, nan_policy, 2, flatten)
    table = raw.array.reshape(len(raw.array), -1) if whole is None else whole.values
    if len(table) < parts:
        raise DataError(f"{name}: {len(table)} samples cannot be divided among {parts} processes; start fewer")
    begin, end = (len(table) * k // parts for k in (part, part + 1))
    if whole is not None:
        return Stretch(replace(whole, values=table[begin:end], kept=None), begin, table)
    minimum, name = (2, name) if parts == 1 else (1, f"{name}, rows {begin} to {end - 1} of {len(table)}")
    return Stretch(checked(Raw(raw.array[begin:end], first=begin), name, nan_policy, minimum, flatten), begin, table)


def _samples(name: str, raw: Raw, nan_policy: str, minimum: int, flatten: bool) -> Samples:
    samples = checked(raw, name, nan_policy, minimum, flatten)
    if raw.lines is None or not _counts_rows(raw.array):
        return samples
    notes = (*samples.notes, f"{name}: the first column counts the rows: taken for an index and dropped")
    return replace(samples, values=np.ascontiguousarray(samples.values[:, 1:]), notes=notes)


def read_array(path: Path, *, key: str | None = None) -> np.ndarray:
    """The array of a file as stored, in native byte order (images, labels), without the checks of samples."""
    array = _read(path, key)[1].array
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_labels(path: Path) -> np.ndarray:
    """Labels [n] of the rows of a sample file: words, one a line of text, or whole numbers from any other format."""
    name, raw = _read(path, None, {_read_text: _read_words})
    array = raw.array[:, 0] if raw.array.ndim == 2 and raw.array.shape[1] == 1 else raw.array
    with np.errstate(invalid="ignore"):  # what is not finite fails the comparison
        labels = array if array.dtype.kind == "U" else array.astype(np.int64)
    if array.ndim != 1 or not array.size or not np.array_equal(labels, array):
        found = f"shape {raw.array.shape}, dtype {raw.array.dtype}"
        raise DataError(f"{name}: {found}; labels are one whole number or word a row")
    return labels


def _read(path: Path, key: str | None, instead: Mapping[_Reader, _Reader] = MappingProxyType({})) -> tuple[str, Raw]:
    """(printable name, content) of a file; looked at before it is opened: a pipe would wait, a device never end."""
    path = os.fsdecode(path)
    name = "standard input" if path == STANDARD_INPUT else printable(path)
    with naming(name, *_BROKEN):
        if path == STANDARD_INPUT:
            with _standard_input() as stream:
                return name, _content(stream, stream.seek(0, os.SEEK_END), None, key, instead)
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = "directory" if stat.S_ISDIR(status.st_mode) else "pipe, device or socket"
            raise DataError(f"a {kind}, not a file; name a file of samples, or - for standard input")
        with open(path, "rb") as stream:
            return name, _content(stream, status.st_size, os.path.splitext(path)[1].lower(), key, instead)


def _content(
    stream: IO[bytes], size: int, extension: str | None, key: str | None, instead: Mapping[_Reader, _Reader]
) -> Raw:
    if size == 0:
        raise DataError("empty file (0 bytes); save it again")
    stream.seek(0)
    what, read = _recognise(stream.read(CHUNK), extension)
    if key is not None and read is not _read_npz:
        raise DataError(f"key {key!r} given for {what}; keys name the arrays of an .npz")
    stream.seek(0)
    return instead.get(read, read)(_Source(stream, size, size, key))


@contextmanager
def _standard_input() -> Iterator[IO[bytes]]:
    """Standard input set aside, so that readers may seek; refused as soon as it is too long or of no known format."""
    if sys.stdin is None:
        raise DataError("closed; name a file of samples")
    with tempfile.SpooledTemporaryFile(FREE_EXPANSION) as aside:
        while chunk := sys.stdin.buffer.read(CHUNK):
            if aside.tell() == 0:
                _recognise(chunk, None)
            if aside.tell() + len(chunk) > MAX_EXPANSION:
                raise DataError(f"more than {MAX_EXPANSION} bytes; save them in a file")
            aside.write(chunk)
        yield aside  # type: ignore[misc]


def _sniff(head: bytes) -> _Format:
    return next(form for form in _FORMATS if re.match(form.magic, head))


def _recognise(head: bytes, extension: str | None) -> tuple[str, _Reader]:
    """The format by content; refused where the extension promises another, or where nothing here reads it.

    A file's extension must say that text is a table; a stream, which has none (None), may be one.
    """
    form = _sniff(head)
    promised = next((f for f in _FORMATS if extension in f.extensions), None)
    if promised and promised is not form:
        raise DataError(f"{extension} means {promised.what}, but this is {form.what}; rename, convert or copy it again")
    if form.read is None or (promised is None and form.read is _read_text and extension is not None):
        known = " ".join(itertools.chain(*(f.extensions for f in _FORMATS)))
        named = "" if extension is None else f", extension {extension or 'missing'}"
        raise DataError(f"{form.what}{named}; rename it or convert it to one of {known}")
    return form.what, form.read


def _read_npy(source: _Source) -> Raw:
    """An .npy array."""
    return Raw(_payload(source, *_npy_header(source)))


def _map_npy(source: _Source) -> Raw:
    """An .npy array that stays in its file, if its rows lie there one after the other."""
    dtype, shape, offset, order = _npy_header(source)
    nbytes = _declared(source, dtype, shape, offset)
    if nbytes and shape and source.size == offset + nbytes and (order == "C" or len(shape) == 1):
        with suppress(OSError):  # a file system that cannot map
            return Raw(np.memmap(source.stream, dtype, "r", offset, shape))  # type: ignore[call-overload]
        source.stream.seek(offset)
    return Raw(_payload(source, dtype, shape, offset, order))


def _npy_header(source: _Source) -> tuple[np.dtype, tuple[int, ...], int, str]:
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


def _read_idx(source: _Source) -> Raw:
    """An IDX array: two zero bytes, type, number of axes, the axes and data, big-endian (yann.lecun.com/exdb/mnist)."""
    _, _, kind, axes = _take(source, 4)
    shape = struct.unpack(f">{axes}i", _take(source, 4 * axes, 4))
    return Raw(_payload(source, np.dtype(_IDX_TYPES[kind]), shape, 4 + 4 * axes))


def _read_gzip(source: _Source) -> Raw:
    """An IDX array inside gzip."""
    with gzip.GzipFile(fileobj=source.stream, mode="rb") as stream:
        if (inside := _sniff(stream.read(8))).read is not _read_idx:
            raise DataError(f"gzip around {inside.what}, where only IDX is read; gunzip it first")
        stream.rewind()
        return _read_idx(source._replace(stream=stream, size=None))  # type: ignore[arg-type]


def _read_npz(source: _Source) -> Raw:
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
        return _read_npy(source._replace(stream=stream, size=member.file_size, stored=stored))


def _take(source: _Source, count: int, offset: int = 0) -> bytes:
    """The next bytes of a header, of which `offset` are already read."""
    taken = source.stream.read(count)
    if len(taken) < count:
        raise _truncated(offset + count, offset + len(taken))
    return taken


def _payload(source: _Source, dtype: np.dtype, shape: tuple[int, ...], offset: int, order: Any = "C") -> np.ndarray:
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


def _declared(source: _Source, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> int:
    """The bytes of an array that follows a header of `offset` bytes, found credible."""
    require_numbers(dtype)
    if min(shape, default=0) < 0 or len(shape) > MAX_AXES or math.prod(k or 1 for k in shape) * dtype.itemsize >= 2**62:
        raise DataError(f"impossible shape {str(shape)[:80]} in the header; save it again")
    nbytes = math.prod(shape) * dtype.itemsize
    if source.size is not None and source.size < offset + nbytes:
        raise _truncated(offset + nbytes, source.size)
    return nbytes


def _refuse_bomb(source: _Source, nbytes: int) -> None:
    plain = source.size == source.stored
    if nbytes > FREE_EXPANSION and (nbytes > MAX_RATIO * source.stored or (nbytes > MAX_EXPANSION and not plain)):
        raise DataError(f"{source.stored} bytes would unpack to {nbytes}; if you trust it, save it unpacked")


def _truncated(expected: int, have: int) -> DataError:
    return DataError(f"truncated: expected {expected} bytes, have {have}; copy or save it again")


def _read_parquet(source: _Source) -> Raw:
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
    return Raw(np.stack(columns, axis=1) if columns else np.empty((table.num_rows, 0)), notes)


def _read_text(source: _Source) -> Raw:
    """Numbers separated by commas, semicolons or tabs."""
    # a byte outside UTF-8 stands in a header, where it does no harm, or in a cell that is refused
    with io.TextIOWrapper(source.stream, encoding="utf-8-sig", errors="replace", newline="") as text:
        head = text.read(CHUNK)
        text.seek(0)
        lines = [re.sub(r'"[^"]*"', "", line) for line in head.splitlines()]
        delimiter = max("\t;,", key=lambda d: sum(d in line for line in lines))  # "1,5;2,5": the first wins a tie
        comma = delimiter != "," and re.search(r'(?m)(^|[;\t])\s*"?[+-]?\d*,\d', head) is not None
        reader = csv.reader(_lines(text), delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            return _table(((reader.line_num, row) for row in reader if len(row) > 1 or "".join(row).strip()), comma)
        except csv.Error as error:
            raise DataError(f"row {reader.line_num}: {error}; check the quotes there") from error


def _read_words(source: _Source) -> Raw:
    """One label a line, quoted or not."""
    with io.TextIOWrapper(source.stream, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(_lines(text), strict=True)
        try:
            rows = [(reader.line_num, row) for row in reader]
        except csv.Error as error:
            raise DataError(f"row {reader.line_num}: {error}; check the quotes there") from error
    for line, row in rows:
        if len(row) != 1 or not row[0].strip():
            raise DataError(f"row {line} has {len(row)} cells, or is blank; write one label a row")
    return Raw(np.array([row[0].strip() for _, row in rows], str))


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines of `text`; one without end is refused before it fills the memory."""
    for number in itertools.count(1):
        line = text.readline(MAX_LINE)
        if len(line) == MAX_LINE:
            raise DataError(f"row {number} is longer than {MAX_LINE} characters; not a table of numbers")
        if not line:
            return
        yield line


def _table(rows: Iterator[tuple[int, list[str]]], comma: bool) -> Raw:
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
    if cell.lower() in _MISSING:
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


def _counts_rows(values: np.ndarray) -> bool:
    """Whether the first of several columns counts from 0 or 1, which independent draws as good as never do."""
    n, d = values.shape
    return d > 1 and n > 2 and values[0, 0] in (0, 1) and np.array_equal(values[:, 0], values[0, 0] + np.arange(n))


_BROKEN = (  # what the readers of the standard library and pyarrow raise on damaged files
    OSError, EOFError, ValueError, RuntimeError, LookupError, OverflowError, MemoryError,
    struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
_MISSING = frozenset(("", "nan", "-nan", "na", "n/a", "#n/a", "<na>", "null", "none"))
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_FORMATS = (  # the first match counts
    _Format("an .npy array", rb"\x93NUMPY", _read_npy, (".npy",)),
    _Format("a zip archive (.npz)", rb"PK(\x03\x04|\x05\x06)", _read_npz, (".npz",)),
    _Format("Parquet", rb"PAR1", _read_parquet, (".parquet",)),
    _Format("gzip", rb"\x1f\x8b", _read_gzip, (".gz",)),
    _Format("IDX", rb"\x00\x00[\x08\x09\x0b-\x0e]", _read_idx, (".idx",)),
    _Format("a Python pickle, which is never loaded", rb"\x80[\x02-\x05]"),
    _Format("UTF-16 text", rb"\xff\xfe|\xfe\xff"),
    _Format("HDF5", rb"\x89HDF"),
    _Format("an image or document", rb"\x89PNG|\xff\xd8\xff|GIF8|%PDF"),
    _Format("a compressed file", rb"BZh|\xfd7zXZ|\x28\xb5\x2f\xfd"),
    _Format("text", rb"[^\x00-\x08\x0e-\x1f]*\Z", _read_text, (".csv", ".tsv")),
    _Format("binary data of no known format", b""),
)
