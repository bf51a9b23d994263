"""`fgan train CONFIG`."""

import os
import sys
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from fgan.cli.command import Base, reported, require_device, show, show_json
from fgan.config.checks import check
from fgan.config.fields import ConfigError
from fgan.config.schema import Config

COMMANDS = {"train": "Train an f-GAN or another model from a config; the same command again resumes where it stopped."}


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """How the processes of a run on many hosts find each other; detected automatically on TPU pods and under Slurm."""

    coordinator: str = ""
    """HOST:PORT of process 0, which all can reach."""
    processes: int = 0
    """How many there are."""
    process_id: int = -1
    """Which one this is, counted from 0."""


@dataclass(frozen=True, kw_only=True)
class Command(Base):
    file: Annotated[Positional[str], arg(metavar="CONFIG")]
    """A TOML file such as configs/ring.toml."""
    run: str | None = None
    """The run's directory; runs/<config>-<divergence>-seed<k> if not given."""
    overwrite: bool = False
    """Set an existing run aside and start anew."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print one JSON object in place of the summary."""
    distributed: bool = False
    """Take part in a run of many processes, one a host: the same command on each."""
    peers: Annotated[Distributed, arg(name="distributed")] = field(default_factory=Distributed)
    settings: Annotated[Config, arg(name="")] = field(default_factory=Config)

    def __call__(self) -> None:
        check(self.settings)  # `train` does it too, but this is before jax starts
        if not self._is_distributed():
            return self._train()
        from fgan.devices import processes

        if not os.environ.get(processes.SUPERVISED):
            return processes.supervise(sys.argv[1:])
        processes.join(self.peers.coordinator, self.peers.processes, self.peers.process_id)
        return self._train()

    def _train(self) -> None:
        require_device()
        from estimators.divergences.table import divergence
        from fgan.run.directory import RunDirectory
        from fgan.run.loop import train

        name = self.settings.minimised
        name = name if name == self.settings.model else divergence(name).name
        run = self.run or RunDirectory.default_name(Path(self.file).stem, name, self.settings.seed)
        outcome = train(self.settings, run, overwrite=self.overwrite, quiet=self.quiet)
        if not outcome.leads:
            return
        page = reported(outcome.run)
        figures = outcome.run / "figures"
        latest = (sorted(figures.glob(f"{what}-*.png"))[-1:] for what in ("samples", "reconstructions"))
        pictures = [*figures.glob("training.png"), *chain(*latest), *figures.glob("judged.png")]
        if self.json:
            found = {"run": str(outcome.run), "step": outcome.step, "notes": outcome.notes, "scores": outcome.scores}
            show_json(
                found
                | {"warnings": outcome.warnings, "pictures": list(map(str, pictures)), "report": page and str(page)}
            )
            return
        show(f"run        {outcome.run}")
        for note in outcome.notes:
            show(note)
        for scores in outcome.scores:
            for line in _lines(scores):
                show(line)
        for warning in outcome.warnings:
            show(f"warning    {warning}")
        for i, picture in enumerate(pictures):
            show(f"{'' if i else 'pictures':<11}{picture}")
        if page:
            show(f"report     {page}")

    def _is_distributed(self) -> bool:
        """Whether this is one process of several."""
        given = self.peers
        if given == Distributed():
            return self.distributed
        host, _, port = given.coordinator.rpartition(":")
        usable = host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16
        if not (usable and 0 <= given.process_id < given.processes):
            raise ConfigError(
                "--distributed.coordinator HOST:PORT, --distributed.processes N and --distributed.process-id below N "
                f"go together: given {given.coordinator!r}, {given.processes}, {given.process_id}"
            )
        return True


def _lines(scores: dict[str, Any]) -> list[str]:
    """An evaluation's scores as lines: the model's, then the real data's own, then what a judge found."""
    from fgan.scores import image_judge, judge

    judged = ("judged", "features", "nearest_training")
    below = {key: value for key, value in scores.items() if isinstance(value, dict) and key not in judged}
    said = [f"scores     {_numbers(scores)}", *(f"  {k.replace('_', ' ')}: {_numbers(v)}" for k, v in below.items())]
    said += judge.lines(scores["judged"]) if "judged" in scores else []
    return said + (image_judge.lines(scores) if "nearest_training" in scores else [])


def _numbers(scores: dict[str, Any]) -> str:
    plain = {key: value for key, value in scores.items() if not isinstance(value, (dict, list))}
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in plain.items())
