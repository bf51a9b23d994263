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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from estimators.samples.arrays import DataError, printable
from fgan.config.schema import Data
from fgan.data.image_set import MINIMUM, SIDES, Folder, ImageSet, shown

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
HELD_OUT_FOLDERS = ("test", "val", "valid", "validation")
HUGE = 50_000_000
"""Pixels beyond which a picture is refused before it is decoded: 150 MB in colour; a camera's have up to 50 million."""
NAMED = 3  # of the pictures left out, in a note
GREY, COLOUR = ("1", "L"), ("RGB", "P", "CMYK", "YCbCr", "LAB", "HSV")


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
    paths = sorted(_walk(folder))
    if len(paths) < MINIMUM:
        raise DataError(f"{shown(folder)}: only {len(paths)} pictures; at least {MINIMUM} are needed to train on")
    with ThreadPoolExecutor() as pool:  # decoding releases Python's lock
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
    return _folder(folder, usable, images, tuple(notes))


def _walk(folder: Path):
    """Every picture below the folder. Raises DataError where a folder may not be read."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{printable(str(error.filename))}: {error.strerror}; allow reading it, or move it elsewhere")

    for directory, inner, names in os.walk(folder, onerror=refuse):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(directory, name) for name in names if _is_picture(name))


def _is_picture(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


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


def _opened(path: Path) -> Image.Image:
    """A picture whose header has been read. Raises Unusable."""
    try:
        return Image.open(path)
    except UnidentifiedImageError:
        what = "empty" if not path.stat().st_size else "no picture, whatever its name says"
        raise Unusable(f"{what}; remove it") from None
    except Image.DecompressionBombError:
        raise Unusable(f"more than {HUGE:,} pixels; make it smaller") from None
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for a damaged header of a PNG
        raise Unusable(f"{getattr(error, 'strerror', None) or error}; allow reading it, or remove it") from error


def _facts(path: Path) -> Facts:
    """Size and colour, from the header alone. Raises Unusable."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # ours, below, is stricter
        image = _opened(path)
    with image:
        width, height = image.size
        if width * height > HUGE:
            raise Unusable(f"{width} × {height} pixels are more than {HUGE:,}; make it smaller")
        if getattr(image, "n_frames", 1) > 1:
            raise Unusable(f"animated, {image.n_frames} pictures in one; save each on its own")  # type: ignore[attr-defined]
        if image.mode.startswith("I") or image.mode == "F":
            raise Unusable(f"more than 8 bits a channel (mode {image.mode}); convert it to 8 bits")
        transparent = ("A" in image.getbands() and image.mode != "LAB") or "transparency" in image.info
        if transparent and not _opaque(image):
            raise Unusable("transparent in part; lay it over a background and save it without transparency")
        if image.getexif().get(0x0112, 1) >= 5:  # turned by a quarter
            width, height = height, width
        return Facts(width, height, image.mode not in (*GREY, "LA", "La"))


def _opaque(image: Image.Image) -> bool:
    """Whether a picture with transparency uses none. Raises Unusable where it is damaged."""
    try:
        return image.convert("RGBA").getchannel("A").getextrema() == (255, 255)
    except (OSError, ValueError, SyntaxError) as error:
        raise Unusable(f"damaged ({error}); remove it") from error


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
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB" if colour else "L")
    except (OSError, ValueError, SyntaxError) as error:
        raise Unusable(f"damaged ({error}); remove it") from error
    if fit == "crop":
        upright = ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)
    elif upright.size != (side, side):
        upright = upright.resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(upright)


def _folder(folder: Path, paths: Sequence[Path], images: np.ndarray, notes: tuple[str, ...]) -> Folder:
    """The images with their classes, those below a folder of test pictures apart."""
    parts = [path.relative_to(folder).parts[:-1] for path in paths]
    tested = np.array([bool(inner) and inner[0].lower() in HELD_OUT_FOLDERS for inner in parts])
    apart = tested.any() and all(inner and (t or inner[0].lower() == "train") for inner, t in zip(parts, tested))
    classes = [inner[int(apart) :][:1] for inner in parts]
    names = sorted({found[0] for found in classes if found})
    labels = None
    if len(names) > 1 and all(classes):
        labels = np.array([names.index(found[0]) for found in classes], np.int32)
        notes = (
            f"{len(names)} classes, by folder: {', '.join(map(printable, names[:8]))}" + ", …" * (len(names) > 8),
            *notes,
        )
    everything = ImageSet(images, labels)
    train, test = everything, None
    if apart:
        train, test = everything.taken(np.flatnonzero(~tested)), everything.taken(np.flatnonzero(tested))
        if len(train.images) < MINIMUM:
            raise DataError(
                f"{shown(folder)}: only {len(train.images)} pictures in train, at least {MINIMUM} are needed"
            )
    count = f"{len(train.images):,} pictures" + (f" and {len(test.images):,} held out" if test else "")
    return Folder(train, test, (f"{count}, as squares of {train.described()}, from {shown(folder)}", *notes))
