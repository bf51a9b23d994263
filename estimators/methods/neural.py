"""A cross-fitted neural critic: held-out log-ratios for every row, from which any divergence is read.

The critic is trained with the logistic loss, the bound of the Jensen–Shannon divergence, whose gradient is bounded, or
if asked with another bound. It is a parametric reference plus a perceptron that starts at zero,

    ℓ̂(x) = s · reference(x) + w · z(x) + perceptron(z(x), reference(x)),     z: normal scores,

so that what a reference can say costs no training, and the network has only the rest to learn. A critic is the best
combination of two such networks, one held back by strong weight decay and one free, since neither suits all samples;
it, the reference's own weights and the end of training are chosen on judging rows. Two critics are trained for each
block of rows (see `folds`), ten in all, side by side in one compiled program. Rows that train a network see the
reference fitted to the other half of the training rows, as held-out rows will.

Layer 3: imports bounds, critics, fitting, folds, functionals, references, result.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.scipy.special import logsumexp

from estimators.critics.kernel import steps
from estimators.critics.networks import MLP
from estimators.density_ratio.plug_in import HeldOut, lower_bound, read
from estimators.density_ratio.references import Coordinates, References, stack
from estimators.divergences.bounds import BOUNDS
from estimators.divergences.table import DIVERGENCES, FDivergence
from estimators.result import Estimate, Scores
from estimators.samples.folds import Groups, Rows, blocks, cross_fits

OBJECTIVES = {"neural": ("fenchel", "js"), "nwj": ("fenchel", "kl"), "dv": ("donsker_varadhan", "kl")}
"""What each method's critic maximises: a bound, and the divergence it bounds."""

ROUNDS, ROUND_STEPS, BATCH, PATIENCE = 20, 50, 128, 4
"""Training is looked at after each round on the judging rows; it ends when `PATIENCE` rounds bring no network on."""
GAIN = 1e-4  # nats of the bound that a round must gain to count
RENEWAL = 0.05  # of the running mean of e^v on Q under dv, each step
RATE, DECAYS = 4e-3, (1e-2, 1.0)
MOST = 25_000  # rows a side that train, or judge, one critic
CHUNK = 50_000  # rows that go through a critic at once
WORTH_A_THREAD = 10_000  # rows from which threads gain more than they get in each other's way


FitReferences = Callable[[np.ndarray, np.ndarray, Coordinates | None], References]


class RatioNetwork(nn.Module):
    """s · reference plus a linear function and a perceptron, which are zero at the start."""

    @nn.compact
    def __call__(self, inputs):
        """[n, 1 + points], the reference first → log p/q [n]."""
        reference, points = inputs[:, :1], inputs[:, 1:]
        seen = jnp.concatenate([0.5 * jnp.clip(reference, -10.0, 10.0), points], axis=-1)
        hidden = nn.silu(MLP((64,), "silu", 64)(seen))
        scale = self.param("scale", nn.initializers.ones, (1,))
        rest = nn.Dense(1, kernel_init=nn.initializers.zeros)(jnp.concatenate([seen, hidden], axis=-1))
        return scale[0] * reference[:, 0] + rest[:, 0]


NETWORK = RatioNetwork()


class Fold(NamedTuple):
    """One critic's rows [rows, d], or inputs [rows, 1 + points]: those that train and those that judge it."""

    train_p: np.ndarray
    train_q: np.ndarray
    judge_p: np.ndarray
    judge_q: np.ndarray


def side_by_side(work: Callable[[Any], Any], items: Iterable[Any], rows: int) -> list[Any]:
    """`work` of each item of about `rows` rows, in threads where NumPy has enough to do outside the interpreter."""
    if rows < WORTH_A_THREAD:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        return list(threads.map(work, items))


class Features(NamedTuple):
    """Rows [k, d] → inputs [k, 1 + points] of a critic: the stacked references, and the points."""

    references: References
    weights: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return _inputs(self.weights, *self.references(rows))


@dataclass(frozen=True, eq=False)
class Critic:
    """rows [k, d] → log p/q [k]: networks combined as the judging rows like best.

    Held within what the judging rows get, since its tails are linear: a single outlier would reach where e^ℓ outweighs
    or overflows all else.
    """

    features: Features
    networks: Any
    weights: np.ndarray
    lowest: float
    highest: float

    @classmethod
    def judged(cls, features: Features, networks: Any, fold: Fold) -> Critic:
        phi_p, phi_q = (_outputs(networks, inputs) for inputs in (fold.judge_p, fold.judge_q))
        weights = stack(phi_p, phi_q)
        found = weights[0] + np.concatenate([phi_p, phi_q]) @ weights[1:]
        return cls(features, networks, weights, found.min(), found.max())

    def __call__(self, rows: np.ndarray, pad: int = 0) -> np.ndarray:
        """`pad` rows are computed if that is more, so that blocks share one program."""
        most, found = min(max(pad, len(rows)), CHUNK), []
        for start in range(0, len(rows), CHUNK):
            inputs = self.features(rows[start : start + CHUNK])
            padding = np.zeros((most - len(inputs), inputs.shape[1]), np.float32)
            found.append(self.of_inputs(np.concatenate([inputs, padding]))[: len(inputs)])
        return np.concatenate(found) if found else np.empty(0)

    def of_inputs(self, inputs: np.ndarray) -> np.ndarray:
        """[k] of what `features` makes of rows, [k, 1 + points]."""
        found = self.weights[0] + _outputs(self.networks, inputs) @ self.weights[1:]
        return np.clip(found, self.lowest, self.highest)


def estimate(
    x: np.ndarray,
    y: np.ndarray,
    divergences: Sequence[FDivergence],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    groups: Groups | None = None,
    objective: str = "neural",
) -> list[Estimate]:
    """D_f(P‖Q) for each of `divergences`, from one set of cross-fitted critics.

    Args:
        x, y: samples of P [n, d] and Q [m, d], float64, finite.
        divergences: rows of the table, or the user's own.
        seed: of the folds, the initial weights and the batches.
        confidence: level of the interval.
        groups: labels of rows that stay in one block.
        objective: a name in `OBJECTIVES`.

    Raises:
        DataError: fewer than ten rows a side, or groups that do not spread.
    """
    held_out, ratio, diagnostics = cross_fit(x, y, blocks(len(x), len(y), seed, groups), seed, objective)
    return read(
        held_out,
        divergences,
        method=objective,
        dim=x.shape[1],
        confidence=confidence,
        groups=groups,
        ratio=ratio,
        diagnostics=diagnostics,
    )


def cross_fit(
    x: np.ndarray,
    y: np.ndarray,
    cut: list[Rows],
    seed: int,
    objective: str = "neural",
    fit_references: FitReferences = References.fit,
) -> tuple[HeldOut, Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
    """Log-ratios of every row from two critics that never saw it, the mean critic, and figures of the fit."""
    rng = np.random.default_rng(seed)
    parts = [part for pair in cross_fits(cut) for part in pair]
    halves = {id(part.train): (x[_some(part.train.p, rng)], y[_some(part.train.q, rng)]) for part in parts[::2]}
    folds = [Fold(*halves[id(part.train)], *halves[id(part.validation)]) for part in parts]
    critics, history = fit_critics(folds, seed, objective, fit_references)
    longest = max(max(len(b.p), len(b.q)) for b in cut)
    log_p, log_q = np.empty((2, len(x))), np.empty((2, len(y)))

    def score(c: int) -> None:
        held_out = parts[c].held_out
        log_p[c % 2, held_out.p] = critics[c](x[held_out.p], pad=longest)
        log_q[c % 2, held_out.q] = critics[c](y[held_out.q], pad=longest)

    side_by_side(score, range(len(parts)), longest)
    held_out = HeldOut(log_p, log_q)
    reached = [lower_bound(DIVERGENCES[OBJECTIVES[objective][1]], scores)[0] for scores in held_out.each()]
    history["train_minus_held_out"] = float(np.mean(history["trained_bound"]) - np.mean(reached))
    return held_out, lambda rows: np.mean([f(rows) for f in critics], axis=0), history


def fit_critics(
    folds: Sequence[Fold], seed: int, objective: str = "neural", fit_references: FitReferences = References.fit
) -> tuple[list[Critic], dict[str, Any]]:
    """A critic for each fold, rows [k, d] → log p/q [k], trained side by side, and the course of training."""
    trained = {id(fold.train_p): fold for fold in folds}
    longest = max(len(fold.train_p) + len(fold.train_q) for fold in folds)
    made = side_by_side(lambda f: Half.of(f.train_p, f.train_q, fit_references), trained.values(), longest)
    halves = dict(zip(trained, made, strict=True))
    seen, inputs = zip(*side_by_side(lambda f: halves[id(f.train_p)].prepare(f), folds, longest), strict=True)
    stacked = Fold(*(_stack(arrays) for arrays in zip(*inputs, strict=True)))
    best, history = fit_folds(jax.random.key(seed), stacked, objective)
    critics = [
        Critic.judged(features, jax.tree.map(lambda w, c=c: w[:, c], best), fold)
        for c, (features, fold) in enumerate(zip(seen, inputs, strict=True))
    ]
    row = DIVERGENCES[OBJECTIVES[objective][1]]
    reached = [
        lower_bound(row, Scores(critic.of_inputs(fold.train_p), critic.of_inputs(fold.train_q)))[0]
        for critic, fold in zip(critics, inputs, strict=True)
    ]
    return critics, {**_course(history), "trained_bound": reached}


def _course(history: tuple[jax.Array, ...]) -> dict[str, Any]:
    """The bound of each network on training and judging rows, round by round, and the round chosen."""
    rounds, train, judged, start = (np.asarray(h, np.float64) for h in history)
    done = int(rounds)
    train, judged, start = (h.reshape(*h.shape[:-2], -1) for h in (train, judged, start))
    judged = np.concatenate([start[None], judged[:done]])
    chosen = judged.argmax(axis=0)
    trained = np.concatenate([np.full((1, judged.shape[1]), np.nan), train[:done]])
    return {
        "history": {
            "steps": [ROUND_STEPS * i for i in range(done + 1)],
            "train": trained.tolist(),
            "held_out": judged.tolist(),
        },
        "best_round": chosen.tolist(),
    }


class Half(NamedTuple):
    """What is learned from training rows before any critic is: the references, and how the rows look through them.

    That is as held-out rows will look: each half of the rows seen through references fitted to the other half.
    """

    references: References
    seen_p: tuple[np.ndarray, np.ndarray]
    seen_q: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, p: np.ndarray, q: np.ndarray, fit_references: FitReferences) -> Half:
        references = fit_references(p, q, None)
        coordinates = references.standard, references.scores
        in_p, in_q = ((np.arange(len(rows)) % 2).astype(bool) for rows in (p, q))
        even, odd = (fit_references(p[in_p == h], q[in_q == h], coordinates) for h in (False, True))
        seen = []
        for rows, half in ((p, in_p), (q, in_q)):
            (phi, points), (other, _) = odd(rows), even(rows)
            phi[half] = other[half]
            seen.append((phi, points))
        return cls(references, *seen)

    def prepare(self, fold: Fold) -> tuple[Features, Fold]:
        """The features of a fold that trains on these rows, and its rows seen through them."""
        judge = self.references(fold.judge_p), self.references(fold.judge_q)
        weights = stack(judge[0][0], judge[1][0])
        rows = (_inputs(weights, *found) for found in (self.seen_p, self.seen_q, *judge))
        return Features(self.references, weights), Fold(*rows)


def _some(index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return index if len(index) <= MOST else rng.choice(index, MOST, replace=False)


def _inputs(weights: np.ndarray, phi: np.ndarray, points: np.ndarray) -> np.ndarray:
    reference = weights[0] + phi @ weights[1:]
    return np.concatenate([reference[:, None], points], axis=1).astype(np.float32)


def _stack(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """One array of the folds' rows; their sizes differ by a row or two, which the longer ones leave out."""
    shortest = min(map(len, arrays))
    return np.stack([a[:shortest] for a in arrays])


@partial(jax.jit, static_argnames="objective")
def fit_folds(key: jax.Array, folds: Fold, objective: str):
    """(parameters of each critic's best round, (rounds, training bound, judged bound, bound at the start))."""
    name, divergence = OBJECTIVES[objective]
    row, bound_of = DIVERGENCES[divergence], BOUNDS[name]
    critics = len(folds.train_p)

    def optimizer(decay):
        rate = optax.cosine_decay_schedule(RATE, ROUNDS * ROUND_STEPS, 0.02)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=decay, mask=_kernels))

    def bound(critic, rows_p, rows_q):
        v = jnp.asarray(NETWORK.apply(critic, jnp.concatenate([rows_p, rows_q])))
        return bound_of(row, v[: len(rows_p)], v[len(rows_p) :])

    def ascent(critic, log_mean, rows_p, rows_q):
        """(what to climb, the running log E_Q[e^v]): the bound; for Donsker–Varadhan, whose gradient a batch biases,
        the bound with its normaliser averaged over batches (Belghazi et al. 2018, eq. 12)."""
        if name != "donsker_varadhan":
            return bound(critic, rows_p, rows_q), log_mean
        v = jnp.asarray(NETWORK.apply(critic, jnp.concatenate([rows_p, rows_q])))
        now = logsumexp(v[len(rows_p) :]) - math.log(len(rows_q))
        log_mean = jax.lax.stop_gradient(jnp.logaddexp(log_mean + math.log1p(-RENEWAL), now + math.log(RENEWAL)))
        return jnp.mean(v[: len(rows_p)]) - jnp.exp(now - log_mean), log_mean

    def begin(decay, key, fold):
        critic = NETWORK.init(key, fold.train_p[:1])
        start = critic, optimizer(decay).init(critic), jnp.zeros(())
        return start, critic, bound(critic, fold.judge_p, fold.judge_q)

    def round_(i, decay, key, fold, state, best, best_value):
        def step(_, state, batch):
            critic, moments, log_mean = state
            (value, log_mean), gradient = jax.value_and_grad(ascent, has_aux=True)(critic, log_mean, *batch)
            change, moments = optimizer(decay).update(jax.tree.map(jnp.negative, gradient), moments, critic)
            return (optax.apply_updates(critic, change), moments, log_mean), {"bound": value}

        def draw(key):
            p, q = jax.random.split(key)
            rows_p = fold.train_p[jax.random.randint(p, (BATCH,), 0, len(fold.train_p))]
            return rows_p, fold.train_q[jax.random.randint(q, (BATCH,), 0, len(fold.train_q))]

        state, values = steps(step, draw, key, state, i * ROUND_STEPS, ROUND_STEPS)
        value = bound(state[0], fold.judge_p, fold.judge_q)
        best = jax.tree.map(partial(jnp.where, value > best_value), state[0], best)
        return state, best, jnp.fmax(value, best_value), jnp.mean(values["bound"]), value

    def everywhere(function):
        """Over networks, which share their rows, and over critics; all draw the same places of their own rows."""
        return jax.vmap(jax.vmap(function, in_axes=(None, None, 0, 0, 0, 0)), in_axes=(0, None, None, 0, 0, 0))

    decays = jnp.asarray(DECAYS)
    keys = jax.random.split(key, (len(DECAYS), critics))
    state, best, first = jax.vmap(jax.vmap(begin, in_axes=(None, 0, 0)), in_axes=(0, 0, None))(decays, keys, folds)
    nothing = jnp.full((ROUNDS, *first.shape), jnp.nan)

    def going_on(carry):
        i, since, *_ = carry
        return (i < ROUNDS) & jnp.any(since < PATIENCE)

    def go_on(carry):
        i, since, state, best, best_value, train, judged = carry
        state, best, value, trained, found = everywhere(partial(round_, i))(decays, key, folds, state, best, best_value)
        since = jnp.where(value > best_value + GAIN, 0, since + 1)
        return i + 1, since, state, best, value, train.at[i].set(trained), judged.at[i].set(found)

    start = (0, jnp.zeros(first.shape, jnp.int32), state, best, first, nothing, nothing)
    rounds, _, _, best, _, train, judged = jax.lax.while_loop(going_on, go_on, start)
    return best, (rounds, train, judged, first)


def _kernels(critic):
    """What decays: the weights, not the biases nor the scale of the reference."""
    return jax.tree.map(lambda w: w.ndim > 1, critic)


_apply = jax.jit(jax.vmap(NETWORK.apply, in_axes=(0, None), out_axes=1))


def _outputs(networks: Any, inputs: np.ndarray) -> np.ndarray:
    """Each network's log-ratios [rows, networks]."""
    return np.asarray(_apply(networks, inputs), np.float64)
