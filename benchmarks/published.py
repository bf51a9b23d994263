"""Figures that others published, as data: what the report prints beside ours. Nats.

Every table says where its figures come from and on how many samples. `reported` marks figures read in a secondary copy.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.ledger import Row

CONVERGENCE: Mapping[str, Mapping[str, float]] = {
    "correlated-normal-4": {"InfoNCE": 5.950, "MINE": 6.74},
    "correlated-normal-8": {"InfoNCE": 6.21683, "MINE": 9.7},
    "correlated-normal-64": {"InfoNCE": 6.21738688, "MINE": 8.9},
    "smoothed-uniform-4": {"InfoNCE": 6.005, "MINE": 7.15},
    "smoothed-uniform-8": {"InfoNCE": 6.21690, "MINE": 10.7},
    "smoothed-uniform-64": {"InfoNCE": 6.217386880, "MINE": 9.1},
}
"""Task → estimator → mean of ten seeds: 10,000 rows to train on, 100,000 more to evaluate on.

Source: github.com/VanessB/mutinfo, source/evaluate/tables/highdim/convergence, 2 nats a pair (MINE there: MINE-DV).
"""

SOLVED: Mapping[str, int] = {"MMG": 39, "MINDE": 35, "InfoNCE": 33, "MINE": 30, "NWJ": 30, "DoE": 27}
"""Estimator → how many of the forty tasks of Beyond Normal it is reported to solve.

100,000 rows to train on and 10,000 to evaluate on. Reported: the definition of a solved task is the source's own.
"""

WITHIN: Mapping[str, tuple[int, float]] = {"InfoNCE": (24, 0.162), "CCA": (24, 0.166), "KSG": (15, 0.236)}
"""Estimator → (how many of the forty tasks it found within 0.1 nats, mean absolute error) from 5,000 rows.

Measured with the estimators of the benchmark's own package (github.com/cbg-ethz/bmi).
"""


BANDS: Mapping[str, tuple[int, int]] = {"10 to 99": (10, 100), "100 to 299": (100, 300), "300 to 500": (300, 501)}
"""Rows, from the first number up to below the second: the bands of `FROM_FEW_ROWS`."""

FROM_FEW_ROWS: Mapping[tuple[str, str], tuple[float, float, float | None]] = {
    ("MIST", "10 to 99"): (3.1, 8.0, None),
    ("MIST", "100 to 299"): (0.34, 7.3, None),
    ("MIST", "300 to 500"): (0.28, 8.8, None),
    ("MIST-QR", "10 to 99"): (3.1, 9.5, None),
    ("MIST-QR", "100 to 299"): (0.31, 9.9, None),
    ("MIST-QR", "300 to 500"): (0.12, 10.0, None),
    ("MINDE", "300 to 500"): (25.0, 36.0, 122.7),
}
"""(Estimator, band of rows) → mean squared errors of I in 2 to 32 columns, on laws of the families from which MIST's
network learned and on others, and seconds an estimate.

Source: Gritsai et al. 2025 (arXiv:2511.18945), the table in the README of github.com/grgera/mist; MINDE is reported.
"""


def from_few_rows() -> list[Row]:
    """One line a published estimator and band of rows, as `FROM_FEW_ROWS`."""
    return [
        {"method": name, "n": band, "inside": inside, "outside": outside, "seconds": seconds}
        for (name, band), (inside, outside, seconds) in FROM_FEW_ROWS.items()
    ]


def of_the_forty() -> list[Row]:
    """One line a published estimator: rows, tasks found within 0.1 nats or reported solved, mean absolute error."""
    small = [
        {"estimator": name, "n": 5000, "close": close, "solved": None, "absolute": error}
        for name, (close, error) in WITHIN.items()
    ]
    large = [
        {"estimator": name, "n": 110_000, "close": None, "solved": solved, "absolute": None}
        for name, solved in SOLVED.items()
    ]
    return [*small, *large]
