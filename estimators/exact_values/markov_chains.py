"""Markov chains on n states by their transition probabilities [..., n, n], from the row's state to the column's."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from estimators.divergences.generator import as_float
from estimators.exact_values import discrete
from estimators.exact_values.probabilities import check, is_traced

SQUARINGS = 200
"""Of the lazy chain: 2^200 steps forget what a chain of 40 states forgets in 10^18 steps, as a double well does, and
what a probability of 1e-40 lets through."""


def stationary_distribution(transition: ArrayLike, *, initial: ArrayLike | None = None) -> jax.Array:
    """π = πT [..., n]: the share of time that the chain T spends in each state in the long run.

    It is the limit of the lazy chain ½(I + T), which has the same π and no period, by repeated squaring: no term is
    subtracted. A chain with several closed classes of states has several: the limit from `initial` is one of them.

    Args:
        transition: [..., n, n], rows of sum 1.
        initial: probabilities [..., n] of the first state; uniform by default.

    Raises:
        ValueError: T is not square, its rows are no probabilities, or, without `initial`, it has several closed
            classes. Outside jit; inside, the limit from the uniform distribution is returned.

    >>> print(*(f"{x:.2f}" for x in stationary_distribution([[0.9, 0.1], [0.3, 0.7]])))
    0.75 0.25
    """
    t = _checked("transition", transition)
    if initial is None:
        start = jnp.full(t.shape[-1:], 1.0 / t.shape[-1], t.dtype)
        if not is_traced(t):
            _check_one_class(np.asarray(t))
    else:
        check(initial, initial, names=("initial", "initial"))
        start = as_float(jnp.asarray(initial)).astype(t.dtype)
    return _limit(start, t)


@jax.jit
def _limit(start: jax.Array, t: jax.Array) -> jax.Array:
    """The start [..., n] after ever so many steps of the lazy chain."""
    n = t.shape[-1]
    lazy = 0.5 * (jnp.broadcast_to(jnp.eye(n, dtype=t.dtype), t.shape) + t)

    def square(_, steps):
        steps = jnp.matmul(steps, steps, precision="highest")
        return steps / jnp.sum(steps, axis=-1, keepdims=True)

    steps = jax.lax.fori_loop(0, SQUARINGS, square, lazy)
    shape = np.broadcast_shapes(start.shape, t.shape[:-1])
    return jnp.einsum("...i,...ij->...j", jnp.broadcast_to(start, shape), steps, precision="highest")


def kl_rate(p: ArrayLike, q: ArrayLike, *, initial: ArrayLike | None = None) -> jax.Array:
    """lim KL(P_t‖Q_t)/t = Σ_i π_i KL(p_i‖q_i), nats a step: of the paths of t steps of two chains, π that of p.

    It is infinite where p, in a state to which it returns for ever, makes a step that q never makes. Steps from states
    that p leaves for good do not count.

    Args:
        p, q: transition probabilities [..., n, n].
        initial: of chain p, which is needed if p has several closed classes.

    Raises:
        ValueError: as `stationary_distribution` of p; q may be any chain.

    Source: Rached, Alajaji, Campbell 2004.

    >>> print(f"{kl_rate([[0.9, 0.1], [0.3, 0.7]], [[0.5, 0.5], [0.5, 0.5]]):.4f}")
    0.2966
    """
    p_, q_ = _checked("p", p), _checked("q", q)
    share = stationary_distribution(p_, initial=initial)
    rates = discrete.divergence(p_, q_, "kl")
    return jnp.sum(jnp.where(share > 0.0, share * jnp.where(share > 0.0, rates, 0.0), 0.0), axis=-1)


def _checked(name: str, transition: ArrayLike) -> jax.Array:
    t = as_float(jnp.asarray(transition))
    if t.ndim < 2 or t.shape[-1] != t.shape[-2]:
        raise ValueError(f"{name} has shape {t.shape}: transition probabilities are [..., n, n]")
    check(t, t, names=(name, name))
    return t


def _check_one_class(transition: np.ndarray) -> None:
    """A class is closed if no step leaves it: its states reach only states that reach them."""
    n = transition.shape[-1]
    for number, chain in enumerate(transition.reshape(-1, n, n)):
        reach = (chain > 0.0) | np.eye(n, dtype=bool)
        for _ in range(max(1, (n - 1).bit_length())):
            reach = np.greater(reach.astype(np.float32) @ reach, 0.0)
        closed = ~(reach & ~reach.T).any(axis=1)
        classes = len(np.unique(reach[closed], axis=0))
        if classes > 1:
            raise ValueError(
                f"transition (chain {number}) has {classes} closed classes of states, and a stationary distribution of "
                "each: pass initial=, or the transitions within one class"
            )
