"""Tables of experiments: a line a divergence, scores as means ± standard errors over seeds, and the aims missed."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fgan.scores.modes import ModeScores, SubspaceScores, mean_or_none

NAMES = (
    "kl",
    "reverse_kl",
    "js",
    "jeffreys",
    "pearson",
    "neyman",
    "total_variation",
    "squared_hellinger",
    "triangular",
    "geometric_js",
    "alpha(0.5)",
)
"""The divergences that experiments compare."""

AT_MOST = ("kl",)
"""Scores whose aim is an upper limit; of the others it is a lower one, or an interval."""
WORDS = {"kl": "mode KL", "width_ratio": "width", "effective_rank": "directions"}
"""Scores by other words than their names."""


def summary(seeds: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """{score: {mean, standard_error}} over seeds; the standard error of one seed is None."""
    found = {}
    for name in names:
        values = np.array([s[name] for s in seeds if s[name] is not None], float)
        error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
        found[name] = {"mean": float(values.mean()) if len(values) else None, "standard_error": error}
    return found


def misses(row: Mapping[str, Any], aims: Mapping[str, Any]) -> list[str]:
    """The aims that some seed of the row does not reach, in words; empty if every seed reaches all."""
    if not row["seeds"]:
        return ["diverged"]
    missed = []
    for name, aim in aims.items():
        low, high = aim if isinstance(aim, Sequence) else (-math.inf, aim) if name in AT_MOST else (aim, math.inf)
        if not all(seed[name] is not None and low <= seed[name] <= high for seed in row["seeds"]):
            missed.append(WORDS.get(name, name.replace("_", " ")))
    return missed + (["skipped steps"] if row["skipped_steps"] else [])


class Column(NamedTuple):
    """A column: its heading, its width in letters, and a row's text in it."""

    heading: str
    width: int
    text: Callable[[Mapping[str, Any]], str]


def plus_minus(score: str, factor: float = 1.0, digits: int = 1) -> Callable[[Mapping[str, Any]], str]:
    """row → its mean ± standard error of a `summary`, times `factor`."""

    def text(row):
        error = row[score]["standard_error"]
        return number(row[score]["mean"], factor, digits) + ("" if error is None else f" ±{factor * error:.{digits}f}")

    return text


def number(value: float | None, factor: float = 1.0, digits: int = 1) -> str:
    """`value` times `factor` as text, a dash for None."""
    return "–" if value is None else f"{factor * value:.{digits}f}"


def lines(result: Mapping[str, Any], columns: Sequence[Column], width: int, perfect: Any = None) -> Iterator[str]:
    """The headings, after `width` letters for names, a `perfect` sampler's row, and all rows with the aims missed."""

    def cells(row):
        return "".join(f"{c.text(row):>{c.width}}" for c in columns)

    yield f"{'divergence':<{width}}" + "".join(f"{c.heading:>{c.width}}" for c in columns) + "  aims missed"
    if perfect:
        yield f"{'perfect sampler':<{width}}{cells(perfect)}"
    for row in result["rows"]:
        name = row["divergence"] + ("" if row["variant"] == "preset" else f", {row['variant']}")
        if row["seeds"]:
            notes = misses(row, result["aims"]) + ([f"void: {row['void']}"] if "void" in row else [])
            lost = sum(all(value is None for key, value in seed.items() if key != "seed") for seed in row["seeds"])
            notes += [f"{lost} of {len(row['seeds'])} seeds diverged, the others are shown"] if lost else []
            yield f"{name:<{width}}{cells(row)}  {', '.join(notes) or 'none'}"
        else:
            yield f"{name:<{width}}{'diverged':>{columns[0].width}}"


def captured(scores: ModeScores | SubspaceScores) -> dict[str, Any]:
    """How modes were captured, as JSON: the width is a mean over the modes that have one, least and greatest beside."""
    widths = scores.width_ratio[np.isfinite(scores.width_ratio)]
    return {
        "modes": scores.captured,
        "high_quality": scores.high_quality,
        "kl": scores.kl if math.isfinite(scores.kl) else None,
        "width_ratio": mean_or_none(widths),
        "width_ratios": [float(widths.min()), float(widths.max())] if widths.size else None,
    }
