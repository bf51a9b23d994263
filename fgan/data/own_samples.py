"""The user's own file of samples, each column in the coordinate that suits it (`fgan.data.coordinates`).

When several processes train, each checks and describes its own slice of the rows; the descriptions are exchanged and
combined, so that all processes choose alike.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from estimators.samples import files
from estimators.samples.arrays import DataError, row_hashes
from estimators.samples.names import called
from fgan.config.schema import Data
from fgan.data.coordinates import Coordinates, coordinates
from fgan.data.dataset import HELD_OUT, Dataset, Rows
from fgan.devices import processes

BLOCK = 1 << 22
"""Values described at a time; in float64 this takes 32 MiB."""
KNOWN = 10_000
"""Rows, evenly spaced in the file, by which the coordinates are chosen: a quantile of a column errs by at most 0.02 of
its rank (Dvoretzky, Kiefer, Wolfowitz). Fewer in wide tables, for processes exchange at most `KNOWN_VALUES`."""
KNOWN_VALUES = 1 << 21  # two seconds of JSON
PLAYED = "coordinates 1"
"""Part of the content, so that no run goes on in other coordinates than it began in. Counted up when these change."""


def own_samples(data: Data) -> Dataset:
    """The samples in the file `data.path`, a random fifth of them held out."""
    try:
        options: dict[str, Any] = {"key": data.key or None, "nan_policy": data.nan_policy, "flatten": data.flatten}
        own = files.read_slice(data.path, processes.index(), processes.count(), **options)
        own.samples.require_numbers("save the file without it")
        description = describe(own)
    except DataError as error:
        processes.exchange(json.dumps({"error": str(error)}))
        raise
    exchanged = processes.exchange(json.dumps(description))
    found, content, notes = combine([json.loads(text) for text in exchanged])
    order = np.random.default_rng(0).permutation(len(own.table))
    held_out, kept = np.split(order, [int(HELD_OUT * len(order))])
    rows, held = (Rows(table=own.table, order=chosen, coordinates=found) for chosen in (np.sort(kept), held_out))
    in_file = isinstance(own.table, np.memmap)  # what is in memory anyway is kept as float32
    return Dataset(
        name="samples",
        dim=found.dim,
        rows=rows if in_file else np.asarray(rows),
        held_out=held if in_file else np.asarray(held),
        offset=np.zeros(found.dim),
        scale=np.ones(found.dim),
        coordinates=found,
        names=own.samples.columns,
        content=content,
        notes=notes,
    )


def describe(own: files.SampleSlice) -> dict[str, Any]:
    """Size, range and moments of each column of a slice, a sum over its rows that depends on each row's index, and
    those of the rows by which coordinates are chosen."""
    values, moments, digest = own.samples.values, [], 0
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
        "whole": (values == np.round(values)).all(axis=0).tolist(),
        "known": _known(own).tolist(),
        "digest": digest,
        "notes": own.samples.notes,
        "called": [called(j, own.samples.columns, 1) for j in range(values.shape[1])],
    }


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


def combine(descriptions: Sequence[dict[str, Any]]) -> tuple[Coordinates, str, tuple[str, ...]]:
    """(coordinates, content, notes) of a table from the descriptions of its slices.

    Raises DataError where a slice has one, the processes do not read the same table, or all columns are constant.
    """
    for description in descriptions:
        if "error" in description:
            raise DataError(description["error"])
    shapes = list(dict.fromkeys(tuple(description["shape"]) for description in descriptions))
    if len(shapes) > 1:
        read = " and ".join(map(str, shapes))
        raise DataError(f"the processes of this run read tables of shapes {read}; give all of them the same file")
    n, low, high, means, variances, whole, known = (
        [description[name] for description in descriptions]
        for name in ("n", "low", "high", "mean", "variance", "whole", "known")
    )
    mean, variance = _pooled(n, means, variances)
    some = np.concatenate([np.reshape(rows, (-1, len(mean))) for rows in known])
    ends = np.min(low, axis=0), np.max(high, axis=0)
    found = coordinates(some, *ends, mean, np.sqrt(variance), np.all(whole, axis=0))
    digest = sum(description["digest"] for description in descriptions) % 2**64
    notes = tuple(dict.fromkeys(note for description in descriptions for note in description["notes"]))
    content = f"table {shapes[0]}, {digest:016x}, {PLAYED}"
    return found, content, (*notes, *found.notes(descriptions[0]["called"]))
