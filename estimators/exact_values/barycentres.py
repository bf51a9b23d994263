"""Weighted barycentres b of k distributions on the same outcomes: each is the minimiser of a mean divergence.

    arithmetic       Σ w p_k          minimises Σ w KL(p_k‖b): it covers what any member holds
    geometric        ∝ Π p_k^{w_k}    minimises Σ w KL(b‖p_k): it holds only what every member does
    jensen_shannon   no closed form   minimises Σ w JS(p_k, b)

Members are [k, ..., n]: the first axis counts them, the outcomes lie on `axis`, other axes are a batch. Results are
probabilities [..., n] in the precision of the input, with gradients free of NaN.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from estimators.exact_values.probabilities import check, is_traced, log_sum_exp, masses

ITERATIONS = 60
"""Newton's of the Jensen–Shannon centroid. A hundred members that share nothing but a background of e⁻²⁰, and sixty of
random logits of deviation 15, are at rest after ten."""
LONGEST = 3.0  # nats that a step may change log b: the first ones, far from the optimum, would go past it
SETTLED = 1e-6  # change of a probability in the last step above which the iteration has not arrived


def arithmetic(
    members: ArrayLike, weights: ArrayLike | None = None, *, axis: int = -1, logits: bool = False
) -> jax.Array:
    """Σ w_k p_k, the minimiser of Σ w_k KL(p_k‖b).

    Args:
        members: probabilities, or logits, [k, ..., n].
        weights: [k], not negative, of sum 1; equal by default.
        axis: where the outcomes lie; not the first axis, which counts the members.

    Raises:
        ValueError: members or weights that are no probabilities, or whose shapes do not fit. Outside jit.

    >>> print(*(f"{x:.4f}" for x in arithmetic([[0.8, 0.2, 0.0], [0.2, 0.2, 0.6]])))
    0.5000 0.2000 0.3000
    """
    log_p, w = _members(members, weights, axis, logits)
    return _placed(jnp.sum(w * jnp.exp(log_p), axis=0), axis)


def geometric(
    members: ArrayLike, weights: ArrayLike | None = None, *, axis: int = -1, logits: bool = False
) -> jax.Array:
    """∝ Π_k p_k^{w_k}, the minimiser of Σ w_k KL(b‖p_k); arguments as `arithmetic`.

    Raises:
        ValueError: as `arithmetic`, or no outcome has mass in every member. Inside jit the result is then 0 everywhere.

    >>> print(*(f"{x:.4f}" for x in geometric([[0.8, 0.2, 0.0], [0.2, 0.2, 0.6]])))
    0.6667 0.3333 0.0000
    """
    log_p, w = _members(members, weights, axis, logits)
    mean = _log_geometric(log_p, w)
    if not is_traced(mean) and bool(jnp.any(jnp.all(mean == -jnp.inf, axis=-1))):
        raise ValueError("members share no outcome, so their geometric barycentre has no mass: smooth them first")
    return _placed(jnp.exp(mean), axis)


def jensen_shannon(
    members: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    axis: int = -1,
    logits: bool = False,
    iterations: int = ITERATIONS,
) -> jax.Array:
    """The minimiser of Σ w_k JS(p_k, b), by Newton's iteration; arguments as `arithmetic`.

    The objective is convex, and least where g = Σ w_k log(1 + p_k/b) is the same for every outcome. Each g is convex
    and falls in log b at the slope s = Σ w_k p_k/(p_k + b), so that a step adds (g − λ)/s to log b, with the level λ
    that keeps the sum. The concave–convex iteration has the same fixed point, and a rate of 1 − 1/k.

    Raises:
        ValueError: as `arithmetic`, or the last step still changed the result; raise `iterations`. Outside jit.

    Source: Nielsen 2020, On a generalization of the Jensen–Shannon divergence and the Jensen–Shannon centroid, §3.

    >>> print(*(f"{x:.4f}" for x in jensen_shannon([[0.8, 0.2, 0.0], [0.2, 0.2, 0.6]])))
    0.5264 0.2313 0.2422
    """
    log_p, w = _members(members, weights, axis, logits)

    b, change = _centroid(log_p, w, iterations)
    if not is_traced(change) and not float(change) < SETTLED:
        raise ValueError(f"iterations = {iterations}: the last step still changed b by {change:.2g}; allow more")
    return _placed(b, axis)


@partial(jax.jit, static_argnums=2)
def _centroid(log_p: jax.Array, w: jax.Array, iterations: int) -> tuple[jax.Array, jax.Array]:
    """(b, by how much one more step would change it)."""
    held = jnp.any((log_p > -jnp.inf) & (w > 0.0), axis=0)  # elsewhere b is 0
    log_p = jnp.where(jnp.broadcast_to(held, log_p.shape), log_p, 0.0)

    def step(_, log_b):
        ahead = log_p - jnp.broadcast_to(log_b, log_p.shape)
        g, slope = jnp.sum(w * jax.nn.softplus(ahead), axis=0), jnp.sum(w * jax.nn.sigmoid(ahead), axis=0)
        b = jnp.where(held, jnp.exp(log_b), 0.0)
        per_slope = b / slope
        level = jnp.sum(per_slope * g, axis=-1, keepdims=True) / jnp.sum(per_slope, axis=-1, keepdims=True)
        moved = log_b + jnp.clip((g - level) / slope, -LONGEST, LONGEST)
        return moved - log_sum_exp(jnp.where(held, moved, -jnp.inf))

    # the arithmetic mean, at which no slope vanishes: p_k/b ≤ 1/w_k, and some p_k/b ≥ 1
    start = jnp.where(held, logsumexp(log_p, b=jnp.broadcast_to(w, log_p.shape), axis=0), 0.0)
    log_b = jax.lax.fori_loop(0, iterations, step, start)
    b, after = (jnp.where(held, jnp.exp(x), 0.0) for x in (log_b, step(0, log_b)))
    return b, jnp.max(jnp.abs(after - b), initial=0.0)


def _members(members: ArrayLike, weights: ArrayLike | None, axis: int, logits: bool) -> tuple[jax.Array, jax.Array]:
    """Log probabilities [k, ..., n] and weights [k, 1, ..., 1]."""
    x = jnp.asarray(members)
    check(x, x, axis=axis, logits=logits, names=("members", "members"))
    if x.ndim < 2 or axis % x.ndim == 0:
        raise ValueError(f"members of shape {x.shape}, outcomes on axis {axis}: the first axis counts the members")
    log_p = masses(x, x, axis=axis, logits=logits).log_p
    w = jnp.full(x.shape[:1], 1.0 / x.shape[0]) if weights is None else jnp.asarray(weights)
    if w.shape != x.shape[:1]:
        raise ValueError(f"weights have shape {w.shape}: pass one for each of the {x.shape[0]} members")
    check(w, w, names=("weights", "weights"))
    return log_p, w.astype(log_p.dtype).reshape(-1, *[1] * (x.ndim - 1))


def _log_geometric(logs: jax.Array, w: jax.Array) -> jax.Array:
    """log of the normalised Π p_k^{w_k}; −∞ where a member of positive weight has no mass."""
    missing = jnp.any((logs == -jnp.inf) & (w > 0.0), axis=0)
    mean = jnp.sum(w * jnp.where(logs == -jnp.inf, 0.0, logs), axis=0)
    mean = jnp.where(missing, -jnp.inf, mean)
    total = log_sum_exp(mean)
    return mean - jnp.where(total == -jnp.inf, 0.0, total)


def _placed(b: jax.Array, axis: int) -> jax.Array:
    """The outcomes back on their axis, which has one less in front of it."""
    return jnp.moveaxis(b, -1, axis if axis < 0 else axis - 1)
