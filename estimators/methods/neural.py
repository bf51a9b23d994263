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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from estimators.contract import Fit, LogRatio, Request, Scores
from estimators.critics.early_stopping import Course, Fold, Objective, Schedule, fit_folds, outputs
from estimators.critics.sizes import filled, round_down, thinned
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
from estimators.divergences.table import DIVERGENCES
from estimators.samples.arrays import Groups

METHODS = {
    "neural": "critics trained with the logistic loss, the bound of the Jensen–Shannon divergence",
    "nwj": "critics trained with the bound of Nguyen, Wainwright & Jordan on kl",
    "dv": "critics trained with the bound of Donsker & Varadhan on kl, its gradient corrected as in MINE",
}
MOST = 25_000  # rows a side that train, or validate, one critic
CHUNK = 50_000  # rows that go through a critic at once
FOLLOWED = 2  # blocks whose critics are trained on half of their rows as well: all five would cost twice as much
FEWEST = 100  # rows a side that train a critic on half of the rows: with fewer, chance hides what is learned

FitReferences = Callable[[np.ndarray, np.ndarray, Coordinates | None], References | MixedReferences]


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
    fitted = [own_and_others(critic.features.reference, fold) for critic, fold in some]
    held_out = held_out._replace(fitted=fitted, units=min(units(part.train, request.groups) for part in parts))
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


def units(rows: Rows, groups: Groups | None) -> int:
    """How many of the rows of the smaller set are independent of each other: rows, or groups of them."""
    if groups is None:
        return min(map(len, rows))
    sides = (labels[side].reshape(len(side), -1)[:, 0] for side, labels in zip(rows, groups, strict=True))
    return min(len(np.unique(labels)) for labels in sides)


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


def _history(course: Course) -> dict[str, Any]:
    """The bound of each network on training and validation rows, round by round, and the round chosen."""
    rounds = 1 + int(course.rounds)
    train, held_out = (
        np.asarray(h, np.float64)[:rounds].reshape(rounds, -1) for h in (course.train, course.validation)
    )
    steps = [SCHEDULE.round_steps * i for i in range(rounds)]
    history = {"steps": steps, "train": train.tolist(), "held_out": held_out.tolist()}
    return {"history": history, "best_round": held_out.argmax(axis=0).tolist()}
