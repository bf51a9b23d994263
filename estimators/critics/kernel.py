"""The kernel every training uses: many steps in one scan, over one seed or many, on one device or a share of several.

A trainable thing has `init(key) → state` and `step(key, state, batch) → (state, metrics)`, both pure. `steps` scans
the step; `jax.vmap` over (key, state) turns it into many seeds or folds at once. The random numbers of step i are
`fold_in(key, i)`, so that one scan of 200 steps equals four of 50, bit for bit, and a resumed run its uninterrupted
twin. They are drawn for many steps at once: on a CPU a small draw takes longer to start than to fill.

A step meets a batch spread over devices only through `Replicas`: it draws for the global batch and keeps its part
(`shard`; of the rows of a data set, `pick`), it averages through `expectation` and `mean`. On a single device `shard`
and `mean` change nothing.

Layer 1: imports jax and numpy only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

State = TypeVar("State")
DRAWN = 1 << 22
"""Bytes of random numbers and batches drawn at once for each seed, by a device, or by all that divide one program."""
Metrics = dict[str, jax.Array]


class Replicas(NamedTuple):
    """How one global batch is spread over devices.

    Attributes:
        mean: pytree → its mean over devices.
        shard: an array over the global batch → this device's part.
        pick: (this device's share of `total` rows, for each place of the global batch the number of a row, total) → the
            rows in this device's part of the batch. A place of the k-th n-th of the batch names a row of the k-th n-th
            of the data (`stratified`).
        draws: how many times its own part of the batch a device draws, to keep that part.
    """

    mean: Callable[[Any], Any] = lambda tree: tree
    shard: Callable[[jax.Array], jax.Array] = lambda rows: rows
    pick: Callable[[jax.Array, jax.Array, int], jax.Array] = lambda rows, numbers, total: rows[numbers]
    draws: int = 1

    def expectation(self, values: jax.Array) -> jax.Array:
        """The mean over the global batch of this device's values, over the first axis."""
        return self.mean(jnp.mean(values, axis=0))


ALONE = Replicas()


def stratified(key: jax.Array, total: int, n: int) -> jax.Array:
    """Numbers of n of `total` rows, the j-th from the j-th of n equal parts of them, all rows equally likely: [n].

    (j·total + w)//n with w uniform on 0, …, total − 1. Whoever holds a part of the batch thus needs a part of the rows.
    """
    begin = np.arange(n, dtype=np.int64) * total
    within = jax.random.randint(key, (n,), 0, total)
    whole, rest = (jnp.asarray(part, jnp.int32) for part in (begin // n, begin % n))
    return whole + (rest + within) // n


def steps(
    step: Callable[[Any, State, Any], tuple[State, Metrics]],
    draw: Callable[[jax.Array], Any],
    key: jax.Array,
    state: State,
    start: jax.Array | int,
    n: int,
    *,
    noise: Callable[[jax.Array], Any] = lambda key: key,
    replicas: Replicas = ALONE,
) -> tuple[State, Metrics]:
    """`n` steps from step number `start`, in one scan. Pure; jit, vmap or pmap it.

    Args:
        step: (noise, state, batch) → (state, metrics).
        draw: key → batch.
        key: the key of the whole run; step i uses fold_in(key, i).
        state: where to start.
        start: the number of the first step.
        n: how many steps, static.
        noise: key → what `step` is given; the key itself unless told.
        replicas: those that `draw` and `noise` share the batch by.

    Returns:
        The final state, and the metrics of every step, stacked on a first axis of length n.
    """

    def drawn(i):
        batch_key, step_key = jax.random.split(jax.random.fold_in(key, i))
        return noise(step_key), draw(batch_key)

    def block(state, numbers):
        return jax.lax.scan(lambda state, now: step(now[0], state, now[1]), state, jax.vmap(drawn)(numbers))

    size = _block(n, jax.eval_shape(drawn, 0), replicas.draws)
    state, metrics = jax.lax.scan(block, state, start + jnp.arange(n).reshape(-1, size))
    return state, jax.tree.map(lambda m: m.reshape(n, *m.shape[2:]), metrics)


def _block(n: int, kept: Any, draws: int) -> int:
    """The most steps, a divisor of n, whose draws keep to DRAWN bytes, `draws` times what is kept; 1 if none do."""
    each = draws * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))
    return max((k for k in range(1, n + 1) if n % k == 0 and k * each <= DRAWN), default=1)
