"""The generalised Pareto shape k of a tail: of positive numbers only those moments exist whose order is below 1/k.

A mean of n of them has a finite variance if k < ½. Between ½ and about 0.7 it settles slowly, and its standard error is
still of use; above, n would have to be out of reach. Source: Vehtari, Simpson, Gelman, Yao, Gabry 2024, Pareto smoothed
importance sampling, JMLR 25(72), §3.
"""

import math

import jax
import jax.numpy as jnp

QUARTILE_SHARE = 3.0  # prior of Zhang & Stephens' grid: its points lie around 3 times the first quartile
PRIOR_COUNT, PRIOR_SHAPE = 10.0, 0.5
"""The shape of a tail is drawn to 0.5 by ten imaginary exceedances, against the noise of short tails (Vehtari et al.
2024, appendix G)."""
FEWEST = 5  # exceedances below which no shape is fitted
KNOWN = 25
"""Copies of an atom from which its share of the sum is known to a fifth, 1/√25."""


def fit(exceedances: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(k, σ) of the density (1 + kx/σ)^{−1/k − 1}/σ on x > 0, fitted to exceedances [..., m] sorted upwards.

    Those that are 0, tied with the threshold, are left out. Some must be positive.

    With θ = −k/σ the likelihood depends on θ alone, since k = mean log(1 − θx). θ is its mean under the profile
    likelihood on a grid. The standard error of k is about (1 + k)/√m.

    Source: Zhang & Stephens 2009, A new and efficient estimation method for the generalized Pareto distribution.

    >>> import numpy as np
    >>> u = (np.arange(1000) + 0.5) / 1000
    >>> k, scale = fit((u[::-1] ** -0.5 - 1.0) / 0.5)
    >>> print(f"{k:.2f} {scale:.2f}")
    0.50 1.00
    """
    x = jnp.asarray(exceedances)
    m = x.shape[-1]
    points = 30 + math.isqrt(m)
    there = x > 0.0
    count = jnp.sum(there, axis=-1, keepdims=True)
    grid = 1.0 - jnp.sqrt(points / (jnp.arange(points, dtype=x.dtype) + 0.5))
    first = m - count + jnp.maximum(jnp.floor(count / 4 + 0.5).astype(int) - 1, 0)
    quartile = jnp.maximum(jnp.take_along_axis(x, first, axis=-1), jnp.finfo(x.dtype).tiny)
    theta = 1.0 / x[..., -1:] + grid.reshape(*[1] * (x.ndim - 1), -1) / (QUARTILE_SHARE * quartile)

    def shape(theta):
        return jnp.sum(jnp.log1p(-theta[..., None] * x[..., None, :]), axis=-1) / count  # a tie with 0 adds 0

    k = shape(theta)
    likelihood = count * (jnp.log(-theta / k) - k - 1.0)
    best = jnp.sum(theta * jax.nn.softmax(likelihood, axis=-1), axis=-1, keepdims=True)
    return shape(best)[..., 0], (-shape(best) / best)[..., 0]


def tail_shape(logs: jax.Array) -> jax.Array:
    """k̂ [...] of the largest numbers among e^{logs} [..., n]: of the upper min(n/5, 3√n) of them.

    −∞ where these do not exceed the next one, or the largest is an atom, beyond which there is no tail: a number found
    `FEWEST` times, and so many times as often as the others on average, or one of fewer than `FEWEST` numbers. +∞ where
    n < 25 gives too few, where an atom of fewer than `KNOWN` copies makes up half of the sum, or where fewer than
    `FEWEST` are no rounding beside the largest. Those tied with the next one do not count; where fewer than `FEWEST`
    exceed it, the shape is the prior's.
    """
    n = logs.shape[-1]
    m = math.ceil(min(0.2 * n, 3.0 * math.sqrt(n)))
    if m < FEWEST:
        return jnp.full(logs.shape[:-1], jnp.inf, logs.dtype)
    top = jnp.sort(logs, axis=-1)[..., n - m - 1 :]
    scaled = jnp.exp(top - jnp.where(jnp.isfinite(top[..., -1:]), top[..., -1:], 0.0))
    x = scaled[..., 1:] - scaled[..., :1]
    rounding = 10.0 * jnp.finfo(x.dtype).eps  # the largest of `scaled` is 1
    flat = ~(x[..., -1] > rounding)  # also NaN
    copies = jnp.sum(x[..., -1:] - x <= rounding, axis=-1)
    x = jnp.where(x > rounding, x, 0.0)
    count = jnp.sum(x > 0.0, axis=-1)
    others = jnp.sum((x[..., 1:] - x[..., :-1] > rounding) & (x[..., :-1] > 0.0), axis=-1)  # numbers below the largest
    often = (others + 1 < FEWEST) | (copies * others >= FEWEST * (count - copies))
    atom = ~flat & (copies >= FEWEST) & often
    weighty = copies > 0.5 * jnp.sum(jnp.exp(logs - top[..., -1:]), axis=-1)
    few = count < FEWEST
    k, _ = fit(jnp.where(few[..., None], jnp.linspace(0.5, 1.0, m, dtype=x.dtype), x))
    k = (count * k + PRIOR_COUNT * PRIOR_SHAPE) / (count + PRIOR_COUNT)
    above = jnp.sum(top[..., 1:] - top[..., :1] > rounding, axis=-1)  # of the logs, where nothing is lost beside it
    k = jnp.where(few, jnp.where(above < FEWEST, PRIOR_SHAPE, jnp.inf), k)
    of_atom = jnp.where(weighty & (copies < KNOWN), jnp.inf, -jnp.inf)
    return jnp.where(flat, -jnp.inf, jnp.where(atom, of_atom, k))


def reliable_below(n: int) -> float:
    """min(1 − 1/log₁₀ n, 0.7): the k̂ from which on a mean of n terms is not to be believed.

    >>> print(f"{reliable_below(100):.2f} {reliable_below(10_000):.2f}")
    0.50 0.70
    """
    return min(1.0 - 1.0 / math.log10(n), 0.7) if n > 10 else 0.0
