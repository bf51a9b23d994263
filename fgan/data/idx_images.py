"""Folders of IDX files: MNIST, Fashion-MNIST, EMNIST and whatever is stored under their names.

    train-images-idx3-ubyte            required
    train-labels-idx1-ubyte            optional
    t10k-images-idx3-ubyte             optional; EMNIST says test for t10k
    t10k-labels-idx1-ubyte             optional

each with or without .gz, unpacked ones first; `emnist-<split>-` in front names one of EMNIST's splits. EMNIST stores
images transposed: they are turned upright.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from estimators.samples.arrays import DataError, printable
from estimators.samples.files import read_array
from fgan.data.image_set import MINIMUM, Folder, ImageSet, listed, shown

_NAME = re.compile(
    r"(?:emnist-(?P<split>[a-z]+)-)?(?P<subset>train|t10k|test)-(?P<what>images|labels)[-.]idx[13]-ubyte(\.gz)?"
)


def holds_idx(names: Iterable[str]) -> bool:
    """Whether any of the names in a folder is that of such a file."""
    return any(_NAME.fullmatch(name) for name in names)


def read_images(path: str | os.PathLike[str], split: str = "") -> Folder:
    """The images of a folder of IDX files, as the bytes they are stored as.

    `split` is which of EMNIST's splits. Left empty: the files without one, or the only one there is.

    Raises:
        DataError: no such folder or files, several splits, files that cannot be read, pixels that are not bytes,
            images that are not square or differ in size from training to test, or labels of another number.
    """
    folder = Path(os.path.expanduser(path))
    split, files = _chosen(folder, split)
    train = _image_set(files, "train")
    if len(train.images) < MINIMUM:
        at = shown(files["train", "images"])
        raise DataError(f"{at}: only {len(train.images)} images; at least {MINIMUM} are needed to train on")
    test = _image_set(files, "test") if ("test", "images") in files else None
    if test is not None and test.images.shape[1:] != train.images.shape[1:]:
        sizes = " and ".join("{} × {}".format(*images.shape[1:]) for images, _ in (train, test))
        raise DataError(f"{shown(folder)}: training and test images differ in size, {sizes} pixels; use one set")
    tested = f"and {len(test.images):,} test images" if test is not None else "images"
    size = "{} × {}".format(*train.images.shape[1:])
    notes = [f"{len(train.images):,} training {tested} of {size} pixels, from {shown(folder)}"]
    if split:
        notes.append(f"EMNIST, split {split}: stored transposed, turned upright")
        train, test = train.upright(), test and test.upright()
    if train.labels is None or (test is not None and test.labels is None):
        notes.append("no labels for all of them: scored by precision and recall of their pixels, not by their classes")
        train, test = train._replace(labels=None), test and test._replace(labels=None)
    return Folder(train, test, tuple(notes))


def _chosen(folder: Path, split: str) -> tuple[str, dict[tuple[str, str], Path]]:
    """The split, and its files by subset (train, test) and content (images, labels)."""
    name, found = shown(folder), listed(folder)
    splits: dict[str, dict[tuple[str, str], Path]] = {}
    for entry in sorted(found):
        if match := _NAME.fullmatch(entry):
            subset = "train" if match["subset"] == "train" else "test"
            splits.setdefault(match["split"] or "", {}).setdefault((subset, match["what"]), folder / entry)
    usable = sorted(s for s, files in splits.items() if ("train", "images") in files)
    wanted = f"emnist-{split}-train-images-idx3-ubyte" if split else "train-images-idx3-ubyte"
    if not usable or (split and split not in usable):
        there = ", ".join(printable(entry) for entry in sorted(found)[:8]) or "nothing"
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        remedy = f"choose --data.key from {', '.join(filter(None, usable))}" if any(usable) else "name their folder"
        raise DataError(f"{name}: no {wanted} or .gz of it, and no pictures; it holds {there}{more}; {remedy}")
    if not split and len(usable) > 1 and "" not in usable:
        raise DataError(f"{name}: {len(usable)} splits, {', '.join(usable)}; choose one, as in --data.key {usable[0]}")
    split = split or usable[0]  # "" comes first
    return split, splits[split]


def _image_set(files: dict[tuple[str, str], Path], subset: str) -> ImageSet:
    """The images of a subset (train, test), and its labels if there are any."""
    path = files[subset, "images"]
    images = read_array(path)
    if images.dtype != np.uint8 or images.ndim != 3:
        raise DataError(f"{shown(path)}: {images.dtype}, shape {images.shape}; images are uint8, n × height × width")
    n, height, width = images.shape
    if height != width or not height:
        raise DataError(f"{shown(path)}: images of {height} × {width} pixels; only square ones: crop or pad them")
    if (subset, "labels") not in files:
        return ImageSet(images, None)
    path = files[subset, "labels"]
    labels = read_array(path)
    if labels.dtype.kind not in "ui" or labels.shape != (n,):
        raise DataError(
            f"{shown(path)}: {labels.dtype}, shape {labels.shape}, for {n} images; labels are one whole number an "
            "image: take both files from one source, or remove this one to train without"
        )
    return ImageSet(images, labels)
