"""The ledger of the ablation as one JSON of aggregates and a picture; nothing is trained here."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmarks import summaries
from benchmarks.ledger import Ledger, Row, plain
from benchmarks.variants import VARIANTS, configured
from estimators.plot_style import EXACT, PALETTE, STYLE, save
from fgan.config.toml import to_toml
from fgan.experiments.mode_capture import SAMPLES, SCORES, TASKS
from fgan.experiments.tables import misses, summary
from fgan.scores.modes import perfect_high_quality


def write(ledger: Ledger) -> list[Path]:
    """Write ablation.json and ablation.png beside the ledger; their paths."""
    rows = ledger.rows()
    tasks = {name: facts for name in TASKS if (facts := of_task(name, rows))}
    facts = {
        "date": datetime.date.today().isoformat(),
        "machines": summaries.machines(rows),
        "samples": SAMPLES,
        "tasks": tasks,
        "failures": summaries.failures(rows),
    }
    paths = [ledger.path.with_suffix(ending) for ending in (".json", ".png")]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    paths[0].write_text(json.dumps(plain(facts), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    with plt.rc_context(STYLE):
        save(picture(tasks), paths[1])
    return paths


def of_task(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """What is known of a task: its aims, its floors, and a line a variant and divergence; {} before it is measured.

    Of runs of different lengths, those count that are most; the others stand under `left_out`.
    """
    rows = [r for r in rows if r["task"].split(" ")[0] == name and r["method"] in VARIANTS and "reason" not in r]
    if not rows:
        return {}
    lengths = Counter(r["n"] for r in rows)
    steps = max(lengths, key=lambda n: (lengths[n], n))
    rows = [r for r in rows if r["n"] == steps]
    divergences = sorted({r["task"].partition(" ")[2] for r in rows})
    grouped = {
        (v, d): [r for r in rows if (r["method"], r["task"]) == (v, f"{name} {d}")]
        for v in VARIANTS
        for d in divergences
    }
    task = TASKS[name]
    return {
        "modes": len(task.target.means),
        "steps": steps,
        "left_out": {str(n): count for n, count in lengths.items() if n != steps},
        "aims": task.aims,
        "perfect_high_quality": perfect_high_quality(task.target.dim),
        "kl_floor": task.kl_floor,
        "settings": to_toml(configured("preset", name, divergences[0], steps=steps)),
        "divergences": divergences,
        "rows": [line(name, v, d, found) for (v, d), found in grouped.items() if found],
    }


def line(task: str, variant: str, divergence: str, rows: Sequence[Row]) -> Row:
    """Means over the seeds that did not diverge, the number that did, and the aims missed by any."""
    scored = [r for r in rows if not r["diverged"]]
    missed = misses({"seeds": scored, "skipped_steps": sum(r["skipped_steps"] for r in rows)}, TASKS[task].aims)
    diverged = len(rows) - len(scored)
    return {
        "variant": variant,
        "part": VARIANTS[variant].part,
        "says": VARIANTS[variant].says,
        "divergence": divergence,
        "seeds": len(rows),
        "diverged": diverged,
        **summary(scored, SCORES),
        "missed": ["diverged", *missed] if diverged and scored else missed,
        "seconds": float(np.mean([r["seconds"] for r in rows])),
    }


# --- the picture -----------------------------------------------------------------------------------------------------
MARKERS = "oDs^vP*X"
COLUMNS = ("modes", "high_quality", "kl", "width_ratio")
NEAR = 0.3  # % of samples that the axis of high quality opens up around 100
SHADE, QUIET = "#F3F3F3", "#6A6A6A"
AIMED: Any = {"color": "#D9EAD3", "zorder": 0.5, "lw": 0}
LANE = 0.03  # where in a panel, from its left, a value that does not exist is marked


def picture(tasks: Mapping[str, Any]) -> Figure:
    """A row a variant, a dot a divergence: modes, high quality, mode KL and width; the preset's values run through."""
    if not tasks:
        figure, axis = plt.subplots(figsize=(6, 2))
        axis.text(0.5, 0.5, "not measured yet", ha="center", va="center", color=QUIET)
        axis.set_axis_off()
        return figure
    heights = [len(_variants(facts)) + 3.0 for facts in tasks.values()]
    figure, axes = plt.subplots(
        len(tasks), 4, squeeze=False, sharey="row", figsize=(13.0, 0.26 * sum(heights) + 1.0), height_ratios=heights
    )
    names = sorted({d for facts in tasks.values() for d in facts["divergences"]})
    styles = {d: {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)]} for i, d in enumerate(names)}
    for (name, facts), row in zip(tasks.items(), axes, strict=True):
        _block(row, name, facts, styles)
    figure.legend(handles=_key(styles), loc="outside upper center", ncols=len(styles) + 5, fontsize=9)
    return figure


def _variants(facts: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(r["variant"] for r in facts["rows"]))


def _block(axes: Sequence[Axes], name: str, facts: Mapping[str, Any], styles: Mapping[str, Any]) -> None:
    """The four panels of a task."""
    variants = _variants(facts)
    for column, axis in zip(COLUMNS, axes, strict=True):
        _frame(axis, column, facts)
        _shade(axis, variants, label=column == COLUMNS[-1])
        _dots(axis, column, facts, variants, styles)
    axes[0].set_yticks(range(len(variants)), variants, fontsize=9)
    axes[0].set_ylim(len(variants) - 0.4, -0.6)
    for label in axes[0].get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == "preset" else "normal")
    axes[0].set_title(f"{name}, {facts['steps']:,} steps", loc="left", fontweight="bold")


def _frame(axis: Axes, column: str, facts: Mapping[str, Any]) -> None:
    """Scale, ticks, and what a perfect sampler scores."""
    perfect: Any = EXACT | {"zorder": 1}
    axis.tick_params(axis="y", length=0)
    if column == "modes":
        k = facts["modes"]
        axis.set(xlim=(-0.1 * k, 1.03 * k), xticks=np.linspace(0, k, 5 if k % 4 == 0 else 6))
        axis.set_xlabel(f"modes captured, of {k}")
        axis.axvline(k, **perfect)
    elif column == "high_quality":
        axis.set_xscale("function", functions=(_opened, _closed))
        ticks = [0, 50, 80, 90, 95, 98, 99, 100]
        axis.set(xlim=(-60.0, 100.0))
        axis.set_xticks(ticks, [str(t) for t in ticks], fontsize=8)
        axis.set_xlabel("high quality, %")
        axis.axvspan(100 * facts["aims"]["high_quality"], 100.0, **AIMED)
        axis.axvline(100 * facts["perfect_high_quality"], **perfect)
    elif column == "kl":
        axis.set(xscale="log", xlim=(0.15 * facts["kl_floor"], 5.0), xlabel="mode KL, nats")
        axis.axvline(facts["kl_floor"], **perfect)
        axis.axvspan(axis.get_xlim()[0], facts["aims"]["kl"], **AIMED)
    else:
        widest = max((r[column]["mean"] or 0.0 for r in facts["rows"]), default=0.0)
        axis.set(xlim=(-0.12, max(1.4, 1.05 * widest)), xlabel="width ratio")
        axis.axvspan(*facts["aims"]["width_ratio"], **AIMED)
        axis.axvline(1.0, **perfect)


def _opened(percent):
    """Per cent → the axis that shows 98 and 99 apart: −log of what is missing to 100."""
    return -np.log10(np.maximum(100.0 - np.asarray(percent, float), 0.0) + NEAR)


def _closed(at):
    return 100.0 + NEAR - 10.0 ** -np.asarray(at, float)


def _shade(axis: Axes, variants: Sequence[str], *, label: bool) -> None:
    """Bands by the part of the preset that the variants are about."""
    parts = [VARIANTS[v].part for v in variants]
    for i, part in enumerate(dict.fromkeys(parts)):
        at = [j for j, p in enumerate(parts) if p == part]
        if i % 2:
            axis.axhspan(min(at) - 0.5, max(at) + 0.5, color=SHADE, zorder=0, lw=0)
        if label:
            place = axis.get_yaxis_transform()
            axis.text(1.02, min(at), part, transform=place, va="center", fontsize=8, color=QUIET, style="italic")


def _dots(
    axis: Axes, column: str, facts: Mapping[str, Any], variants: Sequence[str], styles: Mapping[str, Any]
) -> None:
    """Means with standard errors, side by side within a row; the preset's as lines from top to bottom."""
    scale = 100.0 if column == "high_quality" else 1.0
    present = facts["divergences"]
    for row in facts["rows"]:
        style, nth = styles[row["divergence"]], present.index(row["divergence"])
        y = variants.index(row["variant"]) + 0.52 * (nth - (len(present) - 1) / 2) / max(len(present) - 1, 1)
        mean, error = row[column]["mean"], row[column]["standard_error"]
        if row["diverged"] or mean is None:
            _absent(axis, y, style["color"], diverged=bool(row["diverged"]))
        if mean is None:
            continue
        x = np.clip(scale * mean, *axis.get_xlim())
        axis.errorbar(x, y, xerr=error and scale * error, ms=5, mew=0, lw=1, ls="", clip_on=False, zorder=3, **style)
        if row["variant"] == "preset":
            axis.axvline(x, color=style["color"], lw=0.9, alpha=0.55, zorder=1)


def _absent(axis: Axes, y: float, colour: str, *, diverged: bool) -> None:
    axis.plot(LANE, y, "x" if diverged else "|", color=colour, ms=6, mew=2, transform=axis.get_yaxis_transform())


def _key(styles: Mapping[str, Any]) -> list[Artist]:
    dots = [Line2D([], [], ls="", ms=6, mew=0, label=name.replace("_", " "), **style) for name, style in styles.items()]
    marks: list[Artist] = [
        Line2D([], [], ls="", marker="x", mew=2, color=QUIET, label="diverged (some seed)"),
        Line2D([], [], ls="", marker="|", mew=2, ms=8, color=QUIET, label="no sample near a mode"),
        Line2D([], [], color=QUIET, lw=1, alpha=0.6, label="the preset's value"),
        Line2D([], [], **EXACT, label="perfect sampler"),
        Patch(**AIMED, label="the aims"),
    ]
    return [*dots, *marks]
