"""Readers of binary formats: .npy and .npz, IDX, Parquet.

Each takes a `Source` and returns a `Raw` array. A declared size is compared with the bytes that are there before memory
is taken.
"""

from __future__ import annotations

import ast
import math
import operator
import os
import re
import struct
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any, NamedTuple

import numpy as np

from estimators.samples.arrays import REMEDIES, require_numbers
from estimators.samples.arrow import of_arrow
from estimators.samples.raw import DataError, Raw, printable

CHUNK = 2**20  # bytes read at once
FREE_EXPANSION = 2**24  # bytes that any file may unpack to
MAX_RATIO, MAX_EXPANSION = 200, 2**32  # beyond these, a limit relative to its size on disk, and one in bytes
MAX_NPY_HEADER, MAX_AXES = 10_000, 32  # bytes, and axes of an array: NumPy's own limits
IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


class Source(NamedTuple):
    """A stream, its bytes (None inside gzip), its bytes on disk, the array asked for, the columns that a person drops,
    and those taken as categories, and whether a column to drop may be absent."""

    stream: IO[bytes]
    size: int | None
    stored: int
    key: str | None = None
    drop: Sequence[str] = ()
    categorical: Sequence[str] = ()
    absent_ok: bool = False


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
        schema, groups = file.schema_arrow, range(file.metadata.num_row_groups)
        packed = sum(file.metadata.row_group(i).total_byte_size for i in groups)  # of texts: they stay packed
        _refuse_bomb(source, max(8 * file.metadata.num_rows * len(schema), packed))
        texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
        table = pq.ParquetFile(source.stream, read_dictionary=texts).read()
        return of_arrow(table, source.drop, source.categorical, source.absent_ok, schema)
    except pa.ArrowException as error:
        raise ValueError(error) from error


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
