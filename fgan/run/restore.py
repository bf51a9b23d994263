"""A trained member of a run or a sweep, read back to sample from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fgan.config.errors import ConfigError
from fgan.config.schema import Config
from fgan.data.dataset import Dataset
from fgan.models.model import Model, build
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.directory import RunDirectory
from fgan.run.members import Members, fingerprint, read_data
from fgan.run.program import fresh


class Restored(NamedTuple):
    """A trained member.

    Attributes:
        model, state: `model.sample(state, key, n)` draws in the scale the networks see.
        step: how long it has trained.
        config: what trains it alone.
        offset, scale: the affine map to the data's own units, x·scale + offset.
    """

    model: Model
    state: Any
    step: int
    config: Config
    offset: np.ndarray
    scale: np.ndarray

    def sample(self, n: int, *, seed: int = 0) -> np.ndarray:
        """n generated points [n, d] in the data's own units, float64."""
        points = jax.jit(self.model.sample, static_argnums=2)(self.state, jax.random.key(seed), n)
        return np.asarray(points, np.float64) * self.scale + self.offset


def restore(directory: str | Path, member: int = 0) -> Restored:
    """A member of the run or sweep in `directory`, from its newest sound checkpoint, read only.

    Args:
        member: which of the run's seeds, or which line of the sweep's results.csv, counted from 0.

    Raises:
        ConfigError: there is no such member, or it diverged. RunNotFound, CheckpointError: exit 5.
    """
    run, i = RunDirectory.find(directory), member
    if is_sweep(directory):
        run, i = _part(run, member)
    members, data, step, state = newest(run)
    if not 0 <= i < len(members.seeds):
        raise ConfigError(f"member {member}: the run has seeds 0 to {len(members.seeds) - 1}")
    config, own = members.config_of(i), jax.tree.map(lambda x: x[i], state)
    return Restored(build(config, data), own, step, config, data.offset, data.scale)


def newest(run: RunDirectory) -> tuple[Members, Dataset, int, Any]:
    """(members, their data without its rows, step, state) in the newest sound checkpoint. Raises CheckpointError."""
    members = Members.from_toml(run.config_toml)
    data, content = read_data(run, members.config)
    like = jax.eval_shape(lambda: fresh(members.config, data, np.asarray(members.seeds, np.uint32)))
    restored = Checkpoints(run.path / "checkpoints", fingerprint=fingerprint(run, content)).restore(like)
    if restored is None:
        raise CheckpointError(f"{run.path} has no checkpoint yet; let it train to its first one")
    return members, data, restored.step, restored.state


def is_sweep(directory: str | Path) -> bool:
    """Whether a sweep has been in `directory`, and not a run."""
    return (Path(directory) / "parts").is_dir()


def _part(sweep: RunDirectory, line: int) -> tuple[RunDirectory, int]:
    """(the part, the number within it) of the member on a line of results.csv. Raises ConfigError."""
    rows = {row["line"]: row for record in sweep.records("results.jsonl") for row in record["rows"]}
    if line not in rows:
        raise ConfigError(
            f"member {line}: {sweep.path / 'results.csv'} has {len(rows)} lines, counted from 0; choose one"
        )
    row = rows[line]
    if row["state"] == "diverged":
        raise ConfigError(f"member {line} diverged at step {row['step']}; choose another line of results.csv")
    return RunDirectory.find(sweep.path / "parts" / row["part"]), row["member"]
