"""Our estimators and other packages' on the tasks of `estimators.tasks`: error, coverage, time and memory.

    python -m benchmarks.estimation                                     everything; hours
    python -m benchmarks.estimation --suites shift peers --seeds 3      some of it
    python -m benchmarks.estimation --tasks 'chasm*' --methods auto     shell patterns
    python -m benchmarks.estimation --report-only                       tables and picture from the ledgers

Every measured cell is appended to `results/<suite>.jsonl` at once and never measured again, so that a run may be
stopped at any time and started again, or split over processes by --tasks. Failures are recorded with their reason and
tried again next time. Each run ends by writing `estimation.json`, `estimation.md` and `estimation.png`.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks import peers, report
from benchmarks import staircase as climb
from benchmarks.cells import Cell, Ledger
from estimators.tasks.divergence_tasks import BENCHMARKED, DIVERGENCE_TASKS
from estimators.tasks.mutual_information_tasks import MUTUAL_INFORMATION_TASKS
from fgan.run.progress import Reporter

RESULTS = Path(__file__).parent / "results"
SHIFTS = ("shift_d5", "shift_d20")
SHARED_KL = (*SHIFTS, "covariance_d20", "mixture_d5", "laplace_d5_shift", "student_d5_shift", "product_d5_logistic")
"""What every way of estimating KL is compared on."""
SHARED_INFORMATION = (
    "1v1-normal-0.75",
    "multinormal-dense-5-5-0.5",
    "multinormal-sparse-5-5-2-2.0",
    "multinormal-sparse-25-25-2-2.0",
    "spiral-multinormal-sparse-5-5-2-2.0",
    "student-identity-5-5-2",
)
"""What every way of estimating mutual information is compared on."""
COVERED_KL, COVERED_DIM = 3.0, 20  # nats and columns up to which intervals are held to their level
SCALES = {"auto": (1_000_000, 10), "knn": (100_000, 5)}  # method: rows a side, columns
PERMUTATIONS, STAIRCASE = "permutation_test", "staircase"
HOMES = ("estimators", "estimators.estimation")  # of a name, first come first served
ABSENT = "*"  # before the name of a part that is not there, in place of a task

SuiteName = Literal["shift", "divergences", "coverage", "mutual-information", "chasm", "scale", "staircase", "peers"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Benchmark the estimators.

    Attributes:
        suites: what to run.
        methods: shell patterns of methods; by default each suite's own.
        tasks: shell patterns that narrow each suite's tasks.
        seeds: repetitions, from seed 0; by default each suite's own.
        n: samples a side; by default each suite's own.
        split: the half of the divergence tasks.
        report_only: measure nothing, report what the ledgers hold.
        results: the folder of ledgers and reports.
    """

    suites: tuple[SuiteName, ...] = (
        "shift",
        "divergences",
        "coverage",
        "mutual-information",
        "chasm",
        "scale",
        "staircase",
        "peers",
    )
    methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    seeds: int | None = None
    n: int | None = None
    split: Literal["tuning", "reporting", "all"] = "reporting"
    report_only: bool = False
    results: Path = RESULTS


class Missing(RuntimeError):
    """A part of the library that is not there (yet)."""


def part(name: str) -> Any:
    """What the library offers under `name`, looked up when it is needed. Raises Missing."""
    for home in HOMES:
        try:
            found = getattr(import_module(home), name)
        except (ImportError, AttributeError):
            continue
        if not isinstance(found, ModuleType):
            return found
    raise Missing(f"estimators.{name} is not there")


# --- which cells a suite has -----------------------------------------------------------------------------------------
def _grid(
    suite: str, settings: Settings, repeats: Mapping[str, int], tasks: Iterable[str], n: int, available: Iterable[str]
) -> list[Cell]:
    """Seeds × tasks × methods, seeds outermost; `repeats` holds the suite's own methods and how often each runs."""
    if settings.methods:
        most = max(repeats.values(), default=1)
        repeats = dict.fromkeys(_matching(available, settings.methods), most)
    if settings.seeds is not None:
        repeats = {m: settings.seeds for m in repeats}
    chosen, size = _matching(tasks, settings.tasks), settings.n or n
    seeds = range(max(repeats.values(), default=0))
    return [Cell(suite, m, t, seed, size) for seed in seeds for t in chosen for m in repeats if seed < repeats[m]]


def _matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Those of the names that match one of the shell patterns; all, if there is none."""
    return [name for name in names if not patterns or any(fnmatch(name, pattern) for pattern in patterns)]


def ours() -> tuple[str, ...]:
    """Every name in `estimators.METHODS`."""
    return tuple(part("METHODS"))


def _of_split(settings: Settings) -> list[str]:
    names = [name for name, task in DIVERGENCE_TASKS.items() if settings.split in (task.split, "all")]
    return _matching(names, settings.tasks)


def shift_cells(settings: Settings) -> list[Cell]:
    repeats = {method: 5 for method in ours()} | {"auto": 20}
    return _grid("shift", settings, repeats, SHIFTS, 5000, ours())


def divergence_cells(settings: Settings) -> list[Cell]:
    return _grid("divergences", settings, {"auto": 3}, _of_split(settings), 5000, ours())


def coverage_cells(settings: Settings) -> list[Cell]:
    def fair(name):
        task = DIVERGENCE_TASKS[name]
        return task.dim <= COVERED_DIM and task.truth("kl").value <= COVERED_KL

    names = [name for name in _of_split(settings) if fair(name)]
    equal = [name for name in names if DIVERGENCE_TASKS[name].truth("kl").value == 0.0]
    cells = _grid("coverage", settings, {"auto": 100}, names, 5000, ours())
    return cells + _if_there(
        PERMUTATIONS, _grid("coverage", settings, {PERMUTATIONS: 100}, equal, 1000, (PERMUTATIONS,))
    )


def information_cells(settings: Settings) -> list[Cell]:
    cells = _grid("mutual-information", settings, {"auto": 3}, MUTUAL_INFORMATION_TASKS, 5000, ours())
    return _if_there("mutual_information", cells)


def chasm_cells(settings: Settings) -> list[Cell]:
    tasks = [name for name, task in DIVERGENCE_TASKS.items() if name.startswith("chasm") and task.split == "reporting"]
    return _grid("chasm", settings, {"auto": 3}, tasks, 10_000, ours())


def scale_cells(settings: Settings) -> list[Cell]:
    return [
        cell
        for method, (n, dim) in SCALES.items()
        for cell in _grid("scale", settings, {method: 1}, [f"shift_d{dim}"], n, (method,))
    ]


def staircase_cells(settings: Settings) -> list[Cell]:
    return _grid("staircase", settings, {STAIRCASE: 3}, [STAIRCASE], 64, (STAIRCASE,))


def peer_cells(settings: Settings) -> list[Cell]:
    own = {method: 3 for method in ours()}
    kl, information = ({m: 3 for m in peers.methods(what)} for what in ("kl", "mutual-information"))
    cells = _grid("peers", settings, own | kl, SHARED_KL, 5000, own | kl)
    own = {"auto": 3} if _there("mutual_information") else {}
    return cells + _grid("peers", settings, own | information, SHARED_INFORMATION, 5000, own | information)


def _there(name: str) -> bool:
    try:
        part(name)
    except Missing:
        return False
    return True


def _if_there(name: str, cells: list[Cell]) -> list[Cell]:
    """The cells, or one that records that the part they need is not there."""
    if _there(name) or not cells:
        return cells
    return [cells[0]._replace(task=ABSENT + name, seed=0, n=0)]


# --- how a cell is measured ------------------------------------------------------------------------------------------
_compiled: set[Any] = set()


def _timed(call: Callable[[], Any], *signature: Any) -> tuple[Any, dict[str, Any]]:
    """What the call returns, its seconds, and whether it is the first of its signature, which includes compiling."""
    begun = time.perf_counter()
    found = call()
    seconds, first = time.perf_counter() - begun, signature not in _compiled
    _compiled.add(signature)
    return found, {"seconds": seconds, "first": first}


def _facts(estimate: Any, truth: float, truth_error: float = 0.0) -> dict[str, float]:
    names = ("value", "low", "high", "standard_error")
    return {**{name: getattr(estimate, name) for name in names}, "truth": truth, "truth_error": truth_error}


def divergences(cell: Cell, names: tuple[str, ...]) -> dict[str, Any]:
    """Our estimates of the named divergences beside their truth."""
    estimate, task = part("estimate"), DIVERGENCE_TASKS[cell.task]
    x, y = task.sample(cell.seed, cell.n)
    found, timing = _timed(
        lambda: estimate(x, y, list(names), method=cell.method, seed=cell.seed), cell.method, x.shape, names
    )
    truths = [task.truth(name) for name in names]
    estimates = {k: _facts(e, t.value, t.standard_error) for k, e, t in zip(names, found, truths, strict=True)}
    return {**timing, "chosen": found[0].method, "dim": task.dim, "estimates": estimates}


def information(cell: Cell) -> dict[str, Any]:
    """Our estimate of a mutual information beside its truth."""
    task = MUTUAL_INFORMATION_TASKS[cell.task]
    return _pairs(cell, *task.sample(cell.seed, cell.n), task.mutual_information)


def _pairs(cell: Cell, x: np.ndarray, z: np.ndarray, truth: float) -> dict[str, Any]:
    mutual_information = part("mutual_information")
    found, timing = _timed(
        lambda: mutual_information(x, z, method=cell.method, seed=cell.seed), cell.method, x.shape, z.shape
    )
    dim = x.shape[1] + z.shape[1]
    return {**timing, "chosen": found.method, "dim": dim, "estimates": {"mutual_information": _facts(found, truth)}}


def coverage(cell: Cell) -> dict[str, Any]:
    """All divergences with their intervals, or the p-value of the permutation test where P = Q."""
    if cell.method != PERMUTATIONS:
        return divergences(cell, BENCHMARKED)
    test = part(PERMUTATIONS)
    x, y = DIVERGENCE_TASKS[cell.task].sample(cell.seed, cell.n)
    found, timing = _timed(lambda: test(x, y, seed=cell.seed), PERMUTATIONS, x.shape)
    return {**timing, "p_value": float(found.p_value)}


def scale(cell: Cell) -> dict[str, Any]:
    """Seconds and peak memory of one estimate in a process of its own."""
    dim = cell.task.removeprefix("shift_d")
    command = [sys.executable, "-m", "benchmarks.scale", cell.method, str(cell.n), dim, str(cell.seed)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "dim": int(dim)}


def staircase(cell: Cell) -> dict[str, Any]:
    """The root mean square error of each level, for one seed."""
    found, timing = _timed(lambda: climb.staircase(cell.seed), STAIRCASE)
    return {**timing, "steps": found}


def peer(cell: Cell) -> dict[str, Any]:
    """Any method, ours or a peer's, on a task that all share."""
    is_ours, is_kl = cell.method in ours(), cell.task in DIVERGENCE_TASKS
    if is_ours:
        return divergences(cell, ("kl",)) if is_kl else information(cell)
    if is_kl:
        task = DIVERGENCE_TASKS[cell.task]
        samples, name, truth = dict(zip("xy", task.sample(cell.seed, cell.n))), "kl", task.truth("kl").value
    else:
        pairs = MUTUAL_INFORMATION_TASKS[cell.task]
        samples = dict(zip("xz", pairs.sample(cell.seed, cell.n)))
        name, truth = "mutual_information", pairs.mutual_information
    found = peers.measure(cell.method, samples, cell.seed)
    return {"seconds": found["seconds"], "first": False, "estimates": {name: {"value": found["value"], "truth": truth}}}


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A named part of the benchmark: its cells, and how one is measured."""

    cells: Callable[[Settings], list[Cell]]
    measure: Callable[[Cell], dict[str, Any]]


SUITES: Mapping[str, Suite] = {
    "shift": Suite(cells=shift_cells, measure=lambda cell: divergences(cell, ("kl", "js"))),
    "divergences": Suite(cells=divergence_cells, measure=lambda cell: divergences(cell, BENCHMARKED)),
    "coverage": Suite(cells=coverage_cells, measure=coverage),
    "mutual-information": Suite(cells=information_cells, measure=information),
    "chasm": Suite(cells=chasm_cells, measure=lambda cell: divergences(cell, ("kl",))),
    "scale": Suite(cells=scale_cells, measure=scale),
    "staircase": Suite(cells=staircase_cells, measure=staircase),
    "peers": Suite(cells=peer_cells, measure=peer),
}


def measure(cell: Cell) -> dict[str, Any]:
    """The facts of a cell's row, by its suite. Raises Missing for a cell that stands for an absent part."""
    if cell.task.startswith(ABSENT):
        raise Missing(f"estimators.{cell.task.removeprefix(ABSENT)} is not there")
    return SUITES[cell.suite].measure(cell)


FAILURES = (ValueError, ArithmeticError, RuntimeError, MemoryError)  # of an estimate; RuntimeError holds jax's own


# --- the run ---------------------------------------------------------------------------------------------------------
def fill(ledger: Ledger, cells: list[Cell], measure: Callable[[Cell], dict[str, Any]], *, quiet: bool = False) -> int:
    """How many of the cells were measured now; those in the ledger are passed over, failures recorded."""
    missing = ledger.missing(cells)
    with Reporter(len(missing), unit="cell", quiet=quiet) as reporter:
        reporter.say(f"{ledger.path.stem}: {len(cells) - len(missing)} of {len(cells)} cells done before")
        for i, cell in enumerate(missing, start=1):
            try:
                facts = measure(cell)
            except FAILURES as failure:
                facts = {"reason": f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"}
                reporter.say(f"  {cell.method} on {cell.task}, seed {cell.seed}: {facts['reason']}")
            stamp = {"machine": machine(), "date": datetime.date.today().isoformat()}
            ledger.append(cell, {**facts, **stamp})
            reporter.advance(i, f"{cell.method} on {cell.task}, seed {cell.seed}")
    return len(missing)


@cache
def machine() -> str:
    """The processor, its cores and the software that counts, in one line."""
    import jax

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    software = f"Python {platform.python_version()}, jax {version('jax')}, numpy {version('numpy')}"
    device = jax.devices()[0]
    accelerator = "" if device.platform == "cpu" else f", {device.device_kind}"
    return f"{_processor()}, {cores} cores{accelerator}; {software}"


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def main(settings: Settings) -> int:
    """Measure what is missing, then write the report. The exit code."""
    planned = {name: SUITES[name].cells(settings) for name in settings.suites} if not settings.report_only else {}
    if not settings.report_only and not any(planned.values()):
        print(f"no cell matches --methods {settings.methods} --tasks {settings.tasks}", file=sys.stderr)
        return 2
    for name, cells in planned.items():
        fill(Ledger(settings.results, name), cells, measure)
    for path in report.write(settings.results, list(SUITES)):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings, description=__doc__)))
