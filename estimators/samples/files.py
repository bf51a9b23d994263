"""Samples and labels in files (.npy, .npz, .csv, .tsv, .parquet, IDX, gzipped IDX), or in standard input as `-`.

A format is recognised by its first bytes (`FORMATS`). Nothing that is read is executed: no pickle is ever loaded.
Everything unusable is a one-line `DataError`.
"""

from __future__ import annotations

import gzip
import itertools
import os
import re
import stat
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import IO, NamedTuple

import numpy as np

from estimators.samples import readers, text
from estimators.samples.arrays import Samples, checked, naming
from estimators.samples.names import select, without_index
from estimators.samples.raw import DataError, Raw, printable
from estimators.samples.readers import CHUNK, FREE_EXPANSION, MAX_EXPANSION, Source

Path = str | os.PathLike[str]
Reader = Callable[[Source], Raw]
STANDARD_INPUT = "-"
_BROKEN = (  # what the readers of the standard library and pyarrow raise on damaged files
    OSError, EOFError, ValueError, RuntimeError, LookupError, OverflowError, MemoryError,
    struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


def read_samples(
    path: Path,
    *,
    key: str | None = None,
    nan_policy: str = "raise",
    minimum: int = 2,
    flatten: bool = False,
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
    absent_ok: bool = False,
) -> Samples:
    """Checked samples [n, d] of a file, or of standard input where `path` is `-` (a file of that name is `./-`).

    `key` picks the array of an .npz, the rest as in `as_samples`. A first column of text that counts the rows, or did
    before they were shuffled, is an index like one with the name of an index: it is dropped, with a note.

    Args:
        drop: names of columns to leave out, or where they have none their numbers, from 1 in text, from 0 in arrays.
        categorical: columns, called likewise, whose numbers are names of categories, as postal codes are.
        absent_ok: whether a column to drop may be absent, for sets of which only one has it.
    """
    name, raw = _read(path, key, Wanted(drop, categorical, absent_ok))
    with naming(name):
        raw = select(raw, drop, categorical, absent_ok)
    return _samples(name, raw, nan_policy, minimum, flatten)


class SampleSlice(NamedTuple):
    """Consecutive samples of a file, from the `begin`-th on, and the table [n, d] of all of them as it is stored."""

    samples: Samples
    begin: int
    table: np.ndarray


def read_slice(
    path: Path,
    k: int,
    slices: int,
    *,
    key: str | None = None,
    nan_policy: str = "raise",
    flatten: bool = False,
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
) -> SampleSlice:
    """The k-th of `slices` equal slices of the samples that `read_samples` would read, checked.

    The table of an .npy stays in the file, and its rows are read when they are needed: here those of the slice and no
    others. Other files, an .npy in Fortran's order, any under "omit" and any with columns to `drop` or `categorical`
    are read and checked as a whole.
    """
    name, raw = _read(path, key, Wanted(drop, categorical), instead={readers.read_npy: readers.map_npy})
    with naming(name):
        raw = select(raw, drop, categorical)
    mapped = isinstance(raw.array, np.memmap) and nan_policy == "raise" and not (drop or categorical)
    whole = None if mapped else _samples(name, raw, nan_policy, 2, flatten)
    table = raw.array.reshape(len(raw.array), -1) if whole is None else whole.values
    if len(table) < slices:
        raise DataError(f"{name}: {len(table)} samples cannot be divided among {slices} processes; start fewer")
    begin, end = (len(table) * i // slices for i in (k, k + 1))
    if whole is not None:
        return SampleSlice(replace(whole, values=table[begin:end], kept=None), begin, table)
    minimum, name = (2, name) if slices == 1 else (1, f"{name}, rows {begin} to {end - 1} of {len(table)}")
    raw = Raw(raw.array[begin:end], first=begin)
    return SampleSlice(checked(raw, name, nan_policy, minimum, flatten), begin, table)


def read_array(path: Path, *, key: str | None = None, mapped: bool = False) -> np.ndarray:
    """The array of a file as stored, in native byte order (images, labels), without the checks of samples.

    `mapped` leaves that of an .npy in its file, as a `numpy.memmap`, where its rows lie one after the other.
    """
    array = _read(path, key, instead={readers.read_npy: readers.map_npy} if mapped else {})[1].array
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_labels(path: Path) -> np.ndarray:
    """Labels [n] of the rows of a sample file: words, one a line of text, or whole numbers from any other format."""
    name, raw = _read(path, None, instead={text.read_text: text.read_words})
    array = raw.array[:, 0] if raw.array.ndim == 2 and raw.array.shape[1] == 1 else raw.array
    with np.errstate(invalid="ignore"):  # what is not finite fails the comparison
        labels = array if array.dtype.kind == "U" else array.astype(np.int64)
    if array.ndim != 1 or not array.size or not np.array_equal(labels, array):
        shape = f"shape {raw.array.shape}, dtype {raw.array.dtype}"
        raise DataError(f"{name}: {shape}; labels are one whole number or word a row")
    return labels


class Format(NamedTuple):
    """How files of a format are named in messages, the pattern of their first bytes, their reader and extensions."""

    what: str
    magic: bytes
    read: Reader | None = None
    extensions: tuple[str, ...] = ()


def read_gzip(source: Source) -> Raw:
    """An IDX array inside gzip."""
    with gzip.GzipFile(fileobj=source.stream, mode="rb") as stream:
        if (inside := _sniff(stream.read(8))).read is not readers.read_idx:
            raise DataError(f"gzip around {inside.what}, where only IDX is read; gunzip it first")
        stream.rewind()
        return readers.read_idx(source._replace(stream=stream, size=None))  # type: ignore[arg-type]


FORMATS: dict[str, Format] = {
    "npy": Format("an .npy array", rb"\x93NUMPY", readers.read_npy, (".npy",)),
    "npz": Format("a zip archive (.npz)", rb"PK(\x03\x04|\x05\x06)", readers.read_npz, (".npz",)),
    "parquet": Format("Parquet", rb"PAR1", readers.read_parquet, (".parquet",)),
    "gzip": Format("gzip", rb"\x1f\x8b", read_gzip, (".gz",)),
    "idx": Format("IDX", rb"\x00\x00[\x08\x09\x0b-\x0e]", readers.read_idx, (".idx",)),
    "pickle": Format("a Python pickle, which is never loaded", rb"\x80[\x02-\x05]"),
    "hdf5": Format("HDF5", rb"\x89HDF"),
    "picture": Format("an image or document", rb"\x89PNG|\xff\xd8\xff|GIF8|%PDF"),
    "compressed": Format("a compressed file", rb"BZh|\xfd7zXZ|\x28\xb5\x2f\xfd"),
}
"""Formats with bytes of their own; those without a reader are named when they are refused."""
UTF_16 = rb"\xff\xfe(?!\x00\x00)|\xfe\xff|(?:[\t\n\r -~]\x00)+\Z|(?:\x00[\t\n\r -~])+\Z"
"""The mark of UTF-16, or its plain letters, low or high byte first."""
TEXT = Format("text", rb"[^\x00-\x08\x0e-\x1f]*\Z|" + UTF_16, text.read_text, (".csv", ".tsv"))
UNKNOWN = Format("binary data of no known format", b"")


class Wanted(NamedTuple):
    """The columns that a person drops, those taken as categories, and whether one to drop may be absent."""

    drop: Sequence[str] = ()
    categorical: Sequence[str] = ()
    absent_ok: bool = False


NO_COLUMNS = Wanted()


def _samples(name: str, raw: Raw, nan_policy: str, minimum: int, flatten: bool) -> Samples:
    """`raw` as samples, without a row index."""
    return checked(without_index(raw), name, nan_policy, minimum, flatten)


def _read(
    path: Path, key: str | None, wanted: Wanted = NO_COLUMNS, instead: Mapping[Reader, Reader] = MappingProxyType({})
) -> tuple[str, Raw]:
    """(printable name, content) of a file, by the readers that replace others in `instead`.

    It is checked before it is opened: a pipe would wait, a device never end.
    """
    path = os.fsdecode(path)
    name = "standard input" if path == STANDARD_INPUT else printable(path)
    with naming(name, *_BROKEN):
        if path == STANDARD_INPUT:
            with _standard_input() as stream:
                return name, _content(stream, None, key, wanted, instead)
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = "directory" if stat.S_ISDIR(status.st_mode) else "pipe, device or socket"
            raise DataError(f"a {kind}, not a file; name a file of samples, or - for standard input")
        with open(path, "rb") as stream:
            return name, _content(stream, os.path.splitext(path)[1].lower(), key, wanted, instead)


def _content(
    stream: IO[bytes],
    extension: str | None,
    key: str | None,
    wanted: Wanted,
    instead: Mapping[Reader, Reader],
) -> Raw:
    if (size := stream.seek(0, os.SEEK_END)) == 0:
        raise DataError("empty file (0 bytes); save it again")
    stream.seek(0)
    what, read = _recognise(stream.read(CHUNK), extension)
    if key is not None and read is not readers.read_npz:
        raise DataError(f"key {key!r} given for {what}; keys name the arrays of an .npz")
    stream.seek(0)
    return instead.get(read, read)(Source(stream, size, size, key, *wanted))


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


def _recognise(head: bytes, extension: str | None) -> tuple[str, Reader]:
    """(what it is, its reader), by the first bytes of a file.

    A file's extension must say that text is a table; a stream, which has none (None), may be one.

    Raises DataError: the extension promises another format, or nothing here reads this one.
    """
    form = _sniff(head)
    promised = next((f for f in _all() if extension in f.extensions), None)
    if promised and promised is not form:
        raise DataError(f"{extension} means {promised.what}, but this is {form.what}; rename, convert or copy it again")
    if form.read is None or (promised is None and form is TEXT and extension is not None):
        known = " ".join(itertools.chain(*(f.extensions for f in _all())))
        named = "" if extension is None else f", extension {extension or 'missing'}"
        raise DataError(f"{form.what}{named}; rename it or convert it to one of {known}")
    return form.what, form.read


def _sniff(head: bytes) -> Format:
    return next(form for form in _all() if re.match(form.magic, head))


def _all() -> Iterator[Format]:
    """The first match counts."""
    return itertools.chain(FORMATS.values(), (TEXT, UNKNOWN))
