"""Pictures of the flow experiment: the densities, and the gap while training."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np

from estimators.distributions.examples import TARGETS as EXAMPLES
from estimators.exact_values.quadrature import in_blocks
from estimators.plot_style import EXACT, PALETTE, STYLE, legend_below, save
from fgan.experiments.flow.measurement import laws
from fgan.experiments.flow.table import best, number, rows_of
from fgan.experiments.flow.training import MODELS, Setup
from fgan.run.directory import RunDirectory
from fgan.run.members import restore

DOTS = 200  # points along a side of a density's picture


def densities(path: Path, target: str) -> Path:
    """Draw flow-<target>.png beside flow.json: the target, and each run's first seed, one row a divergence."""
    result = json.loads(path.read_text(encoding="utf-8"))
    columns = [(Setup(*c), model) for c in result["cells"] if c[0] == target for model in result["models"]]
    names = [n for n in result["names"] if any(n in rows_of(result, *column) for column in columns)]
    side, box = _axes(target)
    with plt.rc_context(STYLE):
        size = (2.5 * (len(columns) + 1), 2.3 * len(names) + 0.8)
        figure, axes = plt.subplots(len(names), len(columns) + 1, figsize=size, squeeze=False)
        truth = np.exp(_on_grid(jax.jit(EXAMPLES[target].log_prob), side))
        for line, name in zip(axes, names, strict=True):
            _density(line[0], truth, truth.max(), box)
            line[0].set_ylabel(name.replace("_", " "), fontsize=10, weight="bold")
            for axis, (setup, model) in zip(line[1:], columns, strict=True):
                row = rows_of(result, setup, model).get(name)
                if row is None or not row["seeds"]:
                    axis.axis("off")
                    continue
                _density(axis, np.exp(_model_density(path.parent / row["directory"], side)), truth.max(), box)
                own, bound = (row["seeds"][0][score] for score in ("own", "polished"))
                words = "exact ∞" if own is None else f"exact {number(own)}"
                axis.set_xlabel(words + ("" if bound is None else f", bound {number(bound)}"), fontsize=8)
        axes[0, 0].set_title("data", fontsize=10, weight="bold")
        for axis, (setup, model) in zip(axes[0, 1:], columns, strict=True):
            axis.set_title(f"{setup.capacity} flow, {result['models'][model]}", fontsize=10, weight="bold")
        figure.suptitle(
            f"{target.replace('_', ' ')}: densities of flows trained under each divergence, covering above, seeking "
            "below\nfirst seed; exact: the named divergence of this density, nats; the same colours everywhere",
            fontsize=11,
        )
        return save(figure, path.with_name(f"{path.stem}-{target}.png"))


def _axes(target: str) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """(the grid [DOTS², 2] of a picture, its box: left, right, bottom, top), in the target's own units."""
    drawn = np.asarray(EXAMPLES[target].sample(jax.random.key(0), 4096))
    low, high = drawn.min(0), drawn.max(0)
    margin = 0.15 * (high - low).max()
    (left, bottom), (right, top) = low - margin, high + margin
    x = np.stack(np.meshgrid(np.linspace(left, right, DOTS), np.linspace(bottom, top, DOTS)), axis=-1)
    return x.reshape(-1, 2), (left, right, bottom, top)


def _on_grid(log_density: Any, points: np.ndarray) -> np.ndarray:
    return in_blocks(log_density, points).reshape(DOTS, DOTS)


def _model_density(directory: Path, points: np.ndarray) -> np.ndarray:
    """log density [DOTS, DOTS] of a run's first seed at points in the target's own units."""
    restored = restore(directory, 0)
    offset, scale = restored.data.offset, restored.data.scale
    return _on_grid(laws(restored)[1].density, (points - offset) / scale) - np.log(scale).sum()


def _density(axis, values: np.ndarray, top: float, box: tuple[float, float, float, float]) -> None:
    """An image of a density; the colour is its square root, so that what is faint shows, up to `top`."""
    shown = np.sqrt(np.minimum(values / top, 1.0))
    axis.imshow(shown, origin="lower", extent=box, cmap="magma_r", vmin=0.0, vmax=1.0, interpolation="nearest")
    axis.set(xticks=[], yticks=[], aspect="equal")


def gaps(path: Path) -> Path:
    """Draw flow-gap.png beside flow.json: bound and exact value over training, one panel a divergence and flow."""
    result = json.loads(path.read_text(encoding="utf-8"))
    setups = [Setup(*c) for c in result["cells"] if rows_of(result, c, "fgan")]
    names = result["names"]
    with plt.rc_context(STYLE):
        size = (2.6 * len(names), 2.3 * len(setups) + 1.0)
        figure, axes = plt.subplots(len(setups), len(names), figsize=size, squeeze=False)
        for line, setup in zip(axes, setups, strict=True):
            rows, direct = (rows_of(result, setup, model) for model in MODELS)
            for axis, name in zip(line, names, strict=True):
                axis.set_title(name.replace("_", " "), fontsize=9, weight="bold")
                if name in rows:
                    _gap(axis, RunDirectory(path.parent / rows[name]["directory"]), best(direct.get(name)))
            line[0].set_ylabel(f"{setup.title.replace(', ', chr(10))}\nnats", fontsize=8)
        for axis in axes[-1]:
            axis.set_xlabel("step", fontsize=8)
        legend_below(figure, *axes.flat)
        figure.suptitle(
            "The critic's bound (mean of the steps between two points) and the exact divergence of the averaged flow, "
            "while training, first seed",
            fontsize=11,
        )
        return save(figure, path.with_name(f"{path.stem}-gap.png"))


def _gap(axis, run: RunDirectory, fit: float) -> None:
    """One panel. A bound is missing where a step of its interval was left out, an exact value where it is infinite."""
    records = run.records("metrics.jsonl")
    bounds = [(r["step"], r["bound"][0]) for r in records if "bound" in r]
    exact = [(r["step"], r["scores"][0].get("exact")) for r in records if "scores" in r]
    styles = ({"color": PALETTE[0], "lw": 1.2}, {"color": PALETTE[1], "ls": "", "marker": "o", "ms": 4})
    labels = ("critic's bound", "exact divergence")
    values = []
    for points, style, label in zip((bounds, exact), styles, labels, strict=True):
        known = [(step, value) for step, value in points if value is not None]
        if known:
            axis.plot(*zip(*known, strict=True), label=label, **style)
            values += [value for _, value in known]
    if math.isfinite(fit):
        axis.axhline(fit, **EXACT, label="least of the direct fits")
    axis.set_yscale("log" if values and min(values) > 0.0 else "linear")
    axis.tick_params(which="both", labelsize=7)
