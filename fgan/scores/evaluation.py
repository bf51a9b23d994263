"""Scores of a model while it trains, and the samples that its pictures show.

The table `SCORERS` says for each kind of data how generated samples are scored, beside what a perfect sampler scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from estimators.distributions.curves import Curve
from estimators.distributions.examples import Mixture, normal
from estimators.divergences.table import divergence
from estimators.exact_values.quadrature import exact_divergence
from fgan.config.schema import Config
from fgan.data.sources import Dataset
from fgan.models.model import Model
from fgan.scores.best_gaussian import best_gaussian
from fgan.scores.classifier import class_scores, train_classifier
from fgan.scores.curves import curve_scores
from fgan.scores.modes import ModeScores, mean_or_none, mode_scores, perfect_high_quality
from fgan.scores.precision_recall import precision_recall
from fgan.scores.subspaces import SubspaceScores, perfect_in_subspace, subspace_scores

SHOWN = 100  # images kept of an evaluation: a picture holds ten by ten


class Evaluation:
    """(state, step) → (samples [seeds, n, d] to draw, a dict of scores a seed); `seeds` names others than config's.

    Of a mixture in subspaces the samples are those in the plane of its means, [seeds, n, 2].
    """

    def __init__(self, config: Config, data: Dataset, model: Model):
        self.config, self.data = config, data
        n = max(min(config.log.samples, len(data.held_out) or config.log.samples), 2)
        self._sample = jax.jit(jax.vmap(lambda state, key: model.sample(state, key, n)))
        self._score = scorer_for(config, data, n)

    def __call__(
        self, state: Any, step: int, seeds: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        seeds = self.config.seed + np.arange(self.config.seeds) if seeds is None else seeds
        keys = jax.vmap(lambda s: jax.random.fold_in(jax.random.key(s), 2**31 + step))(jnp.asarray(seeds, jnp.uint32))
        samples = np.asarray(self._sample(state, keys))
        if self.data.target is not None or self.data.law is not None:  # scored and drawn in its own units
            samples = samples * self.data.scale + self.data.offset
        scores = []
        for i, seed in enumerate(seeds):
            usable = bool(np.isfinite(samples[i]).all())
            scored = self._score(samples[i], jax.tree.map(lambda x, i=i: x[i], state)) if usable else {"diverged": True}
            scores.append({"seed": int(seed)} | scored)
        if self.data.law is not None:
            return samples @ self.data.law.plane, scores
        return samples[:, :SHOWN] if self.data.side else samples, scores


# --- scorers ---------------------------------------------------------------------------------------------------------

Score = Callable[[np.ndarray, Any], dict[str, Any]]
"""(samples [n, d], state of the model) → scores by name. Samples of known targets come in the target's own units."""


class Scorer(NamedTuple):
    """Scores for one kind of data.

    Attributes:
        fits: (config, data, n) → whether n samples can be scored so.
        make: (config, data, n) → the function that scores; what is the same at every evaluation is computed here.
    """

    fits: Callable[[Config, Dataset, int], bool]
    make: Callable[[Config, Dataset, int], Score]


def scorer_for(config: Config, data: Dataset, n: int) -> Score:
    """The score function of the last entry of `SCORERS` that fits; one without scores if none does."""
    fitting = [scorer for scorer in SCORERS.values() if scorer.fits(config, data, n)]
    return fitting[-1].make(config, data, n) if fitting else lambda samples, state: {}


def _neighbours_enough(config: Config, data: Dataset, n: int) -> bool:
    """Whether every set has a third neighbour for each of its points."""
    known = data.target is not None or data.law is not None
    return not known and min(n, len(data.rows), len(data.held_out)) > 3


def _precision_recall(config: Config, data: Dataset, n: int) -> Score:
    """Precision and recall on standardised columns, or on pixels."""
    reference = data.reference(n)
    held_out = precision_recall(reference, data.held_out[:n])._asdict()

    def score(samples, state):
        return precision_recall(reference, samples)._asdict() | {"held_out_samples": held_out}

    return score


def _classes(config: Config, data: Dataset, n: int) -> Score:
    """Class histogram, precision and recall in the features of a classifier of the real images."""
    assert data.labels is not None
    classifier = train_classifier(data.rows, data.labels)
    reference = data.reference(n)
    held_out = class_scores(classifier, reference, data.held_out[:n])
    held_out["accuracy"] = float(np.mean(classifier.predict(data.held_out) == data.held_out_labels))

    def score(samples, state):
        return class_scores(classifier, reference, samples) | {f"held_out_{data.name}": held_out}

    return score


def _curve(config: Config, data: Dataset, n: int) -> Score:
    """High-quality share, KL of the histogram along the curve, width ratio and mean log-density."""
    curve: Any = data.target
    entropy = curve.entropy()

    def score(samples, state):
        s = curve_scores(samples, curve)
        return {
            "high_quality": s.high_quality,
            "high_quality_of_perfect": perfect_high_quality(1),
            "curve_kl": s.kl,
            "curve_kl_floor": s.kl_floor,
            "width_ratio": s.width_ratio if math.isfinite(s.width_ratio) else None,
            "log_density": s.log_density,
            "log_density_of_perfect": -entropy,
        }

    return score


def _captured(s: ModeScores | SubspaceScores, of: int, perfect: float) -> dict[str, Any]:
    return {
        "modes": s.captured,
        "of_modes": of,
        "high_quality": s.high_quality,
        "high_quality_of_perfect": perfect,
        "mode_kl": s.kl,
        "mode_kl_floor": s.kl_floor,
        "width_ratio": mean_or_none(s.width_ratio),
    }


def _modes(config: Config, data: Dataset, n: int) -> Score:
    """Modes captured, high-quality share, KL of the histogram over modes and width ratio."""
    target: Any = data.target
    centres, sigma, perfect = np.array(target.means), target.sigmas[0], perfect_high_quality(target.dim)
    return lambda samples, state: _captured(mode_scores(samples, centres, sigma), len(centres), perfect)


def _subspaces(config: Config, data: Dataset, n: int) -> Score:
    """The same as of modes, by distances within and off the subspace of a mode."""
    law: Any = data.law
    perfect = perfect_in_subspace(law.rank)

    def score(samples, state):
        return _captured(subspace_scores(samples, law.means, law.bases, law.sigma), law.modes, perfect)

    return score


def _exact(config: Config, data: Dataset, n: int) -> Score:
    """The exact divergence at the generator's own (μ, σ), and at the best Gaussian's."""
    target, d = data.target, divergence(config.divergence)
    assert isinstance(target, Mixture)
    optimum = best_gaussian(target, d)

    def score(samples, state):
        p = state.average["params"]
        mu, sigma = float(p["mu"]), float(np.exp(p["log_sigma"]))
        exact = exact_divergence(target.log_prob, normal(mu, sigma).log_prob, d)
        return {"mu": mu, "sigma": sigma, "exact": exact, "optimum": optimum["value"]}

    return score


SCORERS: dict[str, Scorer] = {
    "precision_recall": Scorer(fits=_neighbours_enough, make=_precision_recall),
    "classes": Scorer(
        fits=lambda config, data, n: data.labels is not None and _neighbours_enough(config, data, n), make=_classes
    ),
    "curve": Scorer(fits=lambda config, data, n: isinstance(data.target, Curve), make=_curve),
    "modes": Scorer(fits=lambda config, data, n: isinstance(data.target, Mixture) and data.target.dim > 1, make=_modes),
    "subspaces": Scorer(fits=lambda config, data, n: data.law is not None, make=_subspaces),
    "exact": Scorer(
        fits=lambda config, data, n: (
            isinstance(data.target, Mixture)
            and data.target.dim == 1
            and (config.model, config.generator.kind) == ("fgan", "location_scale")
        ),
        make=_exact,
    ),
}
"""Name → scorer. The last that fits is used, so that an entry may follow that is more specific than those before."""
