"""Devices: the only file that names them.

`compile_chunk` turns a chunk of training, written for one device and one global batch, into a callable that runs it
on every local device with `jax.pmap`, each on its share of the batch, or with plain `jax.jit` where there is one. The
chunk meets its devices only through the `Replicas` it is given.

Every device draws the random numbers of the global batch and keeps its rows, so that 1, 2 or 8 devices train on the
same numbers; means and gradients are averaged over devices, so they also take the same steps, up to rounding.

Layer 6: imports estimators.fitting.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from estimators.fitting import ALONE, Replicas

AXIS = "devices"


def device_count() -> int:
    """How many local devices a chunk is spread over."""
    return jax.local_device_count()


def describe() -> str:
    """The devices in words, as in `8 × cpu (cpu)`."""
    first = jax.local_devices()[0]
    return f"{jax.local_device_count()} × {first.device_kind} ({first.platform})"


def memory() -> int:
    """Bytes of the first device's memory, that of the host where the device has none of its own."""
    own = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return own or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def replicas(n: int) -> Replicas:
    """The shares of a global batch over `n` devices; to be used inside `compile_chunk`'s chunk."""
    if n == 1:
        return ALONE

    def shard(rows):
        if rows.shape[0] % n:
            raise ValueError(f"a batch of {rows.shape[0]} cannot be split over {n} devices; make it a multiple of {n}")
        share = rows.shape[0] // n
        return lax.dynamic_slice_in_dim(rows, lax.axis_index(AXIS) * share, share)

    return Replicas(mean=lambda tree: lax.pmean(tree, AXIS), shard=shard)


def compile_chunk(chunk: Callable[[Replicas], Callable[..., Any]], arguments: tuple, n: int) -> Callable[..., Any]:
    """The compiled chunk(replicas)(*arguments), over `n` devices.

    Args:
        chunk: given the Replicas, returns a pure function of arrays.
        arguments: what it will be called with, for their shapes.

    Returns:
        A callable of the same arguments, all replicated, that returns replicated results.
    """
    function = chunk(replicas(n))
    if n == 1:
        return jax.jit(function).lower(*arguments).compile()
    devices = jnp.arange(n)  # pmap wants an argument that is mapped; the replicated ones do not count
    spread = jax.pmap(
        lambda _, *replicated: function(*replicated),
        AXIS,
        in_axes=(0, *(None for _ in arguments)),
        out_axes=None,
        devices=jax.local_devices()[:n],
    )
    compiled = spread.lower(devices, *arguments).compile()
    everywhere = compiled.input_shardings[0][1:]  # a restored state comes from one device, a returned one from all
    return lambda *replicated: compiled(devices, *jax.device_put(replicated, everywhere))
