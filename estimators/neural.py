"""A cross-fitted neural critic: one fit, and a held-out lower bound on every divergence.

The critic is trained with the logistic loss, the bound of the Jensen–Shannon divergence, whose gradient is bounded;
its raw output estimates log p/q, from which each divergence's own variational function T = f'(p/q) follows. The data
are cut into folds. For each fold a critic is trained on the others but one, stopped early by that one, and only then
shown the fold, so no reported number is computed on samples that trained or chose its critic. For such a critic

    E_P[T] − E_Q[f*(T)] ≤ D_f(P‖Q)     whatever it learned,

so the value is an unbiased estimate of a lower bound, and its standard error is that of two sample means.

Layer 2: imports bounds, critics, fitting, result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from scipy.stats import norm

from estimators.bounds import fenchel
from estimators.critics import MLP
from estimators.divergences import DIVERGENCES, FDivergence
from estimators.fitting import steps
from estimators.result import Estimate
from estimators.samples import DataError

FOLDS = 5
MINIMUM = 2 * FOLDS  # rows a side
ROUNDS, ROUND_STEPS, BATCH = 25, 80, 256
"""Training is looked at after each round on the validation fold, and the best round is kept."""
STEEPEST = 25.0  # |log-ratio| up to which float64 holds f*(f'(u)) where no fused form is stated
REACH = 1e6  # standard deviations, beyond which a row looks like one at that distance; float32 squares it


class RatioNetwork(nn.Module):
    """log p/q as a linear function plus a perceptron, zero at the start."""

    @nn.compact
    def __call__(self, x):
        hidden = nn.silu(MLP((128,), "silu", 64)(x))
        joined = jnp.concatenate([x, hidden], axis=-1)
        return nn.Dense(1, kernel_init=nn.initializers.zeros)(joined)[:, 0]


NETWORK = RatioNetwork()


class Fold(NamedTuple):
    """Standardised rows of one fold's training and validation samples."""

    train_p: np.ndarray
    train_q: np.ndarray
    valid_p: np.ndarray
    valid_q: np.ndarray


class Scaler(NamedTuple):
    """Mean and standard deviation of the pooled training rows, in float64."""

    mean: np.ndarray
    spread: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        standard = (rows - self.mean) / self.spread
        return np.clip(standard, -REACH, REACH).astype(np.float32)


def estimate(
    x: np.ndarray, y: np.ndarray, divergences: Sequence[FDivergence], *, seed: int = 0, confidence: float = 0.95
) -> list[Estimate]:
    """Held-out variational lower bounds on D_f(P‖Q) for each of `divergences`, from one cross-fitted critic.

    Args:
        x, y: samples of P [n, d] and Q [m, d], float64, finite.
        divergences: rows of the table, or the user's own.
        seed: of the folds, the initial weights and the batches.
        confidence: level of the interval.

    Raises:
        DataError: fewer than ten rows a side.
    """
    if min(len(x), len(y)) < MINIMUM:
        raise DataError(f"{len(x)} and {len(y)} rows: cross-fitting over {FOLDS} folds needs {MINIMUM} a side")
    log_p, log_q, ratio, diagnostics = cross_fit(x, y, seed)
    warnings = _warnings(log_p, log_q)
    made = []
    for row in divergences:
        t_p, t_q = variational(row, log_p, log_q)
        value = float(t_p.mean() - t_q.mean())
        error = float(math.sqrt(t_p.var(ddof=1) / len(t_p) + t_q.var(ddof=1) / len(t_q)))
        reach = float(norm.ppf(0.5 + 0.5 * confidence)) * error
        separable = log_p.min() > log_q.max()
        limit = row.upper_limit()
        made.append(
            Estimate(
                divergence=row.name,
                value=value,
                low=min(value - reach, math.log(min(len(x), len(y)))) if separable else value - reach,
                high=limit if separable else min(value + reach, limit),
                standard_error=error,
                confidence=confidence,
                method="neural",
                n_p=len(x),
                n_q=len(y),
                dim=x.shape[1],
                warnings=(*warnings, *_about(row, value, error, len(x))),
                diagnostics=diagnostics,
                ratio=ratio,
            )
        )
    return made


def variational(row: FDivergence, log_p: np.ndarray, log_q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T on P's samples, f*(T) on Q's) in float64, with T = f'(e^ℓ); the exact step where f has a kink."""
    with jax.enable_x64(True):
        v_p, v_q = jnp.asarray(log_p), jnp.asarray(log_q)
        activation = row.log_ratio
        if row.smooth and all(bool(jnp.all(activation.log_ratio(v) == v)) for v in (v_p, v_q)):
            t_p, t_q = activation.output(v_p), activation.conjugate(v_q)
        else:  # smoothed, or levelled off early for float32's sake
            u_p, u_q = (jnp.exp(jnp.clip(v, -STEEPEST, STEEPEST)) for v in (v_p, v_q))
            t_p, t_q = row.prime(u_p), row.conjugate(row.prime(u_q))
        return np.asarray(t_p), np.asarray(t_q)


def cross_fit(x: np.ndarray, y: np.ndarray, seed: int):
    """Held-out log-ratios of every row of x and of y, each from the critic that never saw it.

    Returns:
        log_p [n], log_q [m], the averaged critic (points [k, d] → [k]), and diagnostics.
    """
    rng = np.random.default_rng(seed)
    parts_p, parts_q = (np.array_split(rng.permutation(len(rows)), FOLDS) for rows in (x, y))
    folds, scalers = zip(*(_fold(x, y, parts_p, parts_q, k) for k in range(FOLDS)), strict=True)
    stacked = Fold(*(_stack(arrays) for arrays in zip(*folds, strict=True)))
    critics, history = fit_folds(jax.random.key(seed), stacked)
    ratios = [
        _ratio(jax.tree.map(lambda w, k=k: w[k], critics), fold, scaler)
        for k, (fold, scaler) in enumerate(zip(folds, scalers, strict=True))
    ]
    log_p, log_q = np.empty(len(x)), np.empty(len(y))
    for part_p, part_q, ratio in zip(parts_p, parts_q, ratios, strict=True):
        log_p[part_p], log_q[part_q] = ratio(x[part_p]), ratio(y[part_q])
    weights = np.exp(log_q - log_q.max())
    history = np.asarray(history)
    return (
        log_p,
        log_q,
        lambda points: np.mean([ratio(points) for ratio in ratios], axis=0),
        {
            "mean_ratio_on_q": float(np.mean(np.exp(log_q))),
            "mean_inverse_ratio_on_p": float(np.mean(np.exp(-log_p))),
            "effective_sample_size": float(weights.sum() ** 2 / (weights**2).sum()),
            "validation_js": history.max(axis=1).tolist(),
            "best_round": (history.argmax(axis=1) + 1).tolist(),
        },
    )


def _ratio(critic: Any, fold: Fold, scaler: Scaler) -> Callable[[np.ndarray], np.ndarray]:
    """One critic as rows [k, d] → log p/q [k], held within what it gives the rows it was trained on.

    Its tails are linear: without limits a single outlier would reach where e^ℓ outweighs or overflows all else.
    """
    seen = _outputs(critic, np.concatenate([fold.train_p, fold.train_q]))
    low, high = seen.min(), seen.max()
    return lambda rows: np.clip(_outputs(critic, scaler(rows)), low, high)


def _fold(x, y, parts_p, parts_q, k: int) -> tuple[Fold, Scaler]:
    valid = (k + 1) % FOLDS
    train_p, train_q = (
        rows[np.concatenate([part for j, part in enumerate(parts) if j not in (k, valid)])]
        for rows, parts in ((x, parts_p), (y, parts_q))
    )
    pooled = np.concatenate([train_p, train_q])
    spread = pooled.std(axis=0)
    scaler = Scaler(pooled.mean(axis=0), np.where(spread > 0.0, spread, 1.0))
    valid_p, valid_q = x[parts_p[valid]], y[parts_q[valid]]
    return Fold(*(scaler(rows) for rows in (train_p, train_q, valid_p, valid_q))), scaler


def _stack(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """One array of the folds' rows; their sizes differ by a row or two, which the longer ones leave out."""
    shortest = min(map(len, arrays))
    return np.stack([a[:shortest] for a in arrays])


@jax.jit
def fit_folds(key: jax.Array, folds: Fold) -> tuple[Any, jax.Array]:
    """(critic parameters of the best round, validation bound of every round [folds, rounds]), folds side by side."""
    js = DIVERGENCES["js"]
    optimizer = optax.adamw(optax.cosine_decay_schedule(2e-3, ROUNDS * ROUND_STEPS, 0.02), weight_decay=1e-2)

    def draw_from(fold):
        def draw(key):
            p, q = jax.random.split(key)
            rows_p = fold.train_p[jax.random.randint(p, (BATCH,), 0, len(fold.train_p))]
            return rows_p, fold.train_q[jax.random.randint(q, (BATCH,), 0, len(fold.train_q))]

        return draw

    def bound(critic, rows_p, rows_q):
        v = NETWORK.apply(critic, jnp.concatenate([rows_p, rows_q]))
        return fenchel(js, v[: len(rows_p)], v[len(rows_p) :])

    def step(_, state, batch):
        critic, moments = state
        gradient = jax.grad(lambda c: -bound(c, *batch))(critic)
        change, moments = optimizer.update(gradient, moments, critic)
        return (optax.apply_updates(critic, change), moments), {}

    def one(key, fold):
        critic = NETWORK.init(key, fold.train_p[:1])

        def round_(carry, i):
            state, best, best_value = carry
            state, _ = steps(step, draw_from(fold), key, state, i * ROUND_STEPS, ROUND_STEPS)
            value = bound(state[0], fold.valid_p, fold.valid_q)
            best = jax.tree.map(partial(jnp.where, value > best_value), state[0], best)
            return (state, best, jnp.maximum(value, best_value)), value

        start = ((critic, optimizer.init(critic)), critic, jnp.zeros(()))  # v = 0 bounds js by 0
        (_, best, _), history = jax.lax.scan(round_, start, jnp.arange(ROUNDS))
        return best, history

    return jax.vmap(one)(jax.random.split(key, FOLDS), folds)


_apply = jax.jit(NETWORK.apply)


def _outputs(critic, rows: np.ndarray) -> np.ndarray:
    return np.asarray(_apply(critic, rows), np.float64)


def _warnings(log_p: np.ndarray, log_q: np.ndarray) -> list[str]:
    said = ["the value is a held-out lower bound: the interval covers that bound, the divergence may lie above it"]
    if log_p.min() > log_q.max():
        said.append("separable: the critic tells every held-out sample of P from every one of Q, so high is unlimited")
    weights = np.exp(log_q - log_q.max())
    size = float(weights.sum() ** 2 / (weights**2).sum())
    if size < max(0.01 * len(log_q), min(20.0, 0.5 * len(log_q))):
        said.append(
            f"the ratio weights on Q have an effective sample size of {size:.0f} of {len(log_q)}: divergences that "
            "grow with p/q (kl, pearson, jeffreys) rest on few samples"
        )
    return said


def _about(row: FDivergence, value: float, error: float, n: int) -> list[str]:
    said = []
    if value < 0.0:
        said.append("negative: the critic's bound is below zero on held-out samples, as chance allows when D is small")
    if math.isinf(row.upper_limit()) and value > math.log(n):
        said.append(f"saturated: above log n = {math.log(n):.2f}, more than {n} samples can certify")
    if not math.isfinite(error):
        said.append("heavy tails: the standard error is not finite")
    return said
