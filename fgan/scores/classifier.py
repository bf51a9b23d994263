"""A small classifier of real images whose penultimate layer is the feature space in which generated ones are compared.

Images are flat rows [n, d] with pixels in [-1, 1], -1 the background. It is trained once on real images, a fifth of
them held out; `class_scores` then compares any two image sets through it. Scores mean something only beside those of
held-out real images under the same classifier: call `class_scores` on both.
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
from fgan.scores.precision_recall import histogram_kl, precision_recall

FEATURES = 64
BATCH = 128
LEARNING_RATE = 2e-3


class Network(nn.Module):
    """Two hidden relu layers, [n, d] → logits [n, classes] and the second hidden layer [n, 64]."""

    classes: int
    width: int

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = nn.relu(nn.Dense(self.width)(images))
        features = nn.relu(nn.Dense(FEATURES)(hidden))
        return nn.Dense(self.classes)(features), features


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

    def features(self, images: ArrayLike) -> np.ndarray:
        """[n, 64] float32: the penultimate layer after its relu."""
        return self._forward(images)[1]

    def _forward(self, images: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        logits, features = _apply(self.network, self.parameters, np.asarray(images, np.float32))
        return np.asarray(logits), np.asarray(features)


def train_classifier(
    images: ArrayLike, labels: ArrayLike, *, seed: int = 0, steps: int = 1500, width: int = 256
) -> Classifier:
    """A `Classifier` fitted by `steps` of Adam on four fifths of the images; the fifth left is never trained on.

    Args:
        images: [n, d] in [-1, 1], n >= 5. Where d is a square of side >= 14 every image drawn is moved by
            up to side // 14 random pixels along each axis, the gap filled with -1.
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
    logits, _ = _apply(network, parameters, pixels[held_out])
    accuracy = float(np.mean(np.asarray(logits).argmax(axis=1) == targets[held_out]))
    return Classifier(network=network, parameters=parameters, held_out=np.sort(held_out), accuracy=accuracy)


def class_scores(classifier: Classifier, real: ArrayLike, fake: ArrayLike) -> dict[str, Any]:
    """How `fake` images [m, d] compare with `real` ones [n, d] under the classifier, as plain Python numbers.

    Returns:
        class_histogram: predicted classes of the fakes, a list of counts.
        class_kl, class_kl_floor: KL(fake ‖ real) between predicted class histograms, nats, and its mean
            (K−1)/2 · (1/m + 1/n) between two sets of the same law, the reference being a sample too. The KL is
            +inf where the fakes show a class that no real image was given: pass reals of every class.
        precision, recall: `precision_recall` of the 64 features.
        mean_confidence: mean probability of the predicted class over the fakes.
    """
    classes = classifier.network.classes
    histogram, reference = (np.bincount(classifier.predict(x), minlength=classes) for x in (fake, real))
    kl, floor = histogram_kl(histogram, reference)
    precision, recall = precision_recall(classifier.features(real), classifier.features(fake))
    return {
        "class_histogram": histogram.tolist(),
        "class_kl": kl,
        "class_kl_floor": floor * float(1 + histogram.sum() / reference.sum()),
        "precision": precision,
        "recall": recall,
        "mean_confidence": float(classifier.probabilities(fake).max(axis=1).mean()),
    }


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
        return _shifted(shift_key, images[rows]), labels[rows]

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


def _shifted(key: jax.Array, images: jax.Array) -> jax.Array:
    """The images [b, d], each moved by its own random whole pixels, at most side // 14 along each axis."""
    batch, dim = images.shape
    side = isqrt(dim)
    limit = side // 14 if side * side == dim else 0
    if limit == 0:
        return images
    padded = jnp.pad(images.reshape(batch, side, side), ((0, 0), (limit, limit), (limit, limit)), constant_values=-1)
    corners = jax.random.randint(key, (batch, 2), 0, 2 * limit + 1)
    crop = jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, corner, (side, side)))
    return crop(padded, corners).reshape(batch, dim)
