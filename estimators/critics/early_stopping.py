"""Critics trained side by side in one program, each kept as it was when its validation bound was highest."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.special import logsumexp

from estimators.critics.kernel import steps
from estimators.critics.networks import NETWORK
from estimators.divergences.bounds import BOUNDS
from estimators.divergences.table import DIVERGENCES

RATE = 4e-3  # learning rate of AdamW at the start; it falls to a fiftieth along a cosine
DECAYS = (1e-2, 1.0)
"""Weight decay of the two networks of each critic: one free, one held back, since neither suits all samples."""
GAIN = 1e-4  # nats of the validation bound that a round must gain to count
RENEWAL = 0.05  # share of the running mean of e^v on Q that each step of Donsker–Varadhan renews


class Objective(NamedTuple):
    """What a critic maximises: a name in `BOUNDS`, and the divergence it bounds."""

    bound: str
    divergence: str


class Schedule(NamedTuple):
    """How long critics train: rounds of `round_steps` steps, until in `patience` rounds no network gains."""

    rounds: int = 20
    round_steps: int = 50
    batch: int = 128
    patience: int = 4


class Fold(NamedTuple):
    """One critic's rows [rows, d], or inputs of its network: those for training and those for validation."""

    train_p: Any
    train_q: Any
    validation_p: Any
    validation_q: Any


class Trained(NamedTuple):
    """A network in training: its parameters, the optimiser's state, the running log E_Q[e^v]."""

    network: Any
    optimizer: Any
    log_mean: jax.Array


class Course(NamedTuple):
    """Rounds done, and the bounds at the start and after each round [1 + rounds, networks of a critic, critics].

    NaN stands for rounds to come, and for the training bound at the start.
    """

    rounds: jax.Array | int
    train: jax.Array
    validation: jax.Array


class Progress(NamedTuple):
    """Where training is; all axes but those of `course` begin with [networks of a critic, critics].

    `since` counts rounds since the validation bound last gained; `best` are the parameters with the highest so far.
    """

    course: Course
    since: jax.Array
    now: Trained
    best: Any
    best_bound: jax.Array


@partial(jax.jit, static_argnames=("objective", "schedule"))
def fit_folds(key: jax.Array, folds: Fold, objective: Objective, schedule: Schedule) -> tuple[Any, Course]:
    """(the parameters of each critic's networks [networks, critics, …] at their best round, the course of training).

    Each array of `folds` is [critics, rows, inputs].
    """
    decays = jnp.asarray(DECAYS)
    keys = jax.random.split(key, (len(DECAYS), len(folds.train_p)))
    begin = partial(_begin, objective, schedule)
    now, best, first = jax.vmap(jax.vmap(begin, in_axes=(None, 0, 0)), in_axes=(0, 0, None))(decays, keys, folds)
    nothing = jnp.full((1 + schedule.rounds, *first.shape), jnp.nan)

    def going_on(p: Progress):
        return (p.course.rounds < schedule.rounds) & jnp.any(p.since < schedule.patience)

    def go_on(p: Progress) -> Progress:
        # networks of a critic share its rows; critics share the key, so they draw the same numbers of their own rows
        i, train, validation = p.course
        a_round = partial(_round, objective, schedule, i)
        of_critics = jax.vmap(a_round, in_axes=(None, None, 0, 0, 0, 0))
        of_networks = jax.vmap(of_critics, in_axes=(0, None, None, 0, 0, 0))
        now, best, value, *bounds = of_networks(decays, key, folds, p.now, p.best, p.best_bound)
        since = jnp.where(value > p.best_bound + GAIN, 0, p.since + 1)
        course = Course(i + 1, train.at[i + 1].set(bounds[0]), validation.at[i + 1].set(bounds[1]))
        return Progress(course, since, now, best, value)

    course = Course(0, nothing, nothing.at[0].set(first))
    start = Progress(course, jnp.zeros(first.shape, jnp.int32), now, best, first)
    end = jax.lax.while_loop(going_on, go_on, start)
    return end.best, end.course


def _begin(objective: Objective, schedule: Schedule, decay, key, fold: Fold) -> tuple[Trained, Any, jax.Array]:
    """(a new network, its parameters as the best so far, their validation bound)."""
    network = NETWORK.init(key, fold.train_p[:1])
    start = Trained(network, _optimizer(schedule, decay).init(network), jnp.zeros(()))
    return start, network, _bound(objective, network, fold.validation_p, fold.validation_q)


def _round(objective: Objective, schedule: Schedule, i, decay, key, fold: Fold, now: Trained, best, best_bound):
    """(network, best parameters, their validation bound, mean training bound, validation bound) after round i."""

    def step(_, now: Trained, batch):
        ascent = jax.value_and_grad(partial(_ascent, objective), has_aux=True)
        (value, log_mean), gradient = ascent(now.network, now.log_mean, *batch)
        descent = jax.tree.map(jnp.negative, gradient)
        change, optimizer = _optimizer(schedule, decay).update(descent, now.optimizer, now.network)
        return Trained(optax.apply_updates(now.network, change), optimizer, log_mean), {"bound": value}

    def draw(key):
        p, q = jax.random.split(key)
        rows_p = fold.train_p[jax.random.randint(p, (schedule.batch,), 0, len(fold.train_p))]
        return rows_p, fold.train_q[jax.random.randint(q, (schedule.batch,), 0, len(fold.train_q))]

    now, values = steps(step, draw, key, now, i * schedule.round_steps, schedule.round_steps)
    value = _bound(objective, now.network, fold.validation_p, fold.validation_q)
    best = jax.tree.map(partial(jnp.where, value > best_bound), now.network, best)
    return now, best, jnp.fmax(value, best_bound), jnp.mean(values["bound"]), value


def _optimizer(schedule: Schedule, decay) -> optax.GradientTransformation:
    rate = optax.cosine_decay_schedule(RATE, schedule.rounds * schedule.round_steps, 0.02)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=decay, mask=_kernels))


def _kernels(network):
    """What decays: the weights, not the biases nor the scale of the reference."""
    return jax.tree.map(lambda w: w.ndim > 1, network)


def _outputs(network, rows_p, rows_q) -> tuple[jax.Array, jax.Array]:
    v = jnp.asarray(NETWORK.apply(network, jnp.concatenate([rows_p, rows_q])))
    return v[: len(rows_p)], v[len(rows_p) :]


def _bound(objective: Objective, network, rows_p, rows_q) -> jax.Array:
    return BOUNDS[objective.bound](DIVERGENCES[objective.divergence], *_outputs(network, rows_p, rows_q))


def _ascent(objective: Objective, network, log_mean, rows_p, rows_q) -> tuple[jax.Array, jax.Array]:
    """(what to climb, the running log E_Q[e^v]): the bound; for Donsker–Varadhan, whose gradient a batch biases, the
    bound with its normaliser averaged over batches (Belghazi et al. 2018, eq. 12)."""
    if objective.bound != "donsker_varadhan":
        return _bound(objective, network, rows_p, rows_q), log_mean
    v_p, v_q = _outputs(network, rows_p, rows_q)
    now = logsumexp(v_q) - math.log(len(rows_q))
    log_mean = jax.lax.stop_gradient(jnp.logaddexp(log_mean + math.log1p(-RENEWAL), now + math.log(RENEWAL)))
    return jnp.mean(v_p) - jnp.exp(now - log_mean), log_mean
