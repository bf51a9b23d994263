"""The training loop, the same for a run and for each part of a sweep.

    config ── check ──▶ build ──▶ Loop: resume, then chunk by chunk advance, evaluate, save

A resumed run equals an uninterrupted one bit for bit: step i draws from fold_in(key, i), the checkpoint holds
everything a step changes, and metrics.jsonl is cut back to it. Only timings.jsonl knows the clock.

A member is diverged while its last PATIENCE steps or more were left out because something was not finite. It keeps the
state before the first of them, is masked in scores and refused by `fgan sample`, and the others train on. Once all are,
the run ends, with nan_report.json. To go back to a checkpoint would not help: steps are a function of config, seed and
number, so that the same ones would lead to the same end, and the state before the first bad step is there already.
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from estimators.divergences.table import divergence
from estimators.plot_style import attempted
from fgan.config.checks import UNUSED, check, unused
from fgan.config.schema import Config, absolute_paths
from fgan.data.dataset import Dataset
from fgan.data.sources import load as load_data
from fgan.devices import engines, interrupts, processes
from fgan.devices.interrupts import signals
from fgan.run import agreement, health, json_files, nan_report, schedules
from fgan.run.checkpoint import KEEP, CheckpointError, Checkpoints, nbytes
from fgan.run.directory import METRICS, REMEDIES, ResourceError, RunDirectory
from fgan.run.members import PATIENCE, Members, fingerprint, own_divergences, refuse_other_data, write_data
from fgan.run.program import Program
from fgan.run.progress import Reporter, Stopped

DENSEST = 0.8  # bytes that a checkpoint takes for one of its state, at least: normal numbers in float32 take .92


class Diverged(RuntimeError):
    """Every member went non-finite and stayed so, or ended with a result that has no meaning."""

    exit_code = 4


class Outcome(NamedTuple):
    """What a run or a sweep has come to."""

    run: Path  # its directory
    step: int  # of all parts of a sweep together
    scores: list[dict[str, Any]]  # a dict a member: the last scores of a run, the lines of a sweep's results.csv
    leads: bool = True  # whether this process has written them
    notes: tuple[str, ...] = ()  # of the model: what its users should know of how it trains
    warnings: tuple[str, ...] = ()  # what is not to be trusted, and what failed without ending it


def train(
    config: Config,
    directory: str | Path,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    data: Dataset | None = None,
) -> Outcome:
    """Train, or go on training, the run in `directory`, on `data` if they are not to be loaded as `config` says.

    A changed `steps` goes on too; a schedule then runs as if it had been the number from the start, unless
    `schedule_steps` says otherwise, and a warning says what changes. Fewer steps than were taken are refused.

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
    with ExitStack() as opened:
        with processes.one_fate():
            made = RunDirectory.open(directory, members.to_toml(), overwrite=overwrite) if leader else None
            run = opened.enter_context(made or RunDirectory(directory, writes=False))
        report = opened.enter_context(Reporter(program.config.steps, quiet=quiet or not leader))
        stop = opened.enter_context(signals())
        agreement.refuse_other_directory(run)  # others read what the leader has made
        for note in program.notes:
            report.say(note)
        loop = Loop(program, members, run, report)
        if ignored := unused(program.config):
            loop.warn(ignored)
        loop.run(stop)
        scores = [record["scores"] for record in run.records() if "scores" in record] if run.writes else []
        last, warnings = scores[-1] if scores else [], tuple(loop.warnings)
        return Outcome(run.path, loop.step, last, run.writes, program.model.notes, warnings)


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
    warnings: list[str] = field(default_factory=list, init=False)
    findings: list[list[health.Finding]] = field(default_factory=list, init=False)  # of each member, once it has ended

    def __post_init__(self) -> None:
        self.config = self.members.config
        self.seeds = jnp.asarray(self.members.seeds, jnp.uint32)
        self.values = {name: jnp.asarray(column, jnp.float32) for name, column in self.members.values.items()}
        content = fingerprint(self.directory, self.program.data.fingerprint() + own_divergences(self.config))
        self.checkpoints = Checkpoints(self.directory.checkpoints, fingerprint=content, warn=self.warn)

    def run(self, stop: Sequence[int]) -> None:
        """Train to the last step, from the newest checkpoint or the start. `stop` receives signals (`signals`).

        Raises:
            CheckpointError, Diverged, PeerLost, ResourceError, Stopped; `status.json` says which.
        """
        several = processes.count() > 1  # which must agree on when to stop
        with (
            self.directory.recorded(lambda: {"step": self.step, "warnings": self.warnings}),
            interrupts.keeping(lambda: self.unsaved or several),
            processes.together(),
            self._enough_memory(),
        ):
            with processes.one_fate():
                self._require_room()
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
            self._judge()
            if self.evaluates and self.directory.writes:
                self._draw_end()
            if asked := processes.any_of(stop):  # since the last save
                raise Stopped(asked[0], self.before + self.step)
            processes.barrier("all is written")  # who leaves earlier waits at JAX's exit, and only for minutes
            self._refuse_void()
            self.directory.status("finished", self.step, devices=engines.describe(), warnings=self.warnings)

    def warn(self, line: str) -> None:
        """A line that stays with the result, shown once."""
        if line not in self.warnings:
            self.warnings.append(line)
            self.report.say(f"{self.label}{line}")

    @contextmanager
    def _enough_memory(self) -> Iterator[None]:
        """Turn what the machine's memory cannot hold into one line with the need and a remedy."""
        try:
            yield
        except ResourceError:
            raise
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise self.program.beyond_memory(members=len(self.seeds)) from error

    def since(self) -> np.ndarray:
        """The first of the steps left out until now, for each member that has diverged; −1 for the others: [k]."""
        skipped = np.asarray(engines.local(self.state.skipped))
        return np.where(skipped >= PATIENCE, self.step - skipped, -1)

    def evaluate(self, *, end: bool = False) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """(samples to draw, scores) of each member. All processes must call this; others than the leader get none."""
        state, since = engines.local(self.state), self.since()
        if not self.directory.writes:
            return np.empty(0), []
        samples, scores = self.program.evaluation(self.report)(state, self.step, np.asarray(self.seeds), end=end)
        masked = [{"seed": s["seed"], "diverged": True} if at >= 0 else s for s, at in zip(scores, since)]
        return samples, masked

    def _resume(self) -> None:
        """The newest sound checkpoint, or the start where none was ever saved."""
        if self.checkpoints.steps():
            refuse_other_data(self.directory, self.program.data)
        restored = self.checkpoints.restore(self.program.abstract(self.seeds))
        if restored is not None:
            self.step, self.state = restored.step, restored.state
            self.directory.cut("metrics.jsonl", restored.metrics_bytes, restored.metrics_sha256)
            self._require_sound_metrics()
            self.report.say(f"resuming {self.directory.path} at step {self.step}")
            if self.directory.replaced and self.step:
                before = Members.from_toml(self.directory.replaced).config
                if line := schedules.moved(before, self.config, self.step):
                    self.warn(line)
        else:
            self._refuse_restart()
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
        status, times = self.directory.last_status, self.directory.records("timings.jsonl")
        state, step = status.get("state"), status.get("step", 0)
        saved = [line["step"] for line in times if "save_seconds" in line]
        if saved or state in ("unknown", "finished") or (not times and step >= self.config.log.checkpoint):
            had = "has a damaged status.json and" if state == "unknown" else f"had come to step {step}, but has"
            had = f"was saved at step {saved[-1]}, but has" if saved else had
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

    def _length(self, step: int) -> int:
        """Steps of the chunk that begins at `step`: to the next multiple of log.every, as in a run without a stop."""
        every = self.config.log.every
        return min(every - step % every, self.config.steps - step)

    def _advance(self) -> dict[str, np.ndarray]:
        """One compiled call, and its line of metrics, which are returned: name → [members]."""
        n = self._length(self.step)
        waited, start = time.monotonic(), jnp.asarray(self.step, jnp.int32)
        rows = self.program.given(self.seeds, self.step, n, self._length(self.step + n))
        waited = time.monotonic() - waited
        arguments = (rows, self.seeds, self.state, start, self.values)
        compiled, seconds = self.program.compiled(n, arguments, self.report)
        if seconds:
            self.directory.append({"step": self.step, "compile_seconds": seconds}, "timings.jsonl")
        begun, self.unsaved = time.monotonic(), True
        self.state, metrics = jax.block_until_ready(compiled(*arguments))
        self.step += n
        values = {name: np.asarray(v)[: self.members.count] for name, v in engines.local(metrics).items()}
        self.directory.append({"step": self.step} | values)
        times = {"step": self.step, "seconds": time.monotonic() - begun, "steps": n}
        times |= {"rows_seconds": waited} if self.program.host else {}
        self.directory.append(times, "timings.jsonl")
        headline = self.program.model.headline
        finite = values[headline][np.isfinite(values[headline])]
        middle = f"{np.median(finite):.4f}" if finite.size else "not finite"
        self.report.advance(self.before + self.step, f"{self.label}{headline} {middle}")
        return values

    def _refuse_divergence(self, metrics: dict[str, np.ndarray]) -> None:
        since = self.since()
        if (since < 0).any():
            return
        state, first = engines.local(self.state), int(np.argmin(since))  # by all processes
        if not self.directory.writes:
            processes.barrier("the report is written")  # who leaves earlier ends the leader, too
            raise Diverged("every seed has diverged")
        config = self.members.config_of(first)
        own = jax.tree.map(lambda x: x[first], state)
        report = {
            "first_bad_step": int(since[first]),
            "seed": config.seed,
            **self._explained(config, own, int(since[first])),
            "skipped": (self.step - since).tolist(),
            "metrics": {name: [repr(float(v)) for v in value] for name, value in metrics.items()},
            "replay": nan_report.replay(config, self.directory.path, part=not self.evaluates),
        }
        self.directory.write("nan_report.json", json.dumps(report, indent=1) + "\n")
        processes.barrier("the report is written")
        term = f": {report['term']} first" if report.get("term") else ""
        raise Diverged(
            f"every seed has been non-finite for {PATIENCE} steps or more since step {report['first_bad_step']}{term}; "
            f"see {self.directory.path / 'nan_report.json'}. {self._remedy()}"
        )

    def _explained(self, config: Config, state: Any, step: int) -> dict[str, Any]:
        """What `nan_report` finds out; {} where it meets trouble of its own, which must not hide the divergence."""
        try:
            return nan_report.explained(config, self.program.data, state, step)
        except (RuntimeError, MemoryError):
            return {}

    def _judge(self) -> None:
        """Find out what is not to be trusted, and warn of it."""
        state, since = engines.local(self.state), self.since()  # by all processes
        if not self.directory.writes:
            return
        evaluation = self.program.evaluation(self.report)
        samples = evaluation.draw(state, self.step, np.asarray(self.seeds))
        records = [r for r in self.directory.records() if "scores" not in r]
        for i, seed in enumerate(self.members.seeds[: self.members.count]):
            own = [{k: v if k == "step" else v[i] for k, v in record.items()} for record in records]
            evidence = health.Evidence(
                since=int(since[i]),
                records=own,
                samples=samples[i],
                data=evaluation.real,
                divergence=divergence(self.config.divergence),
                batch=self.config.batch,
            )
            self.findings.append(health.findings(evidence))
            for found in self.findings[-1] if self.evaluates else ():
                self.warn(found.text if self.members.count == 1 else f"seed {seed}: {found.text}")

    def _refuse_void(self) -> None:
        void = bool(self.findings) and all(any(found.void for found in of) for of in self.findings)
        if processes.any_of([1] if void else []):
            reason = next((found.text for of in self.findings for found in of if found.void), "its result is void")
            raise Diverged(f"no seed has a result that means anything: {reason}. {self._remedy()}")

    def _remedy(self) -> str:
        penalised = "penalty" not in UNUSED.get(self.config.model, ())
        return "Lower the learning rates" + ", or add --penalty r1" * penalised

    def _record_evaluation(self) -> None:
        end = self._is_last()
        judged = "images" if self.program.data.side else "rows" if self.program.data.own else ""
        judging = end and judged and self.directory.writes
        with self.report.phase(f"judging the generated {judged}") if judging else nullcontext():
            samples, scores = self.evaluate(end=end)
        state = engines.local(self.state)  # by all processes
        if not self.directory.writes:
            return
        self.directory.append({"step": self.step, "scores": scores})
        self.directory.write_array("samples", self.step, samples)
        pairs = self.program.evaluation(self.report).reconstructions(state)
        if pairs is not None:
            self.directory.write_array("reconstructions", self.step, pairs)
        with attempted(self.warn):
            from fgan.run import pictures  # after the first step: matplotlib takes a second to import

            pictures.samples(self.directory.path, self.step, self.program.model.notes)
            if pairs is not None:
                pictures.reconstructions(self.directory.path, self.step)

    def _draw_end(self) -> None:
        with attempted(self.warn):
            from fgan.run import judged_picture, pictures

            pictures.training(self.directory.path, self.program.model.headline, self.program.model.notes)
            if self.program.data.own:
                judged_picture.judged(self.directory.path)

    def _save(self) -> None:
        self.directory.refuse_loss()
        begun = time.monotonic()
        try:
            length = self.directory.size("metrics.jsonl")
            digest = self.directory.digest("metrics.jsonl", length)
            self.checkpoints.save(self.step, self.state, metrics_bytes=length, metrics_sha256=digest)
        except OSError as error:
            raise ResourceError(str(error)) from error
        self.unsaved = False
        self.directory.append({"step": self.step, "save_seconds": time.monotonic() - begun}, "timings.jsonl")

    def _require_room(self) -> None:
        """Refuse, before anything is compiled, a state that memory cannot hold, or its checkpoints the disk."""
        size = nbytes(self.program.abstract(self.seeds))
        if self.program.layout.n == 1 and size > engines.memory():
            raise self.program.beyond_memory(size)
        steps = self.checkpoints.steps()
        there, left = min(len(steps), KEEP), max(0, self.config.steps - max(steps, default=0))
        count = min(KEEP + 1 - there, -(-left // self.config.log.checkpoint))  # the oldest goes last
        free = shutil.disk_usage(self.directory.path).free
        if self.directory.writes and free < DENSEST * count * size:
            raise ResourceError(
                f"{self.directory.path}: {count} checkpoints of {engines.size_text(size)} need more than the "
                f"{engines.size_text(free)} that are free there: make room, name another directory by --run, or lower "
                "the widths of the networks or the number of seeds"
            )
