"""The f-GAN paper's table on real images: the Parzen log-likelihood of test images under eleven divergences.

    protocol   pixels in [0, 1]; Gaussian kernels on as many generated images as there are training images, 16,384 at
               most; their width by validation images, the log-likelihood of test images in nats
    ceiling    the same with training images in place of generated ones

The paper (Nowozin, Cseke, Tomioka 2016, section 4.1 and table 2) takes 16,000 generated images of MNIST, the width by
three-fold cross-validation, 10,000 test images, and 60,000 training images as its ceiling. A log-likelihood grows with
the number of kernels, so that figures are compared with the ceiling of their own protocol. It rewards samples near
test images and hardly sees whether they look right (Theis, van den Oord, Bethge 2016): the scores by a classifier, from
the end of each run, stand beside it.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np

from estimators.plot_style import DATA, PALETTE, STYLE, save
from fgan.config.fields import ConfigError
from fgan.config.schema import Data as Source
from fgan.config.toml import to_toml
from fgan.data.dataset import Dataset
from fgan.data.sources import load as load_data
from fgan.experiments import plots, runs, tables
from fgan.experiments.image_preset import preset
from fgan.experiments.runs import Run
from fgan.experiments.tables import NAMES, Column, number
from fgan.run.directory import RunDirectory
from fgan.run.members import restore
from fgan.run.pictures import images
from fgan.run.whole_files import write_atomic
from fgan.scores.parzen import best_bandwidth, log_density

EXPERIMENTS = {
    "parzen": "images under eleven divergences: Parzen log-likelihood beside the f-GAN paper's and real images'"
}
SAMPLES = 16_384
"""Most kernels, as the paper's 16,000 are called 16k."""
TESTS, VALIDATION = 10_000, 1000
"""Most test images, as in the paper, and most images that choose the width; the latter are a fifth of all held out."""
FIRST_SEED = 101  # none from here on served to choose a setting
NUMBERS = 2**26
"""Pixels of a set of images at most, half a GiB in float64: fewer images of more than 64 × 64 pixels."""
SEEDS = 2
AT_ONCE = 500  # images drawn in one call: their activations fill 100 MB
AIM = 0.9  # of the ceiling
PAPER: dict[str, Any] = {
    "source": "Nowozin, Cseke, Tomioka 2016, table 2: MNIST, nats",
    "rows": {
        "pearson": 429,
        "kl": 416,
        "js": 367,
        "reverse_kl": 319,
        "gan": 305,
        "neyman": 300,
        "squared_hellinger": -708,
        "jeffreys": -2101,
    },
    "real_images": 502,
}
IN_RUN = ("precision", "recall", "coverage", "class_kl", "class_kl_floor", "recognised", "fd_classifier")
"""Scores by the classifier at the end of a run that stand beside."""
SCORES = ("log_likelihood", "image_error", "of_real", "below_real", "below_real_error", "bandwidth", *IN_RUN)


class Parzen(NamedTuple):
    """The log-likelihoods of test images [t] in nats, and the width of the kernels."""

    values: np.ndarray
    bandwidth: float

    def as_json(self) -> dict[str, float]:
        """Mean, its standard error over test images, and width."""
        return {
            "log_likelihood": float(self.values.mean()),
            "image_error": standard_error(self.values),
            "bandwidth": self.bandwidth,
        }


def standard_error(values: np.ndarray) -> float:
    """That of the mean of independent values [n]."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


@dataclass(frozen=True)
class Protocol:
    """Images with pixels in [0, 1], each set in random order: what chooses a width, what is tested, and the ceiling."""

    validation: np.ndarray
    test: np.ndarray
    real: np.ndarray  # training images, as many as are generated

    @classmethod
    def of(cls, data: Dataset, samples: int = SAMPLES) -> "Protocol":
        """That of the images of `data`."""
        samples, tests = (min(most, NUMBERS // data.dim) for most in (samples, TESTS))
        held_out = np.random.default_rng(3).permutation(data.judges(VALIDATION + tests))
        validation, test = np.split(unit(held_out), [min(VALIDATION, len(held_out) // 5)])
        return cls(validation, test, unit(data.reference(samples)))

    def __call__(self, samples: np.ndarray) -> Parzen:
        """Of the kernel density on samples [n, d] in [0, 1]."""
        bandwidth = best_bandwidth(self.validation, samples)
        return Parzen(log_density(self.test, samples, bandwidth), bandwidth)

    def as_json(self) -> dict[str, Any]:
        """What was done, in numbers and words."""
        return {
            "pixels": "[0, 1], as stored, without noise",
            "dimensions": self.test.shape[1],
            "samples": len(self.real),
            "validation_images": len(self.validation),
            "test_images": len(self.test),
            "kernel": "Gaussian, of one width in all dimensions, which maximises the mean over the validation images",
        }


def unit(images: np.ndarray) -> np.ndarray:
    """Pixels in [−1, 1] as pixels in [0, 1], float64."""
    return 0.5 * (np.asarray(images, np.float64) + 1.0)


def score(protocol: Protocol, ceiling: Parzen, run: Run, member: int) -> dict[str, Any]:
    """Of a finished run's seed: its log-likelihood, beside the ceiling, and the scores that its run ended with.

    below_real is the mean over test images of the ceiling's less its own, with the standard error of that difference.
    Each score is None for a seed whose samples are not finite.
    """
    last = [record["scores"] for record in RunDirectory(run.directory).records() if "scores" in record]
    own = last[-1][member] if last else {}
    if own.get("diverged"):
        return dict.fromkeys(SCORES)
    found, real = protocol(generated(run, member, len(protocol.real))), float(ceiling.values.mean())
    below = ceiling.values - found.values
    beside = {
        "of_real": float(found.values.mean() / real) if real > 0.0 else None,
        "below_real": float(below.mean()),
        "below_real_error": standard_error(below),
    }
    return found.as_json() | beside | {name: own.get(name) for name in IN_RUN}


def generated(run: Run, member: int, n: int) -> np.ndarray:
    """n images [n, d] of a finished run's seed, with pixels in [0, 1]."""
    restored = restore(run.directory, member)
    draw = jax.jit(restored.model.sample, static_argnums=2)
    keys = jax.random.split(jax.random.key(run.config.seed + member), -(-n // AT_ONCE))
    return unit(np.concatenate([np.asarray(draw(restored.state, key, AT_ONCE)) for key in keys])[:n])


def results(
    directory: Path, data: Source, *, names: Sequence[str] = NAMES, quiet: bool = False, **options: Any
) -> dict[str, Any]:
    """Train what is missing of the table, write parzen.json in `directory` after every run, return what it holds.

    Raises:
        ConfigError: the data are no images, or too few are held out.
    """
    loaded, begun = load_data(data), time.monotonic()
    if not loaded.side or len(loaded.held_out) < 10:
        raise ConfigError(f"{loaded.name}: {len(loaded.held_out)} images held out; parzen needs 10 or more to test on")
    protocol = Protocol.of(loaded)
    ceiling = protocol(protocol.real)
    directory.mkdir(parents=True, exist_ok=True)
    np.save(directory / REAL, np.asarray(loaded.reference(SHOWN), np.float32))
    chosen: dict[str, Any] = {"data": data, "seed": FIRST_SEED, "seeds": SEEDS} | options
    facts = {
        "data": {"name": loaded.name, "side": loaded.side, "training_images": len(loaded.rows), "notes": loaded.notes},
        "protocol": protocol.as_json(),
        "ceiling": ceiling.as_json(),
        "aims": {"of_real": AIM},
        "paper": PAPER,
        "seeds": chosen["seeds"],
        "settings": to_toml(preset("js", **chosen)),
        "device": runs.device(),
        "ceiling_seconds": time.monotonic() - begun,
    }
    planned = runs.planned(directory, names, lambda name, variant: preset(name, **chosen), {})
    path = directory / "parzen.json"
    result = runs.fill(path, facts, planned, partial(score, protocol, ceiling), SCORES, quiet, loaded)
    return _timed(path, result)


def _timed(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """`result` with the seconds that its runs trained, written to `path`."""
    result["seconds"] = sum(row["seconds"] for row in result["rows"])
    write_atomic(path, json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    return result


def _likelihood(row: Mapping[str, Any]) -> str:
    """Mean, its standard error over test images, and over seeds if there are several."""
    seeds = row["log_likelihood"]["standard_error"]
    over_seeds = "" if seeds is None else f" ±{seeds:.1f}"
    return f"{number(row['log_likelihood']['mean'])} ±{number(row['image_error']['mean'])}{over_seeds}"


def _below(row: Mapping[str, Any]) -> str:
    return f"{number(row['below_real']['mean'])} ±{number(row['below_real_error']['mean'])}"


def _mean(score: str, factor: float = 1.0, digits: int = 2) -> Any:
    return lambda row: number(row[score]["mean"], factor, digits)


COLUMNS = (
    Column("nats ±images ±seeds", 24, _likelihood),
    Column("of real %", 11, _mean("of_real", 100.0, 1)),
    Column("below real", 15, _below),
    Column("width", 8, _mean("bandwidth", digits=3)),
    Column("paper", 8, lambda row: str(PAPER["rows"].get(row["divergence"], "–"))),
    Column("precision", 11, _mean("precision")),
    Column("recall", 8, _mean("recall")),
    Column("recognised %", 14, _mean("recognised", 100.0, 1)),
)


def table(result: Mapping[str, Any]) -> str:
    """The rows as text, under those of real images."""
    protocol, ceiling, paper = result["protocol"], result["ceiling"], result["paper"]
    heading, *rows = tables.lines(result, COLUMNS, 28)
    real = f"{ceiling['log_likelihood']:.1f} ±{ceiling['image_error']:.1f}"
    first = f"{'real training images':<28}{real:>24}{'100.0':>11}{'':>15}{ceiling['bandwidth']:>8.3f}"
    return "\n".join(
        [
            f"Parzen log-likelihood of {protocol['test_images']:,} test images of {result['data']['name']}, "
            f"{protocol['dimensions']} pixels in [0, 1], nats;",
            f"{protocol['samples']:,} kernels, their width by {protocol['validation_images']:,} validation images; "
            f"seeds: {result['seeds']}. A log-likelihood grows with the kernels: compare with real images here.",
            heading,
            f"{first}{paper['real_images']:>8}",
            *rows,
            f"paper: {paper['source']}; 16,000 kernels, for real images 60,000; its GAN {paper['rows']['gan']}.",
        ]
    )


REAL = "real-images.npy"
SHOWN = 16  # images of each divergence in the picture of samples


def picture(path: Path) -> Path:
    """Draw parzen.png beside a parzen.json: log-likelihoods with their errors, the ceiling, and the paper's figures."""
    result = json.loads(path.read_text(encoding="utf-8"))
    rows = result["rows"]
    own = [row["log_likelihood"]["mean"] for row in rows if row["seeds"] and row["log_likelihood"]["mean"] is not None]
    ceiling, error = result["ceiling"]["log_likelihood"], result["ceiling"]["image_error"]
    low, high = min([*own, AIM * ceiling, ceiling - 250.0]), max([*own, ceiling, PAPER["real_images"]])
    low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.4, 0.42 * len(rows) + 1.9))
        axis.axvspan(ceiling - 1.96 * error, ceiling + 1.96 * error, color=DATA, alpha=0.3, lw=0)
        axis.axvline(ceiling, color=DATA, lw=1.5, label="real training images, 95 %")
        axis.axvline(AIM * ceiling, color=DATA, ls=":", lw=1.2, label="90 % of it")
        axis.axvline(PAPER["real_images"], color=PALETTE[1], ls="--", lw=0.8, label="paper, real images (MNIST)")
        for y, row in enumerate(rows):
            _likelihoods(axis, y, row, low)
        axis.set_yticks(range(len(rows)), [plots.name(row) for row in rows])
        axis.set(xlim=(low, high), ylim=(len(rows) - 0.4, -0.6), xlabel="log-likelihood of test images, nats")
        handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=8)
        axis.set_title(f"{_called(result)}: Parzen windows on {result['protocol']['samples']:,} images", fontsize=11)
        return save(figure, path.with_suffix(".png"))


def _likelihoods(axis: Any, y: int, row: Mapping[str, Any], low: float) -> None:
    """One line of the picture: the seeds and their mean, with the paper's figure, at its left end if that is lower."""
    if not row["seeds"] or row["log_likelihood"]["mean"] is None:
        axis.text(0.25, y, "diverged", transform=axis.get_yaxis_transform(), ha="center", va="center")
    else:
        mean, error = row["log_likelihood"]["mean"], row["image_error"]["mean"]
        between = row["log_likelihood"]["standard_error"] or 0.0
        margin = 1.96 * float(np.hypot(error, between))
        seeds = [seed["log_likelihood"] for seed in row["seeds"] if seed["log_likelihood"] is not None]
        axis.plot(seeds, [y] * len(seeds), "|", color=PALETTE[0])
        axis.errorbar(mean, y, xerr=margin, fmt="o", ms=5, color=PALETTE[0], label="this preset ± 1.96 standard errors")
    if (paper := PAPER["rows"].get(row["divergence"])) is not None:
        axis.plot([max(paper, low)], [y], "D", ms=5, mfc="none", color=PALETTE[1], label="paper, MNIST", clip_on=False)
        if paper < low:
            offset = {"xytext": (8, 0), "textcoords": "offset points"}
            axis.annotate(
                f"← {paper:,}".replace("-", "−"), (low, y), color=PALETTE[1], fontsize=8, va="center", **offset
            )


def samples_picture(path: Path) -> Path:
    """Draw parzen-samples.png beside a parzen.json: real images, and a line of the first seed's for each divergence."""
    result = json.loads(path.read_text(encoding="utf-8"))
    strips = list(_strips(path.parent, result))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(strips), 1, figsize=(9.6, 0.62 * len(strips) + 0.6), squeeze=False)
        for axis, (label, drawn) in zip(axes[:, 0], strips, strict=True):
            if drawn is None:
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
                axis.text(0.5, 0.5, "diverged", transform=axis.transAxes, ha="center", va="center")
            else:
                images(axis, drawn, result["data"]["side"], len(drawn))
            axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        figure.suptitle(
            f"{_called(result)}: images as drawn, the first of the last evaluation, first seed", fontsize=11
        )
        return save(figure, path.with_name(f"{path.stem}-samples.png"))


def _strips(directory: Path, result: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray | None]]:
    """(label, images [k, d] in [−1, 1], None of what diverged) for each line of the picture of samples."""
    yield "real", np.load(directory / REAL, allow_pickle=False)
    for row in result["rows"]:
        frames = plots.frames(directory, row)
        drawn = frames[-1][1][:SHOWN] if frames else None
        yield plots.name(row), drawn if drawn is not None and np.isfinite(drawn).all() else None


def _called(result: Mapping[str, Any]) -> str:
    side = result["data"]["side"]
    return f"{result['data']['name']}, {side} × {side}"


def reproduce(name: str, directory: Path, *, quiet: bool = False, data: str = "") -> list[Path]:
    """Run the table in `directory`, print it, and return the files made, pictures first.

    `data` is where images lie that take the place of the digits.
    """
    source = Source(name="images", path=data) if data else Source(name="digits")
    print(table(results(directory, source, quiet=quiet)))
    path = directory / "parzen.json"
    return [*plots.drawn(picture, path), *plots.drawn(samples_picture, path), path]
