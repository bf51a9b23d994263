"""One picture in a file or in bytes, read by Pillow: what its header says, its pixels as a square, or its fault."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")  # in which Pillow may read them; a camera's JPEG with a second picture is its MPO
DAMAGE = (OSError, ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, EOFError, struct.error, zlib.error)
"""What Pillow raises for a damaged file, as found by flipping bits and cutting off ends."""
HUGE = 50_000_000
"""Pixels beyond which a picture is refused before it is decoded: 150 MB in colour; a camera's have up to 50 million."""
GREY = ("1", "L", "LA", "La")  # modes of pictures without colour
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values for a turn by a quarter

Picture = Path | bytes | None
"""A file, the bytes of one, or None where a table has a row without."""


class Unusable(Exception):
    """Why one picture cannot be used, as one clause with the remedy."""


class Facts(NamedTuple):
    """What the header of a picture says."""

    width: int
    height: int
    colour: bool


def heedless() -> None:
    """Switch off Pillow's warning of large pictures, for HUGE is stricter; the caller restores the filters."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


@contextmanager
def _opened(picture: Picture) -> Iterator[Image.Image]:
    """A picture whose header has been read. Raises Unusable for what is wrong with it, here or inside."""
    if picture is None:
        raise Unusable(
            "no bytes of a picture in this row; save the pictures themselves into the table, not their paths"
        )
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture, formats=FORMATS) as image:
            yield image
    except UnidentifiedImageError:
        empty = not (len(picture) if isinstance(picture, bytes) else picture.stat().st_size)
        what = "empty" if empty else f"not in the format of {', '.join(ENDINGS)}"
        raise Unusable(f"{what}; remove it") from None
    except Image.DecompressionBombError:
        raise Unusable(f"more than {HUGE:,} pixels; make it smaller") from None
    except PermissionError as error:
        raise Unusable(f"{error.strerror}; allow reading it, or remove it") from error
    except DAMAGE as error:
        raise Unusable(f"damaged ({error}); remove it") from error


def facts(picture: Picture) -> Facts:
    """Size and colour, from the header as far as it tells. Raises Unusable."""
    with _opened(picture) as image:
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


def square(picture: Picture, side: int, colour: bool, fit: str) -> np.ndarray:
    """A picture as [side, side] or [side, side, 3] bytes. Raises Unusable where it is damaged."""
    with _opened(picture) as image:
        whole = image.convert("RGBA") if "transparency" in image.info else image  # of which a palette has many forms
        upright = ImageOps.exif_transpose(whole).convert("RGB" if colour else "L")
    if fit == "crop":
        upright = ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS)
    elif upright.size != (side, side):
        upright = upright.resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(upright)
