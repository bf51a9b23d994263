"""Sample sets as checked float64 matrices, or one `DataError` that names the fault and the remedy.

The first axis counts samples, the second coordinates. Rows and columns are counted from 1 in text files, as editors do,
and from 0 in arrays. The content of files passes the same checks: `estimators.samples.files`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from estimators.samples.arrow import exchanged, of_arrow
from estimators.samples.columns import decimals, grids, written
from estimators.samples.names import IF_INDEX, INDEX, called, each_once, select, without_index
from estimators.samples.objects import of_columns, of_frame
from estimators.samples.raw import DataError, Raw, printable

FLOAT32_MAX = float(np.finfo(np.float32).max)
LOST = 1e-6
"""Gap between neighbouring float64 numbers, in standard deviations of a column, from which digits count as lost."""
ATOM = 0.01
"""Share of all rows from which on a value with few decimals is an atom of the law. Copies are rarely so many."""
FEWEST_AT_ATOM = 10  # rows: a few copies of one row are no atom in a small sample
FEWEST_GROUPS = 10
"""Groups of copies a set, so that each of five folds has two; with fewer every row stands for itself."""
REPEATS = 5.0
"""Rows a value from which on repeated rows count as values of a discrete law. With fewer, shares say little."""
Groups = tuple[np.ndarray, np.ndarray]
"""A label for each row of x and for each row of y; rows of one label are not independent of each other."""
REMEDIES = {
    "c": "is complex; stack real and imaginary parts as columns",
    "O": "holds Python objects, perhaps pickled, which are never loaded; save an array of numbers",
    "V": "is structured or of unknown type; save one plain array (bfloat16 as float32)",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """A checked sample set.

    Attributes:
        values: [n, d], float64, C-contiguous, finite, within float32 range; they may share memory with the input.
        name: of the file or argument, printable.
        notes: what was done to the input.
        shape: of one sample before flattening, () if nothing was flattened.
        kept: which rows of the input these are [rows of the input] bool, None for all of them.
        columns: the names of the columns, () where they have none, or one twice.
        levels: the categories of each column that holds codes for them: codes 0, 1, … count these.
        units: the unit of each column whose numbers were written with one, or stand for dates.
        written: how the cells of a column were written, where that is no plain number (`estimators.samples.written`).
        delimiter: what stood between two cells of a text.
        header: the names as they stood, also where one is there twice, () without any.
        types: how columns of frames and Parquet were stored: "text", or the name of a type of numbers.
        places: the number of each column in the input, from 0, () where none was left out.
        start: from which number people count the columns of the input, 1 in a text.
        absent: the columns that were to be dropped and that the input does not have.
    """

    values: np.ndarray
    name: str
    notes: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    kept: np.ndarray | None = None
    columns: tuple[str, ...] = ()
    levels: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    units: Mapping[int, str] = field(default_factory=dict)
    written: Mapping[int, str] = field(default_factory=dict)
    delimiter: str = ","
    header: tuple[str, ...] = ()
    types: Mapping[int, str] = field(default_factory=dict)
    places: tuple[int, ...] = ()
    start: int = 0
    absent: tuple[str, ...] = ()

    def rounded(self, digits: int) -> Samples:
        """The same, numbers to so many digits after the point."""
        note = f"{self.name}: rounded to {digits} decimals"
        values = np.round(self.values, digits)
        values[:, list(self.levels)] = self.values[:, list(self.levels)]
        return dataclasses.replace(self, values=values, notes=(*self.notes, note))

    def indicated(self) -> np.ndarray:
        """The values with a column of 0 and 1 for each category but the first in place of a column of codes."""
        columns = [
            self.values[:, j] == np.arange(1, len(self.levels[j]))[:, None] if j in self.levels else column[None]
            for j, column in enumerate(self.values.T)
        ]
        return np.ascontiguousarray(np.concatenate(columns).T, np.float64) if self.levels else self.values

    def indicators_of(self) -> np.ndarray:
        """The column of `values` that each column of `indicated` stands for."""
        width = self.values.shape[1]
        return np.repeat(np.arange(width), [len(self.levels[j]) - 1 if j in self.levels else 1 for j in range(width)])

    def require_numbers(self, remedy: str) -> None:
        """Raise DataError where a column holds categories."""
        for column in self.levels:
            raise DataError(
                f"{self.name}: {self.called(column)} holds categories, where only numbers will do; {remedy}"
            )

    def called(self, columns: int | Sequence[int], counting: bool = False) -> str:
        """How messages call columns: by their numbers in the input, and by name; where they have none it may be said
        from which number they are `counting`."""
        words = called(columns, self.columns, self.start, self.places)
        return f"{words} (counting from {self.start})" if counting and not self.columns else words

    def aligned(self, labels: Any) -> np.ndarray:
        """The labels of the rows kept, of `labels`, one a row of the input. Raises DataError for another number."""
        labels = np.asarray(labels)
        rows = len(self.values) if self.kept is None else len(self.kept)
        if labels.shape != (rows,):
            raise DataError(f"{self.name}: {rows} rows, but labels of shape {labels.shape}; give one label a row")
        return labels if self.kept is None else labels[self.kept]


def as_samples(
    array: Any,
    *,
    name: str = "x",
    nan_policy: str = "raise",
    minimum: int = 2,
    flatten: bool = False,
    drop: Sequence[Any] = (),
    categorical: Sequence[Any] = (),
    absent_ok: bool = False,
) -> Samples:
    """Checked samples [n, d] of an array: NumPy, masked, JAX, torch, pandas, nested lists, anything with `__array__`.

    Args:
        array: [n, d]; [n] is n samples of dimension 1 (noted); more axes need `flatten`. A `Samples` passes through.
        nan_policy: "raise", or "omit" to drop rows with NaN (masked, NA) and infinite values, counted in the notes.
        minimum: fewest samples accepted, after dropping.
        drop, categorical: columns to leave out, and columns whose numbers are names of categories: by name, or where
            they have none by number, from 0.
        absent_ok: whether a column to drop may be absent, for sets of which only one has it.

    Words and categories become codes, dates days since 1970-01-01, with a note.

    Raises:
        DataError: the array is no set of samples.
        ValueError: an unknown `nan_policy`.
    """
    if isinstance(array, Samples):
        if drop or categorical:
            raise DataError(f"{array.name}: read already; give drop= and categorical= to read_samples")
        return array
    with naming(name, TypeError, ValueError, RuntimeError, OverflowError, AttributeError):
        for option, columns in (("drop", drop), ("categorical", categorical)):
            if isinstance(columns, str):
                raise DataError(f"{option} = {printable(columns)!r}: give a list, {option}=[{printable(columns)!r}]")
        wanted = tuple(map(str, drop)), tuple(map(str, categorical)), absent_ok
        raw = select(_raw(array, *wanted), *wanted)
    return checked(without_index(raw), name, nan_policy, minimum, flatten)


def check_pair(x: Samples, y: Samples) -> tuple[str, ...]:
    """Warnings, in plain words, about two sets to be compared, x ~ P and y ~ Q.

    Raises:
        DataError: a sample of x and one of y differ in dimension, or in shape before flattening.
    """
    if x.values.shape[1] != y.values.shape[1]:
        shapes = f"{x.name} has shape {x.values.shape}, {y.name} has shape {y.values.shape}"
        index = [side.name for side in (x, y) if any(INDEX in note for note in side.notes)]
        without = f"; of {' and '.join(index)} an index was dropped" if index else ""
        raise DataError(f"{shapes}: both need the same number of columns{without}")
    if x.shape and y.shape and x.shape != y.shape:
        shapes = f"one sample of {x.name} has shape {x.shape}, one of {y.name} {y.shape}"
        raise DataError(f"{shapes}: of one size, but their coordinates do not correspond; reshape one of them")
    called = [x.called(j, counting=True) for j in range(x.values.shape[1])]
    rounded = grids(x.values, y.values, (x.name, y.name), called)
    lost = _lost_digits(x.values, y.values, called)
    return (*_few_rows(x, y), *_repetitions(x, y), *_constants(x, y), *lost, *rounded, *_divided(x, y, called))


def own_rows(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of x [n] and y [m] are no copies, bool: the first of their kind in their set, absent from the other.

    A row with few decimals in every column, as prices have, may repeat in independent draws: it is no copy.
    """
    hashes = row_hashes(x), row_hashes(y)

    def own(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        first = np.zeros(len(one), bool)
        first[np.unique(one, return_index=True)[1]] = True
        return first & ~np.isin(one, other)

    kept = own(*hashes), own(*reversed(hashes))
    return tuple(k | written(rows).all(axis=1) for k, rows in zip(kept, (x, y), strict=True))  # type: ignore[return-value]


def same_content(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether x [n, d] and y [m, d] have the same rows, in any order."""
    return np.array_equal(np.sort(row_hashes(x)), np.sort(row_hashes(y)))


class ConstantColumns(NamedTuple):
    """Indices of the columns constant in both sets, with equal or different values, or in one set only."""

    equal: np.ndarray
    different: np.ndarray
    x_only: np.ndarray
    y_only: np.ndarray


def constant_columns(x: np.ndarray, y: np.ndarray) -> ConstantColumns:
    """The constant columns of x [n, d] and y [m, d]."""
    in_x, in_y, same = np.all(x == x[0], axis=0), np.all(y == y[0], axis=0), x[0] == y[0]
    kinds = in_x & in_y & same, in_x & in_y & ~same, in_x & ~in_y, in_y & ~in_x
    return ConstantColumns(*map(np.flatnonzero, kinds))


def _constants(x: Samples, y: Samples) -> Iterator[str]:
    meanings = (
        f"constant and equal in {x.name} and {y.name}: without effect on any divergence",
        f"constant in {x.name} and {y.name}, with different values: disjoint support, KL is infinite",
        f"constant in {x.name} only: P is not absolutely continuous with respect to Q, unless Q has an atom there",
        f"constant in {y.name} only: P is not absolutely continuous with respect to Q",
    )
    for columns, meaning in zip(constant_columns(x.values, y.values), meanings):
        if len(columns):
            yield f"{x.called(columns.tolist(), counting=True)} {meaning}"


def _few_rows(x: Samples, y: Samples) -> Iterator[str]:
    rows, columns = max(len(x.values), len(y.values)), x.values.shape[1]
    if rows < columns:
        yield (
            f"{columns} columns, but {len(x.values)} rows of {x.name} and {len(y.values)} of {y.name}: if each column "
            "is a sample, transpose both; else there is too little to learn, and the interval lacks what critics miss"
        )


def _lost_digits(x: np.ndarray, y: np.ndarray, called: Sequence[str]) -> Iterator[str]:
    """Of the first column whose values lie so far from 0 that float64 rounds off digits of their deviations."""
    pooled = np.concatenate([x, y])
    deviation, gap = pooled.std(axis=0), np.spacing(np.abs(pooled).max(axis=0))
    for column in np.flatnonzero((deviation > 0.0) & (gap > LOST * deviation))[:1]:
        remedy = "lies so far from 0 that float64 rounds its spread to few digits; subtract an offset from both sets"
        yield f"{called[column]} {remedy}"


def _divided(x: Samples, y: Samples, called: Sequence[str]) -> Iterator[str]:
    """Of columns that number the rows of both sets, as in a table that was numbered before it was divided."""
    rows = len(x.values) + len(y.values)
    least = np.minimum(x.values.min(axis=0), y.values.min(axis=0))
    span = np.maximum(x.values.max(axis=0), y.values.max(axis=0)) - least
    for j in np.flatnonzero(span == rows - 1).tolist() if len(called) > 1 else []:
        pooled = np.concatenate([x.values[:, j], y.values[:, j]])
        if each_once(pooled) and not (each_once(x.values[:, j]) and each_once(y.values[:, j])):
            numbers = f"each whole number from {least[j]:.0f} to {least[j] + rows - 1:.0f} once"
            yield f"{called[j]}: {x.name} and {y.name} together hold {numbers}; {IF_INDEX}"


def row_hashes(values: np.ndarray) -> np.ndarray:
    """A number [n] uint64 for each row [n, d], equal for equal rows: the sum of its values' mixed bits (splitmix64).

    Two different rows share a number about once in 10¹⁹ pairs. + 0.0 turns −0.0 into 0.0.
    Source: Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators.
    """
    hashes = np.zeros(len(values), np.uint64)
    for j, column in enumerate(values.T):
        bits = (column + 0.0).view(np.uint64) + np.uint64((j + 1) * 0x9E3779B97F4A7C15 % 2**64)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashes += bits ^ (bits >> np.uint64(31))
    return hashes


def discrete(*sets: np.ndarray) -> bool:
    """Whether the rows of all `sets` [n, d] are values of a discrete law: each there `REPEATS` times on average, and
    either with few decimals in every column or, most of them, in every set. Copies of measurements are not."""
    pooled = np.concatenate(sets)
    of_sets = [np.unique(row_hashes(rows)) for rows in sets]
    distinct = reduce(np.union1d, of_sets)
    if len(pooled) < REPEATS * len(distinct):
        return False
    everywhere = reduce(np.intersect1d, of_sets) if len(sets) > 1 else distinct[:0]
    return all(decimals(column) is not None for column in pooled.T) or 2 * len(everywhere) > len(distinct)


def at_atoms(pooled: np.ndarray) -> np.ndarray:
    """Which of the rows [n, d] are at an atom, bool: a value with few decimals that `ATOM` of them have, such as 0 or a
    limit of the scale. Rows at an atom are no sign of each other."""
    _, first, labels, counts = np.unique(row_hashes(pooled), return_index=True, return_inverse=True, return_counts=True)
    often = np.flatnonzero(counts >= max(ATOM * len(pooled), FEWEST_AT_ATOM))
    return np.isin(labels, often[written(pooled[first[often]]).all(axis=1)])


def twins(x: Samples, y: Samples) -> Groups | None:
    """Labels of the rows of x and of y, the same for copies of one row, which keep these in one fold; None without any.

    Equal rows are copies, in one set or in both, unless the law is discrete or the rows are at an atom.
    """
    pooled, n = np.concatenate([x.values, y.values]), len(x.values)
    distinct, labels = np.unique(row_hashes(pooled), return_inverse=True)
    rows = len(labels)
    if len(distinct) == rows or discrete(x.values, y.values):
        return None
    labels = np.where(at_atoms(pooled), len(distinct) + np.arange(rows), labels)
    groups = labels[:n], labels[n:]
    spread = min(len(np.unique(side)) for side in groups) >= FEWEST_GROUPS
    return groups if spread and len(np.unique(labels)) < rows else None


def _repetitions(x: Samples, y: Samples) -> Iterator[str]:
    p, q = row_hashes(x.values), row_hashes(y.values)
    values_repeat = discrete(x.values, y.values)  # as they must, in independent rows
    alone_p, alone_q = np.split(~at_atoms(np.concatenate([x.values, y.values])), [len(p)])
    for name, hashes, alone in () if values_repeat else ((x.name, p, alone_p), (y.name, q, alone_q)):
        if repeated := alone.sum() - len(np.unique(hashes[alone])):
            yield f"{name}: {repeated} of {len(hashes)} rows repeat an earlier row; estimates assume independent draws"
    if same_content(x.values, y.values) and (np.array_equal(p, q) or not values_repeat):
        order = "" if np.array_equal(p, q) else ", in another order"
        yield f"{x.name} and {y.name} have the same content{order}: every divergence between them is 0"
    elif not values_repeat and (shared := np.isin(p[alone_p], q).sum()):
        yield f"{shared} of {len(p)} rows of {x.name} also occur in {y.name}: the sets are not independent"


@contextmanager
def naming(name: str, *foreign: type[Exception]) -> Iterator[None]:
    """Put the name before a DataError, and turn the foreign errors that broken input causes into DataErrors."""
    try:
        yield
    except DataError as error:
        raise error.again(f"{name}: {error}") from error.__cause__
    except foreign as error:
        message = getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
        what = "truncated" if isinstance(error, EOFError) else "cannot be read"
        raise DataError(f"{name}: {what}: {printable(message)}; check it or save it again") from error


def _raw(array: Any, drop: Sequence[str], categorical: Sequence[str], absent_ok: bool) -> Raw:
    """The table of an array-like; masked and NA are NaN."""
    if hasattr(array, "detach"):  # torch refuses __array__ under gradients, on accelerators and for bfloat16
        array = array.detach().cpu()
        array = array.float() if "bfloat16" in str(array.dtype) else array
    options = drop, categorical, absent_ok
    if hasattr(array, "column_names") and hasattr(array, "schema"):
        return of_arrow(array, *options)
    if hasattr(array, "columns") and hasattr(array, "shape"):
        return of_frame(array, *options)
    if hasattr(array, "__dataframe__"):
        return of_arrow(exchanged(array), *options)
    if hasattr(array, "to_pandas") and not hasattr(array, "__array__"):
        return of_frame(array.to_pandas(), *options)
    if np.ma.is_masked(array):
        return Raw(np.where(np.ma.getmaskarray(array), np.nan, _float64(array.data)))
    plain = np.asarray(array)
    if plain.dtype.kind in "OUTMm" and plain.size and plain.ndim in (1, 2):
        columns = list(plain.reshape(len(plain), -1).T)
        return of_columns(columns, (), len(plain), *options)
    return Raw(plain)


def require_numbers(dtype: np.dtype) -> None:
    if dtype.kind not in "biuf" and not (dtype.type.__module__ == "ml_dtypes" and "float" in dtype.name):
        raise DataError(f"dtype {str(dtype)[:80]} {REMEDIES.get(dtype.kind, 'is not a number; convert it')}")


def _float64(array: np.ndarray) -> np.ndarray:
    require_numbers(array.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # a long double may become inf, which `_usable` reports
        return np.require(array, np.float64, ["C", "A"])


def checked(raw: Raw, name: str, nan_policy: str, minimum: int, flatten: bool) -> Samples:
    """`raw` as samples, under the rules of `as_samples`, which hold for arrays and for files."""
    if nan_policy not in ("raise", "omit"):
        raise ValueError(f"nan_policy is {nan_policy!r}: choose 'raise' or 'omit'")
    with naming(name):
        array, notes = _float64(raw.array), list(raw.notes)
        if array.size == 0 or array.ndim == 0:
            raise DataError(f"shape {array.shape} holds no samples; an array [samples, dimensions] is needed")
        if array.ndim > 2 and not flatten:
            raise DataError(f"shape {array.shape} has {array.ndim} axes, not 2; flatten=True (--flatten) joins them")
        if raw.array.dtype.kind in "biu":
            notes.append(f"{raw.array.dtype.name} cast to float64, not rescaled")
            if raw.array.dtype.itemsize == 8 and np.abs(array).max() >= 2**53:
                notes.append("integers beyond 2^53 are rounded")
        if array.ndim != 2:
            notes.append(f"shape {array.shape} taken as {len(array)} samples of dimension {math.prod(array.shape[1:])}")
        values = array.reshape(len(array), -1)
        kept, dropped = _usable(values, raw, nan_policy == "omit")
        values = values[kept] if dropped else values
        if len(values) < minimum:
            count = f"{len(values)} of {len(array)} samples left" if dropped else f"only {len(values)} samples"
            raise DataError(f"{count}, of dimension {values.shape[1]}; at least {minimum} are needed")
    shape = array.shape[1:] if array.ndim > 2 else ()
    columns = raw.columns if len(set(raw.columns)) == values.shape[1] == len(raw.columns) else ()
    if twice := [c for c in raw.columns if raw.columns.count(c) > 1]:
        notes.append(f"several columns are called {printable(twice[0])!r}: all columns count by their order alone")
    notes = [f"{name}: {note}" for note in (*notes, *dropped)]
    return Samples(
        values=values,
        name=name,
        notes=tuple(notes),
        shape=shape,
        kept=kept if dropped else None,
        columns=columns,
        levels=raw.levels,
        units=raw.units,
        written=raw.written,
        delimiter=raw.delimiter,
        header=raw.header or raw.columns,
        types=raw.types,
        places=raw.places,
        start=raw.start,
        absent=raw.absent,
    )


def _usable(values: np.ndarray, raw: Raw, omit: bool) -> tuple[np.ndarray, list[str]]:
    """Which rows float32 can hold [n] bool, and notes on the others; DataError at the first of them, unless `omit`."""
    notes, kept = [], np.ones(len(values), bool)
    clean = "clean them, or drop these rows with nan_policy='omit' (--nan-policy omit)"
    for what, test, remedy in (
        ("NaN or missing values", np.isnan, clean),
        ("infinite values", np.isinf, clean),
        ("values beyond float32 (3.4e38)", lambda v: (v > FLOAT32_MAX) | (v < -FLOAT32_MAX), "rescale the data"),
    ):
        bad = test(values)
        rows = bad.any(axis=1) & kept
        if not rows.any():
            continue
        counted = f"{rows.sum()} of {kept.sum()} rows"
        if not omit or remedy is not clean:
            row = int(rows.argmax())
            words = called(int(bad[row].argmax()), raw.columns, raw.start, raw.places)
            where = f"row {raw.first + row}, {words} (counting from 0)"
            where = where if raw.lines is None else f"row {raw.lines[row]}, {words}"
            raise DataError(f"{counted} hold {what}, the first at {where}; {remedy}")
        kept &= ~rows
        notes.append(f"dropped {counted} with {what}")
    return kept, notes
