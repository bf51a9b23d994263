"""How the user's own table was written, and generated rows written likewise, so that a program which read the training
file reads them too."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from estimators.samples.arrays import DataError, Samples
from estimators.samples.written import is_date, is_flag, moments, spelled, words_of

EXACT = 2.0**53
"""Whole numbers up to this are exact in float64."""


@dataclass(frozen=True)
class Form:
    """The columns of a table as its user has them."""

    names: tuple[str, ...] = ()  # () where they have none
    levels: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  # the categories of each column of codes
    written: Mapping[int, str] = field(default_factory=dict)  # the style of cells that are no plain numbers
    delimiter: str = ","  # between the cells of a text

    @classmethod
    def of(cls, samples: Samples) -> Self:
        """That of samples as they were read."""
        return cls(samples.columns, samples.levels, samples.written, samples.delimiter)

    @property
    def plain(self) -> bool:
        """Whether all columns are numbers, so that an array says all."""
        return not self.levels and not any(is_date(style) for style in self.written.values())

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        return vars(self) | {"levels": dict(self.levels), "written": dict(self.written)}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """What `to_json` returned, after JSON made texts of the keys."""
        levels = {int(j): tuple(found) for j, found in facts["levels"].items()}
        written = {int(j): style for j, style in facts["written"].items()}
        return cls(tuple(facts["names"]), levels, written, facts["delimiter"])

    def typed(self, rows: np.ndarray) -> list[np.ndarray]:
        """The columns of rows [n, d], each in its type: words, dates, truth values, whole numbers, numbers."""
        return [self._typed(j, column) for j, column in enumerate(rows.T)]

    def _typed(self, j: int, column: np.ndarray) -> np.ndarray:
        style = self.written.get(j, "")
        if j in self.levels:
            return words_of(self.levels[j], style)[column.astype(int)]
        if is_date(style):
            return moments(column, style)
        if is_flag(style):
            return column > 0.5
        whole = ((column == np.round(column)) & (np.abs(column) <= EXACT)).all()
        return column.astype(np.int64) if whole else column

    def cells(self, rows: np.ndarray) -> list[Sequence[Any]]:
        """The columns of rows [n, d] as they are written in a text."""
        typed = self.typed(rows)
        return [self._cells(j, column, typed[j]) for j, column in enumerate(rows.T)]

    def _cells(self, j: int, column: np.ndarray, typed: np.ndarray) -> Sequence[Any]:
        style = self.written.get(j, "")
        if not style or j in self.levels:
            return typed.tolist()
        return spelled(column if is_date(style) or is_flag(style) else typed, style)

    def frame(self, rows: np.ndarray) -> Any:
        """Rows [n, d] as a data frame of pandas."""
        import pandas

        return pandas.DataFrame(dict(zip(self.names or range(rows.shape[1]), self.typed(rows), strict=True)))


def write_npy(path: Path, rows: np.ndarray, form: Form) -> None:
    """Rows [n, d] as float64, without names: categories as codes, dates as days since 1970."""
    np.save(path, rows, allow_pickle=False)


def write_csv(path: Path, rows: np.ndarray, form: Form) -> None:
    """Rows [n, d] under the names of their columns, if there are any; whole columns without a decimal point."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=form.delimiter)
        if form.names:
            writer.writerow(form.names)
        writer.writerows(zip(*form.cells(rows), strict=True))


def write_parquet(path: Path, rows: np.ndarray, form: Form) -> None:
    """The same as Parquet, with names 1, 2, … where there are none. Raises DataError without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError("Parquet needs pyarrow; pip install 'fgan[parquet]'") from error
    names = form.names or [str(j + 1) for j in range(rows.shape[1])]
    pq.write_table(pa.table(dict(zip(names, map(pa.array, form.typed(rows)), strict=True))), path)


WRITERS: dict[str, Callable[[Path, np.ndarray, Form], None]] = {
    ".npy": write_npy,
    ".csv": write_csv,
    ".tsv": lambda path, rows, form: write_csv(path, rows, replace(form, delimiter="\t")),
    ".parquet": write_parquet,
}
"""Ending of a file → what writes it."""
