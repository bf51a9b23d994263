"""SIGTERM and SIGINT while something long runs: the first asks it to save and stop, a second ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(RuntimeError):
    """A signal asked to stop; the state is saved."""

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped by signal {number} at step {step}; the same command goes on from there")
        self.exit_code = 128 + number


@contextmanager
def signals() -> Iterator[list[int]]:
    """A list that receives the number of the first SIGTERM or SIGINT; a second one raises KeyboardInterrupt."""
    caught: list[int] = []

    def note(number, _):
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread, as in a notebook's helper: the caller keeps its own handlers
        before = {}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
