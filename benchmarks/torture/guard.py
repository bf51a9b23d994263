"""What no input may cause: watched from outside the code that reads it."""

import contextlib
import faulthandler
import functools
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "socket.connect",
             "pickle.find_class", "code.__new__")  # fmt: skip
"""Events of the interpreter (PEP 578) that no data may cause."""
MAKERS = ("dataclasses", "collections", "importlib._bootstrap_external")
"""Modules of the standard library that make methods from text of their own, when a module is first imported."""
WRITING = {"os.rename": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1, "os.link": 2, "os.chmod": 1}
"""Events that change files, and how many paths they name."""
PATIENCE = 10.0
"""Seconds that a case may take, on a loaded machine too; nearly all take milliseconds."""
_watched: dict[str, Any] = {}


class Hang(BaseException):
    """A case took longer than `PATIENCE`. No `Exception`, so that nothing catches it."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Note in `_watched` what a case does that it must not; nothing while no case runs."""
    if not _watched:
        return
    if event in FORBIDDEN:
        _watched["found"].setdefault(event, ascii(arguments)[:200])
    elif event == "exec":
        code, by = getattr(arguments[0], "co_filename", ""), sys._getframe(1).f_globals.get("__name__", "")
        if not os.path.exists(code) and not code.startswith("<frozen") and by not in MAKERS:
            _watched["found"].setdefault("code run", f"{code} by {by}")
    elif event == "open":
        file, _, flags = arguments
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            _note_path(event, file)
    elif event in WRITING:
        count = WRITING[event]
        for path, folder in zip(arguments[:count], arguments[-count:]):  # the last are open folders, -1 for none
            _note_path(event, path, folder)


def _note_path(event: str, path: Any, folder: Any = -1) -> None:
    if isinstance(path, int) or path is None:  # open already
        return
    base = os.readlink(f"/proc/self/fd/{folder}") if type(folder) is int and folder >= 0 else os.getcwd()
    full = os.path.realpath(os.path.join(base, os.fsdecode(path)))
    if not any(full.startswith(f"{folder}{os.sep}") or full == folder for folder in _watched["folders"]):
        _watched["found"].setdefault(f"{event} outside", ascii(full))


@functools.cache
def _watch() -> None:
    """Once a process: the interpreter cannot forget such a hook."""
    sys.addaudithook(_audit)


@contextlib.contextmanager
def guarded(scratch: Path, patience: float = PATIENCE) -> Iterator[dict[str, Any]]:
    """What the code inside does that no case may: filled until it ends, with the peak of its memory as "peak"."""
    _watch()
    folders = {name: scratch / name for name in ("home", "tmp", "here")}
    for folder in folders.values():
        folder.mkdir()
    found: dict[str, Any] = {}
    before = os.getcwd()
    environment = {"HOME": str(folders["home"]), "TMPDIR": str(folders["tmp"]), "XDG_CACHE_HOME": "",
                   "FGAN_COMPILE_CACHE": "off"}  # fmt: skip
    with mock.patch.dict(os.environ, environment), mock.patch.object(tempfile, "tempdir", str(folders["tmp"])):
        os.chdir(folders["here"])
        previous = signal.signal(signal.SIGALRM, _hang)
        faulthandler.dump_traceback_later(6 * patience, exit=False)  # where C code hangs, which no signal reaches
        held = _forget_peak()
        signal.setitimer(signal.ITIMER_REAL, patience)
        _watched.update(found=found, folders=[os.path.realpath(scratch / "work"), os.path.realpath(folders["tmp"])])
        try:
            yield found
        finally:
            _watched.clear()
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, previous)
            faulthandler.cancel_dump_traceback_later()
            found["peak"] = _resident("VmHWM") - held
            os.chdir(before)
    for name, folder in folders.items():
        if left := sorted(os.listdir(folder)):
            found[f"left in {name}"] = ascii(left[:3])


def _forget_peak() -> int:
    """Let the system count the peak of memory anew from here on, where it can: the memory held now, in bytes."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _resident("VmRSS")


def _resident(what: str) -> int:
    """Memory of this process in bytes as the system counts it, 0 where it does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{what}:")), 0)


def _hang(*_: Any) -> None:
    raise Hang
