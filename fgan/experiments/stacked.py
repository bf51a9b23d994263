"""A thousand modes under every divergence: three grey images as the colours of one, a mode for each triple of classes.

The protocol is that of VEEGAN and PacGAN: 26,000 samples, a classifier of each colour, the modes that occur, and the KL
of their histogram to the law of the data (`fgan.scores.stacks`). The images are the digits, or those of a folder.

All divergences train by one preset. Beside them stand the plain f-GAN, without penalty, bound on the outputs or average
of the generator, and the relativistic pair with R1 + R2, which minimises no f-divergence, in the same networks, steps
and batch.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from estimators.plot_style import DATA, PALETTE, STYLE, save
from estimators.samples.arrays import DataError
from fgan.config.schema import Config, Data, replace
from fgan.config.toml import to_toml
from fgan.data.sources import STACK, load
from fgan.experiments import image_preset, plots, runs, tables
from fgan.experiments.runs import Run
from fgan.experiments.tables import NAMES, Column, number, plus_minus
from fgan.run import pictures
from fgan.run.directory import RunDirectory
from fgan.scores.stacks import SAMPLES, expected_modes, product_law

EXPERIMENTS = {"stacked": "1,000 modes of stacked digits, or of your own images (--data), under eleven divergences"}
FIRST_SEED = 101  # none from here on served to choose a setting
STEPS = 8000
EVALUATED = 2600  # samples scored while training: a tenth of those at the end
AIM = 0.10  # nats of the KL; of the modes, all that a perfect sampler shows

VARIANTS = {
    "preset": "critic by the named divergence's own bound less a penalty, generator by its own gradient",
    "plain": "the plain f-GAN: own bound, alternative objective, no penalty, no output bound, no average",
    "r1_r2": "the relativistic pair with R1 + R2 in the same networks, steps and batch: a baseline, no f-divergence",
}
"""How a run is trained; every variant is the same for all divergences, the name excepted."""
CHANGES: dict[str, dict[str, Any]] = {
    "preset": {},
    "plain": {
        "game.objective": "alternative",
        "penalty.names": (),
        "critic.output_bound": 0.0,
        "generator.average": 0.0,
    },
    "r1_r2": {"model": "relativistic", "penalty.names": ("r1", "r2"), "critic.output_bound": 0.0},
}
"""Variant → what it changes in the preset."""
COMPARED = {"plain": ("kl", "js"), "r1_r2": ("js",)}  # a pair has no divergence: js is the config's default name

PUBLISHED: dict[str, tuple[float, float]] = {
    "DCGAN": (99.0, 3.40),
    "ALI": (16.0, 5.40),
    "Unrolled GAN": (48.7, 4.32),
    "VEEGAN": (150.0, 2.95),
    "DCGAN, PacGAN's own": (78.9, 4.50),
    "PacDCGAN2": (1000.0, 0.06),
    "R3GAN": (1000.0, 0.029),
}
"""name → (modes, KL in nats) on stacked MNIST."""
SOURCE = "Lin, Khetan, Fanti, Oh 2018 (PacGAN), table 2; R3GAN: Huang, Gokaslan, Kuleshov, Tompkin 2024"

SCORES = ("modes", "kl", "kl_error", "recognised")


def preset(
    name: str,
    *,
    variant: str = "preset",
    data: str = "",
    steps: int = STEPS,
    seed: int = FIRST_SEED,
    seeds: int = 1,
) -> Config:
    """The training run under a divergence: the settings of `image_preset` on stacks.

    `data` is a folder of grey images in place of the digits. What a variant changes is in CHANGES.
    """
    made = image_preset.preset(name, data=Data(name="stacked", path=data), steps=steps, seed=seed, seeds=seeds)
    return replace(made, {"log.samples": EVALUATED} | CHANGES[variant])


def score(run: Run, member: int) -> dict[str, Any]:
    """What the run itself has found at its end, by `SAMPLES` samples; each None for samples that are not finite."""
    scored = [r["scores"] for r in RunDirectory(run.directory).records() if "scores" in r]
    last = scored[-1][member]
    if last.get("diverged"):
        return dict.fromkeys(SCORES)
    own = {name.removeprefix("mode_"): last[name] for name in ("modes", "mode_kl", "mode_kl_error", "recognised")}
    return own | {name: last[name] for name in ("mode_kl_floor", "modes_of_perfect", "counts", "held_out_stacks")}


def results(
    directory: Path, *, names: Sequence[str] = NAMES, data: str = "", quiet: bool = False, **options: Any
) -> dict[str, Any]:
    """Train what is missing of the table, write stacked.json in `directory` after every run, return what it holds."""
    made: Callable[..., Config] = partial(preset, data=data, **options)
    images = load(made("js").data)
    if images.labels is None:
        raise DataError(f"{data}: images without labels have no modes to count; put each class in a folder of its own")
    shares = np.bincount(images.labels) / len(images.labels)
    facts = {
        "images": data or "digits",
        "samples": SAMPLES,
        "aims": {"modes": round(expected_modes(SAMPLES, product_law(shares, STACK))), "kl": AIM},
        "published": {"source": SOURCE, "rows": PUBLISHED},
        "settings": to_toml(made("js")),
        "variants": VARIANTS,
        "device": runs.device(),
    }
    planned = runs.planned(directory, names, made, COMPARED)
    return runs.fill(directory / "stacked.json", facts, planned, score, SCORES, quiet, images)


def _kl(row: Mapping[str, Any]) -> str:
    """Its mean, with the standard error over seeds, or that of the samples of one seed."""
    error = row["kl"]["standard_error"]
    error = row["kl_error"]["mean"] if error is None else error
    return f"{number(row['kl']['mean'], digits=4)} ±{number(error, digits=4)}"


COLUMNS = (
    Column("modes", 10, plus_minus("modes", digits=0)),
    Column("mode KL", 18, _kl),
    Column("recognised %", 15, plus_minus("recognised", 100, 1)),
    Column("seconds", 10, lambda row: number(row.get("seconds"), digits=0)),
)
WIDTH = 28  # letters of a row's name


def known(result: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the generator, from any row that has it: {} if none has."""
    scored = [seed for row in result["rows"] for seed in row["seeds"] if seed.get("held_out_stacks")]
    return scored[0] if scored else {}


def table(result: dict[str, Any]) -> str:
    """The rows as text, over those of real stacks and of a perfect sampler, and the published ones."""
    lines = [
        f"stacked {result['images']}: {result['samples']:,} samples; KL of the modes to the law of the data, nats, ± "
        "the standard error of these samples. A run is one seed.",
        *tables.lines(result, COLUMNS, WIDTH),
    ]
    if found := known(result):
        real = found["held_out_stacks"]
        shown = {name: {"mean": real[key], "standard_error": None} for name, key in _KEYS.items()}
        lines.append(f"{'held-out real stacks':<{WIDTH}}" + "".join(f"{c.text(shown):>{c.width}}" for c in COLUMNS))
        lines.append(
            f"{'perfect sampler':<{WIDTH}}{found['modes_of_perfect']:>10.0f}{found['mode_kl_floor']:>18.4f}"
            f"{95.0:>15.1f}"
        )
        digits = ", ".join("–" if a is None else f"{100 * a:.1f}" for a in real["accuracy_by_class"])
        right = f"{100 * real['accuracy']:.1f} % of held-out images; by class {digits}"
        lines.append(f"The classifier is right about {right}.")
    lines += ["", f"Published on stacked MNIST ({result['published']['source']}):"]
    lines += [f"{name:<{WIDTH}}{modes:>10.1f}{kl:>18.3f}" for name, (modes, kl) in result["published"]["rows"].items()]
    lines += [f"{variant}: {text}." for variant, text in result["variants"].items()]
    return "\n".join(lines)


_KEYS = {"modes": "modes", "kl": "mode_kl", "kl_error": "mode_kl_error", "recognised": "recognised"}


def name(row: dict[str, Any]) -> str:
    """The divergence and variant of a row, for people."""
    variant = {"preset": "", "plain": ", plain f-GAN", "r1_r2": " pair, R1 + R2"}[row["variant"]]
    return row["divergence"].replace("_", " ") + variant


def picture(path: Path) -> Path:
    """Draw stacked.png beside a stacked.json: samples of each row's first seed, and its counts beside perfect ones."""
    result = json.loads(path.read_text(encoding="utf-8"))
    rows, columns = result["rows"], 5
    lines = -(-len(rows) // columns)
    with plt.rc_context(STYLE):
        size = (2.9 * columns, 4.4 * lines)
        figure, axes = plt.subplots(2 * lines, columns, figsize=size, squeeze=False, height_ratios=(3, 1.1) * lines)
        for axis in axes.flat:
            axis.axis("off")
        for i, row in enumerate(rows):
            upper, lower = (axes[2 * (i // columns) + k, i % columns] for k in (0, 1))
            upper.set_title(name(row), fontsize=10, weight="bold")
            _samples(upper, path.parent / row["directory"])
            if row["seeds"] and row["seeds"][0].get("counts"):
                _counts(lower, row["seeds"][0])
        figure.suptitle(
            f"stacked {result['images']}: 36 samples of each run; below, how often each of the modes was seen among "
            f"{result['samples']:,},\nsorted (line), beside a perfect sampler's (grey)",
            fontsize=11,
        )
        return save(figure, path.with_suffix(".png"))


def _samples(axis, run: Path) -> None:
    """The first 36 samples of a run's last evaluation."""
    saved = sorted((run / "samples").glob("*.npy"))
    drawn = np.load(saved[-1], allow_pickle=False)[0][:36] if saved else np.full((1, 1), np.nan)
    if np.isfinite(drawn).all():
        side = json.loads((run / "data.json").read_text(encoding="utf-8"))["side"]
        pictures.images(axis, drawn, side, across=6)
        axis.axis("on")
    else:
        axis.text(0.5, 0.5, "diverged", transform=axis.transAxes, ha="center")


def _counts(axis, seed: dict[str, Any]) -> None:
    """Sorted counts, on axes that all rows share, and those of one draw of a perfect sampler."""
    counts = np.sort(seed["counts"])[::-1]
    law = product_law(np.array(seed["held_out_stacks"]["class_shares"]), STACK)
    perfect = np.random.default_rng(0).multinomial(counts.sum(), law)
    axis.axis("on")
    ranks = np.arange(1, counts.size + 1)
    axis.fill_between(ranks, np.sort(perfect)[::-1], 0.5, color=DATA, alpha=0.35, step="mid")
    axis.plot(ranks, np.where(counts, counts, np.nan), color=PALETTE[0], lw=1.4)
    axis.set(yscale="log", ylim=(0.5, 1000.0), xlim=(1, counts.size), xticks=[1, counts.size])
    text = f"{seed['modes']} modes, KL {number(seed['kl'], digits=3)} (floor {seed['mode_kl_floor']:.3f})"
    axis.set_xlabel(text, fontsize=8)


def reproduce(name: str, directory: Path, *, quiet: bool = False, data: str = "") -> list[Path]:
    """Run the experiment in `directory`, print its table, and return the files made, pictures first.

    `data` is where grey images lie in place of the digits, such as a folder of IDX files.
    """
    print(table(results(directory, data=data, quiet=quiet)))
    file = directory / "stacked.json"
    return [*plots.drawn(picture, file), file]
