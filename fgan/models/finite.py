"""Leaving out a step that is not finite."""

from __future__ import annotations

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from estimators.critics.kernel import Metrics


def keep_finite(old: Any, new: Any, metrics: Metrics) -> tuple[Any, Metrics]:
    """(`new`, metrics with `skipped` = 0) if both are finite, else (`old`, metrics with `skipped` = 1), a step later.

    Args:
        old, new: states with `step`, the steps tried so far, and `skipped`, those left out in a row.
    """
    finite = all_finite((new, metrics))
    kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
    state = kept._replace(step=old.step + 1, skipped=jnp.where(finite, 0, old.skipped + 1))
    return state, metrics | {"skipped": 1.0 - finite.astype(jnp.float32)}


def all_finite(tree: Any) -> jax.Array:
    """Whether no number in `tree` is infinite or NaN: []. Leaves of one shape take one pass."""
    shapes: dict[tuple[int, ...], list[jax.Array]] = {}
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            shapes.setdefault(leaf.shape, []).append(jnp.isfinite(leaf))
    return jnp.stack([jnp.all(reduce(jnp.logical_and, same)) for same in shapes.values()]).all()
