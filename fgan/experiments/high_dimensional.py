"""Ten Gaussians of dimension 700, each in a subspace of its own of R^1200, captured by f-GANs.

The third synthetic experiment of Srivastava, Valkov, Russell, Gutmann, Sutton 2017 (VEEGAN, section 4.1, table 1); what
it leaves open is chosen in estimators.distributions.subspaces. VEEGAN counts samples within 10 standard deviations of a mean as
good. Read literally no sample of the target is: their distance is √700 = 26.5 of them. Here a sample is of high quality
if it is within (√700 + 3)σ of its nearest mean inside that mode's subspace and within √500 σ of the subspace, which all
but 1.4 in 10⁵ of the target's are; a mode is captured if it has such a sample (the convention of Lin, Khetan, Fanti, Oh
2018, PacGAN, section 4.1). A generator of ten points would pass as well. Hence beside: how wide the modes are within
their subspaces, in how many directions, and how far samples lie off.

Training draws from 20,000 rows, as VEEGAN's did from samples; cells and runner are those of fgan.experiments.capture.

Layer 8: imports capture and everything below.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from estimators.distributions.subspaces import SUBSPACES, SubspaceMixture
from fgan.config.schema import Config, Critic, Data, Game, Generator, InstanceNoise, Log, Optimizer
from fgan.config.toml import to_toml
from fgan.experiments import capture
from fgan.experiments.capture import Cell, Sampler
from fgan.experiments.modes import NAMES
from fgan.run.checkpoint import write_atomic
from fgan.run.directory import RunDirectory
from fgan.run.restore import restore
from fgan.scores.evaluation import mean_or_none
from fgan.scores.metrics import SLACK, perfect_in_subspace, subspace_scores

NAME: Literal["high_dimensional"] = "high_dimensional"
COMPARED = ("js",)
"""The rows that the table also shows as plain f-GANs."""

VARIANTS = {
    "recipe": "critic by the named divergence's own bound, generator by covering weights on its ratio, spread noise, "
    "leash",
    "plain": capture.VARIANTS["plain"],
}
SEEDS, STEPS = 2, 12_000
SAMPLES = 10_000
DRAWN = 2500  # of a cell's first seed, for the picture
AIM = 0.9  # of a perfect sampler's high-quality share

PUBLISHED = {"GAN": (1.6, 2.0), "ALI": (3.0, 5.4), "Unrolled GAN": (0.0, 0.0), "VEEGAN": (5.5, 28.29)}
SOURCE = "Srivastava et al. 2017 (VEEGAN), table 1, under its own rule, 2,500 samples, mean of five runs"


def law() -> SubspaceMixture:
    """The distribution to learn."""
    return SUBSPACES[NAME]


def recipe(name: str, *, variant: str = "recipe", steps: int = STEPS, seeds: int = SEEDS) -> Config:
    """The training run of a cell: that of the ring without its penalty, with noise as wide as the modes are apart.

    Standardised, the means are about √(2d) apart; it starts at a quarter of that, as the ring's at a half of what its
    neighbours are, and is divided out of what the critic sees (fgan.models.instance_noise). No octaves: no detail is that fine. The
    critic, whose first layer adds up 1200 inputs, learns slower, and the generator no faster than it can follow. It
    still tends to flee, under reverse_kl and squared_hellinger at twice the rate, under pearson and neyman, whose
    bounds weigh a few samples by the square of the ratio, at this one: to where `reach` holds the critic without a
    gradient. A leash leads it back, and half the ring's reach keeps those weights within e². A latent of 8 dimensions
    leaves little of it between modes, and no more than 8 directions of spread within one but for curvature: width
    against quality.
    """
    target = law()
    cured = variant != "plain"
    start = 0.25 * math.sqrt(2.0 * target.dim)
    bound, weight = (1.0, 1.0) if cured else (2.0, 0.0)
    return Config(
        divergence=name,
        seeds=seeds,
        steps=steps,
        batch=256,
        data=Data(name=NAME),
        generator=Generator(features=(128, 128, 128), nonlinearity="tanh", gain=4.0, latent=8, average=0.99),
        critic=Critic(
            features=(128, 128),
            nonlinearity="silu",
            gain=1.4,
            activation="log_ratio",
            output_bound=bound,
            out_of_bound_penalty=weight,
        ),
        game=Game(objective="kl_gradient" if cured else "alternative", normalise=cured, smoothing=2.0),
        instance_noise=InstanceNoise(
            start=start, end=0.5 * target.sigma / target.deviation, overlap=(0.05, 0.5), fall=0.3
        )
        if cured
        else InstanceNoise(),
        generator_optimizer=Optimizer(learning_rate=1e-3, b1=0.0, b2=0.99, schedule="cosine"),
        critic_optimizer=Optimizer(learning_rate=5e-4, b1=0.0, b2=0.99, schedule="cosine", final=0.1),
        log=Log(every=100, evaluate=500, checkpoint=500),
    )


def cells(directory: Path, names: Sequence[str] = NAMES, **options: Any) -> list[Cell]:
    """The cells of the table: every divergence by the recipe, then the compared ones without the cure."""
    wanted = [(name, "recipe") for name in names] + [(name, "plain") for name in names if name in COMPARED]
    made = []
    for name, variant in wanted:
        config = recipe(name, variant=variant, **options)
        label = Path(RunDirectory.default_name(variant, name, config.seed)).name
        made.append(Cell(config, variant, directory / "cells" / label))
    return made


SCORES = ("modes", "high_quality", "kl", "width_ratio", "effective_rank", "off_ratio")


def judge(target: SubspaceMixture, sample: Sampler) -> dict[str, Any]:
    """Scores of a sampler (n, seed) → [n, d] on 10,000 samples.

    Widths and ranks are means over the modes that have them, least and greatest beside; `off_ratio` is the median
    residual off the subspace over its limit.
    """
    s = subspace_scores(sample(SAMPLES, 0), target.means, target.bases, target.sigma)
    widths = s.width_ratio[np.isfinite(s.width_ratio)]
    return {
        "modes": s.captured,
        "high_quality": s.high_quality,
        "kl": s.kl if np.isfinite(s.kl) else None,
        "width_ratio": mean_or_none(s.width_ratio),
        "width_ratios": [float(widths.min()), float(widths.max())] if widths.size else None,
        "effective_rank": mean_or_none(s.effective_rank),
        "off_ratio": float(np.median(s.off)) / limits(target)[1],
    }


def limits(target: SubspaceMixture) -> tuple[float, float]:
    """(√r + 3, √(d − r)): how far a high-quality sample may be from its mean in the subspace, and off it, in σ."""
    return math.sqrt(target.rank) + SLACK, math.sqrt(target.dim - target.rank)


def perfect(target: SubspaceMixture) -> Sampler:
    """The target itself as a sampler, independent of the rows that generators train on."""
    return lambda n, seed: target.sample(np.random.default_rng([target.seed, 1, seed]), n)


def misses(row: dict[str, Any], result: dict[str, Any]) -> list[str]:
    """The aims that some seed of the row does not reach, in words; empty if it reaches all."""
    if not row["seeds"]:
        return ["diverged"]
    missed = [name for name, aim in result["aims"].items() if any(seed[name] < aim for seed in row["seeds"])]
    return [name.replace("_", " ") for name in missed] + (["skipped steps"] if row["skipped_steps"] else [])


def reproduce(
    directory: Path,
    *,
    names: Sequence[str] = NAMES,
    progress: Callable[[int, str], None] = lambda done, text: None,
    **options: Any,
) -> dict[str, Any]:
    """Train what is missing, write high_dimensional.json and .npz in `directory`, and return what the first holds."""
    target, table_cells = law(), cells(directory, names, **options)
    capture.run(table_cells, progress=progress)
    ideal = judge(target, perfect(target))
    result = {
        "task": NAME,
        "target": {name: getattr(target, name) for name in ("modes", "dim", "rank", "sigma", "separation", "seed")},
        "samples": SAMPLES,
        "limits": limits(target),
        "perfect": ideal | {"expected_high_quality": perfect_in_subspace(target.rank)},
        "aims": {"modes": target.modes, "high_quality": AIM * ideal["high_quality"]},
        "published": {"source": SOURCE, "rows": PUBLISHED},
        "settings": to_toml(recipe(names[0], **options)),
        "variants": VARIANTS,
        "device": f"{jax.devices()[0].device_kind} ({jax.default_backend()})",
        "rows": [capture.measured(cell, partial(judge, target), SCORES) for cell in table_cells],
    }
    text = json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    _save_samples(directory, target, table_cells)
    write_atomic(directory / f"{NAME}.json", text)
    return result


def _save_samples(directory: Path, target: SubspaceMixture, table_cells: Sequence[Cell]) -> None:
    """What the picture shows of each cell's first seed and of the target, by directory: [n, 4] float32 of two
    coordinates in the plane of the means, and the distances within and off the subspace, in σ."""
    samplers = {f"cells/{cell.directory.name}": _first(cell) for cell in table_cells if not cell.diverged}
    found = {}
    for name, sample in (samplers | {"perfect": perfect(target)}).items():
        x = sample(DRAWN, 0)
        s = subspace_scores(x, target.means, target.bases, target.sigma)
        found[name] = np.column_stack([x @ target.plane, s.inside, s.off]).astype(np.float32)
    np.savez(directory / f"{NAME}.npz", **found)  # type: ignore[arg-type]


def _first(cell: Cell) -> Sampler:
    restored = restore(cell.directory)
    return lambda n, seed: restored.sample(n, seed=seed)


def table(result: dict[str, Any]) -> str:
    """The rows as text, the perfect sampler above and the published ones below."""
    t, ideal = result["target"], result["perfect"]
    inside, off = result["limits"]
    lines = [
        f"{t['modes']} Gaussians of dimension {t['rank']} in R^{t['dim']}, means {t['separation']:g} σ√r apart; "
        f"{result['samples']:,} samples, mean ± standard error over {len(result['rows'][0]['seeds'])} seeds.",
        f"High quality (HQ): within {inside:.2f} σ of the nearest mean in its subspace, {off:.2f} σ off it; a mode is "
        "captured if it has such a sample.",
        "Width: root-mean-square deviation within the subspace over σ√r. Directions: effective rank of its covariance.",
        f"{'divergence':<22}{'modes':>12}{'HQ %':>16}{'mode KL':>18}{'width ratio':>16}{'directions':>16}"
        f"{'off / limit':>16}  aims missed",
        f"{'perfect sampler':<22}{ideal['modes']:>12.1f}{100 * ideal['high_quality']:>16.2f}{ideal['kl']:>18.4f}"
        f"{ideal['width_ratio']:>16.3f}{ideal['effective_rank']:>16.1f}{ideal['off_ratio']:>16.3f}",
    ]
    for row in result["rows"]:
        name = row["divergence"] + ("" if row["variant"] == "recipe" else f", {row['variant']}")
        if not row["seeds"]:
            lines.append(f"{name:<22}{'diverged':>12}")
            continue
        widths, digits = (12, 16, 18, 16, 16, 16), ((1, 1), (100, 2), (1, 4), (1, 3), (1, 1), (1, 3))
        text = "".join(f"{capture._pair(row[k], *d):>{w}}" for k, w, d in zip(SCORES, widths, digits, strict=True))
        lines.append(f"{name:<22}{text}  {', '.join(misses(row, result)) or 'none'}")
    lines += ["", f"Published ({result['published']['source']}):"]
    lines += [f"{name:<22}{modes:>12.1f}{quality:>16.2f}" for name, (modes, quality) in PUBLISHED.items()]
    lines += [f"{variant}: {text}." for variant, text in result["variants"].items()]
    return "\n".join(lines)
