"""The ledgers as one JSON of aggregates, Markdown tables and a picture; no estimate is made here."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import peers, published, summaries
from benchmarks.ledger import Ledger, Row, plain
from benchmarks.summaries import CLOSE, FLOOR, LEVEL
from estimators.plot_style import PALETTE, STYLE, save
from estimators.tasks.information_tasks import GROUPS

Tables = Mapping[str, list[Row]]

TABLES: Mapping[str, Mapping[str, Callable[[list[Row]], list[Row]]]] = {
    "shift": {"by task": summaries.by_task},
    "divergences": {"by divergence": summaries.by_divergence, "by task": summaries.by_task},
    "coverage": {"intervals": summaries.coverage, "tests": summaries.tests},
    "kinds": {"intervals": summaries.coverage, "by task": summaries.kinds},
    "small": {
        "by n": summaries.small,
        "by n and dimension": lambda rows: summaries.small(rows, "task"),
        "published": lambda rows: [*summaries.squared(rows, published.BANDS), *published.from_few_rows()],
    },
    "mutual-information": {
        "all tasks": summaries.information,
        "published": lambda rows: published.of_the_forty(),
        "by task": summaries.by_information,
    },
    "products": {"all tasks": summaries.information, "by task": summaries.by_information},
    "convergence": {
        "all tasks": summaries.information,
        "by task": lambda rows: summaries.by_information(rows, published.CONVERGENCE),
    },
    "bmi2": {"all tasks": summaries.information, "by task": summaries.by_information},
    "chasm": {"by task": summaries.by_task},
    "scale": {"large": summaries.large},
    "staircase": {"by task": summaries.by_task, "the library's own": summaries.own_words},
    "peers": {
        "kl": lambda rows: summaries.frontier(rows, "kl"),
        "mutual information": lambda rows: summaries.frontier(rows, "mutual_information"),
        "by task": summaries.by_task,
    },
}
"""Suite → title → the summary its table shows."""

ABOUT = {
    "shift": "N(0, I) against N(½·1, I), KL d/8 nats.",
    "divergences": "Every task of the split. Relative errors where the truth is positive and finite.",
    "coverage": f"Share of {100 * LEVEL:.0f} % intervals that hold the truth, on tasks with KL at most 3 nats in at "
    "most 20 dimensions, P = Q among them; infinite truths are counted apart.",
    "kinds": f"Ten kinds of rows: categories, counts, atoms beside densities, mixed tables, rounded, bounded and "
    f"heavy-tailed numbers, series and groups. `below` and `above` count intervals that missed the truth on that side, "
    f"`open` those without an upper end, which have no width; a line is flagged where under {100 * FLOOR:.0f} % hold "
    "the truth.",
    "small": "Mutual information from 10 to 500 pairs in 2 to 32 columns of x and z together, 35 laws of "
    "`estimators.tasks.random_pairs` in each dimension. ksg is the estimate by three nearest neighbours (Kraskov et "
    "al. 2004) on the same samples. The published errors are those of Gritsai et al. 2025 on their own laws, whose "
    "families these resemble: they say how large errors are in this setting, and not which method is better.",
    "mutual-information": "The forty tasks of Czyż et al. 2023 (Beyond Normal).",
    "products": "Products of scalar pairs, also after a rotation of X and one of Z; copulas and mixtures of two; "
    "X = f(Z) + noise through a random network.",
    "convergence": "2k nats in k pairs, the grid of mutinfo. Beside ours, what it published for InfoNCE and MINE: "
    "10,000 rows to train on, 100,000 more to evaluate on.",
    "bmi2": "Version 2 of the benchmark of Czyż et al. (2025): 26 tasks, half of them bent mixtures of Gaussians.",
    "chasm": "Blocks of correlation 0.795 against N(0, I): KL grows as d/4 nats, out of one classifier's reach.",
    "scale": "One estimate in a process of its own, compiling included.",
    "staircase": "Mutual information of correlated Gaussians in 20 + 20 dimensions that climbs from 2 to 10 nats.",
    "peers": "Every way of estimating on the same samples; mean absolute error over the tasks, seconds an estimate.",
}


def write(folder: str | Path, names: Sequence[str]) -> list[Path]:
    """Write estimation.json, .md and .png of the ledgers in `folder`; their paths."""
    folder = Path(folder)
    rows = {name: Ledger(folder, name).rows() for name in names}
    rows = {name: found for name, found in rows.items() if found}
    tables = {name: {title: make(found) for title, make in TABLES[name].items()} for name, found in rows.items()}
    failed = {name: summaries.failures(found) for name, found in rows.items()}
    hosts = summaries.machines([row for found in rows.values() for row in found])
    facts = {"date": datetime.date.today().isoformat(), "machines": hosts, "suites": tables, "failures": failed}
    paths = [folder / f"estimation.{ending}" for ending in ("json", "md", "png")]
    folder.mkdir(parents=True, exist_ok=True)
    paths[0].write_text(json.dumps(plain(facts), indent=1, allow_nan=False) + "\n")
    paths[1].write_text(markdown(tables, failed, hosts))
    with plt.rc_context(STYLE):
        save(picture(tables), paths[2])
    return paths


# --- Markdown --------------------------------------------------------------------------------------------------------
HEADINGS = {
    "absolute": "mean abs. error",
    "bias_error": "± bias",
    "median_relative": "median rel. error",
    "in_standard_errors": "error in s.e.",
    "first_seconds": "first call, s",
    "seconds": "s",
    "covered_error": "± covered",
    "closed_covered": "covered, not open",
    "mse": "mean sq. error",
    "ksg_mse": "mean sq. error, ksg",
    "median_squared": "median sq. error",
    "ksg_median_squared": "median sq. error, ksg",
    "inside": "mean sq. error, families learned from",
    "outside": "mean sq. error, other families",
    "worst_task": "on",
    "close": f"within {CLOSE}",
    "found": f"within {CLOSE}, or interval holds",
    "lower_bound": "'lower bound only'",
    "open": "no upper end",
    "truth_error": "± truth",
    "gibibytes": "peak GiB",
    "before_gibibytes": "GiB before",
    "rejected_error": "± rejected",
    "infinite": "tasks with infinite truth",
    "infinite_covered": "of them covered",
}
SHARES = {
    "covered",
    "covered_error",
    "closed_covered",
    "worst",
    "median_relative",
    "rejected",
    "rejected_error",
    "infinite_covered",
    "found",
}


def markdown(tables: Mapping[str, Tables], failed: Mapping[str, list[Row]], hosts: list[Row]) -> str:
    """The whole report as text."""
    parts = [
        "# Estimation benchmark",
        "Nats and seconds. Written by `python -m benchmarks.estimation`.",
        "![](estimation.png)",
    ]
    parts += [_lines([f"{h['machine']}: {h['runs']} runs, {h['from']} to {h['to']}" for h in hosts])]
    for name, found in tables.items():
        parts += [f"## {name}", ABOUT[name]]
        for title, lines in found.items():
            parts += [f"### {title}", table(lines, shares=name not in GROUPS)] if lines else []
        if failed[name]:
            failures = [
                f"{f['method']}, {f['runs']} runs ({', '.join(f['tasks'])}): {f['reason']}" for f in failed[name]
            ]
            parts += ["### no result", _lines(failures)]
    return "\n\n".join(parts) + "\n"


def table(lines: Sequence[Row], *, shares: bool = True) -> str:
    """A Markdown table, a column a key; shares in per cent."""
    keys = [key for key in lines[0] if any(not _unknown(line.get(key)) for line in lines)]
    percent = SHARES if shares else SHARES - {"worst"}
    header = [HEADINGS.get(key, key.replace("_", " ")) for key in keys]
    body = [[_entry(line.get(key), key in percent) for key in keys] for line in lines]
    rule = ["---" if isinstance(lines[0].get(key), str) else "--:" for key in keys]
    return "\n".join("| " + " | ".join(entries) + " |" for entries in [header, rule, *body])


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _entry(value: Any, percent: bool) -> str:
    if _unknown(value):
        return "–"
    if isinstance(value, float):
        text = f"{100.0 * value:.1f} %" if percent else f"{value:.3g}" if abs(value) < 1000.0 else f"{value:,.0f}"
        return text.replace("inf", "∞").replace("-", "−")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value).replace("|", "\\|")


def _lines(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


# --- the picture -----------------------------------------------------------------------------------------------------
OURS, THEIRS = PALETTE[0], PALETTE[1]
QUIET = "#8A8A8A"


def picture(tables: Mapping[str, Tables]) -> Figure:
    """Error against time for kl and mutual information; below, coverage by divergence and the error by dimension."""
    figure, axes = plt.subplots(2, 2, figsize=(11.5, 8.6), height_ratios=(1.25, 1.0))
    peer = tables.get("peers", {})
    _frontier(axes[0, 0], peer.get("kl", []), "KL divergence")
    _frontier(axes[0, 1], peer.get("mutual information", []), "Mutual information")
    _coverage(axes[1, 0], tables.get("coverage", {}).get("intervals", []))
    _reach(axes[1, 1], [*tables.get("divergences", {}).get("by task", []), *tables.get("chasm", {}).get("by task", [])])
    return figure


def _frontier(axis: Axes, lines: list[Row], title: str) -> None:
    """A labelled marker a method, log-log: low and left is better; hollow where it failed on some of the tasks."""
    axis.set_title(title, loc="left", fontweight="bold")
    lines = [line for line in lines if line["absolute"] > 0.0 and line["seconds"] > 0.0]
    if not lines:
        return _nothing(axis)
    foreign = {m for kind in ("kl", "mutual-information") for m in peers.methods(kind)}
    for line in lines:
        colour, marker = (THEIRS, "s") if line["method"] in foreign else (OURS, "o")
        whole = line["tasks"] == line["of"]
        face = colour if whole else "white"
        axis.plot(line["seconds"], line["absolute"], marker, color=colour, mfc=face, ms=9, mew=1.6, clip_on=False)
    most = max(line["of"] for line in lines)
    axis.set(xscale="log", yscale="log", xlabel=f"seconds an estimate, mean of {most} tasks")
    axis.set_ylabel("mean absolute error, nats")
    axis.margins(0.28, 0.12)
    axis.grid(True, which="major", color="#E6E6E6", lw=0.8)
    axis.set_axisbelow(True)
    _spell_out(axis)
    _label(axis, lines)
    for colour, marker, text in ((OURS, "o", "this library"), (THEIRS, "s", "other packages")):
        axis.plot([], [], marker, color=colour, ms=7, label=text)
    _legend(axis)
    return None


def _legend(axis: Axes) -> None:
    """In the title's line, on the right."""
    distances = {"borderaxespad": 0.2, "handletextpad": 0.3, "columnspacing": 1.0}
    axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, **distances)


def _spell_out(axis: Axes) -> None:
    """Plain numbers at 1, 2, 5 of each decade, at most six an axis."""
    for side, (low, high) in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for leading in ((1, 2, 5), (1, 3), (1,)):
            ticks = [d * 10.0**k for k in decades for d in leading if low <= d * 10.0**k <= high]
            if len(ticks) <= 6:
                break
        side.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        side.set_ticks([], minor=True)


def _label(axis: Axes, lines: list[Row]) -> None:
    """Names beside the markers, each moved up or down until it covers no name and no marker."""
    axis.figure.canvas.draw()
    points = axis.transData.transform([(line["seconds"], line["absolute"]) for line in lines])
    pixel = axis.figure.dpi / 72.0
    height, taken = 11.0 * pixel, [(x - 6 * pixel, y - 6 * pixel, x + 6 * pixel, y + 6 * pixel) for x, y in points]
    frame = axis.get_window_extent()
    for i in np.argsort(points[:, 1]):
        line, (x, y) = lines[i], points[i]
        text = line["method"] if line["tasks"] == line["of"] else f"{line['method']} ({line['tasks']} of {line['of']})"
        width = 5.6 * pixel * len(text)
        places = [(side, step) for step in (0, 1, -1, 2, -2, 3, -3) for side in (1, -1)]
        for side, step in places:
            left = x + 9 * pixel if side > 0 else x - 9 * pixel - width
            box = (left, y + step * height - height / 2, left + width, y + step * height + height / 2)
            free = all(box[2] < t[0] or box[0] > t[2] or box[3] < t[1] or box[1] > t[3] for t in taken)
            if free and frame.x0 < box[0] and box[2] < frame.x1:
                break
        else:
            side, step, box = 1, 0, taken[i]
        taken.append(box)
        axis.annotate(
            text,
            (line["seconds"], line["absolute"]),
            xytext=(side * 8, step * 11),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=9,
            fontweight="bold" if line["method"] == "auto" else "normal",
        )


def _coverage(axis: Axes, lines: list[Row]) -> None:
    """A bar a divergence from the nominal level to the share covered, with its binomial error and the worst task."""
    axis.set_title(f"Coverage of {100 * LEVEL:.0f} % intervals", loc="left", fontweight="bold")
    lines = [line for line in lines if line["method"] == "auto"] or lines[:8]
    if not lines:
        return _nothing(axis)
    most = max(line["n"] for line in lines)
    lines = [line for line in lines if line["n"] == most and line["intervals"]]
    at, shares = np.arange(len(lines)), 100 * np.array([line["covered"] for line in lines])
    spread = 100 * 1.96 * np.array([line["covered_error"] for line in lines])
    worst = 100 * np.array([line["worst"] for line in lines])
    axis.bar(at, shares - 100 * LEVEL, bottom=100 * LEVEL, width=0.62, color=PALETTE[5], zorder=2, label="all tasks")
    low, high = np.minimum(spread, shares), np.minimum(spread, 100.0 - shares)
    axis.errorbar(at, shares, [low, high], fmt="none", ecolor="black", capsize=3, lw=1.2, zorder=3)
    axis.plot(at, worst, "v", color=PALETTE[1], ms=7, zorder=4, label="worst task")
    axis.axhline(100 * LEVEL, color="black", lw=1.2, zorder=3)
    axis.set_xticks(at, [line["divergence"].replace("_", "\n") for line in lines], fontsize=8.5)
    axis.set_ylim(max(0.0, 10.0 * math.floor(min(worst.min(), 80.0) / 10.0 - 0.1)), 101.0)
    axis.set_ylabel("held the truth, %")
    axis.set_xlabel(f"{max(line['intervals'] for line in lines):,} intervals a divergence, n = {most:,}")
    _legend(axis)
    return None


def _reach(axis: Axes, lines: list[Row]) -> None:
    """Estimated against true KL, a point a task, on the diagonal where right."""
    axis.set_title("KL, true and estimated", loc="left", fontweight="bold")
    lines = [line for line in lines if line["divergence"] == "kl" and line["method"] == "auto"]
    lines = [line for line in lines if 0.0 < line["truth"] < math.inf and math.isfinite(line["bias"])]
    lines = list({line["task"]: line for line in lines}.values())  # chasm's own rows, the larger samples, come last
    if not lines:
        return _nothing(axis)
    truth = np.array([line["truth"] for line in lines])
    found = np.maximum(truth + np.array([line["bias"] for line in lines]), 0.02)
    far = np.array([line["task"].startswith("chasm") for line in lines])
    axis.plot([0.02, 60.0], [0.02, 60.0], color="black", lw=1, ls=(0, (3, 2)), zorder=1)
    for these, colour, marker, text in (
        (~far, OURS, "o", f"{np.sum(~far)} tasks"),
        (far, PALETTE[2], "D", "chasm"),
    ):
        if these.any():
            axis.plot(truth[these], found[these], marker, color=colour, ms=6, alpha=0.85, label=text)
    low, high = 0.7 * min(truth.min(), found.min()), 1.4 * max(truth.max(), found.max())
    axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel="true KL, nats", ylabel="estimate")
    _spell_out(axis)
    _legend(axis)
    return None


def _nothing(axis: Axes) -> None:
    axis.text(0.5, 0.5, "not measured yet", transform=axis.transAxes, ha="center", va="center", color=QUIET)
    axis.set_axis_off()
