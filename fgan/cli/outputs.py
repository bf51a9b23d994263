"""The files that commands write where their user asked: each appears whole, or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fgan.config.fields import ConfigError
from fgan.devices import interrupts


def checked_picture(file: str | None) -> Path | None:
    """Where a picture is to be drawn. Raises ConfigError unless it can be a file there."""
    path = None if file is None else Path(file)
    if path and not (path.suffix in (".png", ".pdf", ".svg") and path.parent.is_dir()):
        raise ConfigError(f"--plot {file}: must be a .png, .pdf or .svg file in an existing folder")
    return path


def checked_page(option: str, file: str | None) -> Path | None:
    """Where a page of the option's is to be written. Raises ConfigError unless it can be a file there."""
    path = None if file is None else Path(file)
    if path and not (path.suffix in (".html", ".htm") and path.parent.is_dir()):
        raise ConfigError(f"--{option} {file}: must be an .html file in an existing folder")
    return path


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
