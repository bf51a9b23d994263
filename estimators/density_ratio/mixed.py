"""References for rows that hold categories beside numbers: tables of shares, and the categories as numbers 0 and 1.

The frequent categories of a column become columns of 0 and 1, which the references of numbers take as any other, so
that numbers may mean something else in each category. Beside them stand the log-ratios of the shares themselves, of
each column and of all categorical columns together, where rare categories count as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from estimators.density_ratio.entropies import HALF
from estimators.density_ratio.references import Coordinates, References
from estimators.samples.arrays import row_hashes

MOST = (
    16  # categories of a column that get an indicator: as many inputs as the perceptron has to a quarter of its units
)
RARE = 0.02  # share of all rows below which a category gets none: fifty rows of it in 2,500


@dataclass(frozen=True, eq=False)
class Shares:
    """log p_c/q_c of the categories c of rows [k, columns], their shares those of training rows; 0 for unknown ones."""

    columns: tuple[int, ...]
    known: np.ndarray
    log_ratios: np.ndarray

    @classmethod
    def fit(cls, p: np.ndarray, q: np.ndarray, columns: tuple[int, ...]) -> Shares:
        keys = [row_hashes(rows[:, columns]) for rows in (p, q)]
        known, place = np.unique(np.concatenate(keys), return_inverse=True)
        n, m = (np.bincount(at, minlength=len(known)) + HALF for at in np.split(place, [len(p)]))
        return cls(columns, known, np.log(n / n.sum()) - np.log(m / m.sum()))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        keys = row_hashes(rows[:, self.columns])
        at = np.minimum(np.searchsorted(self.known, keys), len(self.known) - 1)
        return np.where(self.known[at] == keys, self.log_ratios[at], 0.0)


@dataclass(frozen=True, eq=False)
class Encoding:
    """Rows [k, d] → [k, numbers and indicators]: `shown` are the (column, code) of each indicator."""

    numbers: tuple[int, ...]
    categories: tuple[int, ...]
    shown: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, rows: np.ndarray, categories: tuple[int, ...]) -> Encoding:
        """By the frequencies in all rows, whichever set they are of; the most frequent category has no indicator."""
        shown: list[tuple[int, float]] = []
        for j in categories:
            codes, counts = np.unique(rows[:, j], return_counts=True)
            often = [c for c in np.argsort(-counts, kind="stable")[: MOST + 1] if counts[c] >= RARE * len(rows)]
            shown += [(j, float(codes[c])) for c in often[1:]]
        numbers = tuple(j for j in range(rows.shape[1]) if j not in categories)
        if not (numbers or shown):  # something must stand beside the tables
            shown = [(categories[0], float(rows[0, categories[0]]))]
        return cls(numbers, categories, tuple(shown))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        indicators = [(rows[:, j] == code).astype(np.float64) for j, code in self.shown]
        return np.stack([*(rows[:, j] for j in self.numbers), *indicators], axis=1)


@dataclass(frozen=True, eq=False)
class MixedReferences:
    """As `References`, of rows with categories; the tables are references, and inputs of the network as well."""

    encoding: Encoding
    of_numbers: References
    tables: tuple[Shares, ...]

    @property
    def standard(self):
        return self.of_numbers.standard

    @property
    def scores(self):
        return self.of_numbers.scores

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        phi, points = self.of_numbers(self.encoding(rows))
        found = np.stack([table(rows) for table in self.tables], axis=1)
        columns = found[:, : len(self.encoding.categories)]
        return np.column_stack([phi, columns.sum(axis=1), found[:, -1]]), np.column_stack([points, columns])


def of_categories(rows: np.ndarray, categories: tuple[int, ...]) -> Callable[..., MixedReferences]:
    """How to fit references to rows like these [n + m, d], whose columns `categories` hold codes."""
    encoding = Encoding.of(rows, categories)

    def fit(p: np.ndarray, q: np.ndarray, coordinates: Coordinates | None = None) -> MixedReferences:
        numbers = References.fit(encoding(p), encoding(q), coordinates)
        tables = [(j,) for j in categories] + [categories]
        return MixedReferences(encoding, numbers, tuple(Shares.fit(p, q, columns) for columns in tables))

    return fit
