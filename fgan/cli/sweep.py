"""`fgan sweep SWEEP`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fgan.cli.command import Base, reported, require_device, show

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
        doubtful = sum(bool(member.get("warnings")) for member in outcome.scores)
        diverged = sum(member["state"] == "diverged" for member in outcome.scores)
        show(f"run        {outcome.run}")
        show(f"members    {len(outcome.scores) - diverged} finished, {diverged} diverged")
        show(f"results    {outcome.run / 'results.csv'}")
        for warning in outcome.warnings[: len(outcome.warnings) - doubtful]:
            show(f"warning    {warning}")
        if doubtful:
            show(f"warning    {doubtful} with results not to be trusted: the column warnings of results.csv says why")
        if (outcome.run / "sweep.png").exists():
            show(f"picture    {outcome.run / 'sweep.png'}")
        if page := reported(outcome.run):
            show(f"report     {page}")
