"""What a run says about its generator while it trains: scores fit for the data, beside those of a perfect one.

    known target in the plane      modes captured, high-quality share, KL of the mode histogram, width ratio
    mixture in subspaces           the same, by distances within and off the subspace of a mode
    noisy curve in the plane       high-quality share, KL of the histogram along it, width ratio, mean log-density
    known target on the line       the exact divergence at the generator's own density, and the best fit's
    images with labels             class histogram KL, precision and recall in a classifier's features
    all others                     precision and recall on standardised columns, or on pixels

Layer 6: imports gan, metrics, classifier.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from estimators.distributions.curves import Curve
from estimators.distributions.examples import normal
from estimators.distributions.mixture import Mixture
from estimators.distributions.subspaces import SubspaceMixture
from estimators.divergences.table import divergence
from estimators.exact_values.best_fit import best_gaussian
from estimators.exact_values.quadrature import exact_divergence
from fgan.config.schema import Config
from fgan.data.sources import Dataset
from fgan.models.gan import FGAN, GANState
from fgan.scores.classifier import digit_scores, train_classifier
from fgan.scores.metrics import (
    curve_scores,
    mode_scores,
    perfect_high_quality,
    perfect_in_subspace,
    precision_recall,
    subspace_scores,
)

SHOWN = 100  # images kept of an evaluation


class Evaluation:
    """(state, step) → (samples [seeds, n, d] to draw, a dict of scores a seed); `seeds` names others than config's.

    Of a mixture in subspaces the samples are those in the plane of its means, [seeds, n, 2].
    """

    def __init__(self, config: Config, data: Dataset, gan: FGAN):
        self.config, self.data, self.gan = config, data, gan
        n = min(config.log.samples, len(data.held_out)) if len(data.held_out) else config.log.samples
        self.n = max(n, 2)
        self._sample = jax.jit(jax.vmap(lambda state, key: gan.sample(state, key, self.n)))
        self._score = self._scorer()

    def __call__(
        self, state: GANState, step: int, seeds: np.ndarray | None = None
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

    def _scorer(self):
        target = self.data.target
        if isinstance(target, Curve):
            return self._along(target)
        if target is not None and target.dim == 1:
            return self._exact(target) if self.config.generator.kind == "location_scale" else lambda samples, state: {}
        if target is not None:
            return self._modes(target)
        if self.data.law is not None:
            return self._subspaces(self.data.law)
        return self._classes() if self.data.labels is not None and self._enough() else self._precision()

    def _along(self, target: Curve):
        entropy = target.entropy()

        def score(samples, state):
            s = curve_scores(samples, target)
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

    def _modes(self, target: Mixture):
        centres, sigma = np.array(target.means), target.sigmas[0]

        def score(samples, state):
            s = mode_scores(samples, centres, sigma)
            return {
                "modes": s.captured,
                "of_modes": len(centres),
                "high_quality": s.high_quality,
                "high_quality_of_perfect": perfect_high_quality(target.dim),
                "mode_kl": s.kl,
                "mode_kl_floor": s.kl_floor,
                "width_ratio": mean_or_none(s.width_ratio),
            }

        return score

    def _subspaces(self, law: SubspaceMixture):
        def score(samples, state):
            s = subspace_scores(samples, law.means, law.bases, law.sigma)
            return {
                "modes": s.captured,
                "of_modes": law.modes,
                "high_quality": s.high_quality,
                "high_quality_of_perfect": perfect_in_subspace(law.rank),
                "mode_kl": s.kl,
                "mode_kl_floor": s.kl_floor,
                "width_ratio": mean_or_none(s.width_ratio),
            }

        return score

    def _exact(self, target: Mixture):
        row = divergence(self.config.divergence)
        optimum = best_gaussian(target, row)

        def score(samples, state):
            p = state.average["params"]
            mu, sigma = float(p["mu"]), float(np.exp(p["log_sigma"]))
            exact = exact_divergence(target.log_prob, normal(mu, sigma).log_prob, row)
            return {"mu": mu, "sigma": sigma, "exact": exact, "optimum": optimum["value"]}

        return score

    def _classes(self):
        assert self.data.labels is not None
        classifier = train_classifier(self.data.rows, self.data.labels)
        reference = self.data.reference(self.n)
        held_out = digit_scores(classifier, reference, self.data.held_out[: self.n])
        held_out["accuracy"] = float(np.mean(classifier.predict(self.data.held_out) == self.data.held_out_labels))

        def score(samples, state):
            return digit_scores(classifier, reference, samples) | {f"held_out_{self.data.name}": held_out}

        return score

    def _precision(self):
        reference = self.data.reference(self.n)
        held_out = precision_recall(reference, self.data.held_out[: self.n])._asdict() if self._enough() else None

        def score(samples, state):
            if not self._enough():
                return {}
            return precision_recall(reference, samples)._asdict() | {"held_out_samples": held_out}

        return score

    def _enough(self) -> bool:
        return min(self.n, len(self.data.rows), len(self.data.held_out)) > 3  # a third neighbour


def mean_or_none(values: np.ndarray) -> float | None:
    """The mean of the finite `values`; None if there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None
