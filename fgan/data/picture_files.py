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
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from estimators.samples.arrays import DataError, printable
from fgan.config.schema import Data
from fgan.data.image_set import MINIMUM, SIDES, Folder, ImageSet, shown

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")  # in which Pillow may read them; a camera's JPEG with a second picture is its MPO
OTHERS = (".avif", ".bmp", ".gif", ".heic", ".jfif", ".tif", ".tiff")  # endings of pictures that are not read
DAMAGE = (OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, EOFError, struct.error, zlib.error)
"""What Pillow raises for a damaged file, as found by flipping bits and cutting off ends."""
TRAINING_FOLDERS = ("train", "training")
HELD_OUT_FOLDERS = ("test", "testing", "val", "valid", "validation", "dev", "eval")
HUGE = 50_000_000
"""Pixels beyond which a picture is refused before it is decoded: 150 MB in colour; a camera's have up to 50 million."""
NAMED = 3  # of the pictures left out, in a note
GREY = ("1", "L", "LA", "La")  # modes of pictures without colour
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values for a turn by a quarter


class Unusable(Exception):
    """Why one picture cannot be used, as one clause with the remedy."""


class Facts(NamedTuple):
    """What the header of a picture says."""

    width: int
    height: int
    colour: bool


def holds_pictures(folder: Path) -> bool:
    """Whether a picture lies in the folder, at any depth."""
    return any(True for _ in islice(_walk(folder), 1))


def read_pictures(data: Data) -> Folder:
    """The pictures below `data.path` as squares of bytes. Raises DataError naming the picture and the remedy."""
    folder = Path(os.path.expanduser(data.path))
    files = sorted(_files(folder))
    paths = [path for path in files if path.name.lower().endswith(ENDINGS)]
    if len(paths) < MINIMUM:
        raise DataError(f"{shown(folder)}: only {len(paths)} pictures; at least {MINIMUM} are needed to train on")
    others = Counter(end for path in files if (end := path.suffix.lower()) in OTHERS)
    unread = [f"not read: {', '.join(f'{n:,} {end}' for end, n in sorted(others.items()))}"] if others else []
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:  # decoding releases Python's lock
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # HUGE is stricter
        facts = list(pool.map(_attempted(_facts), paths))
        usable, notes = _usable(paths, facts, data, folder)
        side, colour = _form([found for found in facts if isinstance(found, Facts)], usable, data, folder)
        images = np.empty((len(usable), side, side, *(3,) * colour), np.uint8)

        def decode(i: int) -> None:
            images[i] = _decoded(usable[i], side, colour, data.fit)

        results = list(pool.map(_attempted(decode), range(len(usable))))
    if any(isinstance(result, Unusable) for result in results):
        sound = np.array([not isinstance(result, Unusable) for result in results])
        usable, more = _usable(usable, results, data, folder)
        images, notes = images[sound], notes + more
    return _folder(folder, usable, images, (*unread, *notes))


def _walk(folder: Path) -> Iterator[Path]:
    """Every picture below the folder, behind links too. Raises DataError where a folder may not be read."""
    return (path for path in _files(folder) if path.name.lower().endswith(ENDINGS))


def _files(folder: Path) -> Iterator[Path]:
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


def _attempted(read):
    """`read` with what makes a picture unusable returned in place of raised, so that all of them are looked at."""

    def attempt(path):
        try:
            return read(path)
        except Unusable as fault:
            return fault

    return attempt


def _usable(paths: Sequence[Path], results: Sequence, data: Data, folder: Path) -> tuple[list[Path], list[str]]:
    """The paths without a fault, and a note about the others. Raises DataError unless those may be left out."""
    faults = {path: result for path, result in zip(paths, results) if isinstance(result, Unusable)}
    if not faults:
        return list(paths), []
    first, fault = next(iter(faults.items()))
    if data.broken == "raise":
        more = f" ({len(faults) - 1:,} more like it)" if len(faults) > 1 else ""
        raise DataError(f"{shown(first)}: {fault}; or leave such pictures out by --data.broken skip{more}")
    kept = [path for path in paths if path not in faults]
    if len(kept) < MINIMUM:
        raise DataError(
            f"{shown(folder)}: {len(kept)} of {len(paths)} pictures can be used, at least {MINIMUM} are needed; "
            f"{shown(first)}: {fault}"
        )
    names = ", ".join(f"{printable(path.name)} ({fault})" for path, fault in islice(faults.items(), NAMED))
    return kept, [f"{len(faults):,} of {len(paths):,} pictures left out: {names}" + ", …" * (len(faults) > NAMED)]


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture whose header has been read. Raises Unusable for what is wrong with it, here or inside."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except UnidentifiedImageError:
        what = "empty" if not path.stat().st_size else f"not in the format of {', '.join(ENDINGS)}"
        raise Unusable(f"{what}; remove it") from None
    except Image.DecompressionBombError:
        raise Unusable(f"more than {HUGE:,} pixels; make it smaller") from None
    except PermissionError as error:
        raise Unusable(f"{error.strerror}; allow reading it, or remove it") from error
    except DAMAGE as error:
        raise Unusable(f"damaged ({error}); remove it") from error


def _facts(path: Path) -> Facts:
    """Size and colour, from the header as far as it tells. Raises Unusable."""
    with _opened(path) as image:
        width, height = image.size
        if width * height > HUGE:
            raise Unusable(f"{width} × {height} pixels are more than {HUGE:,}; make it smaller")
        if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
            raise Unusable(f"animated, {frames} pictures in one; save each on its own")
        if image.mode.startswith("I") or image.mode == "F":
            raise Unusable(f"more than 8 bits a channel (mode {image.mode}); convert it to 8 bits")
        transparent = ("A" in image.getbands() and image.mode != "LAB") or "transparency" in image.info
        if transparent and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise Unusable("transparent in part; lay it over a background and save it without transparency")
        if width != height and image.getexif().get(ORIENTATION) in TURNED:
            width, height = height, width
        return Facts(width, height, image.mode not in GREY)


def _form(facts: Sequence[Facts], paths: Sequence[Path], data: Data, folder: Path) -> tuple[int, bool]:
    """(side, whether in colour) of the images to be made. Raises DataError where the user must say."""
    at = shown(folder)
    grey = sum(not found.colour for found in facts)
    if data.colour == "as_is" and 0 < grey < len(facts):
        of_each = [next(path for path, f in zip(paths, facts) if f.colour == colour) for colour in (False, True)]
        raise DataError(
            f"{at}: {grey:,} grey pictures ({printable(of_each[0].name)}, …) and {len(facts) - grey:,} in colour "
            f"({printable(of_each[1].name)}, …); choose --data.colour grey or rgb"
        )
    colour = data.colour == "rgb" or (data.colour == "as_is" and not grey)
    sizes = {(found.width, found.height): path for found, path in zip(reversed(facts), reversed(paths))}
    square = all(width == height for width, height in sizes)
    if not data.side and len(sizes) > 1:
        (a, first), (b, second) = sorted(sizes.items())[:: len(sizes) - 1][:2]
        both = " and ".join(f"{w} × {h} ({printable(p.name)})" for (w, h), p in ((a, first), (b, second)))
        raise DataError(f"{at}: pictures of {len(sizes)} sizes, such as {both}; name one side, as in --data.side 32")
    ((width, height), *_) = sizes
    if not square and data.fit == "as_is":
        path = next(path for (w, h), path in sizes.items() if w != h)
        raise DataError(f"{shown(path)}: not square; choose --data.fit crop (the middle) or resize (the whole)")
    side = data.side or min(width, height)
    if side not in SIDES:
        raise DataError(
            f"{at}: pictures of {side} pixels a side; the networks are made for {SIDES[0]} to {SIDES[-1]}: name such a "
            "side, as in --data.side 64"
        )
    return side, colour


def _decoded(path: Path, side: int, colour: bool, fit: str) -> np.ndarray:
    """A picture as [side, side] or [side, side, 3] bytes. Raises Unusable where it is damaged."""
    with _opened(path) as image:
        whole = image.convert("RGBA") if "transparency" in image.info else image  # of which a palette has many forms
        upright = ImageOps.exif_transpose(whole).convert("RGB" if colour else "L")
    if fit == "crop":
        upright = ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)
    elif upright.size != (side, side):
        upright = upright.resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(upright)


def _folder(folder: Path, paths: Sequence[Path], images: np.ndarray, notes: tuple[str, ...]) -> Folder:
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
    return np.array([names.index(name) for name in classes], np.int32), notes
