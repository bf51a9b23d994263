"""`nan_report.json`: why a run has diverged, and how to see it happen again.

A step that is not finite is left out, so that the state a member ends with is the one before its first bad step. That
step is computed once more, in parts.
"""

import shlex
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from estimators.critics.kernel import drawn_in
from estimators.divergences.table import OWN
from fgan.config.schema import Config
from fgan.data.dataset import Dataset
from fgan.models.model import Explains, build, in_two
from fgan.run.program import batches


def explained(config: Config, data: Dataset, state: Any, step: int) -> dict[str, Any]:
    """The `term` that was first not finite in a step, and the range of finite values of each, of one member.

    `config` trains it alone; `state` is its own at that step. {} for a model that does not show its steps.
    """
    model = build(config, data)
    if not isinstance(model, Explains):
        return {}
    draw = batches(model.batches, config, data, data.kept if data.classes else data.rows)
    noise, batch = drawn_in(jax.random.key(config.seed), step, draw, in_two(model)[0])
    names: list[str] = []  # in order, which a compiled function does not keep of a dict

    def values(*arguments):
        terms = model.explain(*arguments)
        names.extend(terms)
        return tuple(terms.values())

    found = jax.jit(values)(noise, state._replace(step=jnp.asarray(step, jnp.int32)), batch)
    ranges = {name: _range(value) for name, value in zip(names, found, strict=True)}
    term = next((name for name, of in ranges.items() if of["not_finite"]), None)
    return {"term": term, "terms": ranges}


def replay(config: Config, directory: Path, *, part: bool = False) -> str:
    """The command that trains the run anew, to the same step; in words where no command can, as for a sweep's part."""
    if part:
        return "run the same fgan sweep command with another --run"
    files = {f"data.{name}": getattr(config.data, name) for name in ("path", "held_out", "columns")}
    found = {name: Path(file).expanduser() for name, file in files.items() if file}
    if config.divergence in OWN or config.critic.divergence in OWN or not all(p.exists() for p in found.values()):
        return "train again from Python, with the same config, data and divergence, into another directory"
    words = ["fgan", "train", str(directory / "config.toml"), "--run", f"{directory}-replay"]
    words += [word for name, path in found.items() for word in (f"--{name}", str(path.resolve()))]
    return shlex.join(words)


def _range(values: Any) -> dict[str, Any]:
    """How many of the numbers in a tree are not finite, and the smallest and largest of the others."""
    flat = [np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(values)]
    numbers = np.concatenate(flat) if flat else np.empty(0)
    finite = numbers[np.isfinite(numbers)]
    ends = {"min": float(finite.min()), "max": float(finite.max())} if finite.size else {"min": None, "max": None}
    return {"not_finite": int(numbers.size - finite.size)} | ends
