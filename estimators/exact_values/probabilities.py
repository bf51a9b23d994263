"""Probabilities: checked, and as logarithms; what every discrete function does first with its arguments.

Outcomes lie along one axis, which is counted in each array by itself; the other axes broadcast. Values are checked
outside `jit` only, since a traced array has none. Inside, NaN gives NaN, a negative probability counts as 0, rows keep
whatever sum they have, and a row without an outcome has no terms.
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from estimators.divergences.generator import as_float

Logits = bool | Literal["p", "q"]

TOLERANCE = {"float64": 1e-4, "float32": 1e-4, "bfloat16": 0.02, "float16": 0.01}
"""How far a sum of probabilities may lie from 1. Ten times what softmax of 1e5 outcomes misses in half precision (2e-3
and 7e-4; in float32 1e-7), and in the others what figures of five digits do: three times 0.333 is refused."""


class Masses(NamedTuple):
    """Log probabilities [..., n], −∞ where there is no mass, by two routes, and log of the measure of each outcome."""

    log_p: jax.Array
    log_q: jax.Array
    log_ratio: jax.Array  # log p/q, in more digits than the difference has where p is close to q
    log_measure: jax.Array  # log of the weight, −∞ for an outcome that is masked


def is_traced(*arrays) -> bool:
    """Whether one of them has no values yet."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arrays))


def check(
    p: ArrayLike,
    q: ArrayLike,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    smoothing: float | None = None,
    *,
    axis: int = -1,
    logits: Logits = False,
    names: tuple[str, str] = ("p", "q"),
) -> None:
    """Raise ValueError for what is no pair of distributions; of traced arrays only shapes are looked at.

    Args:
        p, q: probabilities along `axis`, or logits: of both (True) or of one ("p", "q"). Logits may be −∞.
        where: outcomes that count; the others have no mass, whatever stands there.
        weights: the measure ≥ 0 of each outcome (a cell's volume, how often it stands for itself): then p and q are
            densities, Σ w p = 1, and the softmax of logits is normalised so.
        smoothing: ε in [0, 1]: both are mixed with ε of the uniform distribution.
        names: what messages call p and q.

    Raises:
        ValueError: its message names the argument, the value and the remedy.
    """
    if logits not in (True, False, "p", "q"):
        raise ValueError(f"logits = {logits!r}: choose True, False, 'p' or 'q'")
    if smoothing is not None and not is_traced(smoothing) and not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"smoothing = {smoothing}: a share of the uniform distribution lies in [0, 1]")
    given = {names[0]: p, names[1]: q, "where of outcomes": where, "weights of outcomes": weights}
    arrays = {name: x for name, x in given.items() if x is not None}
    for name, x in arrays.items():
        if not -np.ndim(x) <= axis < np.ndim(x) or np.shape(x)[axis] == 0:
            raise ValueError(
                f"{name} has shape {np.shape(x)} and no outcomes on axis {axis}: pass an array with that axis"
            )
    shapes = {name: (*np.delete(np.shape(x), axis).tolist(), np.shape(x)[axis]) for name, x in arrays.items()}
    shape = common_shape(shapes)
    if is_traced(*arrays.values()):
        return
    last = {name: np.broadcast_to(np.moveaxis(np.asarray(x, float), axis, -1), shape) for name, x in arrays.items()}
    measure = last.get("weights of outcomes", np.ones(shape))
    wrong = measure[~((measure >= 0.0) & (measure < np.inf))]
    if wrong.size:
        raise ValueError(f"weights hold {wrong[0]:g}: a measure is finite and not negative; mask with where=")
    counted = (last.get("where of outcomes", np.ones(shape)) != 0.0) & (measure > 0.0)
    if empty := int(np.sum(~np.any(counted, axis=-1))):
        raise ValueError(f"where and weights leave {empty} rows without an outcome: leave those rows out")
    for name, side in zip(names, "pq", strict=True):
        x = last[name]
        if np.any(np.isnan(x) & counted):
            raise ValueError(f"{name} holds NaN: mend what made it, or mask those outcomes with where=")
        if logits in (True, side):
            _check_logits(name, np.where(counted, x, -np.inf))
        else:
            _check_probabilities(name, np.where(counted, x, 0.0), measure, tolerance_of(given[name]))


def common_shape(shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The shape to which arrays broadcast. Raises ValueError that names their shapes where there is none."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"shapes do not broadcast (outcomes last): {listed}; make axes equal, or of length 1"
        ) from None


def tolerance_of(array: ArrayLike | None) -> float:
    """How far from 1 a sum of such numbers may lie."""
    return TOLERANCE.get(str(getattr(array, "dtype", "float64")), TOLERANCE["float64"])


def _check_logits(name: str, x: np.ndarray) -> None:
    top = x.max(axis=-1)
    if np.any(top == np.inf):
        raise ValueError(f"{name} holds the logit inf: a logit is finite, or -inf for an outcome without mass")
    if np.any(top == -np.inf):
        raise ValueError(f"{name} has a row whose logits are all -inf: leave the row out")


def _check_probabilities(name: str, x: np.ndarray, measure: np.ndarray, tolerance: float) -> None:
    least = x.min(initial=0.0)
    if least < 0.0:
        raise ValueError(f"{name} holds {least:g}: a probability is not negative; pass logits=True for logits")
    total = np.sum(x * measure, axis=-1).ravel()
    off = np.abs(total - 1.0)
    if not np.all(off <= tolerance):
        worst = total[np.argmax(off)]
        raise ValueError(f"{name} sums to {worst:.6g} over its outcomes, not to 1: divide by the sum, or pass logits")


def safe_log(x: jax.Array) -> jax.Array:
    """log x, −∞ for x ≤ 0 with gradient 0; NaN stays."""
    return jnp.where(x <= 0.0, -jnp.inf, jnp.log(jnp.where(x <= 0.0, 1.0, x)))


def log_sum_exp(logs: jax.Array) -> jax.Array:
    """log Σ e^x along the last axis, which stays; −∞ where all are, with gradient 0."""
    top = jnp.max(logs, axis=-1, keepdims=True)
    top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0.0))
    return safe_log(jnp.sum(jnp.exp(logs - top), axis=-1, keepdims=True)) + top


@partial(jax.jit, static_argnames=("axis", "logits"))
def masses(
    p: jax.Array,
    q: jax.Array,
    where: jax.Array | None = None,
    weights: jax.Array | None = None,
    smoothing: jax.Array | float | None = None,
    *,
    axis: int = -1,
    logits: Logits = False,
) -> Masses:
    """Log probabilities of p and of q, with outcomes on the last axis and batch axes in their common shape.

    The arguments are those of `check`, which comes before it.
    """
    arrays = [None if x is None else outcomes_last(x, axis) for x in (p, q, where, weights)]
    shape = jnp.broadcast_shapes(*(x.shape for x in arrays if x is not None))
    p_, q_, counted, measure = (jnp.ones(shape) if x is None else jnp.broadcast_to(x, shape) for x in arrays)
    dtype = jnp.result_type(*arrays[:2])
    measure = measure.astype(dtype)
    log_measure = jnp.where(counted.astype(bool), safe_log(measure), -jnp.inf)
    counted = log_measure > -jnp.inf

    def side(array: jax.Array, is_logits: bool) -> tuple[jax.Array, jax.Array]:
        x = jnp.where(counted, array.astype(dtype), -jnp.inf if is_logits else 0.0)
        return x, _log_softmax(x, log_measure) if is_logits else safe_log(x)

    (a, log_p), (b, log_q) = side(p_, logits in (True, "p")), side(q_, logits in (True, "q"))
    if smoothing is not None:
        log_p, log_q = (_smoothed(logs, smoothing, log_measure) for logs in (log_p, log_q))
        ratio = _difference(log_p, log_q)
    elif logits is True:
        ratio = _ratio_of_logits(a, b, log_q, log_measure, _difference(log_p, log_q))
    elif logits is False:
        ratio = _ratio_of_probabilities(a, b, _difference(log_p, log_q))
    else:
        ratio = _difference(log_p, log_q)
    return Masses(log_p, log_q, ratio, log_measure)


def outcomes_last(x: jax.Array, axis: int) -> jax.Array:
    return jnp.moveaxis(as_float(x), axis, -1)


def _log_softmax(x: jax.Array, log_measure: jax.Array) -> jax.Array:
    """x − log Σ w e^x."""
    total = log_sum_exp(x + log_measure)
    return x - jnp.where(jnp.isfinite(total), total, 0.0)


def _smoothed(logs: jax.Array, share, log_measure: jax.Array) -> jax.Array:
    """log[(1 − ε) p + ε/Σw] where there is an outcome."""
    share = jnp.asarray(share, logs.dtype)
    added = safe_log(share) - log_sum_exp(log_measure)
    mixed = jnp.logaddexp(safe_log(1.0 - share) + logs, jnp.broadcast_to(added, logs.shape))
    return jnp.where(jnp.isfinite(log_measure), mixed, -jnp.inf)


def _difference(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """log p − log q where both are finite, else 0."""
    both = jnp.isfinite(log_p) & jnp.isfinite(log_q)
    return jnp.where(both, log_p, 0.0) - jnp.where(both, log_q, 0.0)


def _ratio_of_probabilities(p, q, rounded) -> jax.Array:
    """log p/q, of which a `rounded` value is known, through p − q where they are close: that difference is exact."""
    close = jnp.abs(p - q) < 0.5 * q
    excess = jnp.where(close, p - q, 0.0) / jnp.where(close, q, 1.0)
    return jnp.where(close, jnp.log1p(excess), rounded)


def _ratio_of_logits(a, b, log_q, log_measure, rounded) -> jax.Array:
    """log p/q = δ − log E_Q e^δ, δ = a − b less its mean under Q, where δ is small: its digits are those of a − b."""
    delta, mass_q = _difference(a, b), jnp.exp(log_q + log_measure)
    delta = delta - jnp.sum(mass_q * delta, axis=-1, keepdims=True)
    same_support = jnp.all(jnp.isfinite(a) == jnp.isfinite(b), axis=-1, keepdims=True)
    delta = jnp.where(jnp.isfinite(a), delta, 0.0)
    close = same_support & (jnp.max(jnp.abs(delta), axis=-1, keepdims=True) < 0.5)
    delta = jnp.where(close, delta, 0.0)
    log_mean = jnp.log1p(jnp.sum(mass_q * jnp.expm1(delta), axis=-1, keepdims=True))
    return jnp.where(close, delta - log_mean, rounded)
