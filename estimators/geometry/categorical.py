"""Categoricals, laws on finitely many values: D_f between arrays of probabilities, and the checks of such arrays."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.exact_values import discrete
from estimators.exact_values.quadrature import in_blocks

CLOSE = 1e-5  # to 1, the sum of probabilities: float32 arrays of thousands of values come that close


def between(p: ArrayLike, q: ArrayLike, d: str | FDivergence) -> np.ndarray:
    """D_f(P‖Q) = Σ_k q_k f(p_k/q_k) in nats, [...], of probabilities p and q [..., k]; inf where it is infinite.

    Computed in float64, whatever the precision of p and q. Leading axes broadcast.

    Raises:
        ValueError: negative probabilities, sums away from 1, or shapes that do not broadcast.

    >>> between([0.5, 0.5], [0.25, 0.75], "total_variation").round(9).item()
    0.25
    >>> between([[0.5, 0.5], [1.0, 0.0]], [0.0, 1.0], "kl")
    array([inf, inf])
    """
    arrays = probabilities("p", p), probabilities("q", q)
    with jax.enable_x64(True):
        return np.asarray(discrete.divergence(*arrays, d))


def costs(d: FDivergence, log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """q f̃(p/q) in float64, elementwise, f̃(u) = f(u) − f(1) − f'(1)(u − 1): what masses p and q add to D_f − f(1).

    >>> from estimators.divergences.table import divergence
    >>> costs(divergence("pearson"), np.log([0.5]), np.log([0.25])).round(9)
    array([0.25])
    """
    pairs = np.stack([np.ravel(log_p), np.ravel(log_q)], axis=1)
    return in_blocks(_compiled(d), pairs).reshape(np.shape(log_p))


@lru_cache(maxsize=256)
def _compiled(d: FDivergence):
    integrand = log_perspective(d)
    return jax.jit(lambda pairs: jnp.exp(integrand(pairs[:, 0], pairs[:, 1])))


def probabilities(name: str, values: ArrayLike) -> np.ndarray:
    """`values` [..., k] in float64, each row divided by its sum, which must be 1 but for rounding.

    Raises:
        ValueError: a scalar, a negative value or NaN, or a row that does not sum to 1; it calls the argument `name`.
    """
    array = np.asarray(values, np.float64)
    if array.ndim == 0:
        raise ValueError(f"{name} is the single number {array:g}: give probabilities [..., k]")
    if not np.all(array >= 0.0):
        raise ValueError(f"{name} holds {array[~(array >= 0.0)][0]:g}: probabilities are not negative")
    total = array.sum(axis=-1, keepdims=True)
    if np.any(np.abs(total - 1.0) > CLOSE):
        raise ValueError(f"{name} sums to {total[np.abs(total - 1.0) > CLOSE][0]:g}, not to 1; divide it by its sum")
    return array / total
