"""`fgan config show|diff|validate FILE…`: what a config means, without training it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from fgan.cli.command import Base, show
from fgan.config import toml
from fgan.config.checks import check
from fgan.config.fields import ConfigError
from fgan.config.schema import Config

COMMANDS = {"config": "Show a config whole, say how two differ, or check that configs are valid; nothing is trained."}


@dataclass(frozen=True, kw_only=True)
class Command(Base):
    action: Positional[Literal["show", "diff", "validate"]]
    """show prints every field; diff the fields that differ, of a file from the defaults or of two from each other."""
    files: Annotated[Positional[tuple[str, ...]], arg(metavar="FILE…")]
    """TOML files, or directories of runs."""

    def __call__(self) -> None:
        most = {"show": 1, "diff": 2, "validate": len(self.files)}[self.action]
        if not 0 < len(self.files) <= most:
            count = {"show": "one file", "diff": "one or two files", "validate": "one file or more"}[self.action]
            raise ConfigError(f"fgan config {self.action} takes {count}, not {len(self.files)}")
        configs = [_read(file) for file in self.files]
        if self.action == "show":
            show_lines(toml.to_toml(configs[0]))
        elif self.action == "validate":
            for file, config in zip(self.files, configs):
                check(config)
                show(f"{file}: valid")
        else:
            before, after = (Config(), configs[0]) if len(configs) == 1 else configs
            unlike = toml.differences(before, after).items()
            lines = [f"{name} = {toml.literal(old)} → {toml.literal(new)}" for name, (old, new) in unlike]
            show_lines("\n".join(lines) or "no difference")


def _read(file: str) -> Config:
    """The config of a file, or of a run."""
    path = Path(file)
    return toml.load(path / "config.toml" if path.is_dir() else path)


def show_lines(text: str) -> None:
    for line in text.splitlines():
        show(line)
