"""Training from Python: `fgan.train(config, data=rows)`, rows an array, a data frame or a file."""

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from estimators.divergences.generator import FDivergence
from fgan.config.schema import Config
from fgan.config.toml import from_toml
from fgan.data.own_samples import of_rows
from fgan.run import loop
from fgan.run.directory import RunDirectory
from fgan.run.members import Restored, restore

IN_MEMORY = "data in memory"
"""What stands for the path of a file in the config of a run on rows that were never in one."""


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        run: its directory, from which `fgan sample` draws too.
        scores: of its last evaluation, a dict a seed.
        warnings: what is not to be trusted of it, and what failed without ending it.
        columns: those of the data frame that it was trained on; samples are data frames then.
    """

    run: Path
    scores: list[dict[str, Any]]
    columns: Any = None
    warnings: tuple[str, ...] = ()

    def restored(self, member: int = 0) -> Restored:
        """The model of a seed with its state, in the coordinates that networks see."""
        return restore(self.run, member)

    def sample(self, n: int, *, seed: int = 0, member: int = 0) -> Any:
        """n generated rows in the data's own units: a data frame if the model was trained on one, else an array [n, d];
        of one with categories or dates the columns are objects."""
        restored = self.restored(member)
        rows, form = restored.sample(n, seed=seed), restored.data.form
        if self.columns is not None:
            made = form.frame(rows)
            made.columns = self.columns if len(self.columns) == made.shape[1] else made.columns  # none was left out
            return made
        return rows if form.plain else np.stack([c.astype(object) for c in form.typed(rows)], axis=1)


def train(
    config: Config,
    data: Any = None,
    *,
    divergence: str | FDivergence | None = None,
    run: str | Path | None = None,
    overwrite: bool = False,
    quiet: bool = True,
) -> Trained:
    """Train a model, as `fgan train` does.

    Args:
        config: what is trained; its `data` counts where no other data are given.
        data: rows [n, d] as an array or a data frame, or the path of a file.
        divergence: in place of that of the config; one from `estimators.from_generator` too.
        run: the directory of the run, which is resumed if it exists; a new temporary one if not given.

    Raises:
        ConfigError, DataError, and what else `fgan.run.loop.train` raises.
    """
    if divergence is not None:
        config = replace(config, divergence=divergence)  # type: ignore[arg-type]
    directory = Path(tempfile.mkdtemp(prefix="fgan-")) / "run" if run is None else Path(run)
    if data is None or isinstance(data, str | os.PathLike):
        if data is not None:
            config = replace(config, data=replace(config.data, name="samples", path=os.fspath(data)))
        outcome = loop.train(config, directory, overwrite=overwrite, quiet=quiet)
        return Trained(outcome.run, outcome.scores, warnings=outcome.warnings)
    config = replace(config, data=replace(config.data, name="samples", path=IN_MEMORY))
    rows = of_rows(data, config.data)
    outcome = loop.train(config, directory, overwrite=overwrite, quiet=quiet, data=rows)
    columns = data.columns if hasattr(data, "iloc") else None
    return Trained(outcome.run, outcome.scores, columns, outcome.warnings)


def read_metrics(run: str | Path) -> Any:
    """The metrics of a run as a pandas frame: a row for each recorded step and seed, a column for each metric or score.

    Metrics are means over the steps since the row before. Scores stand in the rows of evaluations, and are NaN in
    others; those within others are named by both, as in ``held_out_digits.precision``.

    Raises:
        RunNotFound: there is no run. CheckpointError: its files are damaged. ImportError: pandas is missing.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("read_metrics makes a pandas frame; pip install pandas") from error
    from fgan.run.report import flat  # matplotlib takes a second to import

    found = RunDirectory.find(run)
    first = from_toml(found.config_toml, str(found.path / "config.toml")).seed
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for record in found.records():
        for name, values in record.items():
            for k, value in enumerate(values if isinstance(values, list) else ()):
                row = rows.setdefault((record["step"], k), {"step": record["step"], "seed": first + k})
                row |= dict(flat(value)) if name == "scores" else {name: value}
    return pandas.DataFrame(list(rows.values()))
