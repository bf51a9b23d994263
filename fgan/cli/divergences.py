"""`fgan divergences [NAME]`: the table of divergences as text, for the terminal and for the README."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tyro.conf import Positional

from fgan.cli import own_code
from fgan.cli.command import Base, require_device, show

if TYPE_CHECKING:
    from estimators.divergences.table import FDivergence

COMMANDS = {"divergences": "The table of divergences, or one of them in detail."}


@dataclass(frozen=True, kw_only=True)
class Command(Base):
    name: Positional[str] = ""
    """A name, an alias, a family with its parameter, or f as a formula of u, such as "(u - 1)**2"."""
    markdown: bool = False
    """Print the table as the README holds it."""

    def __call__(self) -> None:
        require_device()
        for line in detail(self.name) if self.name else markdown() if self.markdown else table():
            show(line)


HEADER = ("name", "f(u)", "range", "trained by", "also called", "source and normalisation")


def table() -> Iterator[str]:
    """The whole table as lines, without sources."""
    rows = [HEADER[:5], *(cells[:5] for cells in _cells())]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    yield ""
    yield "Families take any parameter: alpha(0.3), js_weighted(0.7), hockey_stick(1.5)."
    yield "Your own, as a formula of u = p/q, wherever a name is: '(u - 1)**2 / (u + 1)'."
    yield "One in detail: fgan divergences NAME."


def markdown() -> Iterator[str]:
    """The whole table as lines of Markdown."""
    yield f"| {' | '.join(HEADER)} |"
    yield "|" + "---|" * len(HEADER)
    for name, *cells in _cells():
        escaped = (cell.replace("|", "\\|") for cell in cells)
        yield f"| `{name}` | {' | '.join(escaped)} |"


def _cells() -> list[tuple[str, ...]]:
    from estimators.divergences.table import DIVERGENCES

    return [
        (d.name, d.formula, _range(d), d.default if d.smooth else "smoothed ratio", ", ".join(d.aliases), d.source)
        for d in DIVERGENCES.values()
    ]


def detail(name: str) -> Iterator[str]:
    """One divergence as lines: its definition, its limits, and its functions at a few points."""
    from estimators.divergences.table import divergence

    d = divergence(own_code.known(name))
    slope = _number(d.slope_at_infinity)
    facts = {
        "name": d.name,
        "f(u)": d.formula,
        "source": d.source,
        "also called": ", ".join(d.aliases) or "–",
        "f(1)": _number(d.value_at_one),
        "f(0)": f"{_number(d.value_at_zero)}   the cost of a point where p = 0 < q",
        "f'(∞)": f"{slope}   the cost of a point where q = 0 < p",
        "dom f*": f"(−∞, {slope}{']' if d.closed and math.isfinite(d.slope_at_infinity) else ')'}",
        "range": _range(d),
        "trained by": d.default if d.smooth else "smoothed ratio of a js critic; own bound under `paper`",
    }
    yield from (f"{key:<12}{value}" for key, value in facts.items())
    yield ""
    yield f"{'u':>8}{'f(u)':>12}{'f′(u)':>12}{'f*(f′(u))':>12}"
    for u in (0.1, 0.5, 1.0, 2.0, 10.0):
        t = float(d.prime(u))
        yield f"{u:>8g}{float(d.f(u)):>12.5f}{t:>12.5f}{float(d.conjugate(t)):>12.5f}"


def _range(d: FDivergence) -> str:
    return f"[{_number(d.value_at_one)}, {_number(d.upper_limit())}]"


def _number(x: float) -> str:
    """A limit as a person writes it."""
    named = {math.inf: "∞", -math.inf: "−∞", math.log(2.0): "log 2", 0.5 * math.log(2.0): "½ log 2"}
    named |= {-2.0 * math.log(2.0): "−log 4"}
    same = (text for value, text in named.items() if math.isclose(x, value, rel_tol=0.0, abs_tol=1e-12))
    return next(same, f"{x:.4g}".replace("-", "−"))
