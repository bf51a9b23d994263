"""The coordinates of a column, by its kind, and the way back from each.

    constant     none: such a column leaves the game and comes back as it is
    linear       (x − mean)/deviation, for a column close to a Gaussian
    scores       Φ⁻¹(F(x)), F the distribution of the column: skewed, bounded, heavy-tailed columns, and whole numbers
    parts        scores of each part of a column on its own, for one with wide gaps, such as between two groups of rows
    categories   0 and 1 for each category

Under normal scores every column is a standard normal. A value that repeats is a jump of F; its rows spread uniformly
over the jump (Machado, Santos Silva 2005, section 2, dequantisation), and all of the jump comes back as the value.
What comes back lies between the least and the largest value seen, with as many decimals as the column has. The normal
scores of `estimators.density_ratio.references` serve pairs of sets, give repeated values one score, and have no way
back.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from scipy.special import ndtr, ndtri

APART = 8.0
"""Between the centres of neighbouring parts, each of deviation 1: all but 6e-5 of one lie on its side of the middle."""
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
    decimals: int | None = None  # of all values; None for full precision
    width = 1

    def encode(self, x: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """[n] → [n, 1]."""
        return ((x - self.offset) / self.scale)[:, None]

    def decode(self, z: np.ndarray) -> np.ndarray:
        """[n, 1] → [n]."""
        return rounded(z[:, 0] * self.scale + self.offset, self.decimals)


@dataclass(frozen=True)
class Scores:
    """z = Φ⁻¹(u) with u uniform on [low, high] of a known value x; between known values u is linear in x."""

    values: tuple[float, ...]  # increasing
    low: tuple[float, ...]  # P(X < x) of each value; both ends are the middle of the jump where it does not repeat
    high: tuple[float, ...]  # P(X ≤ x)
    decimals: int | None = None  # of all values; None for full precision
    width = 1

    @classmethod
    def of(cls, column: np.ndarray, decimals: int | None) -> Self:
        """Those of a column [n]."""
        values, counts = np.unique(column, return_counts=True)
        high = np.cumsum(counts) / len(column)
        low = high - counts / len(column)
        middle = 0.5 * (low + high)
        low, high = (np.where(counts > 1, end, middle) for end in (low, high))
        if len(values) > KNOTS:
            evenly = ndtr(np.linspace(float(ndtri(middle[0])), float(ndtri(middle[-1])), KNOTS))
            kept = np.unique([0, *np.searchsorted(middle, evenly).clip(max=len(values) - 1), len(values) - 1])
            values, low, high = values[kept], low[kept], high[kept]
        return cls(tuple(values.tolist()), tuple(low.tolist()), tuple(high.tolist()), decimals)

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
        found = rounded(np.interp(ndtr(z[:, 0]), shares, np.repeat(self.values, 2)), self.decimals)
        return np.clip(found, self.values[0], self.values[-1])


@dataclass(frozen=True)
class Parts:
    """z = `APART`·k + the scores within the k-th part; what falls between two parts goes to the nearer."""

    parts: tuple[Scores, ...]
    width = 1

    def encode(self, x: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """[n] → [n, 1]."""
        ends = [(left.values[-1] + right.values[0]) / 2.0 for left, right in pairwise(self.parts)]
        k = np.searchsorted(ends, x)
        return np.choose(k[:, None], [APART * i + part.encode(x, uniform) for i, part in enumerate(self.parts)])

    def decode(self, z: np.ndarray) -> np.ndarray:
        """[n, 1] → [n]."""
        k = np.clip(np.round(z[:, 0] / APART), 0, len(self.parts) - 1).astype(int)
        return np.choose(k, [part.decode(z - APART * i) for i, part in enumerate(self.parts)])


@dataclass(frozen=True)
class Categories:
    """A column of codes 0, 1, …, one for each category."""

    count: int

    @property
    def width(self) -> int:
        """A coordinate for each category."""
        return self.count

    def encode(self, x: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """[n] → [n, count]."""
        return np.equal(x[:, None], np.arange(self.count)).astype(np.float64)

    def decode(self, z: np.ndarray) -> np.ndarray:
        """[n, count] → [n]."""
        return np.argmax(z, axis=1).astype(np.float64)


Column = Constant | Linear | Scores | Parts | Categories
KINDS: dict[str, type[Column]] = {
    "constant": Constant,
    "linear": Linear,
    "scores": Scores,
    "parts": Parts,
    "categories": Categories,
}


def is_whole(column: Column) -> bool:
    """Whether all values of a column are whole numbers."""
    if isinstance(column, Constant):
        return column.value == np.round(column.value)
    one = column.parts[0] if isinstance(column, Parts) else column
    return isinstance(one, Linear | Scores) and one.decimals == 0


def rounded(x: np.ndarray, decimals: int | None) -> np.ndarray:
    """x to so many decimals, None for all."""
    return x if decimals is None else np.round(x, decimals)


def to_json(column: Column) -> dict[str, Any]:
    """As JSON's types."""
    name = next(name for name, kind in KINDS.items() if kind is type(column))
    parts = {"parts": list(map(to_json, column.parts))} if isinstance(column, Parts) else {}
    return {"kind": name} | vars(column) | parts


def from_json(facts: dict[str, Any]) -> Column:
    """What `to_json` returned."""
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items() if k != "kind"}
    if "parts" in given:
        given["parts"] = tuple(map(from_json, given["parts"]))
    return KINDS[facts["kind"]](**given)
