"""What the functions of this room share: checks at the door, of what is known then, and costs that may be infinite."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from estimators.divergences.generator import as_float


def floating(value: ArrayLike) -> jax.Array:
    """`value` as an array of floats, lists and integers too, in its own precision.

    >>> floating([1, 2]).tolist()
    [1.0, 2.0]
    """
    return as_float(jnp.asarray(value))


def share(weight: ArrayLike, cost: ArrayLike) -> jax.Array:
    """weight · cost, elementwise, with 0 · ∞ = 0: what has no weight costs nothing, and has no gradient there.

    >>> share(jnp.array([0.0, 0.5]), jnp.array([jnp.inf, 4.0])).tolist()
    [0.0, 2.0]
    """
    cost = floating(cost)
    idle = (jnp.asarray(weight) == 0.0) & jnp.isinf(cost)
    return jnp.asarray(weight) * jnp.where(idle, 0.0, cost)


def known(value: Any) -> bool:
    """Whether a value can be checked now; that of a traced array cannot.

    >>> known(1.0)
    True
    """
    return not isinstance(value, jax.core.Tracer)


def probabilities(name: str, value: ArrayLike) -> None:
    """Raise ValueError unless `value` is ≥ 0 and sums to 1 over its last axis, to the 1e-4 that float32 may lose.

    >>> probabilities("start", [0.5, 0.5])
    """
    if known(value):
        x = np.asarray(value, float)
        if not ((x >= 0.0).all() and np.allclose(x.sum(axis=-1), 1.0, atol=1e-4)):
            raise ValueError(
                f"{name}: entries from {x.min():g} with sums from {x.sum(axis=-1).min():g}; each row is ≥ 0 "
                "and sums to 1: divide it by its sum"
            )


def positive(name: str, value: ArrayLike, meaning: str) -> None:
    """Raise ValueError unless every entry of `value` is positive, and not NaN.

    >>> positive("temperature", 1.0, "it divides the logits")
    """
    if known(value) and not (np.asarray(value) > 0.0).all():
        raise ValueError(f"{name} = {value}: {meaning}, and must be positive")
