"""Divergences between attention maps, averaged over the queries that count."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from estimators.divergences.generator import FDivergence
from estimators.exact_values import discrete
from estimators.exact_values.probabilities import Logits, common_shape, is_traced


def divergence(
    p: ArrayLike,
    q: ArrayLike,
    d: str | FDivergence = "kl",
    *,
    logits: Logits = False,
    where: ArrayLike | None = None,
    queries: ArrayLike | None = None,
) -> jax.Array:
    """Mean over valid queries of D_f(p_i‖q_i), p_i and q_i the attention that query i pays to the keys.

    Args:
        p, q: probabilities or logits [..., heads, queries, keys].
        d, logits: as in `discrete.divergence`.
        where: keys that a query may see, broadcast to p: [queries, keys] for a causal mask (`jnp.tril`), [batch, 1, 1,
            keys] for padding; their product for both.
        queries: queries that count, broadcast to [..., heads, queries]: not the padded ones. A query that sees no key
            does not count, and may hold anything.

    Returns:
        [..., heads], nats; 0, inside jit, where no query counts.

    Raises:
        ValueError: no query counts in some head, or as `discrete.divergence`.

    >>> import jax.numpy as jnp
    >>> causal = jnp.tril(jnp.ones((3, 3)))
    >>> scores = jnp.zeros((2, 3, 3)).at[1, 2, 0].set(1.0)
    >>> a, b = divergence(scores, jnp.zeros((2, 3, 3)), logits=True, where=causal)
    >>> print(f"{a:.4f} {b:.4f}")
    0.0000 0.0411
    """
    arrays = {"p": jnp.asarray(p), "q": jnp.asarray(q), "where": jnp.asarray(True if where is None else where)}
    if queries is not None:
        arrays["queries"] = jnp.asarray(queries)[..., None]
    shape = common_shape({name: x.shape for name, x in arrays.items()})
    if len(shape) < 2:
        raise ValueError(f"attention maps have shape {shape}: pass [..., heads, queries, keys]")
    p_, q_, seen = (jnp.broadcast_to(arrays[name], shape) for name in ("p", "q", "where"))
    valid = jnp.any(seen.astype(bool), axis=-1)
    if queries is not None:
        valid = valid & jnp.broadcast_to(arrays["queries"], shape)[..., 0].astype(bool)
    count = jnp.sum(valid, axis=-1)
    if not is_traced(count) and bool(jnp.any(count == 0)):
        raise ValueError(f"no query counts in {int(jnp.sum(count == 0))} of {count.size} maps: leave those maps out")
    row = valid[..., None]
    p_, q_ = (jnp.where(row, x, 1.0 / shape[-1]) for x in (p_, q_))  # uniform as logits, too
    values = discrete.divergence(p_, q_, d, logits=logits, where=seen.astype(bool) | ~row)
    return jnp.sum(jnp.where(valid, values, 0.0), axis=-1) / jnp.maximum(count, 1)
