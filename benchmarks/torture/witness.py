"""The command line of fgan, watched: it reports each operation on a file of its run, and may die of a chosen one.

    python -m benchmarks.torture.witness REPORT RUN FATAL WORDS…

REPORT is an open file descriptor that receives one line an operation: the phase of the run that the operation belongs
to. FATAL is `<phase>:<k>`, the operation before which the process kills itself by SIGKILL, counted from 1 within the
phase, or `never`. WORDS are those of `fgan`. An audit hook sees the operations; the program is not changed.
"""

import os
import runpy
import signal
import sys
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

PHASES = (
    "start",  # imports, before the first file
    "open",  # lock, config.toml, trial of the disk, data.json; parameters are drawn
    "restore",  # checkpoints are verified and read, metrics cut back
    "compile",
    "step",
    "metrics",  # a line is written
    "evaluate",  # and the moment after a line, where nothing is due
    "samples",  # samples and reconstructions are written
    "plot",
    "save",  # up to the manifest
    "rename",  # what makes the step visible
    "prune",
    "status",
    "results",  # of a sweep
    "close",  # the lock is released
)
"""What a run does, as far as its files tell. A phase lasts until the first operation of another."""
OPERATIONS = frozenset(("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"))
"""Audit events that touch a path, https://docs.python.org/3/library/audit_events.html."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Witness:
    """Knows the phase of a run from the operations on its files."""

    def __init__(self) -> None:
        self.phase = "start"
        self.training = False  # whether the status has been written since the run, or the part, was opened
        self.compiled = False  # whether a line of timings has been written since

    def after(self, event: str, path: PurePosixPath, writes: bool) -> str:
        """The phase of an operation on `path`, relative to the run."""
        self.phase = self._named(event, path, writes)
        return self.phase

    def _named(self, event: str, path: PurePosixPath, writes: bool) -> str:
        name, folder = path.name, path.parent.name
        if name == "run.lock":
            return self._of_lock(event, writes)
        if "checkpoints" in path.parts:
            return self._of_checkpoints(event, name)
        if name.startswith(("status.json", ".status.json")):
            return self._of_status(event)
        if folder in ("samples", "reconstructions"):
            return "samples" if writes else "plot"
        if folder == "figures" or name.endswith(".png") or (name == "config.toml" and self.training and not writes):
            return "plot"  # which begins by reading the settings
        if name.startswith((".results", "results")):
            return "results"
        if name in ("metrics.jsonl", "timings.jsonl"):
            return self._of_lines(name, writes)
        return self.phase if self.training else "open"

    def _of_lock(self, event: str, writes: bool) -> str:
        if event == "os.remove":
            return "close"
        if writes:  # a run, or the part of a sweep, begins; reading shows that it is still ours
            self.training = self.compiled = False
            return "open"
        return self.phase

    def _of_checkpoints(self, event: str, name: str) -> str:
        if not self.training:
            return "open" if event == "os.mkdir" else "restore"
        if event == "os.rename" and name.isdigit():
            return "prune"
        if event == "os.rename" and name.startswith("tmp-"):
            return "rename"
        return "prune" if self.phase in ("rename", "prune") else "save"

    def _of_status(self, event: str) -> str:
        if event != "os.rename":
            return "status"
        self.training = True
        return "step" if self.compiled else "compile"

    def _of_lines(self, name: str, writes: bool) -> str:
        if not writes:
            return self.phase
        if not self.training:
            return "open" if self.phase == "open" else "restore"
        if name == "metrics.jsonl":
            return "metrics"
        first, self.compiled = not self.compiled, True
        return "step" if first else "evaluate"


def watch(report: int, run: str, fatal: str) -> None:
    """Report the operations of this process on files below `run`, and die of the one that `fatal` names."""
    witness, counted = Witness(), Counter[str]()
    root = os.path.abspath(run)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in OPERATIONS:
            return
        path = _below(root, event, arguments)
        if path is None:
            return
        writes = event != "open" or bool((arguments[2] or 0) & WRITES)
        phase = witness.after(event, path, writes)
        counted[phase] += 1
        os.write(report, f"{phase}\n".encode())
        if fatal == f"{phase}:{counted[phase]}":
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _below(root: str, event: str, arguments: tuple[Any, ...]) -> PurePosixPath | None:
    """The path that an operation touches, relative to `root`; None for others."""
    path = arguments[0]
    if not isinstance(path, str | os.PathLike):
        return None
    text = os.fspath(path)
    if not isinstance(text, str):
        return None
    if event in ("os.remove", "os.rmdir") and arguments[1] >= 0:  # shutil.rmtree names its files so, on Linux
        text = os.path.join(os.readlink(f"/proc/self/fd/{arguments[1]}"), text)
    if not text.startswith(root + os.sep):
        return None
    return PurePosixPath(text[len(root) + 1 :])


if __name__ == "__main__":
    watch(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    del sys.argv[1:4]
    runpy.run_module("fgan", run_name="__main__", alter_sys=True)
