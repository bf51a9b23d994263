"""The kernel of every training: many steps in one scan, over one seed or many, on one device or several.

A model has `init(key) → state` and `step(key, state, batch) → (state, metrics)`, both pure. `steps` scans the step;
`jax.vmap` over (key, state) turns it into many seeds or folds at once. The random numbers of step i are
`fold_in(key, i)`, so that one scan of 200 steps equals four of 50, bit for bit, and a resumed run its uninterrupted
twin. They are drawn for many steps at once: on a CPU a small draw takes longer to start than to fill.

A step handles a batch that is spread over devices only through `Replicas`. It draws for the global batch and keeps
its slice (`shard`; of the rows of a data set, `pick` or `pick_any`), and it averages through `expectation` and `mean`.
On a single device `shard` and `mean` change nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

State = TypeVar("State")
DRAWN = 1 << 22
"""Bytes of random numbers and batches that are drawn at once for each seed, by one device or by all of one program."""
Metrics = dict[str, jax.Array]


class Replicas(NamedTuple):
    """How one global batch is spread over devices.

    Attributes:
        mean: pytree → its mean over devices.
        shard: an array over the global batch → this device's slice.
        pick: (this device's slice of `total` rows, the index of a row for each element of the global batch, total) →
            the rows in this device's slice of the batch. The k-th of n slices of the batch has its rows in the k-th of
            n slices of the data (`stratified`).
        pick_any: (all rows, of which this device has its copy, indices [n, …] of any of them for each element of the
            global batch) → the rows in this device's slice of the batch.
        gathered: what each device was given beforehand (`steps`' `ahead`), as its slices of global batches.
        draws: the size of what a device draws, in slices of the batch; it keeps one.
    """

    mean: Callable[[Any], Any] = lambda tree: tree
    shard: Callable[[jax.Array], jax.Array] = lambda rows: rows
    pick: Callable[[jax.Array, jax.Array, int], jax.Array] = lambda rows, index, total: rows[index]
    pick_any: Callable[[jax.Array, jax.Array], jax.Array] = lambda rows, index: rows[index]
    gathered: Callable[[jax.Array], jax.Array] = lambda rows: rows
    draws: int = 1

    def expectation(self, values: jax.Array) -> jax.Array:
        """The mean over the global batch of this device's values, over the first axis."""
        return self.mean(jnp.mean(values, axis=0))


ALONE = Replicas()


def stratified(key: jax.Array, total: int, n: int) -> jax.Array:
    """Indices [n] of rows, the j-th from the j-th of n equal slices of `total` rows, all rows equally likely.

    (j·total + w)//n with w uniform on 0, …, total − 1. So a device that holds a slice of the batch needs only a slice
    of the rows.
    """
    begin = np.arange(n, dtype=np.int64) * total
    within = jax.random.randint(key, (n,), 0, total)
    whole, rest = (jnp.asarray(count, jnp.int32) for count in (begin // n, begin % n))
    return whole + (rest + within) // n


def steps(
    step: Callable[[Any, State, Any], tuple[State, Metrics]],
    draw: Callable[..., Any],
    key: jax.Array,
    state: State,
    start: jax.Array | int,
    n: int,
    *,
    noise: Callable[[jax.Array], Any] = lambda key: key,
    replicas: Replicas = ALONE,
    ahead: tuple[jax.Array, ...] = (),
) -> tuple[State, Metrics]:
    """`n` steps from step number `start`, in one scan. Pure; jit, vmap or pmap it.

    Args:
        step: (noise, state, batch) → (state, metrics).
        draw: key → batch; (key, *the i-th of each array in `ahead`) → batch of the i-th step.
        key: the key of the whole run; step i uses fold_in(key, i).
        n: static.
        noise: key → the first argument of `step`; the key itself by default.
        replicas: how `draw` and `noise` spread the batch over devices.
        ahead: arrays [n, …] of what was drawn before, such as rows that a device does not hold.

    Returns:
        The final state, and the metrics of every step, stacked on a first axis of length n.
    """

    def drawn(i, *given):
        return drawn_in(key, i, lambda key: draw(key, *given), noise)

    def block(state, numbers):
        return jax.lax.scan(lambda state, now: step(now[0], state, now[1]), state, jax.vmap(drawn)(*numbers))

    one = (jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in ahead)
    size = _block(n, jax.eval_shape(drawn, 0, *one), replicas.draws)
    blocks = tuple(x.reshape(-1, size, *x.shape[1:]) for x in ahead)
    state, metrics = jax.lax.scan(block, state, (start + jnp.arange(n).reshape(-1, size), *blocks))
    return state, jax.tree.map(lambda m: m.reshape(n, *m.shape[2:]), metrics)


def drawn_in(key: jax.Array, i: Any, draw: Callable[[jax.Array], Any], noise: Callable[[jax.Array], Any]) -> Any:
    """(noise, batch) of step i, as `steps` draws them."""
    batch_key, step_key = jax.random.split(jax.random.fold_in(key, i))
    return noise(step_key), draw(batch_key)


def _block(n: int, kept: Any, draws: int) -> int:
    """The most steps, a divisor of n, whose draws fit into DRAWN bytes, or 1; `kept` is a device's slice of a step."""
    each = draws * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))
    return max((k for k in range(1, n + 1) if n % k == 0 and k * each <= DRAWN), default=1)
