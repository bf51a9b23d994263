"""Who trains together, on what data: written into a run directory, and read back to go on or to sample.

Members are trained at once by one program: the seeds of a run, or a part of a sweep, whose members may differ in some
numbers too. `config.toml` holds what they share and, where that does not say it all, a table `[members]` with a column
a field; `data.json` holds what it takes to turn generated points into the user's units without the data.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from estimators.divergences.table import OWN, UnknownDivergence, divergence, signature
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, replace
from fgan.config.toml import from_toml, literal, parse, to_toml
from fgan.data.coordinates import Coordinates
from fgan.data.dataset import Dataset
from fgan.data.tables import Form
from fgan.models.model import Model, build
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.directory import REMEDY, RunDirectory, parsed
from fgan.run.program import fresh

TABLE = "\n[members]\n"
DATA = "data.json"
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
        """The members in what `to_toml` returned. Raises ConfigError."""
        shared, _, table = text.partition(TABLE)
        config, columns = from_toml(shared), parse(table, "config.toml, table [members]")
        if not columns:
            return cls.of(config)
        lengths = {len(column) if isinstance(column, list) else None for column in columns.values()}
        if "seed" not in columns or len(lengths) > 1 or lengths & {None, 0}:
            raise ConfigError("config.toml: table [members] needs lists of one length, seed among them")
        return cls(config, tuple(columns.pop("seed")), {name: tuple(column) for name, column in columns.items()})


def write_data(run: RunDirectory, data: Dataset) -> None:
    """Write `data.json`, with the hash of what it says: a flipped digit would turn into other samples."""
    config = Members.from_toml(run.config_toml).config
    facts = {"dim": data.dim, "side": data.side, "fingerprint": data.fingerprint() + own_divergences(config)}
    units: dict[str, Any] = {"offset": data.offset.tolist(), "scale": data.scale.tolist()}
    if data.coordinates is not None:
        units = {"coordinates": data.coordinates.to_json(), "form": data.form.to_json()}
    facts = json.loads(json.dumps(facts | units))  # keys are text from here on, as they will be read
    run.write(DATA, json.dumps(facts | {"sha256": _hash(facts)}) + "\n")


def _hash(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_facts(run: RunDirectory) -> dict[str, Any]:
    """What `data.json` says of the data. Raises CheckpointError."""
    path = run.path / DATA
    try:
        facts = parsed(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise CheckpointError(f"{run.path} has no {DATA}: the run never began; train it first") from None
    stated = facts.pop("sha256", None)  # runs of old have none
    if set(facts) - FACTS or (stated is not None and stated != _hash(facts)):
        raise CheckpointError(f"{path} does not match its own hash; {REMEDY}")
    if not isinstance(facts.get("fingerprint"), str):
        raise CheckpointError(f"{path} is damaged (no fingerprint); {REMEDY}")
    return facts


def read_data(run: RunDirectory, config: Config) -> tuple[Dataset, str]:
    """(the data set of a run without its rows, its fingerprint). Raises CheckpointError."""
    facts = read_facts(run)
    try:
        return _dataset(facts, config.data.name), facts["fingerprint"]
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{run.path / DATA} is damaged ({type(error).__name__}: {error}); {REMEDY}") from error


FACTS = {"dim", "side", "fingerprint", "offset", "scale", "coordinates", "form"}
"""What `data.json` says beside its hash."""


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
    if (
        type(dim) is not int
        or {offset.shape, scale.shape} != {(dim,)}
        or type(side) is not int
        or side**2 not in (0, dim)
    ):
        raise ValueError(f"dim {dim!r} and side {side!r} do not fit offsets of shape {offset.shape}")
    empty = np.zeros((0, dim), np.float32)
    data = Dataset(
        name=name,
        dim=dim,
        side=side,
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

    def sample(self, n: int, *, seed: int = 0) -> np.ndarray:
        """n generated points [n, d] in the data's own units, float64."""
        points = jax.jit(self.model.sample, static_argnums=2)(self.state, jax.random.key(seed), n)
        return self.data.own_units(np.asarray(points))


def restore(directory: str | Path, member: int = 0) -> Restored:
    """A member of the run or sweep in `directory`, from its newest sound checkpoint, read only.

    `member` is which of the run's seeds, or which line of the sweep's results.csv, counted from 0. Raises ConfigError
    where there is no such member, or it diverged; RunNotFound, CheckpointError (exit 5).
    """
    run, i = RunDirectory.find(directory), member
    if (run.path / "parts").is_dir():  # a sweep
        run, i = _part(run, member)
    members, data, step, state = newest(run)
    if not 0 <= i < len(members.seeds):
        raise ConfigError(f"member {member}: the run has seeds 0 to {len(members.seeds) - 1}")
    config, own = members.config_of(i), jax.tree.map(lambda x: x[i], state)
    if (skipped := int(own.skipped)) >= PATIENCE:
        raise ConfigError(f"member {member} diverged at step {step - skipped}; choose another, or train it anew")
    return Restored(build(config, data), own, step, config, data)


def newest(run: RunDirectory) -> tuple[Members, Dataset, int, Any]:
    """(members, their data without its rows, step, state) in the newest sound checkpoint. Raises CheckpointError."""
    members = Members.from_toml(run.config_toml)
    members = dataclasses.replace(members, config=with_stand_in(members.config))
    data, content = read_data(run, members.config)
    like = jax.eval_shape(lambda: fresh(members.config, data, np.asarray(members.seeds, np.uint32)))
    checkpoints = Checkpoints(run.path / "checkpoints", fingerprint=fingerprint(run, content), writes=False)
    restored = checkpoints.restore(like)
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


def _part(sweep: RunDirectory, line: int) -> tuple[RunDirectory, int]:
    """(the part, the number within it) of the member on a line of results.csv. Raises ConfigError."""
    try:
        rows = {row["line"]: row for record in sweep.records("results.jsonl") for row in record["rows"]}
        found = {at: (str(row["part"]), int(row["member"]), row["state"], row["step"]) for at, row in rows.items()}
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{sweep.path / 'results.jsonl'} is damaged ({error!r}); {REMEDY}") from error
    if line not in rows:
        raise ConfigError(
            f"member {line}: {sweep.path / 'results.csv'} has {len(rows)} lines, counted from 0; choose one"
        )
    part, member, state, step = found[line]
    if state == "diverged":
        raise ConfigError(f"member {line} diverged at step {step}; choose another line of results.csv")
    return RunDirectory.find(sweep.path / "parts" / Path(part).name), member
