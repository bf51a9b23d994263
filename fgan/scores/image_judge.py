"""Generated images at the end of a run beside images that training never saw: divergences between the features of a
classifier by the project's own estimator, the two-sample test, and whether images of the training set come back."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from estimators.estimation import estimate
from estimators.permutation import permutation_test
from fgan.data.dataset import Dataset
from fgan.scores.classifier import Classifier
from fgan.scores.judge import MOST, intervals, numbers
from fgan.scores.nearest import nearer, nearest_distance

DIVERGENCES = ("kl", "js", "total_variation")
COMPONENTS = 16
"""Principal components of the features that are compared. Of the 64 features of ten classes they hold more than nine
tenths of the variance, and a thousand held-out images are enough for a critic of so many coordinates."""
NEAREST = 1000
"""Images of a set whose nearest training image is looked for: the standard error of the AUC is .013."""
AMONG = 60_000
"""Training images among which it is looked for, as many as MNIST has: some seconds."""


@dataclass(frozen=True)
class Components:
    """Features [n, k] → their first principal components over real images [n, c], each with variance 1 there."""

    mean: np.ndarray
    directions: np.ndarray  # [c, k]
    share: float  # of the variance, that these components hold

    @classmethod
    def of(cls, features: np.ndarray, count: int = COMPONENTS) -> "Components":
        """At most `count` of the features [n, k], as many as have a variance."""
        features = np.asarray(features, np.float64)
        mean = features.mean(axis=0)
        _, lengths, directions = np.linalg.svd(features - mean, full_matrices=False)
        deviations = lengths / np.sqrt(max(len(features) - 1, 1))
        kept = min(count, int(np.sum(deviations > 1e-6 * max(deviations[0], 1e-12))))
        share = float(np.sum(lengths[:kept] ** 2) / max(np.sum(lengths**2), 1e-12))
        return cls(mean, directions[:kept] / deviations[:kept, None], share)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (np.asarray(features, np.float64) - self.mean) @ self.directions.T


@dataclass(frozen=True)
class ImageJudge:
    """generated images [n, d] → scores by name, nested ones for real images in their place.

    `unseen` are training images that the classifier has not seen. Beside held-out ones they score as a perfect model.
    Without a classifier only the nearest training images are looked for.
    """

    data: Dataset
    classifier: Classifier | None = None
    unseen: np.ndarray | None = None

    def __call__(self, images: np.ndarray) -> dict[str, Any]:
        found = {"nearest_training": self._nearest(images)}
        return found if self.classifier is None else {"features": self._of_features(images)} | found

    @cached_property
    def _held_out(self) -> np.ndarray:
        return np.random.default_rng(2).permutation(self.data.judges(MOST))  # whose file may be sorted by class

    @cached_property
    def _components(self) -> Components:
        assert self.classifier is not None
        return Components.of(self.classifier.features(self.data.reference(MOST)))

    def _reduced(self, images: np.ndarray) -> np.ndarray:
        assert self.classifier is not None
        return self._components(self.classifier.features(images))

    def _of_features(self, images: np.ndarray) -> dict[str, Any]:
        held_out, made = self._reduced(self._held_out), self._reduced(images[:MOST])
        facts = {"components": made.shape[1], "variance_share": self._components.share}
        facts |= self._compared(held_out, made) | {"p_value": self._p_value(held_out, made)}
        return facts | {"real_images": self._real}

    @cached_property
    def _real(self) -> dict[str, Any]:
        if self.unseen is None or len(self.unseen) < 2:
            return {"not_estimated": "the classifier has seen all training images but one"}
        return self._compared(self._reduced(self._held_out), self._reduced(self.unseen[:MOST]))

    def _compared(self, held_out: np.ndarray, other: np.ndarray) -> dict[str, Any]:
        """Each divergence from held-out images to others, with its 95 % interval and what limits it; why there is
        none, if there is none."""
        try:
            found = estimate(held_out, other, list(DIVERGENCES))
        except ValueError as error:
            return {"not_estimated": str(error)}
        said = dict.fromkeys(warning for e in found for warning in e.warnings)
        counts = {"held_out": len(held_out), "images": len(other)}
        return {key: value for e in found for key, value in numbers(e).items()} | {"warnings": list(said)} | counts

    def _p_value(self, held_out: np.ndarray, made: np.ndarray) -> float | None:
        """Of the test that the features of generated images have the law of those of held-out ones."""
        try:
            return permutation_test(held_out, made, permutations=499).p_value
        except ValueError:
            return None

    @cached_property
    def _of_held_out(self) -> np.ndarray:
        return nearest_distance(self._held_out[:NEAREST], self.data.rows, AMONG)

    def _nearest(self, images: np.ndarray) -> dict[str, float]:
        """Distances of pixels in [−1, 1] to the nearest training image, and their rank among those of held-out ones."""
        distance = nearest_distance(images[:NEAREST], self.data.rows, AMONG)
        found = nearer(distance, self._of_held_out)
        medians = (float(np.median(of)) for of in (distance, self._of_held_out))
        searched = {"among": min(AMONG, len(self.data.rows)), "training_images": len(self.data.rows)}
        return found._asdict() | dict(zip(("distance", "held_out_distance"), medians, strict=True)) | searched


def lines(scores: dict[str, Any]) -> list[str]:
    """What a judge of images found, for people."""
    said = []
    if features := scores.get("features"):
        of = f"{features['components']} components of the classifier's features"
        said += [f"features   {intervals(features)}", f"  real images: {intervals(features['real_images'])}"]
        test = f"; two-sample test p = {features['p_value']:.3f}" if features.get("p_value") is not None else ""
        said.append(f"  to held-out images, in {of}, which show no more than the images differ{test}")
        said += [f"  {warning}" for warning in features.get("warnings", ())]
    nearest = scores["nearest_training"]
    some = f"{nearest['among']:,} of {nearest['training_images']:,} "
    some = some if nearest["among"] < nearest["training_images"] else ""
    said.append(
        f"nearest    {some}training images: AUC {nearest['auc']:.3f} ± {nearest['standard_error']:.3f} against "
        f"held-out images (0.5: as near, 0: copies); median distance {nearest['distance']:.3g}, of held-out images "
        f"{nearest['held_out_distance']:.3g}"
    )
    return said
