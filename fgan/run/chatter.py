"""Keeps quiet what orbax's threads say about an error that its caller raises as well.

When a file system refuses, each of its threads logs the error with a traceback, its abandoned futures do so again when
they are collected, and tensorstore's threads meet event loops that are closed: hundreds of lines around the one that
matters. Its tasks do so too when a step is pruned while it is read, and a newer one is read instead. What is dropped is
known by where it comes from; all else passes.
"""

import functools
import inspect
import logging
import sys
import warnings
from types import TracebackType
from typing import Any

SOURCES = ("/orbax/", "/tensorstore/")


@functools.cache  # once a process: futures are collected, and threads end, long after the call that failed
def drop() -> None:
    """Drop what orbax logs, and what asyncio and the interpreter say about its tasks and loops, from now on."""
    logging.getLogger("absl").addFilter(lambda record: not _of_orbax(record.pathname))
    logging.getLogger("asyncio").addFilter(lambda record: not (record.exc_info and _theirs(record.exc_info[2])))
    warnings.filterwarnings("ignore", r"coroutine 'async_(de)?serialize.* was never awaited", RuntimeWarning)
    otherwise = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not (_is_late(unraisable) or _is_abandoned(unraisable)):
            otherwise(unraisable)

    sys.unraisablehook = hook


def _of_orbax(file: str) -> bool:
    return any(source in file.replace("\\", "/") for source in SOURCES)


def _theirs(traceback: TracebackType | None) -> bool:
    """Whether one of the calls in a traceback is orbax's, or it has none, as of an error made outside Python."""
    if traceback is None:
        return True
    while traceback is not None:
        if _of_orbax(traceback.tb_frame.f_code.co_filename):
            return True
        traceback = traceback.tb_next
    return False


def _is_late(unraisable: Any) -> bool:
    """Whether a thread outside Python had an answer for an event loop that was closed meanwhile."""
    closed = isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == "Event loop is closed"
    first = unraisable.exc_traceback
    return closed and unraisable.object is None and first and first.tb_frame.f_code.co_name == "call_soon_threadsafe"


def _is_abandoned(unraisable: Any) -> bool:
    """Whether a task of orbax is collected that nobody waits for, since another one has failed already."""
    return inspect.iscoroutine(unraisable.object) and _of_orbax(unraisable.object.cr_code.co_filename)
