"""Pictures in Parquet, as Hugging Face writes them: one file, or a folder of shards.

    image: struct {bytes, path}, or binary     the pictures, .png, .jpg or .webp each
    label: whole numbers                       optional, in every shard or none

A column of another name is taken where it is the only one of its kind; `data.key` names one of several. Shards whose
name or folder begins with test, validation and so on are held out where others begin with train. Of a picture's path
nothing is read; nothing in a table is ever executed.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from estimators.samples.arrays import DataError, printable
from fgan.config.schema import Data
from fgan.data.image_set import MINIMUM, Folder, ImageSet, shown
from fgan.data.picture_blocks import LENGTH, TableRows
from fgan.data.picture_files import HELD_OUT_FOLDERS, TRAINING_FOLDERS, every_file
from fgan.data.squares import Source, squares

ENDING = ".parquet"
LABELS = ("label", "labels", "class", "target", "fine_label")  # names of a column of classes, the first there is
IMAGES = ("image", "img", "picture", "images")  # of one of pictures, where there are several
MAX_RATIO = 200  # packed bytes to bytes in memory; what unpacks to more is no picture, and pictures hardly pack at all
FREE = 1 << 24  # bytes that may be unpacked anyhow


class Shard(NamedTuple):
    """A file: its column of pictures, its column of labels or None, and the rows of each of its row groups."""

    path: Path
    column: tuple[str, ...]
    labels: str | None
    groups: tuple[int, ...]


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files at `path`: itself, or those in the folder, at any depth; [] where there are none."""
    if not path.is_dir():
        return [path] if path.suffix.lower() == ENDING else []
    return sorted(file for file in every_file(path) if file.suffix.lower() == ENDING)


def read_parquet_images(files: Sequence[Path], data: Data) -> Folder:
    """The pictures in these files as squares of bytes. Raises DataError naming a file, row and remedy."""
    at = Path(os.path.expanduser(data.path))
    shards = [_shard(file, data.key) for file in files]
    blocks, numbers = [], []
    for k, shard in enumerate(shards):
        blocks += _blocks(shard)
        numbers.append(np.full(sum(shard.groups), k))
    of_shard = np.concatenate(numbers)
    if len(of_shard) < MINIMUM:
        raise DataError(f"{shown(at)}: only {len(of_shard)} pictures; at least {MINIMUM} are needed to train on")
    labels, notes = _labels(shards, at)
    try:
        images, kept, more = squares(Source(blocks, list(files), at), data)
    except OSError as error:
        raise DataError(f"{shown(at)}: {printable(error.strerror or str(error))}") from error
    everything = ImageSet(images, None if labels is None else labels[kept])
    tested = _held_out(at, files)[of_shard[kept]]
    train, test = everything, None
    if tested.any():
        train, test = everything.taken(np.flatnonzero(~tested)), everything.taken(np.flatnonzero(tested))
    if len(train.images) < MINIMUM:
        raise DataError(f"{shown(at)}: only {len(train.images)} pictures to train on, at least {MINIMUM} are needed")
    count = f"{len(train.images):,} pictures" + (f" and {len(test.images):,} held out" if test else "")
    where = f"{len(files)} Parquet file{'s' * (len(files) > 1)} at {shown(at)}"
    return Folder(train, test, (f"{count}, as squares of {train.described()}, from {where}", *notes, *more))


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError("Parquet needs pyarrow; pip install 'fgan[parquet]'") from error
    return pyarrow


def _line(error: BaseException) -> str:
    return printable(str(error).splitlines()[0][:120]) if str(error) else type(error).__name__


def _shard(path: Path, key: str) -> Shard:
    """What the footer of a file says. Raises DataError."""
    arrow, name = _arrow(), shown(path)
    try:
        with arrow.parquet.ParquetFile(path) as file:
            meta, schema = file.metadata, file.schema_arrow
            sizes = [meta.row_group(i).total_byte_size for i in range(meta.num_row_groups)]
            groups = tuple(meta.row_group(i).num_rows for i in range(meta.num_row_groups))
    except arrow.ArrowException as error:
        raise DataError(f"{name}: no Parquet, or damaged ({_line(error)}); copy or save it again") from error
    except OSError as error:
        why = error.strerror or f"damaged ({_line(error)})"
        raise DataError(f"{name}: {why}; allow reading it, or copy or save it again") from error
    if sum(sizes) > max(FREE, MAX_RATIO * path.stat().st_size):
        raise DataError(f"{name}: {path.stat().st_size:,} bytes would unpack to {sum(sizes):,}; save it unpacked")
    return Shard(path, _column(schema, key, name), _label_column(schema, name), groups)


def _column(schema: Any, key: str, name: str) -> tuple[str, ...]:
    """The column of pictures: its name, and that of the bytes within structs. Raises DataError."""
    kinds = _arrow().types

    def binary(kind: Any) -> bool:
        return kinds.is_binary(kind) or kinds.is_large_binary(kind)

    found: dict[str, tuple[str, ...]] = {}
    for field in schema:
        if binary(field.type):
            found[field.name] = (field.name,)
        elif kinds.is_struct(field.type) and any(part.name == "bytes" and binary(part.type) for part in field.type):
            found[field.name] = (field.name, "bytes")
    named = [n for n in (key,) if n] or [n for n in IMAGES if n in found][:1] or list(found)
    if len(named) == 1 and named[0] in found:
        return found[named[0]]
    columns = ", ".join(f"{printable(field.name)} ({str(field.type)[:40]})" for field in list(schema)[:8]) or "none"
    if key or not found:
        wanted = f"no column {printable(key)} of pictures" if key else "no column of pictures"
        raise DataError(f"{name}: {wanted}, as binary or structs with bytes; it has {columns}")
    raise DataError(f"{name}: {len(found)} columns of bytes; name one, as in --data.key {printable(named[0])}")


def _label_column(schema: Any, name: str) -> str | None:
    """The column of classes, or None."""
    kinds = _arrow().types
    whole = [field.name for field in schema if kinds.is_integer(field.type)]
    return next((n for n in LABELS if n in whole), whole[0] if len(whole) == 1 else None)


def _blocks(shard: Shard) -> list[TableRows]:
    """The rows of a file in blocks."""
    blocks, number = [], 0
    for group, rows in enumerate(shard.groups):
        for first in range(0, rows, LENGTH):
            count = min(LENGTH, rows - first)
            blocks.append(TableRows(os.fspath(shard.path), shard.column, group, first, count, number + first))
        number += rows
    return blocks


def _labels(shards: Sequence[Shard], at: Path) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """(the class of each row of all files, or None without; what the user should know). Raises DataError."""
    without = [shard for shard in shards if shard.labels is None]
    if len(without) == len(shards):
        return None, ("no column of whole numbers that says classes: all are scored alike",)
    if without:
        raise DataError(f"{shown(without[0].path)}: no labels, which other files have; drop that column, or add it")
    arrow, found = _arrow(), []
    for shard in shards:
        try:
            column = arrow.parquet.read_table(shard.path, columns=[shard.labels], partitioning=None).column(0)
        except (arrow.ArrowException, OSError) as error:
            raise DataError(f"{shown(shard.path)}: damaged ({_line(error)}); copy or save it again") from error
        if column.null_count:
            raise DataError(
                f"{shown(shard.path)}: {column.null_count} empty cells in column {printable(str(shard.labels))}; fill "
                "them, or drop the column"
            )
        found.append(column.to_numpy())
    labels = np.concatenate(found).astype(np.int64)
    if (labels < 0).all():  # Hugging Face's sign that labels are kept secret
        return None, ("all labels are negative, which says that there are none: all are scored alike",)
    return labels, (f"{len(np.unique(labels))} classes, by column {printable(str(shards[0].labels))}",)


def _held_out(at: Path, files: Sequence[Path]) -> np.ndarray:
    """Whether each file holds test pictures, where others hold training pictures. Raises DataError."""
    begun = [_begins(at, file) for file in files]
    tested = np.array([bool(words & set(HELD_OUT_FOLDERS)) for words in begun])
    trained = np.array([bool(words & set(TRAINING_FOLDERS)) for words in begun])
    if not (tested.any() and trained.any()):
        return np.zeros(len(files), bool)
    if (other := np.flatnonzero(~(tested | trained))).size:
        raise DataError(
            f"{shown(files[other[0]])}: beside files of training and test pictures; rename it as one of them, or move "
            "it elsewhere"
        )
    return tested


def _begins(at: Path, file: Path) -> set[str]:
    """The first word of the name of a file and of each folder on the way to it."""
    parts = file.relative_to(at).parts if file != at else (file.name,)
    return {word for part in parts for word in re.split(r"[^a-z]", part.lower())[:1] if word}
