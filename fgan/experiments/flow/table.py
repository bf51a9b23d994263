"""The table trained × measured, with the gap and the excess, and the aims that a row misses."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fgan.experiments import tables
from fgan.experiments.flow.training import MODELS, NAMES, Setup

CLOSE = 0.03  # aim of the gap, a share of the exact value
EXCESS = dict.fromkeys(NAMES, 0.03) | {"js": 0.01, "squared_hellinger": 0.01}  # aims, nats
OWN_IS_LEAST = 5  # aim: so many of the six columns have their smallest value on the diagonal


def rows_of(result: dict[str, Any], setup: Sequence[str], model: str) -> dict[str, dict[str, Any]]:
    """Divergence → the row of a flow trained under it; a row that diverged has no seeds."""
    variant = "-".join((*setup, model))
    return {row["divergence"]: row for row in result["rows"] if row["variant"] == variant}


def measured(row: dict[str, Any], name: str) -> float:
    """The mean over seeds of a divergence; infinite if it is for one of them, or if none was trained."""
    values = [seed[name] for seed in row["seeds"]]
    return math.inf if None in values or not values else float(np.mean(values))


def best(row: dict[str, Any] | None) -> float:
    """The least divergence that a seed of the direct fit ended at; NaN before there is one."""
    return min((seed["own"] for seed in row["seeds"] if seed["own"] is not None), default=math.nan) if row else math.nan


def least(rows: dict[str, dict[str, Any]]) -> list[str]:
    """The divergences that are least for the flow that was trained under them."""
    own = {name: measured(rows[name], name) for name in rows}
    return [n for n in rows if math.isfinite(own[n]) and own[n] == min(measured(row, n) for row in rows.values())]


def missed(row: dict[str, Any], name: str, fit: float, own_is_least: bool, aims: dict[str, Any]) -> list[str]:
    """The aims that a row does not reach: a gap counts as too wide from two standard errors on."""
    if not row["seeds"]:
        return ["diverged"]
    wide = [
        seed["gap"] is None or seed["gap"] - 2.0 * seed["polished_error"] / seed["own"] > aims["gap"]
        for seed in row["seeds"]
    ]
    far = not measured(row, name) - fit <= aims["excess"][name]
    return ["gap"] * any(wide) + ["excess"] * far + ["own is not least"] * (not own_is_least)


def text(result: dict[str, Any]) -> str:
    """Trained × measured for each flow, with the bound, the best fit, and what misses its aim, as text."""
    return "\n\n".join("\n".join(_lines(result, setup)) for setup in result["cells"] if rows_of(result, setup, "fgan"))


def _lines(result: dict[str, Any], setup: Sequence[str]) -> Iterator[str]:
    rows, direct = (rows_of(result, setup, model) for model in MODELS)
    names = [name for name in result["names"] if name in rows]
    yield f"{Setup(*setup).title}: trained under a row, measured under a column, nats, mean of the seeds"
    heads = "".join(f"{name.replace('squared_', '')[:15]:>16}" for name in names)
    yield f"{'':<19}{heads}{'bound':>10}{'polished':>10}{'gap %':>7}{'best fit':>10}{'excess':>10}  aims missed"
    own_is_least = least(rows)
    for name in names:
        row, fit = rows[name], best(direct.get(name))
        short = ", ".join(missed(row, name, fit, name in own_is_least, result["aims"])) or "none"
        if not row["seeds"]:
            yield f"{name:<19}{short:>16}"
            continue
        values = "".join(f"{_cell(row, m) + ('*' if m == name else ' '):>16}" for m in names)
        yield (
            f"{name:<19}{values}{tables.number(row['bound']['mean'], digits=4):>10}"
            f"{tables.number(row['polished']['mean'], digits=4):>10}{tables.number(row['gap']['mean'], 100):>7}"
            f"{number(fit):>10}{number(measured(row, name) - fit):>10}  {short}"
        )
    yield (
        f"*: the divergence of the training; least of its column for {len(own_is_least)} of {len(names)}, aim "
        f"{result['aims']['own_is_least']}. ~: by Monte Carlo; ~~: by one that a few draws carry, likely too small."
    )
    yield "best fit: the least of the direct fit's seeds. polished, gap: after more steps of the critic alone."


def _cell(row: dict[str, Any], name: str) -> str:
    methods = {seed["methods"][name] for seed in row["seeds"]}
    mark = "" if methods == {"quadrature"} else "~~" if any("heavy" in method for method in methods) else "~"
    return mark + number(measured(row, name))


def number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.3g}"
