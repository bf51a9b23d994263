"""Every mode under every divergence: f-GANs on narrow Gaussians in a ring and on a grid, one preset for all.

The protocol is PacGAN's (Lin, Khetan, Fanti, Oh 2018, section 4.1): a sample is of high quality within 3σ of its
nearest mode, a mode is captured if it has one, the histogram of high-quality samples over modes is compared with the
uniform one; 2,500 samples a trial. The scores here take 50,000, and the width of the modes beside.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from estimators.distributions.examples import MIXTURES
from estimators.distributions.mixture import Mixture
from estimators.plot_style import STYLE, save
from fgan.config.schema import Config, Critic, Data, Game, Generator, InstanceNoise, Log, Optimizer, Penalty
from fgan.config.toml import to_toml
from fgan.experiments import plots, runs, tables
from fgan.experiments.runs import Sampler
from fgan.experiments.tables import NAMES, Column, plus_minus
from fgan.scores.modes import mean_or_none, mode_scores, perfect_high_quality

EXPERIMENTS = {
    "ring": "8 narrow Gaussians in a ring captured under eleven divergences, beside published tables",
    "grid": "25 narrow Gaussians on a grid, the same",
}
FIRST_SEED = 101  # none from here on served to choose a setting
SAMPLES, TRIAL, TRIALS = 50_000, 2500, 10
WIDTH = (0.9, 1.1)  # of a mode, over the target's: the aim


@dataclass(frozen=True, kw_only=True)
class Task:
    """A mixture to capture, the aims, and a published table."""

    name: str
    steps: int
    seeds: int
    high_quality: float  # the aim, a share
    kl: float  # the aim, nats
    published: dict[str, tuple[float, float, float | None]]
    """name → (modes, high quality in %, mode KL), None where not reported."""
    source: str = "Lin, Khetan, Fanti, Oh 2018 (PacGAN), 400,000 steps, 2,500 samples"

    @property
    def target(self) -> Mixture:
        """The distribution to learn."""
        return MIXTURES[self.name]

    @property
    def aims(self) -> dict[str, Any]:
        """Score → what every seed is to reach."""
        modes = len(self.target.means)
        return {"modes": modes, "high_quality": self.high_quality, "kl": self.kl, "width_ratio": list(WIDTH)}

    @property
    def kl_floor(self) -> float:
        """The mean KL between the mode histogram of a perfect sampler and the uniform one, nats."""
        return (len(self.target.means) - 1) / (2 * SAMPLES)


TASKS = {
    "ring": Task(
        name="ring",
        steps=12_000,
        seeds=5,
        high_quality=0.96,
        kl=0.005,
        published=dict(
            GAN=(6.3, 98.2, 0.45), ALI=(6.6, 97.6, 0.36), VEEGAN=(8.0, 52.9, None), PacGAN2=(7.9, 95.6, 0.07)
        ),
    ),
    "grid": Task(
        name="grid",
        steps=24_000,
        seeds=3,
        high_quality=0.95,
        kl=0.01,
        published=dict(
            GAN=(17.3, 94.8, 0.70), ALI=(24.1, 95.7, 0.14), VEEGAN=(24.6, 40.0, None), PacGAN4=(24.8, 93.6, 0.04)
        ),
    ),
}

VARIANTS = {
    "preset": "critic by the named divergence's own bound less a fading Roth penalty, generator by the divergence's "
    "own gradient, instance noise",
    "kl_gradient": "the same with the gradient of KL(data‖model), through the critic's ratio, for the generator",
    "plain": "the plain alternating f-GAN: own bound, alternative objective, no penalty, no noise, no weights",
}
"""How a run is trained; every variant is the same for all divergences, the name excepted."""

OBJECTIVES = {"preset": "minimax", "kl_gradient": "kl_gradient", "plain": "alternative"}
"""Variant → `game.objective`."""
COMPARED = {
    "kl_gradient": ("reverse_kl", "js", "neyman"),
    "plain": ("kl", "reverse_kl", "js"),
}
"""The divergences that the table also shows by another gradient than their own, or without the preset's remedies."""


def preset(
    task: Task,
    name: str,
    *,
    variant: str = "preset",
    steps: int | None = None,
    seed: int = FIRST_SEED,
    seeds: int | None = None,
) -> Config:
    """The training run of a task under a divergence.

    total_variation, whose own optimal critic is a step without gradient, is trained through the ratio of a js critic:
    the step is `game.smoothing` nats wide, 2 at first and 0.2 at last. Every other divergence trains by its own bound.

    Steep units leave little mass between modes, and noise coordinates of its own give the generator width within them.
    Its learning rate decays exponentially: under Adam the generator trembles by its rate, whatever the batch, and the
    critic, which sees modes and trembling together, would make them too narrow and never quite balanced. The Roth
    penalty, annealed to a hundredth, flattens the critic where the samples are and settles that balance.

    How many samples two neighbouring modes get depends on where the generator puts the border between them, and only
    samples between the modes move it. Single samples pull in both directions, and only their mean shows which mode has
    too few. The larger the weight of the divergence there (e^{−v} for neyman, 1 for reverse_kl, e^v for kl, at
    v ≈ −1), the larger this noise. Four batches of generated samples a step and an output bound of 1 make it small.
    """
    plain = variant == "plain"
    return Config(
        divergence=name,
        seed=seed,
        seeds=seeds or task.seeds,
        steps=steps or task.steps,
        batch=256,
        data=Data(name=task.name),  # type: ignore[arg-type]
        generator=Generator(features=(128, 128, 128), nonlinearity="tanh", gain=5.0, linear=2, average=0.99),
        critic=Critic(
            features=(128, 128),
            nonlinearity="silu",
            gain=1.4,
            frequencies=7,
            activation="log_ratio",
            output_bound=2.0 if plain else 1.0,
        ),
        game=Game(
            objective=OBJECTIVES[variant],
            normalise=not plain,
            smoothing=(2.0, 0.2),
            generator_batches=1 if plain else 4,
        ),
        penalty=Penalty() if plain else Penalty(names=("roth",), weight=0.1, schedule="annealed"),
        instance_noise=InstanceNoise() if plain else InstanceNoise(start=0.5, overlap=(0.02, 0.6), fall=0.3),
        generator_optimizer=Optimizer(learning_rate=1e-3, b1=0.0, b2=0.99, schedule="exponential", final=0.0015),
        critic_optimizer=Optimizer(learning_rate=1e-3, b1=0.0, b2=0.99, schedule="cosine", final=0.1),
        log=Log(every=500, evaluate=2500, checkpoint=2500),
    )


SCORES = ("modes", "high_quality", "kl", "width_ratio", "trial_modes", "trial_high_quality", "trial_kl")


def score(task: Task, sample: Sampler) -> dict[str, Any]:
    """Scores of a sampler (n, seed) → [n, 2]: on 50,000 samples, and the mean of ten trials of 2,500."""
    target = task.target
    centres, sigma = np.array(target.means), target.sigmas[0]
    whole = tables.captured(mode_scores(sample(SAMPLES, 0), centres, sigma))
    trials = [mode_scores(sample(TRIAL, 1 + i), centres, sigma) for i in range(TRIALS)]
    return whole | {
        "trial_modes": float(np.mean([t.captured for t in trials])),
        "trial_high_quality": float(np.mean([t.high_quality for t in trials])),
        "trial_kl": mean_or_none(np.array([t.kl for t in trials])),
    }


def results(
    task: Task, directory: Path, *, names: Sequence[str] = NAMES, quiet: bool = False, **options: Any
) -> dict[str, Any]:
    """Train what is missing of the table, write <task>.json in `directory` after every run, return what it holds."""
    k = len(task.target.means)
    facts = {
        "task": task.name,
        "modes": k,
        "samples": SAMPLES,
        "perfect_high_quality": perfect_high_quality(task.target.dim),
        "kl_floor": task.kl_floor,
        "trial_samples": TRIAL,
        "trial_kl_floor": (k - 1) / (2 * TRIAL),
        "aims": task.aims,
        "published": {"source": task.source, "rows": task.published},
        "settings": to_toml(preset(task, "js", **options)),
        "variants": VARIANTS,
        "device": runs.device(),
    }
    planned = runs.planned(directory, names, partial(preset, task, **options), COMPARED)
    return runs.fill(
        directory / f"{task.name}.json", facts, planned, runs.of_samples(partial(score, task)), SCORES, quiet
    )


def _trials(row) -> str:
    columns = (("trial_modes", 1, 1), ("trial_high_quality", 100, 1), ("trial_kl", 1, 4))
    return "  ".join(tables.number(row[name]["mean"], factor, digits) for name, factor, digits in columns)


COLUMNS = (
    Column("modes", 12, plus_minus("modes")),
    Column("high quality %", 18, plus_minus("high_quality", 100, 2)),
    Column("mode KL", 18, plus_minus("kl", digits=4)),
    Column("width ratio", 16, plus_minus("width_ratio", digits=3)),
    Column("trials: modes, HQ %, KL", 28, _trials),
)


def table(result: dict[str, Any]) -> str:
    """The rows as text, under the scores of a perfect sampler, and over the published ones."""
    task = TASKS[result["task"]]
    lines = [
        f"{task.name}: {result['modes']} modes, {len(result['rows'][0]['seeds'])} seeds, mean ± standard error over "
        f"seeds; {result['samples']:,} samples (trials: {result['trial_samples']:,}).",
        f"A perfect sampler: {100 * result['perfect_high_quality']:.2f} % high quality, width ratio 1, mode KL "
        f"{result['kl_floor']:.5f} (trials: {result['trial_kl_floor']:.4f}).",
        *tables.lines(result, COLUMNS, 28),
        "",
        f"Published ({task.source}):",
    ]
    for name, (modes, quality, kl) in task.published.items():
        lines.append(f"{name:<28}{modes:>12.1f}{quality:>18.1f}{tables.number(kl, digits=2):>18}")
    lines += [f"{variant}: {text}." for variant, text in result["variants"].items()]
    lines.append(
        "total_variation: through the ratio of a js critic, by a step that narrows from 2 to 0.2 nats; all others by "
        "their own bound."
    )
    return "\n".join(lines)


def picture(path: Path) -> Path:
    """Draw <task>.png beside a <task>.json: the first seed's samples over the modes, one panel a row of the table."""
    result = json.loads(path.read_text(encoding="utf-8"))
    target, columns = MIXTURES[result["task"]], 4
    lines = -(-len(result["rows"]) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(lines, columns, figsize=(2.9 * columns, 3.35 * lines), squeeze=False)
        for axis in axes.flat[len(result["rows"]) :]:
            axis.axis("off")
        for axis, row in zip(axes.flat, result["rows"], strict=False):
            frames = plots.frames(path.parent, row)
            plots.over_modes(axis, frames[-1][1] if frames else None, target, plots.colour(row))
            axis.set_title(plots.name(row), fontsize=10, weight="bold")
            axis.set_xlabel(_caption(row, result), fontsize=8)
        figure.get_layout_engine().set(h_pad=0.12)  # type: ignore[union-attr, call-arg]
        figure.suptitle(
            f"{result['task']}: 2,500 samples of the first seed, circles of 3σ around the modes\n"
            "scores on 50,000 samples, mean of the seeds; a perfect sampler has "
            f"{100 * result['perfect_high_quality']:.1f} % high quality (HQ), width 1, KL {result['kl_floor']:.5f}",
            fontsize=11,
        )
        return save(figure, path.with_suffix(".png"))


def _caption(row: dict[str, Any], result: dict[str, Any]) -> str:
    if not row["seeds"]:
        return "diverged"
    modes, quality, kl, width = (row[name]["mean"] for name in SCORES[:4])
    return (
        f"{modes:.1f} of {result['modes']} modes, {100 * quality:.1f} % HQ\n"
        f"width {tables.number(width, digits=2)}, mode KL {tables.number(kl, digits=4)}"
    )


def reproduce(name: str, directory: Path, *, quiet: bool = False) -> list[Path]:
    """Run ring or grid in `directory`, print its table, and return the files made, pictures first."""
    print(table(results(TASKS[name], directory, quiet=quiet)))
    path = directory / f"{name}.json"
    return [*plots.drawn(picture, path), *plots.drawn(plots.film, path), path]
