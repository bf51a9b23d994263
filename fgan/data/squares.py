"""Pictures of a folder or table as squares of bytes of one size and mode, and what the user must say or should know.

Few of them come in memory. Many are decoded once into a file (`picture_cache`), and come as rows of it.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL

from estimators.samples.arrays import DataError, printable
from fgan.config.schema import Data
from fgan.data import decoding, picture_cache
from fgan.data.decoding import Form
from fgan.data.image_set import MINIMUM, SIDES, Images, shown
from fgan.data.picture import Facts
from fgan.data.picture_blocks import Block
from fgan.data.stored_rows import LARGE, StoredRows

NAMED = 3  # of the pictures left out, in a note
VERSION = 1  # of how pictures become squares; another number makes decoded ones anew


class Squares(NamedTuple):
    """images [n, side, side(, 3)] uint8 of the pictures of these `numbers` [n], and what the user should know."""

    images: Images
    numbers: np.ndarray
    notes: tuple[str, ...]


class Source(NamedTuple):
    """Pictures in blocks, the files that they lie in, and the folder or file as the user named it."""

    blocks: Sequence[Block]
    files: Sequence[Path]
    at: Path


def squares(source: Source, data: Data) -> Squares:
    """The usable pictures as `data` wants them. Raises DataError naming a picture and the remedy."""
    total = sum(map(len, source.blocks))
    many = total * SIDES[-1] ** 2 * 3 > LARGE  # or so many as may be large
    key = _key(source, data) if many else ""
    if many and (there := picture_cache.found(key)) is not None:
        return _taken(source, data, *there)
    facts = decoding.look(source.blocks)
    faults = [fact if isinstance(fact, str) else None for fact in facts]
    _refuse(source, faults, data)
    usable = np.array([fault is None for fault in faults])
    form = _form(facts, data, source)
    if int(usable.sum()) * math.prod(form.shape) <= LARGE:
        images, damaged = decoding.in_memory(source.blocks, usable, form)
        return _taken(source, data, images, _merged(faults, damaged))

    def decode(draft: Path) -> list[str | None]:
        found = _merged(faults, decoding.into_file(source.blocks, usable, form, draft))
        _refuse(source, found, data)
        return found

    return _taken(source, data, *picture_cache.make(key, (total, *form.shape), decode))


def _key(source: Source, data: Data) -> str:
    form = (VERSION, PIL.__version__, data.side, data.fit, data.colour, data.broken, data.key)
    return picture_cache.key_of(source.files, form)


def _merged(faults: Sequence[str | None], damaged: Sequence[str | None]) -> list[str | None]:
    """The faults of headers, and those of the pictures behind sound ones, which came later, in order."""
    later = iter(damaged)
    return [next(later) if fault is None else fault for fault in faults]


def _taken(source: Source, data: Data, images: Images, faults: list[str | None]) -> Squares:
    """The sound ones of the images, of which memory holds those with a sound header, a file has a row for each."""
    _refuse(source, faults, data)
    numbers = np.flatnonzero([fault is None for fault in faults])
    if isinstance(images, StoredRows):
        place = f"decoded once into {shown(images.file.path)}; delete it whenever you like"
        return Squares(images.taken(numbers), numbers, (*_left_out(source, faults), place))
    return Squares(images, numbers, _left_out(source, faults))


def _refuse(source: Source, faults: Sequence[str | None], data: Data) -> None:
    """Raise DataError for faults, unless such pictures may be left out and enough stay."""
    count = sum(fault is not None for fault in faults)
    if not count:
        return
    first, fault = next(_faulty(source, faults))
    if data.broken == "raise":
        more = f" ({count - 1:,} more like it)" if count > 1 else ""
        raise DataError(f"{printable(first)}: {fault}; or leave such pictures out by --data.broken skip{more}")
    if (kept := len(faults) - count) < MINIMUM:
        raise DataError(
            f"{shown(source.at)}: {kept} of {len(faults)} pictures can be used, at least {MINIMUM} are needed; "
            f"{printable(first)}: {fault}"
        )


def _left_out(source: Source, faults: Sequence[str | None]) -> tuple[str, ...]:
    """A note about the pictures that are left out, if there are any."""
    count = sum(fault is not None for fault in faults)
    if not count:
        return ()
    named = islice(_faulty(source, faults), NAMED)
    names = ", ".join(f"{printable(Path(name).name)} ({fault})" for name, fault in named) + ", …" * (count > NAMED)
    return (f"{count:,} of {len(faults):,} pictures left out: {names}",)


def _faulty(source: Source, faults: Sequence[str | None]) -> Iterator[tuple[str, str]]:
    """(name, fault) of each picture that has one."""
    return ((name, fault) for name, fault in zip(_names(source), faults) if fault is not None)


def _names(source: Source) -> Iterator[str]:
    return chain.from_iterable(block.names() for block in source.blocks)


def _form(facts: Sequence[Facts | str], data: Data, source: Source) -> Form:
    """What the pictures become. Raises DataError where the user must say."""
    at = shown(source.at)
    named = [(name, fact) for name, fact in zip(_names(source), facts) if isinstance(fact, Facts)]
    grey = sum(not fact.colour for _, fact in named)
    if data.colour == "as_is" and 0 < grey < len(named):
        of_each = [next(name for name, fact in named if fact.colour == colour) for colour in (False, True)]
        one, other = (printable(Path(name).name) for name in of_each)
        raise DataError(
            f"{at}: {grey:,} grey pictures ({one}, …) and {len(named) - grey:,} in colour "
            f"({other}, …); choose --data.colour grey or rgb"
        )
    sizes = {(fact.width, fact.height): name for name, fact in reversed(named)}
    if not data.side and len(sizes) > 1:
        ends = sorted(sizes.items())[:: len(sizes) - 1][:2]
        both = " and ".join(f"{w} × {h} ({printable(Path(name).name)})" for (w, h), name in ends)
        raise DataError(f"{at}: pictures of {len(sizes)} sizes, such as {both}; name one side, as in --data.side 32")
    if data.fit == "as_is" and (oblong := [name for (w, h), name in sizes.items() if w != h]):
        raise DataError(
            f"{printable(oblong[0])}: not square; choose --data.fit crop (the middle) or resize (the whole)"
        )
    side = data.side or min(next(iter(sizes)))
    if side not in SIDES:
        raise DataError(
            f"{at}: pictures of {side} pixels a side; the networks are made for {SIDES[0]} to {SIDES[-1]}: name such a "
            "side, as in --data.side 64"
        )
    return Form(side, data.colour == "rgb" or (data.colour == "as_is" and not grey), data.fit)
