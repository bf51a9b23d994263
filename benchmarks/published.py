"""Published errors of mutual information from few pairs, to stand beside measured ones.

Mean squared errors, nats², from Gritsai et al. 2025 (MIST, arXiv:2511.18945): the table in the README of
github.com/grgera/mist on 2026-11-29, and for MINDE (Franzese et al. 2024) what the paper reports of it, read in a
secondary copy. `in` is on laws of the families from which MIST's network learned, `out` on others. Rows from 10 to 500,
columns from 2 to 32 in all, as in the suite `small`; the laws are not the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.ledger import Row
from benchmarks.summaries import measured

BANDS = {"10–100": (10, 100), "100–300": (100, 300), "300–500": (300, 501)}  # rows, the last number not included


class Errors(NamedTuple):
    """Mean squared errors on laws of the families learned from and on others, and seconds an estimate where given."""

    inside: float
    outside: float
    seconds: float | None = None


PUBLISHED = {
    ("MIST", "10–100"): Errors(3.1, 8.0),
    ("MIST", "100–300"): Errors(0.34, 7.3),
    ("MIST", "300–500"): Errors(0.28, 8.8),
    ("MIST-QR", "10–100"): Errors(3.1, 9.5),
    ("MIST-QR", "100–300"): Errors(0.31, 9.9),
    ("MIST-QR", "300–500"): Errors(0.12, 10.0),
    ("MINDE", "300–500"): Errors(25.0, 36.0, 122.7),
}


def beside(rows: Sequence[Row]) -> list[Row]:
    """One line a method and band of n: our mean squared error and KSG's on our laws, then the published ones."""
    lines: list[Row] = []
    for band, (least, end) in BANDS.items():
        some = [row for row in measured(rows) if least <= row["n"] < end]
        facts = [row["estimates"]["mutual_information"] for row in some]
        truths = np.array([float(f["truth"]) for f in facts])
        for method in sorted({row["method"] for row in some}):
            of_method = np.array([row["method"] == method for row in some])
            values = np.array([float(f["value"]) for f in facts])
            lines.append(_line(method, band, _squared(values[of_method], truths[of_method])))
        if some:
            neighbours = np.array([float(row["ksg"]) for row in some])
            lines.append(_line("ksg", band, _squared(neighbours, truths)))
    return lines + [
        _line(method, band, None, found.inside, found.outside, found.seconds)
        for (method, band), found in PUBLISHED.items()
    ]


def _squared(values: np.ndarray, truths: np.ndarray) -> float:
    """The mean squared error of the finite values."""
    kept = np.isfinite(values)
    return float(np.mean((values - truths)[kept] ** 2)) if kept.any() else float("nan")


def _line(method: str, band: str, ours: Any, inside: Any = None, outside: Any = None, seconds: Any = None) -> Row:
    return {
        "method": method,
        "n": band,
        "mse": ours,
        "mse_in_distribution": inside,
        "mse_out_of_distribution": outside,
        "seconds": seconds,
    }
