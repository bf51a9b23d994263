"""The files that commands write where their user asked: each appears whole, or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fgan.devices import interrupts


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A draft beside `path`, of the same ending, that replaces it once this ends well, and is gone if it does not."""
    if path.exists() and not path.is_file():  # a pipe or a device, which must not be replaced
        yield path
        return
    place = path.resolve()  # that of a link's target
    draft = place.with_name(f".{place.stem}.{secrets.token_hex(8)}.tmp{place.suffix}")

    def drop() -> None:
        draft.unlink(missing_ok=True)

    with interrupts.before_leaving(drop):
        try:
            yield draft
            draft.replace(place)
        finally:
            drop()
