"""What a field may hold, written in its annotation for tyro and the checker, and how a setting is refused.

    Annotated[int, Bound(1)]                                       1 or more
    Annotated[float, Bound(0.0, below=1.0)]                        in [0, 1)
    Annotated[str, OneOf("fgan.models.penalties:PENALTIES")]       a name in a table
    Annotated[str, File()]                                         the path of a file or folder
    tuple[Annotated[float, Bound(0.0, above=True)], ...]           positive and finite, each of them

The names of a table are taken from it when they are needed, so that an entry added to the table is a choice at once.
"""

import dataclasses
import difflib
import math
import os
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal

from tyro.constructors import PrimitiveConstructorSpec

from estimators import rooms

RENAMED = {
    "critic.reach": "critic.output_bound",
    "critic.leash": "critic.out_of_bound_penalty",
    "spread": "instance_noise",
    "covering": "kl_gradient",
}
"""Old name → new name of a field, of a table of fields, or of a choice."""


class ConfigError(ValueError):
    """A setting that cannot be used; the message is one line with the remedy."""

    exit_code = 2


def nearest(name: str, choices: Iterable[str], otherwise: str = "") -> str:
    """The remedy for an unknown `name`: its new name or the closest choice, else `otherwise`, else all choices."""
    choices, field = list(choices), name.removeprefix("--")  # of an option
    old = next((old for old in RENAMED if f"{field}.".startswith(f"{old}.")), None)
    if old and (new := name.replace(old, RENAMED[old], 1)) in choices:
        return f"it is now called {new}"
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else otherwise or f"choose from {', '.join(choices)}"


class Rule(PrimitiveConstructorSpec):
    """A type of value, one word on the command line, and what is allowed of it."""

    nargs = 1
    __eq__, __hash__ = object.__eq__, object.__hash__

    def __init__(self, kind: type):
        self.kind = kind

    def instance_from_str(self, words: list[str]) -> Any:
        return self.kind(words[0])

    def str_from_instance(self, instance: Any) -> list[str]:
        return [str(instance)]

    def is_instance(self, instance: Any) -> bool:
        return isinstance(instance, self.kind)

    def complaint(self, value: Any) -> str:
        """What is wrong with `value`, and the remedy; empty if it is allowed."""
        raise NotImplementedError


class Bound(Rule):
    """A finite number v with low ≤ v < below, or low < v if `above`."""

    def __init__(self, low: float, below: float = math.inf, above: bool = False):
        super().__init__(type(low))
        self.low, self.below, self.above = low, below, above

    @property
    def metavar(self) -> str:  # type: ignore[override]
        name = self.kind.__name__.upper()
        if self.low == -math.inf:
            return name
        return f"{name}{'>' if self.above else '>='}{self.low:g}"

    def complaint(self, value: float) -> str:
        low = self.low < value if self.above else self.low <= value
        if low and value < self.below:  # a NaN fails both
            return ""
        limits = ["finite"] * (self.kind is float and self.below == math.inf)
        limits += [f"{'above' if self.above else 'at least'} {self.low:g}"] * (self.low > -math.inf)
        limits += [f"below {self.below}"] * (self.below < math.inf)
        return f"must be {' and '.join(limits)}"


class OneOf(Rule):
    """A name in `table`: a mapping, or the address of one as `estimators.rooms.names` has it."""

    def __init__(self, table: str | Mapping[str, Any]):
        super().__init__(str)
        self.table = table

    @property
    def names(self) -> list[str]:
        """The names there are now."""
        return list(rooms.names(self.table) if isinstance(self.table, str) else self.table)

    @property
    def metavar(self) -> str:  # type: ignore[override]
        return "{" + ",".join(self.names) + "}"

    def complaint(self, value: str) -> str:
        return "" if value in self.names else nearest(value, self.names)


class File(Rule):
    """The path of a file or folder; on the command line a relative one is taken from the working directory."""

    metavar = "PATH"

    def __init__(self) -> None:
        super().__init__(str)

    def instance_from_str(self, words: list[str]) -> str:
        return absolute(words[0])

    def complaint(self, value: str) -> str:
        return "" if is_utf8(value) else "the name is no valid UTF-8, which a config must be; rename the file"


STANDARD_INPUT = "-"
"""What stands in a path for standard input."""


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Whether the name is valid UTF-8; Python puts surrogates for other bytes."""
    return not any("\ud800" <= c <= "\udfff" for c in os.fspath(path))


def absolute(path: str) -> str:
    """`path` as an absolute one, with `~` expanded and links resolved; what is no path stays as it is."""
    none = path in ("", STANDARD_INPUT) or "\0" in path
    return path if none else os.path.realpath(os.path.expanduser(path))


def located(path: str, folder: str | os.PathLike[str]) -> str:
    """`path`, as a file in `folder` names it: from there, or from the working directory where only that has it."""
    path = os.path.expanduser(path)
    here = os.path.join(folder, path)
    return absolute(path if path in ("", STANDARD_INPUT) or os.path.exists(path) > os.path.exists(here) else here)


def is_path(kind: Any) -> bool:
    """Whether a field annotated `kind` holds a path."""
    return any(isinstance(rule, File) for rule in getattr(kind, "__metadata__", ()))


@cache
def fields(cls: type) -> dict[str, Any]:
    """name → annotated type of each field of a dataclass."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def plain(kind: Any) -> Any:
    """The type under an annotation; that of its choices for a Literal."""
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    return type(typing.get_args(kind)[0]) if typing.get_origin(kind) is Literal else kind


def items(kind: Any, n: int) -> list[Any]:
    """The types of a tuple's values, n of them where it may have any number."""
    inner = typing.get_args(plain(kind))
    return [inner[0]] * n if inner[-1] is Ellipsis else list(inner)


_TYPES = {int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}


def typed(name: str, kind: Any, value: Any) -> Any:
    """`value` as the field `name`, annotated `kind`, holds it; only int → float and list → tuple are converted.

    Raises ConfigError for another type, and for a value that the annotation does not allow.
    """

    def wrong(remedy: str) -> ConfigError:
        return ConfigError(f"{name} = {value!r}: {remedy}")

    base = plain(kind)
    if typing.get_origin(base) is tuple:
        if not isinstance(value, (list, tuple)):
            length = len(items(kind, 0))
            raise wrong(f"expected a list of {length} values" if length else "expected a list")
        kinds = items(kind, len(value))
        if len(kinds) != len(value):
            raise wrong(f"expected {len(kinds)} values")
        return tuple(typed(name, k, v) for k, v in zip(kinds, value, strict=True))
    if base is float and type(value) is int and abs(value) < 2**1023:
        value = float(value)
    if not isinstance(value, base) or (isinstance(value, bool) and base is not bool):
        raise wrong(f"expected {_TYPES[base]}")
    if typing.get_origin(kind) is Literal and value not in (choices := typing.get_args(kind)):
        raise wrong(nearest(value, choices))
    for rule in getattr(kind, "__metadata__", ()):
        if isinstance(rule, Rule) and (complaint := rule.complaint(value)):
            raise wrong(complaint)
    return value


def walk(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, annotated type, value) of every field below a dataclass."""
    for name, kind in fields(config.__class__).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            yield from walk(value, f"{prefix}{name}.")
        else:
            yield prefix + name, kind, value
