"""The coordinates in which networks see the columns of a table, and the way back.

f-divergences do not change under invertible maps, so a game may be played in coordinates that suit networks:

    constant   none: such a column leaves the game and comes back as it is
    linear     (x − mean)/deviation, for a column close to a Gaussian
    scores     Φ⁻¹(F(x)), F the distribution of the column: skewed, bounded, heavy-tailed columns, and whole numbers

Under normal scores every column is a standard normal. A value that repeats is a jump of F; its rows spread uniformly
over the jump (Machado, Santos Silva 2005, section 2, dequantisation), and all of the jump comes back as the value.
What comes back lies between the least and the largest value seen. The normal scores of
`estimators.density_ratio.references` serve pairs of sets, give repeated values one score, and have no way back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import ndtr, ndtri

from estimators.samples.arrays import DataError
from estimators.samples.names import listed

STRAIGHT = 0.98
"""Squared correlation with normal quantiles from which a column is taken linearly. Large uniform samples have 0.95,
Laplace 0.94, logistic 0.985; nine of ten Gaussian samples of 100 rows more than 0.98 (Shapiro, Francia 1972)."""
KNOTS = 1000
"""Most values by which F is kept, evenly spaced on the normal scale. Between two of them F is linear."""


@dataclass(frozen=True)
class Constant:
    """A column of one value, without a coordinate."""

    value: float
    width = 0

    def encode(self, x: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """[n] → [n, 0]."""
        return np.empty((len(x), 0))

    def decode(self, z: np.ndarray) -> np.ndarray:
        """[n, 0] → [n]."""
        return np.full(len(z), self.value)


@dataclass(frozen=True)
class Linear:
    """x = offset + scale·z."""

    offset: float
    scale: float
    width = 1

    def encode(self, x: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """[n] → [n, 1]."""
        return ((x - self.offset) / self.scale)[:, None]

    def decode(self, z: np.ndarray) -> np.ndarray:
        """[n, 1] → [n]."""
        return z[:, 0] * self.scale + self.offset


@dataclass(frozen=True)
class Scores:
    """z = Φ⁻¹(u) with u uniform on [low, high] of a known value x; between known values u is linear in x."""

    values: tuple[float, ...]  # increasing
    low: tuple[float, ...]  # P(X < x) of each value; both ends are the middle of the jump where it does not repeat
    high: tuple[float, ...]  # P(X ≤ x)
    whole: bool  # whether all values are whole numbers
    width = 1

    @classmethod
    def of(cls, column: np.ndarray, whole: bool) -> Self:
        """Those of a column [n]."""
        values, counts = np.unique(column, return_counts=True)
        high = np.cumsum(counts) / len(column)
        low = high - counts / len(column)
        middle = 0.5 * (low + high)
        low, high = (np.where(counts > 1, end, middle) for end in (low, high))
        if len(values) > KNOTS:
            evenly = ndtr(np.linspace(float(ndtri(middle[0])), float(ndtri(middle[-1])), KNOTS))
            kept = np.unique([*np.searchsorted(middle, evenly).clip(max=len(values) - 1), len(values) - 1])
            values, low, high = values[kept], low[kept], high[kept]
        return cls(tuple(values.tolist()), tuple(low.tolist()), tuple(high.tolist()), whole)

    def encode(self, x: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """[n] → [n, 1]; `uniform` [n] says where in its jump a value lies."""
        values, low, high = map(np.array, (self.values, self.low, self.high))
        k = np.clip(np.searchsorted(values, x, side="right") - 1, 0, len(values) - 1)
        after = np.minimum(k + 1, len(values) - 1)
        gap = np.where(after > k, values[after] - values[k], 1.0)
        between = high[k] + np.clip((x - values[k]) / gap, 0.0, 1.0) * (low[after] - high[k])
        u = np.where(values[k] == x, low[k] + uniform * (high[k] - low[k]), np.where(after > k, between, high[k]))
        return ndtri(np.clip(u, 1e-6, 1.0 - 1e-6))[:, None]

    def decode(self, z: np.ndarray) -> np.ndarray:
        """[n, 1] → [n]."""
        shares = np.column_stack([self.low, self.high]).ravel()
        found = np.interp(ndtr(z[:, 0]), shares, np.repeat(self.values, 2))
        return np.round(found) if self.whole else found


Column = Constant | Linear | Scores
KINDS: dict[str, type[Column]] = {"constant": Constant, "linear": Linear, "scores": Scores}


@dataclass(frozen=True)
class Coordinates:
    """The map of each column of a table."""

    columns: tuple[Column, ...]

    @property
    def dim(self) -> int:
        """How many coordinates a row has."""
        return sum(column.width for column in self.columns)

    def encode(self, rows: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Rows [n, d] of these numbers in their table → coordinates [n, dim], float32."""
        made = [c.encode(x, uniforms(index, j)) for j, (c, x) in enumerate(zip(self.columns, rows.T, strict=True))]
        return np.concatenate(made, axis=1).astype(np.float32)

    def decode(self, points: np.ndarray) -> np.ndarray:
        """Coordinates [n, dim] → rows [n, d], float64."""
        ends = np.cumsum([column.width for column in self.columns])[:-1]
        parts = np.split(np.asarray(points, np.float64), ends, axis=1)
        return np.stack([c.decode(z) for c, z in zip(self.columns, parts, strict=True)], axis=1)

    def notes(self, called: Sequence[str]) -> tuple[str, ...]:
        """What was made of the columns that are not linear, in a line; `called` says what messages call each."""
        groups = {
            "left out and put back": [i for i, c in enumerate(self.columns) if isinstance(c, Constant)],
            "whole numbers": [i for i, c in enumerate(self.columns) if isinstance(c, Scores) and c.whole],
            "by normal scores": [i for i, c in enumerate(self.columns) if isinstance(c, Scores) and not c.whole],
        }
        said = [f"{listed([called[i] for i in found])} {what}" for what, found in groups.items() if found]
        return (f"columns: {'; '.join(said)}",) if said else ()

    def to_json(self) -> list[dict[str, Any]]:
        """As JSON's types."""
        names = {kind: name for name, kind in KINDS.items()}
        return [{"kind": names[type(column)]} | vars(column) for column in self.columns]

    @classmethod
    def from_json(cls, columns: Sequence[dict[str, Any]]) -> Self:
        """What `to_json` returned."""
        made = []
        for column in columns:
            facts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in column.items()}
            made.append(KINDS[facts.pop("kind")](**facts))
        return cls(tuple(made))


def uniforms(index: np.ndarray, column: int) -> np.ndarray:
    """A number in (0, 1) for each row by its number in the table, the same ones always: [n] → [n].

    The finaliser of SplitMix64 (Steele, Lea, Flood 2014, figure 17) on distinct numbers.
    """
    x = (np.asarray(index, np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(column << 32)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53 + 2.0**-54


def coordinates(
    some: np.ndarray, low: np.ndarray, high: np.ndarray, mean: np.ndarray, deviation: np.ndarray, whole: np.ndarray
) -> Coordinates:
    """The maps of the columns of a table of which `some` rows [m, d] are known, and of all the least and largest value,
    the mean, the deviation and whether all are whole, [d] each. Raises DataError if all columns are constant."""
    if np.array_equal(low, high):
        raise DataError("all columns are constant: there is nothing to learn")
    columns: list[Column] = []
    for j, column in enumerate(some.T):
        if low[j] == high[j]:
            columns.append(Constant(float(low[j])))
        elif not whole[j] and straightness(column) >= STRAIGHT:
            columns.append(Linear(float(mean[j]), float(deviation[j])))
        else:
            unseen = np.setdiff1d([low[j], high[j]], column)  # the ends lie in rows that are not known
            columns.append(Scores.of(np.append(column, unseen), bool(whole[j])))
    return Coordinates(tuple(columns))


def straightness(column: np.ndarray) -> float:
    """The squared correlation of a sorted column [n] with normal quantiles; 0 where values repeat in a tenth of it."""
    ordered = np.sort(column)
    if len(np.unique(ordered)) < 0.9 * len(ordered):
        return 0.0
    quantiles = ndtri((np.arange(len(ordered)) + 0.625) / (len(ordered) + 0.25))  # Blom 1958: (i − 3/8)/(n + 1/4)
    return float(np.corrcoef(ordered, quantiles)[0, 1] ** 2)
