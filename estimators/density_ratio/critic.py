"""Neural log-ratios, trained side by side: what methods that train critics share.

A critic is a parametric reference plus a perceptron that starts at zero,

    ℓ̂(x) = s · reference(x) + w · z(x) + perceptron(z(x), reference(x)),     z: normal scores,

so that what a reference can say costs no training, and the network has only the rest to learn. A critic is the best
combination of two such networks, one held back by strong weight decay and one free, since neither suits all samples;
it, the reference's own weights and the end of training are chosen on validation rows. Rows that train a network go
through references fitted to the other half of the training rows, as held-out rows will.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from estimators.critics.early_stopping import Course, Fold, Objective, Schedule, fit_folds
from estimators.critics.ratio_network import outputs
from estimators.density_ratio.plug_in import lower_bound
from estimators.density_ratio.references import Coordinates, References, stack
from estimators.divergences.table import DIVERGENCES
from estimators.result import Scores

JS = Objective("fenchel", "js")
"""What critics maximise unless told otherwise: the logistic loss, whose gradient is bounded."""
SCHEDULE = Schedule()
CHUNK = 50_000
"""Rows that go through a critic at once."""
WORTH_A_THREAD = 10_000
"""Rows from which threads gain more than they get in each other's way."""

FitReferences = Callable[[np.ndarray, np.ndarray, Coordinates | None], References]


class Features(NamedTuple):
    """Rows [k, d] → inputs [k, 1 + points] of a network: the stacked references, and the points."""

    references: References
    weights: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return _inputs(self.weights, *self.references(rows))


@dataclass(frozen=True, eq=False)
class Critic:
    """rows [k, d] → log p/q [k]: networks combined as suits the validation rows best.

    Held within what the validation rows get, since its tails are linear: a single outlier would reach where e^ℓ
    outweighs or overflows all else.
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


class TrainingHalf(NamedTuple):
    """What is learned from training rows before any critic is: the references, and their values at these rows.

    At each half of the rows they are those of references fitted to the other half, as at held-out rows.
    """

    references: References
    at_p: tuple[np.ndarray, np.ndarray]
    at_q: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, p: np.ndarray, q: np.ndarray, fit_references: FitReferences) -> TrainingHalf:
        references = fit_references(p, q, None)
        coordinates = references.standard, references.scores
        in_p, in_q = ((np.arange(len(rows)) % 2).astype(bool) for rows in (p, q))
        even, odd = (fit_references(p[in_p == h], q[in_q == h], coordinates) for h in (False, True))
        found = []
        for rows, is_odd in ((p, in_p), (q, in_q)):
            (phi, points), (other, _) = odd(rows), even(rows)
            phi[is_odd] = other[is_odd]
            found.append((phi, points))
        return cls(references, *found)

    def inputs(self, fold: Fold) -> tuple[Features, Fold]:
        """The features of a fold that trains on these rows, and the fold's rows as inputs of its networks."""
        validation = self.references(fold.validation_p), self.references(fold.validation_q)
        weights = stack(validation[0][0], validation[1][0])
        rows = (_inputs(weights, *found) for found in (self.at_p, self.at_q, *validation))
        return Features(self.references, weights), Fold(*rows)


def fit_critics(
    folds: Sequence[Fold], seed: int, objective: Objective = JS, fit_references: FitReferences = References.fit
) -> tuple[list[Critic], dict[str, Any]]:
    """A critic for each fold of rows, trained side by side, and the course of training."""
    trained = {id(fold.train_p): fold for fold in folds}
    longest = max(len(fold.train_p) + len(fold.train_q) for fold in folds)
    made = side_by_side(lambda f: TrainingHalf.of(f.train_p, f.train_q, fit_references), trained.values(), longest)
    halves = dict(zip(trained, made, strict=True))
    features, inputs = zip(*side_by_side(lambda f: halves[id(f.train_p)].inputs(f), folds, longest), strict=True)
    stacked = Fold(*(_stacked(arrays) for arrays in zip(*inputs, strict=True)))
    best, course = fit_folds(jax.random.key(seed), stacked, objective, SCHEDULE)
    critics = [
        Critic.of(each, jax.tree.map(lambda w, c=c: w[:, c], best), fold)
        for c, (each, fold) in enumerate(zip(features, inputs, strict=True))
    ]
    d = DIVERGENCES[objective.divergence]
    reached = [
        lower_bound(d, Scores(critic.of_inputs(fold.train_p), critic.of_inputs(fold.train_q)))[0]
        for critic, fold in zip(critics, inputs, strict=True)
    ]
    return critics, {**_history(course), "trained_bound": reached}


def _history(course: Course) -> dict[str, Any]:
    """The bound of each network on training and validation rows, round by round, and the round chosen."""
    rounds, train, validation, start = (np.asarray(c, np.float64) for c in course)
    done = int(rounds)
    train, validation, start = (h.reshape(*h.shape[:-2], -1) for h in (train, validation, start))
    validation = np.concatenate([start[None], validation[:done]])
    train = np.concatenate([np.full((1, validation.shape[1]), np.nan), train[:done]])
    return {
        "history": {
            "steps": [SCHEDULE.round_steps * i for i in range(done + 1)],
            "train": train.tolist(),
            "held_out": validation.tolist(),
        },
        "best_round": validation.argmax(axis=0).tolist(),
    }


def side_by_side(work: Callable[[Any], Any], items: Iterable[Any], rows: int) -> list[Any]:
    """`work` of each item of about `rows` rows, in threads where NumPy has enough to do outside the interpreter."""
    if rows < WORTH_A_THREAD:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        return list(threads.map(work, items))


def _inputs(weights: np.ndarray, phi: np.ndarray, points: np.ndarray) -> np.ndarray:
    reference = weights[0] + phi @ weights[1:]
    return np.concatenate([reference[:, None], points], axis=1).astype(np.float32)


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """One array of the folds' rows; their sizes differ by a row or two, which the longer ones leave out."""
    shortest = min(map(len, arrays))
    return np.stack([a[:shortest] for a in arrays])
