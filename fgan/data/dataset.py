"""The real samples of a run, as one value: a known distribution to draw from anew, or rows to draw again."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from estimators.critics.kernel import ALONE, Replicas, stratified
from estimators.distributions.curves import Curve
from estimators.distributions.examples import Mixture
from estimators.distributions.subspaces import SubspaceMixture
from fgan.data.coordinates import Coordinates
from fgan.data.stored_rows import StoredRows
from fgan.data.tables import Form

HELD_OUT = 0.2
"""Share of the rows that training never sees, where a data set comes without test rows of its own."""
MOST_CLASSES = 256
"""Of images drawn with their class: as many as a byte beside the pixels can name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of a table that may lie in a file, loaded by slice or index, in coordinates: an array [n, dim] float32.

    table: [N, d]; order: [n] which of its rows these are.
    """

    table: np.ndarray
    order: np.ndarray
    coordinates: Coordinates

    @property
    def shape(self) -> tuple[int, int]:
        """(n, dim)."""
        return len(self.order), self.coordinates.dim

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """Rows by number; no others are loaded."""
        rows = self.order[index]
        return self.coordinates.encode(np.asarray(self.table[rows], np.float64), rows)

    def own(self, index: slice | np.ndarray) -> np.ndarray:
        """Rows of the table itself [n, d], float64."""
        return np.asarray(self.table[self.order[index]], np.float64)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:]


def scaled(pixels: Any) -> Any:
    """Bytes 0 to 255 as float32 in [−1, 1]."""
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Rows of images, kept as bytes [n, dim] in memory or a file, seen as float32 in [−1, 1] of four times the size."""

    stored: np.ndarray | StoredRows

    dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, dim)."""
        return self.stored.shape  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows by number; no others are scaled."""
        return scaled(self.stored[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:]


def _some(rows: Any, n: int) -> np.ndarray:
    return rows[np.sort(np.random.default_rng(0).permutation(len(rows))[:n])]


def stacked(images: Any) -> Any:
    """Grey images [n, c, d] as the c colours of n images, colours innermost: [n, d · c]."""
    return images.swapaxes(1, 2).reshape(images.shape[0], -1)


def _blocks(rows: Any) -> Iterator[np.ndarray]:
    """All rows, so many at once as take a few MiB."""
    each = rows.dtype.itemsize * math.prod(rows.shape[1:])
    length = max(1, (1 << 24) // max(each, 1))
    return (rows[i : i + length] for i in range(0, len(rows), length))


def stored(rows: Any) -> Any:
    """Rows as they are kept: the bytes of `Pixels`, others as they are."""
    return rows.stored if isinstance(rows, Pixels) else rows


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Real samples, in the scale the networks see."""

    name: str
    dim: int
    rows: np.ndarray | Rows | Pixels
    """Training rows [n, d] float32, in random order, the user's own as in their file; [0, d] for a known target."""
    held_out: np.ndarray | Rows | Pixels  # rows [m, d] that training never sees
    target: Mixture | Curve | None = None  # the known distribution that every batch is drawn from anew
    law: SubspaceMixture | None = None  # the known distribution that `rows` were drawn from
    labels: np.ndarray | None = None  # classes, where there are any
    held_out_labels: np.ndarray | None = None
    classes: int = 0  # of images drawn with their class, as one-hot columns after their pixels; 0 draws pixels alone
    side: int = 0  # height and width of square images; a row holds their pixels line by line, colours innermost
    stack: int = 1  # so many `rows`, grey images drawn independently, are the colours of one image; `dim` is that one's
    flip: bool = False  # whether half of the images drawn are mirrored
    shift: int = 0  # most pixels by which images drawn are moved along each axis
    offset: np.ndarray  # with `scale` the affine map back to the user's units, x·scale + offset, float64 [d]
    scale: np.ndarray
    coordinates: Coordinates | None = None  # of a table of the user's own, in place of that affine map
    own: tuple[Rows, Rows] | None = None  # the training and held-out rows of such a table
    form: Form = field(default_factory=Form)  # how the user's own table was written
    content: str = ""  # what identifies the rows, where not they themselves
    notes: tuple[str, ...] = ()  # what the user should know, one line each

    def draw(self, key: jax.Array, rows: Any, n: int, replicas: Replicas = ALONE) -> jax.Array:
        """This device's shard of n real samples [n, d + classes], from the target, or from `rows`, its shard of `kept`;
        for stacks, its copy of all of them."""
        if self.target is not None:
            offset, scale = (jnp.asarray(a, jnp.float32)[None] for a in (self.offset, self.scale))
            return replicas.shard((self.target.sample(key, n) - offset) / scale)
        if self.stack > 1:  # of one slice of the rows they would not be independent
            triples = jax.random.randint(key, (n, self.stack), 0, self.rows.shape[0])
            return self.seen(key, stacked(replicas.pick_any(rows, triples)), n, replicas)
        return self.seen(key, replicas.pick(rows, self.numbers(key, n), self.rows.shape[0]), n, replicas)

    def numbers(self, key: jax.Array, n: int) -> jax.Array:
        """Which of the rows `draw` picks, one for each sample: [n]."""
        return stratified(key, self.rows.shape[0], n)

    def seen(self, key: jax.Array, drawn: jax.Array, n: int, replicas: Replicas = ALONE) -> jax.Array:
        """This device's shard of the rows that `draw` picks by `key`, as the networks see them."""
        drawn, chosen = (drawn[:, :-1], drawn[:, -1]) if self.classes else (drawn, None)
        drawn = scaled(drawn) if drawn.dtype == np.uint8 else drawn
        drawn = self._varied(jax.random.fold_in(key, 1), drawn, n, replicas) if self.flip or self.shift else drawn
        if chosen is None:
            return drawn
        return jnp.concatenate([drawn, jax.nn.one_hot(chosen.astype(jnp.int32), self.classes)], axis=1)

    def _varied(self, key: jax.Array, images: jax.Array, n: int, replicas: Replicas) -> jax.Array:
        """This device's slice of n images, each mirrored or not, and moved, at random."""
        for_flip, for_shift = jax.random.split(key)
        mirrored = replicas.shard(jax.random.bernoulli(for_flip, 0.5, (n,)) if self.flip else jnp.zeros(n, bool))
        moved = replicas.shard(jax.random.randint(for_shift, (n, 2), 0, 2 * self.shift + 1))

        def one(image, mirrored, moved):
            image = jnp.where(mirrored, image[:, ::-1], image)
            margin = (self.shift, self.shift)
            wider = jnp.pad(image, (margin, margin, (0, 0)), mode="edge")
            return jax.lax.dynamic_slice(wider, (moved[0], moved[1], 0), image.shape)

        square = images.reshape(-1, self.side, self.side, self.channels)
        return jax.vmap(one)(square, mirrored, moved).reshape(images.shape)

    @property
    def channels(self) -> int:
        """1 of grey images, 3 of coloured ones, 0 of what is no image."""
        return self.dim // self.side**2 if self.side else 0

    @property
    def kept(self) -> Any:
        """The training rows as they are kept on the devices: bytes or float32, with a last column for the class."""
        if not self.classes:
            return stored(self.rows)
        assert self.labels is not None
        column = self.labels[:, None].astype(self.kept_dtype)
        return np.concatenate([np.asarray(stored(self.rows)), column], axis=1)

    @property
    def kept_shape(self) -> tuple[int, int]:
        """Its shape."""
        return len(self.rows), self.rows.shape[1] + bool(self.classes)

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of each of `classes` in the training rows; zeros without rows, as a restored run has it."""
        if self.labels is None or not len(self.labels):
            return (0.0,) * self.classes
        counts = np.bincount(self.labels, minlength=self.classes)
        return tuple((counts / counts.sum()).tolist())

    @property
    def kept_dtype(self) -> np.dtype:
        """Its type."""
        return np.dtype(np.uint8 if isinstance(self.rows, Pixels) else np.float32)

    @property
    def one_hot(self) -> tuple[tuple[int, int], ...]:
        """(first coordinate, how many) of each column of categories."""
        return self.coordinates.one_hot if self.coordinates else ()

    def own_units(self, points: np.ndarray) -> np.ndarray:
        """Points [n, dim] in the user's own units and columns, [n, d], float64."""
        if self.coordinates is not None:
            return self.coordinates.decode(points)
        return np.asarray(points, np.float64) * self.scale + self.offset

    def log_prob(self, x: jax.Array) -> jax.Array:
        """log density of the known target, in the scale the networks see: [n, d] → [n]."""
        assert self.target is not None
        own = x * self.scale[None] + self.offset[None]
        return self.target.log_prob(own[:, 0] if self.dim == 1 else own) + np.log(self.scale).sum()

    def reference(self, n: int) -> np.ndarray:
        """min(n, all) of the training rows, chosen at random, the same ones always: [n, d]; n stacks of them."""
        return self._some_of(self.rows, n)

    def judges(self, n: int) -> np.ndarray:
        """The same of the rows held out, whose files may be sorted by class."""
        return self._some_of(self.held_out, n)

    def _some_of(self, rows: Any, n: int) -> np.ndarray:
        if self.stack == 1:
            return _some(rows, n)
        return stacked(rows[np.random.default_rng(0).integers(len(rows), size=(n, self.stack))])

    def fingerprint(self) -> str:
        """SHA-256 of all rows and labels, units included, so that a resumed run can tell that its data changed."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        if self.content:
            return hashlib.sha256(self.content.encode()).hexdigest()
        digest = hashlib.sha256(repr(self.target).encode())
        arrays = (stored(self.rows), stored(self.held_out), self.labels, self.held_out_labels, self.offset, self.scale)
        for array in arrays:
            if array is not None:
                for block in _blocks(array):
                    digest.update(np.ascontiguousarray(block).data)
        return digest.hexdigest()
