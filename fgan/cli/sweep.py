"""`fgan sweep SWEEP`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fgan.cli.command import Base, require_device, show

COMMANDS = {
    "sweep": "Train a grid of configs and seeds, many at once; the same command again resumes where it stopped."
}


@dataclass(frozen=True, kw_only=True)
class Command(Base):
    file: Annotated[Positional[str], arg(metavar="SWEEP")]
    """A TOML file such as configs/sweeps/mixture_1d.toml: a config, and a table [grid] of lists by field."""
    run: str | None = None
    """The sweep's directory; runs/sweep-<file> if not given."""
    overwrite: bool = False
    """Set an existing sweep aside and start anew."""
    quiet: bool = False
    """Show no progress."""

    def __call__(self) -> None:
        require_device()
        from fgan.run.sweep import load, sweep

        run = self.run or f"runs/sweep-{Path(self.file).stem}"
        outcome = sweep(load(self.file), run, overwrite=self.overwrite, quiet=self.quiet)
        diverged = sum(member["state"] == "diverged" for member in outcome.scores)
        show(f"run        {outcome.run}")
        show(f"members    {len(outcome.scores) - diverged} finished, {diverged} diverged")
        show(f"results    {outcome.run / 'results.csv'}")
        show(f"picture    {outcome.run / 'sweep.png'}")
