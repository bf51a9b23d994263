"""Every mode under every divergence: f-GANs on narrow Gaussians in a ring and on a grid, one recipe for all rows.

The protocol is PacGAN's (Lin, Khetan, Fanti, Oh 2018, section 4.1): a sample is of high quality within 3σ of its
nearest mode, a mode is captured if it has one, the histogram of high-quality samples over modes is compared with the
uniform one; 2,500 samples a trial. The verdict here takes 50,000, and the width of the modes beside.

A cell is one training run (`fgan.run.loop`) in a process and a directory of its own, on a core of its own: it resumes
where it stopped, and one that diverges stops no other.

Layer 8: imports train, modes and everything below.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from estimators.distributions.examples import MIXTURES, Mixture
from fgan.config.schema import Config, Critic, Data, Game, Generator, InstanceNoise, Log, Optimizer, Penalty, to_toml
from fgan.experiments.modes import NAMES
from fgan.run.checkpoint import write_atomic
from fgan.run.directory import RunDirectory
from fgan.run.restore import restore
from fgan.run.signals import Stopped, signals
from fgan.scores.metrics import mode_scores, perfect_high_quality

SEEDS = 2
SAMPLES, TRIAL, TRIALS = 50_000, 2500, 10
POLL = 1.0  # seconds between looks at running cells


@dataclass(frozen=True, kw_only=True)
class Task:
    """A mixture to capture, with what is known of it.

    Attributes:
        name: of the target, and of the experiment.
        steps: of training.
        high_quality, kl: the aims, a share and nats.
        published: rows of a published table: name → (modes, high quality in %, mode KL), None where not reported.
        source: of that table.
    """

    name: str
    steps: int
    high_quality: float
    kl: float
    published: dict[str, tuple[float, float, float | None]]
    source: str = "Lin, Khetan, Fanti, Oh 2018 (PacGAN), 400,000 steps, 2,500 samples"

    @property
    def target(self) -> Mixture:
        """The distribution to learn."""
        return MIXTURES[self.name]


TASKS = {
    "ring": Task(
        name="ring",
        steps=12_000,
        high_quality=0.96,
        kl=0.005,
        published={
            "GAN": (6.3, 98.2, 0.45),
            "ALI": (6.6, 97.6, 0.36),
            "VEEGAN": (8.0, 52.9, None),
            "PacGAN2": (7.9, 95.6, 0.07),
        },
    ),
    "grid": Task(
        name="grid",
        steps=24_000,
        high_quality=0.95,
        kl=0.01,
        published={
            "GAN": (17.3, 94.8, 0.70),
            "ALI": (24.1, 95.7, 0.14),
            "VEEGAN": (24.6, 40.0, None),
            "PacGAN4": (24.8, 93.6, 0.04),
        },
    ),
}
WIDTH = (0.9, 1.1)


VARIANTS = {
    "recipe": "critic by the named divergence's own bound less a fading Roth penalty, generator by covering weights on "
    "its ratio, spread noise",
    "own": "the same with the divergence's own generator gradient (minimax) instead of covering weights",
    "plain": "the plain alternating f-GAN: own bound, alternative objective, no penalty, no noise, no weights",
}
"""How a cell is trained; every variant is the same for all divergences, the name excepted."""

COMPARED = {"plain": ("kl", "reverse_kl", "js"), "own": ("kl", "reverse_kl", "js", "neyman")}
"""The rows that the table also shows without the cure, or without a part of it."""


def recipe(task: Task, name: str, *, variant: str = "recipe", steps: int | None = None, seeds: int = SEEDS) -> Config:
    """The training run of a cell.

    total_variation, whose own optimal critic is a step without gradient, is trained through the ratio of a js critic
    smoothed over `game.smoothing` nats; every other row by its own bound.

    Steep units leave little mass between modes and noise of its own gives the generator their width. Its learning rate
    dies away exponentially: under Adam it trembles by its rate, whatever the batch, and the critic, which sees modes
    and trembling together, would make them too narrow and never quite balanced. The Roth penalty, annealed to a
    hundredth, flattens the critic where the samples are and settles that balance.

    Args:
        variant: a row of VARIANTS.
    """
    objective: Any = {"recipe": "kl_gradient", "own": "minimax", "plain": "alternative"}[variant]
    cured = variant != "plain"
    return Config(
        divergence=name,
        seeds=seeds,
        steps=steps or task.steps,
        batch=256,
        data=Data(name=task.name),  # type: ignore[arg-type]
        generator=Generator(features=(128, 128, 128), nonlinearity="tanh", gain=5.0, linear=2, average=0.99),
        critic=Critic(
            features=(128, 128), nonlinearity="silu", gain=1.4, frequencies=7, activation="log_ratio", output_bound=2.0
        ),
        game=Game(objective=objective, normalise=cured, smoothing=2.0),
        penalty=Penalty(names=("roth",), weight=0.1, schedule="annealed") if cured else Penalty(),
        instance_noise=InstanceNoise(start=0.5, overlap=(0.02, 0.6), fall=0.3) if cured else InstanceNoise(),
        generator_optimizer=Optimizer(learning_rate=1e-3, b1=0.0, b2=0.99, schedule="exponential", final=0.0015),
        critic_optimizer=Optimizer(learning_rate=1e-3, b1=0.0, b2=0.99, schedule="cosine", final=0.1),
        log=Log(every=500, evaluate=2500, checkpoint=2500),
    )


# --- cells -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One training run of the table, in `directory`."""

    config: Config
    variant: str
    directory: Path

    @property
    def finished(self) -> bool:
        """Whether it need not run again: done, or given up as diverged."""
        return self.status.get("state") == "finished" or self.diverged

    @property
    def diverged(self) -> bool:
        """Whether every seed went non-finite and stayed so."""
        return (self.directory / "nan_report.json").exists()

    @property
    def status(self) -> dict[str, Any]:
        """What its status.json says; {} before it has one."""
        try:
            return json.loads((self.directory / "status.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def beside(self, ending: str) -> Path:
        """The file of that ending next to the directory, as in `cells/recipe-alpha-0.5-seed0.log`."""
        return self.directory.parent / (self.directory.name + ending)

    @property
    def step(self) -> int:
        """How far it is."""
        return self.status.get("step", 0)


def cells(task: Task, directory: Path, names: Sequence[str] = NAMES, **options: Any) -> list[Cell]:
    """The cells of a table: every divergence by the recipe, then the compared ones without the cure."""
    wanted = [(name, "recipe") for name in names]
    wanted += [(name, variant) for variant, compared in COMPARED.items() for name in names if name in compared]
    made = []
    for name, variant in wanted:
        config = recipe(task, name, variant=variant, **options)
        label = Path(RunDirectory.default_name(variant, name, config.seed)).name
        made.append(Cell(config, variant, directory / "cells" / label))
    return made


def run(
    todo: Sequence[Cell],
    *,
    progress: Callable[[int, str], None] = lambda done, text: None,
    finished: Callable[[Cell], None] = lambda cell: None,
) -> None:
    """Train the cells that are not finished, each in a process of its own, as many at once as there are cores.

    `finished` is called with every cell that ends, or had ended before.

    Asked to stop by SIGTERM or SIGINT, it stops them with their state saved; the next call goes on from there.

    Raises:
        Stopped (128 + signal), CellFailed (7).
    """
    waiting = [cell for cell in todo if not cell.finished]
    for cell in todo:
        if cell not in waiting:
            finished(cell)
    with signals() as stop, _workers() as (started, cores):
        while waiting or started:
            for core in cores:
                if waiting and core not in started:
                    cell = waiting.pop(0)
                    started[core] = (cell, _start(cell, core))
            time.sleep(POLL)
            for core, (cell, process) in list(started.items()):
                code = process.poll()
                if code is not None:
                    del started[core]
                    _settle(cell, code)
                    finished(cell)
            running = ", ".join(cell.config.divergence for cell, _ in started.values())
            done = sum(cell.step for cell in todo)
            progress(done, running)
            if stop:
                raise Stopped(stop[0], done)


def _start(cell: Cell, core: int) -> subprocess.Popen:
    """`fgan train` of the cell, on one core where the system can hold it there."""
    cell.directory.parent.mkdir(parents=True, exist_ok=True)
    config = cell.beside(".toml")
    config.write_text(to_toml(cell.config), encoding="utf-8")
    log = cell.beside(".log").open("ab")
    command = [sys.executable, "-m", "fgan", "train", str(config), "--run", str(cell.directory), "--quiet"]
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} if jax.default_backend() == "cpu" else {}
    with log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | alone)
    if alone and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {core})
    return process


DIVERGED = 4  # the exit code of a run that went non-finite: a result, not an error


def _settle(cell: Cell, code: int) -> None:
    if code not in (0, DIVERGED):
        said = cell.beside(".log").read_text(errors="replace").strip().splitlines()
        raise CellFailed(
            f"{cell.config.divergence}: training stopped with exit code {code}: {said[-1] if said else 'no message'}"
        )


class CellFailed(RuntimeError):
    """A training run ended for a reason that is no result, such as a full disk."""

    exit_code = 7


@contextmanager
def _workers() -> Iterator[tuple[dict[int, tuple[Cell, subprocess.Popen]], list[int]]]:
    """(running cells by core, the cores to use); whatever still runs when we leave is asked to save and stop."""
    started: dict[int, tuple[Cell, subprocess.Popen]] = {}
    one_by_one = jax.default_backend() != "cpu" or not hasattr(os, "sched_getaffinity")
    try:
        yield started, [0] if one_by_one else sorted(os.sched_getaffinity(0))
    finally:
        for _, process in started.values():
            process.terminate()
        for _, process in started.values():
            process.wait()


# --- what they came to -----------------------------------------------------------------------------------------------


Sampler = Callable[[int, int], np.ndarray]
"""(n, seed) → samples [n, d] in the data's own units."""


def measure(cell: Cell, task: Task) -> dict[str, Any]:
    """The row of a finished cell: each seed's verdict on 50,000 samples and its trials on 2,500."""
    return measured(cell, partial(judge, task), SCORES)


def measured(cell: Cell, judged: Callable[[Sampler], dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """The row of a finished cell: its facts, what `judged` says of each seed, and the `summary` of `names`."""
    lines = [json.loads(line) for line in (cell.directory / "metrics.jsonl").read_text().splitlines()]
    skipped = sum(np.sum(r["skipped"]) * cell.config.log.every for r in lines if "skipped" in r)
    clock = [json.loads(line) for line in (cell.directory / "timings.jsonl").read_text().splitlines()]
    facts = {
        "divergence": cell.config.divergence,
        "variant": cell.variant,
        "directory": f"cells/{cell.directory.name}",
        "steps": cell.step,
        "diverged": cell.diverged,
        "skipped_steps": float(skipped),
        "seconds": sum(r["seconds"] for r in clock if "seconds" in r),
    }
    if cell.diverged:
        return facts | {"seeds": []}
    seeds = []
    for member in range(cell.config.seeds):
        restored = restore(cell.directory, member)
        scores = judged(lambda n, seed, restored=restored: restored.sample(n, seed=seed))
        seeds.append({"seed": cell.config.seed + member} | scores)
    return facts | {"seeds": seeds, **summary(seeds, names)}


def judge(task: Task, sample: Sampler) -> dict[str, Any]:
    """Scores of a sampler (n, seed) → [n, 2]: on 50,000 samples, and the mean of ten trials of 2,500."""
    target = task.target
    centres, sigma = np.array(target.means), target.sigmas[0]
    verdict = mode_scores(sample(SAMPLES, 0), centres, sigma)
    trials = [mode_scores(sample(TRIAL, 1 + i), centres, sigma) for i in range(TRIALS)]
    widths = verdict.width_ratio[np.isfinite(verdict.width_ratio)]
    return {
        "modes": verdict.captured,
        "high_quality": verdict.high_quality,
        "kl": verdict.kl if math.isfinite(verdict.kl) else None,
        "width_ratio": float(widths.mean()) if widths.size else None,
        "width_ratios": [float(widths.min()), float(widths.max())] if widths.size else None,
        "trial_modes": float(np.mean([t.captured for t in trials])),
        "trial_high_quality": float(np.mean([t.high_quality for t in trials])),
        "trial_kl": float(np.mean([t.kl for t in trials])) if verdict.captured else None,
    }


SCORES = ("modes", "high_quality", "kl", "width_ratio", "trial_modes", "trial_high_quality", "trial_kl")


def summary(seeds: Sequence[dict[str, Any]], names: Sequence[str] = SCORES) -> dict[str, Any]:
    """{score: {mean, standard_error}} over seeds; the standard error of one seed is None."""
    found = {}
    for name in names:
        values = np.array([s[name] for s in seeds if s[name] is not None], float)
        error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
        found[name] = {"mean": float(values.mean()) if len(values) else None, "standard_error": error}
    return found


def misses(row: dict[str, Any], task: Task) -> list[str]:
    """The aims that some seed of the row does not reach, in words; empty if it reaches all."""
    if not row["seeds"]:
        return ["diverged"]
    low, high = WIDTH
    aims = {
        "modes": lambda s: s["modes"] == len(task.target.means),
        "high quality": lambda s: s["high_quality"] >= task.high_quality,
        "mode KL": lambda s: s["kl"] is not None and s["kl"] <= task.kl,
        "width": lambda s: s["width_ratio"] is not None and low <= s["width_ratio"] <= high,
    }
    missed = [name for name, reached in aims.items() if not all(reached(s) for s in row["seeds"])]
    return missed + (["skipped steps"] if row["skipped_steps"] else [])


def reproduce(
    directory: Path,
    task: Task,
    *,
    names: Sequence[str] = NAMES,
    progress: Callable[[int, str], None] = lambda done, text: None,
    **options: Any,
) -> dict[str, Any]:
    """Train what is missing of the table, write <task>.json in `directory` after every row, return what it holds."""
    table_cells = cells(task, directory, names, **options)
    result, rows = facts(task, **options), {}

    def write(cell: Cell) -> None:
        rows[cell.directory] = measure(cell, task)
        result["rows"] = [rows[c.directory] for c in table_cells if c.directory in rows]
        text = json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        write_atomic(directory / f"{task.name}.json", text)

    run(table_cells, progress=progress, finished=write)
    return result


def facts(task: Task, **options: Any) -> dict[str, Any]:
    """What the table of `task` says before any row: protocol, floors, aims, published rows, settings, device."""
    k = len(task.target.means)
    return {
        "task": task.name,
        "modes": k,
        "samples": SAMPLES,
        "perfect_high_quality": perfect_high_quality(task.target.dim),
        "kl_floor": (k - 1) / (2 * SAMPLES),
        "trial_samples": TRIAL,
        "trial_kl_floor": (k - 1) / (2 * TRIAL),
        "aims": {"modes": k, "high_quality": task.high_quality, "kl": task.kl, "width_ratio": list(WIDTH)},
        "published": {"source": task.source, "rows": task.published},
        "settings": to_toml(recipe(task, "js", **options)),
        "variants": VARIANTS,
        "device": f"{jax.devices()[0].device_kind} ({jax.default_backend()})",
    }


def table(result: dict[str, Any]) -> str:
    """The rows as text, the published ones below, aims and floors said."""
    task = TASKS[result["task"]]
    lines = [
        f"{task.name}: {result['modes']} modes, {len(result['rows'][0]['seeds'])} seeds, mean ± standard error over "
        f"seeds; {result['samples']:,} samples (trials: {result['trial_samples']:,}).",
        f"A perfect sampler: {100 * result['perfect_high_quality']:.2f} % high quality, width ratio 1, mode KL "
        f"{result['kl_floor']:.5f} (trials: {result['trial_kl_floor']:.4f}).",
        f"{'divergence':<28}{'modes':>12}{'high quality %':>18}{'mode KL':>18}{'width ratio':>16}"
        f"{'trials: modes, HQ %, KL':>28}  aims missed",
    ]
    for row in result["rows"]:
        name = row["divergence"] + ("" if row["variant"] == "recipe" else f", {row['variant']}")
        if not row["seeds"]:
            lines.append(f"{name:<28}{'diverged':>12}")
            continue
        trials = "  ".join(
            _number(row[k]["mean"], factor, digits)
            for k, factor, digits in (("trial_modes", 1, 1), ("trial_high_quality", 100, 1), ("trial_kl", 1, 4))
        )
        lines.append(
            f"{name:<28}{_pair(row['modes'], 1, 1):>12}{_pair(row['high_quality'], 100, 2):>18}"
            f"{_pair(row['kl'], 1, 4):>18}{_pair(row['width_ratio'], 1, 3):>16}{trials:>28}  "
            f"{', '.join(misses(row, task)) or 'none'}"
        )
    lines += ["", f"Published ({task.source}):"]
    for name, (modes, quality, kl) in task.published.items():
        lines.append(f"{name:<28}{modes:>12.1f}{quality:>18.1f}{'–' if kl is None else f'{kl:.2f}':>18}")
    lines += [f"{variant}: {text}." for variant, text in result["variants"].items()]
    lines.append("total_variation: through the smoothed ratio of a js critic; every other row by its own bound.")
    return "\n".join(lines)


def _number(value: float | None, factor: float, digits: int) -> str:
    return "–" if value is None else f"{factor * value:.{digits}f}"


def _pair(score: dict[str, float | None], factor: float, digits: int) -> str:
    error = score["standard_error"]
    return _number(score["mean"], factor, digits) + ("" if error is None else f" ±{factor * error:.{digits}f}")
