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
from fgan.data.columns import Categories, Column

EXACT = 2.0**53
"""Whole numbers up to this are exact in float64."""


@dataclass(frozen=True)
class Form:
    """The columns of a table as its user has them."""

    names: tuple[str, ...] = ()  # the header as it stood, () without one
    levels: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  # the categories of each column of codes
    written: Mapping[int, str] = field(default_factory=dict)  # the style of cells that are no plain numbers
    types: Mapping[int, str] = field(default_factory=dict)  # how columns of frames and Parquet are stored
    whole: tuple[int, ...] = ()  # the columns of whole numbers
    delimiter: str = ","  # between the cells of a text

    @classmethod
    def of(cls, samples: Samples, whole: Sequence[int]) -> Self:
        """That of samples as they were read."""
        found = samples.levels, samples.written, samples.types
        return cls(samples.header, *found, tuple(whole), samples.delimiter)

    @property
    def plain(self) -> bool:
        """Whether all columns are numbers, so that an array says all."""
        return not self.levels and not any(is_date(style) for style in self.written.values())

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        return vars(self) | {name: dict(getattr(self, name)) for name in ("levels", "written", "types")}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """What `to_json` returned, after JSON made texts of the keys."""
        by_column: dict[str, Any] = {
            name: {int(j): tuple(found) if isinstance(found, list) else found for j, found in facts[name].items()}
            for name in ("levels", "written", "types")
        }
        return cls(tuple(facts["names"]), **by_column, whole=tuple(facts["whole"]), delimiter=facts["delimiter"])

    def require(self, columns: Sequence[Column]) -> None:
        """Raise ValueError where these are not the `columns` of a table in this form."""
        known = [len(self.levels.get(j, ())) for j in range(len(columns))]
        if any(n != c.count if isinstance(c, Categories) else n > 1 for n, c in zip(known, columns)):
            raise ValueError("its categories are not those of its columns")
        if len(self.names) not in (0, len(columns)) or len(self.delimiter) != 1:
            raise ValueError(f"{len(self.names)} names for {len(columns)} columns, {self.delimiter!r} between them")

    def typed(self, rows: np.ndarray) -> list[np.ndarray]:
        """The columns of rows [n, d], each in its type: words, dates, truth values, whole numbers, numbers."""
        return [self._typed(j, column) for j, column in enumerate(rows.T)]

    def _typed(self, j: int, column: np.ndarray) -> np.ndarray:
        style, stored = self.written.get(j, ""), self.types.get(j, "")
        if j in self.levels:
            return words_of(self.levels[j], style)[column.astype(int)]
        if stored == "text":
            return np.array(spelled(self._numbers(j, column), style or "{}"), object)
        if is_date(style):
            return moments(column, style)
        if is_flag(style):
            return column > 0.5
        numbers = self._numbers(j, column)
        return numbers.astype(stored) if stored and not (stored[0] in "iu" and numbers.dtype.kind == "f") else numbers

    def _numbers(self, j: int, column: np.ndarray) -> np.ndarray:
        """int64 where a column is whole and float64 holds it exactly."""
        return column.astype(np.int64) if j in self.whole and (np.abs(column) <= EXACT).all() else column

    def cells(self, rows: np.ndarray) -> list[Sequence[Any]]:
        """The columns of rows [n, d] as they are written in a text."""
        return [self._cells(j, column) for j, column in enumerate(rows.T)]

    def _cells(self, j: int, column: np.ndarray) -> Sequence[Any]:
        style = self.written.get(j, "")
        if j in self.levels:
            return self._typed(j, column).tolist()
        numbers = self._numbers(j, column)
        return spelled(numbers, style) if style else numbers.tolist()

    def frame(self, rows: np.ndarray) -> Any:
        """Rows [n, d] as a data frame of pandas."""
        import pandas

        made = pandas.DataFrame(dict(enumerate(self.typed(rows))))
        made.columns = pandas.Index(self.names or range(rows.shape[1]))
        return made


def write_npy(path: Path, rows: np.ndarray, form: Form) -> None:
    """Rows [n, d] as float64, without names: categories as codes, dates as days since 1970."""
    np.save(path, rows, allow_pickle=False)


def write_csv(path: Path, rows: np.ndarray, form: Form) -> None:
    """Rows [n, d] under their header, if there is one; whole columns without a decimal point."""
    cells = form.cells(rows)
    comment = any(str(cell).startswith("#") for cell in cells[0])  # unquoted it would be taken for a comment
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=form.delimiter, lineterminator="\n")
        if form.names:
            writer.writerow(form.names)
        quoting: Any = csv.QUOTE_NONNUMERIC if comment else csv.QUOTE_MINIMAL
        body = csv.writer(file, delimiter=form.delimiter, lineterminator="\n", quoting=quoting)
        body.writerows(zip(*cells, strict=True))


def write_parquet(path: Path, rows: np.ndarray, form: Form) -> None:
    """The same as Parquet, with names 1, 2, … where there are none. Raises DataError without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError("Parquet needs pyarrow; pip install 'fgan[parquet]'") from error
    names = form.names or [str(j + 1) for j in range(rows.shape[1])]
    pq.write_table(pa.table([pa.array(column) for column in form.typed(rows)], names=list(names)), path)


WRITERS: dict[str, Callable[[Path, np.ndarray, Form], None]] = {
    ".npy": write_npy,
    ".csv": write_csv,
    ".tsv": lambda path, rows, form: write_csv(path, rows, replace(form, delimiter="\t")),
    ".parquet": write_parquet,
}
"""Ending of a file → what writes it."""
