"""The sweep file: a grid of configs.

    config = "../ring.toml"                      # relative to this file; the fields here come on top of it
    seeds = 3                                    # of every config
    steps = 2000
    members = 32                                 # at most so many trained at once; as many as memory holds if not given

    [grid]
    divergence = ["kl", "js"]
    generator_optimizer.learning_rate = [1e-4, 1e-3]

Every combination of the lists is a config, a config with one seed a member.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from fgan.config import toml
from fgan.config.checks import check
from fgan.config.errors import ConfigError, nearest
from fgan.config.schema import Config, get, names, replace
from fgan.config.toml import Place, literal, to_toml

FIXED = ("seed", "seeds", "log", "parallel")
"""Fields, or tables of them, that are one for the whole sweep."""

MOST = 10_000  # members of a sweep: a guard against lists that multiply to more than was meant


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep file says.

    Attributes:
        base: what all configs have in common, the seeds included.
        grid: dotted field → its values.
        members: most members a part; 0 for as many as memory holds.
        name: of the file, for messages.
    """

    base: Config
    grid: Mapping[str, tuple[Any, ...]]
    members: int = 0
    name: str = "sweep.toml"

    def configs(self) -> list[Config]:
        """Every combination of the grid's values, the last field running fastest. Raises ConfigError."""
        count = math.prod(len(values) for values in self.grid.values()) * self.base.seeds
        if count > MOST:
            raise ConfigError(
                f"{self.name}: {count} members (configs × seeds), at most {MOST}: shorten a list, or make two sweeps"
            )
        configs = [replace(self.base, dict(zip(self.grid, values))) for values in product(*self.grid.values())]
        for config in configs:
            try:
                check(config)
            except ValueError as error:  # ConfigError or UnknownDivergence
                fields = ", ".join(f"{name} = {literal(get(config, name))}" for name in self.grid)
                raise ConfigError(f"{self.name}: {fields}: {error}") from None
        if "penalty.weight" in self.grid and not any(config.penalty.names for config in configs):
            raise ConfigError(f"{self.name}: penalty.weight changes nothing without a penalty: set penalty.names")
        return configs

    def to_toml(self) -> str:
        """The resolved sweep: every field of the base, and the grid."""
        grid = [f"{json.dumps(name)} = {literal(tuple(values))}" for name, values in self.grid.items()]
        return "\n".join([f"members = {self.members}", to_toml(self.base), "[grid]", *grid]) + "\n"


def load(path: str | Path) -> Sweep:
    """The Sweep in a TOML file. Raises ConfigError naming file, line and nearest name."""
    name, text = str(path), toml.read(path, folder="configs/sweeps")
    table, place = toml.parse(text, name), Place(name, text)
    grid, file, members = (table.pop(key, None) for key in ("grid", "config", "members"))
    if not isinstance(grid, Mapping) or not grid:
        raise ConfigError(f'{name}: no table [grid] of lists to combine, such as divergence = ["kl", "js"]')
    if file is not None and not isinstance(file, str):
        raise ConfigError(f"{place.of('config')}: config = {file!r}: expected text in quotes")
    if members is not None and (type(members) is not int or members < 1):
        raise ConfigError(f"{place.of('members')}: members = {members!r}: expected a whole number, at least 1")
    below = Config() if file is None else toml.load(Path(path).parent / file)
    base = toml.overlay(below, table, place)
    return Sweep(base=base, grid=_axes(grid, Place(name, text, "grid.")), members=members or 0, name=name)


def _axes(grid: Mapping[str, Any], place: Place) -> dict[str, tuple[Any, ...]]:
    known, axes = list(names()), {}
    for name, values in leaves(grid):
        at = place.of(name)
        if name not in known:
            raise ConfigError(f"{at}: unknown key {name!r}: {nearest(name, known)}")
        if any(name == fixed or name.startswith(f"{fixed}.") for fixed in FIXED):
            raise ConfigError(f"{at}: {name} is one for all members: set it outside [grid]")
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{at}: {name} = {values!r}: expected a list of one value or more")
        axes[name] = tuple(toml.typed(name, value, place) for value in values)
        if len(set(axes[name])) < len(values):
            raise ConfigError(f"{at}: {name} = {values!r}: lists a value twice")
    return axes


def leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of each value that is no table."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
