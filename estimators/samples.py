"""Sample sets at the door: arrays and files become checked float64 matrices, or one `DataError` that says why not.

The first axis counts samples, the second coordinates. Files (.npy, .npz, .csv, .tsv, .parquet, IDX, gzipped IDX) are
recognised by their first bytes. Nothing read is executed (no pickle), and a declared size is compared with the bytes
that are there before memory is taken. Places in text files count from 1, as an editor does; in arrays from 0.
Imports numpy and the standard library; pyarrow only when a Parquet file is read.
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
import zipfile
import zlib
from array import array as packed
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, Any, NamedTuple

import numpy as np

Path = str | os.PathLike[str]
FLOAT32_MAX = float(np.finfo(np.float32).max)
FREE_EXPANSION, MAX_RATIO, MAX_EXPANSION = 2**24, 200, 2**32  # bytes to unpack freely; beyond them limits
MAX_NPY_HEADER, MAX_AXES, CHUNK = 10_000, 32, 2**20


class DataError(ValueError):
    """Samples that cannot be used; the message is one line: what, where, how many, what to do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """A checked sample set: values [n, d], float64, C-contiguous, native byte order, finite, within float32 range.

    name: the file or argument, printable; notes: what was done to the input; shape: that of one sample before
    flattening, () if nothing was flattened. The values may share memory with the array they came from.
    """

    values: np.ndarray
    name: str
    notes: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()


class _Source(NamedTuple):
    stream: IO[bytes]
    size: int | None  # bytes in the stream, None inside gzip
    stored: int  # bytes on disk
    key: str | None = None


class _Raw(NamedTuple):
    array: np.ndarray
    notes: tuple[str, ...] = ()
    lines: np.ndarray | None = None  # [n] line of each row, for text


class _Format(NamedTuple):
    what: str
    magic: bytes  # pattern of the first bytes
    read: Callable[[_Source], _Raw] | None = None
    extensions: tuple[str, ...] = ()


def as_samples(
    array: Any, *, name: str = "x", nan_policy: str = "raise", minimum: int = 2, flatten: bool = False
) -> Samples:
    """Checked samples [n, d] of an array: NumPy, masked, JAX, torch, pandas, nested lists, anything with `__array__`.

    array: [n, d]; [n] is n samples of dimension 1 (noted); more axes need `flatten`. A `Samples` passes through.
    nan_policy: "raise", or "omit" to drop rows with NaN (masked, NA) and infinite values, counted in the notes.
    minimum: fewest samples accepted, after dropping. Raises DataError; ValueError for an unknown `nan_policy`.
    """
    if isinstance(array, Samples):
        return array
    with _about(name, TypeError, ValueError, RuntimeError, OverflowError, AttributeError):
        raw = _Raw(_to_numpy(array))
    return _checked(raw, name, nan_policy, minimum, flatten)


def read_samples(
    path: Path, *, key: str | None = None, nan_policy: str = "raise", minimum: int = 2, flatten: bool = False
) -> Samples:
    """Checked samples [n, d] of a file; `key` picks the array of an .npz, the rest as in `as_samples`.

    A first column of text that counts the rows (0, 1, … or 1, 2, …) is a row index: dropped, with a note.
    """
    name, raw = _read(path, key)
    samples = _checked(raw, name, nan_policy, minimum, flatten)
    if raw.lines is None or not _counts_rows(raw.array):
        return samples
    notes = (*samples.notes, f"{name}: the first column counts the rows: taken for an index and dropped")
    return replace(samples, values=np.ascontiguousarray(samples.values[:, 1:]), notes=notes)


def read_array(path: Path, *, key: str | None = None) -> np.ndarray:
    """The array of a file as stored, in native byte order (images, labels), without the checks of samples."""
    array = _read(path, key)[1].array
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def check_pair(x: Samples, y: Samples) -> tuple[str, ...]:
    """Warnings, in plain words, about two sets to be compared, x ~ P and y ~ Q.

    Raises DataError if a sample of x and one of y differ in dimension, or in shape before flattening.
    """
    if x.values.shape[1] != y.values.shape[1]:
        shapes = f"{x.name} has shape {x.values.shape}, {y.name} has shape {y.values.shape}"
        raise DataError(f"{shapes}: both need the same number of columns")
    if x.shape and y.shape and x.shape != y.shape:
        shapes = f"one sample of {x.name} has shape {x.shape}, one of {y.name} {y.shape}"
        raise DataError(f"{shapes}: of one size, but their coordinates do not correspond; reshape one of them")
    return (*_repetitions(x, y), *_constants(x, y))


class ConstantColumns(NamedTuple):
    """Indices of the columns constant in both sets, with equal or different values, or in one set only."""

    equal: np.ndarray
    different: np.ndarray
    x_only: np.ndarray
    y_only: np.ndarray


def constant_columns(x: np.ndarray, y: np.ndarray) -> ConstantColumns:
    """The constant columns of x [n, d] and y [m, d]."""
    in_x, in_y, same = np.all(x == x[0], axis=0), np.all(y == y[0], axis=0), x[0] == y[0]
    kinds = in_x & in_y & same, in_x & in_y & ~same, in_x & ~in_y, in_y & ~in_x
    return ConstantColumns(*map(np.flatnonzero, kinds))


def _constants(x: Samples, y: Samples) -> Iterator[str]:
    meanings = (
        f"constant and equal in {x.name} and {y.name}: without effect on any divergence",
        f"constant in {x.name} and {y.name}, with different values: disjoint support, KL is infinite",
        f"constant in {x.name} only: P is not absolutely continuous with respect to Q, unless Q has an atom there",
        f"constant in {y.name} only: P is not absolutely continuous with respect to Q",
    )
    for columns, meaning in zip(constant_columns(x.values, y.values), meanings):
        if len(columns):
            more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
            yield f"column {', '.join(map(str, columns[:5]))}{more} (counting from 0) {meaning}"


def _repetitions(x: Samples, y: Samples) -> Iterator[str]:
    # rows compared by hash; + 0.0 turns −0.0 into 0.0
    p, q = (np.fromiter((hash(r.tobytes()) for r in s.values + 0.0), np.int64, len(s.values)) for s in (x, y))
    for name, hashes in (x.name, p), (y.name, q):
        if repeated := len(hashes) - len(np.unique(hashes)):
            yield f"{name}: {repeated} of {len(hashes)} rows repeat an earlier row; estimates assume independent draws"
    if np.array_equal(np.sort(p), np.sort(q)):
        order = "" if np.array_equal(p, q) else ", in another order"
        yield f"{x.name} and {y.name} have the same content{order}: every divergence between them is 0"
    elif shared := np.isin(p, q).sum():
        yield f"{shared} of {len(p)} rows of {x.name} also occur in {y.name}: the sets are not independent"


@contextmanager
def _about(name: str, *foreign: type[Exception]) -> Iterator[None]:
    """Put the name before a DataError, and make DataErrors of the foreign errors that broken input causes."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from error.__cause__
    except foreign as error:
        said = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        what = "truncated" if isinstance(error, EOFError) else "cannot be read"
        raise DataError(f"{name}: {what}: {_printable(said)}; check it or save it again") from error


def _printable(text: str) -> str:
    """text with whatever could steer a terminal escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _to_numpy(array: Any) -> np.ndarray:
    """The NumPy array of an array-like; masked and NA become NaN."""
    if hasattr(array, "detach"):  # torch refuses __array__ under gradients, on accelerators and for bfloat16
        array = array.detach().cpu()
        array = array.float() if "bfloat16" in str(array.dtype) else array
    if type(array).__module__.partition(".")[0] == "pandas":
        dtypes = list(array.dtypes) if array.ndim == 2 else [array.dtype]
        if strange := [f"{d} in column {j}" for j, d in enumerate(dtypes) if getattr(d, "kind", "O") not in "biuf"]:
            raise DataError(f"{len(strange)} columns are not numbers, first {strange[0]}; drop or convert them")
        if len(set(dtypes)) > 1 or not all(isinstance(d, np.dtype) for d in dtypes):
            return array.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.ma.is_masked(array):
        return np.where(np.ma.getmaskarray(array), np.nan, _float64(array.data))
    return np.asarray(array)


def _require_numbers(dtype: np.dtype) -> None:
    if dtype.kind not in "biuf" and not (dtype.type.__module__ == "ml_dtypes" and "float" in dtype.name):
        raise DataError(f"dtype {str(dtype)[:80]} {_REMEDIES.get(dtype.kind, 'is not a number; convert it')}")


def _float64(array: np.ndarray) -> np.ndarray:
    _require_numbers(array.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # a long double may become inf, which is found later
        return np.require(array, np.float64, ["C", "A"])


def _checked(raw: _Raw, name: str, nan_policy: str, minimum: int, flatten: bool) -> Samples:
    if nan_policy not in ("raise", "omit"):
        raise ValueError(f"nan_policy is {nan_policy!r}: choose 'raise' or 'omit'")
    with _about(name):
        array, notes = _float64(raw.array), list(raw.notes)
        if array.size == 0 or array.ndim == 0:
            raise DataError(f"shape {array.shape} holds no samples; an array [samples, dimensions] is needed")
        if array.ndim > 2 and not flatten:
            raise DataError(f"shape {array.shape} has {array.ndim} axes, not 2; flatten=True (--flatten) joins them")
        if raw.array.dtype.kind in "biu":
            notes.append(f"{raw.array.dtype.name} cast to float64, not rescaled")
            if raw.array.dtype.itemsize == 8 and np.abs(array).max() >= 2**53:
                notes.append("integers beyond 2^53 are rounded")
        if array.ndim != 2:
            notes.append(f"shape {array.shape} taken as {len(array)} samples of dimension {math.prod(array.shape[1:])}")
        values, dropped = _usable(array.reshape(len(array), -1), raw.lines, nan_policy == "omit")
        if len(values) < minimum:
            count = f"{len(values)} of {len(array)} samples left" if dropped else f"only {len(values)} samples"
            raise DataError(f"{count}, of dimension {values.shape[1]}; at least {minimum} are needed")
    shape = array.shape[1:] if array.ndim > 2 else ()
    return Samples(values=values, name=name, notes=tuple(f"{name}: {n}" for n in (*notes, *dropped)), shape=shape)


def _usable(values: np.ndarray, lines: np.ndarray | None, omit: bool) -> tuple[np.ndarray, list[str]]:
    """The rows that float32 can hold, and notes on those dropped; DataError at the first other, unless `omit`."""
    notes = []
    clean = "clean them, or drop these rows with nan_policy='omit' (--nan-policy omit)"
    for what, test, remedy in (
        ("NaN or missing values", np.isnan, clean),
        ("infinite values", np.isinf, clean),
        ("values beyond float32 (3.4e38)", lambda v: (v > FLOAT32_MAX) | (v < -FLOAT32_MAX), "rescale the data"),
    ):
        bad = test(values)
        rows = bad.any(axis=1)
        if not rows.any():
            continue
        counted = f"{rows.sum()} of {len(rows)} rows"
        if not omit or remedy is not clean:
            row, column = divmod(int(bad.argmax()), values.shape[1])
            place = f"row {row}, column {column} (counting from 0)"
            place = place if lines is None else f"row {lines[row]}, column {column + 1}"
            raise DataError(f"{counted} hold {what}, the first at {place}; {remedy}")
        values, lines = values[~rows], None if lines is None else lines[~rows]
        notes.append(f"dropped {counted} with {what}")
    return values, notes


def _read(path: Path, key: str | None) -> tuple[str, _Raw]:
    """(printable name, content) of a file; looked at before it is opened: a pipe would wait, a device never end."""
    path = os.fsdecode(path)
    name = _printable(path)
    with _about(name, *_BROKEN):
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = "directory" if stat.S_ISDIR(status.st_mode) else "pipe, device or socket"
            raise DataError(f"a {kind}, not a file; name a file of samples")
        if status.st_size == 0:
            raise DataError("empty file (0 bytes); save it again")
        with open(path, "rb") as stream:
            what, read = _recognise(stream.read(CHUNK), os.path.splitext(path)[1].lower())
            if key is not None and read is not _read_npz:
                raise DataError(f"key {key!r} given for {what}; keys name the arrays of an .npz")
            stream.seek(0)
            return name, read(_Source(stream, status.st_size, status.st_size, key))


def _sniff(head: bytes) -> _Format:
    return next(form for form in _FORMATS if re.match(form.magic, head))


def _recognise(head: bytes, extension: str) -> tuple[str, Callable[[_Source], _Raw]]:
    """The format by content; refused where the extension promises another, or where nothing here reads it."""
    form = _sniff(head)
    promised = next((f for f in _FORMATS if extension in f.extensions), None)
    if promised and promised is not form:
        raise DataError(f"{extension} means {promised.what}, but this is {form.what}; rename, convert or copy it again")
    if form.read is None or (promised is None and form.read is _read_text):
        known = " ".join(itertools.chain(*(f.extensions for f in _FORMATS)))
        raise DataError(f"{form.what}, extension {extension or 'missing'}; rename it or convert it to one of {known}")
    return form.what, form.read


def _read_npy(source: _Source) -> _Raw:
    """An .npy array; the header is parsed as a literal of bounded length, its dtype only in the form NumPy writes."""
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
        raise DataError(f"dtype {descr!r:.80} {_REMEDIES['V']}")
    return _Raw(_payload(source, dtype, sizes, 8 + wide + length, "F" if fortran else "C"))


def _read_idx(source: _Source) -> _Raw:
    """An IDX array: two zero bytes, type, number of axes, the axes and data, big-endian (yann.lecun.com/exdb/mnist)."""
    _, _, kind, axes = _take(source, 4)
    shape = struct.unpack(f">{axes}i", _take(source, 4 * axes, 4))
    return _Raw(_payload(source, np.dtype(_IDX_TYPES[kind]), shape, 4 + 4 * axes))


def _read_gzip(source: _Source) -> _Raw:
    """An IDX array inside gzip."""
    with gzip.GzipFile(fileobj=source.stream) as stream:
        if (inside := _sniff(stream.read(8))).read is not _read_idx:
            raise DataError(f"gzip around {inside.what}, where only IDX is read; gunzip it first")
        stream.rewind()
        return _read_idx(source._replace(stream=stream, size=None))  # type: ignore[arg-type]


def _read_npz(source: _Source) -> _Raw:
    """One array of a zip archive of .npy members."""
    if not zipfile.is_zipfile(source.stream):
        raise DataError(f"truncated: {source.stored} bytes, without the directory that ends a zip file; save it again")
    archive = zipfile.ZipFile(source.stream)
    members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
    chosen = [m for m in members if source.key in (None, m.filename.removesuffix(".npy"))]
    if len(chosen) != 1:
        keys = ", ".join(_printable(m.filename.removesuffix(".npy")) for m in members[:20]) or "none"
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
    _require_numbers(dtype)
    if min(shape, default=0) < 0 or len(shape) > MAX_AXES or math.prod(k or 1 for k in shape) * dtype.itemsize >= 2**62:
        raise DataError(f"impossible shape {str(shape)[:80]} in the header; save it again")
    nbytes = math.prod(shape) * dtype.itemsize
    if source.size is not None and source.size < offset + nbytes:
        raise _truncated(offset + nbytes, source.size)
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


def _refuse_bomb(source: _Source, nbytes: int) -> None:
    plain = source.size == source.stored
    if nbytes > FREE_EXPANSION and (nbytes > MAX_RATIO * source.stored or (nbytes > MAX_EXPANSION and not plain)):
        raise DataError(f"{source.stored} bytes would unpack to {nbytes}; if you trust it, save it unpacked")


def _truncated(expected: int, have: int) -> DataError:
    return DataError(f"truncated: expected {expected} bytes, have {have}; copy or save it again")


def _read_parquet(source: _Source) -> _Raw:
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
    return _Raw(np.stack(columns, axis=1) if columns else np.empty((table.num_rows, 0)), notes)


def _read_text(source: _Source) -> _Raw:
    """Numbers separated by commas, semicolons or tabs."""
    # a byte outside UTF-8 stands in a header, where it does no harm, or in a cell that is refused
    with io.TextIOWrapper(source.stream, encoding="utf-8-sig", errors="replace", newline="") as text:
        head = text.read(CHUNK)
        text.seek(0)
        lines = [re.sub(r'"[^"]*"', "", line) for line in head.splitlines()]
        delimiter = max("\t;,", key=lambda d: sum(d in line for line in lines))  # "1,5;2,5": the first wins a tie
        comma = delimiter != "," and re.search(r'(?m)(^|[;\t])\s*"?[+-]?\d*,\d', head) is not None
        reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            return _table(((reader.line_num, row) for row in reader if len(row) > 1 or "".join(row).strip()), comma)
        except csv.Error as error:
            raise DataError(f"row {reader.line_num}: {error}; check the quotes there") from error


def _table(rows: Iterator[tuple[int, list[str]]], comma: bool) -> _Raw:
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
    return _Raw(np.array(values).reshape(len(lines), width), notes, np.array(lines))


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
_REMEDIES = {
    "c": "is complex; stack real and imaginary parts as columns",
    "O": "holds Python objects, perhaps pickled, which are never loaded; save an array of numbers",
    "V": "is structured or of unknown type; save one plain array (bfloat16 as float32)",
}
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
