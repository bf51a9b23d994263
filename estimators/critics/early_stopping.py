"""Training of critics for several folds side by side: two networks a critic, each kept at its best on validation rows.

A network of the two is held back by strong weight decay and one is free, since neither suits all samples. What they
maximise is a bound of `divergences.bounds`; a round is a number of steps, and training ends when no network gains.
"""

import math
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.scipy.special import logsumexp

from estimators.critics.kernel import steps
from estimators.critics.networks import MLP
from estimators.critics.sizes import filled, round_up
from estimators.divergences.bounds import BOUNDS
from estimators.divergences.table import DIVERGENCES

RATE = 4e-3  # learning rate of AdamW at the start; it falls to a fiftieth along a cosine
DECAYS = (1e-2, 1.0)  # weight decay of the two networks of each critic, the free one and the one held back
GAIN = 1e-4  # nats of the validation bound that a round must gain to count
RENEWAL = 0.05  # share of the running mean of e^v on Q that each step of Donsker–Varadhan renews

QUICK = {
    "xla_backend_optimization_level": 1,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
"""How training is compiled: in 1.7 s instead of 7 on a CPU, and 5 % slower afterwards."""


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
    """One critic's rows [rows, d], or inputs of its network: those for training and those for validation.

    Only the first `size_p` and `size_q` rows for training count, all if None.
    """

    train_p: Any
    train_q: Any
    validation_p: Any
    validation_q: Any
    size_p: Any = None
    size_q: Any = None


class RatioNetwork(nn.Module):
    """A log-ratio [n]: s · reference plus a linear function and a perceptron, which are zero at the start.

    Inputs [n, 1 + points] hold the reference in their first column.
    """

    @nn.compact
    def __call__(self, inputs):
        reference, points = inputs[:, :1], inputs[:, 1:]
        features = jnp.concatenate([0.5 * jnp.clip(reference, -10.0, 10.0), points], axis=-1)
        hidden = nn.silu(MLP((64,), "silu", 64)(features))
        scale = self.param("scale", nn.initializers.ones, (1,))
        rest = nn.Dense(1, kernel_init=nn.initializers.zeros)(jnp.concatenate([features, hidden], axis=-1))
        return scale[0] * reference[:, 0] + rest[:, 0]


NETWORK = RatioNetwork()
_apply = jax.jit(jax.vmap(NETWORK.apply, in_axes=(0, None), out_axes=1))


def outputs(networks: Any, inputs: np.ndarray) -> np.ndarray:
    """Each network's log-ratios [rows, networks] in float64; `networks` are parameters stacked on a first axis.

    Rows are filled up to a size that few programs serve, at most a quarter more.
    """
    return np.asarray(_apply(networks, filled(inputs, round_up(len(inputs)))), np.float64)[: len(inputs)]


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


@cache
def quick_options() -> dict[str, Any]:
    """`QUICK` on a CPU, or nothing where this version of XLA does not know one of its names."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(jnp.negative, compiler_options=QUICK).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return QUICK


def fit_folds(key: jax.Array, folds: Fold, objective: Objective, schedule: Schedule) -> tuple[Any, Course]:
    """`train_folds`, compiled."""
    return compiled_training()(key, folds, objective, schedule)


@cache
def compiled_training() -> Any:
    """`train_folds` under jit, with `quick_options`."""
    return jax.jit(train_folds, static_argnames=("objective", "schedule"), compiler_options=quick_options())


def train_folds(key: jax.Array, folds: Fold, objective: Objective, schedule: Schedule) -> tuple[Any, Course]:
    """(the parameters of each critic's networks [networks, critics, …] at their best round, the course of training).

    Each array of `folds` is [critics, rows, inputs].
    """
    decays = jnp.asarray(DECAYS)
    keys = jax.random.split(key, (len(DECAYS), len(folds.train_p)))
    begin = partial(_begin, objective, schedule)
    now, first = jax.vmap(jax.vmap(begin, in_axes=(None, 0, 0)), in_axes=(0, 0, None))(decays, keys, folds)
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
    start = Progress(course, jnp.zeros(first.shape, jnp.int32), now, now.network, first)
    end = jax.lax.while_loop(going_on, go_on, start)
    return end.best, end.course


def _begin(objective: Objective, schedule: Schedule, decay, key, fold: Fold) -> tuple[Trained, jax.Array]:
    """(a new network, its validation bound)."""
    network = NETWORK.init(key, fold.train_p[:1])
    start = Trained(network, _optimizer(schedule, decay).init(network), jnp.zeros(()))
    return start, _bound(objective, network, fold.validation_p, fold.validation_q)


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

        def of(key, rows, size):
            return rows[jax.random.randint(key, (schedule.batch,), 0, len(rows) if size is None else size)]

        return of(p, fold.train_p, fold.size_p), of(q, fold.train_q, fold.size_q)

    now, values = steps(step, draw, key, now, i * schedule.round_steps, schedule.round_steps)
    value = _bound(objective, now.network, fold.validation_p, fold.validation_q)
    best = jax.tree.map(partial(jnp.where, value > best_bound), now.network, best)
    return now, best, jnp.fmax(value, best_bound), jnp.mean(values["bound"]), value


def _optimizer(schedule: Schedule, decay) -> optax.GradientTransformation:
    """AdamW on clipped gradients, under which weights decay, but not biases nor the scale of the reference."""
    rate = optax.cosine_decay_schedule(RATE, schedule.rounds * schedule.round_steps, 0.02)
    decaying = partial(jax.tree.map, lambda w: w.ndim > 1)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=decay, mask=decaying))


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
