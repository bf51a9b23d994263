"""The picture of how a table's generated rows were judged, from a run's own files."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from estimators.plot_style import DATA, PALETTE, STYLE, save, verbatim
from fgan.run.directory import RunDirectory

ACROSS = 4  # histograms in a line


def judged(run: str | Path) -> Path | None:
    """Draw figures/judged.png of a run: the divergences to held-out rows with their 95 % intervals, those of the
    training rows beside them, and the histograms of the columns that differ most; of the first seed that did not
    diverge. None where no seed was judged at the end."""
    found = RunDirectory.find(run)
    ended = [(r["step"], s["judged"]) for r in found.records() for s in r.get("scores", ()) if "judged" in s]
    ended = [(step, scores) for step, scores in ended if "columns" in scores and step == ended[-1][0]]
    if not ended:
        return None
    step, scores = ended[0]
    columns = scores["columns"]
    lines = -(-len(columns) // ACROSS)
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 2.6 + 2.3 * lines))
        grid = figure.add_gridspec(lines + 1, ACROSS)
        _divergences(figure.add_subplot(grid[0, :2]), scores)
        facts = figure.add_subplot(grid[0, 2:])
        _facts(facts, scores)
        for i, column in enumerate(columns):
            axis = figure.add_subplot(grid[1 + i // ACROSS, i % ACROSS])
            _histogram(axis, column)
            if i == 0:
                facts.legend(*axis.get_legend_handles_labels(), fontsize=8, loc="lower left")
        figure.suptitle(f"generated rows beside rows that training never saw, step {step}")
        return save(figure, found.path / "figures" / "judged.png")


def _divergences(axis: Any, scores: dict[str, Any]) -> None:
    names = [name for name in scores if f"{name}_low" in scores]
    rows = (("generated rows", scores, PALETTE[0], 0.12), ("training rows", scores["training_rows"], DATA, -0.12))
    for label, found, colour, shift in rows:
        for i, name in enumerate(names):
            value, low, high = (found.get(key) for key in (name, f"{name}_low", f"{name}_high"))
            if value is None:
                continue
            low, open_end = value if low is None else low, high is None
            high = value if high is None else high
            y = len(names) - i + shift
            axis.plot([low, high], [y, y], color=colour, lw=2)
            axis.plot([value], [y], "o", color=colour, ms=5, label=label if i == 0 else None)
            if open_end:
                axis.annotate("∞", (high, y), color=colour, va="center", xytext=(4, 0), textcoords="offset points")
    axis.axvline(0.0, color="black", lw=0.6)
    axis.set(yticks=range(len(names), 0, -1), ylim=(0.4, len(names) + 0.6), xlabel="nats, to held-out rows, 95 %")
    axis.set_yticklabels([verbatim(name.replace("_", " ")) for name in names])
    if names:
        axis.legend(fontsize=8, loc="best")
    else:
        axis.text(0.5, 0.5, verbatim(scores.get("not_estimated", "")), transform=axis.transAxes, ha="center", wrap=True)


def _facts(axis: Any, scores: dict[str, Any]) -> None:
    axis.axis("off")
    said = [
        f"largest KS of a column: {scores['ks']:.3f} ({verbatim(scores['ks_column'])})",
        f"largest error of a correlation: {scores['correlation_error']:.3f}",
        f"mass lost: {100 * scores['lost_mass']:.1f} %, invented: {100 * scores['invented_mass']:.1f} %",
    ]
    if scores.get("p_value") is not None:
        said.append(f"two-sample test: p = {scores['p_value']:.3f}")
    axis.text(0.02, 0.62, "\n".join(said), va="center", fontsize=10, linespacing=1.7)


def _histogram(axis: Any, column: dict[str, Any]) -> None:
    real, made = np.array(column["real"]), np.array(column["generated"])
    if "categories" in column:
        x = np.arange(len(real))
        axis.bar(x, real, color=DATA, alpha=0.5, label="held-out and training rows")
        axis.plot(x, made, "o", color=PALETTE[0], ms=4, label="generated rows")
        axis.set_xticks(
            x, [verbatim(str(word)[:10]) for word in column["categories"]], rotation=45, ha="right", fontsize=7
        )
    else:
        axis.stairs(real, column["edges"], fill=True, color=DATA, alpha=0.5, label="held-out and training rows")
        axis.stairs(made, column["edges"], color=PALETTE[0], lw=1.4, label="generated rows")
        if column["dates"]:  # matplotlib counts days since 1970 too
            axis.xaxis_date()
            axis.xaxis.set_major_formatter(ConciseDateFormatter(axis.xaxis.get_major_locator()))
    axis.set_title(f"{verbatim(column['name'][:24])}, KS {column['ks']:.3f}", fontsize=9)
    axis.set_yticks([])
    axis.tick_params(labelsize=7)
