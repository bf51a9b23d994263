"""Files of decoded pictures, so that many of them are decoded once and read by number from then on.

They lie in `$XDG_CACHE_HOME/fgan/pictures` (`~/.cache/fgan/pictures`), or in the folder that FGAN_PICTURE_CACHE names.
A file is the bytes of all squares, then JSON, its length in 8 bytes, and MAGIC. Its name is a hash of the names, sizes
and times of change of the pictures' files and of what they are made; one that is damaged is made again. None is ever
removed by this program: a note says where it lies.
"""

import hashlib
import json
import math
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from estimators.samples.arrays import DataError, printable
from fgan.config.cache_home import cache_home
from fgan.data.stored_rows import StoredRows

FOLDER = "FGAN_PICTURE_CACHE"
MAGIC = b"fganpix1"
BLOCK = 1 << 24  # bytes that are checked at once
ROOM = 1 << 26  # bytes that stay free on the disk


class Decoded(NamedTuple):
    """Rows of pictures in a file, and what is wrong with each picture there was, or None: those have a row each."""

    rows: StoredRows
    faults: list[str | None]


def key_of(files: Sequence[Path], form: Any) -> str:
    """A name for what becomes of these files: of their names, sizes and times of change, and of `form`."""
    digest = hashlib.sha256(repr(form).encode())
    for path in files:
        try:
            found = path.stat()
            facts = f"{found.st_size}\0{found.st_mtime_ns}"
        except OSError as error:  # who opens it names the fault
            facts = f"{error.errno}"
        digest.update(f"{os.fspath(path)}\0{facts}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def folder() -> Path:
    """Where decoded pictures lie. Raises DataError where there is no home."""
    if named := os.environ.get(FOLDER):
        return Path(named).expanduser()
    try:
        return cache_home() / "pictures"
    except RuntimeError as error:
        raise DataError(f"no home to keep decoded pictures in ({error}); name a folder by {FOLDER}=DIR") from error


def found(key: str) -> Decoded | None:
    """The file of that name, if it is there and sound; a damaged one is removed."""
    path = folder() / f"{key}.rows"
    try:
        with open(path, "rb") as file:
            told = _told(file)
        if told is not None and told.get("key") == key:
            return Decoded(StoredRows.of(path, 0, tuple(told["shape"])), told["faults"])
        path.unlink(missing_ok=True)
    except OSError:  # none, or none that can be read: another is made in its place
        return None
    return None


def make(key: str, shape: tuple[int, ...], decode: Callable[[Path], list[str | None]]) -> Decoded:
    """The file of that name with rows of `shape`, which `decode` writes into a draft; it says what was wrong with each.

    Raises DataError: no room, no permission.
    """
    kept, size = folder(), math.prod(shape)
    try:
        kept.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(kept / f"{key}.lock"):  # another run that decodes the same: it has soon done
            if (there := found(key)) is not None:
                return there
            if (free := shutil.disk_usage(kept).free) < size + ROOM:
                raise DataError(
                    f"{printable(os.fspath(kept))}: {size:,} bytes of decoded pictures do not fit into the {free:,} "
                    f"that are free; make room, lower data.side, or name another folder by {FOLDER}=DIR"
                )
            _write(kept / f"{key}.rows", key, shape, decode)
        made = found(key)
    except OSError as error:
        name = printable(os.fspath(kept))
        raise DataError(
            f"{name}: {error.strerror or error}; name a folder for decoded pictures by {FOLDER}=DIR"
        ) from error
    if made is None:
        name = printable(os.fspath(kept))
        raise DataError(f"{name}: decoded pictures were damaged at once; name a folder on another disk by {FOLDER}=DIR")
    return made


def _write(path: Path, key: str, shape: tuple[int, ...], decode: Callable[[Path], list[str | None]]) -> None:
    """The file, whole or not at all; nobody can lay a link where its draft will be: its name is random."""
    draft, size = path.with_name(f".{key}.{secrets.token_hex(8)}.tmp"), math.prod(shape)
    try:
        with open(draft, "xb") as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is better met now
        faults = decode(draft)
        with open(draft, "r+b") as file:
            told = {"key": key, "shape": shape, "faults": faults, "sums": _sums(file, size)}
            text = json.dumps(told).encode()
            file.seek(size)
            file.write(text + len(text).to_bytes(8, "little") + zlib.crc32(text).to_bytes(4, "little") + MAGIC)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _told(file: Any) -> dict[str, Any] | None:
    """The JSON of a sound file, whose rows have been read once and are as they were written; None for another."""
    end = file.seek(0, os.SEEK_END)
    if end < 20:
        return None
    file.seek(end - 20)
    tail = file.read(20)
    length, checksum = int.from_bytes(tail[:8], "little"), int.from_bytes(tail[8:12], "little")
    if tail[12:] != MAGIC or length > end - 20:
        return None
    file.seek(end - 20 - length)
    text = file.read(length)
    if zlib.crc32(text) != checksum:
        return None
    told: dict[str, Any] = json.loads(text)  # as it was written
    size = math.prod(told["shape"])
    sound = size == end - 20 - length and told["sums"] == _sums(file, size)
    return told if sound else None


def _sums(file: Any, size: int) -> list[int]:
    """Checksums of the rows, block by block."""
    file.seek(0)
    return [zlib.crc32(file.read(min(BLOCK, size - at))) for at in range(0, size, BLOCK)]
