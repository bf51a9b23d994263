"""Two engines that spread a chunk of training over devices.

`compile_chunk` turns a chunk, written for one device and one global batch, into a callable that runs it on all devices
of a `Layout`, those of other processes included:

    pmap       each device runs the chunk on its slice of the batch; means and gradients are averaged over devices
    sharded    one program over a mesh, arrays laid out by NamedSharding, divided by the compiler; the parameters are
               whole on every device, or each device keeps 1/n of them and of the optimiser states

The chunk meets its devices only through the `Replicas` it is given, so the step does not know which engine runs it. On
one device it is plain `jax.jit`.

The random numbers are those of the global batch, of which a device keeps its slice, so that 1, 2 or 8 devices, in one
process or two, train on the same numbers; they also take the same steps, up to rounding. Of the rows of a data set each
device holds a slice.
"""

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from estimators.critics.kernel import ALONE, Replicas
from fgan.config.schema import Parallel

AXIS = "devices"
BLOCK = (
    1 << 28
)  # bytes of rows that are read from a file at once: far below what a host has, far above a transfer's cost
Chunk = Callable[[Replicas], Callable[..., Any]]


class Layout(NamedTuple):
    """The devices of a run, in order, and how they share it: `engine` and `parameters` as in `config.Parallel`."""

    devices: tuple[jax.Device, ...]
    engine: str = "pmap"
    parameters: str = "replicated"

    @property
    def n(self) -> int:
        """How many devices share the batch."""
        return len(self.devices)

    @property
    def mesh(self) -> Mesh:
        """All devices along one axis, called AXIS."""
        return Mesh(np.array(self.devices), (AXIS,))

    def sharding(self, *axes: str | None) -> NamedSharding:
        """The sharding of an array whose k-th axis is divided over devices where axes[k] is AXIS."""
        return NamedSharding(self.mesh, PartitionSpec(*axes))


def layout(config: Parallel) -> Layout:
    """All devices, of all processes, as `config` wants them to share."""
    return Layout(tuple(jax.devices()), config.engine, config.parameters)


def describe() -> str:
    """The devices in words, as in `8 × cpu (cpu)`."""
    first, processes = jax.devices()[0], jax.process_count()
    among = f", {processes} processes" if processes > 1 else ""
    return f"{jax.device_count()} × {first.device_kind} ({first.platform}{among})"


def memory() -> int:
    """Bytes of the first device's memory, that of the host where the device has none of its own."""
    own = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return own or min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits())


def _limits() -> Iterator[int]:
    """The bytes that a container's processes may take, by version 2 and 1 of control groups, where one is set."""
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            yield int((Path("/sys/fs/cgroup") / file).read_text())
    yield sys.maxsize


def size_text(n: float) -> str:
    """A number of bytes as a person reads it."""
    power = min(int(math.log(max(n, 1.0), 1024)), 3)
    return f"{n / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB')[power]}"


def replicas(layout: Layout) -> Replicas:
    """How a global batch is shared by the devices of `layout`; to be used inside the chunk of `compile_chunk`."""
    if layout.n == 1:
        return ALONE

    def size(rows):
        if rows.shape[0] % layout.n:
            raise ValueError(
                f"a batch of {rows.shape[0]} cannot be split over {layout.n} devices; make it a multiple of {layout.n}"
            )
        return rows.shape[0] // layout.n

    def own(rows):
        return lax.dynamic_slice_in_dim(rows, lax.axis_index(AXIS) * size(rows), size(rows))

    def divide(rows):  # the whole batch as far as the program can see, laid out over devices
        size(rows)
        return lax.with_sharding_constraint(rows, layout.sharding(AXIS))

    def pick(rows, numbers, total):
        starts = jnp.asarray(_starts(total, layout.n))
        return rows[own(numbers) - starts[lax.axis_index(AXIS)]]

    def pick_each(rows, numbers, total):
        within = numbers.reshape(layout.n, size(numbers)) - _starts(total, layout.n)[:, None]
        picked = jax.vmap(lambda rows, numbers: rows[numbers])(rows, within)
        return divide(picked.reshape(-1, *rows.shape[2:]))

    def pick_any(rows, numbers):
        return rows[own(numbers)]

    def pick_any_each(rows, numbers):
        shares = numbers.reshape(layout.n, size(numbers), *numbers.shape[1:])
        picked = jax.vmap(lambda rows, numbers: rows[numbers])(rows, shares)
        return divide(picked.reshape(-1, *picked.shape[2:]))

    def merge(rows):  # [n, …, b/n, d] → […, b, d], where nothing moves from one device to another
        whole = jnp.moveaxis(rows, 0, -3)
        whole = whole.reshape(*whole.shape[:-3], -1, whole.shape[-1])
        return lax.with_sharding_constraint(whole, layout.sharding(*(None,) * (whole.ndim - 2), AXIS))

    if layout.engine == "sharded":
        return Replicas(shard=divide, pick=pick_each, pick_any=pick_any_each, gathered=merge)
    every = layout.n
    return Replicas(mean=lambda tree: lax.pmean(tree, AXIS), shard=own, pick=pick, pick_any=pick_any, draws=every)


def _starts(total: int, n: int) -> np.ndarray:
    """The first row of each of n slices of `total` rows: [n]. A row on the border of two belongs to both."""
    return (np.arange(n, dtype=np.int64) * total // n).astype(np.int32)


def slices_shape(shape: tuple[int, ...], layout: Layout, *, whole: bool = False) -> tuple[int, ...]:
    """The shape of the `slices` of rows of this one."""
    if layout.n == 1:
        return shape
    total, n = shape[0], layout.n
    if whole:
        return (n, *shape)
    longest = max(-(-(k + 1) * total // n) - k * total // n for k in range(n))
    return (n, longest, *shape[1:])


def slices(rows: Any, layout: Layout, *, whole: bool = False) -> jax.Array:
    """The rows of a data set over n devices, the k-th with those that the k-th slice of a batch is drawn from.

    [n, length, d], where a slice ends with rows of the next if they do not divide evenly. On one device the rows as
    they are, [total, d]. A process asks `rows`, an array or what reads one, for those of its own devices and no others.
    `whole` gives each device all rows, [n, total, d], where an element of a batch may need any of them (`pick_any`).
    """
    if layout.n == 1:
        return _whole(rows)
    shape = slices_shape(rows.shape, layout, whole=whole)
    starts = np.zeros(layout.n, np.int32) if whole else _starts(len(rows), layout.n)

    def one(index):
        (start,) = starts[index[0]]
        return rows[np.minimum(start + np.arange(shape[1]), len(rows) - 1)][None]

    return jax.make_array_from_callback(shape, layout.sharding(AXIS), one)


def _whole(rows: Any) -> jax.Array:
    """Rows on one device; what reads them from a file does so by blocks, so that the host never holds all of them."""
    size = getattr(rows, "nbytes", 0)
    if isinstance(rows, np.ndarray | jax.Array) or size <= BLOCK:
        return jnp.asarray(rows)
    length = max(1, len(rows) * BLOCK // size)
    return jnp.concatenate([jnp.asarray(rows[i : i + length]) for i in range(0, len(rows), length)])


def gathered(rows: Any, numbers: np.ndarray, layout: Layout) -> jax.Array:
    """Those rows of a data set for each element of global batches [..., b], on the devices that take them.

    [..., b, d] on one device; else [n, ..., b/n, d], the k-th device with its slice of each batch. A process reads the
    rows of its own devices and no others.
    """
    if layout.n == 1:
        return jax.device_put(_at(rows, numbers))
    each = numbers.shape[-1] // layout.n

    def one(index):
        (k,) = range(layout.n)[index[0]]
        return _at(rows, numbers[..., k * each : (k + 1) * each])[None]

    shape = (layout.n, *numbers.shape[:-1], each, *rows.shape[1:])
    return jax.make_array_from_callback(shape, layout.sharding(AXIS), one)


def _at(rows: Any, numbers: np.ndarray) -> np.ndarray:
    """rows[numbers] of what knows only lists of numbers."""
    return np.asarray(rows[numbers.ravel()]).reshape(*numbers.shape, *rows.shape[1:])


def compile_chunk(chunk: Chunk, arguments: tuple, layout: Layout) -> Callable[..., Any]:
    """The compiled chunk(replicas)(*arguments), over the devices of `layout`.

    It takes arguments of the same shapes, of which the first is the `slices` of the data, or its rows `gathered` for
    some steps, from one device, the host, or an earlier call, and returns results laid out as the arguments are:
    replicated, or as `shardings` says.
    """
    compiled = lower(chunk, arguments, layout).compile()
    if layout.n == 1:
        return compiled
    return lambda *given: compiled(*_put(given, compiled.input_shardings[0]))


def lower(chunk: Chunk, arguments: tuple, layout: Layout) -> jax.stages.Lowered:
    """The program of `compile_chunk`, not yet compiled; the devices may be those of a described topology."""
    function = chunk(replicas(layout))
    if layout.n == 1:
        return jax.jit(function).lower(*arguments)
    rows, *others = arguments
    if layout.engine == "sharded":
        inside = (layout.sharding(AXIS), *shardings(others, layout))
        outside = shardings(jax.eval_shape(function, *arguments), layout)
        return jax.jit(function, in_shardings=inside, out_shardings=outside).lower(*arguments)
    axes = (0, *(None for _ in others))
    mapped = jax.pmap(function, AXIS, in_axes=axes, out_axes=None, devices=layout.devices)
    there = layout.devices[0].platform == jax.default_backend()  # and not only described
    count = sum(d.process_index == jax.process_index() for d in layout.devices) if there else layout.n
    own = np.broadcast_to(np.zeros((), rows.dtype), (count, *rows.shape[1:]))  # pmap wants this process's slices
    return mapped.lower(own, *others)


def shardings(tree: Any, layout: Layout) -> Any:
    """The sharding of each array of `tree`, a program's state.

    Replicated, unless `layout.parameters` is sharded: then the longest axis that n divides, the first of equals, is
    divided; where there is none, as in a scalar, the array is replicated.
    """

    def one(leaf):
        sides = [side if layout.parameters == "sharded" and side % layout.n == 0 else 0 for side in leaf.shape]
        if not any(sides):
            return layout.sharding()
        return layout.sharding(*(AXIS if k == sides.index(max(sides)) else None for k in range(len(sides))))

    return jax.tree.map(one, tree)


def abstract(shapes: Any, layout: Layout) -> Any:
    """`shapes`, those of a state, with the sharding of each array: what to restore it from a checkpoint as."""
    if layout.n == 1:
        return shapes
    each = shardings(shapes, layout)
    return jax.tree.map(lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes, each)


def _put(tree: Any, shardings: Any) -> Any:
    """`tree` laid out by `shardings`; of an array that every process holds, each gives what its devices need."""

    def one(leaf, sharding):
        if sharding is None:  # the program does not use it
            return leaf
        if isinstance(leaf, jax.Array) and leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
            return leaf
        if sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    return jax.tree.map(one, tree, shardings)


def local(tree: Any) -> Any:
    """`tree` whole on one device of this process. Where processes share its arrays, all must call this."""

    def one(leaf):
        if leaf.is_fully_addressable:
            return jax.device_put(leaf, jax.local_devices()[0])
        if not leaf.is_fully_replicated:
            leaf = jax.jit(lambda x: x, out_shardings=NamedSharding(leaf.sharding.mesh, PartitionSpec()))(leaf)
        return leaf.addressable_data(0)

    return jax.tree.map(one, tree)
