"""What the loop trains: the protocol that every model follows, and the models there are.

A model is a value: its configuration and its networks, no state. All its functions are pure, so that the loop may scan,
vmap over seeds, and spread them over devices.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from estimators.critics.kernel import ALONE, Metrics, Replicas
from fgan.config.schema import MODELS, Config
from fgan.data.dataset import Dataset


class Model(Protocol):
    """What the loop asks of a model."""

    headline: str  # the metric that a progress bar shows
    batches: int  # of real samples that a step takes
    notes: tuple[str, ...]  # what its users should know of how it trains, a line each

    def init(self, key: jax.Array) -> Any:
        """The state before the first step: a pytree of arrays with `skipped`, the steps left out in a row."""

    def step(self, key: jax.Array, state: Any, batch: jax.Array) -> tuple[Any, Metrics]:
        """(state, metrics) after one step on `batch` [batches, b, d]. A step that is not finite is left out."""

    def sample(self, state: Any, key: jax.Array, n: int) -> jax.Array:
        """n points [n, d] of the model, in the scale of the batches."""


@runtime_checkable
class DrawsAhead(Protocol):
    """A model whose step comes in two: its random numbers, which may be drawn for many steps at once, and the rest."""

    def noise(self, key: jax.Array) -> Any:
        """The random numbers of a step."""

    def advance(self, noise: Any, state: Any, batch: jax.Array) -> tuple[Any, Metrics]:
        """`step` with its random numbers given."""


@runtime_checkable
class Reconstructs(Protocol):
    """A model that sees points of the data again in its own way, for pictures beside the points."""

    def reconstruct(self, state: Any, x: jax.Array) -> jax.Array:
        """What the model makes of x: [n, d] → [n, d]."""


@runtime_checkable
class DrawsClasses(Protocol):
    """A model of images trained with their class."""

    classes: int  # 0 where it knows none

    def sample_class(self, state: Any, key: jax.Array, n: int, chosen: int) -> jax.Array:
        """n points [n, d] of one class, counted from 0."""


@runtime_checkable
class Explains(Protocol):
    """A model that shows what a step computes, for the report on one that was left out."""

    batches: int

    def explain(self, noise: Any, state: Any, batch: jax.Array) -> dict[str, Any]:
        """name → arrays, finite or not, in the order in which a step computes them."""


def in_two(model: Any) -> tuple[Callable[[jax.Array], Any], Callable[..., tuple[Any, Metrics]]]:
    """(key → noise, (noise, state, batch) → (state, metrics)): the step of any model; the noise may be the key."""
    return (model.noise, model.advance) if isinstance(model, DrawsAhead) else (lambda key: key, model.step)


def build(config: Config, data: Dataset, replicas: Replicas = ALONE) -> Any:
    """The Model that `config` describes, for the dimension of `data`, on its share of the batch."""
    return MODELS[config.model](config, data, replicas)


def keep_finite(old: Any, new: Any, metrics: Metrics) -> tuple[Any, Metrics]:
    """(`new`, metrics with `skipped` = 0) if both are finite, else (`old`, metrics with `skipped` = 1), a step later.

    Both states have `step`, the steps tried so far, and `skipped`, those left out in a row.
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
