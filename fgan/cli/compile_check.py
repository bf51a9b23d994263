"""`fgan compile-check CONFIG`."""

import json
import os
from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import Positional, arg

from fgan.cli.command import Base, require_device
from fgan.config.checks import check
from fgan.config.schema import Config

COMMANDS = {
    "compile-check": "Compile the training step for a TPU that need not be there: its memory, work, messages and best "
    "time."
}
NO_TPU = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-8"}
"""Environment that keeps libtpu from asking which machine this is: the TPU is only described."""


@dataclass(frozen=True, kw_only=True)
class Command(Base):
    file: Annotated[Positional[str], arg(metavar="CONFIG")]
    """A TOML file such as configs/ring.toml."""
    topology: str = "v5e:2x4"
    """Chips and their grid: v5e:2x4 to v5e:16x16, v6e:4x4, v5p:4x4x4, v4:2x2x4, …"""
    weak_scaling: bool = False
    """Extrapolate weak scaling to 1024 chips too; compiles for twice the chips as well."""
    json: bool = False
    """Print one JSON object instead of tables."""
    settings: Annotated[Config, arg(name="")] = field(default_factory=Config)

    def __call__(self) -> None:
        os.environ["JAX_PLATFORMS"] = "cpu"
        for name, value in NO_TPU.items():
            os.environ.setdefault(name, value)
        check(self.settings)
        import jax

        from fgan.data.sources import load
        from fgan.devices import compile_check
        from fgan.run.program import described

        jax.config.update("jax_enable_compilation_cache", False)  # a program for an absent TPU cannot be read back
        require_device()
        data = load(self.settings.data)
        asked = self.settings, self.topology, lambda config, n, layout: described(config, data, n, layout)
        result = compile_check.compile_check(*asked)
        twice = compile_check.doubled(*asked) if self.weak_scaling else None
        if self.json:
            more = {} if twice is None else {"model": [r._asdict() for r in compile_check.weak_scaling(result, twice)]}
            print(json.dumps(compile_check.as_json(result) | more, allow_nan=False))
            return
        print(compile_check.table(result))
        if twice is not None:
            print(f"\n{compile_check.model_table(result, twice)}")
