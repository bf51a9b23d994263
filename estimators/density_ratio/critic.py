"""Neural log-ratios, trained side by side: what methods that train critics share.

A critic is a parametric reference plus a perceptron that starts at zero,

    ℓ̂(x) = s · reference(x) + w · z(x) + perceptron(z(x), reference(x)),     z: normal scores,

so that what a reference can say costs no training, and the network has only the rest to learn. A critic is the best
combination of two such networks, one held back by strong weight decay and one free, since neither suits all samples;
it, the reference's own weights and the end of training are chosen on validation rows. Rows that train a network go
through references fitted to the other half of the training rows, as held-out rows will.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from estimators.contract import Scores
from estimators.critics.early_stopping import Course, Fold, Objective, Schedule, fit_folds
from estimators.critics.networks import outputs
from estimators.density_ratio.plug_in import lower_bound
from estimators.density_ratio.references import Coordinates, References, stack
from estimators.divergences.table import DIVERGENCES
from estimators.samples.folds import side_by_side

JS = Objective("fenchel", "js")
"""What critics maximise unless told otherwise: the logistic loss, whose gradient is bounded."""
SCHEDULE = Schedule()
CHUNK = 50_000  # rows that go through a critic at once

FitReferences = Callable[[np.ndarray, np.ndarray, Coordinates | None], References]


class Features(NamedTuple):
    """Rows [k, d] → inputs [k, 1 + points] of a network: the stacked references, and the points."""

    references: References
    weights: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.of_references(*self.references(rows))

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

        def at(rows: np.ndarray, is_odd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            (phi, points), (other, _) = odd(rows), even(rows)
            return np.where(is_odd[:, None], other, phi), points

        return cls(references, at(p, in_p), at(q, in_q))

    def inputs(self, fold: Fold) -> tuple[Features, Fold]:
        """The features of a fold that trains on these rows, and the fold's rows as inputs of its networks."""
        validation = self.references(fold.validation_p), self.references(fold.validation_q)
        features = Features(self.references, stack(validation[0][0], validation[1][0]))
        return features, Fold(*(features.of_references(*found) for found in (self.at_p, self.at_q, *validation)))


def fit_critics(
    folds: Sequence[Fold], seed: int, objective: Objective = JS, fit_references: FitReferences = References.fit
) -> tuple[list[Critic], dict[str, Any]]:
    """A critic for each fold of rows, trained side by side, and the course of training."""
    trained = {id(fold.train_p): fold for fold in folds}
    longest = max(len(fold.train_p) + len(fold.train_q) for fold in folds)
    made = side_by_side(lambda f: TrainingHalf.of(f.train_p, f.train_q, fit_references), trained.values(), longest)
    halves = dict(zip(trained, made, strict=True))
    features, inputs = zip(*side_by_side(lambda f: halves[id(f.train_p)].inputs(f), folds, longest), strict=True)
    # the folds' sizes differ by a row or two, which the longer ones leave out
    stacked = Fold(*(np.stack([a[: min(map(len, arrays))] for a in arrays]) for arrays in zip(*inputs, strict=True)))
    best, course = fit_folds(jax.random.key(seed), stacked, objective, SCHEDULE)
    critics = [
        Critic.of(each, jax.tree.map(lambda w, c=c: w[:, c], best), fold)
        for c, (each, fold) in enumerate(zip(features, inputs, strict=True))
    ]
    trained_scores = (Scores(*map(c.of_inputs, fold[:2])) for c, fold in zip(critics, inputs, strict=True))
    bounds = [lower_bound(DIVERGENCES[objective.divergence], scores)[0] for scores in trained_scores]
    return critics, {**_history(course), "trained_bound": bounds}


def _history(course: Course) -> dict[str, Any]:
    """The bound of each network on training and validation rows, round by round, and the round chosen."""
    rounds = 1 + int(course.rounds)
    train, held_out = (
        np.asarray(h, np.float64)[:rounds].reshape(rounds, -1) for h in (course.train, course.validation)
    )
    steps = [SCHEDULE.round_steps * i for i in range(rounds)]
    history = {"steps": steps, "train": train.tolist(), "held_out": held_out.tolist()}
    return {"history": history, "best_round": held_out.argmax(axis=0).tolist()}
