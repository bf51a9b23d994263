"""Pictures, drawn from the files a run has written and never from the live loop.

    training   a run's bound (and exact divergence, where it is known) against steps
    samples    what the generator makes at a step: a grid of images, points over modes, or a histogram
    modes      the covering-to-seeking picture of `fgan reproduce modes`
    capture    samples over modes, one panel a divergence, of `fgan reproduce ring | grid`
    film       the same generators while they train, one row a divergence
    high_dimensional   the plane of the means and the distances within and off subspaces, one row a divergence
    sweep      scores of `fgan sweep` against a swept field, one line a value of the others
    dirac      phase portraits of `fgan reproduce dirac`, one row a divergence, one column a penalty

One palette for the whole project (Okabe & Ito), which colour-blind readers can tell apart.

Layer 6: imports matplotlib, estimators.distributions.examples, estimators.distributions.subspaces and fgan.config.schema.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler

from estimators.distributions.curves import Curve
from estimators.distributions.examples import MIXTURES, RIDGE, TARGETS, Mixture
from estimators.distributions.subspaces import SUBSPACES, SubspaceMixture
from fgan.config.schema import from_toml

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=PALETTE),
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "savefig.dpi": 130,
}
DATA = "#8A8A8A"  # the target, in every picture
EXACT = {"color": "black", "lw": 1, "ls": (0, (3, 2))}  # the exact optimum, in every picture


def training(run: str | Path, metric: str = "bound") -> Path:
    """Draw figures/training.png of a run: a metric against steps, one line a seed, exact values beside it."""
    run = Path(run)
    config = from_toml((run / "config.toml").read_text())
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [r for r in records if metric in r]
    scored = [r for r in records if "scores" in r]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3.6))
        steps = [r["step"] for r in lines]
        bounds = np.array([r[metric] for r in lines], dtype=float)
        for i, values in enumerate(bounds.T):
            label = f"{metric} on the batch" if i == 0 else None
            axis.plot(steps, values, color=PALETTE[0], alpha=0.8 if len(bounds.T) == 1 else 0.45, lw=1, label=label)
        if scored and "exact" in scored[0]["scores"][0]:
            at = [r["step"] for r in scored]
            exact = np.array([[s.get("exact") for s in r["scores"]] for r in scored], dtype=float)
            axis.plot(at, exact[:, 0], "o", ms=4, color=PALETTE[1], label="exact divergence")
            axis.plot(at, exact[:, 1:], "o", ms=4, color=PALETTE[1])
            axis.axhline(scored[0]["scores"][0]["optimum"], color=PALETTE[2], ls="--", label="exact optimum")
        low, high = np.nanpercentile(bounds, [1, 99])
        axis.set_ylim(min(0.0, low), 1.15 * high if high > 0 else None)
        axis.set(xlabel="step", ylabel="nats", title=f"{config.divergence} on {config.data.name}")
        axis.legend(frameon=False)
        return _save(figure, run / "figures" / "training.png")


def samples(run: str | Path, step: int) -> Path:
    """Draw figures/samples-<step>.png of a run, from the samples its evaluation saved."""
    run = Path(run)
    config = from_toml((run / "config.toml").read_text())
    drawn = np.load(run / "samples" / f"{step:08d}.npy", allow_pickle=False)
    facts = json.loads((run / "data.json").read_text())
    title = f"{config.divergence}, step {step}"
    with plt.rc_context(STYLE):
        if facts["side"]:
            figure = _images(drawn[0], facts["side"], title)
        elif facts["dim"] == 1:
            figure = _histogram(drawn, config.data.name, title)
        else:
            figure = _points(drawn, config.data.name, title)
        return _save(figure, run / "figures" / f"samples-{step:08d}.png")


def modes(path: str | Path) -> Path:
    """Draw modes.png beside a modes.json: every fit from covering to seeking, two modes from two starts, the plane."""
    path = Path(path)
    result = json.loads(path.read_text(encoding="utf-8"))
    fitted = (r for r in result["rows"] if r["sigma"] is not None)
    rows = sorted(fitted, key=lambda r: -round(r["optimum"]["sigma"], 6))  # multiples of one row keep the table's order
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(12.5, 12.2))
        parts: Any = figure.subfigures(2, 1, height_ratios=(8.6, 3.6))
        line, plane = parts
        halves = line.subfigures(1, 2, width_ratios=(1.45, 1.0))
        _ridges(halves[0], rows)
        _two_modes(halves[1], result["two_modes"])
        _plane(plane, result["plane"])
        return _save(figure, path.with_suffix(".png"))


def _ridges(figure, rows) -> None:
    """One strip a divergence, widest fit first: target, learned density, exact optimum."""
    x = np.linspace(-5.0, 7.5, 600)
    target = np.exp(np.asarray(MIXTURES["mixture_1d"].log_prob(x)))
    axes = figure.subplots(len(rows), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    figure.suptitle("A Gaussian fitted to two unequal modes, from covering to seeking", fontsize=12)
    widths = [r["sigma"] for r in rows]
    for axis, r in zip(axes, rows, strict=True):
        shade = (max(widths) - r["sigma"]) / max(max(widths) - min(widths), 1e-9)
        colour = plt.get_cmap("viridis")(0.85 * shade)
        axis.fill_between(x, target, color=DATA, alpha=0.35, lw=0, label="target (data)")
        axis.plot(x, _gaussian(x, r["mu"], r["sigma"]), color=colour, lw=2.6, label="learned by the f-GAN")
        best = r["optimum"]
        axis.plot(x, _gaussian(x, best["mu"], best["sigma"]), **EXACT, label="exact optimum")
        axis.set(yticks=[], xlim=(x[0], x[-1]), ylim=(0, 0.56))
        axis.spines["left"].set_visible(False)
        axis.text(0.005, 0.42, r["divergence"].replace("_", " "), transform=axis.transAxes, fontsize=10, weight="bold")
        numbers = f"σ = {r['sigma']:.3f}   (exact {best['sigma']:.3f})\nexcess {r['excess']:.0e} nats"
        axis.text(0.995, 0.38, numbers, transform=axis.transAxes, ha="right", fontsize=8)
    for axis, word, height, side in ((axes[0], "covers", 1.0, "bottom"), (axes[-1], "seeks", -0.1, "top")):
        axis.annotate(word, (0, height), xycoords="axes fraction", fontsize=9, style="italic", color=DATA, va=side)
    axes[-1].set_xlabel("x")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)


def _two_modes(figure, fits) -> None:
    """Two equal modes: forward KL above, reverse KL below, each from a start on either side."""
    x = np.linspace(-6.0, 6.0, 600)
    target = np.exp(np.asarray(MIXTURES["two_modes"].log_prob(x)))
    axes = figure.subplots(2, 1, sharex=True)
    figure.suptitle("Two equal modes, two starts", fontsize=12)
    titles = {
        "kl": "KL(data‖model) spreads over both, from either start",
        "reverse_kl": "KL(model‖data) settles on the mode it starts near",
    }
    for axis, name in zip(axes, titles, strict=True):
        axis.fill_between(x, target, color=DATA, alpha=0.35, lw=0)
        shown = [r for r in fits if r["divergence"] == name and r["mu"] is not None]
        for colour, style, r in zip(PALETTE, ("-", (0, (4, 3))), shown, strict=False):
            best, start = r["optimum"], r["start"]["mu"]
            axis.plot(x, _gaussian(x, best["mu"], best["sigma"]), **EXACT, zorder=4)
            label = f"start μ = {start:+g}: learned μ = {r['mu']:+.2f}, σ = {r['sigma']:.2f}"
            axis.plot(x, _gaussian(x, r["mu"], r["sigma"]), color=colour, lw=2.6, ls=style, label=label)
            axis.plot(start, 0.0, marker="^", ms=11, color=colour, mec="white", clip_on=False, zorder=5)
        axis.set(title=titles[name], yticks=[], ylim=(0, 0.48 if name == "kl" else 0.95))
        axis.spines["left"].set_visible(False)
        axis.legend(frameon=False, loc="upper center", fontsize=9)
    axes[-1].set_xlabel("x     (▲ where the generator starts; dashed black: exact optimum)")


def _plane(figure, fits) -> None:
    """One map a divergence, widest optimum first: target, learned Gaussian, exact optimum, both at 1σ and 2σ."""
    x = np.linspace(-3.6, 3.6, 121)
    points = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    density = np.exp(np.asarray(RIDGE.log_prob(points))).reshape(x.size, x.size)
    figure.suptitle("A Gaussian of any covariance: covering turns it across the ridge, seeking along it", fontsize=12)
    fits = sorted(fits, key=lambda r: -np.linalg.det(r["optimum"]["covariance"]))
    axes = figure.subplots(1, len(fits), sharex=True, sharey=True, squeeze=False)[0]
    levels = np.linspace(0.02, 1.0, 8) * density.max()
    for axis, r in zip(axes, fits, strict=True):
        axis.contourf(x, x, density, levels=levels, cmap="Greys", vmax=1.8 * density.max())
        best, verdict = r["optimum"], "diverged"
        if r["excess"] is not None:
            learned = _ellipses(r["mu"], r["covariance"])
            axis.plot(*learned, color=PALETTE[1], lw=2.6, label="learned by the f-GAN, 1σ and 2σ")
            verdict = f"exact {r['exact']:.4f}, excess {r['excess']:.0e}"
        axis.plot(*_ellipses(best["mu"], best["covariance"]), **EXACT, label="exact optimum")
        axis.plot(*r["start"]["mu"], "^", ms=5, color="black", label="start")
        axis.set(xlim=(x[0], x[-1]), ylim=(x[0], x[-1]), xticks=[], yticks=[], aspect="equal")
        axis.set_title(r["divergence"].replace("_", " "), fontsize=10, weight="bold")
        axis.set_xlabel(f"{verdict}\noptimum {best['value']:.4f} nats", fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)


def _ellipses(mu, covariance) -> np.ndarray:
    """[2, n] points one and two standard deviations from the mean of a Gaussian in the plane, NaN between the two."""
    angle = np.append(np.linspace(0.0, 2.0 * np.pi, 200), np.nan)
    circles = np.kron([1.0, 2.0], [np.cos(angle), np.sin(angle)])
    return np.array(mu)[:, None] + np.linalg.cholesky(covariance) @ circles


def capture(path: str | Path) -> Path:
    """Draw <task>.png beside a <task>.json of `fgan reproduce ring | grid`: the first seed's samples over the modes."""
    path = Path(path)
    result = json.loads(path.read_text(encoding="utf-8"))
    target, columns = MIXTURES[result["task"]], 4
    rows = -(-len(result["rows"]) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(2.9 * columns, 3.35 * rows), squeeze=False)
        for axis in axes.flat[len(result["rows"]) :]:
            axis.axis("off")
        for axis, row in zip(axes.flat, result["rows"], strict=False):
            frames = _frames(path.parent, row)
            _over_modes(axis, frames[-1][1] if frames else None, target, colour=_colour(row))
            axis.set_title(_name(row), fontsize=10, weight="bold")
            axis.set_xlabel(_verdict(row, result), fontsize=8)
        figure.get_layout_engine().set(h_pad=0.12)  # type: ignore[union-attr, call-arg]
        perfect = (
            f"{100 * result['perfect_high_quality']:.1f} % high quality (HQ), width 1, KL {result['kl_floor']:.5f}"
        )
        figure.suptitle(
            f"{result['task']}: 2,500 samples of the first seed, circles of 3σ around the modes\n"
            f"scores on 50,000 samples, mean of the seeds; a perfect sampler has {perfect}",
            fontsize=11,
        )
        return _save(figure, path.with_suffix(".png"))


def film(path: str | Path, *, frames: int = 6) -> Path:
    """Draw <task>-film.png beside a <task>.json: each cell's first seed at about `frames` steps of its training."""
    path = Path(path)
    result = json.loads(path.read_text(encoding="utf-8"))
    target = _circles(result["task"])
    strips = [(row, strip) for row in result["rows"] if (strip := _frames(path.parent, row))]
    frames = min(frames, max(len(strip) for _, strip in strips))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(strips),
            frames,
            figsize=(1.75 * frames, 1.8 * len(strips) + 0.6),
            squeeze=False,
            sharex=True,
            sharey=True,
        )
        for line, (row, strip) in zip(axes, strips, strict=True):
            chosen = [strip[round(i)] for i in np.linspace(0, len(strip) - 1, frames)]
            for axis, (step, points) in zip(line, chosen, strict=True):
                _over_modes(axis, points, target, colour=_colour(row))
                axis.set_title(f"step {step:,}", fontsize=7)
            line[0].set_ylabel(_name(row).replace(", ", "\n"), fontsize=9, weight="bold")
        figure.suptitle(f"{result['task']}: generators while they train", fontsize=11)
        return _save(figure, path.with_name(f"{path.stem}-film.png"))


def high_dimensional(path: str | Path) -> Path:
    """Draw high_dimensional.png beside its .json and .npz: a row for the target and one a cell, of the first seed.

    Left the plane where the means lie on a circle, then the distance to the nearest mean within its subspace and the
    residual off it, in σ, with the limits of high quality; grey is the perfect sampler.
    """
    path = Path(path)
    result = json.loads(path.read_text(encoding="utf-8"))
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
        drawn = {name: file[name] for name in file.files}
    strips = [("perfect sampler", DATA, "perfect", result["perfect"])]
    strips += [(_name(row), _colour(row), row["directory"], row) for row in result["rows"]]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(strips), 3, figsize=(10.5, 2.35 * len(strips)), squeeze=False, width_ratios=(1.0, 1.6, 1.6)
        )
        for (plane, inside, off), (name, colour, key, row) in zip(axes, strips, strict=True):
            found = drawn.get(key)
            _in_plane(plane, found, drawn["perfect"], SUBSPACES[result["task"]], colour)
            plane.set_ylabel(name.replace(", ", "\n"), fontsize=10, weight="bold")
            inside.set_title(_subspace_verdict(row, result), fontsize=9, loc="left")
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
        return _save(figure, path.with_suffix(".png"))


def _in_plane(axis, found: np.ndarray | None, perfect: np.ndarray, law: SubspaceMixture, colour: str) -> None:
    """Samples over those of the target and a circle of σ√r around each mean, where the means lie on a circle."""
    axis.plot(perfect[:, 0], perfect[:, 1], ".", ms=3, color=DATA, zorder=1, rasterized=True)
    if found is not None and np.isfinite(found).all():
        axis.plot(found[:, 0], found[:, 1], ".", ms=1.4, alpha=0.5, color=colour, zorder=2, rasterized=True)
    for centre in law.means @ law.plane:
        axis.add_patch(plt.Circle(centre, law.radius, fill=False, ec="black", lw=0.6, zorder=3))
    reach = 1.2 * float(np.abs(law.means @ law.plane).max()) + law.radius
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")


def _distances(axis, found: np.ndarray | None, perfect: np.ndarray, column: int, limit: float, colour: str) -> None:
    """Histograms of a distance, its limit dashed; what is beyond twice the limit stands in the last bin."""
    bins = np.linspace(0.0, 2.0 * limit, 81)
    for rows, style in ((perfect, {"color": DATA}), (found, {"color": colour, "alpha": 0.7})):
        if rows is not None and np.isfinite(rows).all():
            shares = np.full(len(rows), 1.0 / len(rows))
            axis.hist(np.minimum(rows[:, column], bins[-1]), bins=bins, weights=shares, **style)
    axis.axvline(limit, **EXACT)
    axis.set(xlim=(0.0, bins[-1]), yscale="log", ylim=(3e-4, 1.5))
    axis.set_xticks([0, 0.5 * limit, limit, 1.5 * limit, 2 * limit])
    axis.set_xticklabels(["0", *(f"{v * limit:.3g}" for v in (0.5, 1.0, 1.5)), f"≥ {2 * limit:.3g}"])
    axis.set_ylabel("share", fontsize=8)


def _subspace_verdict(row: dict[str, Any], result: dict[str, Any]) -> str:
    if "seeds" in row and not row["seeds"]:
        return "diverged"
    scores = {k: row[k]["mean"] if isinstance(row[k], dict) else row[k] for k in row}
    width, rank = (
        "–" if scores[k] is None else f"{scores[k]:.{d}f}" for k, d in (("width_ratio", 2), ("effective_rank", 0))
    )
    return (
        f"{scores['modes']:g} of {result['target']['modes']} modes, {100 * scores['high_quality']:.1f} % HQ, "
        f"width {width} in {rank} directions"
    )


def dirac(path: str | Path) -> Path:
    """Draw dirac.png beside a dirac.json: (θ, ψ) as they move, the linear prediction and its eigenvalues beside."""
    path = Path(path)
    result = json.loads(path.read_text(encoding="utf-8"))
    rows = [(row, shown) for row in result["rows"] if (shown := [c for c in row["cells"] if "path" in c])]
    order = sorted(rows, key=lambda pair: -pair[0]["curvature"])
    columns = max(len(shown) for _, shown in rows)
    with plt.rc_context(STYLE):
        size = (2.35 * columns, 2.85 * len(rows) + 0.9)
        figure, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False, sharex=True, sharey=True)
        for line, (row, shown) in zip(axes, order, strict=True):
            for axis, cell in zip(line, shown, strict=True):
                _portrait(axis, cell, result["start"])
            line[0].set_ylabel(f"{row['divergence'].replace('_', ' ')}, κ = {row['curvature']:g}\nψ", weight="bold")
        for axis, cell in zip(axes[0], rows[0][1], strict=True):
            axis.set_title(cell["penalty"].replace("_", " "), fontsize=10, weight="bold")
        for axis in axes[-1]:
            axis.set_xlabel("θ\n" + axis.get_xlabel(), fontsize=8)
        figure.suptitle(
            "Dirac-GAN: data a point at 0, model a point at θ, critic ψx; eigenvalues at the goal, "
            f"predicted −λw ± √(λ²w² − κ²), λ = {result['weight']:g}\n"
            f"each panel lasts {result['turns']} turns of its unregularised game",
            fontsize=11,
        )
        handles = {label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels())}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
        return _save(figure, path.with_suffix(".png"))


def _portrait(axis, cell: dict[str, Any], start: list[float]) -> None:
    """One flow (θ, ψ) over its linear prediction."""
    axis.plot(*np.transpose(cell["path"]), color=PALETTE[0], lw=1.6, label="measured flow")
    if "path_from_near" in cell:
        axis.plot(*np.transpose(cell["path_from_near"]), color=PALETTE[4], lw=1.2, label="flow from beside the goal")
    axis.plot(*np.transpose(cell["predicted_path"]), **EXACT, label="predicted, linear")
    axis.plot(*start, "^", ms=7, color=PALETTE[1], mec="white", label="start", zorder=5, ls="none")
    axis.plot(0.0, 0.0, "+", ms=9, mew=2, color=PALETTE[2], label="goal", zorder=5, ls="none")
    axis.set(xlim=(-1.75, 1.75), ylim=(-1.75, 1.75), aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    axis.set_xlabel(_rates(cell), fontsize=8)


def _rates(cell: dict[str, Any]) -> str:
    """Measured over predicted numbers of a portrait, as text."""
    if cell["predicted"] is None:
        both = cell["cycle"]
        return f"cycle |θ|, measured {both['measured']:.3f}\npredicted (c' = κ) {both['predicted']:.3f}"
    real, turn = ({key: cell[key][1][i] for key in ("flow", "predicted")} for i in (0, 1))
    numbers = {key: f"{real[key] + 0.0:.4f} ± {turn[key]:.4f}i".replace("-", "−") for key in real}
    numbers = {key: text.replace("−0.0000", "0.0000") for key, text in numbers.items()}
    return f"measured {numbers['flow']}\npredicted {numbers['predicted']}"


SCORES = {
    "mode_kl": "mode_kl_floor",
    "curve_kl": "curve_kl_floor",
    "high_quality": "high_quality_of_perfect",
    "exact": "optimum",
    "class_kl": "class_kl_floor",
    "precision": "held_out_samples.precision",
    "recall": "held_out_samples.recall",
}
"""Scores that a sweep's picture shows, the first two that it has, and where a perfect generator's stand.

`exact` is drawn less its optimum, which no two divergences share."""


def sweep(path: str | Path) -> Path:
    """Draw sweep.png beside a results.csv: scores against the first numeric swept field, seeds as dots, mean as line.

    A colour a value of the first other field, a line style a combination of the rest. Diverged members are crosses
    above the axes. Dashed is a perfect generator.
    """
    path = Path(path)
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    cells = [dict(zip(header, map(_parsed, row))) for row in rows]
    fields = header[: header.index("seed")]
    numeric = (name for name in fields if all(type(cell[name]) in (int, float) for cell in cells))
    across = next(numeric, fields[0])
    for cell in cells:
        if cell.get("exact") is not None:
            cell["exact"] -= cell["optimum"]
    shown = [score for score in SCORES if any(cell.get(score) is not None for cell in cells)][:2] or ["bound"]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(shown), figsize=(1.5 + 4.6 * len(shown), 4.2), squeeze=False, sharex=True)
        for axis, score in zip(axes[0], shown):
            _swept(axis, cells, across, [name for name in fields if name != across], score)
        figure.suptitle(f"{len(cells)} members; dots are seeds, lines their means", fontsize=10)
        handles = {text: handle for axis in axes.flat for handle, text in zip(*axis.get_legend_handles_labels())}
        figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=8)
        return _save(figure, path.with_name("sweep.png"))


def _parsed(text: str) -> Any:
    """A value of results.csv: number, list, truth, text, or None where it is empty."""
    try:
        value = json.loads(text) if text else None
    except ValueError:
        return text
    return tuple(value) if isinstance(value, list) else value


def _swept(axis, cells: Sequence[dict[str, Any]], across: str, others: list[str], score: str) -> None:
    """One score against the field `across`, a line a combination of the `others`."""
    values = list(dict.fromkeys(cell[across] for cell in cells))
    numeric = all(type(value) in (int, float) for value in values)
    place = {value: value if numeric else i for i, value in enumerate(values)}
    combined: dict[tuple, list[dict[str, Any]]] = {}
    for cell in cells:
        combined.setdefault(tuple(cell[name] for name in others), []).append(cell)
    colours, styles = (list(dict.fromkeys(key[part] for key in combined)) for part in (slice(1), slice(1, None)))
    known = (cell.get(SCORES.get(score, "")) for cell in cells if cell["state"] == "finished")
    perfect = [value for value in known if value is not None]
    for i, (key, line) in enumerate(combined.items()):
        colour = PALETTE[colours.index(key[:1]) % len(PALETTE)]
        style = ("-", "--", ":", "-.")[styles.index(key[1:]) % 4]
        found = [(place[c[across]], c[score]) for c in line if c["state"] == "finished" and c.get(score) is not None]
        at = sorted({x for x, _ in found})
        means = [np.mean([y for x, y in found if x == here]) for here in at]
        axis.plot(*zip(*found), "o", ms=4, alpha=0.55, color=colour) if found else None
        text = ", ".join(f"{name.rpartition('.')[2]} {_short(value)}" for name, value in zip(others, key))
        axis.plot(at, means, style, lw=1.6, color=colour, label=text.removeprefix("divergence ") or "mean of the seeds")
        if lost := [place[c[across]] for c in line if c["state"] == "diverged"]:
            height, above = [1.03 + 0.03 * i] * len(lost), axis.get_xaxis_transform()
            axis.plot(lost, height, "x", ms=5, color=colour, transform=above, clip_on=False)
    if perfect and score != "exact":
        axis.axhline(min(perfect), **EXACT, label="a perfect generator")
    if any(cell["state"] == "diverged" for cell in cells):
        axis.plot([], [], "x", color=DATA, label="diverged")
    _scales(axis, [place[value] for value in values], [c[score] for c in cells if c.get(score) is not None])
    if not numeric:
        axis.set_xticks(range(len(values)), [_short(value) for value in values], rotation=30, ha="right")
    axis.set(xlabel=across, ylabel="exact − optimum, nats" if score == "exact" else score.replace("_", " "))


def _scales(axis, x: Sequence[float], y: Sequence[float]) -> None:
    """Logarithms where positive values span more than a factor of 20."""
    if len(x) > 1 and min(x) > 0 and max(x) > 20 * min(x):
        axis.set_xscale("log")
    if y and min(y) > 0 and max(y) > 20 * min(y):
        axis.set_yscale("log")


def _short(value: Any) -> str:
    """A swept value as text."""
    if isinstance(value, tuple):
        return " ".join(map(_short, value)) or "none"
    return f"{value:g}" if type(value) in (int, float) else str(value).replace("_", " ")


def _name(row: dict[str, Any]) -> str:
    variants = {"recipe": "", "own": ", own gradient", "plain": ", plain f-GAN"}
    return row["divergence"].replace("_", " ") + variants[row["variant"]]


def _colour(row: dict[str, Any]) -> str:
    return PALETTE[("recipe", "own", "plain").index(row["variant"])]


def _frames(directory: Path, row: dict[str, Any]) -> list[tuple[int, np.ndarray]]:
    """(step, samples [n, 2] of the first seed) at each evaluation of a cell, in order."""
    saved = sorted((directory / row["directory"] / "samples").glob("*.npy"))
    return [(int(file.stem), np.load(file, allow_pickle=False)[0]) for file in saved]


def _circles(name: str) -> Mixture:
    """The planar target `name`, or the shadow of a mixture in subspaces where its samples are drawn."""
    if name in MIXTURES:
        return MIXTURES[name]
    law = SUBSPACES[name]
    means = tuple((float(a), float(b)) for a, b in law.means @ law.plane)
    return Mixture(weights=(1.0 / law.modes,) * law.modes, means=means, sigmas=(law.radius / 3.0,) * law.modes)


def _over_modes(axis, points: np.ndarray | None, target: Mixture, colour: str) -> None:
    """Samples [n, 2] over circles of 3σ, on the same axes for every divergence."""
    for (a, b), s in zip(target.means, target.sigmas, strict=True):
        axis.add_patch(plt.Circle((a, b), 3 * s, fill=False, ec="black", lw=0.6, zorder=3))
    if points is None or not np.isfinite(points).all():
        axis.text(0.5, 0.5, "diverged", transform=axis.transAxes, ha="center")
    else:
        axis.plot(points[:, 0], points[:, 1], ".", ms=1.4, alpha=0.45, color=colour, zorder=2, rasterized=True)
    reach = 1.3 * max(abs(m) for mean in target.means for m in mean)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")


def _verdict(row: dict[str, Any], result: dict[str, Any]) -> str:
    if not row["seeds"]:
        return "diverged"
    means = {name: row[name]["mean"] for name in ("modes", "high_quality", "kl", "width_ratio")}
    kl, width = (("–" if v is None else f"{v:.{d}f}") for v, d in ((means["kl"], 4), (means["width_ratio"], 2)))
    return (
        f"{means['modes']:.1f} of {result['modes']} modes, {100 * means['high_quality']:.1f} % HQ\n"
        f"width {width}, mode KL {kl}"
    )


def _gaussian(x: np.ndarray, mu: float, sigma: float) -> np.ndarray:
    return np.exp(-0.5 * ((x - mu) / sigma) ** 2) / (sigma * math.sqrt(2.0 * math.pi))


def _images(rows: np.ndarray, side: int, title: str):
    count = min(10, math.isqrt(len(rows)))
    grid = rows[: count * count].reshape(count, count, side, side).transpose(0, 2, 1, 3).reshape(count * side, -1)
    figure, axis = plt.subplots(figsize=(5, 5.2))
    axis.imshow(grid, cmap="gray", vmin=-1, vmax=1)
    axis.set(title=title, xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return figure


def _histogram(drawn: np.ndarray, name: str, title: str):
    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    if name in TARGETS:
        x = np.linspace(drawn.min() - 1, drawn.max() + 1, 500)
        axis.fill_between(x, np.exp(np.asarray(MIXTURES[name].log_prob(x))), color=DATA, alpha=0.35, label="target")
    for i, rows in enumerate(drawn):
        label = "generator" if i == 0 else None
        axis.hist(rows[:, 0], bins=80, density=True, histtype="step", label=label, color=PALETTE[0])
    axis.set(title=title, xlabel="x", ylabel="density")
    axis.legend(frameon=False)
    return figure


def _points(drawn: np.ndarray, name: str, title: str):
    figure, axes = plt.subplots(1, len(drawn), figsize=(3.8 * len(drawn), 4), squeeze=False)
    for axis, rows in zip(axes[0], drawn, strict=True):
        axis.plot(rows[:, 0], rows[:, 1], ".", ms=1.5, alpha=0.5, color=PALETTE[0], zorder=2)
        if isinstance(curve := TARGETS.get(name), Curve):
            _tube(axis, curve)
        elif name in MIXTURES or name in SUBSPACES:
            target = _circles(name)
            for (a, b), s in zip(target.means, target.sigmas, strict=True):
                axis.add_patch(plt.Circle((a, b), 3 * s, fill=False, ec=PALETTE[1], lw=1, zorder=3))
            reach = 1.3 * max(abs(m) for mean in target.means for m in mean)
            axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
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


def _save(figure, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
    return path
