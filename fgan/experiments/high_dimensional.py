"""Ten Gaussians of dimension 700, each in a subspace of its own of R^1200, captured by f-GANs.

The third synthetic experiment of Srivastava, Valkov, Russell, Gutmann, Sutton 2017 (VEEGAN, section 4.1, table 1); what
it leaves open is chosen in estimators.distributions.subspaces. VEEGAN counts samples within 10 standard deviations of a
mean as good. Taken literally no sample of the target is: their distance is √700 = 26.5 of them. Here a sample is of
high quality if it is within (√700 + 3)σ of its nearest mean inside that mode's subspace and within √500 σ of the
subspace, which all but 1.4 in 10⁵ of the target's are; a mode is captured if it has such a sample (the convention of
Lin, Khetan, Fanti, Oh 2018, PacGAN, section 4.1). A generator of ten points would pass as well. Hence beside: how wide
the modes are within their subspaces, in how many directions, and how far samples lie off.

Training draws from 20,000 rows, as VEEGAN's did from samples.
"""

import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np

from estimators.distributions.subspaces import SUBSPACES, SubspaceMixture
from estimators.plot_style import DATA, EXACT, STYLE, save
from fgan.config.schema import Config, Critic, Data, Game, Generator, InstanceNoise, Log, Optimizer
from fgan.config.toml import to_toml
from fgan.experiments import mode_capture, plots, runs, tables
from fgan.experiments.runs import Run, Sampler
from fgan.experiments.tables import NAMES, Column, plus_minus, summary
from fgan.scores.modes import SLACK, mean_or_none, perfect_in_subspace, subspace_scores

NAME: Literal["high_dimensional"] = "high_dimensional"
EXPERIMENTS = {
    "high_dimensional": "10 Gaussians of dimension 700 in subspaces of R^1200 captured under eleven divergences"
}
COMPARED = {"kl_gradient": ("reverse_kl", "js", "neyman"), "plain": ("js",)}
"""The divergences that the table also shows by another gradient than their own, or as plain f-GANs."""

VARIANTS = {
    "preset": "critic by the named divergence's own bound, generator by the divergence's own gradient, instance noise, "
    "penalty on outputs out of bound",
    "kl_gradient": mode_capture.VARIANTS["kl_gradient"],
    "plain": mode_capture.VARIANTS["plain"],
}
SEEDS, STEPS = 3, 12_000
SAMPLES = 10_000
DRAWN = 2500  # samples of a run's first seed, for the picture
AIM = 0.95  # of a perfect sampler's high-quality share
WIDE = {"width_ratio": 0.5, "effective_rank": 100.0}  # aims: half the true width, in a hundred directions of a mode
PUBLISHED = {"GAN": (1.6, 2.0), "ALI": (3.0, 5.4), "Unrolled GAN": (0.0, 0.0), "VEEGAN": (5.5, 28.29)}
SOURCE = "Srivastava et al. 2017 (VEEGAN), table 1, under its own rule, 2,500 samples, mean of five runs"


def preset(
    name: str, *, variant: str = "preset", steps: int = STEPS, seed: int = mode_capture.FIRST_SEED, seeds: int = SEEDS
) -> Config:
    """The training run under a divergence: that of the ring without its penalty and with one generator batch, the noise
    as wide as modes are apart.

    Standardised, the means are about √(2d) apart; the noise starts at a quarter of that, as the ring's at a half of
    the distance between neighbours, and is divided out of what the critic sees (fgan.models.instance_noise). No
    octaves: no detail is that fine. The critic, whose first layer adds up 1200 inputs, learns slower, and the generator
    no faster than the critic can follow.

    The generator still tends to flee to where `output_bound` leaves the critic without a gradient: under reverse_kl and
    squared_hellinger at twice the rate, under pearson and neyman, whose bounds weigh a few samples by the square of the
    ratio, at this one (seen with the gradient of kl). The out-of-bound penalty leads it back, and the output bound of 1
    keeps those weights within e².
    A latent of 8 dimensions leaves little mass between modes, and no more than 8 directions of width within one but for
    curvature. The others come from 256 coordinates of noise of their own through a learnt linear map. Its entries start
    at a width of 0.62 of the truth and end near it: 128 units see little of a width in 700 directions.
    """
    target, plain = SUBSPACES[NAME], variant == "plain"
    objective = mode_capture.OBJECTIVES[variant]
    widest, narrowest = 0.25 * math.sqrt(2.0 * target.dim), 0.5 * target.sigma / target.deviation
    noise = InstanceNoise(start=widest, end=narrowest, overlap=(0.05, 0.5), fall=0.3)
    return Config(
        divergence=name,
        seed=seed,
        seeds=seeds,
        steps=steps,
        batch=256,
        data=Data(name=NAME),
        generator=Generator(
            features=(128, 128, 128),
            nonlinearity="tanh",
            gain=4.0,
            latent=8,
            linear=256,
            linear_start=0.12,
            average=0.99,
        ),
        critic=Critic(
            features=(128, 128),
            nonlinearity="silu",
            gain=1.4,
            activation="log_ratio",
            output_bound=2.0 if plain else 1.0,
            out_of_bound_penalty=0.0 if plain else 1.0,
        ),
        game=Game(objective=objective, normalise=not plain, smoothing=(2.0, 0.2)),
        instance_noise=InstanceNoise() if plain else noise,
        generator_optimizer=Optimizer(learning_rate=1e-3, b1=0.0, b2=0.99, schedule="cosine"),
        critic_optimizer=Optimizer(learning_rate=5e-4, b1=0.0, b2=0.99, schedule="cosine", final=0.1),
        log=Log(every=100, evaluate=500, checkpoint=500),
    )


SCORES = ("modes", "high_quality", "kl", "width_ratio", "effective_rank", "off_ratio")


def score(target: SubspaceMixture, sample: Sampler) -> dict[str, Any]:
    """Scores of a sampler (n, seed) → [n, d] on 10,000 samples.

    The rank is a mean over the modes that have one; `off_ratio` is the median residual off the subspace over its limit.
    """
    s = subspace_scores(sample(SAMPLES, 0), target.means, target.bases, target.sigma)
    off = float(np.median(s.off)) / limits(target)[1]
    return tables.captured(s) | {"effective_rank": mean_or_none(s.effective_rank), "off_ratio": off}


def limits(target: SubspaceMixture) -> tuple[float, float]:
    """(√r + 3, √(d − r)): how far a high-quality sample may be from its mean in the subspace, and off it, in σ."""
    return math.sqrt(target.rank) + SLACK, math.sqrt(target.dim - target.rank)


def perfect(target: SubspaceMixture) -> Sampler:
    """The target itself as a sampler, independent of the rows that generators train on."""
    return lambda n, seed: target.sample(np.random.default_rng([target.seed, 1, seed]), n)


def results(directory: Path, *, names: Sequence[str] = NAMES, quiet: bool = False, **options: Any) -> dict[str, Any]:
    """Train what is missing, write high_dimensional.json and .npz in `directory`, and return what the first holds."""
    target = SUBSPACES[NAME]
    ideal = score(target, perfect(target))
    facts = {
        "task": NAME,
        "target": {name: getattr(target, name) for name in ("modes", "dim", "rank", "sigma", "separation", "seed")},
        "samples": SAMPLES,
        "limits": limits(target),
        "perfect": ideal | {"expected_high_quality": perfect_in_subspace(target.rank)},
        "aims": {"modes": target.modes, "high_quality": AIM * ideal["high_quality"]} | WIDE,
        "published": {"source": SOURCE, "rows": PUBLISHED},
        "settings": to_toml(preset(names[0], **options)),
        "variants": VARIANTS,
        "device": runs.device(),
    }
    planned = runs.planned(directory, names, partial(preset, **options), COMPARED)
    scored = runs.of_samples(partial(score, target))
    result = runs.fill(directory / f"{NAME}.json", facts, planned, scored, SCORES, quiet)
    _save_samples(directory, target, planned)
    return result


def _save_samples(directory: Path, target: SubspaceMixture, planned: Sequence[Run]) -> None:
    """Save what the picture shows of each run's first seed and of the target, by directory: [n, 4] float32 of two
    coordinates in the plane of the means, and the distances within and off the subspace, in σ."""
    samplers = {f"runs/{run.directory.name}": runs.sampler(run) for run in planned if not run.diverged}
    found = {}
    for name, sample in (samplers | {"perfect": perfect(target)}).items():
        x = sample(DRAWN, 0)
        s = subspace_scores(x, target.means, target.bases, target.sigma)
        found[name] = np.column_stack([x @ target.plane, s.inside, s.off]).astype(np.float32)
    np.savez(directory / f"{NAME}.npz", **found)  # type: ignore[arg-type]


COLUMNS = (
    Column("modes", 12, plus_minus("modes")),
    Column("HQ %", 16, plus_minus("high_quality", 100, 2)),
    Column("mode KL", 18, plus_minus("kl", digits=4)),
    Column("width ratio", 16, plus_minus("width_ratio", digits=3)),
    Column("directions", 16, plus_minus("effective_rank")),
    Column("off / limit", 16, plus_minus("off_ratio", digits=3)),
)


def table(result: dict[str, Any]) -> str:
    """The rows as text, the perfect sampler above and the published ones below."""
    t, (inside, off) = result["target"], result["limits"]
    lines = [
        f"{t['modes']} Gaussians of dimension {t['rank']} in R^{t['dim']}, means {t['separation']:g} σ√r apart; "
        f"{result['samples']:,} samples, mean ± standard error over {len(result['rows'][0]['seeds'])} seeds.",
        f"High quality (HQ): within {inside:.2f} σ of the nearest mean in its subspace, {off:.2f} σ off it; a mode is "
        "captured if it has such a sample.",
        "Width: root-mean-square deviation within the subspace over σ√r. Directions: effective rank of its covariance.",
        *tables.lines(result, COLUMNS, 22, summary([result["perfect"]], SCORES)),
        "",
        f"Published ({result['published']['source']}):",
    ]
    lines += [f"{name:<22}{modes:>12.1f}{quality:>16.2f}" for name, (modes, quality) in PUBLISHED.items()]
    return "\n".join(lines + [f"{variant}: {text}." for variant, text in result["variants"].items()])


def picture(path: Path) -> Path:
    """Draw high_dimensional.png beside its .json and .npz: the target and each run's first seed, one under another.

    Left the plane where the means lie on a circle, then the distance to the nearest mean within its subspace and the
    residual off it, in σ, with the limits of high quality; grey is the perfect sampler.
    """
    result = json.loads(path.read_text(encoding="utf-8"))
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
        drawn = {name: file[name] for name in file.files}
    ideal = {**summary([result["perfect"]], SCORES), "seeds": [result["perfect"]]}
    strips = [("perfect sampler", DATA, "perfect", ideal)]
    strips += [(plots.name(row), plots.colour(row), row["directory"], row) for row in result["rows"]]
    with plt.rc_context(STYLE):
        size, widths = (10.5, 2.35 * len(strips)), (1.0, 1.6, 1.6)
        figure, axes = plt.subplots(len(strips), 3, figsize=size, squeeze=False, width_ratios=widths)
        for (plane, inside, off), (name, colour, key, row) in zip(axes, strips, strict=True):
            found = drawn.get(key)
            _in_plane(plane, found, drawn["perfect"], SUBSPACES[result["task"]], colour)
            plane.set_ylabel(name.replace(", ", "\n"), fontsize=10, weight="bold")
            inside.set_title(_caption(row, result), fontsize=9, loc="left")
            for axis, column in ((inside, 2), (off, 3)):
                _distances(axis, found, drawn["perfect"], column, result["limits"][column - 2], colour)
        axes[-1, 1].set_xlabel("distance to the nearest mean within its subspace, in σ")
        axes[-1, 2].set_xlabel("residual off the subspace, in σ")
        axes[-1, 0].set_xlabel("plane of the means", fontsize=9)
        t = result["target"]
        figure.suptitle(
            f"{t['modes']} Gaussians of dimension {t['rank']} in $\\mathbb{{R}}^{{{t['dim']}}}$: 2,500 samples of the "
            "first seed; dashed: limits of high quality (HQ); grey: perfect sampler",
            fontsize=11,
        )
        return save(figure, path.with_suffix(".png"))


def _in_plane(axis, found: np.ndarray | None, ideal: np.ndarray, law: SubspaceMixture, colour: str) -> None:
    """Samples over those of the target and a circle of σ√r around each mean, where the means lie on a circle."""
    axis.plot(ideal[:, 0], ideal[:, 1], ".", ms=3, color=DATA, zorder=1, rasterized=True)
    if found is not None and np.isfinite(found).all():
        axis.plot(found[:, 0], found[:, 1], ".", ms=1.4, alpha=0.5, color=colour, zorder=2, rasterized=True)
    for centre in law.means @ law.plane:
        axis.add_patch(plt.Circle(centre, law.radius, fill=False, ec="black", lw=0.6, zorder=3))
    half = 1.2 * float(np.abs(law.means @ law.plane).max()) + law.radius
    axis.set(xlim=(-half, half), ylim=(-half, half), xticks=[], yticks=[], aspect="equal")


def _distances(axis, found: np.ndarray | None, ideal: np.ndarray, column: int, limit: float, colour: str) -> None:
    """Histograms of a distance, its limit dashed; the last bin holds what is farther than twice the limit."""
    bins = np.linspace(0.0, 2.0 * limit, 81)
    for rows, style in ((ideal, {"color": DATA}), (found, {"color": colour, "alpha": 0.7})):
        if rows is not None and np.isfinite(rows).all():
            shares = np.full(len(rows), 1.0 / len(rows))
            axis.hist(np.minimum(rows[:, column], bins[-1]), bins=bins, weights=shares, **style)
    axis.axvline(limit, **EXACT)
    axis.set(xlim=(0.0, bins[-1]), yscale="log", ylim=(3e-4, 1.5))
    axis.set_xticks([0, 0.5 * limit, limit, 1.5 * limit, 2 * limit])
    axis.set_xticklabels(["0", *(f"{v * limit:.3g}" for v in (0.5, 1.0, 1.5)), f"≥ {2 * limit:.3g}"])
    axis.set_ylabel("share", fontsize=8)


def _caption(row: dict[str, Any], result: dict[str, Any]) -> str:
    if not row["seeds"]:
        return "diverged"
    modes, quality, _, width, rank, _ = (row[name]["mean"] for name in SCORES)
    return (
        f"{modes:g} of {result['target']['modes']} modes, {100 * quality:.1f} % HQ, "
        f"width {tables.number(width, digits=2)} in {tables.number(rank, digits=0)} directions"
    )


def reproduce(name: str, directory: Path, *, quiet: bool = False) -> list[Path]:
    """Run the experiment in `directory`, print its table, and return the files made, pictures first."""
    print(table(results(directory, quiet=quiet)))
    path = directory / f"{NAME}.json"
    return [*plots.drawn(picture, path), *plots.drawn(plots.film, path), path]
