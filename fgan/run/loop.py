"""The training loop: many steps a compiled call, seeds at once, all devices, and everything a long run needs.

    build     config + data → FGAN
    train     the loop: chunk, metrics line, evaluation, checkpoint, until the steps are done or a signal asks to stop
    restore   a finished or interrupted run → its FGAN and state, to sample from

A resumed run equals an uninterrupted one bit for bit: step i draws from fold_in(key, i), the checkpoint holds
everything a step changes, and metrics.jsonl is cut back to it. Only timings.jsonl knows the clock.

Layer 7.
"""

from __future__ import annotations

import json
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fgan.config.schema import Config, ConfigError, check, to_toml
from fgan.data.sources import Dataset
from fgan.data.sources import load as load_data
from fgan.devices import engines as parallel
from fgan.devices import processes
from fgan.devices.engines import Layout
from fgan.models.model import build
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.directory import ResourceError, RunDirectory
from fgan.run.program import chunk, fresh, seed_numbers
from fgan.run.progress import Reporter
from fgan.run.restore import describe_data, identity
from fgan.scores.evaluation import Evaluation

PATIENCE = 50  # consecutive steps left out for being non-finite before a seed is given up


class Diverged(RuntimeError):
    """Every seed went non-finite and stayed so."""

    exit_code = 4


class Stopped(RuntimeError):
    """A signal asked to stop; the state is saved."""

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped by signal {number} at step {step}; the same command goes on from there")
        self.exit_code = 128 + number


class Outcome(NamedTuple):
    """What a training run left behind; `leads` tells whether this process wrote it."""

    run: Path
    step: int
    scores: list[dict[str, Any]]
    leads: bool = True


# ---------------------------------------------------------------------------------------------------------------------


def train(config: Config, directory: str | Path, *, overwrite: bool = False, quiet: bool = False) -> Outcome:
    """Train, or go on training, the run in `directory`.

    A changed `steps` goes on too; a schedule then runs as if it had been the number from the start.

    Raises:
        ConfigError, ConfigConflict (exit 2), DataError (3), Diverged (4), CheckpointError (5), RunLocked (6),
        ResourceError (7), Stopped (128 + signal).
    """
    check(config)
    data = load_data(config.data)
    where = parallel.layout(config.parallel)
    if config.batch % where.n:
        raise ConfigError(f"batch = {config.batch} must be a multiple of the {where.n} devices")
    build(config, data)  # refuse what cannot be built before anything is written
    with (
        _directory(directory, to_toml(config), overwrite) as run,
        Reporter(config.steps, quiet=quiet or not processes.leader()) as report,
        signals() as stop,
    ):
        loop = _Loop(config, data, run, report, where)
        try:
            with processes.together():
                return loop.run(stop)
        except Stopped:
            run.status("preempted", loop.step)
            raise
        except (ValueError, RuntimeError, OSError) as error:
            run.status("failed", loop.step, reason=str(error).splitlines()[0] if str(error) else repr(error))
            raise


def _directory(path: str | Path, config_toml: str, overwrite: bool) -> RunDirectory:
    """The run's directory: the leader's to write, the others' to read once the leader has made it."""
    made = RunDirectory.open(path, config_toml, overwrite=overwrite) if processes.leader() else None
    processes.barrier("the run directory is there")
    return made or RunDirectory.find(path, writes=False)


class _Loop:
    """One training run in progress: the state of `train`."""

    def __init__(self, config: Config, data: Dataset, run: RunDirectory, report: Reporter, where: Layout):
        self.config, self.data, self.directory, self.report, self.where = config, data, run, report, where
        saved_under = identity(run, data.fingerprint())
        self.checkpoints = Checkpoints(run.checkpoints, fingerprint=saved_under, warn=report.say)
        with report.phase("preparing the evaluation"):
            self.evaluation = Evaluation(config, data, build(config, data)) if run.writes else None
        self.rows, self.seeds = parallel.shares(data.rows, where), seed_numbers(config)
        self.state, self.step = fresh(config, data, where=where), 0
        self.scores: list[dict[str, Any]] = []
        self._compiled: dict[int, Any] = {}

    def run(self, stop: list[int]) -> Outcome:
        self._resume()
        for note in self.data.notes:
            self.report.say(note)
        while self.step < self.config.steps:
            self._advance()
            last = self.step >= self.config.steps
            if last or self.step % self.config.log.evaluate == 0:
                self._evaluate()
            asked = processes.any_of(stop)  # a signal from here on waits for the next call, which saves before it stops
            if last or asked or self.step % self.config.log.checkpoint == 0:
                self._save()
            self.directory.status("running", self.step)
            if asked and not last:
                raise Stopped(asked[0], self.step)
        if self.directory.writes:
            from fgan.run import pictures as plots  # after the first step: matplotlib takes a second to import

            plots.training(self.directory.path)
        self.directory.status("finished", self.step, devices=parallel.describe())
        scores = self.scores or self._last_scores()
        return Outcome(self.directory.path, self.step, scores, self.directory.writes)

    def _resume(self) -> None:
        restored = self.checkpoints.restore(parallel.abstract(self.state), finite=False)
        if restored is not None:
            self.step, self.state = restored.step, restored.state
            self.directory.cut("metrics.jsonl", restored.metrics_bytes)
            self.report.say(f"resuming {self.directory.path} at step {self.step}")
        elif self._was_finished():
            raise CheckpointError(
                f"{self.directory.path} finished once, but its checkpoints are gone; put them back, or start anew with "
                "--overwrite"
            )
        else:
            self.directory.cut("metrics.jsonl", 0)
            self.directory.cut("timings.jsonl", 0)
            if self.directory.writes:
                describe_data(self.directory, self.data)
        self.directory.status("running", self.step)

    def _was_finished(self) -> bool:
        status = self.directory.path / "status.json"
        return status.exists() and json.loads(status.read_text())["state"] == "finished"

    def _advance(self) -> None:
        """One compiled call, and its line of metrics."""
        every = self.config.log.every
        n = min(every - self.step % every, self.config.steps - self.step)  # back in step where a resumed run is not
        arguments = (self.rows, self.seeds, self.state, jnp.asarray(self.step, jnp.int32))
        if n not in self._compiled:
            begun = time.monotonic()
            with self.report.phase(f"compiling {n} steps for {parallel.describe()}"):
                program = chunk(self.config, self.data, n)
                self._compiled[n] = parallel.compile_chunk(program, arguments, self.where)
            self.directory.append({"step": self.step, "compile_seconds": time.monotonic() - begun}, "timings.jsonl")
        begun = time.monotonic()
        self.state, metrics = jax.block_until_ready(self._compiled[n](*arguments))
        self.step += n
        values = {name: np.asarray(value) for name, value in parallel.local(metrics).items()}
        self.directory.append({"step": self.step} | values)
        self.directory.append({"step": self.step, "seconds": time.monotonic() - begun, "steps": n}, "timings.jsonl")
        self._refuse_divergence(values)
        bound = float(np.nanmedian(values["bound"]))
        self.report.advance(self.step, f"{self.config.divergence} bound {bound:.4f}")

    def _refuse_divergence(self, values: dict[str, np.ndarray]) -> None:
        skipped = np.asarray(parallel.local(self.state.skipped))
        if not (skipped >= PATIENCE).all():
            return
        report = {
            "first_bad_step": int(self.step - skipped.max()),
            "skipped": skipped.tolist(),
            "metrics": {name: [repr(float(v)) for v in value] for name, value in values.items()},
            "replay": f"fgan train {self.directory.path / 'config.toml'} --run {self.directory.path}-replay",
        }
        if self.directory.writes:
            (self.directory.path / "nan_report.json").write_text(json.dumps(report, indent=1) + "\n")
        raise Diverged(
            f"every seed has been non-finite for {PATIENCE} steps or more since step {report['first_bad_step']}; see "
            f"{self.directory.path / 'nan_report.json'}. Lower the learning rates, or add --penalty r1"
        )

    def _evaluate(self) -> None:
        state = parallel.local(self.state)
        if self.evaluation is None:
            return
        samples, self.scores = self.evaluation(state, self.step)
        self.directory.append({"step": self.step, "scores": self.scores})
        folder = self.directory.path / "samples"
        folder.mkdir(exist_ok=True)
        np.save(folder / f"{self.step:08d}.npy", samples)
        from fgan.run import pictures as plots

        plots.samples(self.directory.path, self.step)

    def _save(self) -> None:
        try:
            self.checkpoints.save(self.step, self.state, metrics_bytes=self.directory.size("metrics.jsonl"))
        except OSError as error:
            raise ResourceError(f"{error}; the previous checkpoint is kept: free some space and run again") from error

    def _last_scores(self) -> list[dict[str, Any]]:
        lines = (self.directory.path / "metrics.jsonl").read_text().splitlines()
        return next((r["scores"] for line in reversed(lines) if "scores" in (r := json.loads(line))), [])


@contextmanager
def signals():
    """A list that receives the number of the first SIGTERM or SIGINT; a second one ends the program at once."""
    caught: list[int] = []

    def note(number, _):
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread, as in a notebook's helper: the caller keeps its own handlers
        before = {}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
