"""Many experiments at once: a grid of configs × seeds, as few programs as can be, resumable.

A sweep file is TOML: any fields of a config, a `config` file below them, and a table of lists.

    config = "../ring.toml"                      # relative to this file; the fields here come on top of it
    seeds = 3                                    # of every cell
    steps = 2000
    members = 32                                 # at most so many trained at once; as many as memory holds if not given

    [grid]
    divergence = ["kl", "js"]
    generator_optimizer.learning_rate = [1e-4, 1e-3]

Every combination of the lists is a cell, a cell with one seed a member. Members that differ only in seeds and in fields
of `ARRAYS` are a group: one program, compiled once and vmapped over them. A group too large for memory is trained part
by part, the last one filled up with copies so that the program fits it too.

    sweep/config.toml     the resolved sweep
    sweep/parts/*/        metrics.jsonl (a list over members a line), checkpoints and data.json of each part
    sweep/results.csv     a line a member: swept fields, seed, state, step, part and which of its members (the column of
                          its metrics), last metrics, and scores of its evaluation
    sweep/sweep.png       the same as a picture

A member that is non-finite for train.PATIENCE steps together is `diverged`, from the `step` that its line names; the
others train on. A killed sweep goes on from the last checkpoint of the part it was at.

Layer 8: imports train and everything below.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fgan.config import schema as configuration
from fgan.config.schema import Config, ConfigError, Place, check, get, literal, nearest, replace, to_toml
from fgan.data.sources import Dataset
from fgan.data.sources import load as load_data
from fgan.devices import engines as parallel
from fgan.models.model import build
from fgan.run import sweep_picture
from fgan.run.checkpoint import Checkpoints, write_atomic
from fgan.run.directory import ResourceError, RunDirectory
from fgan.run.loop import PATIENCE, Stopped, signals
from fgan.run.program import chunk, fresh
from fgan.run.progress import Reporter
from fgan.run.restore import Restored, describe_data, described_data, newest
from fgan.scores.evaluation import Evaluation

ARRAYS = ("generator_optimizer.learning_rate", "critic_optimizer.learning_rate", "penalty.weight")
"""Fields that a program takes as numbers, so that members which differ in them share it."""

NO_AXES = ("seed", "seeds", "log", "parallel")
"""Fields, or tables of them, that are one for the whole sweep."""

MOST = 10_000  # members of a sweep
CHANGEABLE = ("parallel",)  # what may differ when a sweep goes on
SHARE = 0.25  # of memory that the members of a part may fill
MEMBERS = "\n[members]\n"  # the table below the config of a part: its data's fingerprint, and columns of fields


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep file says.

    Attributes:
        base: what all cells have in common, the seeds included.
        grid: dotted field → its values.
        members: most members a part; 0 for as many as memory holds.
        name: of the file, for messages.
    """

    base: Config
    grid: Mapping[str, tuple[Any, ...]]
    members: int = 0
    name: str = "sweep.toml"

    def cells(self) -> list[Config]:
        """Every combination of the grid's values, the last field running fastest. Raises ConfigError."""
        count = math.prod(len(values) for values in self.grid.values()) * self.base.seeds
        if count > MOST:
            raise ConfigError(
                f"{self.name}: {count} members (cells × seeds), at most {MOST}: shorten a list, or make two sweeps"
            )
        cells = [replace(self.base, dict(zip(self.grid, row))) for row in itertools.product(*self.grid.values())]
        for cell in cells:
            try:
                check(cell)
            except ValueError as error:  # ConfigError or UnknownDivergence
                raise ConfigError(f"{self.name}: {label(cell, self.grid)}: {error}") from None
        if "penalty.weight" in self.grid and not any(cell.penalty.names for cell in cells):
            raise ConfigError(f"{self.name}: penalty.weight changes nothing without a penalty: set penalty.names")
        return cells

    def to_toml(self) -> str:
        """The resolved sweep: every field of the base, and the grid."""
        grid = [f"{json.dumps(name)} = {literal(tuple(values))}" for name, values in self.grid.items()]
        return "\n".join([f"members = {self.members}", to_toml(self.base), "[grid]", *grid]) + "\n"


def load(path: str | Path) -> Sweep:
    """The Sweep in a TOML file. Raises ConfigError naming file, line and nearest name."""
    name, text = str(path), configuration.read(path, folder="configs/sweeps")
    table, place = configuration.parse(text, name), Place(name, text)
    grid, file, members = (table.pop(key, None) for key in ("grid", "config", "members"))
    if not isinstance(grid, Mapping) or not grid:
        raise ConfigError(f'{name}: no table [grid] of lists to combine, such as divergence = ["kl", "js"]')
    if file is not None and not isinstance(file, str):
        raise ConfigError(f"{place.of('config')}: config = {file!r}: expected text in quotes")
    if members is not None and (type(members) is not int or members < 1):
        raise ConfigError(f"{place.of('members')}: members = {members!r}: expected a whole number, at least 1")
    below = Config() if file is None else configuration.load(Path(path).parent / file)
    base = configuration.overlay(below, table, place)
    return Sweep(base=base, grid=_axes(grid, Place(name, text, "grid.")), members=members or 0, name=name)


def _axes(grid: Mapping[str, Any], place: Place) -> dict[str, tuple[Any, ...]]:
    known, axes = list(configuration.names()), {}
    for name, values in _leaves(grid):
        at = place.of(name)
        if name not in known:
            raise ConfigError(f"{at}: unknown key {name!r}: {nearest(name, known)}")
        if any(name == fixed or name.startswith(f"{fixed}.") for fixed in NO_AXES):
            raise ConfigError(f"{at}: {name} is one for all cells: set it outside [grid]")
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{at}: {name} = {values!r}: expected a list of one value or more")
        axes[name] = tuple(configuration.typed(name, value, place) for value in values)
        if len(set(axes[name])) < len(values):
            raise ConfigError(f"{at}: {name} = {values!r}: lists a value twice")
    return axes


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of what is no table."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def label(config: Config, names: Sequence[str] | Mapping[str, Any]) -> str:
    """The fields `names` of a cell as text."""
    return ", ".join(f"{name} = {literal(get(config, name))}" for name in names)


# --- members, groups, parts ------------------------------------------------------------------------------------------


class Member(NamedTuple):
    """One seed of one cell: its line in results.csv, and the config that trains it alone."""

    line: int
    config: Config


class Part(NamedTuple):
    """Members trained at once, filled up to `size` with copies of the last."""

    name: str
    members: tuple[Member, ...]
    size: int

    @property
    def config(self) -> Config:
        """That of the first member: what all share but seeds and ARRAYS."""
        return self.members[0].config

    def column(self, field: str) -> list[Any]:
        """The values [size] of a field."""
        filled = [*self.members, *[self.members[-1]] * (self.size - len(self.members))]
        return [get(member.config, field) for member in filled]


def groups(cells: Sequence[Config]) -> list[list[Member]]:
    """The members of `cells`, those together that one program can train."""
    one_seed = [replace(c, {"seed": c.seed + i, "seeds": 1}) for c in cells for i in range(c.seeds)]
    found: dict[Config, list[Member]] = {}
    for line, config in enumerate(one_seed):
        common = replace(config, {"seed": 0} | dict.fromkeys(ARRAYS, 1.0))
        found.setdefault(common, []).append(Member(line, config))
    return list(found.values())


def parts(group: Sequence[Member], most: int, number: int) -> list[Part]:
    """The group in as few parts of equal size as hold at most `most` members."""
    count = math.ceil(len(group) / most)
    size = math.ceil(len(group) / count)
    split = [tuple(group[i : i + size]) for i in range(0, len(group), size)]
    return [Part(f"{number:03d}-{k:03d}", members, size) for k, members in enumerate(split)]


def footprint(config: Config, data: Dataset) -> int:
    """About how many bytes a member takes while it trains.

    Four copies of its state (before, after, gradients, updates), and twice (forward, backward) what every layer of both
    networks puts out on the points of a batch of either kind, or of an evaluation where those are more.
    """
    gan = build(config, data)
    state = jax.eval_shape(gan.init, jax.random.key(0))
    points = max(2 * config.batch, config.log.samples)

    def layers(player, parameters):
        x = jax.ShapeDtypeStruct((points, player.inputs), jnp.float32)
        everything = {"capture_intermediates": True, "mutable": ["intermediates"]}
        return jax.eval_shape(lambda p, x: player.network.apply(p, x, **everything), parameters, x)

    seen = layers(gan.generator, state.generator), layers(gan.critic, state.critic)
    return 4 * _bytes(state) + 2 * _bytes(seen)


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


# --- running ---------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What a sweep left behind: its directory, a row a member, and the picture."""

    run: Path
    rows: list[dict[str, Any]]
    picture: Path


def sweep(plan: Sweep, directory: str | Path, *, overwrite: bool = False, quiet: bool = False) -> Outcome:
    """Train, or go on training, every member of `plan` in `directory`.

    Without `members` a part holds as many as fill a quarter of the device's (or the host's) memory by `footprint`; a
    sweep that goes on keeps the number it began with.

    Raises:
        ConfigError, ConfigConflict (exit 2), DataError (3), CheckpointError (5), RunLocked (6), ResourceError (7),
        Stopped (128 + signal).
    """
    found = groups(plan.cells())
    data = {c: load_data(c) for c in dict.fromkeys(group[0].config.data for group in found)}
    programs = [Program(group[0].config, data[group[0].config.data]) for group in found]
    most = plan.members or (not overwrite and _members_before(Path(directory))) or _fitting(programs)
    resolved = Sweep(base=plan.base, grid=plan.grid, members=most, name=plan.name)
    prints = f"data_fingerprints = {literal(tuple(d.fingerprint() for d in data.values()))}\n"
    work = [(p, part) for i, (p, group) in enumerate(zip(programs, found)) for part in parts(group, most, i)]
    with (
        RunDirectory.open(directory, prints + resolved.to_toml(), overwrite=overwrite, changeable=CHANGEABLE) as run,
        Reporter(sum(part.config.steps for _, part in work), quiet=quiet) as report,
        signals() as stop,
    ):
        return _Running(resolved, work, run, report, stop).all()


def is_sweep(directory: str | Path) -> bool:
    """Whether a sweep has been in `directory`, and not a run."""
    return (Path(directory) / "parts").is_dir()


def restore(directory: str | Path, line: int) -> Restored:
    """The member on a `line` of results.csv, the first being 0, as a run of one seed, read only.

    Raises:
        ConfigError: no such line yet, or its member diverged. RunNotFound, CheckpointError: exit 5.
    """
    path = RunDirectory.find(directory).path
    records = _records(path)
    rows = {row["line"]: row for record in records for row in record["rows"]}
    if line not in rows:
        raise ConfigError(f"member {line}: {path / 'results.csv'} has {len(rows)} lines, counted from 0; choose one")
    row = rows[line]
    if row["state"] == "diverged":
        raise ConfigError(f"member {line} diverged at step {row['step']}; choose another line of results.csv")
    run = RunDirectory.find(path / "parts" / row["part"], changeable=CHANGEABLE)
    text, _, members = run.config_toml.partition(MEMBERS)
    columns = {name: values for name, values in tomllib.loads(members).items() if name != "data"}
    config, i = configuration.from_toml(text), row["member"]
    data, _ = described_data(run, config)
    seeds = jnp.asarray(columns["seed"], jnp.uint32)
    like = jax.eval_shape(partial(fresh, config, data), seeds), jax.ShapeDtypeStruct(seeds.shape, np.int32)
    (state, _), step = newest(run, run.fingerprint, like)
    config = replace(config, {name: values[i] for name, values in columns.items()})
    state = jax.tree.map(lambda x: x[i : i + 1], state)
    return Restored(build(config, data), state, step, config, data.offset, data.scale)


def _members_before(directory: Path) -> int:
    """How many members a part the sweep in `directory` began with; 0 if it holds none."""
    try:
        found = tomllib.loads((directory / "config.toml").read_text(encoding="utf-8")).get("members")
    except (OSError, ValueError):
        return 0  # opening the directory says what is wrong with it
    return found if type(found) is int and found > 0 else 0


def _fitting(programs: Sequence[Program]) -> int:
    """How many members of the most demanding program fit."""
    return max(1, min(MOST, int(SHARE * parallel.memory() / max(footprint(p.config, p.data) for p in programs))))


class Program:
    """The steps of a group, compiled when first met, and its evaluation."""

    def __init__(self, config: Config, data: Dataset):
        self.config, self.data, self.where = config, data, parallel.layout(config.parallel)
        if config.batch % self.where.n:
            raise ConfigError(f"batch = {config.batch} must be a multiple of the {self.where.n} devices")
        self.gan = build(config, data)  # refuse what cannot be built before anything is written
        self.rows, self.fresh = parallel.shares(data.rows, self.where), jax.jit(partial(fresh, config, data))
        self.evaluation: Evaluation | None = None
        self._compiled: dict[int, Any] = {}

    def compiled(self, n: int, arguments: tuple, report: Reporter) -> Any:
        """The program of n steps."""
        if n not in self._compiled:
            members = len(arguments[1])
            with report.phase(f"compiling {n} steps of {members} members for {parallel.describe()}"):
                program = chunk(self.config, self.data, n)
                self._compiled[n] = parallel.compile_chunk(program, arguments, self.where)
        return self._compiled[n]

    def scores(self, state: Any, step: int, seeds: np.ndarray, report: Reporter) -> list[dict[str, Any]]:
        """The evaluation of each member."""
        if self.evaluation is None:
            with report.phase("preparing the evaluation"):
                self.evaluation = Evaluation(self.config, self.data, self.gan)
        return self.evaluation(state, step, seeds)[1]


class _Running:
    """A sweep in progress: part after part, what has ended in results.jsonl and results.csv."""

    def __init__(
        self,
        plan: Sweep,
        work: Sequence[tuple[Program, Part]],
        run: RunDirectory,
        report: Reporter,
        stop: list[int],
    ):
        self.plan, self.work, self.run, self.report, self.stop = plan, work, run, report, stop
        self.done = self.at = 0  # steps of the parts that have ended, and with those of the part in progress
        self.rows: list[dict[str, Any]] = []

    def all(self) -> Outcome:
        ended = {record["part"]: record["rows"] for record in _records(self.run.path)}
        part = None
        try:
            for program, part in self.work:
                if part.name not in ended:
                    ended[part.name] = self._train(program, part)
                self.rows += ended[part.name]
                self.done += part.config.steps
            self._write()
        except Stopped:
            self.run.status("preempted", self.at, part=part and part.name)
            raise
        except (ValueError, RuntimeError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            self.run.status("failed", self.at, part=part and part.name, reason=reason)
            raise
        picture = sweep_picture.draw(self.run.path / "results.csv")
        self.run.status("finished", self.done, members=len(self.rows), devices=parallel.describe())
        return Outcome(self.run.path, sorted(self.rows, key=lambda row: row["line"]), picture)

    def _train(self, program: Program, part: Part) -> list[dict[str, Any]]:
        """The rows of a part, recorded."""
        swept = [name for name in ARRAYS if name in self.plan.grid]
        columns = "".join(f"{json.dumps(name)} = {literal(tuple(part.column(name)))}\n" for name in ("seed", *swept))
        text = f"{to_toml(part.config)}{MEMBERS}data = {json.dumps(program.data.fingerprint())}\n{columns}"
        self.run.status("running", self.done, part=part.name)
        (self.run.path / "parts").mkdir(exist_ok=True)
        with RunDirectory.open(self.run.path / "parts" / part.name, text, changeable=CHANGEABLE) as directory:
            describe_data(directory, program.data)
            loop = _Loop(program, part, swept, directory)
            loop.resume(self.report)
            while not loop.ended:
                loop.advance(self.report, self.done, self.run)
                self.at = self.done + loop.step
                asked = list(self.stop)  # a signal from here on waits for the next call, which saves before it stops
                if loop.ended or asked or loop.step % part.config.log.checkpoint == 0:
                    loop.save()
                if asked and not loop.ended:
                    raise Stopped(asked[0], self.at)
            found = enumerate(zip(part.members, loop.results(self.report)))
            rows = [self._row(member, {"part": part.name, "member": i}, *result) for i, (member, result) in found]
        self.run.append({"part": part.name, "rows": rows}, "results.jsonl")
        self._write(rows)
        return rows

    def _row(
        self, member: Member, place: dict[str, Any], step: int, metrics: dict[str, Any], scores: dict[str, Any] | None
    ) -> dict[str, Any]:
        fields = {name: get(member.config, name) for name in self.plan.grid}
        state = {"seed": member.config.seed, "state": "finished" if scores is not None else "diverged", "step": step}
        flat = {key: value for key, value in _leaves(scores or {}) if key != "seed" and not isinstance(value, list)}
        return {"line": member.line, **fields, **state, **place, **metrics, **flat}

    def _write(self, more: Sequence[dict[str, Any]] = ()) -> None:
        """results.csv, anew."""
        rows = sorted([*self.rows, *more], key=lambda row: row["line"])
        columns = [name for name in dict.fromkeys(key for row in rows for key in row) if name != "line"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_csv(row.get(name)) for name in columns] for row in rows)
        write_atomic(self.run.path / "results.csv", text.getvalue())


def _records(path: Path) -> list[dict[str, Any]]:
    """What results.jsonl says of the parts that have ended."""
    file = path / "results.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _csv(value: Any) -> str:
    """A value as results.csv has it: text as it is, nothing for what is not finite, all else as JSON."""
    if isinstance(value, str):
        return value
    missing = value is None or (isinstance(value, float) and not math.isfinite(value))
    return "" if missing else json.dumps(value)


class _Loop:
    """One part in progress.

    `since` [size] is the step from which a member has been non-finite once that lasted for PATIENCE steps, −1 before.
    """

    def __init__(self, program: Program, part: Part, swept: Sequence[str], directory: RunDirectory):
        self.program, self.part, self.directory = program, part, directory
        self.seeds = jnp.asarray(part.column("seed"), jnp.uint32)
        self.values = {name: jnp.asarray(part.column(name), jnp.float32) for name in swept}
        self.state: Any = None
        self.step = 0
        self.since = np.full(part.size, -1, np.int32)

    @property
    def ended(self) -> bool:
        """Whether the steps are done, or nothing is left to train."""
        return self.step >= self.part.config.steps or bool((self.since >= 0).all())

    def resume(self, report: Reporter) -> None:
        self.checkpoints = Checkpoints(
            self.directory.checkpoints, fingerprint=self.directory.fingerprint, warn=report.say
        )
        like = jax.eval_shape(self.program.fresh, self.seeds), jax.ShapeDtypeStruct(self.since.shape, np.int32)
        restored = self.checkpoints.restore(like, finite=False)
        self.directory.cut("metrics.jsonl", restored.metrics_bytes if restored else 0)
        if restored is None:
            self.state = self.program.fresh(self.seeds)
        else:
            self.step, (self.state, since) = restored.step, restored.state
            self.since = np.asarray(since)
            report.say(f"resuming {self.directory.path} at step {self.step}")

    def advance(self, report: Reporter, done: int, run: RunDirectory) -> None:
        """One compiled call, and its line of metrics."""
        config = self.part.config
        n = min(config.log.every - self.step % config.log.every, config.steps - self.step)
        start = jnp.asarray(self.step, jnp.int32)
        arguments = (self.program.rows, self.seeds, self.state, start, self.values)
        compiled = self.program.compiled(n, arguments, report)
        begun = time.monotonic()
        self.state, metrics = jax.block_until_ready(compiled(*arguments))
        self.step += n
        run.append({"part": self.part.name, "step": self.step, "seconds": time.monotonic() - begun}, "timings.jsonl")
        values = {name: np.asarray(value)[: len(self.part.members)] for name, value in metrics.items()}
        self.directory.append({"step": self.step} | values)
        skipped = np.asarray(self.state.skipped)
        self.since = np.where((self.since < 0) & (skipped >= PATIENCE), self.step - skipped, self.since)
        bound = np.median(finite) if (finite := values["bound"][np.isfinite(values["bound"])]).size else math.nan
        report.advance(done + self.step, f"part {self.part.name}: {config.divergence} bound {bound:.4f}")

    def save(self) -> None:
        size = self.directory.size("metrics.jsonl")
        try:
            self.checkpoints.save(self.step, (self.state, self.since), metrics_bytes=size)
        except OSError as error:
            raise ResourceError(f"{error}; the previous checkpoint is kept: free some space and run again") from error

    def results(self, report: Reporter) -> Iterator[tuple[int, dict[str, Any], dict[str, Any] | None]]:
        """(step, last metrics, scores) of each member; of a diverged one the first bad step, and None."""
        last = json.loads((self.directory.path / "metrics.jsonl").read_text().splitlines()[-1])
        scores: Sequence[dict[str, Any]] = [{"diverged": True}] * self.part.size
        if (self.since < 0).any():
            scores = self.program.scores(self.state, self.step, np.asarray(self.seeds), report)
        for i, since in enumerate(self.since[: len(self.part.members)].tolist()):
            metrics = {name: values[i] for name, values in last.items() if name != "step"}
            usable = since < 0 and not scores[i].get("diverged")
            yield self.step if since < 0 else since, metrics, scores[i] if usable else None
