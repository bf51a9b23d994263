"""The coordinates in which networks see the rows of a table, chosen column by column.

f-divergences do not change under invertible maps, so a game may be played in coordinates that suit networks:
`fgan.data.columns` has their kinds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.special import ndtri

from estimators.samples.arrays import DataError
from estimators.samples.names import listed
from fgan.data.columns import Categories, Column, Constant, Linear, Parts, Scores, from_json, to_json

STRAIGHT = 0.98
"""Squared correlation with normal quantiles from which a column is taken linearly. Large uniform samples have 0.95,
Laplace 0.94, logistic 0.985; nine of ten Gaussian samples of 100 rows more than 0.98 (Shapiro, Francia 1972)."""
MOST_MIXED = 128
"""Coordinates beyond which columns are not mixed: their covariance would need too many rows, and room in JSON."""
THINNEST = 1e-3
"""Deviation from which on a direction counts as flat, as where a column is the sum of others."""
MOST_PARTS, FEWEST_IN_PART = 4, 10
"""More parts than that are a grid of values; fewer rows do not tell how a part is distributed."""


@dataclass(frozen=True)
class Coordinates:
    """The map of each column of a table, and how columns are mixed: S z of coordinates z is what columns decode.

    S is the symmetric root of the covariance. In coordinates where directions are of one width, a step of an optimiser
    is as small beside the thin ones as beside the wide ones.
    """

    columns: tuple[Column, ...]
    spread: tuple[tuple[float, ...], ...] = ()  # S [k, k] of those that are no categories; () for the identity

    @property
    def dim(self) -> int:
        """How many coordinates a row has."""
        return sum(column.width for column in self.columns)

    @property
    def one_hot(self) -> tuple[tuple[int, int], ...]:
        """(first coordinate, how many) of each column of categories."""
        ends = np.cumsum([column.width for column in self.columns])
        return tuple(
            (int(end) - c.width, c.width)
            for c, end in zip(self.columns, ends, strict=True)
            if isinstance(c, Categories)
        )

    def encode(self, rows: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Rows [n, d] of these numbers in their table → coordinates [n, dim], float32."""
        made = self.by_column(rows, index)
        if self.spread:
            numbers = self._numbers()
            made[:, numbers] = np.linalg.solve(np.array(self.spread), made[:, numbers].T).T
        return made.astype(np.float32)

    def by_column(self, rows: np.ndarray, index: np.ndarray) -> np.ndarray:
        """The same before columns are mixed, float64."""
        made = [c.encode(x, uniforms(index, j)) for j, (c, x) in enumerate(zip(self.columns, rows.T, strict=True))]
        return np.concatenate(made, axis=1)

    def unmixed(self, points: np.ndarray) -> np.ndarray:
        """Coordinates [n, dim] → those of each column alone, float64."""
        points = np.array(points, np.float64)
        if self.spread:
            numbers = self._numbers()
            points[:, numbers] = points[:, numbers] @ np.array(self.spread).T
        return points

    def decode(self, points: np.ndarray) -> np.ndarray:
        """Coordinates [n, dim] → rows [n, d], float64."""
        ends = np.cumsum([column.width for column in self.columns])[:-1]
        parts = np.split(self.unmixed(points), ends, axis=1)
        return np.stack([c.decode(z) for c, z in zip(self.columns, parts, strict=True)], axis=1)

    def _numbers(self) -> np.ndarray:
        """The coordinates that belong to no category."""
        kept = np.ones(self.dim, bool)
        for first, width in self.one_hot:
            kept[first : first + width] = False
        return np.flatnonzero(kept)

    def whitened(self, rows: np.ndarray) -> Self:
        """The same with coordinates in which rows [n, d] are uncorrelated, each of deviation 1, as far as they are."""
        made = self.by_column(rows, np.arange(len(rows)))[:, self._numbers()]
        n, k = made.shape
        if not 2 <= k <= MOST_MIXED or n < 2 * k:
            return self
        values, vectors = np.linalg.eigh(np.cov(made.T, bias=True))
        root = (vectors * np.sqrt(np.maximum(values, THINNEST**2))) @ vectors.T
        return replace(self, spread=tuple(map(tuple, root.tolist())))

    def notes(self, called: Sequence[str]) -> tuple[str, ...]:
        """What was made of the columns that are not linear, in a line; `called` says what messages call each."""
        groups: dict[str, list[str]] = {}
        for column, name in zip(self.columns, called, strict=True):
            if what := _words(column):
                groups.setdefault(what, []).append(name)
        said = [f"{listed(names)} {what}" for what, names in groups.items()]
        return (f"columns: {'; '.join(said)}",) if said else ()

    def to_json(self) -> dict[str, Any]:
        """As JSON's types."""
        return {"columns": list(map(to_json, self.columns)), "spread": self.spread}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Self:
        """What `to_json` returned."""
        return cls(tuple(map(from_json, facts["columns"])), tuple(map(tuple, facts["spread"])))


def _words(column: Column) -> str:
    """What was made of a column, "" if it is linear."""
    match column:
        case Constant():
            return "left out and put back"
        case Categories():
            return "categories"
        case Scores(decimals=0):
            return "whole numbers"
        case Scores():
            return "by normal scores"
        case Parts():
            return "in parts with gaps between them"
    return ""


def uniforms(index: np.ndarray, column: int) -> np.ndarray:
    """A number in (0, 1) for each row by its number in the table, the same ones always: [n] → [n].

    The finaliser of SplitMix64 (Steele, Lea, Flood 2014, figure 17) on distinct numbers.
    """
    x = (np.asarray(index, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(column << 32)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53 + 2.0**-54


class Known(NamedTuple):
    """What is known of a column by which its map is chosen."""

    some: np.ndarray  # some of its values [m]
    low: float  # the least and the largest of all
    high: float
    mean: float
    deviation: float
    decimals: int | None = None  # that all values have, None for full precision
    levels: int = 0  # how many categories its numbers are codes of
    kind: str = ""  # what the user says it is, an entry of PLANNED


def coordinates(columns: Sequence[Known]) -> Coordinates:
    """The maps of the columns of a table. Raises DataError if all columns are constant."""
    made = Coordinates(tuple(map(choose, columns)))
    if made.dim == 0:
        raise DataError("all columns are constant: there is nothing to learn")
    return made.whitened(np.stack([column.some for column in columns], axis=1))


def choose(column: Known) -> Column:
    """The map of a column: of the kind that its user says, or else by its values."""
    if column.low == column.high:
        return Constant(column.low)
    if column.levels:
        return Categories(column.levels)
    if column.kind:
        return PLANNED[column.kind](column)
    straight = column.decimals != 0 and straightness(column.some) >= STRAIGHT
    return _linear(column) if straight else _parts(column)


def _linear(column: Known) -> Linear:
    return Linear(column.mean, column.deviation, column.decimals)


def _values(column: Known) -> np.ndarray:
    """The values that are known, sorted, the least and the largest of all among them."""
    return np.sort(np.append(column.some, np.setdiff1d([column.low, column.high], column.some)))


def _parts(column: Known) -> Column:
    parts = [Scores.of(part, column.decimals) for part in divided(_values(column), column.decimals == 0)]
    return Parts(tuple(parts)) if len(parts) > 1 else parts[0]


PLANNED: dict[str, Callable[[Known], Column]] = {
    "linear": _linear,
    "scores": lambda column: Scores.of(_values(column), column.decimals),
    "parts": _parts,
    "whole": lambda column: Scores.of(np.round(_values(column)), 0),
}
"""Kinds of columns of numbers that a user may name."""


def straightness(column: np.ndarray) -> float:
    """The squared correlation of a sorted column [n] with normal quantiles; 0 where values repeat in a tenth of it."""
    ordered = np.sort(column)
    if len(np.unique(ordered)) < 0.9 * len(ordered):
        return 0.0
    quantiles = ndtri((np.arange(len(ordered)) + 0.625) / (len(ordered) + 0.25))  # Blom 1958: (i − 3/8)/(n + 1/4)
    return float(np.corrcoef(ordered, quantiles)[0, 1] ** 2)


def divided(column: np.ndarray, whole: bool) -> list[np.ndarray]:
    """A sorted column [n] cut at its gaps: the widest one, if it is wider than the middle half of the rows on either
    side (and for whole numbers, if some are missing), then those of both sides. Uncut if there would be too many parts.
    """
    cuts = list(_cuts(column, whole, 0))
    return np.split(column, cuts) if len(cuts) < MOST_PARTS else [column]


def _cuts(column: np.ndarray, whole: bool, begin: int) -> Iterator[int]:
    """Where a sorted column is cut, counted from `begin`."""
    inner = column[FEWEST_IN_PART - 1 : 1 - FEWEST_IN_PART]
    if len(inner) < 2:
        return
    cut = FEWEST_IN_PART + int(np.argmax(np.diff(inner)))
    gap, (left, right) = column[cut] - column[cut - 1], np.split(column, [cut])
    spread = max(float(np.subtract(*np.quantile(part, (0.75, 0.25)))) for part in (left, right))
    if gap > max(spread, 2.0 if whole else 0.0):
        yield from _cuts(left, whole, begin)
        yield begin + cut
        yield from _cuts(right, whole, begin + cut)
