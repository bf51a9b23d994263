"""`fgan reproduce NAME`."""

import hashlib
import inspect
import os
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from estimators.rooms import Room
from fgan.cli.command import Base, reported, require_device, show
from fgan.config.fields import ConfigError, nearest

COMMANDS = {"reproduce": "Run a published experiment again, with exact values beside it."}
EXPERIMENTS = Room("fgan.experiments", "EXPERIMENTS", "reproduce")
"""Every experiment by name; each is a file of the room."""


@dataclass(frozen=True, kw_only=True)
class Command(Base):
    name: Positional[str] = ""
    """Which; see --list."""
    list: bool = False
    """List the experiments."""
    run: str | None = None
    """Where to write; runs/<name> if not given, with the name of the data after it."""
    data: str = ""
    """Images to use in place of the digits, where an experiment is on images: a folder or a file, as for data.path."""
    quiet: bool = False
    """Show no progress."""

    def __call__(self) -> None:
        if self.list or not self.name:
            for name, line in EXPERIMENTS.about.items():
                show(f"{name:<18}{line}")
            return
        if self.name not in EXPERIMENTS:
            raise ConfigError(f"unknown experiment {self.name!r}: {nearest(self.name, EXPERIMENTS)}")
        options = self._options()
        require_device()
        from fgan.devices import interrupts
        from fgan.run import lock
        from fgan.run.results_report import is_results

        after = f"-{Path(options['data']).stem}-{_short(options['data'])}" if options else ""
        directory = Path(self.run or f"runs/{self.name}{after}")
        with lock.Held(directory / "run.lock") as held, interrupts.before_leaving(held.release):
            made = EXPERIMENTS[self.name](self.name, directory, quiet=self.quiet, **options)
        for path in made:
            show(f"{'picture' if path.suffix == '.png' else 'data':<8} {path.resolve()}")
        if is_results(directory) and (page := reported(directory)):
            show(f"{'report':<8} {page.resolve()}")

    def _options(self) -> dict[str, str]:
        """What this experiment takes beside what all do. Raises ConfigError for --data where it takes none."""
        if not self.data:
            return {}
        if "data" not in inspect.signature(EXPERIMENTS[self.name]).parameters:
            raise ConfigError(f"--data {self.data}: {self.name} has data of its own; leave it out")
        return {"data": os.path.abspath(os.path.expanduser(self.data))}


def _short(path: str) -> str:
    """A few letters that tell the path from others of the same last name."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:6]
