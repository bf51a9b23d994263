"""Who trains together, on what data: written into a run directory, and read back to go on or to sample.

Members are trained at once by one program: the seeds of a run, or a part of a sweep, whose members may differ in some
numbers too. `config.toml` holds what they share and, where that does not say it all, a table `[members]` with a column
a field; `data.json` holds what it takes to turn generated points into the user's units without the data.
"""

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from estimators.divergences.table import OWN, UnknownDivergence, divergence, signature
from fgan.config.fields import ConfigError, typed, walk
from fgan.config.schema import Config, replace
from fgan.config.toml import from_toml, literal, parse, to_toml
from fgan.data.coordinates import Coordinates
from fgan.data.dataset import MOST_CLASSES, Dataset
from fgan.data.tables import Form
from fgan.models.model import DrawsClasses, Model, build
from fgan.run import json_files
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.directory import CONFIG, REMEDIES, RESULTS, RunDirectory
from fgan.run.program import fresh

TABLE = "\n[members]\n"
DATA = "data.json"
ROW = {"line": int, "part": str, "member": int, "state": str, "step": int}  # what each row of results.jsonl says
TO_REWRITE = "the same fgan train command writes it anew"
PATIENCE = 50  # consecutive steps left out for being non-finite before a member is given up


@dataclass(frozen=True)
class Members:
    """k members that one program trains: what they share, and the seed and other values of each."""

    config: Config
    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # dotted field of the config → [k]
    copies: int = 0  # how many of the last ones only fill up the program, and count for nothing

    @classmethod
    def of(cls, config: Config) -> Self:
        """The seeds of a run: seed, seed + 1, …"""
        return cls(config, tuple(range(config.seed, config.seed + config.seeds)))

    @property
    def count(self) -> int:
        """How many count."""
        return len(self.seeds) - self.copies

    def config_of(self, i: int) -> Config:
        """The config that trains the i-th member alone."""
        own = {name: column[i] for name, column in self.values.items()}
        return replace(self.config, {"seed": self.seeds[i], "seeds": 1} | own)

    def to_toml(self) -> str:
        """All but the copies, as TOML."""
        if not self.values and self.seeds == Members.of(self.config).seeds:
            return to_toml(self.config)
        columns = {"seed": self.seeds} | dict(self.values)
        lines = [f"{json.dumps(name)} = {literal(column)}\n" for name, column in columns.items()]
        return to_toml(self.config) + TABLE + "".join(lines)

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """The members in what `to_toml` returned. Raises ConfigError, and for a table that is none of it KeyError or
        TypeError."""
        shared, _, table = text.partition(TABLE)
        config, columns = from_toml(shared), parse(table, "config.toml, table [members]")
        if not columns:
            return cls.of(config)
        lengths = {len(column) if isinstance(column, list) else None for column in columns.values()}
        if "seed" not in columns or len(lengths) > 1 or lengths & {None, 0}:
            raise ConfigError("config.toml: table [members] needs lists of one length, seed among them")
        kinds = {name: kind for name, kind, _ in walk(config)}
        values = {name: tuple(typed(name, kinds[name], v) for v in column) for name, column in columns.items()}
        return cls(config, values.pop("seed"), values)


def members_in(run: RunDirectory) -> Members:
    """The members of a run, as its `config.toml` has them. Raises CheckpointError."""
    text, path = run.config_toml, run.path / CONFIG
    try:
        return Members.from_toml(text)
    except (ValueError, KeyError, TypeError) as error:
        raise json_files.damaged(path, error, REMEDIES[CONFIG]) from error


def write_data(run: RunDirectory, data: Dataset) -> None:
    """Write `data.json`, with a hash of what it holds, for samples are turned by it into the user's units."""
    config = members_in(run).config
    facts = {"dim": data.dim, "side": data.side, "fingerprint": data.fingerprint() + own_divergences(config)}
    facts |= {"source": _source(config, data)} | ({"classes": data.classes} if data.classes else {})
    units: dict[str, Any] = {"offset": data.offset.tolist(), "scale": data.scale.tolist()}
    if data.coordinates is not None:
        units = {"coordinates": data.coordinates.to_json(), "form": data.form.to_json()}
    run.write(DATA, json.dumps(json_files.signed(facts | units)) + "\n")


def read_facts(run: RunDirectory) -> dict[str, Any]:
    """What `data.json` says of the data. Raises CheckpointError."""
    path = run.path / DATA
    if not path.exists() and not Checkpoints(run.path / "checkpoints", fingerprint="").steps():
        raise CheckpointError(f"{run.path} has no {DATA} and no checkpoint: the run never began; train it first")
    facts = json_files.read_signed(path, TO_REWRITE)
    if not isinstance(facts.get("fingerprint"), str):
        raise json_files.damaged(path, "no fingerprint", TO_REWRITE)
    return facts


def refuse_other_data(run: RunDirectory, data: Dataset) -> None:
    """Raise CheckpointError where `data.json`, as far as it is sound, is that of other data."""
    try:
        facts = read_facts(run)
    except CheckpointError:
        return  # it is written anew; each checkpoint knows by itself which data it is of
    if (was := facts["fingerprint"][:64]) != (now := data.fingerprint()):
        raise CheckpointError(
            f"{run.path} was trained on other data: on {facts.get('source')}, fingerprint {was:.12}; now this is "
            f"{_source(members_in(run).config, data)}, fingerprint {now:.12}. Name by --data.path the file as it was, "
            "wherever it lies, or train on this one in another directory (--run)"
        )


def _source(config: Config, data: Dataset) -> str:
    """Where data are from, in words."""
    rows = len(data.rows) + (0 if config.data.held_out else len(data.held_out))
    return (config.data.path or config.data.name) + (f" with {rows} rows" if rows else "")


def read_data(run: RunDirectory, config: Config) -> tuple[Dataset, str]:
    """(the data set of a run without its rows, its fingerprint). Raises CheckpointError."""
    facts = read_facts(run)
    try:
        return _dataset(facts, config.data.name), facts["fingerprint"]
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise json_files.damaged(run.path / DATA, f"{type(error).__name__}: {error}", TO_REWRITE) from error


def _dataset(facts: Mapping[str, Any], name: str) -> Dataset:
    """The data set of which `data.json` says these facts, once it has turned a point into a row."""
    dim, side, coordinates, form = facts["dim"], facts["side"], None, Form()
    if "coordinates" in facts:
        coordinates = Coordinates.from_json(facts["coordinates"])
        form = Form.from_json(facts["form"]) if "form" in facts else form
        form.require(coordinates.columns)
        offset, scale = np.zeros(coordinates.dim), np.ones(coordinates.dim)
    else:
        offset, scale = (np.asarray(facts[key], np.float64) for key in ("offset", "scale"))
    classes = facts.get("classes", 0)
    whole = type(dim) is type(side) is type(classes) is int and dim > 0 and side >= 0 and 0 <= classes <= MOST_CLASSES
    if not whole or {offset.shape, scale.shape} != {(dim,)} or (side and dim not in (side**2, 3 * side**2)):
        raise ValueError(
            f"dim {dim!r}, side {side!r} and classes {classes!r} do not fit offsets of shape {offset.shape}"
        )
    empty = np.zeros((0, dim), np.float32)
    data = Dataset(
        name=name,
        dim=dim,
        side=side,
        classes=classes,
        rows=empty,
        held_out=empty,
        offset=offset,
        scale=scale,
        coordinates=coordinates,
        form=form,
    )
    row = data.own_units(np.zeros((1, dim)))
    if not np.isfinite(row).all():
        raise ValueError(f"the middle of the data is {row}")
    form.cells(row)
    return data


def own_divergences(config: Config) -> str:
    """What identifies the divergences of a config that are the user's own, "" without any."""
    return "; ".join(signature(OWN[name]) for name in (config.divergence, config.critic.divergence) if name in OWN)


def fingerprint(run: RunDirectory, data: str) -> str:
    """What must not change between a checkpoint and its resumption: the settings, and the fingerprint of the data and
    of divergences of the user's own."""
    return hashlib.sha256((run.fingerprint + data).encode()).hexdigest()


class Restored(NamedTuple):
    """A trained member: its model draws in the scale the networks see, `data`, without its rows, has the way back."""

    model: Model
    state: Any
    step: int
    config: Config
    data: Dataset

    def sample(self, n: int, *, seed: int = 0, chosen: int | None = None) -> np.ndarray:
        """n generated points [n, d] in the data's own units, float64; of one class, where `chosen` says which.

        Raises ConfigError where the run has no such class.
        """
        if chosen is None:
            points = jax.jit(self.model.sample, static_argnums=2)(self.state, jax.random.key(seed), n)
            return self.data.own_units(np.asarray(points))
        draw = jax.jit(self._of_classes(chosen).sample_class, static_argnums=(2, 3))
        return self.data.own_units(np.asarray(draw(self.state, jax.random.key(seed), n, chosen)))

    def _of_classes(self, chosen: int) -> DrawsClasses:
        """The model, where it knows this class."""
        if not (isinstance(self.model, DrawsClasses) and self.model.classes):
            raise ConfigError(f"class {chosen}: the run knows no classes; train it with --data.condition")
        if not 0 <= chosen < self.model.classes or not self.state.average["params"]["shares"][chosen]:
            raise ConfigError(f"class {chosen}: no training image had it; classes are 0 to {self.model.classes - 1}")
        return self.model


def restore(directory: str | Path, member: int = 0, *, warn: Callable[[str], Any] = warnings.warn) -> Restored:
    """A member of the run or sweep in `directory`, from its newest sound checkpoint; nothing is written there.

    `member` is which of the run's seeds, or which line of the sweep's results.csv, counted from 0. `warn` is called
    with a line for each checkpoint that is damaged. Raises ConfigError where there is no such member, or it diverged;
    RunNotFound, CheckpointError (exit 5).
    """
    run, i = RunDirectory.find(directory), member
    if (run.path / "parts").is_dir():  # a sweep
        run, i = _part(run, member)
    members, data, step, state = newest(run, warn=warn)
    if not 0 <= i < len(members.seeds):
        raise ConfigError(f"member {member}: the run has seeds 0 to {len(members.seeds) - 1}")
    config, own = members.config_of(i), jax.tree.map(lambda x: x[i], state)
    if (skipped := int(own.skipped)) >= PATIENCE:
        raise ConfigError(f"member {member} diverged at step {step - skipped}; choose another, or train it anew")
    return Restored(build(config, data), own, step, config, data)


def newest(run: RunDirectory, *, warn: Callable[[str], Any] = warnings.warn) -> tuple[Members, Dataset, int, Any]:
    """(members, their data without its rows, step, state) in the newest sound checkpoint. Raises CheckpointError."""
    members = members_in(run)
    members = dataclasses.replace(members, config=with_stand_in(members.config))
    data, content = read_data(run, members.config)
    like = jax.eval_shape(lambda: fresh(members.config, data, np.asarray(members.seeds, np.uint32)))
    content = fingerprint(run, content)
    restored = Checkpoints(run.path / "checkpoints", fingerprint=content, warn=warn, writes=False).restore(like)
    if restored is None:
        raise CheckpointError(f"{run.path} has no checkpoint yet; let it train to its first one")
    return members, data, restored.step, restored.state


def with_stand_in(config: Config) -> Config:
    """`config` with js in place of divergences that this process does not know: samples need none."""
    names = {"divergence": config.divergence, "critic.divergence": config.critic.divergence}
    unknown = {}
    for field_name, name in names.items():
        try:
            divergence(name or "js")
        except UnknownDivergence:
            unknown[field_name] = "js"
    return replace(config, unknown)


def ended_parts(sweep: RunDirectory) -> dict[str, list[dict[str, Any]]]:
    """The rows of each part of a sweep that has ended, as its `results.jsonl` has them. Raises CheckpointError."""
    ended = {}
    for number, record in enumerate(sweep.records(RESULTS), 1):
        part, rows = record.get("part"), record.get("rows")
        listed = isinstance(rows, list) and all(map(_is_row, rows))
        if not (isinstance(part, str) and isinstance(rows, list) and listed):
            raise json_files.damaged(f"{sweep.path / RESULTS}:{number}", "no part with its rows", REMEDIES[RESULTS])
        ended[part] = rows
    return ended


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and all(type(row.get(name)) is kind for name, kind in ROW.items())


def _part(sweep: RunDirectory, line: int) -> tuple[RunDirectory, int]:
    """(the part, the number within it) of the member on a line of results.csv. Raises ConfigError."""
    rows = {row["line"]: row for rows in ended_parts(sweep).values() for row in rows}
    if line not in rows:
        raise ConfigError(
            f"member {line}: {sweep.path} has {len(rows)} members that ended, counted from 0 as results.csv has them; "
            "choose one, or let the same fgan sweep command go on"
        )
    row = rows[line]
    if row["state"] == "diverged":
        raise ConfigError(f"member {line} diverged at step {row['step']}; choose another line of results.csv")
    return RunDirectory.find(sweep.path / "parts" / Path(row["part"]).name), row["member"]
