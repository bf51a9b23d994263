"""Configs as TOML: files hold only what differs from the defaults, runs keep the whole.

Unknown keys, wrong types and values outside their bounds raise ConfigError naming the file, the line and the remedy.
"""

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from fgan.config.fields import ConfigError, fields, is_path, located, nearest, typed, walk
from fgan.config.schema import Config, names

SIZE_LIMIT = 1 << 20
"""Bytes of a config file, checked before reading; a config has a few hundred."""


def load(path: str | Path) -> Config:
    """The Config in a TOML file. Raises ConfigError."""
    name, text = str(path), read(path)
    return overlay(Config(), parse(text, name), Place(name, text, folder=Path(path).parent))


def read(path: str | Path, *, folder: str = "configs") -> str:
    """The text of a TOML file of moderate size; where there is none, the error lists those in `folder`."""
    file = Path(path)
    if not file.is_file():
        found = sorted(str(p) for p in Path(folder).glob("*.toml"))
        choices = f"; the shipped ones are {', '.join(found)}" if found else ""
        raise ConfigError(f"{path}: no such config file{choices}")
    if file.stat().st_size > SIZE_LIMIT:
        raise ConfigError(f"{path}: {file.stat().st_size} bytes is no config; at most {SIZE_LIMIT} are read")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def parse(text: str, name: str) -> dict[str, Any]:
    """The table in TOML text, called `name` in messages. Raises ConfigError."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # besides its own error: integers too long, brackets too deep
        raise ConfigError(f"{name}: not valid TOML: {error}") from None


def from_toml(text: str, name: str = "config.toml") -> Config:
    """The Config in TOML text, called `name` in messages. Raises ConfigError."""
    return overlay(Config(), parse(text, name), Place(name, text))


def to_toml(config: Config) -> str:
    """Every field of `config` as TOML, a line each, so that from_toml(to_toml(c)) == c."""
    lines, table = [], ""
    for name, _, value in walk(config):  # what stands in no table comes first
        within, _, key = name.rpartition(".")
        lines += ["", f"[{within}]"] * (within != table) + [f"{key} = {literal(value)}"]
        table = within
    return "\n".join(lines) + "\n"


def differences(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted name → (value before, value after) of each field in which two configs differ."""
    pairs = zip(walk(before), walk(after), strict=True)
    return {name: (old, new) for (name, _, old), (_, _, new) in pairs if old != new}


def leaves(table: Mapping[str, Any], prefix: str = "", quoted: bool = False) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of each value that is no table; with keys as TOML has them if `quoted`."""
    for key, value in table.items():
        name = prefix + (json.dumps(key) if quoted and not re.fullmatch(r"[A-Za-z0-9_-]+", key) else key)
        if isinstance(value, Mapping):
            yield from leaves(value, f"{name}.", quoted)
        else:
            yield name, value


def literal(value: Any) -> str:
    """The value of a field as TOML on one line."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(literal, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").removesuffix("\n")


class Place(NamedTuple):
    """A file and its text, to say where a key stands; `within`, with its dot, is the table that keys are asked of."""

    name: str
    text: str
    within: str = ""
    folder: Path | None = None  # where relative paths begin; None leaves them as they are

    def of(self, dotted: str) -> str:
        """file:line of a key, of the table that holds it inline, or the file alone."""
        section = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := re.match(r"\s*\[\s*([\w.]+)\s*\]", line):
                section = here = header[1]
            elif key := re.match(r"""\s*["']?([\w.-]+)["']?\s*=""", line):
                here = f"{section}.{key[1]}" if section else key[1]
            else:
                continue
            if here == self.within + dotted:
                return f"{self.name}:{number}"
        table = dotted.rpartition(".")[0]
        return self.of(table) if table else self.name

    def typed(self, dotted: str, kind: Any, value: Any) -> Any:
        """`value`, read here, as a field annotated `kind` holds it. Raises ConfigError with file:line."""
        try:
            checked = typed(dotted, kind, value)
            return checked if self.folder is None or not is_path(kind) else located(checked, self.folder)
        except ConfigError as error:
            raise ConfigError(f"{self.of(dotted)}: {error}") from None


def overlay(config: Any, table: Mapping[str, Any], place: Place, prefix: str = "") -> Any:
    """`config`, or its table `prefix`, with the fields that `table`, read at `place`, holds. Raises ConfigError."""
    known = fields(config.__class__)
    values = {}
    for key, value in table.items():
        dotted = prefix + key
        if key not in known:
            choices = dict.fromkeys([*(prefix + k for k in known), *names()])
            raise ConfigError(f"{place.of(dotted)}: unknown key {dotted!r}: {nearest(dotted, choices)}")
        if not dataclasses.is_dataclass(known[key]):
            values[key] = place.typed(dotted, known[key], value)
        elif isinstance(value, Mapping):
            values[key] = overlay(getattr(config, key), value, place, dotted + ".")
        else:
            raise ConfigError(f"{place.of(dotted)}: {dotted} is a table; write [{dotted}] and its keys below")
    return dataclasses.replace(config, **values)
