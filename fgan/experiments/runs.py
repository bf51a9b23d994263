"""Many training runs side by side: each in a process and a directory of its own, on a core of its own.

A run resumes where it stopped, and one that diverges stops no other.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fgan.config.checks import check
from fgan.config.schema import Config
from fgan.config.toml import to_toml
from fgan.data.dataset import Dataset
from fgan.devices.interrupts import keeping, signals
from fgan.devices.processes import Child
from fgan.experiments.tables import summary
from fgan.run.directory import RunDirectory
from fgan.run.lock import RunLocked
from fgan.run.loop import Diverged, Stopped
from fgan.run.members import fingerprint, read_facts, refuse_other_data, restore
from fgan.run.progress import Reporter
from fgan.run.whole_files import write_atomic

POLL = 1.0
"""Seconds between two checks of the processes, each of which lives for minutes."""

Sampler = Callable[[int, int], np.ndarray]
"""(n, seed) → samples [n, d] in the data's own units."""

Score = Callable[["Run", int], dict[str, Any]]
"""(a finished run, which of its seeds) → scores by name."""


class RunFailed(RuntimeError):
    """A training run ended for a reason that is no result, such as a full disk."""

    exit_code = 7


@dataclass(frozen=True)
class Run:
    """One training run of an experiment, in `directory`."""

    config: Config
    variant: str
    directory: Path

    @property
    def finished(self) -> bool:
        """Whether it need not run again: done, or given up as diverged."""
        status = self.status
        return status.get("state") == "finished" or self.void or self.diverged  # what means nothing is a result, too

    @property
    def diverged(self) -> bool:
        """Whether every seed went non-finite and stayed so."""
        return (self.directory / "nan_report.json").exists()

    @property
    def void(self) -> bool:
        """Whether it ended with numbers that mean nothing, such as samples far from all data."""
        return self.status.get("exit_code") == Diverged.exit_code and not self.diverged

    @property
    def content(self) -> str:
        """What its numbers depend on: configuration and data; "" before it has any."""
        run = RunDirectory(self.directory)
        known = (self.directory / "config.toml").exists() and (self.directory / "data.json").exists()
        return fingerprint(run, read_facts(run)["fingerprint"]) if known else ""

    @property
    def status(self) -> dict[str, Any]:
        """The content of its status.json; {} before it has one."""
        return RunDirectory(self.directory).last_status

    @property
    def step(self) -> int:
        """The steps it has done."""
        return self.status.get("step", 0)

    def beside(self, ending: str) -> Path:
        """The file of that ending next to the directory, as in `runs/preset-alpha-0.5-seed0.log`."""
        return self.directory.parent / (self.directory.name + ending)


def planned(
    directory: Path, names: Sequence[str], preset: Callable[..., Config], compared: Mapping[str, Sequence[str]]
) -> list[Run]:
    """A run of every divergence by `preset(name, variant="preset")`, then of some by the variants in `compared`."""
    made = []
    for variant, chosen in {"preset": names, **compared}.items():
        for name in (name for name in names if name in chosen):
            config = preset(name, variant=variant)
            made.append(Run(config, variant, directory / RunDirectory.default_name(variant, name, config.seed)))
    return made


def train(
    runs: Sequence[Run],
    *,
    progress: Callable[[int, str], None] = lambda done, text: None,
    finished: Callable[[Run], None] = lambda run: None,
) -> None:
    """Train the runs that are not finished, as many at once as there are cores.

    Asked to stop by a signal, it stops the runs with their state saved; the next call goes on from there.

    `progress` is called with the steps done and the divergences that train now, `finished` with every run that ends, or
    had ended before. Raises Stopped (128 + signal), RunLocked (6), RunFailed (7).
    """
    waiting = [run for run in runs if not run.finished]
    for run in runs:
        if run not in waiting:
            finished(run)
    one_by_one = jax.default_backend() != "cpu" or not hasattr(os, "sched_getaffinity")
    cores = [0] if one_by_one else sorted(os.sched_getaffinity(0))
    started: dict[int, tuple[Run, Child]] = {}
    with (
        signals() as stop,
        keeping(lambda: True),
        ExitStack() as awaited,
        ExitStack() as stopped,  # at the end all stop, then are awaited
    ):
        while waiting or started:
            for core in cores:
                if waiting and core not in started:
                    run = waiting.pop(0)
                    process = start(run, core)
                    started[core] = (run, process)
                    stopped.callback(process.tell, signal.SIGTERM)
                    awaited.callback(process.wait)
            time.sleep(POLL)
            for core, (run, process) in list(started.items()):
                if process.poll() is not None:
                    del started[core]
                    _refuse_failure(run, process.returncode)
                    finished(run)
            done = sum(run.step for run in runs)
            progress(done, ", ".join(run.config.minimised for run, _ in started.values()))
            if stop:
                raise Stopped(stop[0], done)


def start(run: Run, core: int) -> Child:
    """The process of `fgan train` for the run, on one core where the system can hold it there."""
    run.directory.parent.mkdir(parents=True, exist_ok=True)
    config = run.beside(".toml")
    config.write_text(to_toml(run.config), encoding="utf-8")
    words = ["train", str(config), "--run", str(run.directory), "--quiet"]
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} if jax.default_backend() == "cpu" else {}
    with run.beside(".log").open("ab") as log:
        process = Child(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | alone)
    if alone and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {core})
    return process


def _refuse_failure(run: Run, code: int) -> None:
    """Raise RunFailed unless the process finished, or diverged, which is a result; RunLocked if another trains it."""
    if code not in (0, Diverged.exit_code):
        log = run.beside(".log").read_text(errors="replace").strip().splitlines()
        reason = log[-1] if log else "no message"
        if code == RunLocked.exit_code:
            raise RunLocked(reason.removeprefix("fgan: "))
        raise RunFailed(f"{run.config.minimised}: training stopped with exit code {code}: {reason}")


def fill(
    path: Path,
    facts: dict[str, Any],
    runs: Sequence[Run],
    score: Score,
    names: Sequence[str],
    quiet: bool,
    data: Dataset | None = None,
) -> dict[str, Any]:
    """`facts` with the `row` of each run under "rows", written to `path` whenever one ends; trains what is missing.

    Raises:
        ConfigConflict, CheckpointError: a run that is there already has other settings, or is not of these `data`.
    """
    for run in runs:
        refuse_other(run, data)
    rows: dict[Path, dict[str, Any]] = {}
    result = facts | {"rows": []}

    def write(run: Run) -> None:
        rows[run.directory] = row(run, score, names)
        result["rows"] = [rows[r.directory] for r in runs if r.directory in rows]
        write_atomic(path, json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n")

    with Reporter(sum(run.config.steps for run in runs), quiet=quiet) as report:
        train(runs, progress=report.advance, finished=write)
    return result


def refuse_other(run: Run, data: Dataset | None) -> None:
    """Raise ConfigConflict or CheckpointError where the directory holds a run of other settings, or of other data."""
    there = RunDirectory(run.directory)
    if (run.directory / "config.toml").exists():
        there.refuse_other(to_toml(check(run.config)))
    if data is not None and (run.directory / "data.json").exists():
        refuse_other_data(there, data)


def row(run: Run, score: Score, names: Sequence[str]) -> dict[str, Any]:
    """A finished run in a table: its facts, the scores of each seed, and the `summary` of the scores in `names`."""
    metrics, timings = map(RunDirectory(run.directory).records, ("metrics.jsonl", "timings.jsonl"))
    skipped = sum(np.sum(r["skipped"]) * run.config.log.every for r in metrics if "skipped" in r)
    facts = {
        "divergence": run.config.minimised,
        "variant": run.variant,
        "directory": f"runs/{run.directory.name}",
        "steps": run.step,
        "diverged": run.diverged,
        "skipped_steps": float(skipped),
        "seconds": sum(r["seconds"] for r in timings if "seconds" in r),
    }
    if run.diverged:
        return facts | {"seeds": []}
    if run.void:
        facts["void"] = run.status.get("reason", "")
    seeds = [{"seed": run.config.seed + i} | scores(run, i, score) for i in range(run.config.seeds)]
    return facts | {"seeds": seeds, **summary(seeds, names)}


def scores(run: Run, member: int, score: Score) -> dict[str, Any]:
    """`score` of a seed of a finished run, kept in a file beside it. Delete that file when `score` itself changes."""
    file = run.beside(f"-member{member}.json")
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if (kept.get("step"), kept.get("content")) != (run.step, run.content):
        kept = {"step": run.step, "content": run.content, "scores": score(run, member)}
        write_atomic(file, json.dumps(kept, allow_nan=False) + "\n")
    return kept["scores"]


def of_samples(score: Callable[[Sampler], dict[str, Any]]) -> Score:
    """The scores of a run by what `score` says of its sampler."""
    return lambda run, member: score(sampler(run, member))


def sampler(run: Run, member: int = 0) -> Sampler:
    """The generator that the `member`-th seed of a finished run ended with."""
    restored = restore(run.directory, member)
    return lambda n, seed: restored.sample(n, seed=seed)


def device() -> str:
    """What the numbers were made on, in words."""
    return f"{jax.devices()[0].device_kind} ({jax.default_backend()})"
