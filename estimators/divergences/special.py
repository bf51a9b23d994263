"""Special functions that generators and conjugates are made of: log W, log(1 − e^{−a}), values on a domain."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

LOG2 = math.log(2.0)


def as_float(u) -> jax.Array:
    """u in its own precision, float32 at least; a bare number in the precision that is on."""
    return jnp.asarray(u, dtype=jnp.promote_types(jnp.result_type(u, float), jnp.float32))


def inside(t, holds, value: Callable[..., jax.Array], safe: float):
    """value(t) where `holds`, +inf elsewhere; the inner `where` keeps the gradient finite on both branches."""
    return jnp.where(holds, value(jnp.where(holds, t, safe)), jnp.inf)


def log1mexp(a):
    """log(1 − e^{−a}) for a > 0, without cancellation at either end (Mächler 2012)."""
    small = a < LOG2
    low = jnp.log(-jnp.expm1(-jnp.where(small, a, 1.0)))
    high = jnp.log1p(-jnp.exp(-jnp.where(small, 1.0, a)))
    return jnp.where(small, low, high)


@jax.custom_jvp
def log_lambert(z):
    """y = log W(e^z), the solution of y + e^y = z (W: Lambert), for any real z; dy/dz = 1/(1 + e^y).

    y + e^y is convex and increasing, so Newton's steps from a point above the root fall onto it monotonically.
    """
    z = as_float(z)
    start = jnp.where(z > 1.0, jnp.log(jnp.maximum(z, 1.0)), z)

    def newton(_, y):
        return y - (y + jnp.exp(y) - z) / (1.0 + jnp.exp(y))

    return jax.lax.fori_loop(0, 8, newton, start)


@log_lambert.defjvp
def _(primals, tangents):
    (z,), (dz,) = primals, tangents
    y = log_lambert(z)
    return y, dz / (1.0 + jnp.exp(y))
