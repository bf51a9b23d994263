"""Scores of a model while it trains, and the samples that its pictures show.

The table `SCORERS` says for each kind of data how generated samples are scored, beside what a perfect sampler scores.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from estimators.distributions.curves import Curve
from estimators.distributions.examples import normal
from estimators.distributions.mixture import Mixture
from estimators.divergences.table import divergence
from estimators.exact_values.fits import best_gaussian
from estimators.exact_values.quadrature import exact_divergence
from fgan.config.schema import Config
from fgan.data.dataset import Dataset
from fgan.models.model import Model, Reconstructs, build
from fgan.networks.generators import GENERATORS
from fgan.scores import autoencoder, density, modes, stacks
from fgan.scores.classifier import BesideReal, class_scores, train_classifier
from fgan.scores.image_judge import ImageJudge
from fgan.scores.judge import MOST, Judge
from fgan.scores.precision_recall import precision_recall

SHOWN = 100  # images kept of an evaluation: a picture holds ten by ten
CLASSIFIED = 60_000  # images that train a classifier, as many as MNIST has, of
CLASSIFIED_PIXELS = 2**27  # numbers at most: it takes nine bytes for each
FEWEST_CLASSIFIED = 5  # images that a classifier can be trained on
PAIRS = 40  # held-out images that a picture shows beside what the model makes of them
DRAWS = 5  # at the end of a run on images so many times `log.samples` are drawn: 5,000 by the presets, `judge.MOST`


class Evaluation:
    """(state, step) → (samples [seeds, n, d] to draw, a dict of scores a seed); `seeds` names others than config's.

    At the `end` of a run a table of the user's own is judged by all its rows, and images by what takes a while.

    `real` are samples of the data [n, d] to hold them against, in the scale the networks see.

    Of a mixture in subspaces the samples are those in the plane of its means, [seeds, n, 2].
    """

    def __init__(self, config: Config, data: Dataset, model: Model):
        self.config, self.data, self.model = config, data, model
        n = max(min(config.log.samples, len(data.held_out) ** data.stack or config.log.samples), 2)
        self.samples, known = n, data.target is not None
        self.real = np.asarray(data.draw(jax.random.key(0), data.rows, n) if known else data.reference(n))
        self._sample = jax.jit(jax.vmap(lambda state, key: model.sample(state, key, n)))
        self._score = scorer_for(config, data, n)
        self._judge = Judge(data, divergence(config.divergence)) if data.own else None
        self._judged = jax.jit(lambda state, key: model.sample(state, key, MOST))

    def __call__(
        self, state: Any, step: int, seeds: np.ndarray | None = None, *, end: bool = False
    ) -> tuple[np.ndarray, list[dict]]:
        seeds = self.config.seed + np.arange(self.config.seeds) if seeds is None else seeds
        keys, samples = self._keys(seeds, step), self.draw(state, step, seeds)
        if self.data.target is not None or self.data.law is not None:  # scored and drawn in its own units
            samples = self.data.own_units(samples)
        scores = []
        for i, seed in enumerate(seeds):
            usable = bool(np.isfinite(samples[i]).all())
            one = jax.tree.map(lambda x, i=i: x[i], state)
            scored: dict[str, Any] = self._score(samples[i], one) if usable else {"diverged": True}
            if self._judge and usable:
                points = np.asarray(self._judged(one, keys[i]))
                scored |= {"judged": self._judge(points, end)} if np.isfinite(points).all() else {"diverged": True}
            if end and usable and isinstance(self._score, InStages):
                scored |= self._score.at_end(self._many(one, keys[i], self._score.many))
            scores.append({"seed": int(seed)} | scored)
        if self.data.law is not None:
            return samples @ self.data.law.plane, scores
        return samples[:, :SHOWN] if self.data.side else samples, scores

    def draw(self, state: Any, step: int, seeds: np.ndarray) -> np.ndarray:
        """The samples that are scored [seeds, n, d], in the scale the networks see."""
        return np.asarray(self._sample(state, self._keys(seeds, step)))

    def _many(self, state: Any, key: jax.Array, many: int) -> np.ndarray:
        """Further samples of one member [many, d], drawn as many at a time as fit."""
        several = jax.tree.map(lambda x: x[None], state)
        keys = jax.random.split(key, -(-many // self.samples))
        return np.concatenate([np.asarray(self._sample(several, k[None]))[0] for k in keys])[:many]

    def _keys(self, seeds: np.ndarray, step: int) -> jax.Array:
        return jax.vmap(lambda s: jax.random.fold_in(jax.random.key(s), 2**31 + step))(jnp.asarray(seeds, jnp.uint32))

    def reconstructions(self, state: Any) -> np.ndarray | None:
        """[2, n, d]: held-out images above what the first seed makes of them; None where it cannot, or has none."""
        if not (self.data.side and len(self.data.held_out) and isinstance(self.model, Reconstructs)):
            return None
        first = jax.tree.map(lambda x: x[0], state)
        shown = np.asarray(self.data.judges(PAIRS), np.float32)
        return np.stack([shown, np.asarray(jax.jit(self.model.reconstruct)(first, shown))])


Score = Callable[[np.ndarray, Any], dict[str, Any]]
"""(samples [n, d], state of the model) → scores by name. Samples of known targets come in the target's own units."""


@dataclass(frozen=True)
class InStages:
    """A score of every evaluation, and a function of `many` generated images [m, d] → the scores at the end of a run,
    which take the place of others of their names."""

    often: Score
    at_end: Callable[[np.ndarray], dict[str, Any]]
    many: int

    def __call__(self, samples: np.ndarray, state: Any) -> dict[str, Any]:
        return self.often(samples, state)


Scorer = Callable[[Config, Dataset, int], Score | None]
"""(config, data, n) → how n samples are scored beside such data, None for data it is not for."""


def scorer_for(config: Config, data: Dataset, n: int) -> Score:
    """That of the last entry of `SCORERS` which is for such data; one without scores if none is."""
    scores = (scorer(config, data, n) for scorer in reversed(SCORERS.values()))
    return next((score for score in scores if score), lambda samples, state: {})


def _precision_recall(config: Config, data: Dataset, n: int) -> Score | None:
    """Precision and recall on standardised columns, or on pixels, where every set has third neighbours."""
    if data.target is not None or data.law is not None or min(n, len(data.rows), len(data.held_out)) <= 3:
        return None
    reference = data.reference(n)
    held_out = precision_recall(reference, data.judges(n))._asdict()

    def score(samples, state):
        return precision_recall(reference, samples)._asdict() | {"held_out_samples": held_out}

    return InStages(score, ImageJudge(data), min(DRAWS * n, MOST)) if data.side else score


def _classes(config: Config, data: Dataset, n: int) -> Score | None:
    """Class histogram, precision and recall in the features of a classifier of the real images."""
    if data.labels is None or min(n, len(data.held_out)) <= 3 or len(data.rows) < FEWEST_CLASSIFIED:
        return None
    most = min(CLASSIFIED, CLASSIFIED_PIXELS // data.dim)
    chosen = np.sort(np.random.default_rng(0).permutation(len(data.rows))[:most])
    classifier = train_classifier(data.rows[chosen], data.labels[chosen])
    unseen = data.rows[np.random.default_rng(1).permutation(chosen[classifier.held_out])[:MOST]]
    reference, held_out = data.reference(n), data.judges(n)
    beside = BesideReal.of(classifier, held_out, unseen)
    real = class_scores(classifier, reference, held_out) | beside.real
    real["accuracy"] = float(np.mean(classifier.predict(data.held_out) == data.held_out_labels))

    def score(samples, state):
        return class_scores(classifier, reference, samples) | beside(samples) | {f"held_out_{data.name}": real}

    return InStages(score, ImageJudge(data, classifier, unseen), min(DRAWS * n, MOST))


def _stacks(config: Config, data: Dataset, n: int) -> Score | None:
    """Modes captured and KL over them, by a classifier of each colour; a colour has no meaning without labels."""
    if data.stack == 1 or data.labels is None or len(data.rows) < FEWEST_CLASSIFIED:
        return None
    score = stacks.scorer(data, min(CLASSIFIED, CLASSIFIED_PIXELS * data.stack // data.dim))
    return InStages(lambda samples, state: score(samples), score, stacks.SAMPLES)


def _curve(config: Config, data: Dataset, n: int) -> Score | None:
    """High-quality share, KL of the histogram along the curve, width ratio and mean log-density."""
    curve = data.target
    if not isinstance(curve, Curve):
        return None
    perfect, entropy = modes.perfect_high_quality(1), curve.entropy()

    def score(samples, state):
        s = modes.curve_scores(samples, curve)
        return {
            "high_quality": s.high_quality,
            "high_quality_of_perfect": perfect,
            "curve_kl": s.kl,
            "curve_kl_floor": s.kl_floor,
            "width_ratio": s.width_ratio if math.isfinite(s.width_ratio) else None,
            "log_density": s.log_density,
            "log_density_of_perfect": -entropy,
        }

    return score


def _captured(s: modes.ModeScores | modes.SubspaceScores, of: int, perfect: float) -> dict[str, Any]:
    return {
        "modes": s.captured,
        "of_modes": of,
        "high_quality": s.high_quality,
        "high_quality_of_perfect": perfect,
        "mode_kl": s.kl,
        "mode_kl_floor": s.kl_floor,
        "width_ratio": modes.mean_or_none(s.width_ratio),
    }


def _modes(config: Config, data: Dataset, n: int) -> Score | None:
    """Modes captured, high-quality share, KL of the histogram over modes and width ratio, where all are as wide."""
    target = data.target
    if not isinstance(target, Mixture) or target.dim == 1 or len(set(target.sigmas)) > 1:
        return None
    centres, sigma, perfect = np.array(target.means), target.sigmas[0], modes.perfect_high_quality(target.dim)
    return lambda samples, state: _captured(modes.mode_scores(samples, centres, sigma), len(centres), perfect)


def _subspaces(config: Config, data: Dataset, n: int) -> Score | None:
    """The same as of modes, by distances within and off the subspace of a mode."""
    law = data.law
    if law is None:
        return None
    known, perfect = (law.means, law.bases, law.sigma), modes.perfect_in_subspace(law.rank)
    return lambda samples, state: _captured(modes.subspace_scores(samples, *known), law.modes, perfect)


def _exact(config: Config, data: Dataset, n: int) -> Score | None:
    """The exact divergence at the generator's own (μ, σ), and at the best Gaussian's."""
    target, d = data.target, divergence(config.divergence)
    gaussian = (config.model, config.generator.kind) == ("fgan", "location_scale")
    if not (gaussian and isinstance(target, Mixture) and target.dim == 1):
        return None
    optimum = best_gaussian(target, d)

    def score(samples, state):
        p = state.average["params"]
        mu, sigma = float(p["mu"]), float(np.exp(p["log_sigma"]))
        exact = exact_divergence(target.log_prob, normal(mu, sigma).log_prob, d)
        return {"mu": mu, "sigma": sigma, "exact": exact, "optimum": optimum["value"]}

    return score


def _density(config: Config, data: Dataset, n: int) -> Score | None:
    """The exact divergence of a generator whose density is known, beside what samples are scored by."""
    if data.target is None or config.model not in ("fgan", "direct_fit"):
        return None
    network = GENERATORS[config.generator.kind](config.generator, data)
    if not hasattr(network, "log_prob"):
        return None
    samples_score = _curve(config, data, n) or _modes(config, data, n) or (lambda samples, state: {})
    model, target = density.OfModel(network, data.dim), density.of_data(data)
    d = divergence(config.divergence)

    def score(samples, state):
        (found,) = density.exact(target, model(state.average), d)
        return samples_score(samples, state) | {
            "exact": found.value if math.isfinite(found.value) else None,
            "exact_standard_error": found.standard_error if math.isfinite(found.standard_error) else None,
            "exact_method": found.method,
        }

    return score


def _likelihood(config: Config, data: Dataset, n: int) -> Score | None:
    """The bounds of a variational autoencoder on held-out rows, beside what its samples are scored by."""
    if config.model != "vae" or not len(data.held_out):
        return None
    of_samples = _stacks(config, data, n) or _classes(config, data, n) or _precision_recall(config, data, n)
    of_samples = of_samples or (lambda samples, state: {})
    bounds = autoencoder.Bounds(build(config, data), np.asarray(data.judges(autoencoder.MOST), np.float32))

    def score(samples, state):
        return {"likelihood": bounds(state)} | of_samples(samples, state)

    return replace(of_samples, often=score) if isinstance(of_samples, InStages) else score


SCORERS: dict[str, Scorer] = {
    "precision_recall": _precision_recall,
    "classes": _classes,
    "stacks": _stacks,
    "curve": _curve,
    "modes": _modes,
    "subspaces": _subspaces,
    "exact": _exact,
    "density": _density,
    "likelihood": _likelihood,
}
"""Name → scorer. The last that is for such data is used, so that a more specific entry may follow."""
