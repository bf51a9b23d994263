"""`fgan sample RUN`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fgan.cli.command import Base, complain, require_device, show
from fgan.cli.outputs import whole
from fgan.config.fields import ConfigError

COMMANDS = {"sample": "Draw samples from a trained run, or from a member of a sweep, in the data's own units."}


@dataclass(frozen=True, kw_only=True)
class Command(Base):
    run_directory: Annotated[Positional[str], arg(metavar="RUN")]
    """The directory of a run or a sweep."""
    n: Annotated[int, arg(aliases=["-n"])] = 10_000
    """How many."""
    out: str = "samples.npy"
    """The file to write: .csv, .tsv or .parquet as the training file was written, or .npy, numbers alone."""
    seed: int = 0
    """Seed of the noise."""
    member: int = 0
    """Which of the run's seeds to sample from, or the line of a sweep's results.csv, counted from 0."""
    chosen: Annotated[int | None, arg(name="class")] = None
    """The class to draw, counted from 0, of a run with data.condition; all by their shares if none is named."""

    def __call__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"-n {self.n}: must be at least 1")
        from fgan.data.tables import WRITERS

        out = Path(self.out)
        if out.suffix not in WRITERS or not out.parent.is_dir():
            raise ConfigError(f"--out {self.out}: must be a {' or '.join(WRITERS)} file in an existing folder")
        require_device()
        from fgan.run.directory import RunDirectory
        from fgan.run.members import restore

        restored = restore(self.run_directory, self.member, warn=complain)
        samples = restored.sample(self.n, seed=self.seed, chosen=self.chosen)
        with whole(out) as draft:
            WRITERS[out.suffix](draft, samples, restored.data.form)
        status = RunDirectory.find(self.run_directory).last_status
        if status.get("state") == "failed":
            complain(f"note: {self.run_directory} failed at step {status['step']}: {status.get('reason', '')}")
        show(f"{out}: {samples.shape[0]} samples of dimension {samples.shape[1]}, from step {restored.step}")
