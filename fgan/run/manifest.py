"""The manifest of a step: what its files must hold, and whether they do.

It carries the hash of its own content: a flipped bit in it must not pass for another configuration.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from estimators.characters import OneLine
from fgan.run.whole_files import sync

MANIFEST = "manifest.json"
PAYLOAD = "state"
FORMAT = 1  # of a step
OF_OLD: dict[str, Any] = {"format": 1, "metrics_sha256": ""}  # facts that a manifest may lack
LARGEST = 1 << 26  # bytes of a manifest that is read at all: a line a leaf and a file, some 400,000 of them


class Unsound(OneLine):
    """Why one step cannot be used, as one clause naming the file or leaf."""


def content_hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(root: Path) -> dict[str, Any]:
    path = root / MANIFEST
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
            raise Unsound(f"{MANIFEST} is no file")
        if path.stat().st_size > LARGEST:
            raise Unsound(f"{MANIFEST} has {path.stat().st_size} bytes, more than any that is written")
        signed = json.loads(path.read_bytes())
        content, stated = signed["content"], signed["sha256"]
        if content_hash(content) != stated:
            raise Unsound(f"{MANIFEST} does not match its own hash")
        _require_kinds(content)
        return OF_OLD | content
    except OSError as error:
        raise Unsound(f"{MANIFEST}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unsound(f"{MANIFEST} is damaged ({type(error).__name__})") from error


def _require_kinds(content: Any) -> None:
    """Refuse a manifest whose facts are not of the kinds that `save` writes, which only a person can have made."""
    kinds = {"format": int, "step": int, "fingerprint": str, "leaves": list, "files": dict}
    kinds |= {"metrics_bytes": int, "metrics_sha256": str}
    facts: dict[str, Any] = OF_OLD | content if isinstance(content, dict) else {}
    wrong = [name for name, kind in kinds.items() if type(facts.get(name)) is not kind]
    wrong += [name for name, fact in ({} if wrong else facts["files"]).items() if not _is_stated(fact)]
    wrong += ["leaves" for leaf in facts["leaves"] if not isinstance(leaf, list) or len(leaf) != 3] if not wrong else []
    if wrong:
        raise Unsound(f"{MANIFEST} is damaged ({wrong[0]})")


def _is_stated(fact: Any) -> bool:
    """Whether this is the size and hash of a file."""
    return isinstance(fact, dict) and type(fact.get("size")) is int and type(fact.get("sha256")) is str


def digests(root: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each file under `root`, each of them, and each directory, forced to disk."""
    found = {}
    for path in sorted(root.rglob("*")):
        sync(path)
        if path.is_file():
            found[path.relative_to(root).as_posix()] = {"size": path.stat().st_size, "sha256": _digest(path)}
    sync(root)
    return found


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_only(names: Iterable[str], root: Path) -> None:
    """Refuse names of files that do not lie under `root`, devices and links out of it among them, and files there that
    have no name: orbax might read them, and nothing vouches for them."""
    try:
        inside = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() or p.is_symlink()}
    except OSError as error:  # another process removes it meanwhile
        raise Unsound(f"{PAYLOAD}: {error.strerror}") from error
    place = os.path.join(os.path.realpath(root), "")  # which meets no loop of links
    links = {name for name in inside if not os.path.realpath(root / name).startswith(place)}
    if wrong := sorted(set(names) - inside | links):
        raise Unsound(f"{wrong[0]}: {os.strerror(errno.ENOENT)}")
    if more := sorted(inside - set(names)):
        raise Unsound(f"{more[0]} is not in {MANIFEST}")


def check_file(path: Path, name: str, stated: dict[str, Any]) -> None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Unsound(f"{name} is no file")
        size = path.stat().st_size
        if size != stated["size"]:
            raise Unsound(f"{name} has {size} bytes, not {stated['size']}")
        if _digest(path) != stated["sha256"]:
            raise Unsound(f"{name} has changed since it was written (SHA-256)")
    except OSError as error:
        raise Unsound(f"{name}: {error.strerror}") from error
