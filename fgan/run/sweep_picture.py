"""The picture of a sweep: its scores against a swept field."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context

from estimators.plot_style import DATA, EXACT, PALETTE, STYLE, save, subplots, verbatim

SCORES = {
    "mode_kl": "mode_kl_floor",
    "curve_kl": "curve_kl_floor",
    "high_quality": "high_quality_of_perfect",
    "exact": "optimum",
    "likelihood.elbo": "",
    "class_kl": "class_kl_floor",
    "precision": "held_out_samples.precision",
    "recall": "held_out_samples.recall",
}
"""Scores that a sweep's picture shows, the first two that it has, and where a perfect generator's stand.

`exact` is drawn less its optimum, where that is known; no two divergences share one."""


def draw(path: Path) -> Path:
    """Draw sweep.png beside a results.csv: scores against the first numeric swept field, seeds as dots, mean as line.

    A colour a value of the first other field, a line style a combination of the rest. Diverged members are crosses
    above the axes. Dashed is a perfect generator.
    """
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    members = [dict(zip(header, map(_parsed, row))) for row in rows]
    fields = header[: header.index("seed")]
    numeric = (name for name in fields if all(type(member[name]) in (int, float) for member in members))
    across = next(numeric, fields[0])
    for member in members:
        if member.get("exact") is not None and member.get("optimum") is not None:
            member["exact"] -= member["optimum"]
    shown = [score for score in SCORES if any(member.get(score) is not None for member in members)][:2] or ["bound"]
    with rc_context(STYLE):
        figure, axes = subplots(1, len(shown), figsize=(1.5 + 4.6 * len(shown), 4.2), squeeze=False, sharex=True)
        for axis, score in zip(axes[0], shown):
            _swept(axis, members, across, [name for name in fields if name != across], score)
        figure.suptitle(f"{len(members)} members; dots are seeds, lines their means", fontsize=10)
        handles = {text: handle for axis in axes.flat for handle, text in zip(*axis.get_legend_handles_labels())}
        figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8)
        return save(figure, path.with_name("sweep.png"))


def _parsed(text: str) -> Any:
    """A value of results.csv: number, list, truth, text, or None where it is empty."""
    try:
        value = json.loads(text) if text else None
    except ValueError:
        return text
    return tuple(value) if isinstance(value, list) else value


def _swept(axis, members: Sequence[dict[str, Any]], across: str, others: list[str], score: str) -> None:
    """One score against the field `across`, a line a combination of the `others`."""
    values = list(dict.fromkeys(member[across] for member in members))
    numeric = all(type(value) in (int, float) for value in values)
    at = {value: value if numeric else i for i, value in enumerate(values)}
    combined: dict[tuple, list[dict[str, Any]]] = {}
    for member in members:
        combined.setdefault(tuple(member[name] for name in others), []).append(member)
    colours, styles = (list(dict.fromkeys(key[some] for key in combined)) for some in (slice(1), slice(1, None)))
    known = (member.get(SCORES.get(score, "")) for member in members if member["state"] == "finished")
    perfect = [value for value in known if value is not None]
    for i, (key, line) in enumerate(combined.items()):
        colour = PALETTE[colours.index(key[:1]) % len(PALETTE)]
        style = ("-", "--", ":", "-.")[styles.index(key[1:]) % 4]
        found = [(at[c[across]], c[score]) for c in line if c["state"] == "finished" and c.get(score) is not None]
        x = sorted({place for place, _ in found})
        means = [np.mean([score for place, score in found if place == here]) for here in x]
        axis.plot(*zip(*found), "o", ms=4, alpha=0.55, color=colour) if found else None
        text = ", ".join(f"{name.rpartition('.')[2]} {_short(value)}" for name, value in zip(others, key))
        axis.plot(x, means, style, lw=1.6, color=colour, label=text.removeprefix("divergence ") or "mean of the seeds")
        if lost := [at[c[across]] for c in line if c["state"] == "diverged"]:
            height, above = [1.03 + 0.03 * i] * len(lost), axis.get_xaxis_transform()
            axis.plot(lost, height, "x", ms=5, color=colour, transform=above, clip_on=False)
    if perfect and score != "exact":
        axis.axhline(min(perfect), **EXACT, label="a perfect generator")
    if any(member["state"] == "diverged" for member in members):
        axis.plot([], [], "x", color=DATA, label="diverged")
    _scales(axis, [at[value] for value in values], [c[score] for c in members if c.get(score) is not None])
    if not numeric:
        axis.set_xticks(range(len(values)), [_short(value) for value in values], rotation=30, ha="right")
    words = {"exact": "exact − optimum, nats" if perfect else "exact divergence, nats"}
    axis.set(xlabel=across, ylabel=words.get(score, score.replace("_", " ")))


def _scales(axis, x: Sequence[float], y: Sequence[float]) -> None:
    """Logarithms where positive values span more than a factor of 20."""
    for values, set_scale in ((x, axis.set_xscale), (y, axis.set_yscale)):
        if values and min(values) > 0 and max(values) > 20 * min(values):
            set_scale("log")


def _short(value: Any) -> str:
    """A swept value as text."""
    if isinstance(value, tuple):
        return " ".join(map(_short, value)) or "none"
    return f"{value:g}" if type(value) in (int, float) else verbatim(str(value).replace("_", " "))
