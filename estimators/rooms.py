"""What a table or a room offers, by name and without importing it: so that help and checks need no jax.

    names("fgan.models.penalties:PENALTIES")     the names in a table of one file, a literal dictionary
    Room("estimators.methods", "METHODS", "estimate")
                                                 the names that the files of a room offer, each loaded when first used

Adding an entry is one line of the table, or one file of the room. Imports the standard library only.
"""

import ast
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any


def names(table: str) -> tuple[str, ...]:
    """The names in "package.module:TABLE", from the table itself where its module is loaded, else from its source."""
    module, _, name = table.partition(":")
    if module in sys.modules and hasattr(sys.modules[module], name):
        return tuple(getattr(sys.modules[module], name))
    return tuple(_literals(module).get(name, {}))


def loaded(package: str, homes: Mapping[str, str], name: str) -> Any:
    """What `package` offers as `name`, from the module that `homes` lists it under: {module: names, with spaces}.

    Raises:
        AttributeError: no module has it.
    """
    for module, offered in homes.items():
        if name in offered.split():
            return getattr(importlib.import_module(f"{package}.{module}"), name)
    raise AttributeError(f"module {package!r} has no attribute {name!r}")


_ADDED: dict[tuple[str, str], dict[str, tuple[str, Callable[..., Any]]]] = {}
"""What was added at run time, by package and table: the same for every Room of these two."""


class Room(Mapping[str, Callable[..., Any]]):
    """name → the `function` of the file that offers it, for the files of a package.

    A file offers what its literal dictionary `table` lists: {name: one line about it}.
    """

    __hash__ = object.__hash__  # each is one

    def __init__(self, package: str, table: str, function: str):
        self.package, self.table, self.function = package, table, function
        self._added = _ADDED.setdefault((package, table), {})

    @property
    def about(self) -> dict[str, str]:
        """name → one line about it, in the order of the files' names."""
        return {name: line for name, (line, _) in (self._offered() | self._added).items()}

    def add(self, name: str, line: str, function: Callable[..., Any]) -> None:
        """Offer another function until the program ends."""
        self._added[name] = line, function

    def remove(self, name: str) -> None:
        """Take back what `add` has added."""
        del self._added[name]

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name in self._added:
            return self._added[name][1]
        _, file = self._offered()[name]
        return getattr(importlib.import_module(file), self.function)

    def __iter__(self) -> Iterator[str]:
        return iter(self.about)

    def __len__(self) -> int:
        return len(self.about)

    def _offered(self) -> dict[str, tuple[str, Any]]:
        """name → (one line about it, the module that offers it)."""
        folder = importlib.import_module(self.package).__path__
        files = sorted(f"{self.package}.{module.name}" for module in pkgutil.iter_modules(folder))
        return {name: (line, file) for file in files for name, line in _literals(file).get(self.table, {}).items()}


@cache
def _literals(module: str) -> dict[str, dict[str, Any]]:
    """The tables of a module with constant keys, from its source: table → {key: its value, if constant}."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, module
    found: dict[str, dict[str, Any]] = {}
    for line in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
        if isinstance(target, ast.Name) and isinstance(table := getattr(line, "value", None), ast.Dict):
            pairs = zip(table.keys, table.values, strict=True)
            found[target.id] = {
                str(k.value): getattr(v, "value", None) for k, v in pairs if isinstance(k, ast.Constant)
            }
    return found
