"""File formats, recognised by their first bytes. Nothing that is read is executed: no pickle is ever loaded."""

from __future__ import annotations

import gzip
import itertools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from estimators.samples.arrays import DataError, Raw
from estimators.samples.binary import Source, read_idx, read_npy, read_npz, read_parquet
from estimators.samples.text import read_text

Reader = Callable[[Source], Raw]


class Format(NamedTuple):
    """How files of a format are named in messages, the pattern of their first bytes, their reader and extensions."""

    what: str
    magic: bytes
    read: Reader | None = None
    extensions: tuple[str, ...] = ()


def read_gzip(source: Source) -> Raw:
    """An IDX array inside gzip."""
    with gzip.GzipFile(fileobj=source.stream, mode="rb") as stream:
        if (inside := _sniff(stream.read(8))).read is not read_idx:
            raise DataError(f"gzip around {inside.what}, where only IDX is read; gunzip it first")
        stream.rewind()
        return read_idx(source._replace(stream=stream, size=None))  # type: ignore[arg-type]


FORMATS: dict[str, Format] = {
    "npy": Format("an .npy array", rb"\x93NUMPY", read_npy, (".npy",)),
    "npz": Format("a zip archive (.npz)", rb"PK(\x03\x04|\x05\x06)", read_npz, (".npz",)),
    "parquet": Format("Parquet", rb"PAR1", read_parquet, (".parquet",)),
    "gzip": Format("gzip", rb"\x1f\x8b", read_gzip, (".gz",)),
    "idx": Format("IDX", rb"\x00\x00[\x08\x09\x0b-\x0e]", read_idx, (".idx",)),
    "pickle": Format("a Python pickle, which is never loaded", rb"\x80[\x02-\x05]"),
    "utf-16": Format("UTF-16 text", rb"\xff\xfe|\xfe\xff"),
    "hdf5": Format("HDF5", rb"\x89HDF"),
    "picture": Format("an image or document", rb"\x89PNG|\xff\xd8\xff|GIF8|%PDF"),
    "compressed": Format("a compressed file", rb"BZh|\xfd7zXZ|\x28\xb5\x2f\xfd"),
}
"""Formats with bytes of their own; those without a reader are named when they are refused."""
TEXT = Format("text", rb"[^\x00-\x08\x0e-\x1f]*\Z", read_text, (".csv", ".tsv"))
UNKNOWN = Format("binary data of no known format", b"")


def recognise(head: bytes, extension: str | None) -> tuple[str, Reader]:
    """(what it is, its reader), by the first bytes of a file.

    A file's extension must say that text is a table; a stream, which has none (None), may be one.

    Raises:
        DataError: the extension promises another format, or nothing here reads this one.
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
