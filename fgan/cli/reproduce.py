"""`fgan reproduce NAME`."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from estimators.rooms import Room
from fgan.cli.command import Base, require_device, show
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
    """Where to write; runs/<name> if not given."""
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
        from fgan.devices import interrupts
        from fgan.run import lock

        directory = Path(self.run or f"runs/{self.name}")
        with lock.Held(directory / "run.lock") as held, interrupts.before_leaving(held.release):
            made = EXPERIMENTS[self.name](self.name, directory, quiet=self.quiet)
        for path in made:
            show(f"{'picture' if path.suffix == '.png' else 'data':<8} {path.resolve()}")
