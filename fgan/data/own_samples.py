"""The user's own file of samples, each column in the coordinate that suits it (`fgan.data.coordinates`).

When several processes train, each checks and describes its own slice of the rows; the descriptions are exchanged and
combined, so that all processes choose alike.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np

from estimators.samples import files
from estimators.samples.arrays import DataError, Samples, as_samples, row_hashes
from estimators.samples.columns import decimals
from estimators.samples.matching import matched
from estimators.samples.names import called
from estimators.samples.raw import NoColumn, printable
from fgan.config.fields import ConfigError
from fgan.config.schema import Data
from fgan.data.column_plan import of_kind, read_plan, require_columns, require_numbers
from fgan.data.columns import is_whole
from fgan.data.coordinates import Coordinates, Known, coordinates
from fgan.data.dataset import HELD_OUT, Dataset, Rows
from fgan.data.tables import Form
from fgan.devices import processes

BLOCK = 1 << 22
"""Values described at a time; in float64 this takes 32 MiB."""
KNOWN = 10_000
"""Rows, evenly spaced in the file, by which the coordinates are chosen: a quantile of a column errs by at most 0.02 of
its rank (Dvoretzky, Kiefer, Wolfowitz). Fewer in wide tables, for processes exchange at most `KNOWN_VALUES`."""
KNOWN_VALUES = 1 << 21  # two seconds of JSON
PLAIN = Data(name="samples")
PLAYED = "coordinates 2"
"""Part of the content, so that no run goes on in other coordinates than it began in. Counted up when these change."""


def own_samples(data: Data) -> Dataset:
    """The samples in the file `data.path`, a random fifth of them held out. Raises DataError, ConfigError."""
    plan = read_plan(data.columns)
    with processes.one_fate(), of_training(), naming_plan(data, plan):
        own = files.read_slice(
            data.path, processes.index(), processes.count(), key=data.key or None, **reading(data, plan)
        )
    return of_slice(own, plan, data)


def of_rows(rows: Any, data: Data) -> Dataset:
    """Rows in memory, an array or a data frame, a random fifth of them held out. Raises DataError, ConfigError."""
    plan = read_plan(data.columns)
    with of_training(), naming_plan(data, plan):
        samples = as_samples(rows, name="data", **reading(data, plan))
    return of_slice(files.SampleSlice(samples, 0, samples.values), plan, data)


def reading(data: Data, plan: Mapping[str, str]) -> dict[str, Any]:
    """How every table of a run is read."""
    return {
        "nan_policy": data.nan_policy,
        "flatten": data.flatten,
        "drop": (*data.drop, *of_kind(plan, "drop")),
        "categorical": (*data.categorical, *of_kind(plan, "categories")),
    }


_OPTION = re.compile(r"(?<=--)(?=(?:nan-policy|key|flatten|drop|categorical)\b)")


@contextmanager
def of_training() -> Iterator[None]:
    """Give the options that an error of the readers names as a training has them: --data.drop for --drop."""
    try:
        yield
    except DataError as error:
        message = _OPTION.sub("data.", str(error))
        if isinstance(error.__cause__, FileNotFoundError):
            message += f" (a TOML file names files from its own folder, or from the working directory, {os.getcwd()})"
        raise error.again(message) from error.__cause__


@contextmanager
def naming_plan(data: Data, plan: Mapping[str, str]) -> Iterator[None]:
    """Turn an error about a column that only the plan names into one about the plan."""
    try:
        yield
    except NoColumn as error:
        if error.column in plan:
            raise ConfigError(f"data.columns = {printable(data.columns)}: {error}") from error
        raise


def of_slice(own: files.SampleSlice, plan: Mapping[str, str] = MappingProxyType({}), data: Data = PLAIN) -> Dataset:
    """The data set of a table of which this process has read a slice, with the user's plan of its columns and what
    else `data` says. Raises DataError, ConfigError."""
    with processes.one_fate(), of_training():
        require_columns(plan, data.columns, _names(own.samples))
        require_numbers(plan, data.columns, [_names(own.samples)[j] for j in own.samples.levels])
        judges = _held_out(own.samples, plan, data) if data.held_out else None
        description = describe(own, plan)
    exchanged = processes.exchange(json.dumps(description))
    found, content, notes = combine([json.loads(text) for text in exchanged])
    if judges is not None:  # scores tell of them
        content += f", judged by {hashlib.sha256(judges.tobytes()).hexdigest()}"
    order = np.random.default_rng(0).permutation(len(own.table))
    held_out, kept = np.split(order, [int(HELD_OUT * len(order)) if judges is None else 0])
    rows, held = (Rows(table=own.table, order=chosen, coordinates=found) for chosen in (np.sort(kept), held_out))
    if judges is not None:
        held = Rows(table=judges, order=np.arange(len(judges)), coordinates=found)
    in_file = isinstance(own.table, np.memmap)  # what is in memory anyway is kept as float32
    return Dataset(
        name="samples",
        dim=found.dim,
        rows=rows if in_file else np.asarray(rows),
        held_out=held if in_file else np.asarray(held),
        offset=np.zeros(found.dim),
        scale=np.ones(found.dim),
        coordinates=found,
        own=(rows, held),
        form=Form.of(own.samples, [j for j, column in enumerate(found.columns) if is_whole(column)]),
        content=content,
        notes=notes,
    )


def _held_out(own: Samples, plan: Mapping[str, str], data: Data) -> np.ndarray:
    """The rows [m, d] of the file `data.held_out`, with the columns and codes of the table.

    Raises DataError where columns are not those of the table: others, of another kind, in another unit, or with a
    category that the table does not have.
    """
    judges = files.read_samples(data.held_out, minimum=FEWEST, absent_ok=True, **reading(data, plan))
    if judges.values.shape[1] != own.values.shape[1] and not (own.columns and judges.columns):
        shapes = f"{judges.name} has {judges.values.shape[1]} columns, {own.name} {own.values.shape[1]}"
        raise DataError(f"{shapes}: give both the same columns")
    table, judges = matched(own, judges)
    for j, levels in table.levels.items():
        if unseen := [word for word in levels if word not in own.levels[j]]:
            what = f"holds {printable(unseen[0])!r}, a category that {own.name} does not have"
            raise DataError(f"{judges.name}: {own.called(j)} {what}; correct it, or train on a file that has it")
        codes = np.array([own.levels[j].index(word) for word in levels], np.float64)
        judges.values[:, j] = codes[judges.values[:, j].astype(int)]
    return judges.values


def describe(own: files.SampleSlice, plan: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Size, range, moments and decimals of each column of a slice, a sum over its rows that depends on each row's
    index, those of the rows by which coordinates are chosen, and what the user says of the columns."""
    values, moments, digest = own.samples.values, [], 0
    width = values.shape[1]
    height = max(1, BLOCK // values.shape[1])
    for i in range(0, len(values), height):
        rows = values[i : i + height]
        moments.append((len(rows), rows.mean(axis=0), rows.var(axis=0)))
        odd = 2 * np.arange(own.begin + i, own.begin + i + len(rows), dtype=np.uint64) + 1  # invertible modulo 2^64
        digest += int(np.sum(row_hashes(rows) * odd))
    mean, variance = _pooled(*zip(*moments))
    return {
        "shape": own.table.shape,
        "n": len(values),
        "low": values.min(axis=0).tolist(),
        "high": values.max(axis=0).tolist(),
        "mean": mean.tolist(),
        "variance": variance.tolist(),
        "decimals": [_decimals(column) for column in values.T],
        "levels": [len(own.samples.levels.get(j, ())) for j in range(width)],
        "kinds": [plan.get(name, "") for name in _names(own.samples)],
        "known": _known(own).tolist(),
        "digest": digest,
        "notes": own.samples.notes,
        "called": [called(j, own.samples.columns, 1) for j in range(width)],
    }


def _names(samples: Samples) -> list[str]:
    """The columns by name, or without names by number as in the file."""
    places = samples.places or range(samples.values.shape[1])
    return list(samples.columns) or [str(place + samples.start) for place in places]


def _decimals(column: np.ndarray) -> int | None:
    """The digits after the point that a column [n] needs, 0 for whole numbers, None for full precision.

    Those of some rows are asked first, for most columns of full precision are known by them.
    """
    few = 0 if (column == np.round(column)).all() else decimals(column[:KNOWN])
    if few is None or len(column) <= KNOWN:
        return few
    near = np.round(column, few)
    return few if (near == column).all() or (near.astype(np.float32) == column).all() else None


def _most(decimals: Sequence[int | None]) -> int | None:
    """The decimals of a column whose slices have so many, None for full precision."""
    return None if None in decimals else max(digits for digits in decimals if digits is not None)


def _known(own: files.SampleSlice) -> np.ndarray:
    """The rows of a slice by which coordinates are chosen, whichever slices the table is cut into."""
    values, n = own.samples.values, len(own.table)
    numbers = np.unique(np.linspace(0, n - 1, max(2, min(KNOWN, KNOWN_VALUES // values.shape[1]))).astype(int))
    return values[numbers[(numbers >= own.begin) & (numbers < own.begin + len(values))] - own.begin]


def _pooled(n: Sequence[int], means: Sequence[Any], variances: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance [d] of slices put together, of which each has n rows, a mean and a variance."""
    share = np.array(n)[:, None] / sum(n)
    mean = np.sum(share * np.array(means), axis=0)
    return mean, np.sum(share * (np.array(variances) + (np.array(means) - mean) ** 2), axis=0)


FEWEST = 10
"""Rows, so that two are held out."""


def _refuse_few(rows: int, columns: int) -> None:
    """Raise DataError where a table has too few rows to learn from."""
    if rows < FEWEST:
        raise DataError(f"{rows} rows are too few to learn from; give {FEWEST} or more")
    if rows < columns:
        raise DataError(
            f"{rows} rows of {columns} columns: more columns than rows; transpose the table if its columns are samples,"
            " or give more rows, or leave columns out (--data.drop)"
        )


def combine(descriptions: Sequence[dict[str, Any]]) -> tuple[Coordinates, str, tuple[str, ...]]:
    """(coordinates, content, notes) of a table from the descriptions of its slices.

    Raises DataError where the processes do not read the same table, or all columns are constant.
    """
    shapes = list(dict.fromkeys(tuple(description["shape"]) for description in descriptions))
    if len(shapes) > 1:
        read = " and ".join(map(str, shapes))
        raise DataError(f"the processes of this run read tables of shapes {read}; give all of them the same file")
    _refuse_few(*shapes[0])
    n, lows, highs, means, variances, known = (
        [description[name] for description in descriptions]
        for name in ("n", "low", "high", "mean", "variance", "known")
    )
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    mean, variance = _pooled(n, means, variances)
    some = np.concatenate([np.reshape(rows, (-1, len(mean))) for rows in known])
    first = descriptions[0]
    columns = [
        Known(
            some=some[:, j],
            low=float(low[j]),
            high=float(high[j]),
            mean=float(mean[j]),
            deviation=float(np.sqrt(variance[j])),
            decimals=_most([description["decimals"][j] for description in descriptions]),
            levels=first["levels"][j],
            kind=first["kinds"][j],
        )
        for j in range(len(mean))
    ]
    found = coordinates(columns)
    digest = sum(description["digest"] for description in descriptions) % 2**64
    notes = tuple(dict.fromkeys(note for description in descriptions for note in description["notes"]))
    content = f"table {shapes[0]}, {digest:016x}, {PLAYED}, {first['levels']}, {first['kinds']}"
    return found, content, (*notes, *found.notes(first["called"]))
