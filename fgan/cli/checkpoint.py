"""`fgan checkpoint verify|list RUN`: which saved steps are sound, without changing anything."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from fgan.cli.command import Base, show

if TYPE_CHECKING:
    from fgan.run.directory import RunDirectory

COMMANDS = {"checkpoint": "Verify or list the saved steps of a run, or of each part of a sweep; nothing is changed."}


@dataclass(frozen=True, kw_only=True)
class Command(Base):
    action: Positional[Literal["verify", "list"]]
    """verify exits 5 if a step is unsound, with a line for each; list shows them all."""
    run_directory: Annotated[Positional[str], arg(metavar="RUN")]
    """The directory of a run or a sweep."""
    json: bool = False
    """Print one JSON object in place of the lines."""

    def __call__(self) -> None:
        from fgan.run.checkpoint import CheckpointError
        from fgan.run.directory import RunDirectory

        runs = [survey(run) for run in _runs(RunDirectory.find(self.run_directory))]
        steps = [step for run in runs for step in run["steps"]]
        unsound = [step for step in steps if not step["sound"]]
        if self.json:
            print(json.dumps({"runs": runs, "sound": len(steps) - len(unsound), "unsound": len(unsound)}, indent=1))
        else:
            for run in runs:
                for line in table(run) if self.action == "list" else verdicts(run):
                    show(line)
        if self.action == "list":
            return
        if not steps:
            raise CheckpointError(f"{self.run_directory} has no checkpoint: let it train to its first one")
        if unsound:
            raise CheckpointError(f"{self.run_directory}: {len(unsound)} of {len(steps)} checkpoints cannot be used")


def _runs(run: "RunDirectory") -> "list[RunDirectory]":
    """The run, or the parts of a sweep."""
    parts = sorted((run.path / "parts").glob("*/config.toml"))
    return [type(run).find(path.parent) for path in parts] if (run.path / "parts").is_dir() else [run]


def survey(run: "RunDirectory") -> dict[str, Any]:
    """What is saved of a run: whose it is, its steps, and which of them a resume would take."""
    from fgan.run.checkpoint import Checkpoints
    from fgan.run.members import fingerprint, members_in, read_facts

    config = members_in(run).config
    saved = Checkpoints(run.path / "checkpoints", fingerprint=fingerprint(run, read_facts(run)["fingerprint"]))
    examined = saved.examined()
    takes = max((found.step for found in examined if found.fault is None), default=None)
    steps = []
    for found in examined:
        fault = (
            str(found.fault) if found.fault else run.lost("metrics.jsonl", found.metrics_bytes, found.metrics_sha256)
        )
        if fault and found.step == takes:  # a resume would refuse it, and take no other
            takes = None
        when = datetime.fromtimestamp(found.changed).astimezone().isoformat(sep=" ", timespec="seconds")
        facts = {"step": found.step, "bytes": found.size, "saved": when, "sound": not fault, "fault": fault}
        steps.append(facts)
    owner = {"config": str(run.path / "config.toml"), "data": config.data.path or config.data.name}
    about = {"model": config.model, "divergence": config.minimised, "seed": config.seed, "seeds": config.seeds}
    return {"run": str(run.path), **owner, **about, "steps": steps, "resumes": takes, "set_aside": saved.set_aside()}


def table(run: dict[str, Any]) -> Iterator[str]:
    """The saved steps of a run as lines."""
    from fgan.devices.engines import size_text

    seeds = f"seed {run['seed']}" + (f" and {run['seeds'] - 1} more" if run["seeds"] > 1 else "")
    yield f"{run['run']}: {run['model']}, {run['divergence']}, on {run['data']}, {seeds}"
    for step in run["steps"]:
        verdict = "sound" if step["sound"] else f"unsound: {step['fault']}"
        verdict += ", a resume takes it" if step["step"] == run["resumes"] else ""
        yield f"{step['step']:>10}  {size_text(step['bytes']):>10}  {step['saved']}  {verdict}"
    for name in run["set_aside"]:
        yield f"{name:>10}  set aside: it failed its checks; delete it when it is of no more use"
    if not run["steps"]:
        yield "  no checkpoint"


def verdicts(run: dict[str, Any]) -> Iterator[str]:
    """A line for each step: sound, or what is wrong and what to do."""
    takes = run["resumes"]
    remedy = "no step can be used: put back a good copy, or start anew with --overwrite"
    if takes is not None:
        remedy = f"put back a good copy, or run fgan train again: it goes on from step {takes} and sets this one aside"
    for step in run["steps"]:
        place = Path(run["run"]) / "checkpoints" / str(step["step"])
        older = f"a resume takes step {takes} and leaves it" if takes is not None and step["step"] < takes else remedy
        yield f"{place}: sound" if step["sound"] else f"{place}: {step['fault']}; {older}"
