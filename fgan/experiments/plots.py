"""What the pictures of several experiments draw: samples over modes, and generators while they train."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from estimators.distributions.mixture import Mixture
from estimators.plot_style import PALETTE, STYLE, attempted, save
from fgan.run.pictures import circle_modes, planar

VARIANTS = {"preset": "", "kl_gradient": ", gradient of kl", "plain": ", plain f-GAN"}
"""Variant → what follows the divergence's name; each has a colour of its own."""


def drawn(draw: Callable[..., Path], *arguments: Any) -> list[Path]:
    """[draw(*arguments)], or [] after one line on stderr where it fails: the numbers are there without it."""
    made: list[Path] = []
    with attempted(lambda line: print(f"fgan: {line}", file=sys.stderr)):
        made.append(draw(*arguments))
    return made


def name(row: dict[str, Any]) -> str:
    """The divergence and variant of a row."""
    return row["divergence"].replace("_", " ") + VARIANTS[row["variant"]]


def colour(row: dict[str, Any]) -> str:
    """The colour of a row's variant."""
    return PALETTE[list(VARIANTS).index(row["variant"])]


def frames(directory: Path, row: dict[str, Any]) -> list[tuple[int, np.ndarray]]:
    """(step, samples [n, 2] of the first seed) at each evaluation of a row's run, in order."""
    saved = sorted((directory / row["directory"] / "samples").glob("*.npy"))
    return [(int(file.stem), np.load(file, allow_pickle=False)[0]) for file in saved]


def over_modes(axis, points: np.ndarray | None, target: Mixture, colour: str) -> None:
    """Draw samples [n, 2] over circles of 3σ, on the same axes for every divergence."""
    circle_modes(axis, target, ec="black", lw=0.6)
    if points is None or not np.isfinite(points).all():
        axis.text(0.5, 0.5, "diverged", transform=axis.transAxes, ha="center")
    else:
        axis.plot(points[:, 0], points[:, 1], ".", ms=1.4, alpha=0.45, color=colour, zorder=2, rasterized=True)
    axis.set(xticks=[], yticks=[], aspect="equal")


def film(path: Path, *, columns: int = 6) -> Path:
    """Draw <task>-film.png beside a <task>.json: each run's first seed at about `columns` steps of its training."""
    result = json.loads(path.read_text(encoding="utf-8"))
    target = planar(result["task"])
    strips = [(row, strip) for row in result["rows"] if (strip := frames(path.parent, row))]
    columns = min(columns, max(len(strip) for _, strip in strips))
    with plt.rc_context(STYLE):
        size = (1.75 * columns, 1.8 * len(strips) + 0.6)
        figure, axes = plt.subplots(len(strips), columns, figsize=size, squeeze=False, sharex=True, sharey=True)
        for line, (row, strip) in zip(axes, strips, strict=True):
            chosen = [strip[round(i)] for i in np.linspace(0, len(strip) - 1, columns)]
            for axis, (step, points) in zip(line, chosen, strict=True):
                over_modes(axis, points, target, colour(row))
                axis.set_title(f"step {step:,}", fontsize=7)
            line[0].set_ylabel(name(row).replace(", ", "\n"), fontsize=9, weight="bold")
        figure.suptitle(f"{result['task']}: generators while they train", fontsize=11)
        return save(figure, path.with_name(f"{path.stem}-film.png"))


def contours(axis, target: Mixture, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Fill the contours of a density in the plane, in greys, on the rectangle x × y."""
    lines = np.linspace(*x, 121), np.linspace(*y, 121)
    points = np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 2)
    density = np.exp(np.asarray(target.log_prob(points))).reshape(121, 121)
    levels = np.linspace(0.02, 1.0, 8) * density.max()
    axis.contourf(*lines, density, levels=levels, cmap="Greys", vmax=1.8 * density.max())
    axis.set(xlim=x, ylim=y, xticks=[], yticks=[], aspect="equal")


def ellipses(mu, covariance) -> np.ndarray:
    """[2, n] points one and two standard deviations from the mean of a Gaussian in the plane, NaN between the two."""
    angle = np.append(np.linspace(0.0, 2.0 * np.pi, 200), np.nan)
    circles = np.kron([1.0, 2.0], [np.cos(angle), np.sin(angle)])
    return np.array(mu)[:, None] + np.linalg.cholesky(covariance) @ circles
