"""The directory of a run: its configuration, lock, metrics, status, figures and checkpoints.

    config.toml     what the run is, every field resolved
    run.lock        the process that writes to it
    status.json     its state, one of STATES, and its step
    metrics.jsonl   metrics and scores, a line each; timings.jsonl alone knows the clock
    checkpoints/, samples/, figures/

Files of lines grow by whole lines and are cut back on resume to the length that the checkpoint recorded.
"""

import contextlib
import errno
import hashlib
import io
import itertools
import json
import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from estimators.characters import OneLine
from fgan.config.fields import ConfigError, is_utf8
from fgan.config.schema import PATHS
from fgan.config.toml import leaves, parse
from fgan.devices import interrupts
from fgan.run import json_files, lock
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.progress import Stopped
from fgan.run.whole_files import remove_drafts, write_atomic

CONFIG = "config.toml"
LOCK = "run.lock"
STATUS = "status.json"
METRICS = "metrics.jsonl"
RESULTS = "results.jsonl"  # of a sweep
STATES = ("running", "finished", "preempted", "failed")
UNKNOWN = {"state": "unknown", "step": 0}  # what a damaged status says
CHANGEABLE = ("steps", "schedule_steps", "log", "parallel", "data.keep", *PATHS)
LATER: Mapping[str, Any] = {
    "data.condition": False,
    "generator.blocks": 1,
    "generator.group": 0,
    "critic.blocks": 1,
    "critic.group": 0,
}
"""Keys of the configuration that are younger than the first runs, with their defaults. They count only where they
differ from these, so that a run which was begun without them goes on."""
TO_RESTORE = (
    "put back a good copy, or set the run aside by --overwrite; fgan sample draws from its checkpoint meanwhile"
)
REMEDIES = {
    CONFIG: "put back a good copy (the same command with another --run writes one), or set the run aside (--overwrite)",
    METRICS: TO_RESTORE,
    RESULTS: "delete it; the same fgan sweep command makes it again from the parts",
    "timings.jsonl": "delete it; it holds nothing but times",
}
"""File → what to do where it is damaged."""
SHOWN = 5  # most differing keys that a refusal names
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class ConfigConflict(OneLine, ValueError):
    """The directory holds something other than a run of this configuration."""

    exit_code = 2


class ResourceError(OneLine, RuntimeError):
    """The machine refuses: no space, no permission, no such folder, too little memory."""

    exit_code = 7


class RunNotFound(CheckpointError):
    """There is no run at the path."""


class RunDirectory:
    """The run at `path`. Made by `open`, to write as the only writer, or by `find`, to read.

    `changeable` are dotted configuration keys, or tables, that do not make it another run. Unless it `writes`, as in a
    process that takes part in a run which another one writes, `append`, `cut` and `status` do nothing.
    """

    def __init__(self, path: str | Path, *, changeable: tuple[str, ...] = CHANGEABLE, writes: bool = True) -> None:
        self.path = Path(os.path.realpath(path))
        if not is_utf8(self.path):
            raise ConfigError(
                f"{self.path}: no valid UTF-8, which checkpoints need; rename it, or name another by --run"
            )
        self.changeable = changeable
        self.writes = writes
        self._held: lock.Held | None = None
        self._watched = contextlib.ExitStack()  # until it is closed, a process that leaves at once leaves it sound
        self._status_lock = threading.Lock()
        self.replaced = ""  # the configuration that a resumed run was stored with

    @classmethod
    def find(cls, path: str | Path) -> Self:
        """The existing run at `path`, not locked. Raises RunNotFound."""
        run = cls(path)
        run._require_files(links=True)
        if not (run.path / CONFIG).is_file():
            raise RunNotFound(f"{path} is no run directory (it has no {CONFIG}); fgan train makes one")
        return run

    @classmethod
    def open(
        cls, path: str | Path, config_toml: str, *, overwrite: bool = False, changeable: tuple[str, ...] = CHANGEABLE
    ) -> Self:
        """The run at `path`, locked for this process: created, or resumed where the configuration agrees.

        On resume `config_toml`, the resolved configuration, replaces the stored one, from which it may differ in the
        keys and tables of `changeable`. `overwrite` renames an existing run to ``<name>.old-<k>`` and starts anew.

        Raises:
            RunLocked, ConfigConflict (naming each differing key with both values), ResourceError.
        """
        run = cls(path, changeable=changeable)
        with _resources(run.path):
            run._require_files(links=False)
            run._held = lock.Held(run.path / LOCK)
            run._watched.enter_context(interrupts.before_leaving(run._leave))
            try:
                run._settle(config_toml, overwrite)
            except BaseException:
                run.close()
                raise
        return run

    def close(self) -> None:
        """Release the lock, if it is still ours."""
        self._watched.close()
        if self._held is not None:
            self._held.release()
        self._held = None

    def refuse_loss(self) -> None:
        """Raise RunLocked where another process has taken the run over, as after a long sleep of this one."""
        if self._held is not None:
            self._held.refuse_loss()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def default_name(config_stem: str, divergence: str, seed: int) -> str:
        """``runs/<config>-<divergence>-seed<k>``, other characters escaped: ``alpha(0.5)`` becomes ``alpha-0.5``.

        Raises ConfigError where that is no usable name.
        """
        return f"runs/{_checked_name(f'{_escape(config_stem)}-{_escape(divergence)}-seed{int(seed)}')}"

    @property
    def config_toml(self) -> str:
        """The stored configuration. Raises CheckpointError where it cannot be read."""
        return json_files.read_text(self.path / CONFIG, REMEDIES[CONFIG])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the configuration without its changeable keys: equal exactly where a resume is allowed."""
        identity = _identity(self.config_toml, self.changeable)
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def checkpoints(self) -> Path:
        """The directory of checkpoints, made on first use."""
        with _resources(self.path):
            (self.path / "checkpoints").mkdir(exist_ok=True)
        return self.path / "checkpoints"

    def write(self, name: str, content: str | bytes) -> None:
        """Replace the file `name`, or folder/name, whose folder is made if need be, whole or not at all.

        Raises ResourceError; CheckpointError where a directory is in the way.
        """
        if self.writes:
            self.refuse_loss()
            path = self.path.joinpath(*map(_checked_name, name.split("/")))
            with _resources(self.path):
                path.parent.mkdir(exist_ok=True)
                write_atomic(path, content)

    def append(self, record: Mapping[str, Any], name: str = METRICS) -> None:
        """Append `record` to the file `name` as one line of strict JSON, whole or not at all.

        Arrays become lists; NaN and infinities, which JSON has not, become null. Raises ResourceError, TypeError.
        """
        if not self.writes:
            return
        self.refuse_loss()
        line = (json.dumps(_plain(record), allow_nan=False) + "\n").encode()
        with _resources(self.path), open(self.path / _checked_name(name), "ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(before)
                raise

    def write_array(self, folder: str, step: int, array: np.ndarray) -> None:
        """Write ``<folder>/<step>.npy``, whole or not at all: others may read it while the run goes on."""
        content = io.BytesIO()
        np.save(content, array, allow_pickle=False)
        self.write(f"{folder}/{step:08d}.npy", content.getvalue())

    def size(self, name: str = METRICS) -> int:
        """Length of the file `name` in bytes, all of them forced to disk; 0 where there is none.

        A checkpoint that records this length must not outlive the lines it counts.
        """
        path = self.path / _checked_name(name)
        if not path.exists():
            return 0
        with _resources(self.path), open(path, "rb") as file:
            os.fsync(file.fileno())
            return file.seek(0, os.SEEK_END)

    def digest(self, name: str, n_bytes: int) -> str:
        """SHA-256 of the first `n_bytes` of the file `name`."""
        if not n_bytes:
            return hashlib.sha256().hexdigest()
        with _resources(self.path), open(self.path / _checked_name(name), "rb") as file:
            return hashlib.sha256(file.read(n_bytes)).hexdigest()

    def lost(self, name: str, n_bytes: int, sha256: str = "") -> str:
        """What is wrong with the first `n_bytes` of the file `name`, those that a checkpoint counts; "" if nothing.

        Their hash is compared where it is known.
        """
        path = self.path / _checked_name(name)
        length = path.stat().st_size if path.exists() else 0
        if not 0 <= n_bytes <= length:
            return f"{name} has {length} bytes, but the checkpoint counts {n_bytes}: lines were lost"
        if not n_bytes:
            return ""
        with open(path, "rb") as file:
            file.seek(n_bytes - 1)
            ends = file.read(1) == b"\n"
        if not ends:
            return f"{name} was changed after it was written: no line ends at byte {n_bytes}"
        if sha256 and self.digest(name, n_bytes) != sha256:
            return f"{name} was changed after it was written: its first {n_bytes} bytes have another SHA-256"
        return ""

    def cut(self, name: str, n_bytes: int, sha256: str = "") -> None:
        """Shorten the file `name` to its first `n_bytes`, those that the restored checkpoint counts.

        Raises CheckpointError where the file is shorter than that, or other bytes than those of this hash.
        """
        if not self.writes:
            return
        path = self.path / _checked_name(name)
        if fault := self.lost(name, n_bytes, sha256):
            raise CheckpointError(f"{path.parent}: {fault}; {REMEDIES.get(name, TO_RESTORE)}")
        if self.size(name) == n_bytes:
            return
        with _resources(self.path), open(path, "r+b") as file:
            file.truncate(n_bytes)
            os.fsync(file.fileno())

    def records(self, name: str = METRICS) -> list[dict[str, Any]]:
        """What the whole lines of the file `name` hold; [] where there is none. Raises CheckpointError for bad ones."""
        return json_files.read_lines(self.path / _checked_name(name), REMEDIES.get(name, TO_RESTORE))

    @property
    def last_status(self) -> dict[str, Any]:
        """What ``status.json`` holds; {} before the first, the state ``unknown`` where it is damaged."""
        path = self.path / STATUS
        if not path.exists():
            return {}
        try:
            found = json_files.read_object(path, "it is written anew")
        except CheckpointError:
            return UNKNOWN
        return found if found.get("state") in STATES and type(found.get("step")) is int else UNKNOWN

    def status(self, state: str, step: int, **extra: Any) -> None:
        """Replace ``status.json`` by `state` (one of `STATES`), `step` and whatever else is to be known."""
        if not self.writes:
            return
        if state not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)}, not {state!r}")
        record = {"state": state, "step": int(step)} | _plain(extra)
        with self._status_lock:
            self._write_status(record)

    def _write_status(self, record: Mapping[str, Any]) -> None:
        self.write(STATUS, json.dumps(record, allow_nan=False, indent=1) + "\n")

    def _leave(self) -> None:
        """What the process does with the run, in another thread than the one that writes it, before it ends at once."""
        self._status_lock.acquire()  # for good: nothing may be written after this
        try:
            with contextlib.suppress(lock.RunLocked):  # another's by now
                self.refuse_loss()
                last = {"state": "running", "step": 0} | self.last_status
                if last["state"] == "running" and (self.path / CONFIG).exists():  # else it is no run yet
                    self._write_status(last | {"state": "preempted"})
        finally:
            if self._held is not None:
                self._held.release()

    @contextlib.contextmanager
    def recorded(self, progress: Callable[[], dict[str, Any]]) -> Iterator[None]:
        """What ends the work inside is recorded as ``preempted`` or ``failed``, with the `step` of `progress` then.

        What the file system refuses becomes a ResourceError, and stays the one that is raised if it refuses this too.
        """
        try:
            with _resources(self.path):
                yield
        except lock.RunLocked:  # another's by now
            raise
        except Stopped:
            with contextlib.suppress(ResourceError):
                self.status("preempted", **progress())
            raise
        except (ValueError, RuntimeError, MemoryError) as error:
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            with contextlib.suppress(ResourceError):
                self.status("failed", **progress(), reason=reason, exit_code=getattr(error, "exit_code", 1))
            raise

    def _require_files(self, links: bool) -> None:
        """Raise ConfigConflict where something is no file or folder: a pipe would not end, and unless `links` are
        allowed, one would lead what the run writes out of its directory."""
        for entry in itertools.chain(self.path.glob("*"), self.path.glob("*/*")):
            if entry.is_symlink() and not links:
                raise ConfigConflict(
                    f"{entry} is a link, and a run writes only inside its directory: put what it points to in its "
                    "place, or name another directory by --run"
                )
            if entry.exists() and not (entry.is_file() or entry.is_dir()):
                raise ConfigConflict(f"{entry} is a pipe, a device or a socket, and no file of a run: remove it")

    def _settle(self, config_toml: str, overwrite: bool) -> None:
        """Make the locked directory one of this configuration."""
        wanted = _identity(config_toml, self.changeable)
        holds_run = (self.path / CONFIG).exists()
        if holds_run and overwrite:
            self._set_aside()
        elif holds_run:
            self._refuse_other(wanted)
            self._refuse_past(parse(config_toml, CONFIG).get("steps"))
            remove_drafts(self.path)
            self.replaced = self.config_toml
        elif foreign := [name for name in sorted(os.listdir(self.path)) if name != LOCK and not name.startswith(".")]:
            raise ConfigConflict(
                f"{self.path} holds {foreign[0]!r} but no {CONFIG}: it is no run directory; name another by --run, or "
                "put back what was lost (the same command with another --run writes it)"
            )
        trial = self.path / ".trial"
        try:
            write_atomic(trial, "0" * 65536)  # better refused now than after the first hour
        finally:
            trial.unlink(missing_ok=True)
        write_atomic(self.path / CONFIG, config_toml)
        for log in self.path.glob("*.jsonl"):  # a killed writer may have left half a line
            os.truncate(log, log.read_bytes().rfind(b"\n") + 1)

    def refuse_other(self, config_toml: str) -> None:
        """Raise ConfigConflict unless the stored configuration is that one, but for its changeable keys."""
        self._refuse_other(_identity(config_toml, self.changeable))

    def _refuse_other(self, wanted: dict[str, str]) -> None:
        try:
            stored = _identity(self.config_toml, self.changeable)
        except CheckpointError as error:
            raise ConfigConflict(str(error)) from error
        except ValueError as error:
            raise ConfigConflict(f"{self.path / CONFIG} cannot be read ({error}); {REMEDIES[CONFIG]}") from error
        differing = [key for key in sorted(stored | wanted) if stored.get(key) != wanted.get(key)]
        if differing:
            both = [f"{key} was {stored.get(key, 'unset')}, is {wanted.get(key, 'unset')}" for key in differing]
            more = f" and {len(both) - SHOWN} more" if len(both) > SHOWN else ""
            raise ConfigConflict(
                f"{self.path} holds a run of another configuration: {', '.join(both[:SHOWN])}{more}. "
                "Name another directory by --run, or set this one aside by --overwrite"
            )

    def _refuse_past(self, steps: int | None) -> None:
        """A run that has taken more than `steps` is none of so many, nor can be again."""
        done = max(Checkpoints(self.path / "checkpoints", fingerprint="").steps(), default=0)
        if steps is not None and steps < done:
            raise ConfigConflict(
                f"{self.path} is at step {done}, past steps = {steps}; nothing was changed. Ask for {done} or more, "
                "or name another directory by --run"
            )

    def _set_aside(self) -> None:
        """Rename the run, its lock with it, and lock a new directory in its place. Raises RunLocked if another did."""
        names = (self.path.with_name(f"{self.path.name}.old-{k}") for k in itertools.count(1))
        old = next(path for path in names if not path.exists())
        self.path.rename(old)
        if self._held is not None:
            self._held.path = old / LOCK
            self._held.release()
            self._held = None
        self._held = lock.Held(self.path / LOCK)


def _identity(config_toml: str, changeable: tuple[str, ...]) -> dict[str, str]:
    """Each dotted key outside `changeable` with its value as one line of text, but for those of LATER that say nothing
    new."""
    items = leaves(parse(config_toml, CONFIG), quoted=True)
    stated = ((key, value) for key, value in items if key not in LATER or value != LATER[key])
    kept = ((key, value) for key, value in stated if not any(f"{key}.".startswith(f"{c}.") for c in changeable))
    return {key: json.dumps(value, default=str, sort_keys=True) for key, value in kept}


def _escape(text: str) -> str:
    escaped = re.sub(r"[^A-Za-z0-9._-]+", "-", text).rstrip("-").lstrip("._-")
    if not escaped:
        raise ConfigError(f"no file name can be made of {text!r}: name a directory by --run")
    return escaped


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no usable name: at most 100 of A-Z a-z 0-9 . _ -, a letter or digit first")
    return name


def _plain(value: Any) -> Any:
    """`value` with arrays as lists, keys as text and non-finite numbers as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return _plain(value.tolist()) if hasattr(value, "tolist") else value


@contextlib.contextmanager
def _resources(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into one line with a remedy."""
    try:
        yield
    except BrokenPipeError:  # the reader of our output has left: no file's fault
        raise
    except IsADirectoryError as error:
        found = error.filename2 or error.filename
        raise CheckpointError(f"{found} is a directory, where a run has a file: move it away") from error
    except OSError as error:
        remedy = "free some space, allow writing there, or name another directory by --run"
        raise ResourceError(f"cannot write in {path}: {error.strerror or error}; {remedy}") from error
