"""Why the preset of `fgan reproduce ring | grid` is what it is: each of its parts left out or replaced, one at a time.

    python -m benchmarks.ablation                                  every variant on the ring; hours
    python -m benchmarks.ablation --task grid                      the selected ones on the grid
    python -m benchmarks.ablation --variants 'no noise*' r1       shell patterns
    python -m benchmarks.ablation --divergences kl --seeds 3
    python -m benchmarks.ablation --report-only                    JSON and picture from the ledger

Every run (variant, task and divergence, seed, steps) trains in this process. Its scores are appended to
`results/ablation.jsonl` at once and never measured again. Several processes may share the ledger: give them different
--variants or --divergences. Each run ends by writing `ablation.json` and `ablation.png`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import ablation_report
from benchmarks.estimation import RESULTS, fill
from benchmarks.ledger import Ledger, Run
from benchmarks.variants import ON_GRID, VARIANTS, configured
from estimators.critics.kernel import steps
from fgan.config.checks import check
from fgan.config.schema import Config
from fgan.data.dataset import Dataset
from fgan.data.sources import load as load_data
from fgan.experiments.mode_capture import TASKS, Task, score
from fgan.models.gan import FGAN
from fgan.models.model import build
from fgan.run.loop import PATIENCE

SUITE = "ablation"
STEPS = {"ring": 6000, "grid": 15_000}
EVALUATIONS = 6  # of the samples of a run; the last one is its result
WATCHED = ("modes", "high_quality", "kl", "width_ratio")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Ablate the preset.

    Attributes:
        task: what to learn.
        steps: of training; by default 6,000 on the ring, 15,000 on the grid.
        variants: shell patterns; by default all on the ring, a selection on the grid.
        divergences: names.
        seeds: repetitions, from seed 0.
        report_only: measure nothing, report what the ledger holds.
        results: the folder of the ledger and the reports.
    """

    task: Literal["ring", "grid"] = "ring"
    steps: int | None = None
    variants: tuple[str, ...] = ()
    divergences: tuple[str, ...] = ("js", "reverse_kl", "kl")
    seeds: int = 1
    report_only: bool = False
    results: Path = RESULTS


def planned_runs(settings: Settings) -> list[Run]:
    """Seeds × variants × divergences, seeds outermost. Raises ValueError for what cannot be trained."""
    patterns = settings.variants or (ON_GRID if settings.task == "grid" else ("*",))
    chosen = [name for name in VARIANTS if any(fnmatch(name, pattern) for pattern in patterns)]
    n = STEPS[settings.task] if settings.steps is None else settings.steps
    made = [
        Run(SUITE, variant, f"{settings.task} {divergence}", seed, n)
        for seed in range(settings.seeds)
        for variant in chosen
        for divergence in settings.divergences
    ]
    for run in made:
        check(config_of(run))
    return made


def config_of(run: Run) -> Config:
    """How the run trains."""
    task, _, divergence = run.task.partition(" ")
    return configured(run.method, task, divergence, steps=run.n, seed=run.seed)


def measure(run: Run) -> dict[str, Any]:
    """The facts of a run's row: train it, and score its samples now and then."""
    config = config_of(run)
    data = load_data(config.data)
    wrap, begun = VARIANTS[run.method].wrap, time.perf_counter()
    gan = build(config, data)

    def report(scores: dict[str, Any]) -> None:
        text = f"{scores['modes']} modes, {100 * scores['high_quality']:.1f} % high quality"
        print(f"  {run.method}, {run.task}: step {scores['step']}/{run.n}, {text}", file=sys.stderr, flush=True)

    facts = train(wrap(gan) if wrap else gan, config, data, TASKS[config.data.name], report)
    return {**facts, "seconds": time.perf_counter() - begun}


def train(
    gan: FGAN, config: Config, data: Dataset, task: Task, report: Callable[[dict[str, Any]], None] = lambda scores: None
) -> dict[str, Any]:
    """`diverged`, `skipped_steps`, the `trajectory` of scores and, unless diverged, the `score` at the end.

    The run is that of `fgan.run.loop` with one seed, which can build none but its own f-GANs.
    """
    key, rows = jax.random.key(config.seed), jnp.asarray(data.rows)

    def draw(key: jax.Array) -> jax.Array:
        return jnp.stack([data.draw(k, rows, config.batch) for k in jax.random.split(key, config.game.critic_steps)])

    @partial(jax.jit, static_argnums=2)
    def chunk(state, start, n):
        state, metrics = steps(gan.advance, draw, key, state, start, n, noise=gan.noise)
        return state, jax.tree.map(jnp.mean, metrics)

    drawn = jax.jit(gan.sample, static_argnums=2)
    state = jax.jit(gan.init)(jax.random.fold_in(key, 2**32 - 1))
    trajectory: list[dict[str, Any]] = []
    done, skipped, every = 0, 0.0, -(-config.steps // EVALUATIONS)
    while done < config.steps:
        n = min(every, config.steps - done)
        state, metrics = chunk(state, jnp.asarray(done, jnp.int32), n)
        done, skipped = done + n, skipped + n * float(metrics["skipped"])
        facts = {"diverged": int(state.skipped) >= min(PATIENCE, done), "skipped_steps": round(skipped)}
        if facts["diverged"]:
            return {**facts, "step": done, "trajectory": trajectory}

        def sample(n: int, seed: int, state=state) -> np.ndarray:
            return data.own_units(np.asarray(drawn(state, jax.random.key(seed), n)))

        scores = score(task, sample)
        watched = {name: float(metrics[name]) for name in ("bound", "noise") if name in metrics}
        trajectory.append({"step": done, **{name: scores[name] for name in WATCHED}, **watched})
        report(trajectory[-1])
    return {**facts, **scores, "trajectory": trajectory}


def main(settings: Settings) -> int:
    """Measure what is missing, then write the report. The exit code."""
    try:
        planned = [] if settings.report_only else planned_runs(settings)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if not settings.report_only and not planned:
        known = ", ".join(VARIANTS)
        print(f"no run matches --variants {settings.variants}; there are {known}", file=sys.stderr)
        return 2
    ledger = Ledger(settings.results, SUITE)
    fill(ledger, planned, measure)
    for path in ablation_report.write(ledger):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings, description=__doc__)))
