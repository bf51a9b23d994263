"""The lock of a run directory: a file that names the one process which may write there.

A dead holder's lock is taken over, a live one's never; on another host a holder always may be alive.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO


class RunLocked(RuntimeError):
    """Another live process writes to the run directory."""

    exit_code = 6


def born(pid: int) -> str | None:
    """Boot and clock tick at which a process began, "never" for a zombie, None where the system does not say.

    Process numbers return, in containers nearly always, so a number alone cannot show that a lock is held.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return "never" if fields[0] == "Z" else f"{boot}:{fields[19]}"


def claim(lock: Path) -> bytes:
    """Write this process into the lock file; the text written, for `release`. Raises RunLocked where another holds it.

    A stale lock is overwritten in place under `flock`, never deleted and made anew, so that of two processes that find
    it stale the second reads the first one's name.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": started, "born": born(os.getpid())}
    text = (json.dumps(holder) + "\n").encode()
    while True:
        with open(lock, "a+b") as file:
            _flock(file)
            if not _is_at(file, lock):
                continue  # its owner released it while we waited
            file.seek(0)
            other = _holder(file.read())
            if other and _alive(other):
                since = other.get("started", "an unknown time")
                raise RunLocked(
                    f"{lock.parent} is in use by process {other['pid']} on {other['host']} since {since}: wait for "
                    f"it, stop it, or name another directory by --run (if it is surely gone, delete {lock.name})"
                )
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
    except (ValueError, KeyError, TypeError):
        return None
    return holder if type(pid) is int and 0 < pid < 2**31 else None


def _alive(holder: dict[str, Any]) -> bool:
    """Whether the process still runs, as far as can be known."""
    if holder["host"] != socket.gethostname():
        return True
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
