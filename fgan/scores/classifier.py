"""A small classifier of real images whose penultimate layer is the feature space in which generated ones are compared.

Images are flat rows [n, d] with pixels in [-1, 1], -1 the background; in colour the channels are innermost. It is
trained once on real images, a fifth of them held out; `class_scores` then compares any two image sets through it.
Scores mean something only beside those of held-out real images under the same classifier: call it on both.
"""

from dataclasses import dataclass
from functools import partial
from math import isqrt
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import ArrayLike

from estimators.critics import kernel as fitting
from fgan.scores.density_coverage import NEIGHBOURS, density_coverage
from fgan.scores.frechet import frechet_distance
from fgan.scores.precision_recall import histogram_kl, precision_recall

FEATURES = 64
BATCH = 128
LEARNING_RATE = 2e-3
MOVED = 14
"""Pixels of a side for each pixel that images are moved by: on smaller images one is much of a shape."""
RECOGNISED = 0.95
"""Share of the held-out images that are recognised with confidence, which says what confidence is."""
AT_ONCE = 2000
"""Images whose pixels and activations are in memory at once: 8 MB of 28 × 28 pixels."""


class Network(nn.Module):
    """Two hidden relu layers, [n, d] → logits [n, classes] and the second hidden layer [n, 64].

    Convolutions do not pay here. On Fashion-MNIST and CPUs two of 4 × 4 windows, stride 2, 16 and 32 channels, cost
    five times as much a step: 83.5 % right after 19 seconds, where this network has 84.8 % after 12.
    """

    classes: int
    width: int

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = nn.relu(nn.Dense(self.width)(images))
        features = nn.relu(nn.Dense(FEATURES)(hidden))
        return nn.Dense(self.classes)(features), features


def square_of(dim: int) -> tuple[int, int]:
    """(side, channels) of images of so many numbers: grey or in three colours; (0, 1) for what is no square.

    >>> square_of(784), square_of(3072), square_of(783)
    ((28, 1), (32, 3), (0, 1))
    """
    for channels in (1, 3):
        side = isqrt(dim // channels)
        if channels * side * side == dim:
            return side, channels
    return 0, 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """A trained classifier: `accuracy` is its share of right labels on the `held_out` rows of its training data."""

    network: Network
    parameters: Any
    held_out: np.ndarray
    accuracy: float

    def predict(self, images: ArrayLike) -> np.ndarray:
        """[n] int: the most probable class of each image [n, d]."""
        return self._forward(images)[0].argmax(axis=1)

    def probabilities(self, images: ArrayLike) -> np.ndarray:
        """[n, classes] float32: softmax of the logits."""
        return np.asarray(jax.nn.softmax(self._forward(images)[0]))

    def confidences(self, images: ArrayLike) -> np.ndarray:
        """[n] float32: the probability of the most probable class."""
        return self.probabilities(images).max(axis=1)

    def features(self, images: ArrayLike) -> np.ndarray:
        """[n, 64] float32: the penultimate layer after its relu."""
        return self._forward(images)[1]

    def _forward(self, images: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        return _in_blocks(self.network, self.parameters, images)


def train_classifier(
    images: ArrayLike, labels: ArrayLike, *, seed: int = 0, steps: int = 1500, width: int = 256
) -> Classifier:
    """A `Classifier` fitted by `steps` of Adam on four fifths of the images; the fifth left is never trained on.

    Args:
        images: [n, d] in [-1, 1], n >= 5. Where d is `square_of` a side >= 14, every image drawn is moved by up to
            side // 14 random pixels along each axis, the gap filled with -1, or in colour by the pixels at the edge.
        labels: [n] integers 0..classes−1.

    Raises:
        ValueError: shapes, range or labels other than these, or steps < 1.
    """
    pixels, targets = np.asarray(images, np.float32), np.asarray(labels)
    if pixels.ndim != 2 or targets.shape != pixels.shape[:1] or len(pixels) < 5:
        raise ValueError(f"need images [n, d] and labels [n] with n >= 5, got {pixels.shape} and {targets.shape}")
    if not (np.abs(pixels) <= 1).all():
        raise ValueError("images must be finite and lie in [-1, 1]: scale pixels 0..255 by x / 127.5 - 1")
    if not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0:
        raise ValueError(f"labels must be integers from 0 up, got {targets.dtype} from {targets.min()}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    targets = targets.astype(np.int32)
    order = np.random.default_rng(seed).permutation(len(pixels))
    held_out, kept = np.split(order, [len(pixels) // 5])
    network = Network(classes=int(targets.max()) + 1, width=width)
    parameters = _fit(jax.random.key(seed), pixels[kept], targets[kept], network=network, steps=steps)
    logits, _ = _in_blocks(network, parameters, pixels[held_out])
    accuracy = float(np.mean(logits.argmax(axis=1) == targets[held_out]))
    return Classifier(network=network, parameters=parameters, held_out=np.sort(held_out), accuracy=accuracy)


def class_scores(classifier: Classifier, real: ArrayLike, fake: ArrayLike) -> dict[str, Any]:
    """How `fake` images [m, d] compare with `real` ones [n, d] under the classifier, as plain Python numbers.

    Returns:
        class_histogram: predicted classes of the fakes, a list of counts.
        class_kl, class_kl_floor: KL(fake ‖ real) between predicted class histograms, nats, and its mean
            (K−1)/2 · (1/m + 1/n) between two sets of the same law, the reference being a sample too. The KL is
            +inf where the fakes show a class that no real image was given: pass reals of every class.
        precision, recall: `precision_recall` of the 64 features.
        density, coverage: `density_coverage` of them, with 5 neighbours, or as many as there are.
        mean_confidence: mean probability of the predicted class over the fakes.
    """
    classes = classifier.network.classes
    histogram, reference = (np.bincount(classifier.predict(x), minlength=classes) for x in (fake, real))
    kl, floor = histogram_kl(histogram, reference)
    features = classifier.features(real), classifier.features(fake)
    precision, recall = precision_recall(*features)
    density, coverage = density_coverage(*features, neighbours=min(NEIGHBOURS, len(features[0]) - 1))
    return {
        "class_histogram": histogram.tolist(),
        "class_kl": kl,
        "class_kl_floor": floor * float(1 + histogram.sum() / reference.sum()),
        "precision": precision,
        "recall": recall,
        "density": density,
        "coverage": coverage,
        "mean_confidence": float(classifier.confidences(fake).mean()),
    }


@dataclass(frozen=True)
class BesideReal:
    """Generated images [n, d] → their scores beside those of real images that the classifier has not seen.

    fd_classifier, fd_classifier_floor: `frechet_distance` of the 64 features to those of held-out images, and that of
        two sets of real images; of equally many images each, for it falls with their number.
    recognised: the share whose class is as probable as that of .95 of the held-out images.
    """

    classifier: Classifier
    features: np.ndarray  # of held-out images [m, 64], in random order
    floor: float | None  # None where there are fewer than two images
    confidence: float  # the probability that .95 of the held-out images reach
    real: dict[str, float | None]  # the same scores of held-out images

    @classmethod
    def of(cls, classifier: Classifier, held_out: np.ndarray, unseen: np.ndarray) -> "BesideReal":
        """Beside `held_out` [n, d] and `unseen` [m, d], both real and neither seen by the classifier."""
        m = min(len(held_out), len(unseen))
        shuffled = np.random.default_rng(2).permutation(classifier.features(held_out))[:m]
        floor = frechet_distance(shuffled, classifier.features(unseen[:m])) if m > 1 else None
        confidences = classifier.confidences(held_out)
        level = float(np.quantile(confidences, 1.0 - RECOGNISED))
        real = {"fd_classifier": floor, "recognised": float(np.mean(confidences >= level))}
        return cls(classifier, shuffled, floor, level, real)

    def __call__(self, images: np.ndarray) -> dict[str, float | None]:
        distance = None
        if self.floor is not None:
            distance = frechet_distance(self.features, self.classifier.features(images[: len(self.features)]))
        recognised = float(np.mean(self.classifier.confidences(images) >= self.confidence))
        return {"fd_classifier": distance, "fd_classifier_floor": self.floor, "recognised": recognised}


def _in_blocks(network: Network, parameters: Any, images: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(logits, features) of images [n, d], `AT_ONCE` at a time."""
    pixels = np.asarray(images, np.float32)
    starts = range(0, max(len(pixels), 1), AT_ONCE)
    found = [_apply(network, parameters, pixels[start : start + AT_ONCE]) for start in starts]
    logits, features = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return logits, features


@partial(jax.jit, static_argnames="network")
def _apply(network: Network, parameters: Any, images: jax.Array) -> Any:
    """(logits, features) of the images, compiled once a shape."""
    return network.apply(parameters, images)


@partial(jax.jit, static_argnames=("network", "steps"))
def _fit(key: jax.Array, images: jax.Array, labels: jax.Array, *, network: Network, steps: int) -> Any:
    """Parameters after `steps` of Adam on the cross-entropy, the rate falling to 0 along a cosine."""
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))

    def draw(key):
        row_key, shift_key = jax.random.split(key)
        rows = jax.random.randint(row_key, (BATCH,), 0, len(images))
        return _shifted(shift_key, images[rows], *square_of(images.shape[1])), labels[rows]

    def loss(parameters, batch):
        logits, _ = network.apply(parameters, batch[0])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    def step(_, state, batch):
        parameters, moments = state
        updates, moments = optimizer.update(jax.grad(loss)(parameters, batch), moments)
        return (optax.apply_updates(parameters, updates), moments), {}

    init_key, run_key = jax.random.split(key)
    parameters = network.init(init_key, images[:1])
    state, _ = fitting.steps(step, draw, run_key, (parameters, optimizer.init(parameters)), 0, steps)
    return state[0]


def _shifted(key: jax.Array, images: jax.Array, side: int, channels: int = 1) -> jax.Array:
    """The images [b, side² · channels], each moved by its own random whole pixels, at most side // 14 along each axis.

    The gap is filled with -1, in colour with the pixels at the edge.
    """
    limit = side // MOVED
    if limit == 0:
        return images
    square, margin = images.reshape(-1, side, side, channels), ((0, 0), (limit, limit), (limit, limit), (0, 0))
    edge = jnp.pad(square, margin, mode="edge") if channels > 1 else jnp.pad(square, margin, constant_values=-1)
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * limit + 1)

    def moved(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (side, side, channels))

    return jax.vmap(moved)(edge, corners).reshape(images.shape)
