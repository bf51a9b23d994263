"""Published experiments, run again with exact values beside them.

Layer 8: a row of `EXPERIMENTS` is the name a user types and the function that runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from fgan.experiments import capture, dirac, high_dimensional, modes
from fgan.run import pictures as plots
from fgan.run.progress import Reporter


def _modes(directory: Path, quiet: bool) -> list[Path]:
    with Reporter(len(modes.NAMES) + 2 + len(modes.PLANE_NAMES), quiet=quiet, unit="part") as report:
        result = modes.reproduce(directory, progress=report.advance)
    print(modes.table(result))
    print(f"\n{result['seconds']:.0f} s")
    return [plots.modes(directory / "modes.json"), directory / "modes.json"]


def _dirac(directory: Path, quiet: bool) -> list[Path]:
    with Reporter(len(dirac.smooth()), quiet=quiet, unit="divergence") as report:
        result = dirac.reproduce(directory, progress=report.advance)
    print(dirac.table(result))
    print(f"\n{result['seconds']:.0f} s")
    return [plots.dirac(directory / "dirac.json"), directory / "dirac.json"]


def _capture(name: str, directory: Path, quiet: bool) -> list[Path]:
    task = capture.TASKS[name]
    steps = sum(cell.config.steps for cell in capture.cells(task, directory))
    with Reporter(steps, quiet=quiet) as report:
        result = capture.reproduce(directory, task, progress=report.advance)
    print(capture.table(result))
    data = directory / f"{name}.json"
    return [plots.capture(data), plots.film(data), data]


def _high_dimensional(directory: Path, quiet: bool) -> list[Path]:
    steps = sum(cell.config.steps for cell in high_dimensional.cells(directory))
    with Reporter(steps, quiet=quiet) as report:
        result = high_dimensional.reproduce(directory, progress=report.advance)
    print(high_dimensional.table(result))
    data = directory / f"{high_dimensional.NAME}.json"
    return [plots.high_dimensional(data), plots.film(data), data]


EXPERIMENTS = {
    "modes": "a Gaussian fitted to 1-D mixtures under eleven divergences, beside the exact optimum",
    "ring": "8 narrow Gaussians in a ring captured under eleven divergences, beside published tables",
    "grid": "25 narrow Gaussians on a grid, the same",
    "high_dimensional": "10 Gaussians of dimension 700 in subspaces of R^1200 captured under eleven divergences",
    "dirac": "the smallest GAN near its goal: eigenvalues of every divergence and penalty, beside their formulas",
}
_RUNS: Mapping[str, Callable[[Path, bool], list[Path]]] = MappingProxyType(
    {"modes": _modes}
    | {name: partial(_capture, name) for name in capture.TASKS}
    | {high_dimensional.NAME: _high_dimensional, "dirac": _dirac}
)


def reproduce(name: str, directory: Path, quiet: bool = False) -> list[Path]:
    """Run the experiment `name`, writing in `directory`; prints its table, returns its files, pictures first."""
    return _RUNS[name](directory, quiet)
