"""Who trains together, on what data: written into a run directory, and read back to go on or to sample.

Members are trained at once by one program: the seeds of a run, or a part of a sweep, whose members may differ in some
numbers too. `config.toml` holds what they share and, where that does not say it all, a table `[members]` with a column
a field; `data.json` holds what it takes to turn generated points into the user's units without the data.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fgan.config.schema import Config, replace
from fgan.config.toml import from_toml, literal, to_toml
from fgan.data.dataset import Dataset
from fgan.run.checkpoint import CheckpointError
from fgan.run.directory import RunDirectory

TABLE = "\n[members]\n"


@dataclass(frozen=True)
class Members:
    """k members that one program trains.

    Attributes:
        config: what they share.
        seeds: [k].
        values: dotted field of the config → its value for each member [k].
        copies: how many of the last ones only fill up the program, and count for nothing.
    """

    config: Config
    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    copies: int = 0

    @classmethod
    def of(cls, config: Config) -> Members:
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
    def from_toml(cls, text: str) -> Members:
        """The members in what `to_toml` returned. Raises ConfigError."""
        shared, _, table = text.partition(TABLE)
        config, columns = from_toml(shared), tomllib.loads(table)
        if not columns:
            return cls.of(config)
        return cls(config, tuple(columns.pop("seed")), {name: tuple(column) for name, column in columns.items()})


def write_data(run: RunDirectory, data: Dataset) -> None:
    """Write `data.json`."""
    facts = {"dim": data.dim, "side": data.side, "fingerprint": data.fingerprint()}
    affine = {"offset": data.offset.tolist(), "scale": data.scale.tolist()}
    (run.path / "data.json").write_text(json.dumps(facts | affine) + "\n")


def read_data(run: RunDirectory, config: Config) -> tuple[Dataset, str]:
    """(the data set of a run without its rows, its fingerprint). Raises CheckpointError."""
    try:
        facts = json.loads((run.path / "data.json").read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{run.path} has no data.json: the run never began; train it first") from None
    empty = np.zeros((0, facts["dim"]), np.float32)
    offset, scale = np.asarray(facts["offset"]), np.asarray(facts["scale"])
    shape = {"dim": facts["dim"], "side": facts["side"]}
    data = Dataset(name=config.data.name, rows=empty, held_out=empty, offset=offset, scale=scale, **shape)
    return data, facts["fingerprint"]


def fingerprint(run: RunDirectory, data: str) -> str:
    """What must not change between a checkpoint and its resumption: the settings, and the fingerprint of the data."""
    return hashlib.sha256((run.fingerprint + data).encode()).hexdigest()
