"""The report of estimates of divergences between two sample sets, as one page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context

from estimators.advice import explanation
from estimators.plot_style import PALETTE, STYLE, attempted, subplots, verbatim
from fgan.run import html

SHOWN = ("choice", "lower_bound", "effective_sample_size_p", "effective_sample_size_q", "mean_ratio_on_q")
"""Diagnostics that stand in the table of checks first; others follow by name."""


def page(p: str, q: str, estimates: Sequence[Any], sizes: dict[str, int], confidence: float) -> str:
    """The page about D(P‖Q) of the samples called p and q."""
    warnings = list(dict.fromkeys(warning for e in estimates for warning in e.warnings))
    trust = dict.fromkeys(e.trust for e in estimates)
    concerned = {t: ", ".join(e.divergence for e in estimates if e.trust == t) for t in trust}
    said = [f"{concerned[t] if len(trust) > 1 else 'all'}: {t}" for t in trust]
    asked = f"P is {p} ({sizes['n_p']:,} rows), Q is {q} ({sizes['n_q']:,} rows), of {sizes['dim']} columns"
    head = ["divergence", "value", "low", "high", "standard error", "method"]
    rows = [[e.divergence, *map(html.number, (e.value, e.low, e.high, e.standard_error)), e.method] for e in estimates]
    return html.page(
        "How far apart are two sets of samples?",
        html.paragraph(f"{asked}. Values are in nats, intervals of {100 * confidence:g} %.", "lead"),
        html.section("What was found", html.table(head, rows), *_drawn(estimates)),
        html.section("Can it be trusted?", html.bullets(said), html.bullets(warnings, "warning"), _advice(warnings)),
        html.section("Checks", html.table(["check", "value"], _checks(estimates))),
    )


def _advice(warnings: list[str]) -> str:
    said = html.bullets(explanation(warnings))
    return html.details("What these warnings mean, and what to do", said) if warnings else ""


def _checks(estimates: Sequence[Any]) -> list[list[str]]:
    """The diagnostics of the fit behind all estimates that are numbers or words."""
    found: dict[str, Any] = {}
    for e in estimates:
        found = e.diagnostics | found
    plain = {k: v for k, v in found.items() if isinstance(v, (int, float, str)) and not isinstance(v, bool)}
    order = [*(k for k in SHOWN if k in plain), *sorted(k for k in plain if k not in SHOWN)]
    return [[name.replace("_", " "), html.number(plain[name])] for name in order]


def _drawn(estimates: Sequence[Any]) -> list[str]:
    """The intervals, and what the first fit with critics draws of itself."""
    pieces: list[str] = []
    with attempted(lambda line: pieces.append(html.paragraph(line))):
        pieces.append(html.drawn(_intervals(estimates), "values with their intervals; an arrow has no end"))
    if shown := next((e for e in estimates if e.scores is not None), None):
        with attempted(lambda line: pieces.append(html.paragraph(line))):
            pieces.append(html.drawn(shown.plot(), "log-ratios of both sets, calibration and training"))
    return pieces


def _intervals(estimates: Sequence[Any]) -> Any:
    """A line for each divergence, with its interval, in nats."""
    finite = [x for e in estimates for x in (e.value, e.low, e.high) if np.isfinite(x)]
    least, most = min([0.0, *finite]), max([0.0, *finite])
    edge = most + 0.1 * max(most - least, 1e-6)
    with rc_context(STYLE):
        figure, axis = subplots(figsize=(6.4, 0.8 + 0.34 * len(estimates)))
        for k, e in enumerate(estimates):
            if np.isfinite(e.low):
                open_end = not np.isfinite(e.high)
                axis.plot([e.low, edge if open_end else e.high], [k, k], color=PALETTE[0], lw=2)
                if open_end:
                    axis.plot([edge], [k], ">", color=PALETTE[0])
            if np.isfinite(e.value):
                axis.plot([e.value], [k], "o", color=PALETTE[1])
        axis.axvline(0.0, color="black", lw=0.6)
        axis.set(yticks=range(len(estimates)), yticklabels=[verbatim(e.divergence) for e in estimates], xlabel="nats")
        axis.set_ylim(len(estimates) - 0.5, -0.5)
    return figure
