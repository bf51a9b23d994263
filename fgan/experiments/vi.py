"""f-divergence variational inference: a Gaussian fitted to two unnormalised posteriors, from covering to seeking.

The fits know log p + c alone, c unknown to them, and draw from the Gaussian itself
(`estimators.objectives.variational_inference`). Every fit is then measured by quadrature against the normalised
posterior and set beside the exact optimum. Three starts, one wide and one narrow on each side, are the same for all
divergences; the best is chosen by estimates on samples of the fits and the starts, as a user without quadrature would.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np

from estimators.distributions.curves import Arc, Curve
from estimators.distributions.elliptical import Gaussian
from estimators.distributions.examples import beads
from estimators.distributions.mixture import Mixture
from estimators.exact_values.fits import best_gaussian_plane
from estimators.exact_values.quadrature import PLANE, exact_divergence
from estimators.objectives.families import GAUSSIAN, GaussianParameters
from estimators.objectives.variational_inference import Objective, fit
from estimators.plot_style import EXACT, PALETTE, STYLE, legend_below, save
from fgan.experiments import plots, tables
from fgan.run.progress import Reporter
from fgan.run.whole_files import write_atomic

EXPERIMENTS = {"vi": "a Gaussian fitted to unnormalised posteriors under six divergences, beside the exact optimum"}
NAMES = ("pearson", "kl", "jeffreys", "alpha(0.5)", "js", "reverse_kl")


def banana(n: int = 13, heavier: float = 2.0) -> Mixture:
    """n Gaussians along a half circle, 1.2 σ apart, so that no single one shows; the last as much `heavier`."""
    even = beads(Curve(arcs=(Arc(start=0.0, end=math.pi, radius=1.8, centre=(0.0, -1.0)),), sigma=0.35), n)
    weights = np.geomspace(1.0, heavier, n)
    return replace(even, weights=tuple((weights / weights.sum()).tolist()))


TARGETS = {
    "two modes": Mixture(weights=(0.6, 0.4), means=((-1.6, -0.5), (1.6, 0.5)), sigmas=(0.75, 0.55)),
    "banana": banana(),
}
"""Both have Gaussian tails, so that every divergence of NAMES is finite for a Gaussian that is wide enough. Nothing is
symmetric, so that one mode, and one arm, is the better to seek."""
SHIFT = 5.0  # log Z of the densities that the fits see, which they are not told
STARTS = (((0.0, 0.0), 2.0), ((-1.5, 0.0), 0.5), ((1.5, 0.0), 0.5))  # (mean, σ)
SEEDS, STEPS, SAMPLES, CHECK = 5, 1500, 512, 2**14
EXCESS = 1e-3
"""nats; the aim for every seed. The divergences of the optima are 0.1 to 1.3."""


def measure(target: Mixture, name: str, *, seeds: int = SEEDS, steps: int = STEPS, samples: int = SAMPLES):
    """The row of one divergence: every seed measured by quadrature beside its own estimate."""
    objective = Objective(log_target=lambda x: target.log_prob(x) + SHIFT, family=GAUSSIAN, divergence=name)
    starts = [GaussianParameters.of(np.array(mean), sigma**2 * np.eye(2)) for mean, sigma in STARTS]
    found = fit(objective, starts, jax.random.key(0), seeds=seeds, steps=steps, samples=samples, check=CHECK)
    optimum = best_gaussian_plane(target, name)
    measured = []
    for seed in range(seeds):
        theta = jax.tree.map(lambda leaf, i=seed: leaf[i], found.parameters)
        mean, covariance = (np.asarray(a, np.float64) for a in (theta.mean, theta.covariance()))
        exact = _exact(target, mean, covariance, name)
        estimate = {key: float(value[seed]) for key, value in found.estimate._asdict().items()}
        measured.append(
            {"seed": seed, "mu": mean.tolist(), "covariance": covariance.tolist(), "start": int(found.start[seed])}
            | {"exact": exact, "excess": exact - optimum["value"], "estimate": estimate}
        )
    errors = [(s["estimate"]["value"] - s["exact"]) / s["estimate"]["standard_error"] for s in measured]
    return {
        "divergence": name,
        "gradient": objective.form,
        "optimum": optimum,
        **tables.summary(measured, ("exact", "excess")),
        "largest_error": float(np.max(np.abs(errors))),
        "seeds": measured,
    }


def _exact(target: Mixture, mean: np.ndarray, covariance: np.ndarray, name: str) -> float:
    """D_f(target‖N(mean, covariance)) by quadrature."""
    model = Gaussian(location=mean, scatter=0.5 * (covariance + covariance.T))
    return exact_divergence(target.log_prob, model.log_prob, name, PLANE, tol=1e-7)  # type: ignore[arg-type]


def results(directory: Path, *, names: Sequence[str] = NAMES, quiet: bool = False, **options: Any) -> dict[str, Any]:
    """Run the experiment, write vi.json in `directory`, and return what it holds."""
    begun = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    settings = {"starts": STARTS, "steps": STEPS, "samples": SAMPLES, "check": CHECK, "log_normaliser": SHIFT} | options
    result: dict[str, Any] = {"targets": {}, "settings": settings, "aims": {"excess": EXCESS}}
    pairs = [(target, name) for target in TARGETS for name in names]
    with Reporter(len(pairs), quiet=quiet, unit="fit") as report:
        for done, (target, name) in enumerate(pairs, 1):
            row = measure(TARGETS[target], name, **options)
            result["targets"].setdefault(target, []).append(row)
            report.advance(done, f"{target}, {name}: excess {row['excess']['mean']:.1e}")
    for rows in result["targets"].values():
        rows.sort(key=lambda row: -np.linalg.det(row["optimum"]["covariance"]))
    result["seconds"] = time.monotonic() - begun
    text = json.dumps(result, allow_nan=False, ensure_ascii=False, indent=1)
    write_atomic(directory / "vi.json", text + "\n")
    return result


def table(result: dict[str, Any]) -> str:
    """The rows of both targets as text, widest optimum first."""
    seeds = len(next(iter(result["targets"].values()))[0]["seeds"])
    lines = [
        f"A Gaussian fitted to log p + {SHIFT:g} by its own samples, {seeds} seeds; mean ± standard error over seeds, "
        "nats.",
        "exact: the divergence at the fit, by quadrature; excess: less that of the exact optimum. σ₁, σ₂: deviations "
        "along the axes of the optimum.",
        "estimate: what a user sees of the first seed, on samples of its fits and starts; error: the largest of "
        "all seeds, in its own standard errors.",
    ]
    for target, rows in result["targets"].items():
        heads = f"{'optimum':>9}{'σ₁':>7}{'σ₂':>7}{'exact':>10}{'excess':>20}{'estimate':>20}{'error':>7}"
        lines += ["", f"{target:<12}{heads}  start  aim"]
        for row in rows:
            spread = np.sqrt(np.linalg.eigvalsh(row["optimum"]["covariance"])[::-1])
            first = row["seeds"][0]["estimate"]
            excess, starts = row["excess"], "".join(str(seed["start"]) for seed in row["seeds"])
            error = 0.0 if excess["standard_error"] is None else excess["standard_error"]
            met = all(seed["excess"] < result["aims"]["excess"] for seed in row["seeds"])
            lines.append(
                f"{row['divergence']:<12}{row['optimum']['value']:>9.4f}{spread[0]:>7.3f}{spread[1]:>7.3f}"
                f"{row['exact']['mean']:>10.4f}{excess['mean']:>11.1e} ±{error:.0e}"
                f"{first['value']:>12.4f} ±{first['standard_error']:.4f}{row['largest_error']:>7.1f}  {starts}  "
                f"{'met' if met else 'missed'}"
            )
    return "\n".join(lines)


def picture(path: Path) -> Path:
    """Draw vi.png beside a vi.json: a line a target, widest optimum first, on the same axes."""
    result = json.loads(path.read_text(encoding="utf-8"))
    columns = max(map(len, result["targets"].values()))
    with plt.rc_context(STYLE):
        size = (2.3 * columns, 2.3 * len(result["targets"]) + 1.0)
        figure, axes = plt.subplots(len(result["targets"]), columns, figsize=size, squeeze=False)
        for line, (target, rows) in zip(axes, result["targets"].items(), strict=True):
            for axis, row in zip(line, rows, strict=True):
                _panel(axis, TARGETS[target], row)
            line[0].set_ylabel(target, weight="bold")
        figure.suptitle("A Gaussian fitted to an unnormalised posterior by its own samples, from covering to seeking")
        legend_below(figure, axes[0, 0])
        return save(figure, path.with_suffix(".png"))


def _panel(axis, target: Mixture, row: dict[str, Any]) -> None:
    """One fit of every seed over the target, the exact optimum on top."""
    plots.contours(axis, target, (-3.9, 3.9), (-2.5, 2.5))
    for seed in row["seeds"]:
        label = "fitted, 1σ and 2σ, every seed" if seed["seed"] == 0 else None
        axis.plot(*plots.ellipses(seed["mu"], seed["covariance"]), color=PALETTE[1], lw=1.8, alpha=0.6, label=label)
    best = row["optimum"]
    axis.plot(*plots.ellipses(best["mu"], best["covariance"]), **EXACT, label="exact optimum")
    axis.set_title(row["divergence"].replace("_", " "), fontsize=10, weight="bold")
    axis.set_xlabel(f"optimum {best['value']:.4f} nats\nexcess {row['excess']['mean']:.0e}", fontsize=8)


def reproduce(name: str, directory: Path, *, quiet: bool = False) -> list[Path]:
    """Run the experiment in `directory`, print its table, and return the files made, pictures first."""
    result = results(directory, quiet=quiet)
    print(f"{table(result)}\n\n{result['seconds']:.0f} s")
    path = directory / "vi.json"
    return [*plots.drawn(picture, path), path]
