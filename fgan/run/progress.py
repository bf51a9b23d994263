"""What a person sees while something long runs, on stderr."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from estimators.characters import printable


class Stopped(RuntimeError):
    """A signal asked to stop; the state is saved."""

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped by signal {number} at step {step}; the same command goes on from there")
        self.exit_code = 128 + number


class _Stderr(Console):
    """The console of stderr; once its reader has left, nothing is shown."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        self.quiet = True


PLAIN_SECONDS = 10.0  # between plain lines, so that the log of an hour has hundreds of them and not thousands


class Reporter:
    """Shows phases and steps; `advance` may be called as often as one likes."""

    def __init__(self, total: int, *, quiet: bool = False, unit: str = "step"):
        self.total, self.quiet, self.unit = total, quiet, unit
        self.console = _Stderr()
        self.live = self.console.is_terminal and not quiet
        self._bar: Progress | None = None
        self._begun = self._shown = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> Self:
        if self.live:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
            )
            remaining = (TimeElapsedColumn(), TextColumn("eta"), TimeRemainingColumn())
            self._bar = Progress(*columns, *remaining, console=self.console, transient=True)
            self._task = self._bar.add_task("starting", total=self.total)
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, line: str) -> None:
        """One line that stays."""
        if not self.quiet:
            self.console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A part that takes time but no steps, such as compiling: named while it lasts, timed when done."""
        begun = time.monotonic()
        if self._bar:
            self._bar.update(self._task, description=name)
        yield
        self.say(f"{name}: {time.monotonic() - begun:.1f} s")
        self._begun, self._first = time.monotonic(), None  # steps before it do not count towards the rate

    def advance(self, step: int, text: str = "") -> None:
        """`step` of the total are done."""
        if self._first is None:
            self._first = step
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=step, description=text)
        elif now - self._shown > PLAIN_SECONDS or step >= self.total:
            rate = (step - self._first) / max(now - self._begun, 1e-9)
            left = f", {(self.total - step) / rate:.0f} s to go" if rate > 0 and step < self.total else ""
            self.say(f"{self.unit} {step}/{self.total} {text}{left}")
            self._shown = now
