"""`fgan report RUN…`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fgan.cli.command import Base, show
from fgan.cli.outputs import checked_page, whole
from fgan.config.fields import ConfigError

COMMANDS = {"report": "Write a page about a run, or about several side by side: one file that any browser shows."}


@dataclass(frozen=True, kw_only=True)
class Command(Base):
    runs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN…")]
    """Directories of runs, or one of a sweep or an experiment."""
    out: str | None = None
    """The file to write, .html; report.html in the run's directory, or here for several, if not given."""

    def __call__(self) -> None:
        from fgan.run import report

        if not self.runs:
            raise ConfigError("name the directory of a run, or of several, as in fgan report runs/ring-js-seed0")
        out = checked_page("out", self.out)
        if out is None:
            out = Path(self.runs[0], report.REPORT) if len(self.runs) == 1 else Path(report.REPORT)
        page = report.of(self.runs)
        with whole(out) as draft:
            draft.write_text(page, encoding="utf-8")
        show(out)
