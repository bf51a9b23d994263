"""Folders of pictures: .png, .jpg, .jpeg and .webp, at any depth, read by Pillow.

    cats/1.jpg, cats/2.jpg, dogs/1.jpg …     a class is the first folder on the way to a picture
    1.png, 2.png …                           no classes
    train/…, test/…                          the pictures of test (or val, valid, validation) are held out

All pictures become squares of one side in one colour mode. Sizes that differ need `data.side`, and pictures that are
not square `data.fit`; grey and coloured pictures together need `data.colour`. A picture that cannot be used is refused
by name, or left out and counted where `data.broken` is skip: damaged, 16 bits a channel, transparent, animated, huge,
not readable. Pictures are turned upright where their EXIF orientation says so.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from estimators.samples.arrays import DataError, printable
from fgan.config.schema import Data
from fgan.data.image_set import MINIMUM, Folder, Images, ImageSet, shown
from fgan.data.picture import ENDINGS
from fgan.data.picture_blocks import of_paths
from fgan.data.squares import Source, squares

OTHERS = (".avif", ".bmp", ".gif", ".heic", ".jfif", ".tif", ".tiff")  # endings of pictures that are not read
TRAINING_FOLDERS = ("train", "training")
HELD_OUT_FOLDERS = ("test", "testing", "val", "valid", "validation", "dev", "eval")


def holds_pictures(folder: Path) -> bool:
    """Whether a picture lies in the folder, at any depth."""
    return any(True for _ in islice(_walk(folder), 1))


def refuse_others(folder: Path) -> None:
    """Raise DataError where pictures lie in the folder, at any depth, that are all in a format which is not read."""
    count = Counter(end for path in every_file(folder) if (end := path.suffix.lower()) in OTHERS)
    if count:
        named = ", ".join(f"{n:,} {end}" for end, n in sorted(count.items()))
        raise DataError(f"{shown(folder)}: {named}, which are not read; save them as {' or '.join(ENDINGS)}")


def read_pictures(data: Data) -> Folder:
    """The pictures below `data.path` as squares of bytes. Raises DataError naming the picture and the remedy."""
    folder = Path(os.path.expanduser(data.path))
    files = sorted(every_file(folder))
    paths = [path for path in files if path.name.lower().endswith(ENDINGS)]
    if len(paths) < MINIMUM:
        raise DataError(f"{shown(folder)}: only {len(paths)} pictures; at least {MINIMUM} are needed to train on")
    others = Counter(end for path in files if (end := path.suffix.lower()) in OTHERS)
    unread = [f"not read: {', '.join(f'{n:,} {end}' for end, n in sorted(others.items()))}"] if others else []
    images, numbers, notes = squares(Source(of_paths(paths), paths, folder), data)
    return _folder(folder, [paths[i] for i in numbers], images, (*unread, *notes))


def _walk(folder: Path) -> Iterator[Path]:
    """Every picture below the folder, behind links too. Raises DataError where a folder may not be read."""
    return (path for path in every_file(folder) if path.name.lower().endswith(ENDINGS))


def every_file(folder: Path) -> Iterator[Path]:
    """Every file below the folder that is not hidden; a folder that links lead to twice is entered once."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{printable(str(error.filename))}: {error.strerror}; allow reading it, or move it elsewhere")

    seen = set()
    for directory, inner, names in os.walk(folder, onerror=refuse, followlinks=True):
        found = os.stat(directory)
        if (found.st_dev, found.st_ino) in seen:
            inner.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(directory, name) for name in names if not name.startswith("."))


def _folder(folder: Path, paths: Sequence[Path], images: Images, notes: tuple[str, ...]) -> Folder:
    """The images with their classes, those below a folder of test pictures apart."""
    parts = [path.relative_to(folder).parts[:-1] for path in paths]
    tested = _held_out(folder, parts)
    apart = bool(tested.any())
    classes = [next(iter(inner[int(apart) :]), "") for inner in parts]
    labels, more = _labels(classes, paths, tested)
    everything = ImageSet(images, labels)
    train, test = everything, None
    if apart:
        train, test = everything.taken(np.flatnonzero(~tested)), everything.taken(np.flatnonzero(tested))
        if len(train.images) < MINIMUM:
            raise DataError(
                f"{shown(folder)}: only {len(train.images)} pictures in train, at least {MINIMUM} are needed"
            )
    count = f"{len(train.images):,} pictures" + (f" and {len(test.images):,} held out" if test else "")
    return Folder(train, test, (f"{count}, as squares of {train.described()}, from {shown(folder)}", *more, *notes))


def _held_out(folder: Path, parts: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Whether each picture lies in a folder of test pictures beside one of training pictures. Raises DataError."""
    tops = [inner[0].lower() if inner else "" for inner in parts]
    tested = np.array([top in HELD_OUT_FOLDERS for top in tops])
    trained = np.array([top in TRAINING_FOLDERS for top in tops])
    if not (tested.any() and trained.any()):
        return np.zeros(len(parts), bool)
    if other := [inner[0] if inner else "pictures" for inner, t, u in zip(parts, tested, trained) if not (t or u)]:
        raise DataError(
            f"{shown(folder)}: {printable(other[0])} beside folders of training and test pictures; move it elsewhere, "
            "or into one of them"
        )
    return tested


def _labels(classes: Sequence[str], paths: Sequence[Path], tested: np.ndarray) -> tuple[np.ndarray | None, list[str]]:
    """(the number of each picture's class, or None without classes; what the user should know)."""
    names = sorted(set(classes) - {""})
    if not names or (len(names) == 1 and "" not in classes):
        return None, []
    if "" in classes:
        stray = printable(paths[classes.index("")].name)
        return None, [
            f"no classes, since some pictures lie in no folder of their own ({stray}, …): all are scored alike"
        ]
    notes = [f"{len(names)} classes, by folder: {', '.join(map(printable, names[:8]))}" + ", …" * (len(names) > 8)]
    unseen = sorted({c for c, t in zip(classes, tested) if t} - {c for c, t in zip(classes, tested) if not t})
    if unseen:
        notes.append(f"held out, but never trained on: {', '.join(map(printable, unseen[:8]))}")
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[name] for name in classes], np.int32), notes
