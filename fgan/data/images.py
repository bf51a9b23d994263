"""Images of the user's own: pictures in a folder or in Parquet, a folder of IDX files, or a stack in .npy or .npz."""

import math
import os
from pathlib import Path

import numpy as np

from estimators.samples.arrays import DataError, printable
from estimators.samples.files import read_array
from fgan.config.schema import Data
from fgan.data.dataset import HELD_OUT, Dataset, Pixels
from fgan.data.idx_images import holds_idx, read_images
from fgan.data.image_set import MINIMUM, SIDES, Folder, Images, ImageSet, listed, shown
from fgan.data.parquet_images import parquet_files, read_parquet_images
from fgan.data.picture import ENDINGS
from fgan.data.picture_files import holds_pictures, read_pictures, refuse_others
from fgan.data.stored_rows import LARGE, StoredRows

MOST_HELD_OUT = 50_000
"""Of images that come without test images: a score of so many has a standard error below half a per cent, and all of
them are classified at every evaluation."""


def own_images(data: Data) -> Dataset:
    """The images at `data.path` in [−1, 1], in random order, its test images held out or else a fifth."""
    return of_folder("images", _read(data))


def of_folder(name: str, found: Folder) -> Dataset:
    """The images that a source holds as a data set of that name."""
    train, test, notes = found
    order = np.random.default_rng(0).permutation(len(train.images))  # as a draw: the files may be sorted
    if test is None:
        held_out, order = np.split(order, [min(int(HELD_OUT * len(order)), MOST_HELD_OUT)])
        notes = (*notes, f"no test images: {len(held_out):,} of the training images are held out")
        test = train.taken(held_out)
    train = train.taken(order)
    labels = held_out_labels = None
    if train.labels is not None and test.labels is not None:  # as 0, 1, … without gaps: EMNIST's letters begin with 1
        _, classes = np.unique(np.concatenate([train.labels, test.labels]), return_inverse=True)
        labels, held_out_labels = np.split(classes.astype(np.int32), [len(train.labels)])
    dim = math.prod(train.images.shape[1:])
    return Dataset(
        name=name,
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
    if path.is_file() and (tables := parquet_files(path)):
        return read_parquet_images(tables, data)
    idx = not stack and holds_idx(listed(path))
    if not stack and not idx:
        if holds_pictures(path):
            return read_pictures(data)
        if tables := parquet_files(path):
            return read_parquet_images(tables, data)
        refuse_others(path)
    for name in ("side", "fit", "colour", "broken"):
        if (value := getattr(data, name)) != getattr(Data, name):
            raise DataError(
                f"data.{name} = {value}: only pictures are changed in size or colour; save these as you want them"
            )
    return read_stack(path, data.key) if stack else read_images(path, data.key)


def read_stack(path: Path, key: str = "") -> Folder:
    """Images uint8 [n, side, side], or [n, side, side, 1 or 3], of a .npy file or a member of an .npz."""
    images = read_array(path, key=key or None, mapped=True)
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
    train = ImageSet(_kept(images, path), None)
    return Folder(train, None, (f"{n:,} images of {train.described()}, from {printable(path.name)}",))


def _kept(images: np.ndarray, path: Path) -> Images:
    """Images of a mapped file: left there where they are LARGE, else in memory."""
    if isinstance(images, np.memmap) and images.nbytes > LARGE:
        return StoredRows.of(path, images.offset, images.shape)
    return np.array(images) if isinstance(images, np.memmap) else images
