"""A trained run, read back to sample from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fgan.config.errors import ConfigError
from fgan.config.schema import Config
from fgan.config.toml import from_toml
from fgan.data.dataset import Dataset
from fgan.models.gan import FGAN, GANState
from fgan.models.model import build
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.directory import RunDirectory
from fgan.run.program import fresh


class Restored(NamedTuple):
    """A trained run, to sample from."""

    gan: FGAN
    state: GANState
    step: int
    config: Config
    offset: np.ndarray
    scale: np.ndarray

    def sample(self, n: int, *, seed: int = 0, member: int = 0) -> np.ndarray:
        """n generated rows [n, d] in the data's own units, from the `member`-th of the run's seeds."""
        if not 0 <= member < self.config.seeds:
            raise ConfigError(f"member {member}: the run has seeds 0 to {self.config.seeds - 1}")
        state = jax.tree.map(lambda x: x[member], self.state)
        rows = jax.jit(self.gan.sample, static_argnums=2)(state, jax.random.key(seed), n)
        return np.asarray(rows, np.float64) * self.scale + self.offset


def restore(directory: str | Path) -> Restored:
    """The newest sound checkpoint of the run in `directory`, read only.

    Raises:
        RunNotFound, CheckpointError: exit 5.
    """
    run = RunDirectory.find(directory)
    config = from_toml(run.config_toml)
    data, fingerprint = described_data(run, config)
    like = jax.eval_shape(lambda: fresh(config, data))
    state, step = newest(run, identity(run, fingerprint), like)
    return Restored(build(config, data), state, step, config, data.offset, data.scale)


def newest(run: RunDirectory, identity: str, like: Any) -> tuple[Any, int]:
    """(state, step) of the newest sound checkpoint of a run. Raises CheckpointError."""
    found = Checkpoints(run.path / "checkpoints", fingerprint=identity).restore(like, finite=False)
    if found is None:
        raise CheckpointError(f"{run.path} has no checkpoint yet; let it train to its first one")
    return found.state, found.step


def describe_data(run: RunDirectory, data: Dataset) -> None:
    """Write what it takes to turn generated rows back into the user's units without the data."""
    facts = {"dim": data.dim, "side": data.side, "fingerprint": data.fingerprint()}
    affine = {"offset": data.offset.tolist(), "scale": data.scale.tolist()}
    (run.path / "data.json").write_text(json.dumps(facts | affine) + "\n")


def described_data(run: RunDirectory, config: Config) -> tuple[Dataset, str]:
    """(the data set of a run without its rows, its fingerprint), as `describe_data` wrote them."""
    try:
        facts = json.loads((run.path / "data.json").read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{run.path} has no data.json: the run never began; train it first") from None
    empty = np.zeros((0, facts["dim"]), np.float32)
    data = Dataset(
        name=config.data.name,
        dim=facts["dim"],
        rows=empty,
        held_out=empty,
        side=facts["side"],
        offset=np.asarray(facts["offset"]),
        scale=np.asarray(facts["scale"]),
    )
    return data, facts["fingerprint"]


def identity(run: RunDirectory, data: str) -> str:
    """What must not change between a checkpoint and its resumption: the settings, and the data they were met with."""
    return hashlib.sha256((run.fingerprint + data).encode()).hexdigest()
