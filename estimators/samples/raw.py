"""An array as a reader hands it over, and the error that says why one cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from estimators.characters import OneLine
from estimators.characters import printable as printable


class DataError(OneLine, ValueError):
    """Samples that cannot be used; the message is one line: what is wrong, where, how many, what to do."""

    def again(self, message: str) -> DataError:
        """The same error with another message."""
        error = type(self)(message)
        error.__dict__.update(self.__dict__)
        return error


class NoColumn(DataError):
    """A column that a person names, the `column`, does not exist."""

    column = ""


class Raw(NamedTuple):
    """An array as it was read.

    Attributes:
        notes: what was done to it.
        lines: the line of each row in a text file [n].
        first: the index of its first row in the larger array of which it is a slice.
        columns: the names of its columns, () where they have none.
        levels: the categories of each column that holds codes 0, 1, … for them.
        units: the unit of each column whose numbers were written with one, or stand for dates.
        written: how the cells of a column were written, where that is no plain number (`estimators.samples.written`).
        delimiter: what stood between two cells of a text.
        header: the names as they stood, also where one is there twice, () without any.
        types: how columns of frames and Parquet were stored: "text", or the name of a type of numbers.
        places: the number of each column in its file, from 0, () where none was dropped.
        absent: the columns that were to be dropped and do not exist.
    """

    array: np.ndarray
    notes: tuple[str, ...] = ()
    lines: np.ndarray | None = None
    first: int = 0
    columns: tuple[str, ...] = ()
    levels: Mapping[int, tuple[str, ...]] = MappingProxyType({})
    units: Mapping[int, str] = MappingProxyType({})
    written: Mapping[int, str] = MappingProxyType({})
    delimiter: str = ","
    header: tuple[str, ...] = ()
    types: Mapping[int, str] = MappingProxyType({})
    places: tuple[int, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def start(self) -> int:
        """From which number people count its columns: 1 in a text, as editors do, 0 in an array."""
        return 0 if self.lines is None else 1
