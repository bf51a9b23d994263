"""Processes: how the ones of a distributed run meet, agree, and end when one of them is gone.

One process is the leader: it alone writes logs and pictures. All of them compute, and take part in checkpoints, in a
directory that all can reach. On one process everything here does nothing.

A process that loses a peer is ended by the runtime from within, at once or after HEARTBEAT seconds without a sign of
life, sometimes by an abort that no Python code can catch. Hence `supervise`: the run is a child, whose abrupt end the
parent turns into one line and exit code 7. One that fails alone leaves at once, so that the others lose it (`leave`).
`FGAN_HEARTBEAT` and `FGAN_INITIALIZATION` in the environment change the seconds. jax is imported only where a function
needs it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from fgan.config.exit_codes import exit_code
from fgan.devices import interrupts

HEARTBEAT = 60  # seconds without a sign of life after which a process counts as lost: all end within two minutes
INITIALIZATION = 80  # seconds that the processes have to find each other: with imports, one alone ends in two minutes
PARTING = 20  # seconds that one which failed waits for the others to end too: with HEARTBEAT, within two minutes
APART = "the processes of this run could not meet"
START = (
    "on a TPU pod or under Slurm start one a host, elsewhere name --distributed.coordinator HOST:PORT, "
    "--distributed.processes and --distributed.process-id, and start all of them at about the same time"
)
SUPERVISED = "FGAN_SUPERVISED"  # in the environment of the child: the open file to which it writes that all have met


class PeerLost(RuntimeError):
    """Another process of the run is gone."""

    exit_code = 7


class Elsewhere(RuntimeError):
    """What another process of the run found wrong, with its message and `exit_code`."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class BadSeconds(ValueError):
    """A variable of the environment that should hold a number of seconds."""

    exit_code = 2


class ChildEnded(RuntimeError):
    """The child has ended with `exit_code`, after its own message."""

    def __init__(self, exit_code: int, message: str = ""):
        super().__init__(message)
        self.exit_code = exit_code


def join(coordinator: str = "", processes: int = 0, process_id: int = -1) -> None:
    """Meet the other processes of this run; must come before anything else asks JAX for devices.

    `coordinator` is HOST:PORT of process 0; on TPU pods, Slurm and Open MPI all three are detected if it is empty.
    Raises PeerLost where they did not meet in time.
    """
    heartbeat, initialization = seconds("FGAN_HEARTBEAT", HEARTBEAT), seconds("FGAN_INITIALIZATION", INITIALIZATION)
    if coordinator:
        _require_meeting_place(coordinator, process_id == 0, initialization)
    import jax

    address = {"coordinator_address": coordinator, "num_processes": processes, "process_id": process_id}
    try:
        jax.distributed.initialize(
            **(address if coordinator else {}),  # type: ignore[arg-type]
            initialization_timeout=initialization,
            heartbeat_timeout_seconds=heartbeat,
        )
    except (RuntimeError, ValueError) as error:
        raise PeerLost(f"{APART}: {str(error).splitlines()[0]}; {START}") from error
    if os.environ.get(SUPERVISED):
        os.write(int(os.environ[SUPERVISED]), b"met")


def _require_meeting_place(coordinator: str, leads: bool, patience: int) -> None:
    """Raise PeerLost where the port is taken or the host stays unknown: JAX would crash, or not say which."""
    host, _, port = coordinator.rpartition(":")
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        if leads:
            socket.create_server(("", int(port)), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise PeerLost(f"{APART}: process 0 cannot listen on port {port} ({error.strerror}); name another") from error
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.getaddrinfo(host.strip("[]"), int(port))
            return
        except OSError as error:  # the name of a host that has just started may need a while
            if time.monotonic() > deadline:
                raise PeerLost(f"{APART}: no host {host!r} is known here ({error.strerror}); correct it") from error
        time.sleep(1.0)


def seconds(variable: str, default: int) -> int:
    """The whole number of seconds that a variable of the environment names, or the default. Raises BadSeconds."""
    text = os.environ.get(variable, "") or str(default)
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**6):
        raise BadSeconds(f"{variable}={text}: must be a whole number of seconds, at least 1; unset it for {default}")
    return int(text)


def leave(code: int) -> None:
    """Let this process, of several, end with `code`, within PARTING seconds from now.

    At exit JAX waits for the others. They come at once where all end for the same reason; where one fails alone they
    wait for it, in the midst of training, until it is gone.
    """
    if os.environ.get(SUPERVISED):
        exit_at_last = threading.Timer(PARTING, os._exit, (code,))
        exit_at_last.daemon = True
        exit_at_last.start()


def count() -> int:
    """How many processes share the run."""
    import jax

    return jax.process_count()


def leader() -> bool:
    """Whether this process writes what only one may."""
    return index() == 0


def index() -> int:
    """Which of them this one is, from 0."""
    import jax

    return jax.process_index()


@contextmanager
def together() -> Iterator[None]:
    """What all processes do at once, of which the runtime's errors are PeerLost where there are several."""
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if count() == 1:
            raise
        raise PeerLost(f"another process of this run is gone: {str(error).splitlines()[0]}") from error


def barrier(name: str) -> None:
    """Wait until every process is here."""
    if count() > 1:
        from jax.experimental import multihost_utils

        with together():
            multihost_utils.sync_global_devices(name)


def any_of(mine: Sequence[int]) -> list[int]:
    """The largest of all processes' first numbers, as a list; [] where none has any: a signal to one stops all."""
    if count() == 1:
        return list(mine)
    import numpy as np
    from jax.experimental import multihost_utils

    with together():
        largest = int(np.max(multihost_utils.process_allgather(np.int32(mine[0] if mine else 0))))
    return [largest] if largest else []


def exchange(text: str) -> list[str]:
    """The `text` of every process, in their order; all must call this."""
    if count() == 1:
        return [text]
    import numpy as np
    from jax.experimental import multihost_utils

    own = np.frombuffer(text.encode(), np.uint8)
    with together():
        lengths = multihost_utils.process_allgather(np.int32(len(own)))
        all_padded = multihost_utils.process_allgather(np.pad(own, (0, int(np.max(lengths)) - len(own))))
    return [bytes(padded[:length]).decode() for padded, length in zip(all_padded, lengths, strict=True)]


@contextmanager
def one_fate() -> Iterator[None]:
    """What one process finds wrong inside ends all of them, with its message and exit code. All must enter this."""
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        exchange(json.dumps([str(error), exit_code(error) or 1]))
        raise
    for text in filter(None, exchange("")):
        raise Elsewhere(*json.loads(text))


class Child(subprocess.Popen):
    """`python -m fgan` with `arguments`: it stops, with its state saved, when it is told to or this process is gone.

    Open files of the numbers `pass_fds` are its own, too.
    """

    def __init__(
        self, arguments: Sequence[str], *, env: Mapping[str, str], pass_fds: Sequence[int] = (), **options: Any
    ):
        reader, self._words = os.pipe()
        weakref.finalize(self, os.close, self._words)
        command = [sys.executable, "-m", "fgan", *arguments]
        try:
            told = {**env, interrupts.PARENT: str(reader)}
            super().__init__(command, env=told, pass_fds=(reader, *pass_fds), **options)
        finally:
            os.close(reader)

    def tell(self, number: int) -> None:
        """Pass a signal on, if the child still runs."""
        with suppress(BrokenPipeError):
            os.write(self._words, bytes([number]))


def supervise(arguments: Sequence[str]) -> None:
    """Run `python -m fgan` with `arguments` as a child, which is told of signals: it saves its state and stops.

    Raises ChildEnded where it failed, PeerLost where it was torn down.
    """
    met, tell = os.pipe()
    child = Child(arguments, env={**os.environ, SUPERVISED: str(tell)}, pass_fds=(tell,))
    os.close(tell)
    with interrupts.handled(child.tell), open(met, "rb") as pipe:
        code = child.wait()
        have_met = bool(pipe.read())
    if code in (-signal.SIGABRT, -signal.SIGSEGV) and not have_met:
        raise PeerLost(f"{APART}: not all of them came in time; {START}")
    if code in (-signal.SIGABRT, -signal.SIGSEGV):
        raise PeerLost(
            "another process of this run is gone, or cannot be reached; start all of them again, and the run goes on "
            "from its newest checkpoint"
        )
    if code < 0:
        raise ChildEnded(128 - code, f"the process was ended by signal {-code}; the same command goes on from there")
    if code:
        raise ChildEnded(code)
