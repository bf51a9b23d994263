"""Paths between two distributions, and Chernoff information, which lies where one of them meets the bisector.

    m-geodesic   (1 − t) p + t q           straight in the densities: the mixtures
    e-geodesic   ∝ p^{1−t} q^t             straight in their logarithms: the geometric means

from P at t = 0 to Q at t = 1. Distributions are given as log densities [..., k]: log-probabilities (or logits) of a
categorical, or values on a grid together with the quadrature weights of its points, [k]. In an exponential family the
e-geodesic is straight in the natural parameters: `estimators.exact_values.exponential_families.e_geodesic`.

The moment F(t) = log ∫ p^{1−t} q^t is convex, 0 at both ends where the supports agree, and F'(t) = KL(g_t‖p) −
KL(g_t‖q) along the e-geodesic g_t. Chernoff's information is −min F, found where the two divergences are equal.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from estimators.distributions.exponential_family import ExponentialFamily
from estimators.divergences.generator import as_float
from estimators.exact_values import exponential_families, gaussian

HALVINGS = 60
"""Bisections of [0, 1] for the t of Chernoff's information: more than float64 resolves."""


def m_geodesic(log_p: ArrayLike, log_q: ArrayLike, t: ArrayLike) -> jax.Array:
    """log [(1 − t) p + t q], [*t, ..., k], of normalised log densities [..., k].

    Args:
        t: in [0, 1], a number or an array [*t]; outside, mixtures may be negative: ValueError, NaN where t is traced.

    >>> import numpy as np
    >>> np.exp(m_geodesic(np.log([0.5, 0.5]), np.log([0.1, 0.9]), 0.5)).round(4).tolist()
    [0.30000001192092896, 0.699999988079071]
    """
    log_p, log_q, t = _aligned(log_p, log_q, t)
    if not isinstance(t, jax.core.Tracer) and not bool(jnp.all((t >= 0.0) & (t <= 1.0))):
        raise ValueError(f"t = {t.ravel()}: a mixture needs 0 ≤ t ≤ 1; use e_geodesic to go beyond")
    return jnp.logaddexp(jnp.log1p(-t) + log_p, jnp.log(t) + log_q)


@jax.jit
def e_geodesic(log_p: ArrayLike, log_q: ArrayLike, t: ArrayLike, weights: ArrayLike | None = None) -> jax.Array:
    """log [p^{1−t} q^t / ∫ p^{1−t} q^t], [*t, ..., k], of log densities [..., k], normalised or not.

    Where 0 < t < 1 it lives on the common support; where that is empty every entry is −inf.

    Args:
        t: any real number, or an array [*t].
        weights: of the quadrature on the k points, [k]; 1 if None, as for a categorical.

    >>> import numpy as np
    >>> np.exp(e_geodesic(np.log([0.8, 0.2]), np.log([0.2, 0.8]), 0.5)).round(4).tolist()
    [0.5, 0.5]
    """
    log_p, log_q, t = _aligned(log_p, log_q, t)
    logs = _blend(log_p, log_q, t)
    total = logsumexp(logs + _log_weights(weights, logs), axis=-1, keepdims=True)
    return jnp.where(jnp.isneginf(total), -jnp.inf, logs - jnp.where(jnp.isneginf(total), 0.0, total))


@jax.jit
def log_moment(log_p: ArrayLike, log_q: ArrayLike, t: ArrayLike, weights: ArrayLike | None = None) -> jax.Array:
    """F(t) = log ∫ p^{1−t} q^t over the common support, [*t, ...], of normalised log densities [..., k]; −inf if empty.

    >>> import numpy as np
    >>> round(float(log_moment(np.log([0.8, 0.2]), np.log([0.2, 0.8]), 0.5)), 6)      # log 0.8
    -0.223144
    """
    log_p, log_q, t = _aligned(log_p, log_q, t)
    common = jnp.isfinite(log_p) & jnp.isfinite(log_q)
    log_p, log_q = jnp.where(common, log_p, 0.0), jnp.where(common, log_q, 0.0)  # an infinite slope in t becomes NaN
    logs = jnp.where(common, _blend(log_p, log_q, t), -jnp.inf)
    return logsumexp(logs + _log_weights(weights, logs), axis=-1)


def _aligned(log_p: ArrayLike, log_q: ArrayLike, t: ArrayLike) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Both of shape [*t, ..., k], and t of that rank; a float type for all."""
    first, second = jnp.asarray(log_p), jnp.asarray(log_q)
    if first.ndim == 0 or second.ndim == 0 or first.shape[-1] != second.shape[-1]:
        raise ValueError(f"log densities of shape {first.shape} and {second.shape}: both must be [..., k] with one k")
    shape = jnp.broadcast_shapes(first.shape, second.shape)
    t = jnp.asarray(t, jnp.result_type(first, second, jnp.float32))
    full = t.shape + shape
    return (
        jnp.broadcast_to(as_float(first), full),
        jnp.broadcast_to(as_float(second), full),
        t.reshape(t.shape + (1,) * len(shape)),
    )


def _blend(log_p: jax.Array, log_q: jax.Array, t: jax.Array) -> jax.Array:
    """(1 − t) log p + t log q with 0 · (−inf) = 0."""
    from_p = jnp.where(t == 1.0, 0.0, (1.0 - t) * jnp.where(t == 1.0, 0.0, log_p))
    return from_p + jnp.where(t == 0.0, 0.0, t * jnp.where(t == 0.0, 0.0, log_q))


def _log_weights(weights: ArrayLike | None, logs: jax.Array) -> jax.Array:
    if weights is None:
        return jnp.zeros((1,) * logs.ndim, logs.dtype)
    return jnp.log(jnp.asarray(weights, logs.dtype)).reshape((1,) * (logs.ndim - 1) + (-1,))


# --- Chernoff information --------------------------------------------------------------------------------------------
class Chernoff(NamedTuple):
    """−min_t log ∫ p^{1−t} q^t, nats, and the t where it is attained: there KL(g_t‖p) = KL(g_t‖q)."""

    value: jax.Array
    t: jax.Array


@jax.jit
def chernoff(log_p: ArrayLike, log_q: ArrayLike, weights: ArrayLike | None = None) -> Chernoff:
    """Chernoff's information of categoricals or of densities on a grid, [...] each; inf between singular ones.

    Args:
        log_p, log_q: normalised, [..., k].
        weights: of the quadrature on the k points, [k]; 1 if None.

    >>> import numpy as np
    >>> found = chernoff(np.log([0.8, 0.2]), np.log([0.2, 0.8]))
    >>> round(float(found.value), 6), round(float(found.t), 6)     # −log 0.8, by symmetry at ½
    (0.223144, 0.5)
    """
    log_p, log_q, _ = _aligned(log_p, log_q, 0.0)

    def search(a, b):
        return chernoff_of(lambda t: log_moment(a, b, t, weights), log_p.dtype)

    for _ in range(log_p.ndim - 1):
        search = jax.vmap(search)
    return search(log_p, log_q)


@jax.jit
def chernoff_gaussian(mean_p, cov_p, mean_q, cov_q) -> Chernoff:
    """Chernoff's information of two Gaussians; arguments as in `gaussian`. δ²/8 for one covariance, δ as there.

    >>> import numpy as np
    >>> float(chernoff_gaussian(np.zeros(1), np.ones(1), np.full(1, 2.0), np.ones(1)).value)
    0.5
    """
    dtype = jnp.result_type(mean_p, cov_p, mean_q, cov_q, jnp.float32)
    return chernoff_of(lambda t: gaussian.log_moment(mean_p, cov_p, mean_q, cov_q, 1.0 - t), dtype)


def chernoff_of_family(p: ExponentialFamily, q: ExponentialFamily) -> Chernoff:
    """Chernoff's information of two members of an exponential family, [*batch].

    Source: Nielsen 2013, An information-geometric characterization of Chernoff information.

    >>> from estimators import distributions as dist
    >>> round(float(chernoff_of_family(dist.Normal(0.0, 1.0), dist.Normal(2.0, 1.0)).value), 6)
    0.5
    """
    middle = exponential_families.log_moment(p, q, 0.5)
    return chernoff_of(lambda t: exponential_families.log_moment(p, q, 1.0 - t), middle.dtype, middle.shape)


def chernoff_of(
    moment: Callable[[jax.Array], jax.Array], dtype: Any = jnp.float32, shape: tuple[int, ...] = ()
) -> Chernoff:
    """(−min F, its place) of convex moments t → F(t) of `shape` on [0, 1], by bisection of F' = KL(g‖p) − KL(g‖q).

    First derivatives in what F depends on are exact: at the minimum those through t vanish, so t is held constant.

    >>> found = chernoff_of(lambda t: t * (t - 1.0) / 2.0)    # of N(0, 1) and N(1, 1)
    >>> float(found.value), float(found.t)
    (0.125, 0.5)
    """
    slope = jax.grad(lambda t: jnp.sum(moment(t)))

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        below = slope(middle) < 0.0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros(shape, dtype), jnp.ones(shape, dtype)))
    t = jax.lax.stop_gradient(0.5 * (low + high))
    return Chernoff(-moment(t), t)
