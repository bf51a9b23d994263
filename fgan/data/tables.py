"""Generated rows as a file that a program which read the training file reads too."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from estimators.samples.arrays import DataError


def write_npy(path: Path, rows: np.ndarray, names: Sequence[str]) -> None:
    """Rows [n, d] as float64, without names."""
    np.save(path, rows, allow_pickle=False)


def write_csv(path: Path, rows: np.ndarray, names: Sequence[str]) -> None:
    """Rows [n, d] under the names of their columns, if there are any; whole columns without a decimal point."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if names:
            writer.writerow(names)
        writer.writerows(zip(*(column.tolist() for column in _columns(rows)), strict=True))


def write_parquet(path: Path, rows: np.ndarray, names: Sequence[str]) -> None:
    """The same as Parquet, with names 1, 2, … where there are none. Raises DataError without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError("Parquet needs pyarrow; pip install 'fgan[parquet]'") from error
    names = names or [str(j + 1) for j in range(rows.shape[1])]
    pq.write_table(pa.table(dict(zip(names, _columns(rows), strict=True))), path)


WRITERS: dict[str, Callable[[Path, np.ndarray, Sequence[str]], None]] = {
    ".npy": write_npy,
    ".csv": write_csv,
    ".parquet": write_parquet,
}
"""Ending of a file → what writes it."""

EXACT = 2.0**53
"""Whole numbers up to this are exact in float64."""


def _columns(rows: np.ndarray) -> list[np.ndarray]:
    """The columns of rows [n, d], of whole numbers as int64."""
    whole = ((rows == np.round(rows)) & (np.abs(rows) <= EXACT)).all(axis=0)
    return [column.astype(np.int64) if w else column for column, w in zip(rows.T, whole, strict=True)]
