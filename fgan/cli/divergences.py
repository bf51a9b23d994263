"""The divergence table as text: for the terminal, and for the README.

Layer 6: imports estimators.divergences.table.
"""

from __future__ import annotations

import math

from estimators.divergences.table import DIVERGENCES, divergence


def _number(x: float) -> str:
    """A limit as a person writes it."""
    named = {math.inf: "∞", -math.inf: "−∞", math.log(2.0): "log 2", 0.5 * math.log(2.0): "½ log 2"}
    named |= {-2.0 * math.log(2.0): "−log 4"}
    for value, text in named.items():
        if x == value or (math.isfinite(x) and math.isfinite(value) and abs(x - value) < 1e-12):
            return text
    return f"{x:.4g}".replace("-", "−")


def _cells(row) -> tuple[str, ...]:
    start = row.value_at_one
    reach = f"[{_number(start)}, {_number(row.upper_limit())}]"
    trained = row.default if row.smooth else "smoothed ratio"
    return row.name, row.formula, reach, trained, ", ".join(row.aliases), row.source


HEADER = ("name", "f(u)", "range", "trained by", "also called", "source and normalisation")


def divergences(*, markdown: bool = False) -> str:
    """The whole table; as Markdown if asked."""
    rows = [_cells(row) for row in DIVERGENCES.values()]
    if markdown:
        lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
        lines += ["| " + " | ".join([f"`{c[0]}`", *(cell.replace("|", "\\|") for cell in c[1:])]) + " |" for c in rows]
        return "\n".join(lines)
    shown = [HEADER[:5], *(c[:5] for c in rows)]
    widths = [max(len(r[i]) for r in shown) for i in range(5)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in shown]
    lines += ["", "Families take any parameter: alpha(0.3), js_weighted(0.7), hockey_stick(1.5)."]
    lines += ["One in detail: fgan divergences NAME."]
    return "\n".join(lines)


def detail(name: str) -> str:
    """One divergence: its definition, its limits, and its functions at a few points."""
    row = divergence(name)
    end = "]" if row.closed else ")"
    facts = [
        ("name", row.name),
        ("f(u)", row.formula),
        ("source", row.source),
        ("also called", ", ".join(row.aliases) or "–"),
        ("f(1)", _number(row.value_at_one)),
        ("f(0)", f"{_number(row.value_at_zero)}   the cost of a point where p = 0 < q"),
        ("f'(∞)", f"{_number(row.slope_at_infinity)}   the cost of a point where q = 0 < p"),
        ("dom f*", f"(−∞, {_number(row.slope_at_infinity)}{end if math.isfinite(row.slope_at_infinity) else ')'}"),
        ("range", f"[{_number(row.value_at_one)}, {_number(row.upper_limit())}]"),
        ("trained by", row.default if row.smooth else "smoothed ratio of a js critic; own bound under `paper`"),
    ]
    lines = [f"{key:<12}{value}" for key, value in facts]
    lines += ["", f"{'u':>8}{'f(u)':>12}{'f′(u)':>12}{'f*(f′(u))':>12}"]
    for u in (0.1, 0.5, 1.0, 2.0, 10.0):
        t = float(row.prime(u))
        lines.append(f"{u:>8g}{float(row.f(u)):>12.5f}{t:>12.5f}{float(row.conjugate(t)):>12.5f}")
    return "\n".join(lines)
