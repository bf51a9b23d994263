"""The training loop, the same for a run and for each part of a sweep.

    config ── check ──▶ build ──▶ Loop: resume, then chunk by chunk advance, evaluate, save

A resumed run equals an uninterrupted one bit for bit: step i draws from fold_in(key, i), the checkpoint holds
everything a step changes, and metrics.jsonl is cut back to it. Only timings.jsonl knows the clock.

A member is diverged while its last PATIENCE steps or more were left out because something was not finite.
"""

import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fgan.config.checks import check
from fgan.config.schema import Config, absolute_paths
from fgan.data.dataset import Dataset
from fgan.data.sources import load as load_data
from fgan.devices import engines, interrupts, processes
from fgan.devices.interrupts import signals
from fgan.run import agreement, json_files
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.directory import METRICS, REMEDIES, ResourceError, RunDirectory
from fgan.run.members import Members, fingerprint, own_divergences, refuse_other_data, write_data
from fgan.run.program import Program
from fgan.run.progress import Reporter, Stopped

PATIENCE = 50  # consecutive steps left out for being non-finite before a member is given up


class Diverged(RuntimeError):
    """Every member went non-finite and stayed so."""

    exit_code = 4


class Outcome(NamedTuple):
    """What a run or a sweep has come to."""

    run: Path  # its directory
    step: int  # of all parts of a sweep together
    scores: list[dict[str, Any]]  # a dict a member: the last scores of a run, the lines of a sweep's results.csv
    leads: bool = True  # whether this process has written them
    notes: tuple[str, ...] = ()  # of the model: what its users should know of how it trains


def train(
    config: Config,
    directory: str | Path,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    data: Dataset | None = None,
) -> Outcome:
    """Train, or go on training, the run in `directory`, on `data` if they are not to be loaded as `config` says.

    A changed `steps` goes on too; a schedule then runs as if it had been the number from the start.

    Raises:
        ConfigError, ConfigConflict (exit 2), DataError (3), Diverged (4), CheckpointError (5), RunLocked (6),
        ResourceError (7), Stopped (128 + signal).
    """
    config = check(config)
    agreement.refuse_other_settings(config)
    if data is None:
        config = absolute_paths(config)
        with processes.one_fate():
            data = load_data(config.data)
    agreement.refuse_other_data(data)
    program = Program(config, data)  # before anything is written
    members = Members.of(program.config)
    leader = processes.leader()
    with processes.one_fate():
        made = RunDirectory.open(directory, members.to_toml(), overwrite=overwrite) if leader else None
    with (
        made or RunDirectory(directory, writes=False) as run,
        Reporter(program.config.steps, quiet=quiet or not leader) as report,
        signals() as stop,
    ):
        agreement.refuse_other_directory(run)  # others read what the leader has made
        for note in program.notes:
            report.say(note)
        loop = Loop(program, members, run, report)
        loop.run(stop)
        scores = [record["scores"] for record in run.records() if "scores" in record]
        return Outcome(run.path, loop.step, scores[-1] if scores else [], run.writes, program.model.notes)


@dataclass
class Loop:
    """Members in training, recorded in `directory`, which is locked for this process."""

    program: Program
    members: Members
    directory: RunDirectory
    report: Reporter
    _: KW_ONLY
    evaluates: bool = True  # whether scores, samples and pictures are recorded on the way and at the end
    label: str = ""  # what progress shows the members as
    before: int = 0  # steps that parts of the sweep have taken before this one
    step: int = field(default=0, init=False)
    unsaved: bool = field(default=False, init=False)  # whether steps are done, or in progress, that are not saved yet
    state: Any = field(default=None, init=False)  # each of its arrays has a leading axis over members

    def __post_init__(self) -> None:
        self.config = self.members.config
        self.seeds = jnp.asarray(self.members.seeds, jnp.uint32)
        self.values = {name: jnp.asarray(column, jnp.float32) for name, column in self.members.values.items()}
        content = fingerprint(self.directory, self.program.data.fingerprint() + own_divergences(self.config))
        self.checkpoints = Checkpoints(self.directory.checkpoints, fingerprint=content, warn=self.report.say)

    def run(self, stop: Sequence[int]) -> None:
        """Train to the last step, from the newest checkpoint or the start. `stop` receives signals (`signals`).

        Raises:
            CheckpointError, Diverged, PeerLost, ResourceError, Stopped; `status.json` says which.
        """
        several = processes.count() > 1  # which must agree on when to stop
        with (
            self.directory.recorded(lambda: {"step": self.step}),
            interrupts.keeping(lambda: self.unsaved or several),
            processes.together(),
        ):
            if self.evaluates and self.directory.writes:
                self.program.evaluation(self.report)  # what it cannot do is better known before training
            self._resume()
            if self._owes_evaluation():
                self._record_evaluation()
            while self.step < self.config.steps:
                self._refuse_divergence(self._advance())
                asked = processes.any_of(stop)
                if self._evaluates_here() and not asked:  # which may take long; when resumed, it comes first
                    self._record_evaluation()
                    asked = processes.any_of(stop)  # a signal from here on waits for the next call, which saves first
                if self._is_last() or asked or self.step % self.config.log.checkpoint == 0:
                    self._save()
                self.directory.status("running", self.step)
                if asked:
                    raise Stopped(asked[0], self.before + self.step)
            if self.evaluates and self.directory.writes:
                from fgan.run import pictures  # after the first step: matplotlib takes a second to import

                pictures.training(self.directory.path, self.program.model.headline, self.program.model.notes)
                if self.program.data.own:
                    from fgan.run import judged_picture

                    judged_picture.judged(self.directory.path)
            if asked := processes.any_of(stop):  # since the last save
                raise Stopped(asked[0], self.before + self.step)
            processes.barrier("all is written")  # who leaves earlier waits at JAX's exit, and only for minutes
            self.directory.status("finished", self.step, devices=engines.describe())

    def since(self) -> np.ndarray:
        """The first of the steps left out until now, for each member that has diverged; −1 for the others: [k]."""
        skipped = np.asarray(engines.local(self.state.skipped))
        return np.where(skipped >= PATIENCE, self.step - skipped, -1)

    def evaluate(self, *, end: bool = False) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """(samples to draw, scores) of each member. All processes must call this; others than the leader get none."""
        state = engines.local(self.state)
        if not self.directory.writes:
            return np.empty(0), []
        return self.program.evaluation(self.report)(state, self.step, np.asarray(self.seeds), end=end)

    def _resume(self) -> None:
        """The newest sound checkpoint, or the start where none was ever saved."""
        if self.checkpoints.steps():
            refuse_other_data(self.directory, self.program.data)
        restored = self.checkpoints.restore(self.program.abstract(self.seeds))
        if restored is None:
            self._refuse_restart()
        if restored is not None:
            self.step, self.state = restored.step, restored.state
            self.directory.cut("metrics.jsonl", restored.metrics_bytes)
            self._require_sound_metrics()
            self.report.say(f"resuming {self.directory.path} at step {self.step}")
        else:
            self.state = self.program.fresh(self.seeds)
            for name in ("metrics.jsonl", "timings.jsonl"):
                self.directory.cut(name, 0)
        write_data(self.directory, self.program.data)
        self.directory.status("running", self.step)

    def _is_last(self) -> bool:
        return self.step >= self.config.steps

    def _evaluates_here(self) -> bool:
        return self.evaluates and (self._is_last() or self.step % self.config.log.evaluate == 0)

    def _owes_evaluation(self) -> bool:
        """Whether the run was stopped after this step and before its evaluation."""
        if not (self.step and self._evaluates_here()):
            return False
        owes = self.directory.writes and "scores" not in self.directory.records()[-1]
        return bool(processes.any_of([1] if owes else []))  # for the others may not see what the leader has cut

    def _refuse_restart(self) -> None:
        """Raise CheckpointError where the run had saved a step, or nobody knows whether it had."""
        status = self.directory.last_status
        state, step = status.get("state"), status.get("step", 0)
        saved = state == "finished" or step >= self.config.log.checkpoint
        if state == "unknown" or saved:
            had = "has a damaged status.json and" if state == "unknown" else f"had come to step {step}, but has"
            raise CheckpointError(
                f"{self.directory.path} {had} no checkpoint; put the checkpoints back, or start anew with --overwrite"
            )

    def _require_sound_metrics(self) -> None:
        """Raise CheckpointError where a line is none of this module's: better now than when they are drawn."""
        for number, record in enumerate(self.directory.records(), 1):
            step, values = record.get("step"), [value for name, value in record.items() if name != "step"]
            if type(step) is not int or not all(isinstance(value, list) for value in values):
                at = f"{self.directory.path / METRICS}:{number}"
                raise json_files.damaged(at, "no step with values of members", REMEDIES[METRICS])

    def _advance(self) -> dict[str, np.ndarray]:
        """One compiled call, and its line of metrics, which are returned: name → [members]."""
        every = self.config.log.every
        n = min(every - self.step % every, self.config.steps - self.step)  # to the next multiple, as a whole run would
        start = jnp.asarray(self.step, jnp.int32)
        arguments = (self.program.rows, self.seeds, self.state, start, self.values)
        compiled, seconds = self.program.compiled(n, arguments, self.report)
        if seconds:
            self.directory.append({"step": self.step, "compile_seconds": seconds}, "timings.jsonl")
        begun, self.unsaved = time.monotonic(), True
        self.state, metrics = jax.block_until_ready(compiled(*arguments))
        self.step += n
        values = {name: np.asarray(v)[: self.members.count] for name, v in engines.local(metrics).items()}
        self.directory.append({"step": self.step} | values)
        self.directory.append({"step": self.step, "seconds": time.monotonic() - begun, "steps": n}, "timings.jsonl")
        headline = self.program.model.headline
        finite = values[headline][np.isfinite(values[headline])]
        middle = f"{np.median(finite):.4f}" if finite.size else "not finite"
        self.report.advance(self.before + self.step, f"{self.label}{headline} {middle}")
        return values

    def _refuse_divergence(self, metrics: dict[str, np.ndarray]) -> None:
        since = self.since()
        if (since < 0).any():
            return
        report = {
            "first_bad_step": int(since.min()),
            "skipped": (self.step - since).tolist(),
            "metrics": {name: [repr(float(v)) for v in value] for name, value in metrics.items()},
            "replay": f"fgan train {self.directory.path / 'config.toml'} --run {self.directory.path}-replay",
        }
        if self.directory.writes:
            (self.directory.path / "nan_report.json").write_text(json.dumps(report, indent=1) + "\n")
        raise Diverged(
            f"every seed has been non-finite for {PATIENCE} steps or more since step {report['first_bad_step']}; see "
            f"{self.directory.path / 'nan_report.json'}. Lower the learning rates, or add --penalty r1"
        )

    def _record_evaluation(self) -> None:
        end = self._is_last()
        judging = end and self.program.data.own and self.directory.writes
        with self.report.phase("judging the generated rows") if judging else nullcontext():
            samples, scores = self.evaluate(end=end)
        state = engines.local(self.state)  # by all processes
        if not self.directory.writes:
            return
        self.directory.append({"step": self.step, "scores": scores})
        self.directory.write_array("samples", self.step, samples)
        from fgan.run import pictures

        pictures.samples(self.directory.path, self.step, self.program.model.notes)
        pairs = self.program.evaluation(self.report).reconstructions(state)
        if pairs is not None:
            self.directory.write_array("reconstructions", self.step, pairs)
            pictures.reconstructions(self.directory.path, self.step)

    def _save(self) -> None:
        self.directory.refuse_loss()
        try:
            self.checkpoints.save(self.step, self.state, metrics_bytes=self.directory.size("metrics.jsonl"))
        except OSError as error:
            raise ResourceError(f"{error}; the previous checkpoint is kept: free some space and run again") from error
        self.unsaved = False
