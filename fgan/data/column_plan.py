"""The user's own word on the columns of a table: a TOML file that names their kinds.

[columns]
postcode = "categories"
income = "scores"
note = "drop"
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from estimators.samples.names import listed
from estimators.samples.raw import printable
from fgan.config import toml
from fgan.config.fields import ConfigError, nearest
from fgan.data.coordinates import PLANNED

CHOICES = (*PLANNED, "categories", "drop")


def read_plan(path: str) -> dict[str, str]:
    """Column → kind, as the file at `path` has them; {} without a path. Raises ConfigError (exit 2)."""
    if not path:
        return {}
    shown = f"data.columns = {printable(path)}"
    if not Path(path).is_file():
        raise ConfigError(f"{shown}: no such file; name a TOML file with a table [columns]")
    try:
        plan = toml.parse(toml.read(path), "the plan")
    except (OSError, ConfigError) as error:
        raise ConfigError(f"{shown}: {error}; correct it") from error
    columns = plan.get("columns")
    if set(plan) != {"columns"} or not isinstance(columns, dict):
        raise ConfigError(f"{shown}: one table [columns] is needed, with lines such as age = 'whole'")
    for name, kind in columns.items():
        if kind not in CHOICES:
            raise ConfigError(f"{shown}: {printable(name)} = {kind!r}: {nearest(str(kind), CHOICES)}")
    return columns


def require_numbers(plan: Mapping[str, str], path: str, words: Sequence[str]) -> None:
    """Raise ConfigError where a plan gives a kind of numbers to a column of words."""
    for name in words:
        if plan.get(name, "categories") in PLANNED:
            raise ConfigError(
                f"data.columns = {printable(path)}: {printable(name)} = {plan[name]!r}, but its cells are words; "
                "leave it out of the plan, or set categories or drop"
            )


def of_kind(plan: Mapping[str, str], kind: str) -> tuple[str, ...]:
    """The columns that are planned to be of a kind."""
    return tuple(name for name, planned in plan.items() if planned == kind)


def require_columns(plan: Mapping[str, str], path: str, known: Sequence[str]) -> None:
    """Raise ConfigError where a plan names a column that is not among the known ones."""
    if absent := [name for name, kind in plan.items() if name not in known and kind != "drop"]:
        raise ConfigError(
            f"data.columns = {printable(path)}: no column {printable(absent[0])!r}; the columns are {listed(known)}"
        )
