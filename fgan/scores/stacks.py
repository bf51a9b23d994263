"""Modes of stacked images: which classes the colours show, and how evenly the Kᶜ tuples of classes are drawn.

A classifier of the grey images looks at each colour on its own, so a mode is a tuple of predicted classes. The protocol
is that of Srivastava, Valkov, Russell, Gutmann, Sutton 2017 (VEEGAN) and Lin, Khetan, Fanti, Oh 2018 (PacGAN): 26,000
samples, the modes that occur among them, and KL(histogram of the samples ‖ law of the data) in nats. The KL of a
finite sample is not 0 for a perfect sampler; `expected_kl` says what it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, Self

import numpy as np
import scipy
from numpy.typing import ArrayLike

from estimators.samples.arrays import DataError
from fgan.data.dataset import Dataset, stacked
from fgan.scores.classifier import Classifier, train_classifier
from fgan.scores.precision_recall import histogram_kl

SAMPLES = 26_000
"""Generated stacks that are scored at the end of a run: as many as the published tables take."""
PART = 2_000
"""Grey images that a classifier sees at once: 50 MB of activations for 16 channels of 28 × 28 pixels."""
UNSURE = 0.05
"""Share of held-out real images that do not count as recognised: the confidence of the others is the threshold."""
TAIL = 12.0
"""Standard deviations of a count beyond which its probability, below 1e-20, adds nothing to an expectation."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stacks:
    """The modes of a data set of stacks, and the classifier that tells them."""

    classifier: Classifier
    data: Dataset
    shares: np.ndarray  # of the classes among the grey training images [K]: each colour has them, independently

    @classmethod
    def of(cls, data: Dataset, most: int) -> Self:
        """Those of `data`, whose rows have labels; at most so many of the rows train the classifier."""
        assert data.labels is not None
        both = set(np.unique(data.labels).tolist()), set(np.unique(np.asarray(data.held_out_labels)).tolist())
        if odd := sorted(both[0] ^ both[1]):
            raise DataError(
                f"class {odd[0]} is among the {'training' if odd[0] in both[0] else 'held-out'} images alone: stacks "
                "are counted by classes that both have; take labels of the same classes in both"
            )
        chosen = np.sort(np.random.default_rng(0).permutation(len(data.rows))[:most])
        classifier = train_classifier(data.rows[chosen], data.labels[chosen])
        counts = np.bincount(data.labels, minlength=classifier.network.classes)
        return cls(classifier=classifier, data=data, shares=counts / counts.sum())

    @cached_property
    def law(self) -> np.ndarray:
        """The probability of each mode [Kᶜ], the product of its classes' shares; the first colour varies slowest."""
        return product_law(self.shares, self.data.stack)

    @cached_property
    def threshold(self) -> float:
        """The probability of the predicted class that all but `UNSURE` of the held-out grey images reach."""
        return float(np.quantile(self._probabilities(self.data.held_out[:]).max(axis=1), UNSURE))

    @cached_property
    def accuracy_by_class(self) -> list[float | None]:
        """The share of held-out images of each class that the classifier is right about; None of a class without."""
        truth = np.asarray(self.data.held_out_labels)
        right = self.classifier.predict(self.data.held_out[:]) == truth
        of = (right[truth == k] for k in range(len(self.shares)))
        return [float(found.mean()) if found.size else None for found in of]

    @property
    def accuracy(self) -> float:
        """The same of all held-out images."""
        found = self.accuracy_by_class
        counts = np.bincount(np.asarray(self.data.held_out_labels), minlength=len(found))
        return float(sum((a or 0.0) * n for a, n in zip(found, counts, strict=False)) / counts.sum())

    def real(self, n: int, seed: int = 0) -> np.ndarray:
        """n stacks of held-out images with classes by the law of the data: [n, d] in [−1, 1]."""
        labels = np.asarray(self.data.held_out_labels)
        weights = self.shares[labels] / np.bincount(labels, minlength=len(self.shares))[labels]
        rng = np.random.default_rng(seed)
        numbers = rng.choice(len(labels), size=(n, self.data.stack), p=weights / weights.sum())
        return stacked(self.data.held_out[numbers])

    def scores(self, images: ArrayLike) -> dict[str, Any]:
        """Of stacks [n, d] in [−1, 1], as plain Python numbers.

        Returns:
            modes, of_modes, modes_of_perfect: distinct modes among the n, all there are, and how many a perfect sampler
                shows on average.
            mode_kl, mode_kl_error, mode_kl_floor: KL(histogram ‖ law), its standard error (`kl_error`), and its mean
                for a perfect sampler.
            recognised: share of grey images whose class is predicted with the confidence that 95 % of real ones have.
            counts: how often each mode was seen, [Kᶜ].
        """
        probabilities = self._probabilities(self._grey(np.asarray(images, np.float32)))
        classes = probabilities.argmax(axis=1).reshape(-1, self.data.stack)
        counts = mode_counts(classes, len(self.shares))
        n = len(classes)
        return {
            "modes": int(np.count_nonzero(counts)),
            "of_modes": int(np.count_nonzero(self.law)),
            "modes_of_perfect": expected_modes(n, self.law),
            "mode_kl": histogram_kl(counts, self.law)[0],
            "mode_kl_error": kl_error(counts, self.law),
            "mode_kl_floor": expected_kl(n, self.law),
            "recognised": float((probabilities.max(axis=1) >= self.threshold).mean()),
            "counts": counts.tolist(),
        }

    def _grey(self, images: np.ndarray) -> np.ndarray:
        """Stacks [n, d · c] as grey images, those of one stack together: [n · c, d]."""
        n, c = len(images), self.data.stack
        return images.reshape(n, -1, c).swapaxes(1, 2).reshape(n * c, -1)

    def _probabilities(self, grey: np.ndarray) -> np.ndarray:
        """[n, K] of grey images [n, d]."""
        parts = np.array_split(grey, -(-len(grey) // PART))
        return np.concatenate([self.classifier.probabilities(part) for part in parts])


def scorer(data: Dataset, most: int) -> Callable[[np.ndarray], dict[str, Any]]:
    """Stacks → their scores, beside those of as many real held-out stacks and what is known of the classifier.

    Real stacks have classes by the law of the data, so what their KL has above the floor is due to misclassification.
    """
    stacks = Stacks.of(data, most)
    known = {"accuracy": stacks.accuracy, "accuracy_by_class": stacks.accuracy_by_class}
    known |= {"class_shares": stacks.shares.tolist()}
    found: dict[int, dict[str, Any]] = {}  # of the real ones, by how many

    def score(images: np.ndarray) -> dict[str, Any]:
        n = len(images)
        if n not in found:
            found[n] = {k: v for k, v in stacks.scores(stacks.real(n)).items() if k != "counts"} | known
        return stacks.scores(images) | {"held_out_stacks": found[n]}

    return score


def product_law(shares: np.ndarray, c: int) -> np.ndarray:
    """The law of c independent classes with these shares [K]: [Kᶜ], the first class varying slowest."""
    return reduce(np.kron, [shares] * c)


def mode_counts(classes: np.ndarray, k: int) -> np.ndarray:
    """How often each tuple of classes [n, c], 0 to k − 1, occurs: [kᶜ] integers, the first class varying slowest."""
    numbers = classes @ (k ** np.arange(classes.shape[1])[::-1])
    return np.bincount(numbers, minlength=k ** classes.shape[1])


def expected_kl(n: int, law: np.ndarray) -> float:
    """E KL(histogram of n samples of the law ‖ the law), nats, exact; (K − 1)/(2n) to first order.

    With C ~ Binomial(n, p) of one mode, E[C log(C/np)] = np E[log((1 + C')/np)], C' ~ Binomial(n − 1, p). 0.0193 for
    1,000 equal modes and 26,000 samples.

    >>> round(expected_kl(26_000, np.full(1000, 1e-3)), 4)
    0.0193
    """
    p, times = np.unique(law[law > 0.0], return_counts=True)
    mean, deviation = (n - 1) * p, np.sqrt((n - 1) * p * (1.0 - p))
    width = int(np.ceil(2.0 * TAIL * (deviation.max() + 1.0)))
    counts = np.maximum(np.floor(mean - TAIL * (deviation + 1.0)), 0.0)[:, None] + np.arange(width + 1.0)[None]
    terms = scipy.stats.binom.pmf(counts, n - 1, p[:, None]) * np.log((1.0 + counts) / (n * p)[:, None])
    return float(times @ (p * terms.sum(axis=1)))


def expected_modes(n: int, law: np.ndarray) -> float:
    """How many modes occur among n samples of the law, on average: Σ 1 − (1 − p)ⁿ."""
    return float(-np.expm1(n * np.log1p(-law[law < 1.0])).sum() + np.count_nonzero(law == 1.0))


def kl_error(counts: np.ndarray, law: np.ndarray) -> float:
    """The standard error of KL(counts/n ‖ law), nats: √(Var[log(q/p)]/n + (K − 1)/(2n²)), q = counts/n > 0 of K modes.

    The first term is that of the delta method, which vanishes at q = p; the second is that of the chi-square law there.
    """
    n, seen = counts.sum(), counts > 0
    q = counts[seen] / n
    with np.errstate(divide="ignore"):
        log_ratio = np.log(q) - np.log(law[seen])
    if not np.isfinite(log_ratio).all():
        return float("inf")
    variance = max(float(q @ log_ratio**2 - (q @ log_ratio) ** 2), 0.0)
    noise = np.count_nonzero(seen) - 1  # modes that were not seen add none
    excess = max(variance - noise / n, 0.0)  # Var itself is about (K − 1)/n at q = p, by noise
    return float(np.sqrt(excess / n + noise / (2.0 * n**2)))
