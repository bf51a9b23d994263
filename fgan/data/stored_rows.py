"""Rows of bytes that stay in a file, for data that memory should not hold: read by number when they are needed.

They are read, not mapped: pages of a mapped file count as memory of the process that has touched them, and a file that
was cut off while mapped kills it. What was read lately stays in the system's own cache, if there is room.
"""

import math
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from estimators.samples.arrays import DataError, printable

LARGE = 1 << 28
"""Bytes of images beyond which they stay in a file: those in memory are there up to four times while they are put in
order and sent to a device, which is then 1 GiB, a quarter of what a process should take."""
READERS = 4  # threads that read at once, so that a disk always has the next request; more made no difference on an SSD
FEW = 64  # rows that are read faster than threads start


class Handle:
    """A file that stays open, though others rename or remove it, until nobody needs it."""

    def __init__(self, path: Path):
        self.path, self.number = path, os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.number)


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredRows:
    """Rows of bytes in a file, as an array [n, *form] uint8 that is loaded by slice or numbers.

    order: [n] which rows of the file these are; offset: where its first row begins.
    """

    file: Handle
    offset: int
    form: tuple[int, ...]
    order: np.ndarray

    dtype = np.dtype(np.uint8)

    @classmethod
    def of(cls, path: Path, offset: int, shape: tuple[int, ...]) -> Self:
        """All rows of an array of this shape that begins at `offset`. Raises OSError."""
        return cls(file=Handle(path), offset=offset, form=tuple(shape[1:]), order=np.arange(shape[0]))

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, *form)."""
        return (len(self.order), *self.form)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return 1 + len(self.form)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return len(self.order)

    def taken(self, order: np.ndarray) -> Self:
        """Those rows, still in the file."""
        return replace(self, order=self.order[order])

    def flat(self) -> Self:
        """Each row as one axis."""
        return replace(self, form=(math.prod(self.form),))

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows by slice or numbers […]. Raises DataError where the file has become shorter, or cannot be read."""
        chosen = self.order[index if isinstance(index, slice) else np.asarray(index)]
        rows = chosen.ravel()
        found = np.empty((len(rows), math.prod(self.form)), np.uint8)
        if len(rows) <= FEW:
            self._read(rows, found)
        else:
            with ThreadPoolExecutor(READERS) as pool:
                list(pool.map(self._read, np.array_split(rows, READERS), np.array_split(found, READERS)))
        return found.reshape(*chosen.shape, *self.form)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:]

    def _read(self, rows: np.ndarray, into: np.ndarray) -> None:
        size, name = into.shape[1], printable(os.fspath(self.file.path))
        try:
            for row, place in zip(rows.tolist(), into):
                if os.preadv(self.file.number, [place], self.offset + row * size) != size:
                    raise DataError(f"{name}: it has become shorter while it was read; put the whole file back")
        except OSError as error:
            raise DataError(
                f"{name}: {error.strerror} while row {row} was read; copy it to a disk that works"
            ) from error
