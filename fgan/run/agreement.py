"""What the processes of one run must have in common: settings, code, packages, data, and the directory they write to.

Each would compile a program of its own and wait for the others in the midst of it, or write where nobody else looks: a
difference is refused before anything is compiled, by all processes and with one message. Paths of data may differ, as
on disks of their own; the data must be the same.
"""

import hashlib
import importlib.metadata
import json
import platform
import socket
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path

import estimators
import fgan
from fgan.config.schema import PATHS, Config
from fgan.config.toml import leaves, to_toml
from fgan.data.dataset import Dataset
from fgan.devices import processes
from fgan.run.directory import LOCK, ResourceError, RunDirectory

PACKAGES = ("jax", "jaxlib", "numpy", "flax", "optax", "orbax-checkpoint")
SHOWN = 3  # differences that a message names
SEEN = 60.0  # seconds until a network file system shows what another host has made: it keeps old listings so long


class Disagreement(ValueError):
    """The processes were not started alike."""

    exit_code = 2


def refuse_other_settings(config: Config) -> None:
    """Raise Disagreement on every process unless all compile the same: settings, code and packages."""
    if processes.count() > 1:
        fields = {key: str(value) for key, value in leaves(tomllib.loads(to_toml(config))) if key not in PATHS}
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        _refuse_difference(fields | {"code": _code(), "python": platform.python_version()} | versions)


def refuse_other_data(data: Dataset) -> None:
    """Raise Disagreement on every process unless all have the same data."""
    if processes.count() > 1:
        _refuse_difference({"data": data.fingerprint()[:12]})


def _refuse_difference(facts: Mapping[str, str]) -> None:
    """Raise Disagreement, which names the first process that has other facts than process 0, and some of them."""
    first, *others = map(json.loads, processes.exchange(json.dumps(facts)))
    for number, other in enumerate(others, 1):
        unlike = [key for key in first | other if first.get(key) != other.get(key)]
        if unlike:
            shown = ", ".join(f"{key} {other.get(key)} and not {first.get(key)}" for key in unlike[:SHOWN])
            more = f", and {len(unlike) - SHOWN} more" if len(unlike) > SHOWN else ""
            raise Disagreement(
                f"process {number} has {shown}{more}, unlike process 0: start all of them by the same command, with "
                "the same code, packages and data"
            )


def _code() -> str:
    """A number for the source of both packages."""
    digest = hashlib.sha256()
    for package in (fgan, estimators):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def refuse_other_directory(run: RunDirectory) -> None:
    """Raise ResourceError on every process unless all see the run directory that process 0 has just locked."""
    if processes.count() == 1:
        return
    lock = run.path / LOCK
    locked, *_ = processes.exchange(lock.read_text(encoding="utf-8") if processes.leader() else "")
    with processes.one_fate():
        deadline = time.monotonic() + SEEN
        while not (lock.is_file() and lock.read_text(encoding="utf-8") == locked):
            if time.monotonic() > deadline:
                raise ResourceError(
                    f"process {processes.index()} on {socket.gethostname()} does not see in {run.path} what process 0 "
                    "has written there: name by --run a directory on a file system that all processes share"
                )
            time.sleep(0.1)
