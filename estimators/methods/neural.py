"""Cross-fitted neural critics: held-out log-ratios for every row, plugged into any divergence.

A critic is a parametric reference plus a perceptron that starts at zero,

    ℓ̂(x) = s · reference(x) + w · z(x) + perceptron(z(x), reference(x)),     z: normal scores,

so that what a reference can say costs no training, and the network has only the rest to learn. A critic is the best
combination of two such networks, one held back by strong weight decay and one free, since neither suits all samples;
it, the reference's own weights and the end of training are chosen on validation rows. Rows that train a network go
through references fitted to the other half of the training rows, as held-out rows will.

Two critics are trained for each block of rows (see `density_ratio.folds`), ten in all, side by side in one program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.scipy.special import logsumexp

from estimators.contract import Fit, LogRatio, Request, Scores
from estimators.critics.kernel import steps
from estimators.critics.networks import MLP
from estimators.density_ratio.folds import (
    HeldOut,
    Learning,
    Rows,
    blocks,
    cross_fits,
    side_by_side,
    subsample,
    union,
)
from estimators.density_ratio.mixed import MixedReferences, of_categories
from estimators.density_ratio.plug_in import lower_bound, plug_in
from estimators.density_ratio.references import Coordinates, References, stack
from estimators.density_ratio.sizes import filled, round_down, round_up, thinned
from estimators.divergences.bounds import BOUNDS
from estimators.divergences.table import DIVERGENCES
from estimators.samples.arrays import Groups

METHODS = {
    "neural": "critics trained with the logistic loss, the bound of the Jensen–Shannon divergence",
    "nwj": "critics trained with the bound of Nguyen, Wainwright & Jordan on kl",
    "dv": "critics trained with the bound of Donsker & Varadhan on kl, its gradient corrected as in MINE",
}
MOST = 25_000  # rows a side that train, or validate, one critic
CHUNK = 50_000  # rows that go through a critic at once
RATE = 4e-3  # learning rate of AdamW at the start; it falls to a fiftieth along a cosine
DECAYS = (1e-2, 1.0)  # weight decay of the two networks of each critic, the free one and the one held back
GAIN = 1e-4  # nats of the validation bound that a round must gain to count
FOLLOWED = 2  # blocks whose critics are trained on half of their rows as well: all five would cost twice as much
FEWEST = 100  # rows a side that train a critic on half of the rows: with fewer, chance hides what is learned
RENEWAL = 0.05  # share of the running mean of e^v on Q that each step of Donsker–Varadhan renews

QUICK = {
    "xla_backend_optimization_level": 1,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
"""How training is compiled: in 1.7 s instead of 7 on a CPU, and 5 % slower afterwards."""

FitReferences = Callable[[np.ndarray, np.ndarray, Coordinates | None], References | MixedReferences]


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


JS = Objective("fenchel", "js")
"""What critics maximise unless told otherwise: the logistic loss, whose gradient is bounded."""
OBJECTIVES = {"neural": JS, "nwj": Objective("fenchel", "kl"), "dv": Objective("donsker_varadhan", "kl")}
SCHEDULE = Schedule()


def estimate(request: Request) -> Fit:
    """D_f(P‖Q) for each divergence of `request`, from one set of cross-fitted critics.

    Raises DataError: fewer than ten rows a side, or groups that do not spread.
    """
    cut = blocks(len(request.x), len(request.y), request.seed, request.groups)
    return plug_in(request, cross_fit(request, cut, OBJECTIVES[request.method]))


def cross_fit(
    request: Request, cut: list[Rows], objective: Objective = JS, fit_references: FitReferences | None = None
) -> HeldOut:
    """Log-ratios of every row from the two critics of its block in `cut`, which never saw it."""
    x, y = request.x, request.y
    fit_references = fit_references or references(x, y, request.categories)
    rng = np.random.default_rng(request.seed)
    parts = cross_fits(cut)
    chosen = {
        id(part.train): Rows(subsample(part.train.p, MOST, rng), subsample(part.train.q, MOST, rng))
        for part in parts[::2]
    }
    rows = {key: (x[part.p], y[part.q]) for key, part in chosen.items()}
    folds = [Fold(*rows[id(part.train)], *rows[id(part.validation)]) for part in parts]
    half = {key: halved(part, request.groups) for key, part in chosen.items()}
    halves = [
        Fold(x[half[id(part.train)].p], y[half[id(part.train)].q], *rows[id(part.validation)])
        for part in parts[: 2 * FOLLOWED]
    ]
    halves = halves if min(min(len(fold.train_p), len(fold.train_q)) for fold in halves) >= FEWEST else []
    critics, diagnostics = fit_critics([*folds, *halves], request.seed, objective, fit_references, len(folds))
    pad = max(max(map(len, block)) for block in cut)
    held_out = HeldOut.of(request, parts, critics[: len(folds)], pad=pad)
    if halves:
        there = union(*cut[:FOLLOWED])
        before = HeldOut.of(request, parts[: len(halves)], critics[len(folds) :], pad=pad).at(there)
        by_references = [critic.features.reference for critic in critics[: len(halves)]]
        alone = HeldOut.of(request, parts[: len(halves)], by_references).at(there)
        held_out = held_out._replace(learning=Learning(there, before, held_out.at(there), alone))
    some = zip(critics, folds[: 2 * FOLLOWED], strict=False)
    held_out = held_out._replace(fitted=[own_and_others(critic.features.reference, fold) for critic, fold in some])
    bounds = [lower_bound(DIVERGENCES[objective.divergence], scores)[0] for scores in held_out.each()]
    gap = float(np.mean(diagnostics["trained_bound"]) - np.mean(bounds))
    return held_out._replace(diagnostics={**diagnostics, "train_minus_held_out": gap})


def halved(rows: Rows, groups: Groups | None) -> Rows:
    """Half of the rows: every second one, or those of every second group."""
    if groups is None:
        return Rows(rows.p[::2], rows.q[::2])
    first = [labels.reshape(len(labels), -1)[:, 0] for labels in groups]
    second = np.unique(np.concatenate(first))[1::2]
    return Rows(*(side[~np.isin(labels[side], second)] for side, labels in zip(rows, first, strict=True)))


def own_and_others(reference: LogRatio, fold: Fold) -> tuple[Scores, Scores]:
    """A reference on the rows that it was fitted to, and on those that chose no more than its weights."""
    train_p, train_q, *others = map(reference, fold[:4])
    return Scores(train_p, train_q), Scores(*others)


def references(x: np.ndarray, y: np.ndarray, categories: tuple[int, ...] = ()) -> FitReferences:
    """How to fit references to rows of these sets, whose columns `categories` hold codes."""
    return of_categories(np.concatenate([x, y]), categories) if categories else References.fit


def fit_critics(
    folds: Sequence[Fold],
    seed: int,
    objective: Objective = JS,
    fit_references: FitReferences = References.fit,
    shown: int | None = None,
) -> tuple[list[Critic], dict[str, Any]]:
    """A critic for each fold of rows, trained side by side, and the course of training of the first `shown`, or all."""
    trained = {id(fold.train_p): fold for fold in folds}
    longest = max(len(fold.train_p) + len(fold.train_q) for fold in folds)
    made = side_by_side(lambda f: TrainingHalf.of(f.train_p, f.train_q, fit_references), trained.values(), longest)
    halves = dict(zip(trained, made, strict=True))
    features, inputs = zip(*side_by_side(lambda f: halves[id(f.train_p)].inputs(f), folds, longest), strict=True)
    best, course = jax.device_get(fit_folds(jax.random.key(seed), stacked(inputs), objective, SCHEDULE))
    critics = [
        Critic.of(each, jax.tree.map(lambda w, c=c: w[:, c], best), fold)
        for c, (each, fold) in enumerate(zip(features, inputs, strict=True))
    ]
    course = Course(course.rounds, course.train[..., :shown], course.validation[..., :shown])
    trained_scores = (Scores(*map(c.of_inputs, fold[:2])) for c, fold in zip(critics[:shown], inputs, strict=False))
    bounds = [lower_bound(DIVERGENCES[objective.divergence], scores)[0] for scores in trained_scores]
    return critics, {**_history(course), "trained_bound": bounds}


def stacked(folds: Sequence[Fold]) -> Fold:
    """The inputs of all folds as one: [critics, rows, inputs], in few sizes.

    Rows of zeros, of which none is drawn, fill up what trains to a power of two. Of the validation rows up to a fifth
    are left out, evenly.
    """
    train = [[fold[side] for fold in folds] for side in (0, 1)]
    validation = [[fold[side] for fold in folds] for side in (2, 3)]
    longer = [np.stack([filled(a, 1 << (max(map(len, side)) - 1).bit_length()) for a in side]) for side in train]
    fewer = [np.stack([thinned(a, round_down(min(map(len, side)))) for a in side]) for side in validation]
    return Fold(*longer, *fewer, *(np.array(list(map(len, side)), np.int32) for side in train))


class TrainingHalf(NamedTuple):
    """What is learned from training rows before any critic is: the references, and their values at these rows.

    At each half of the rows they are those of references fitted to the other half, as at held-out rows.
    """

    references: References | MixedReferences
    at_p: tuple[np.ndarray, np.ndarray]
    at_q: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, p: np.ndarray, q: np.ndarray, fit_references: FitReferences) -> TrainingHalf:
        references = fit_references(p, q, None)
        coordinates = references.standard, references.scores
        in_p, in_q = ((np.arange(len(rows)) % 2).astype(bool) for rows in (p, q))
        even, odd = (fit_references(p[in_p == h], q[in_q == h], coordinates) for h in (False, True))

        def at(rows: np.ndarray, is_odd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            (phi, points), (other, _) = odd(rows), even(rows)
            return np.where(is_odd[:, None], other, phi), points

        return cls(references, at(p, in_p), at(q, in_q))

    def inputs(self, fold: Fold) -> tuple[Features, Fold]:
        """The features of a fold that trains on these rows, and the fold's rows as inputs of its networks."""
        validation = self.references(fold.validation_p), self.references(fold.validation_q)
        features = Features(self.references, stack(validation[0][0], validation[1][0]))
        return features, Fold(*(features.of_references(*found) for found in (self.at_p, self.at_q, *validation)))


class Features(NamedTuple):
    """Rows [k, d] → inputs [k, 1 + points] of a network: the stacked references, and the points."""

    references: References | MixedReferences
    weights: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.of_references(*self.references(rows))

    def reference(self, rows: np.ndarray) -> np.ndarray:
        """The stacked references alone [k]."""
        return self.weights[0] + self.references(rows)[0] @ self.weights[1:]

    def of_references(self, phi: np.ndarray, points: np.ndarray) -> np.ndarray:
        reference = self.weights[0] + phi @ self.weights[1:]
        return np.concatenate([reference[:, None], points], axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Critic:
    """rows [k, d] → log p/q [k]: networks combined as suits the validation rows best.

    Clipped to [lowest, highest], what validation rows get, since its tails are linear: e^ℓ of a single outlier would
    outweigh all else.
    """

    features: Features
    networks: Any
    weights: np.ndarray
    lowest: float
    highest: float

    @classmethod
    def of(cls, features: Features, networks: Any, fold: Fold) -> Critic:
        phi_p, phi_q = (outputs(networks, inputs) for inputs in (fold.validation_p, fold.validation_q))
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
        found = self.weights[0] + outputs(self.networks, inputs) @ self.weights[1:]
        return np.clip(found, self.lowest, self.highest)


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
    """`QUICK`, or nothing where this version of XLA does not know one of its names."""
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


def _history(course: Course) -> dict[str, Any]:
    """The bound of each network on training and validation rows, round by round, and the round chosen."""
    rounds = 1 + int(course.rounds)
    train, held_out = (
        np.asarray(h, np.float64)[:rounds].reshape(rounds, -1) for h in (course.train, course.validation)
    )
    steps = [SCHEDULE.round_steps * i for i in range(rounds)]
    history = {"steps": steps, "train": train.tolist(), "held_out": held_out.tolist()}
    return {"history": history, "best_round": held_out.argmax(axis=0).tolist()}
