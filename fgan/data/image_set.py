"""Images as bytes, and what every source of them shares."""

import os
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from estimators.samples.arrays import DataError, printable
from fgan.data.stored_rows import StoredRows

MINIMUM = 10
"""Least number of images to train on; two of them are held out, where there are no test images."""
SIDES = range(4, 257)
"""Sides in pixels that the networks are made for; tried from 8 to 128."""


Images = np.ndarray | StoredRows
"""[n, side, side] or, in colour, [n, side, side, 3], uint8, in memory or in a file."""


class ImageSet(NamedTuple):
    """Images and their labels [n], integers, or None."""

    images: Images
    labels: np.ndarray | None

    def taken(self, order: np.ndarray) -> Self:
        """Those images, with their labels."""
        images = self.images.taken(order) if isinstance(self.images, StoredRows) else self.images[order]
        return self._replace(images=images, labels=None if self.labels is None else self.labels[order])

    def upright(self) -> Self:
        """The images transposed."""
        return self._replace(images=np.asarray(self.images).swapaxes(1, 2))

    def rows(self) -> Images:
        """[n, side² · channels] uint8."""
        if isinstance(self.images, StoredRows):
            return self.images.flat()
        return np.ascontiguousarray(self.images.reshape(len(self.images), -1))

    def described(self) -> str:
        """Size and colours, in words."""
        _, height, width, *channels = self.images.shape
        return f"{height} × {width} pixels" + " in colour" * bool(channels)


class Folder(NamedTuple):
    """What a source holds: images to train on, those to hold out if it has such, and what the user should know."""

    train: ImageSet
    test: ImageSet | None
    notes: tuple[str, ...]


def listed(folder: Path) -> list[str]:
    """The names in a folder, those of folders with a slash at the end."""
    remedy = "name the folder that holds train-images-idx3-ubyte or its .gz, or pictures (.png, .jpg, .webp)"
    try:
        return [entry.name + "/" * entry.is_dir() for entry in os.scandir(folder)]
    except NotADirectoryError:
        raise DataError(f"{shown(folder)}: a file, not a folder; {remedy}") from None
    except (OSError, ValueError) as error:  # a name with a zero byte in it is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{shown(folder)}: {reason}; {remedy}") from error


def shown(path: Path) -> str:
    """A path as a message may hold it."""
    return printable(os.fspath(path))
