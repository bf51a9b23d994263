"""Checkpoints that are verified before they are trusted.

A step is a directory ``<step>/`` holding an orbax payload ``state/`` and ``manifest.json``: the step, SHA-256 and size
of each file, path, shape and dtype of each leaf, the fingerprint of the configuration, the number of this format,
versions, and the length of the metrics at that moment. Orbax alone keeps no checksum of its arrays, so a flipped bit
would be restored as a value.

Beside the steps live ``tmp-*`` (an interrupted save or removal, of no value) and ``bad-<step>`` (a step that failed its
checks and was set aside). One run writes a directory at a time; its lock sees to that. Others may read it meanwhile: a
step that is pruned under their eyes is no fault, they take the newer one. Where several processes share
the run, each calls `save` and `restore`, writes and reads its slices of the arrays, and the leader does all the rest:
the directory must be one that all of them can reach.
"""

import contextlib
import importlib.metadata
import itertools
import json
import os
import platform
import re
import shutil
import stat
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from estimators.characters import OneLine
from fgan.devices import engines, processes
from fgan.run import chatter
from fgan.run.manifest import (
    FORMAT,
    MANIFEST,
    PAYLOAD,
    Unsound,
    check_file,
    content_hash,
    digests,
    read_manifest,
    require_only,
)
from fgan.run.whole_files import sync, write_atomic

KEEP = 2  # sound steps that are retained: the newest, and one to fall back to
RECORDS = 1 << 16  # bytes of a step beside its arrays, about: some forty small files of whole blocks


class CheckpointError(OneLine, RuntimeError):
    """Checkpoints were asked for or found, and none can be used."""

    exit_code = 5


class Restored(NamedTuple):
    """A restored step: the state, how many bytes of metrics had been written when it was saved, and their SHA-256."""

    step: int
    state: Any
    metrics_bytes: int
    metrics_sha256: str = ""  # unknown of steps that fgan 0.1 saved at first


class _Foreign(Unsound):
    """The step is that of another run."""


class Examined(NamedTuple):
    """A step as its files show it."""

    step: int
    size: int  # bytes of its files
    changed: float  # when the last of them was, in seconds since 1970
    fault: Exception | None  # why it cannot be used, as one clause; None where its files are intact
    metrics_bytes: int = 0
    metrics_sha256: str = ""


class Checkpoints:
    """The checkpoints of one run in `directory`, of which the newest KEEP sound ones are retained.

    Steps saved under another `fingerprint` are refused; `warn` is called with one line for each that fails its checks.
    Unless it `writes`, for a process that holds no lock of the run, `restore` changes nothing.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        fingerprint: str,
        warn: Callable[[str], Any] = warnings.warn,
        writes: bool = True,
    ) -> None:
        self.directory = Path(directory).absolute()
        self.fingerprint = fingerprint
        self.warn = warn
        self.writes = writes

    def save(self, step: int, state: Any, *, metrics_bytes: int = 0, metrics_sha256: str = "") -> None:
        """Write `state` as `step`, whole or not at all, then prune; when this returns the step is on disk.

        Another of that number is set aside as ``bad-<step>``.

        Raises:
            OSError: the file system refused; earlier steps are untouched and the attempt is removed.
            CheckpointError: all that is there belongs to another configuration, or some of it to a newer fgan.
            TypeError: a leaf is not an array.
        """
        record = {"format": FORMAT, "step": step, "fingerprint": self.fingerprint, "leaves": _describe(state)}
        packages = ("jax", "jaxlib", "numpy", "orbax-checkpoint")
        versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
        record |= {"metrics_bytes": int(metrics_bytes), "metrics_sha256": metrics_sha256, "versions": versions}
        processes.barrier("all are to save")  # and see the same directory
        examined = self.examined()
        sound = {found.step for found in examined if found.fault is None}
        if not sound:
            self._refuse_foreign({found.step: found.fault for found in examined})
        try:
            self._commit(step, jax.tree.leaves(state), record)
        except (OSError, ValueError) as error:  # tensorstore reports a full disk as ValueError
            shutil.rmtree(self._stage(step), ignore_errors=True)
            kept = f"step {max(sound)} is kept" if sound else "no step was saved before it"
            raise OSError(
                f"step {step} could not be saved in {self.directory}: {_reason(error)}; {kept}. It takes about "
                f"{engines.size_text(nbytes(state) + RECORDS)}: make room for it, and run again"
            ) from error
        if processes.leader():
            self._prune({*sound, step})
        processes.barrier("it is saved")

    def restore(self, like: Any) -> Restored | None:
        """The newest step that is sound and has the tree of `like`, or None where nothing was ever saved.

        Steps that fail are reported through `warn` with file and reason. They are set aside as ``bad-<step>`` once an
        older step has proved good; while none has, nothing is moved, since `like` may be what is wrong.

        `like` holds arrays or `jax.ShapeDtypeStruct`; shardings are taken from it where given.

        Raises:
            CheckpointError: something was saved but nothing is usable, or it belongs to another configuration.
        """
        expected = _describe(like)
        faults: dict[int, Exception | None] = {}
        while untried := [step for step in self.steps() if step not in faults]:  # anew: another process may save
            step = untried[-1]
            try:
                restored = self._load(step, like, expected)
            except Unsound as fault:
                if os.path.lexists(self._at(step)):  # else it was pruned, and there is a newer one
                    faults[step] = fault
                    if not isinstance(fault, _Foreign):  # if all are, the directory was mistaken
                        self._report(step, fault)
                continue
            self._agree(step)
            for foreign in (step for step, fault in faults.items() if isinstance(fault, _Foreign)):
                self._report(foreign, faults[foreign])
            for unsound in faults if self.writes and processes.leader() else ():
                with contextlib.suppress(OSError):  # one may restore from where one may not write
                    self._set_aside(unsound)
            if self.writes and processes.leader():
                with contextlib.suppress(OSError):
                    self._finish_pruning()
            return restored
        if not faults and not self.set_aside():
            self._agree(None)
            return None
        self._refuse_foreign(faults)
        reasons = "; ".join(f"{at}: {fault}" for at, fault in faults.items()) or "all were set aside as bad-*"
        raise CheckpointError(
            f"no usable checkpoint in {self.directory} ({reasons}). Put back a good copy, or start anew with "
            "--overwrite"
        )

    def _agree(self, step: int | None) -> None:
        """Wait until all processes have restored. Raises CheckpointError unless it is the same step: none, for None."""
        found = processes.exchange(json.dumps(step))
        if len(set(found)) > 1:
            raise CheckpointError(
                f"the processes of this run see different checkpoints in {self.directory} (steps {', '.join(found)}): "
                "start all of them again in a minute, or look for a host that cannot read them"
            )

    def examined(self) -> list[Examined]:
        """What is known of each step from its files alone, in ascending order."""
        found = []
        for step in self.steps():
            files = _stats(self._at(step))
            size = sum(s.st_size for s in files if stat.S_ISREG(s.st_mode))
            changed = max((s.st_mtime for s in files), default=0.0)
            try:
                manifest = self._verify(step)
                facts = manifest["metrics_bytes"], manifest["metrics_sha256"]
                found.append(Examined(step, size, changed, None, *facts))
            except Unsound as fault:
                if os.path.lexists(self._at(step)):  # else it was pruned meanwhile
                    found.append(Examined(step, size, changed, fault))
        return found

    def set_aside(self) -> list[str]:
        """Names of the steps that failed their checks and were set aside."""
        return [name for name in self._names() if name.startswith("bad-")]

    def steps(self) -> list[int]:
        """Everything with the name of a step, in ascending order, sound or not."""
        return sorted(int(name) for name in self._names() if re.fullmatch(r"0|[1-9][0-9]{0,17}", name))

    def _report(self, step: int, fault: Exception | None) -> None:
        self.warn(f"checkpoint {self._at(step)} cannot be used: {fault}")

    def _names(self) -> list[str]:
        return sorted(os.listdir(self.directory)) if self.directory.is_dir() else []

    def _at(self, step: int) -> Path:
        return self.directory / str(step)

    def _stage(self, step: int) -> Path:
        return self.directory / f"tmp-{step}"

    def _refuse_foreign(self, faults: Mapping[int, Exception | None]) -> None:
        """Say so where a step is that of another run: its name was mistaken, and nothing is damaged."""
        if foreign := [step for step, fault in faults.items() if isinstance(fault, _Foreign)]:
            raise CheckpointError(
                f"{self._at(foreign[0])} {faults[foreign[0]]}: undo what was changed in config.toml, or name another "
                "run directory"
            )

    def _commit(self, step: int, leaves: list[Any], record: dict[str, Any]) -> None:
        """Build the step under a temporary name, force it to disk, and make it visible by one rename."""
        stage = self._stage(step)
        if processes.leader():
            self._remove_temporary()
            stage.mkdir(parents=True)
        processes.barrier("there is room to save")
        _write_payload(stage / PAYLOAD, step, leaves)
        if not processes.leader():
            return
        content = record | {"files": digests(stage / PAYLOAD)}
        signed = {"sha256": content_hash(content), "content": content}
        write_atomic(stage / MANIFEST, json.dumps(signed, indent=1) + "\n")
        if self._at(step).exists():
            self._set_aside(step)
        stage.rename(self._at(step))
        sync(self.directory)

    def _prune(self, sound: set[int]) -> None:
        """Remove all that is older than the newest KEEP sound steps."""
        kept = sorted(sound)[-KEEP:]
        for step in self.steps() if len(kept) == KEEP else ():
            if step < kept[0]:
                self._at(step).rename(self._stage(step))  # a half-removed step must not look like a damaged one
        self._remove_temporary()

    def _finish_pruning(self) -> None:
        """Remove what a save that was killed after its step was whole had yet to remove: there may be no later one."""
        if len(self.steps()) > KEEP:
            self._prune({found.step for found in self.examined() if found.fault is None})
        self._remove_temporary()

    def _remove_temporary(self) -> None:
        for name in self._names():
            path = self.directory / name
            if name.startswith("tmp-"):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _set_aside(self, step: int) -> None:
        names = (f"bad-{step}" + f"-{k}" * (k > 1) for k in itertools.count(1))
        self._at(step).rename(next(path for path in map(self.directory.joinpath, names) if not path.exists()))

    def _verify(self, step: int) -> dict[str, Any]:
        """The manifest of `step`, all of whose files have the size and hash it states."""
        manifest = read_manifest(self._at(step))
        if manifest["format"] > FORMAT:  # nothing is wrong with it, so nothing older may take its place
            raise CheckpointError(
                f"{self._at(step)} was written by a newer fgan (format {manifest['format']}, this one reads up to "
                f"{FORMAT}): install that version, or name another run directory"
            )
        if manifest["fingerprint"] != self.fingerprint:
            raise _Foreign(
                "was saved under another configuration or with other data "
                f"({manifest['fingerprint']:.12}, now {self.fingerprint:.12})"
            )
        if manifest["step"] != step:
            raise Unsound(f"{MANIFEST} is that of step {manifest['step']}")
        require_only(manifest["files"], self._at(step) / PAYLOAD)
        for name, stated in manifest["files"].items():
            check_file(self._at(step) / PAYLOAD / name, name, stated)
        return manifest

    def _load(self, step: int, like: Any, expected: list[list[Any]]) -> Restored:
        manifest = self._verify(step)
        _check_tree(manifest["leaves"], expected)
        state = _read_payload(self._at(step) / PAYLOAD, like)
        if not self._at(step).exists():  # orbax takes what is missing for zeros
            raise Unsound("it was pruned while it was read")
        _check_tree(_describe(state), expected)  # orbax casts without a word
        return Restored(step, state, manifest["metrics_bytes"], manifest["metrics_sha256"])


def nbytes(tree: Any) -> int:
    """Bytes of the arrays of a tree, or of what describes them; a step on disk takes about as many."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _reason(error: Exception) -> str:
    """What the system said, of whose words tensorstore makes a long line that ends in their number."""
    if number := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(number[1]))
    return getattr(error, "strerror", None) or _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _stats(root: Path) -> list[os.stat_result]:
    """What the system says of a folder and all in it; of what is left where another process removes it meanwhile."""
    found: list[os.stat_result] = []
    with contextlib.suppress(OSError):
        found.extend(path.stat() for path in (root, *root.rglob("*")) if path.exists())
    return found


def _describe(tree: Any) -> list[list[Any]]:
    """``[path, shape, dtype]`` of each leaf, as JSON gives it back."""
    leaves = [(jax.tree_util.keystr(path) or "the state", x) for path, x in jax.tree_util.tree_leaves_with_path(tree)]
    for name, leaf in leaves:
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise TypeError(f"{name} is a {type(leaf).__name__}, not an array: wrap it, e.g. by jnp.asarray")
    return [[name, list(leaf.shape), str(leaf.dtype)] for name, leaf in leaves]


def _check_tree(saved: list[list[Any]], expected: list[list[Any]]) -> None:
    def text(leaf: list[Any] | None) -> str:
        return f"{leaf[0]} {leaf[2]}{leaf[1]}" if leaf else "no further leaf"

    for one, other in itertools.zip_longest(saved, expected):
        if one != other:
            raise Unsound(f"it holds {text(one)} where {text(other)} is wanted")


# Orbax stores a flat dict of numbered leaves: it refuses bare arrays, empty trees and arrays without elements, and
# takes {"a": {"b": x}} and {"a.b": y} for the same leaf. Paths are the manifest's business; `step` keeps it non-empty.


def _numbered(leaves: list[Any]) -> dict[str, Any]:
    return {f"{k:05d}": leaf for k, leaf in enumerate(leaves) if leaf.size}


def _write_payload(path: Path, step: int, leaves: list[Any]) -> None:
    import orbax.checkpoint as ocp

    chatter.drop()
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(path, args=ocp.args.StandardSave({"step": np.int64(step)} | _numbered(leaves)))


def _read_payload(path: Path, like: Any) -> Any:
    import orbax.checkpoint as ocp

    leaves, treedef = jax.tree.flatten(like)
    chatter.drop()
    target = {"step": jax.ShapeDtypeStruct((), np.int64)} | _numbered([_target(leaf) for leaf in leaves])
    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            stored = checkpointer.restore(path, args=ocp.args.StandardRestore(target))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError) as error:
        raise Unsound(f"orbax cannot read it: {_first_line(error)}") from error
    empty = {f"{k:05d}": jnp.zeros(leaf.shape, leaf.dtype) for k, leaf in enumerate(leaves) if not leaf.size}
    return jax.tree.unflatten(treedef, [(stored | empty)[f"{k:05d}"] for k in range(len(leaves))])


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape, dtype and place of a leaf; without a place of its own it goes to one device, wherever it was saved."""
    of_numpy = isinstance(leaf, (np.ndarray, np.generic))
    if of_numpy or jax.dtypes.canonicalize_dtype(leaf.dtype, allow_extended_dtype=True) != leaf.dtype:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    place = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
