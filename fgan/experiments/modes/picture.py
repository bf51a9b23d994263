"""The fits as a picture, from covering to seeking."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

from estimators.distributions.examples import MIXTURES, RIDGE
from estimators.plot_style import DATA, EXACT, PALETTE, STYLE, legend_below, save
from fgan.experiments import plots


def draw(path: Path) -> Path:
    """Draw modes.png beside a modes.json: every fit from covering to seeking, two modes from two starts, the plane."""
    result = json.loads(path.read_text(encoding="utf-8"))
    fitted = (r for r in result["rows"] if r["sigma"] is not None)
    rows = sorted(fitted, key=lambda r: -round(r["optimum"]["sigma"], 6))  # equal optima keep the table's order
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(12.5, 12.2))
        parts: Any = figure.subfigures(2, 1, height_ratios=(8.6, 3.6))
        line, plane = parts
        left, right = line.subfigures(1, 2, width_ratios=(1.45, 1.0))
        _ridges(left, rows)
        _two_modes(right, result["two_modes"])
        _plane(plane, result["plane"])
        return save(figure, path.with_suffix(".png"))


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
        axis.plot(x, norm.pdf(x, r["mu"], r["sigma"]), color=colour, lw=2.6, label="learned by the f-GAN")
        best = r["optimum"]
        axis.plot(x, norm.pdf(x, best["mu"], best["sigma"]), **EXACT, label="exact optimum")
        axis.set(yticks=[], xlim=(x[0], x[-1]), ylim=(0, 0.56))
        axis.spines["left"].set_visible(False)
        axis.text(0.005, 0.42, r["divergence"].replace("_", " "), transform=axis.transAxes, fontsize=10, weight="bold")
        numbers = f"σ = {r['sigma']:.3f}   (exact {best['sigma']:.3f})\nexcess {r['excess']:.0e} nats"
        axis.text(0.995, 0.38, numbers, transform=axis.transAxes, ha="right", fontsize=8)
    for axis, word, height, side in ((axes[0], "covers", 1.0, "bottom"), (axes[-1], "seeks", -0.1, "top")):
        axis.annotate(word, (0, height), xycoords="axes fraction", fontsize=9, style="italic", color=DATA, va=side)
    axes[-1].set_xlabel("x")
    legend_below(figure, axes[0])


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
            axis.plot(x, norm.pdf(x, best["mu"], best["sigma"]), **EXACT, zorder=4)
            label = f"start μ = {start:+g}: learned μ = {r['mu']:+.2f}, σ = {r['sigma']:.2f}"
            axis.plot(x, norm.pdf(x, r["mu"], r["sigma"]), color=colour, lw=2.6, ls=style, label=label)
            axis.plot(start, 0.0, marker="^", ms=11, color=colour, mec="white", clip_on=False, zorder=5)
        axis.set(title=titles[name], yticks=[], ylim=(0, 0.48 if name == "kl" else 0.95))
        axis.spines["left"].set_visible(False)
        axis.legend(loc="upper center", fontsize=9)
    axes[-1].set_xlabel("x     (▲ where the generator starts; dashed black: exact optimum)")


def _plane(figure, fits) -> None:
    """One map a divergence, widest optimum first: target, learned Gaussian, exact optimum, both at 1σ and 2σ."""
    ends = (-3.6, 3.6)
    figure.suptitle("A Gaussian of any covariance: covering turns it across the ridge, seeking along it", fontsize=12)
    fits = sorted(fits, key=lambda r: -np.linalg.det(r["optimum"]["covariance"]))
    axes = figure.subplots(1, len(fits), sharex=True, sharey=True, squeeze=False)[0]
    for axis, r in zip(axes, fits, strict=True):
        plots.contours(axis, RIDGE, ends, ends)
        best, caption = r["optimum"], "diverged"
        if r["excess"] is not None:
            learned = plots.ellipses(r["mu"], r["covariance"])
            axis.plot(*learned, color=PALETTE[1], lw=2.6, label="learned by the f-GAN, 1σ and 2σ")
            caption = f"exact {r['exact']:.4f}, excess {r['excess']:.0e}"
        axis.plot(*plots.ellipses(best["mu"], best["covariance"]), **EXACT, label="exact optimum")
        axis.plot(*r["start"]["mu"], "^", ms=5, color="black", label="start")
        axis.set_title(r["divergence"].replace("_", " "), fontsize=10, weight="bold")
        axis.set_xlabel(f"{caption}\noptimum {best['value']:.4f} nats", fontsize=8)
    legend_below(figure, axes[0])
