"""Policy gradients with and without a KL to a prior policy, beside the optimum that is known in closed form.

A contextual bandit (γ = 0) and a grid world, both tables, so that the regularised objective

    J(π) = E Σ_t γ^t [r(s_t, a_t) − β KL(π‖π₀)(s_t)]

and its optimum π* are exact (`estimators.objectives.policies`). Each policy starts from the prior, sees sampled actions
and rewards alone, and is measured exactly:

    gap          J(π*) − J(π); it equals β E_s KL(π‖π*) / (1 − γ) over the states that π visits, which is checked
    kl_optimum   E_s KL(π‖π*)
    kl_prior     E_s KL(π‖π₀), beside that of π*

    none           the gradient of the reward: nothing holds the policy near the prior
    penalty        minus β KL(π‖π₀), exact in every state
    k2, k3         the same with the KL of a state estimated from the sampled action, as a loss. The gradient of k2 is
                   that of KL(π‖π₀) on average; that of k3 is the gradient of KL(π₀‖π), so that it ends elsewhere
    adaptive       the coefficient of the penalty is adapted to hold KL(π‖π₀) at that of π*, and starts at 10 β
    trust_region   natural-gradient steps on J with KL(π_old‖π) ≤ δ, by line search

On the bandit, the ends of `none` and `k3` are known too: the best action, and π ∝ π₀/(ν − r).
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fgan.experiments.plots import drawn
from fgan.experiments.policy import picture, table, training
from fgan.experiments.policy.measurement import SCORES, ends, measured, optimum
from fgan.experiments.policy.tasks import TASKS
from fgan.experiments.policy.training import NAMES, SEEDS, train
from fgan.experiments.runs import device
from fgan.experiments.tables import summary
from fgan.run.progress import Reporter
from fgan.run.whole_files import write_atomic

EXPERIMENTS = {"policy": "policy gradients with and without a KL to a prior, beside the closed-form optimum"}
SETTINGS = ("ITERATIONS", "RECORD", "RATE", "LIMIT", "ADAPT", "FIRST", "MEMORY", "NOISE")


def results(directory: Path, *, seeds: Sequence[int] = SEEDS, quiet: bool = False) -> dict[str, Any]:
    """Train every method on both tasks, write policy.json in `directory`, and return what it holds."""
    begun = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    tasks, rows = {}, []
    with Reporter(len(TASKS), quiet=quiet, unit="task") as report:
        for done, (name, make) in enumerate(TASKS.items(), 1):
            task = make()
            logits, coefficients = train(task, seeds)
            scores = measured(task, logits) | {"coefficient": coefficients.astype(float)}
            best = optimum(task)
            tasks[name] = {
                "beta": task.beta,
                "discount": task.discount,
                "prior_gap": best["value"] - best["prior"],
                "optimum_kl_prior": best["kl_prior"],
                "ends": ends(task) if task.discount == 0.0 else {},
                "identity_error": float(
                    np.abs(scores["gap"] - task.beta * scores["kl_optimum"] / (1.0 - task.discount)).max()
                ),
            }
            rows += [_row(name, method, seeds, {k: v[i] for k, v in scores.items()}) for i, method in enumerate(NAMES)]
            report.advance(done, name)
    result: dict[str, Any] = {
        "tasks": tasks,
        "rows": rows,
        "aims": table.aims(tasks, rows),
        "settings": {"seeds": list(seeds)} | {name.lower(): getattr(training, name) for name in SETTINGS},
        "device": device(),
    }
    result["seconds"] = time.monotonic() - begun
    write_atomic(directory / "policy.json", json.dumps(result, allow_nan=False, ensure_ascii=False) + "\n")
    return result


def _row(task: str, method: str, seeds: Sequence[int], scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """The last scores of each seed [seeds, records] with their summary, and how their means went."""
    each = [
        {"seed": seed} | {name: float(values[i, -1]) for name, values in scores.items()} for i, seed in enumerate(seeds)
    ]
    paths = {name: np.mean(values, axis=0).round(6).tolist() for name, values in scores.items()}
    return {"task": task, "method": method, "seeds": each, "paths": paths} | summary(each, (*SCORES, "coefficient"))


def reproduce(name: str, directory: Path, *, quiet: bool = False) -> list[Path]:
    """Run the experiment in `directory`, print its table, and return the files made, pictures first."""
    result = results(directory, quiet=quiet)
    print(f"{table.text(result)}\n\n{result['seconds']:.0f} s")
    path = directory / "policy.json"
    return [*drawn(picture.draw, path), path]
