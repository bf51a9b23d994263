"""Our estimators and other packages' on the tasks of `estimators.tasks`: error, coverage, time and memory.

    python -m benchmarks.estimation                                     everything; hours
    python -m benchmarks.estimation --suites shift peers --seeds 3      some of it
    python -m benchmarks.estimation --tasks 'chasm*' --methods auto     shell patterns
    python -m benchmarks.estimation --report-only                       tables and picture from the ledgers

Every measured run is appended to `results/<suite>.jsonl` at once and never measured again, so that a run may be
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
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cache, partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import jax
import numpy as np
import tyro

from benchmarks import peers, report
from benchmarks import staircase as climb
from benchmarks.ledger import Ledger, Run
from estimators.density_ratio.kraskov import kraskov
from estimators.exact_values.truth import Truth
from estimators.tasks.divergence_tasks import BENCHMARKED, DIVERGENCE_TASKS
from estimators.tasks.information_tasks import GROUPS, INFORMATION_TASKS
from estimators.tasks.kind_tasks import HELD_TO, KIND_TASKS
from estimators.tasks.random_pairs import random_pair
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
SMALL_ROWS, SMALL_DIMS = (10, 20, 50, 100, 200, 500), (2, 4, 8, 16, 32)
"""Pairs, and columns of x and z together, of the setting for small samples of Gritsai et al. 2025 (MIST)."""
PERMUTATIONS, STAIRCASE = "permutation_test", "staircase"
HOMES = ("estimators", "estimators.estimation", "estimators.information")  # of a name, first come first served
ABSENT = "*"  # before the name of a part that is not there, in place of a task

SuiteName = Literal[
    "shift",
    "divergences",
    "coverage",
    "kinds",
    "small",
    "mutual-information",
    "products",
    "convergence",
    "bmi2",
    "chasm",
    "scale",
    "staircase",
    "peers",
]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Benchmark the estimators.

    Attributes:
        suites: what to run.
        methods: shell patterns of methods; by default each suite's own.
        tasks: shell patterns that narrow each suite's tasks.
        seeds: repetitions; by default each suite's own.
        first_seed: the seed of the first repetition; one that no run has used before gives fresh draws.
        n: samples a side; by default each suite's own.
        split: the half of the divergence tasks.
        report_only: measure nothing, report what the ledgers hold.
        results: the folder of ledgers and reports.
    """

    suites: tuple[SuiteName, ...] = get_args(SuiteName)
    methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    seeds: int | None = None
    first_seed: int = 0
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


# --- which runs a suite has -----------------------------------------------------------------------------------------
def _grid(
    suite: str, settings: Settings, repeats: Mapping[str, int], tasks: Iterable[str], n: int, available: Iterable[str]
) -> list[Run]:
    """Seeds × tasks × methods, seeds outermost; `repeats` holds the suite's own methods and how often each runs."""
    if settings.methods:
        most = max(repeats.values(), default=1)
        repeats = dict.fromkeys(_matching(available, settings.methods), most)
    if settings.seeds is not None:
        repeats = {m: settings.seeds for m in repeats}
    chosen, size = _matching(tasks, settings.tasks), settings.n or n
    most, first = max(repeats.values(), default=0), settings.first_seed
    return [Run(suite, m, t, first + i, size) for i in range(most) for t in chosen for m in repeats if i < repeats[m]]


def _matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Those of the names that match one of the shell patterns; all, if there is none."""
    return [name for name in names if not patterns or any(fnmatch(name, pattern) for pattern in patterns)]


def ours() -> tuple[str, ...]:
    """Every name in `estimators.METHODS`."""
    return tuple(part("METHODS"))


def _of_split(settings: Settings) -> list[str]:
    names = [name for name, task in DIVERGENCE_TASKS.items() if settings.split in (task.split, "all")]
    return _matching(names, settings.tasks)


def shift_runs(settings: Settings) -> list[Run]:
    repeats = {method: 5 for method in ours()} | {"auto": 20}
    return _grid("shift", settings, repeats, SHIFTS, 5000, ours())


def divergence_runs(settings: Settings) -> list[Run]:
    return _grid("divergences", settings, {"auto": 3}, _of_split(settings), 5000, ours())


def coverage_runs(settings: Settings) -> list[Run]:
    def fair(name):
        task = DIVERGENCE_TASKS[name]
        return task.dim <= COVERED_DIM and task.truth("kl").value <= COVERED_KL

    names = [name for name in _of_split(settings) if fair(name)]
    equal = [name for name in names if DIVERGENCE_TASKS[name].truth("kl").value == 0.0]
    runs = _grid("coverage", settings, {"auto": 100}, names, 5000, ours())
    return runs + _if_there(
        PERMUTATIONS, _grid("coverage", settings, {PERMUTATIONS: 100}, equal, 1000, (PERMUTATIONS,))
    )


def kind_runs(settings: Settings) -> list[Run]:
    return _grid("kinds", settings, {"auto": 100}, KIND_TASKS, 2000, ours())


def small_runs(settings: Settings) -> list[Run]:
    """All laws of one shape after each other, so that each shape compiles once."""
    tasks = [f"d{dim}" for dim in SMALL_DIMS]
    return [
        run
        for task in _matching(tasks, settings.tasks)
        for n in ((settings.n,) if settings.n else SMALL_ROWS)
        for run in _grid("small", replace(settings, tasks=()), {"auto": 35}, [task], n, part("INFORMATION"))
    ]


def information_runs(settings: Settings, group: str = "mutual-information", n: int = 5000, seeds: int = 3) -> list[Run]:
    """Of a group of `INFORMATION_TASKS`."""
    return _if_there("mutual_information", _grid(group, settings, {"auto": seeds}, GROUPS[group], n, ours()))


def chasm_runs(settings: Settings) -> list[Run]:
    tasks = [name for name, task in DIVERGENCE_TASKS.items() if name.startswith("chasm") and task.split == "reporting"]
    return _grid("chasm", settings, {"auto": 3}, tasks, 10_000, ours())


def scale_runs(settings: Settings) -> list[Run]:
    return [
        run
        for method, (n, dim) in SCALES.items()
        for run in _grid("scale", settings, {method: 1}, [f"shift_d{dim}"], n, (method,))
    ]


def staircase_runs(settings: Settings) -> list[Run]:
    return _grid("staircase", settings, {STAIRCASE: 3}, [STAIRCASE], 64, (STAIRCASE,))


def peer_runs(settings: Settings) -> list[Run]:
    own = {method: 3 for method in ours()}
    kl, information = ({m: 3 for m in peers.methods(what)} for what in ("kl", "mutual-information"))
    runs = _grid("peers", settings, own | kl, SHARED_KL, 5000, own | kl)
    own = {"auto": 3} if _there("mutual_information") else {}
    return runs + _grid("peers", settings, own | information, SHARED_INFORMATION, 5000, own | information)


def _there(name: str) -> bool:
    try:
        part(name)
    except Missing:
        return False
    return True


def _if_there(name: str, runs: list[Run]) -> list[Run]:
    """The runs, or one that records that the part they need is not there."""
    if _there(name) or not runs:
        return runs
    return [runs[0]._replace(task=ABSENT + name, seed=0, n=0)]


# --- how a run is measured ------------------------------------------------------------------------------------------
_compiled: set[Any] = set()


def _timed(call: Callable[[], Any], *signature: Any) -> tuple[Any, dict[str, Any]]:
    """What the call returns, its seconds, and whether it is the first of its signature, which includes compiling."""
    begun = time.perf_counter()
    found = call()
    seconds, first = time.perf_counter() - begun, signature not in _compiled
    _compiled.add(signature)
    return found, {"seconds": seconds, "first": first}


def of_kind(run: Run) -> dict[str, Any]:
    """Our estimates on a kind of rows, which the task's options tell of, beside their truth."""
    estimate, task = part("estimate"), KIND_TASKS[run.task]
    x, y = task.sample(run.seed, run.n)
    options = task.options(run.n)
    found, timing = _timed(
        lambda: estimate(x, y, list(HELD_TO), method=run.method, seed=run.seed, **options),
        run.method,
        x.shape,
        *options,
    )
    estimates = {name: _facts(e, task.truth(name)) for name, e in zip(HELD_TO, found, strict=True)}
    return {**timing, "chosen": found[0].method, "dim": x.shape[1], "estimates": estimates}


def _facts(estimate: Any, truth: Truth) -> dict[str, Any]:
    """What a row keeps of an estimate: its figures and its verdict, and the truth beside them."""
    names = ("value", "low", "high", "standard_error", "trust")
    figures = {name: getattr(estimate, name) for name in names}
    return {**figures, "truth": truth.value, "truth_error": truth.standard_error}


def divergences(run: Run, names: tuple[str, ...]) -> dict[str, Any]:
    """Our estimates of the named divergences beside their truth."""
    estimate, task = part("estimate"), DIVERGENCE_TASKS[run.task]
    x, y = task.sample(run.seed, run.n)
    found, timing = _timed(
        lambda: estimate(x, y, list(names), method=run.method, seed=run.seed), run.method, x.shape, names
    )
    truths = [task.truth(name) for name in names]
    estimates = {k: _facts(e, t) for k, e, t in zip(names, found, truths, strict=True)}
    return {**timing, "chosen": found[0].method, "dim": task.dim, "estimates": estimates}


def information(run: Run) -> dict[str, Any]:
    """Our estimate of a mutual information beside its truth."""
    task = INFORMATION_TASKS[run.task]
    return _of_pairs(run, *task.sample(run.seed, run.n), task.truth)


def small(run: Run) -> dict[str, Any]:
    """Our estimate of a mutual information, and the one by nearest neighbours, on few pairs of a random law."""
    task = random_pair(int(run.task.removeprefix("d")), run.seed)
    x, z = task.sample(run.seed, run.n)
    if (run.method, x.shape, z.shape) not in _compiled:
        jax.clear_caches()  # programs of thirty shapes would hold gigabytes
    begun = time.perf_counter()
    neighbours, _ = kraskov(x, z)
    facts = {"law": task.name, "ksg": neighbours, "ksg_seconds": time.perf_counter() - begun}
    return facts | _of_pairs(run, x, z, task.truth)


def _of_pairs(run: Run, x: np.ndarray, z: np.ndarray, truth: Truth) -> dict[str, Any]:
    mutual_information = part("mutual_information")
    found, timing = _timed(
        lambda: mutual_information(x, z, method=run.method, seed=run.seed), run.method, x.shape, z.shape
    )
    estimates = {"mutual_information": _facts(found, truth)}
    return {**timing, "chosen": found.method, "dim": x.shape[1] + z.shape[1], "estimates": estimates}


def coverage(run: Run) -> dict[str, Any]:
    """All divergences with their intervals, or the p-value of the permutation test where P = Q."""
    if run.method != PERMUTATIONS:
        return divergences(run, BENCHMARKED)
    test = part(PERMUTATIONS)
    x, y = DIVERGENCE_TASKS[run.task].sample(run.seed, run.n)
    found, timing = _timed(lambda: test(x, y, seed=run.seed), PERMUTATIONS, x.shape)
    return {**timing, "p_value": float(found.p_value)}


def scale(run: Run) -> dict[str, Any]:
    """Seconds and peak memory of one estimate in a process of its own."""
    dim = run.task.removeprefix("shift_d")
    command = [sys.executable, "-m", "benchmarks.scale", run.method, str(run.n), dim, str(run.seed)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "dim": int(dim)}


def staircase(run: Run) -> dict[str, Any]:
    """The root mean square error of each level, for one seed."""
    found, timing = _timed(lambda: climb.staircase(run.seed), STAIRCASE)
    return {**timing, "steps": found}


def peer(run: Run) -> dict[str, Any]:
    """Any method, ours or a peer's, on a task that all share."""
    is_ours, is_kl = run.method in ours(), run.task in DIVERGENCE_TASKS
    if is_ours:
        return divergences(run, ("kl",)) if is_kl else information(run)
    if is_kl:
        task = DIVERGENCE_TASKS[run.task]
        samples, name, truth = dict(zip("xy", task.sample(run.seed, run.n))), "kl", task.truth("kl").value
    else:
        pairs = INFORMATION_TASKS[run.task]
        samples = dict(zip("xz", pairs.sample(run.seed, run.n)))
        name, truth = "mutual_information", pairs.mutual_information
    found = peers.measure(run.method, samples, run.seed)
    return {"seconds": found["seconds"], "first": False, "estimates": {name: {"value": found["value"], "truth": truth}}}


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A named part of the benchmark: its runs, and how one is measured."""

    runs: Callable[[Settings], list[Run]]
    measure: Callable[[Run], dict[str, Any]]


SUITES: Mapping[str, Suite] = {
    "shift": Suite(runs=shift_runs, measure=lambda run: divergences(run, ("kl", "js"))),
    "divergences": Suite(runs=divergence_runs, measure=lambda run: divergences(run, BENCHMARKED)),
    "coverage": Suite(runs=coverage_runs, measure=coverage),
    "kinds": Suite(runs=kind_runs, measure=of_kind),
    "small": Suite(runs=small_runs, measure=small),
    "mutual-information": Suite(runs=information_runs, measure=information),
    "products": Suite(runs=partial(information_runs, group="products", n=10_000), measure=information),
    "convergence": Suite(runs=partial(information_runs, group="convergence", n=10_000), measure=information),
    "bmi2": Suite(runs=partial(information_runs, group="bmi2", n=10_000, seeds=1), measure=information),
    "chasm": Suite(runs=chasm_runs, measure=lambda run: divergences(run, ("kl",))),
    "scale": Suite(runs=scale_runs, measure=scale),
    "staircase": Suite(runs=staircase_runs, measure=staircase),
    "peers": Suite(runs=peer_runs, measure=peer),
}


def measure(run: Run) -> dict[str, Any]:
    """The facts of a run's row, by its suite. Raises Missing for a run that stands for an absent part."""
    if run.task.startswith(ABSENT):
        raise Missing(f"estimators.{run.task.removeprefix(ABSENT)} is not there")
    return SUITES[run.suite].measure(run)


FAILURES = (ValueError, ArithmeticError, RuntimeError, MemoryError)  # of an estimate; RuntimeError holds jax's own


# --- the run ---------------------------------------------------------------------------------------------------------
def fill(ledger: Ledger, runs: list[Run], measure: Callable[[Run], dict[str, Any]], *, quiet: bool = False) -> int:
    """How many of the runs were measured now; those in the ledger are passed over, failures recorded."""
    missing = ledger.missing(runs)
    with Reporter(len(missing), unit="run", quiet=quiet) as reporter:
        reporter.say(f"{ledger.path.stem}: {len(runs) - len(missing)} of {len(runs)} runs done before")
        for i, run in enumerate(missing, start=1):
            try:
                facts = measure(run)
            except FAILURES as failure:
                facts = {"reason": f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"}
                reporter.say(f"  {run.method} on {run.task}, seed {run.seed}: {facts['reason']}")
            stamp = {"machine": machine(), "date": datetime.date.today().isoformat()}
            ledger.append(run, {**facts, **stamp})
            reporter.advance(i, f"{run.method} on {run.task}, seed {run.seed}")
    return len(missing)


@cache
def machine() -> str:
    """The processor, its cores and the software that counts, in one line."""
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
    planned = {name: SUITES[name].runs(settings) for name in settings.suites} if not settings.report_only else {}
    if not settings.report_only and not any(planned.values()):
        print(f"no run matches --methods {settings.methods} --tasks {settings.tasks}", file=sys.stderr)
        return 2
    for name, runs in planned.items():
        fill(Ledger(settings.results, name), runs, measure)
    for path in report.write(settings.results, list(SUITES)):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings, description=__doc__)))
