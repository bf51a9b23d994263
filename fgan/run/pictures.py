"""Pictures of a run, drawn from the files it has written and never from the live loop.

training   its bound (and exact divergence, where it is known) against steps
samples    what the generator makes at a step: a grid of images, points over modes, or a histogram
reconstructions   held-out images, and what the first seed of an autoencoder makes of them
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.patches import Circle

from estimators.distributions.curves import Curve
from estimators.distributions.examples import MIXTURES, TARGETS
from estimators.distributions.mixture import Mixture
from estimators.distributions.subspaces import SUBSPACES
from estimators.plot_style import DATA, PALETTE, STYLE, save, subplots, verbatim
from fgan.config.toml import from_toml
from fgan.run.directory import RunDirectory


def training(run: str | Path, metric: str = "bound", notes: Sequence[str] = ()) -> Path:
    """Draw figures/training.png of a run: a metric against steps, one line a seed, exact values beside it.

    `notes`, here and in `samples`, are lines under the title.
    """
    found = RunDirectory.find(run)
    config, records = from_toml(found.config_toml), found.records()
    lines = [r for r in records if metric in r]
    scored = [r for r in records if "scores" in r]
    with rc_context(STYLE):
        figure, axis = subplots(figsize=(6.4, 3.6))
        steps = [r["step"] for r in lines]
        bounds = np.array([r[metric] for r in lines], dtype=float)
        seeds = axis.plot(steps, bounds, color=PALETTE[0], alpha=0.8 if bounds.shape[1] == 1 else 0.45, lw=1)
        seeds[0].set_label(f"{metric} on the batch")
        exact = np.empty(0)
        if scored and "exact" in scored[0]["scores"][0]:
            exact = np.array([[s.get("exact") for s in r["scores"]] for r in scored], dtype=float)
            error = np.array([[s.get("exact_standard_error") or 0.0 for s in r["scores"]] for r in scored], dtype=float)
            for i, (value, margin) in enumerate(zip(exact.T, 1.96 * error.T, strict=True)):
                label = "exact divergence" if i == 0 else None
                axis.errorbar([r["step"] for r in scored], value, margin, fmt="o", ms=4, color=PALETTE[1], label=label)
            if (optimum := scored[0]["scores"][0].get("optimum")) is not None:
                axis.axhline(optimum, color=PALETTE[2], ls="--", label="exact optimum")
        if any("likelihood" in scores for r in scored for scores in r["scores"]):
            held_out = np.array(
                [[s.get("likelihood", {}).get(metric) for s in r["scores"]] for r in scored], dtype=float
            )
            dots = axis.plot([r["step"] for r in scored], held_out, "o", ms=4, color=PALETTE[1])
            dots[0].set_label(f"{metric} on held-out rows")
        low, high = np.nanpercentile(bounds, [1, 99])
        high = max(high, np.nanmax(exact, initial=-math.inf))  # a bound far below the truth is what must be seen
        axis.set_ylim(min(0.0, low), 1.15 * high if high > 0 else None)
        axis.set(xlabel="step", ylabel="nats", title=_lines(f"{config.minimised} on {config.data.name}", *notes))
        axis.legend()
        return save(figure, found.path / "figures" / "training.png")


def samples(run: str | Path, step: int, notes: Sequence[str] = ()) -> Path:
    """Draw figures/samples-<step>.png of a run, from the samples its evaluation saved."""
    run = Path(run)
    config = from_toml((run / "config.toml").read_text())
    drawn = np.load(run / "samples" / f"{step:08d}.npy", allow_pickle=False)
    facts = json.loads((run / "data.json").read_text())
    title = _lines(f"{config.minimised}, step {step}", *notes)
    with rc_context(STYLE):
        if facts["side"]:
            figure = _images(drawn[0], facts["side"], title)
        elif facts["dim"] == 1:
            figure = _histogram(drawn, config.data.name, title)
        else:
            figure = _points(drawn, config.data.name, title)
        return save(figure, run / "figures" / f"samples-{step:08d}.png")


def reconstructions(run: str | Path, step: int) -> Path:
    """Draw figures/reconstructions-<step>.png of a run: lines of held-out images, each above a line of the model's."""
    run = Path(run)
    data, model = np.load(run / "reconstructions" / f"{step:08d}.npy", allow_pickle=False)
    side = json.loads((run / "data.json").read_text())["side"]
    lines = -(-len(data) // ACROSS)
    with rc_context(STYLE):
        figure, axes = subplots(lines, 1, figsize=(5, 1.15 * lines + 0.7), squeeze=False)
        for i, axis in enumerate(axes[:, 0]):
            shown = slice(ACROSS * i, ACROSS * (i + 1))
            images(axis, np.concatenate([data[shown], model[shown]]), side, len(data[shown]))
            axis.set_yticks([0.5 * side - 0.5, 1.5 * side + 0.5], ["data", "model"])
        figure.suptitle(f"step {step}: held-out images and their reconstructions")
        return save(figure, run / "figures" / f"reconstructions-{step:08d}.png")


def _lines(*texts: str) -> str:
    """The lines of a title."""
    return "\n".join(map(verbatim, texts))


ACROSS = 10  # images in a line


def images(axis, rows: np.ndarray, side: int, across: int = ACROSS) -> None:
    """Draw images [n, side² · channels] in [−1, 1], so many to a line, a white pixel between them."""
    shades = np.clip(0.5 * (rows.reshape(len(rows), side, side, -1) + 1.0), 0.0, 1.0)
    framed = np.pad(shades, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=1.0)
    lines = framed.reshape(-1, across, side + 1, side + 1, shades.shape[-1]).transpose(0, 2, 1, 3, 4)
    grid = lines.reshape(-1, across * (side + 1), shades.shape[-1])
    axis.imshow(grid if grid.shape[-1] > 1 else grid[..., 0], cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _images(rows: np.ndarray, side: int, title: str):
    count = min(ACROSS, math.isqrt(len(rows)))
    figure, axis = subplots(figsize=(5, 5.2))
    images(axis, rows[: count * count], side, count)
    axis.set_title(title)
    return figure


def _histogram(drawn: np.ndarray, name: str, title: str):
    figure, axis = subplots(figsize=(6.4, 3.6))
    if name in TARGETS:
        x = np.linspace(drawn.min() - 1, drawn.max() + 1, 500)
        axis.fill_between(x, np.exp(np.asarray(MIXTURES[name].log_prob(x))), color=DATA, alpha=0.35, label="target")
    for i, rows in enumerate(drawn):
        label = "generator" if i == 0 else None
        axis.hist(rows[:, 0], bins=80, density=True, histtype="step", label=label, color=PALETTE[0])
    axis.set(title=title, xlabel="x", ylabel="density")
    axis.legend()
    return figure


def _points(drawn: np.ndarray, name: str, title: str):
    figure, axes = subplots(1, len(drawn), figsize=(3.8 * len(drawn), 4), squeeze=False)
    for axis, rows in zip(axes[0], drawn, strict=True):
        axis.plot(rows[:, 0], rows[:, 1], ".", ms=1.5, alpha=0.5, color=PALETTE[0], zorder=2)
        if isinstance(curve := TARGETS.get(name), Curve):
            _tube(axis, curve)
        elif name in MIXTURES or name in SUBSPACES:
            circle_modes(axis, planar(name), ec=PALETTE[1], lw=1)
        axis.set_aspect("equal")
    figure.suptitle(title)
    return figure


def _tube(axis, target: Curve) -> None:
    """The border of what lies within 3σ of a curve, on axes of twice that margin and more."""
    centres = np.array(target.mixture().means)
    low, high = centres.min(axis=0), centres.max(axis=0)
    margin = max(8 * target.sigma, 0.15 * float(np.max(high - low)))
    x, y = (np.linspace(a - margin, b + margin, 400) for a, b in zip(low, high, strict=True))
    distance, _ = target.nearest(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    border = distance.reshape(len(y), len(x)) / target.sigma
    axis.contour(x, y, border, levels=[3.0], colors=PALETTE[1], linewidths=1, zorder=3)
    axis.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))


def planar(name: str) -> Mixture:
    """The planar target `name`, or the projection of a mixture in subspaces onto the plane its samples are drawn in."""
    if name in MIXTURES:
        return MIXTURES[name]
    law = SUBSPACES[name]
    means = tuple((float(a), float(b)) for a, b in law.means @ law.plane)
    return Mixture(weights=(1.0 / law.modes,) * law.modes, means=means, sigmas=(law.radius / 3.0,) * law.modes)


def circle_modes(axis, target: Mixture, **style) -> None:
    """Draw a circle of 3σ around each mode, on axes that show them all."""
    for (a, b), sigma in zip(target.means, target.sigmas, strict=True):
        axis.add_patch(Circle((a, b), 3 * sigma, fill=False, zorder=3, **style))
    half = 1.3 * max(abs(m) for mean in target.means for m in mean)
    axis.set(xlim=(-half, half), ylim=(-half, half))
