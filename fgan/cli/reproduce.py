"""`fgan reproduce NAME`."""

import inspect
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from estimators.rooms import Room
from fgan.cli.command import Base, require_device, show
from fgan.config.fields import ConfigError, absolute, nearest

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
    """Where to write; runs/<name> if not given."""
    path: str = ""
    """A folder of images in place of the experiment's own, for one that takes it: stacked."""
    quiet: bool = False
    """Show no progress."""

    def __call__(self) -> None:
        if self.list or not self.name:
            for name, line in EXPERIMENTS.about.items():
                show(f"{name:<18}{line}")
            return
        if self.name not in EXPERIMENTS:
            raise ConfigError(f"unknown experiment {self.name!r}: {nearest(self.name, EXPERIMENTS)}")
        require_device()
        function, options = EXPERIMENTS[self.name], {"path": absolute(self.path)} if self.path else {}
        if self.path and "path" not in inspect.signature(function).parameters:
            raise ConfigError(f"--path {self.path}: {self.name} brings its own data; leave it out")
        from fgan.devices import interrupts
        from fgan.run import lock

        directory = Path(self.run or f"runs/{self.name}")
        with lock.Held(directory / "run.lock") as held, interrupts.before_leaving(held.release):
            made = function(self.name, directory, quiet=self.quiet, **options)
        for path in made:
            show(f"{'picture' if path.suffix == '.png' else 'data':<8} {path.resolve()}")
