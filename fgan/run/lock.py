"""The lock of a run directory: a file that names the one process which may write there.

Whether a holder lives is known on its own host, by its number and the moment it began: a dead one's lock is taken over
at once, a live one's never. From another host it is known by the file's age alone: a holder touches its lock every BEAT
seconds, and after GONE seconds without that it counts as gone. Both times are those of the file system, so that the
clocks of the hosts do not matter. One that only slept, as a stopped process or a suspended machine does, finds
its lock taken when it wakes, and ends before it writes (`Held.refuse_loss`).

A host is a name with its own processes: a container that is started again under the same name finds its old lock dead.
Two that run under one name at once must not share a directory.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from estimators.characters import OneLine

BEAT = 30.0  # seconds between signs of life
GONE = 600.0  # seconds without one: twenty beats, and longer than network file systems keep the age of a file (60)


class RunLocked(OneLine, RuntimeError):
    """Another live process writes to the run directory."""

    exit_code = 6


class Held:
    """The lock file at `path`, held by this process from now on, with a sign of life every BEAT seconds.

    Raises RunLocked where another holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.text = path, claim(path)
        self._released = threading.Event()
        self._beats = threading.Thread(target=self._beat, name=f"signs of life in {path}", daemon=True)
        self._beats.start()

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Delete the lock file, if it is still ours."""
        self._released.set()
        self._beats.join()
        release(self.path, self.text)

    def refuse_loss(self) -> None:
        """Raise RunLocked where the file no longer names this process: what it would write belongs to another."""
        text = self._content()
        if text == self.text:
            return
        other = _holder(text)
        if other is None:
            raise RunLocked(f"{self.path} was deleted: this process stops, so that two never write there at once")
        raise RunLocked(
            f"{self.path.parent} was taken over by process {other['pid']} on {other['host']}, since this one had given "
            "no sign of life: the run goes on there"
        )

    def _content(self) -> bytes:
        with contextlib.suppress(FileNotFoundError):
            return self.path.read_bytes()
        return b""

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            with contextlib.suppress(OSError):  # the next one may succeed
                if self._content() == self.text:
                    os.utime(self.path)


def born(pid: int) -> str | None:
    """Boot and clock tick at which a process began, "never" for a zombie, None where the system does not say.

    Process numbers return, in containers nearly always, so a number alone cannot show that a lock is held.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "never" if fields[0] == "Z" else f"{_boot()}:{fields[19]}"
    except OSError:
        return None


def process_table() -> str | None:
    """Which process numbers mean the same processes, whatever the host is called; None where the system says nothing.

    A laptop changes its name with the network; a container has its own numbers on the same machine.
    """
    try:
        return f"{_boot()}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def claim(lock: Path) -> bytes:
    """Write this process into the lock file; the text written, for `release`. Raises RunLocked where another holds it.

    Its directory is made, again too where another process has just set it aside. A stale lock is overwritten in place
    under `flock`, never deleted and made anew, so that of two processes that find it stale the second reads the first
    one's name.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    own = {"born": born(os.getpid()), "process_table": process_table()}
    text = (json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": started} | own) + "\n").encode()
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), open(lock, "a+b") as file:
            _flock(file)
            if not _is_at(file, lock):
                continue  # its owner released it while we waited
            file.seek(0)
            other = _holder(file.read())
            if other:
                _refuse_living(other, lock, file)
            file.truncate(0)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            return text


def release(lock: Path, text: bytes) -> None:
    """Delete the lock file if it still holds the `text` that `claim` wrote."""
    with contextlib.suppress(FileNotFoundError):
        if lock.read_bytes() == text:
            lock.unlink()


def _holder(text: bytes) -> dict[str, Any] | None:
    """Who holds a lock with this text; None where it names nobody, as after a crash while it was written."""
    try:
        holder = json.loads(text)
        pid, _ = holder["pid"], holder["host"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    return holder if type(pid) is int and 0 < pid < 2**31 else None


def _refuse_living(holder: dict[str, Any], lock: Path, file: BinaryIO) -> None:
    """Raise RunLocked, which names the holder in the open lock `file`, if that lives, as far as can be known."""
    seen = ""
    if _here(holder):
        lives = _lives(holder)
    else:
        silent = _silence(lock, file)
        lives = silent < GONE
        seen = f" (last sign of life {max(silent, 0):.0f} s ago, gone after {GONE:.0f} s without one)"
    if lives:
        raise RunLocked(
            f"{lock.parent} is in use by process {holder['pid']} on {holder['host']} since "
            f"{holder.get('started', 'an unknown time')}{seen}: wait for it, stop it, or name another directory by "
            f"--run (if it is surely gone, delete {lock.name})"
        )


def _here(holder: dict[str, Any]) -> bool:
    """Whether the holder's number means a process of this host."""
    return holder["host"] == socket.gethostname() or holder.get("process_table") == (process_table() or "unknown")


def _silence(lock: Path, file: BinaryIO) -> float:
    """Seconds since the last sign of life in the lock file: how much older it is than a file made now beside it."""
    with tempfile.NamedTemporaryFile(dir=lock.parent, prefix=f".{lock.name}-", suffix=".tmp") as fresh:
        return os.fstat(fresh.fileno()).st_mtime - os.fstat(file.fileno()).st_mtime


def _lives(holder: dict[str, Any]) -> bool:
    """Whether a process of this host still runs, as far as can be known."""
    try:
        with contextlib.suppress(PermissionError):  # it is another user's
            os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    now, then = born(holder["pid"]), holder.get("born")
    return now != "never" and (None in (now, then) or now == then)


def _flock(file: BinaryIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:  # some cluster file systems have none; the window it closes is microseconds
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
