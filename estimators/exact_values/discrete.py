"""Sums over outcomes: entropies, and every divergence, between distributions p and q on finitely many outcomes.

Arguments are probabilities or logits along one axis, and any other axes are a batch; results are in nats, in the
precision of the input (float32 at least), differentiable, and made for `jit` and `vmap`. 0 log 0 = 0. A divergence is
infinite where the supports differ and its generator says so (f(0) or f'(∞) infinite), and nothing is smoothed unless
asked. The terms are those of `perspective.integrand`: none is negative, and float32 resolves divergences far below its
epsilon, from logits as from probabilities.

Gradients have no NaN. By a probability they are f'(p/q) − f'(1), which along the simplex is the gradient of D_f; an
entry of probability 0 has the gradient at which it stays 0, and an infinite divergence has gradient 0. Arguments are
checked outside `jit` only; what holds inside is written in `probabilities`.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import integrand
from estimators.divergences.table import functional
from estimators.exact_values.probabilities import Logits, Masses, check, is_traced, log_sum_exp, masses


def divergence(
    p: ArrayLike,
    q: ArrayLike,
    d: str | FDivergence = "kl",
    *,
    axis: int = -1,
    logits: Logits = False,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    smoothing: float = 0.0,
) -> jax.Array:
    """D_f(P‖Q) = Σ w q f(p/q), or Rényi's D_α = log Σ w p^α q^{1−α} / (α − 1) for "renyi(α)".

    Args:
        p, q: probabilities [..., n], the outcomes on `axis` of each; batch axes broadcast.
        d: a name of the table, a family with its parameter, "renyi(α)" with α > 0, or an FDivergence.
        logits: True if both are logits; "p" or "q" if only that one is.
        where: outcomes that count [..., n]; softmax and sums leave the others out.
        weights: the measure w ≥ 0 of each outcome [..., n], of which p and q are densities: Σ w p = 1. Cell volumes, or
            how many equal outcomes one stands for; 1 by default.
        smoothing: ε in [0, 1]: p and q are first mixed with ε of the uniform distribution. It lowers every D_f.

    Returns:
        [...], nats. A row all of whose outcomes are masked, inside jit, has f(1), which is 0 (gan: −log 4).

    Raises:
        ValueError: a negative probability, a sum away from 1, NaN, shapes that do not broadcast, a row without
            outcomes, an unknown divergence. Outside jit; inside, see `probabilities`.

    KL agrees with other libraries, whose arguments differ: `scipy.special.rel_entr(p, q)` summed;
    `torch.nn.functional.kl_div(log q, p, reduction="sum")` and `optax.losses.kl_divergence(log_predictions=log q,
    targets=p)`, which both take the second distribution first, as its logarithm. The square of
    `scipy.spatial.distance.jensenshannon(p, q)` is js.

    >>> p, q = [0.5, 0.5, 0.0], [0.25, 0.5, 0.25]
    >>> print(f"{divergence(p, q, 'kl'):.4f} {divergence(q, p, 'kl')} {divergence(p, q, 'tv'):.2f}")
    0.3466 inf 0.25
    >>> print(f"{divergence([2.0, 0.0], [0.0, 0.0], 'renyi(2)', logits=True):.4f}")
    0.4574
    """
    asked = functional(d)
    arrays = _prepared(p, q, where, weights, smoothing, axis, logits)
    return _divergence(*arrays, axis=axis, logits=logits, d=asked.divergence, order=asked.order)


@partial(jax.jit, static_argnames=("axis", "logits", "d", "order"))
def _divergence(*arrays: jax.Array | None, axis: int, logits: Logits, d: FDivergence, order: float | None) -> jax.Array:
    m = masses(*arrays, axis=axis, logits=logits)
    terms = integrand(d)(m.log_p + m.log_measure, m.log_q + m.log_measure, m.log_ratio)
    value = d.value_at_one + jnp.sum(terms, axis=-1)
    return value if order is None else _renyi(m, value, order)


def _renyi(m: Masses, alpha_divergence: jax.Array, order: float) -> jax.Array:
    """log Σ w p^α q^{1−α} / (α − 1): by the α-divergence where P is close to Q, since the sum would round to 1."""
    in_p, in_q = m.log_p > -jnp.inf, m.log_q > -jnp.inf
    there = jnp.where(in_p & in_q, m.log_measure + m.log_q + order * m.log_ratio, -jnp.inf)
    excess = order * (order - 1.0) * alpha_divergence
    close = jnp.abs(excess) < 0.5
    log_moment = jnp.where(close, jnp.log1p(jnp.where(close, excess, 0.0)), log_sum_exp(there)[..., 0])
    value = log_moment / (order - 1.0)
    return jnp.where(jnp.any(in_p & ~in_q, axis=-1), jnp.inf, value) if order > 1.0 else value


def _prepared(p, q, where, weights, smoothing, axis: int, logits: Logits) -> list[jax.Array | None]:
    """The arguments of `masses`, checked; no smoothing is None."""
    smoothing = smoothing if is_traced(smoothing) or smoothing != 0.0 else None
    check(p, q, where, weights, smoothing, axis=axis, logits=logits)
    return [None if x is None else jnp.asarray(x) for x in (p, q, where, weights, smoothing)]


def entropy(
    p: ArrayLike,
    *,
    axis: int = -1,
    logits: bool = False,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """H(p) = −Σ w p log p ≥ 0 in nats (of a density with weights w it may be negative); arguments as `divergence`.

    >>> print(f"{entropy([0.5, 0.25, 0.25]):.4f}")
    1.0397
    """
    return cross_entropy(p, p, axis=axis, logits=logits, where=where, weights=weights)


def cross_entropy(
    p: ArrayLike,
    q: ArrayLike,
    *,
    axis: int = -1,
    logits: Logits = False,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    smoothing: float = 0.0,
) -> jax.Array:
    """H(p, q) = −Σ w p log q = H(p) + KL(p‖q), infinite where p > 0 = q; arguments as `divergence`.

    For labels and logits of a classifier p is one-hot and logits="q".

    >>> print(f"{cross_entropy([0.0, 1.0], [1.0, 3.0], logits='q'):.4f}")
    0.1269
    """
    return _cross_entropy(*_prepared(p, q, where, weights, smoothing, axis, logits), axis=axis, logits=logits)


@partial(jax.jit, static_argnames=("axis", "logits"))
def _cross_entropy(*arrays: jax.Array | None, axis: int, logits: Logits) -> jax.Array:
    m = masses(*arrays, axis=axis, logits=logits)
    mass, in_q = jnp.exp(m.log_p + m.log_measure), ~(m.log_q == -jnp.inf)
    terms = jnp.where(in_q, -mass * jnp.where(in_q, m.log_q, 0.0), jnp.where(m.log_p > -jnp.inf, jnp.inf, 0.0))
    return jnp.sum(terms, axis=-1)


def perplexity(
    p: ArrayLike,
    q: ArrayLike | None = None,
    *,
    axis: int = -1,
    logits: Logits = False,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """e^{H(p)}, how many equally likely outcomes are as uncertain as p; with q e^{H(p, q)}; arguments as `divergence`.

    >>> print(f"{perplexity([0.25, 0.25, 0.25, 0.25]):.2f} {perplexity([1.0, 0.0], [0.2, 0.8]):.2f}")
    4.00 5.00
    """
    if q is None:
        q, logits = p, bool(logits)
    return jnp.exp(cross_entropy(p, q, axis=axis, logits=logits, where=where, weights=weights))
