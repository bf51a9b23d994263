"""Images of the user's own: a folder of pictures or of IDX files, or a stack in .npy or .npz."""

import os
from pathlib import Path

import numpy as np

from estimators.samples.arrays import DataError, printable
from estimators.samples.files import read_array
from fgan.config.schema import Data
from fgan.data.dataset import HELD_OUT, Dataset, Pixels
from fgan.data.idx_images import holds_idx, read_images
from fgan.data.image_set import MINIMUM, SIDES, Folder, ImageSet, listed, shown
from fgan.data.picture_files import ENDINGS, holds_pictures, read_pictures


def own_images(data: Data) -> Dataset:
    """The images at `data.path` in [−1, 1], in random order, its test images held out or else a fifth."""
    train, test, notes = _read(data)
    order = np.random.default_rng(0).permutation(len(train.images))  # as a draw: the files may be sorted
    if test is None:
        held_out, order = np.split(order, [int(HELD_OUT * len(order))])
        notes = (*notes, f"no test images: {len(held_out):,} of the training images are held out")
        test = train.taken(held_out)
    train = train.taken(order)
    labels = held_out_labels = None
    if train.labels is not None and test.labels is not None:  # as 0, 1, … without gaps: EMNIST's letters begin with 1
        _, classes = np.unique(np.concatenate([train.labels, test.labels]), return_inverse=True)
        labels, held_out_labels = np.split(classes.astype(np.int32), [len(train.labels)])
    dim = train.images[0].size
    return Dataset(
        name="images",
        dim=dim,
        rows=Pixels(train.rows()),
        held_out=Pixels(test.rows()),
        labels=labels,
        held_out_labels=held_out_labels,
        side=train.images.shape[1],
        offset=np.full(dim, 127.5),
        scale=np.full(dim, 127.5),
        notes=notes,
    )


def _read(data: Data) -> Folder:
    """What lies at `data.path`, by what it is."""
    path = Path(os.path.expanduser(data.path))
    stack = path.suffix.lower() in (".npy", ".npz")
    if path.is_file() and path.suffix.lower() in ENDINGS:
        raise DataError(f"{shown(path)}: one picture; name the folder that holds many")
    if not stack and not holds_idx(listed(path)) and holds_pictures(path):
        return read_pictures(data)
    for name in ("side", "fit", "colour", "broken"):
        if (value := getattr(data, name)) != getattr(Data, name):
            raise DataError(
                f"data.{name} = {value}: only pictures are changed in size or colour; save these as you want them"
            )
    return read_stack(path, data.key) if stack else read_images(path, data.key)


def read_stack(path: Path, key: str = "") -> Folder:
    """Images uint8 [n, side, side], or [n, side, side, 1 or 3], of a .npy file or a member of an .npz."""
    images = read_array(path, key=key or None)
    grey = images.ndim == 4 and images.shape[-1] == 1
    images = images[..., 0] if grey else images
    colour = images.ndim == 4 and images.shape[-1] == 3
    if images.dtype != np.uint8 or not (images.ndim == 3 or colour):
        raise DataError(
            f"{shown(path)}: {images.dtype}, shape {images.shape}; a stack of images is uint8, "
            "n × height × width, or × 3 in colour"
        )
    n, height, width = images.shape[:3]
    if height != width or height not in SIDES:
        raise DataError(
            f"{shown(path)}: images of {height} × {width} pixels; square ones are needed, of {SIDES[0]} to {SIDES[-1]} "
            "pixels a side: crop or pad them"
        )
    if n < MINIMUM:
        raise DataError(f"{shown(path)}: only {n} images; at least {MINIMUM} are needed to train on")
    train = ImageSet(images, None)
    return Folder(train, None, (f"{n:,} images of {train.described()}, from {printable(path.name)}",))
