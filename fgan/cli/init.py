"""`fgan init KIND`: a config to begin with, with comments that say what its settings are for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from fgan.cli.command import Base, show
from fgan.cli.outputs import whole
from fgan.config.fields import ConfigError

COMMANDS = {"init": "Write a config to begin with: for your own table, your own images, or a ring of Gaussians."}
STARTERS = {"table": "samples", "images": "images", "ring": "ring"}
NEXT = {"table": " --data.path mine.csv", "images": " --data.path DIR", "ring": ""}


@dataclass(frozen=True, kw_only=True)
class Command(Base):
    kind: Positional[Literal["table", "images", "ring"]]
    """What is to be trained on."""
    out: Annotated[str | None, arg(metavar="FILE.toml")] = None
    """The file to write; KIND.toml here if not given. One that is there already stays."""

    def __call__(self) -> None:
        out = Path(self.out or f"{self.kind}.toml")
        if out.suffix != ".toml" or not out.parent.is_dir():
            raise ConfigError(f"--out {out}: must be a .toml file in an existing folder")
        if out.exists():
            raise ConfigError(f"{out} is there already; name another file by --out")
        text = (folder() / f"{STARTERS[self.kind]}.toml").read_text(encoding="utf-8")
        with whole(out) as draft:
            draft.write_text(text.replace(f"configs/{STARTERS[self.kind]}.toml", str(out)), encoding="utf-8")
        show(f"{out}: read its comments, then")
        show(f"  fgan train {out}{NEXT[self.kind]}")


def folder() -> Path:
    """Where the configs are: in the installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "starters"
    return installed if installed.is_dir() else package.parent / "configs"
