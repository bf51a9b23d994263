"""The user's own file of samples, standardised column by column in float64.

When several processes train, each checks and describes its own slice of the rows; the descriptions are exchanged and
combined, so that all processes standardise alike.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from estimators.samples import files
from estimators.samples.arrays import DataError, row_hashes
from fgan.config.schema import Data
from fgan.data.dataset import HELD_OUT, Dataset, Rows
from fgan.devices import processes

BLOCK = 1 << 22
"""Values described at a time; in float64 this takes 32 MiB."""


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
    offset, scale, content, notes = combine([json.loads(text) for text in exchanged])
    order = np.random.default_rng(0).permutation(len(own.table))
    held_out, kept = np.split(order, [int(HELD_OUT * len(order))])
    shared = {"table": own.table, "offset": offset, "scale": scale}
    rows, held = Rows(order=np.sort(kept), **shared), Rows(order=held_out, **shared)
    in_file = isinstance(own.table, np.memmap)  # what is in memory anyway is kept as float32
    return Dataset(
        name="samples",
        dim=own.table.shape[1],
        rows=rows if in_file else np.asarray(rows),
        held_out=held if in_file else np.asarray(held),
        offset=offset,
        scale=scale,
        content=content,
        notes=notes,
    )


def describe(own: files.SampleSlice) -> dict[str, Any]:
    """Size, range and moments of each column of a slice, and a sum over its rows that depends on each row's index."""
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
        "digest": digest,
        "notes": own.samples.notes,
    }


def _pooled(n: Sequence[int], means: Sequence[Any], variances: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance [d] of slices put together, of which each has n rows, a mean and a variance."""
    share = np.array(n)[:, None] / sum(n)
    mean = np.sum(share * np.array(means), axis=0)
    return mean, np.sum(share * (np.array(variances) + (np.array(means) - mean) ** 2), axis=0)


def combine(descriptions: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, str, tuple[str, ...]]:
    """(offset, scale, content, notes) of a table from the descriptions of its slices.

    Raises DataError where a slice has one, or the processes do not read the same table.
    """
    for description in descriptions:
        if "error" in description:
            raise DataError(description["error"])
    shapes = list(dict.fromkeys(tuple(description["shape"]) for description in descriptions))
    if len(shapes) > 1:
        read = " and ".join(map(str, shapes))
        raise DataError(f"the processes of this run read tables of shapes {read}; give all of them the same file")
    n, low, high, means, variances = (
        [description[name] for description in descriptions] for name in ("n", "low", "high", "mean", "variance")
    )
    mean, variance = _pooled(n, means, variances)
    least = np.min(low, axis=0)
    constant = least == np.max(high, axis=0)
    offset, scale = np.where(constant, least, mean), np.where(constant, 1.0, np.sqrt(variance))
    digest = sum(description["digest"] for description in descriptions) % 2**64
    notes = tuple(dict.fromkeys(note for description in descriptions for note in description["notes"]))
    return offset, scale, f"table {shapes[0]}, {digest:016x}", notes
