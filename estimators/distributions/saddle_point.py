"""Log-probabilities of counts that keep their digits where gamma functions of large numbers would cancel.

Source: Loader 2000, Fast and accurate computation of binomial probabilities.
"""

import math

import jax
import jax.numpy as jnp

STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)
"""Of 1/x, 1/x³, … in the error of Stirling's formula; from `SHIFT` on what is left out is below 1e-15."""
SHIFT = 8  # steps of the recurrence that carries smaller x to where the series holds
CLOSE, TERMS = 1 / 3, 16
"""|x − μ|/(x + μ) below which a deviance is summed as a series, whose 16 terms reach 1e-17; beyond, the logarithm
loses a factor of six of the digits at most."""
HALVES = 2.0**12  # a product of two numbers of twelve bits is exact in float32


def stirling_error(x: jax.Array) -> jax.Array:
    """δ(x) = log Γ(x + 1) − (x + ½) log x + x − ½ log 2π, x > 0, with nothing that cancels."""
    small = x < SHIFT
    low = jnp.where(small, x, 1.0)
    steps = sum((low + k + 0.5) * jnp.log1p(1.0 / (low + k)) - 1.0 for k in range(SHIFT))
    inverse = 1.0 / jnp.where(small, low + SHIFT, x)
    series = inverse * jnp.polyval(jnp.asarray(STIRLING[::-1], x.dtype), inverse**2)
    return jnp.where(small, steps + series, series)


def deviance(x: jax.Array, mean: jax.Array, difference: jax.Array) -> jax.Array:
    """x log(x/μ) + μ − x ≥ 0 of x > 0, given x − μ better than the two would give it."""
    v = difference / (x + mean)
    close = jnp.abs(v) < CLOSE
    near = jnp.where(close, v, 0.0)
    odd = jnp.asarray([1.0 / (2 * j + 1) for j in range(TERMS, 0, -1)], x.dtype)
    series = difference * near + 2.0 * x * near**3 * jnp.polyval(odd, near**2)
    far = x * jnp.log(x / jnp.where(close, x, mean)) - difference
    return jnp.where(close, series, far)


def _less_product(x: jax.Array, n: jax.Array, p: jax.Array) -> jax.Array:
    """x − np, 0 ≤ p ≤ 1: by halves of n and p, since their product in float32 would be off by np/2²⁴."""
    n_high, p_high = jnp.floor(n / HALVES) * HALVES, jnp.floor(p * HALVES) / HALVES
    return x - n_high * p_high - (n - n_high) * p_high - n * (p - p_high)


def log_binomial(x: jax.Array, rest: jax.Array, n: jax.Array, p: jax.Array) -> jax.Array:
    """log of Γ(n + 1)/(Γ(x + 1) Γ(y + 1)) pˣ (1 − p)ʸ of positive x and y = rest, whose rounded sum is n.

    The saddle-point form of Loader 2000, Fast and accurate computation of binomial probabilities.
    """
    of_x, of_rest = _less_product(x, n, p), _less_product(rest, n, 1.0 - p)
    lost = (rest - (n - (n - rest))) + (x - (n - rest))  # of the sum, by rounding
    difference = jnp.where(p > 0.5, lost * (1.0 - p) - of_rest, of_x - lost * p)  # x − np: 1 − p is exact above ½
    error = stirling_error(n) - stirling_error(x) - stirling_error(rest)
    both = deviance(x, n * p, difference) + deviance(rest, n * (1.0 - p), -difference)
    return error - both - 0.5 * (jnp.log(x) + jnp.log(rest / n) + math.log(2.0 * math.pi))
