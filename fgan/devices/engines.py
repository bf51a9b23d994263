"""Devices: the only file that names them.

`compile_chunk` turns a chunk of training, written for one device and one global batch, into a callable that runs it on
all devices of a `Layout`, those of other processes included, under one of two engines:

    pmap       each device runs the chunk on its share of the batch; means and gradients are averaged over devices
    sharded    one program over a mesh, arrays laid out by NamedSharding, divided by the compiler; the parameters are
               whole on every device, or each device keeps 1/n of them and of the optimiser states

The chunk meets its devices only through the `Replicas` it is given, so the step does not know which engine runs it. On
one device it is plain `jax.jit`.

The random numbers are those of the global batch, of which a device keeps its part, so that 1, 2 or 8 devices, in one
process or two, train on the same numbers; they also take the same steps, up to rounding. Of the rows of a data set each
device holds its share.

Layer 6: imports estimators.critics.kernel and config.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from estimators.critics.kernel import ALONE, Replicas
from fgan.config.schema import Parallel

AXIS = "devices"


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

    def place(self, *axes: str | None) -> NamedSharding:
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
    return own or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def replicas(where: Layout) -> Replicas:
    """The shares of a global batch over the devices of `where`; to be used inside `compile_chunk`'s chunk."""
    if where.n == 1:
        return ALONE

    def check(rows):
        if rows.shape[0] % where.n:
            raise ValueError(
                f"a batch of {rows.shape[0]} cannot be split over {where.n} devices; make it a multiple of {where.n}"
            )
        return rows.shape[0] // where.n

    def keep(rows):
        share = check(rows)
        return lax.dynamic_slice_in_dim(rows, lax.axis_index(AXIS) * share, share)

    def divide(rows):  # the whole batch as far as the program can see, laid out over devices
        check(rows)
        return lax.with_sharding_constraint(rows, where.place(AXIS))

    def pick(rows, numbers, total):
        begin = jnp.asarray(_begins(total, where.n))
        return rows[keep(numbers) - begin[lax.axis_index(AXIS)]]

    def pick_each(rows, numbers, total):
        within = numbers.reshape(where.n, check(numbers)) - _begins(total, where.n)[:, None]
        picked = jax.vmap(lambda share, numbers: share[numbers])(rows, within)
        return divide(picked.reshape(-1, *rows.shape[2:]))

    if where.engine == "sharded":
        return Replicas(shard=divide, pick=pick_each)
    return Replicas(mean=lambda tree: lax.pmean(tree, AXIS), shard=keep, pick=pick, draws=where.n)


def _begins(total: int, n: int) -> np.ndarray:
    """The first row of each of n shares of `total` rows: [n]. A row on the border of two belongs to both."""
    return (np.arange(n, dtype=np.int64) * total // n).astype(np.int32)


def shared_shape(shape: tuple[int, ...], where: Layout) -> tuple[int, ...]:
    """The shape of `shares` of rows of this one."""
    if where.n == 1:
        return shape
    total, n = shape[0], where.n
    longest = max(-(-(k + 1) * total // n) - k * total // n for k in range(n))
    return (n, longest, *shape[1:])


def shares(rows: Any, where: Layout) -> jax.Array:
    """The rows of a data set over n devices, the k-th with those that the k-th part of a batch is drawn from.

    [n, share, d], where a share ends with rows of the next if they do not divide evenly. On one device the rows as they
    are, [total, d]. A process asks `rows`, an array or what reads one, for those of its own devices and no others.
    """
    if where.n == 1:
        return jnp.asarray(rows)
    shape, begins = shared_shape(rows.shape, where), _begins(len(rows), where.n)

    def share(index):
        (begin,) = begins[index[0]]
        return rows[np.minimum(begin + np.arange(shape[1]), len(rows) - 1)][None]

    return jax.make_array_from_callback(shape, where.place(AXIS), share)


def compile_chunk(chunk: Callable[[Replicas], Callable[..., Any]], arguments: tuple, where: Layout) -> Callable:
    """The compiled chunk(replicas)(*arguments), over the devices of `where`.

    Args:
        chunk: given the Replicas, returns a pure function of arrays.
        arguments: what it will be called with, for their shapes; the first is the `shares` of the data.

    Returns:
        A callable of the same arguments, from one device, the host, or an earlier call, that returns results laid out
        as the arguments are: replicated, or as `shardings` says.
    """
    compiled = lower(chunk, arguments, where).compile()
    if where.n == 1:
        return compiled
    return lambda *given: compiled(*_put(given, compiled.input_shardings[0]))


def lower(chunk: Callable[[Replicas], Callable[..., Any]], arguments: tuple, where: Layout) -> jax.stages.Lowered:
    """The program of `compile_chunk`, not yet compiled; the devices of `where` may be those of a described topology."""
    function = chunk(replicas(where))
    if where.n == 1:
        return jax.jit(function).lower(*arguments)
    held, *others = arguments
    if where.engine == "sharded":
        places = (where.place(AXIS), *shardings(others, where))
        out = shardings(jax.eval_shape(function, *arguments), where)
        return jax.jit(function, in_shardings=places, out_shardings=out).lower(*arguments)
    axes = (0, *(None for _ in others))
    spread = jax.pmap(function, AXIS, in_axes=axes, out_axes=None, devices=where.devices)
    mine = np.broadcast_to(np.zeros((), held.dtype), (_mine(where), *held.shape[1:]))  # what pmap wants of a process
    return spread.lower(mine, *others)


def _mine(where: Layout) -> int:
    """How many of the devices belong to this process; all, if they are only described."""
    own = sum(d.process_index == jax.process_index() for d in where.devices)
    return own if where.devices[0].platform == jax.default_backend() else where.n


def shardings(tree: Any, where: Layout) -> Any:
    """The sharding of each array of `tree`, a program's state.

    Replicated, unless `where.parameters` is sharded: then the longest axis that n divides, the first of equals, is
    divided; where there is none, as in a scalar, the array is replicated.
    """

    def one(leaf):
        sides = [side if where.parameters == "sharded" and side % where.n == 0 else 0 for side in leaf.shape]
        if not any(sides):
            return where.place()
        return where.place(*(AXIS if k == sides.index(max(sides)) else None for k in range(len(sides))))

    return jax.tree.map(one, tree)


def abstract(tree: Any) -> Any:
    """The shape, type and sharding of each array of `tree`: what to restore it from a checkpoint as."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def _put(tree: Any, places: Any) -> Any:
    """`tree` laid out as `places`; of an array that every process holds, each gives what its devices need."""

    def one(leaf, place):
        if place is None:  # the program does not use it
            return leaf
        if isinstance(leaf, jax.Array) and leaf.sharding.is_equivalent_to(place, leaf.ndim):
            return leaf
        if place.is_fully_addressable:
            return jax.device_put(leaf, place)
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, place, whole.__getitem__)

    return jax.tree.map(one, tree, places)


def local(tree: Any) -> Any:
    """`tree` whole on one device of this process. Where processes share its arrays, all must call this."""

    def one(leaf):
        if leaf.is_fully_addressable:
            return jax.device_put(leaf, jax.local_devices()[0])
        if not leaf.is_fully_replicated:
            leaf = jax.jit(lambda x: x, out_shardings=NamedSharding(leaf.sharding.mesh, PartitionSpec()))(leaf)
        return leaf.addressable_data(0)

    return jax.tree.map(one, tree)
