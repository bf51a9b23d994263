"""Signals: how a user, a scheduler, or a terminal that closes asks a process to stop.

The command line `attend`s to them from its first lines on, in a thread of its own: Python's handlers wait while the
main thread compiles, and an exception raised inside an import may be lost there. A signal ends the process at once,
after what is to be done `before_leaving`, unless someone `handled` it. `signals` handles it for what trains: where
leaving would lose something (`keeping`), the first one is acknowledged and noted, and only the second one ends the
process.

Where nobody attends, as in a notebook, the first one is noted, and the second one raises KeyboardInterrupt.

A signal that was ignored when the process began stays ignored: SIGHUP under nohup, SIGINT in the background of a shell
without job control. A terminal sends its signals to parent and child both, and the parent passes them on: the child
counts those it got itself and those of its parent apart, so that one key is one signal. Imports no more than
it needs, since a signal that comes before the command line attends leaves a traceback.
"""

import atexit
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE = 2.0  # seconds for what is to be done before leaving: it takes milliseconds unless the disk hangs
PARENT = "FGAN_PARENT"  # in the environment of a child: the descriptor by which it hears from its parent
ERASED = "\r\x1b[2K\x1b[?25h"  # on a terminal: an empty line in place of a progress bar, and the cursor back

_attending = False
_handlers: list[Callable[[int], None]] = []
_keepers: list[Callable[[], bool]] = []
_before_leaving: list[Callable[[], object]] = []
_delivering = threading.Lock()
_delivered = 0  # signals, each counted once however many ways it came


def attend() -> None:
    """Receive the signals of this process from now on, until it ends; for the command line's main thread."""
    global _attending
    _attending = True
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in _heeded():
        signal.signal(number, lambda *_: None)  # the number is in the pipe already
    _listen(reader)
    if parent := os.environ.pop(PARENT, ""):
        os.set_inheritable(int(parent), False)
        _listen(int(parent))
    atexit.register(_attend_no_more)


def _attend_no_more() -> None:
    """At the interpreter's end, when its threads stand still and nothing is left to do, a signal kills."""
    for number in _heeded():
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def handled(handler: Callable[[int], None]) -> Iterator[None]:
    """`handler` receives the signals while this lasts: in another thread where the process attends, else in this one.

    Not in a thread other than the main one, as in a notebook's helper: there the caller keeps its own handlers.
    """
    if _attending:
        _handlers.append(handler)
        try:
            yield
        finally:
            _handlers.remove(handler)
        return
    with ExitStack() as restoring:
        with suppress(ValueError):
            for number in _heeded():
                restoring.callback(signal.signal, number, signal.signal(number, lambda number, _: handler(number)))
        yield


@contextmanager
def signals() -> Iterator[list[int]]:
    """A list that receives the number of the first signal; a second one ends the process at once.

    So does the first one where the process attends and nobody is `keeping` it.
    """
    caught: list[int] = []

    def note(number: int) -> None:
        if caught or (_attending and not any(keeps() for keeps in _keepers)):
            leave(number)
        caught.append(number)
        if _attending:
            _say(f"{_name(number)}: stopping as soon as the steps in progress are saved; again to stop at once")

    with handled(note):
        yield caught


@contextmanager
def keeping(keeps: Callable[[], bool]) -> Iterator[None]:
    """While this lasts, a first signal waits where `keeps` says that leaving at once would lose something."""
    _keepers.append(keeps)
    try:
        yield
    finally:
        _keepers.remove(keeps)


@contextmanager
def before_leaving(action: Callable[[], object]) -> Iterator[None]:
    """If the process leaves at once while this lasts, `action` comes first, in another thread than this one."""
    _before_leaving.append(action)
    try:
        yield
    finally:
        _before_leaving.remove(action)


def leave(number: int) -> None:
    """End the process with 128 + `number`, whatever the main thread is doing; KeyboardInterrupt where none attends."""
    if not _attending:
        raise KeyboardInterrupt
    try:
        limit = threading.Timer(GRACE, os._exit, [128 + number])
        limit.daemon = True
        limit.start()
        _say(f"stopped by {_name(number)}")
        with ExitStack() as stack:  # each is called, whatever another raises
            for action in list(_before_leaving):
                stack.callback(action)
    finally:
        os._exit(128 + number)


def _heeded() -> list[int]:
    """The signals that are not ignored, nor handled by something that Python cannot restore."""
    return [n for n in NUMBERS if signal.getsignal(n) not in (signal.SIG_IGN, None)]


def _listen(source: int) -> None:
    threading.Thread(target=_deliver_from, args=(source,), daemon=True, name="signals").start()


def _deliver_from(source: int) -> None:
    """Deliver the signals whose numbers come out of a pipe, but those that another pipe has brought."""
    global _delivered
    count = 0
    while True:
        word = os.read(source, 1)
        if word and word[0] not in NUMBERS:
            continue
        count += 1
        with _delivering:
            if count > _delivered:
                _delivered = count
                number = word[0] if word else signal.SIGHUP  # the end of the pipe: our parent is gone
                (_handlers[-1] if _handlers else leave)(number)
        if not word:
            return


def _name(number: int) -> str:
    return signal.Signals(number).name


def _say(line: str) -> None:
    """One line on stderr, if that needs no waiting; not by `print`, which the main thread may be in the midst of."""
    with suppress(OSError, ValueError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, f"{ERASED if os.isatty(2) else ''}fgan: {line}\n".encode())
