"""The JSON files of a run, read with suspicion: a damaged one is named with the reason and the remedy."""

import json
from pathlib import Path
from typing import Any

from fgan.run.checkpoint import CheckpointError
from fgan.run.manifest import content_hash


def read_text(path: Path, remedy: str) -> str:
    """The text of the file at `path`. Raises CheckpointError, with the remedy, where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); {remedy}"
        ) from error


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object that the file at `path` is. Raises CheckpointError."""
    return _object(read_text(path, remedy), path, remedy)


def read_lines(path: Path, remedy: str) -> list[dict[str, Any]]:
    """The JSON objects that the whole lines of a file are; [] where there is none. Raises CheckpointError."""
    if not path.exists():
        return []
    whole, end, _ = read_text(path, remedy).rpartition("\n")  # it may grow meanwhile
    lines = whole.split("\n") if end else []
    return [_object(line, f"{path}:{number}", remedy) for number, line in enumerate(lines, 1)]


def signed(content: dict[str, Any]) -> dict[str, Any]:
    """`content` with its hash, by which `read_signed` knows that nothing in it changed."""
    content = json.loads(json.dumps(content))  # as it is read again, where keys are texts
    return content | {"sha256": content_hash(content)}


def read_signed(path: Path, remedy: str) -> dict[str, Any]:
    """The object in the file at `path`, which `signed` returned, without its hash. Raises CheckpointError."""
    content = read_object(path, remedy)
    if content.pop("sha256", None) != content_hash(content):
        raise damaged(path, "it does not match its own hash", remedy)
    return content


def damaged(what: Any, reason: Any, remedy: str) -> CheckpointError:
    """The error that says that `what` is damaged, why, and what to do."""
    return CheckpointError(f"{what} is damaged ({reason}); {remedy}")


def _object(text: str, what: Any, remedy: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(what, "it is empty" if not text else error, remedy) from error
    if not isinstance(found, dict):
        raise damaged(what, f"it holds a {type(found).__name__}, not an object", remedy)
    return found
