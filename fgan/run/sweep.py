"""Many runs at once: a grid of configs × seeds, as few programs as can be, resumable.

Members that differ only in seeds and in `program.FIELDS` are a group: one program, compiled once and vmapped over them.
A group too large for memory is trained part by part, the last one filled up with copies so that the program fits it
too. A part is a run like any other, with a directory of its own; the sweep evaluates it once it has ended.

    sweep/config.toml     the resolved sweep
    sweep/parts/*/        a run directory for each part; a line of its metrics is a list over members
    sweep/results.csv     a line a member: swept fields, seed, state, step, part and which of its members (the column of
                          its metrics), what is not to be trusted of it, last metrics, and scores of its evaluation
    sweep/sweep.png       the same as a picture

A member that ends diverged has the state `diverged`, and for `step` the first that was left out, or the last where all
were finite but the result has no meaning; the others train on.
A killed sweep goes on from the last checkpoint of the part it was at.
"""

import contextlib
import csv
import dataclasses
import io
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from estimators.plot_style import attempted
from fgan.config import toml
from fgan.config.checks import by_name, check, unused
from fgan.config.fields import ConfigError, File, absolute, nearest, walk
from fgan.config.schema import PATHS, Config, Data, absolute_paths, get, replace
from fgan.data.dataset import Dataset
from fgan.data.sources import load as load_data
from fgan.devices import engines
from fgan.devices.interrupts import signals
from fgan.run import health
from fgan.run.directory import RESULTS, ConfigConflict, RunDirectory
from fgan.run.loop import Diverged, Loop, Outcome
from fgan.run.members import Members, ended_parts, own_divergences
from fgan.run.program import FIELDS, WITHIN, Program
from fgan.run.progress import Reporter, Stopped

FIXED = ("seed", "seeds", "log", "parallel")
"""Fields, or tables of them, that are one for the whole sweep."""
MOST = 10_000  # members of a sweep: a guard against lists that multiply to more than was meant


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep file says."""

    base: Config  # what all configs have in common, the seeds included
    grid: Mapping[str, tuple[Any, ...]]  # dotted field → its values
    members: int = 0  # most members a part; 0 for as many as memory holds
    name: str = "sweep.toml"  # of the file, for messages

    def configs(self) -> list[Config]:
        """Every combination of the grid's values, the last field running fastest. Raises ConfigError."""
        count = math.prod(len(values) for values in self.grid.values()) * self.base.seeds
        if count > MOST:
            raise ConfigError(
                f"{self.name}: {count} members (configs × seeds), at most {MOST}: shorten a list, or make two sweeps"
            )
        configs = []
        for values in product(*self.grid.values()):
            config = replace(self.base, dict(zip(self.grid, values)))
            try:
                configs.append(check(config))
            except ValueError as error:  # ConfigError or UnknownDivergence
                fields = ", ".join(f"{name} = {toml.literal(get(config, name))}" for name in self.grid)
                raise ConfigError(f"{self.name}: {fields}: {error}") from None
        if "penalty.weight" in self.grid and not any(config.penalty.names for config in configs):
            raise ConfigError(f"{self.name}: penalty.weight changes nothing without a penalty: set penalty.names")
        return configs

    def by_name(self) -> "Sweep":
        """The same sweep with names in place of divergences of the user's own."""
        base = by_name(self.base)
        named = {
            field: tuple(get(by_name(replace(base, {field: value})), field) for value in values)
            for field, values in self.grid.items()
        }
        return dataclasses.replace(self, base=base, grid=named)

    def absolute_paths(self) -> "Sweep":
        """The same sweep with paths that hold wherever one is."""
        grid = {name: tuple(map(absolute, v)) if name in PATHS else v for name, v in self.grid.items()}
        return dataclasses.replace(self, base=absolute_paths(self.base), grid=grid)

    def to_toml(self) -> str:
        """The resolved sweep: every field of the base, and the grid."""
        grid = [f"{json.dumps(name)} = {toml.literal(tuple(values))}" for name, values in self.grid.items()]
        return "\n".join([f"members = {self.members}", toml.to_toml(self.base), "[grid]", *grid]) + "\n"


def load(path: str | Path) -> Sweep:
    """The Sweep in a TOML file. Raises ConfigError naming file, line and nearest name."""
    name, text = str(path), toml.read(path, folder="configs/sweeps")
    table, place = toml.parse(text, name), toml.Place(name, text, folder=Path(path).parent)
    grid, file, members = (table.pop(key, None) for key in ("grid", "config", "members"))
    if not isinstance(grid, Mapping) or not grid:
        raise ConfigError(f'{name}: no table [grid] of lists to combine, such as divergence = ["kl", "js"]')
    if members is not None and (type(members) is not int or members < 1):
        raise ConfigError(f"{place.of('members')}: members = {members!r}: expected a whole number, at least 1")
    below = Config() if file is None else _below(file, place)
    base = toml.overlay(below, table, place)
    return Sweep(base=base, grid=_axes(grid, place._replace(within="grid.")), members=members or 0, name=name)


def _below(file: Any, place: toml.Place) -> Config:
    """The config that a sweep file names. Raises ConfigError."""
    found = place.typed("config", Annotated[str, File()], file)
    if not Path(found).is_file():
        tried = f"neither in {Path(place.folder or '').resolve()} nor in the working directory, {Path.cwd()}"
        raise ConfigError(f"{place.of('config')}: config = {file}: no such config file, {tried}")
    return toml.load(found)


def _axes(grid: Mapping[str, Any], place: toml.Place) -> dict[str, tuple[Any, ...]]:
    known, axes = {name: kind for name, kind, _ in walk(Config())}, {}
    for name, values in toml.leaves(grid):
        at = place.of(name)
        if name not in known:
            raise ConfigError(f"{at}: unknown key {name!r}: {nearest(name, known)}")
        if any(name == fixed or name.startswith(f"{fixed}.") for fixed in FIXED):
            raise ConfigError(f"{at}: {name} is one for all members: set it outside [grid]")
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{at}: {name} = {values!r}: expected a list of one value or more")
        axes[name] = tuple(place.typed(name, known[name], value) for value in values)
        if len(set(axes[name])) < len(values):
            raise ConfigError(f"{at}: {name} = {values!r}: lists a value twice")
    return axes


CHANGEABLE = ("parallel", "data.keep", *PATHS, *(f'grid."{path}"' for path in PATHS))
"""What may differ when a sweep goes on."""
SHARE = 1 / WITHIN  # of memory that the members of a part may fill by `footprint`


class Member(NamedTuple):
    """One seed of one config: its line in results.csv, and the config that trains it alone."""

    line: int
    config: Config


class Part(NamedTuple):
    """Members trained at once, filled up to `size` with copies of the last."""

    name: str
    members: tuple[Member, ...]
    size: int

    def trained(self, grid: Sequence[str], steps: int) -> Members:
        """What a program trains in its `steps`: the seeds, and the swept fields that it takes as numbers."""
        copies = self.size - len(self.members)
        filled = [member.config for member in (*self.members, *[self.members[-1]] * copies)]
        values = {name: tuple(get(config, name) for config in filled) for name in FIELDS if name in grid}
        return Members(replace(filled[0], {"steps": steps}), tuple(config.seed for config in filled), values, copies)


def groups(configs: Sequence[Config]) -> list[list[Member]]:
    """The members of `configs`, those together that one program can train."""
    one_seed = [replace(c, {"seed": c.seed + i, "seeds": 1}) for c in configs for i in range(c.seeds)]
    found: dict[Config, list[Member]] = {}
    for line, config in enumerate(one_seed):
        shared = replace(config, {"seed": 0} | dict.fromkeys(FIELDS, 1.0))
        found.setdefault(shared, []).append(Member(line, config))
    return list(found.values())


def parts(group: Sequence[Member], most: int, number: int) -> list[Part]:
    """The group in as few parts of equal size as hold at most `most` members."""
    count = math.ceil(len(group) / most)
    size = math.ceil(len(group) / count)
    split = [tuple(group[i : i + size]) for i in range(0, len(group), size)]
    return [Part(f"{number:03d}-{k:03d}", members, size) for k, members in enumerate(split)]


def sweep(plan: Sweep, directory: str | Path, *, overwrite: bool = False, quiet: bool = False) -> Outcome:
    """Train, or go on training, every member of `plan` in `directory`.

    Without `members` a part holds as many as fill a quarter of the device's (or the host's) memory by `footprint`; a
    sweep that goes on keeps the number it began with.

    Raises:
        ConfigError, ConfigConflict (exit 2), DataError (3), CheckpointError (5), RunLocked (6), ResourceError (7),
        Stopped (128 + signal).
    """
    plan = plan.by_name().absolute_paths()
    found = groups(plan.configs())
    data = {c: load_data(c) for c in dict.fromkeys(group[0].config.data for group in found)}
    programs = [Program(group[0].config, data[group[0].config.data]) for group in found]
    before = {} if overwrite else _before(Path(directory))
    _refuse_other_data(directory, before, data)
    most = plan.members or _members(before) or _fitting(programs)
    resolved = dataclasses.replace(plan, members=most)
    contents = f"data_fingerprints = {toml.literal(tuple(d.fingerprint() for d in data.values()))}\n"
    if own := tuple(dict.fromkeys(filter(None, (own_divergences(program.config) for program in programs)))):
        contents += f"own_divergences = {toml.literal(own)}\n"
    work = [(program, part) for i, program in enumerate(programs) for part in parts(found[i], most, i)]
    with (
        RunDirectory.open(directory, contents + resolved.to_toml(), overwrite=overwrite, changeable=CHANGEABLE) as run,
        Reporter(sum(program.config.steps for program, _ in work), quiet=quiet) as report,
        signals() as stop,
    ):
        ignored = (unused(program.config) for program in programs)
        for note in dict.fromkeys(filter(None, chain(*(program.notes for program in programs), ignored))):
            report.say(note)
        return _Running(tuple(plan.grid), run, report, stop).all(work)


def _before(directory: Path) -> dict[str, Any]:
    """What the sweep in `directory` began as; {} if it holds none, or one that cannot be read, as `open` says."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return tomllib.loads((directory / "config.toml").read_text(encoding="utf-8"))
    return {}


def _members(before: Mapping[str, Any]) -> int:
    """How many members a part a sweep began with; 0 if that is not known."""
    members = before.get("members")
    return members if type(members) is int and members > 0 else 0


def _refuse_other_data(directory: str | Path, before: Mapping[str, Any], data: Mapping[Data, Dataset]) -> None:
    """Raise ConfigConflict where the sweep in `directory` began on as many files, one of which held something else."""
    stored = before.get("data_fingerprints")
    if not isinstance(stored, list) or len(stored) != len(data):
        return
    for was, (described, now) in zip(stored, data.items()):
        if was != now.fingerprint():
            raise ConfigConflict(
                f"{directory} was swept on other data: {described.path or described.name} had the fingerprint "
                f"{was!s:.12} then, has {now.fingerprint():.12} now. Put back what it held, or name another directory "
                "by --run"
            )


def _fitting(programs: Sequence[Program]) -> int:
    """How many members of the most demanding program fit."""
    return max(1, min(MOST, int(SHARE * engines.memory() / max(program.footprint() for program in programs))))


class _Running:
    """A sweep in progress: part after part, what has ended in results.jsonl and results.csv."""

    def __init__(self, grid: Sequence[str], run: RunDirectory, report: Reporter, stop: list[int]):
        self.grid, self.run, self.report, self.stop = grid, run, report, stop
        self.rows: list[dict[str, Any]] = []
        self.done = 0  # steps of the parts that have ended
        self.loop: Loop | None = None
        self.part: str | None = None

    def all(self, work: Sequence[tuple[Program, Part]]) -> Outcome:
        ended = ended_parts(self.run)
        self.rows = list(chain(*ended.values()))
        with self.run.recorded(self._progress):
            for program, part in work:
                self.part = part.name
                if part.name not in ended:
                    self._train(program, part)
                self.done, self.loop = self.done + program.config.steps, None
            self._write_csv()
            if self.stop:  # in the evaluation of the last part, or after it
                raise Stopped(self.stop[0], self.done)
        warnings: list[str] = []
        with attempted(warnings.append):
            from fgan.run import sweep_picture

            sweep_picture.draw(self.run.path / "results.csv")
        warnings += [f"member {row['line']}: {row['warnings']}" for row in self.rows if row.get("warnings")]
        facts = {"members": len(self.rows), "devices": engines.describe(), "warnings": warnings}
        self.run.status("finished", self.done, **facts)
        return Outcome(self.run.path, self.done, self.rows, warnings=tuple(warnings))

    def _progress(self) -> dict[str, Any]:
        return {"step": self.done + (self.loop.step if self.loop else 0), "part": self.part}

    def _train(self, program: Program, part: Part) -> None:
        """Train a part, and record its rows."""
        self.run.status("running", self.done, part=part.name)
        (self.run.path / "parts").mkdir(exist_ok=True)
        members = part.trained(self.grid, program.config.steps)
        with RunDirectory.open(self.run.path / "parts" / part.name, members.to_toml()) as directory:
            label = f"part {part.name}: "
            loop = Loop(program, members, directory, self.report, evaluates=False, label=label, before=self.done)
            self.loop = loop
            try:
                loop.run(self.stop)
                scores = loop.evaluate()[1]
            except Diverged:
                scores = [{"diverged": True}] * part.size
            rows = list(self._rows(part, loop, scores))
        self.run.append({"part": part.name, "rows": rows}, RESULTS)
        self.rows += rows
        self._write_csv()

    def _rows(self, part: Part, loop: Loop, scores: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """What results.csv says of each member of a part."""
        last = loop.directory.records()[-1]
        for i, ((line, config), since) in enumerate(zip(part.members, loop.since().tolist())):
            found = loop.findings[i] if loop.findings else [health.diverged(since)]
            diverged = any(each.void for each in found) or scores[i].get("diverged", False)
            state = {"state": "diverged" if diverged else "finished", "step": since if since >= 0 else loop.step}
            metrics = {name: values[i] for name, values in last.items() if name != "step"}
            kept = {} if diverged else dict(toml.leaves(scores[i]))
            flat = {key: value for key, value in kept.items() if key != "seed" and not isinstance(value, list)}
            fields = {name: get(config, name) for name in self.grid} | {"seed": config.seed}
            warnings = {"warnings": "; ".join(each.text for each in found)}
            yield {"line": line, **fields, **state, "part": part.name, "member": i, **warnings, **metrics, **flat}

    def _write_csv(self) -> None:
        """results.csv, anew."""
        self.rows.sort(key=lambda row: row["line"])
        columns = [name for name in dict.fromkeys(chain(*self.rows)) if name != "line"]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _csv(value) for name, value in row.items()} for row in self.rows)
        self.run.write("results.csv", text.getvalue())


def _csv(value: Any) -> str:
    """A value as results.csv has it: text as it is, nothing for what is not finite, all else as JSON."""
    if isinstance(value, str):
        return value
    missing = value is None or (isinstance(value, float) and not math.isfinite(value))
    return "" if missing else json.dumps(value)
