"""Where densities have their mass: a search over all scales, for integrals whose nodes would miss it.

An affine map x = centre + scale·y of both densities changes no divergence (`Frame`). It brings peaks that are narrow,
or far from 0, to where quadrature looks.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from scipy import ndimage

PER_OCTAVE = {1: 16, 2: 1}  # dimension → coarse points between x and 2x on an axis: some 4,000 points in all
SMALLEST, LARGEST = -50, 50  # exponents of two: |x| from 1e-15 to 1e15, beyond which float64 cannot hold x ± 1
MOST_PEAKS, MOST_MOVES = 8, 200
STEPS = 2.0 ** np.arange(SMALLEST, LARGEST + 1)
FARTHEST = 1e3  # |y| of an edge; farther out the panels are dense already
FANS = np.concatenate([-(4.0 ** np.arange(10)), [0.0], 4.0 ** np.arange(10)])  # widths from a peak where panels end


class Peak(NamedTuple):
    """A local maximum of a density and, along each axis, how far off it the density has fallen by e or more: [d]."""

    at: np.ndarray
    width: np.ndarray

    @property
    def words(self) -> str:
        """For a message."""
        return f"{', '.join(f'{a:.6g}' for a in self.at)} (width {', '.join(f'{w:.2g}' for w in self.width)})"


class Frame(NamedTuple):
    """x = centre + scale·y, numbers on the line, [1, 2] each in the plane; points y of the line where panels end."""

    centre: Any
    scale: Any
    edges: tuple[float, ...] = ()

    @classmethod
    def around(cls, found: Sequence[Peak], support: Any) -> Self:
        """The one in which the peaks are near 0 and, together, about 1 wide; on a half line its end is 0."""
        if not found:
            return cls(0.0, 1.0)
        at, width = (np.array([getattr(peak, name) for peak in found]) for name in ("at", "width"))
        low, high = (at - width).min(axis=0), (at + width).max(axis=0)
        centre, scale = 0.5 * (low + high), 0.5 * (high - low)
        if np.ndim(support) == 2:
            finite = np.isfinite(np.diff(support)[:, 0])
            return cls(np.where(finite, 0.0, centre)[None], np.where(finite, 1.0, scale)[None])
        (a, b), c, s = support, float(centre[0]), float(scale[0])
        if math.isfinite(b - a):
            c, s = 0.0, 1.0
        elif math.isfinite(a) or math.isfinite(b):
            end = a if math.isfinite(a) else b
            c, s = end, abs(c - end) + s
        edges = {float(e) for peak in found for e in (peak.at + np.outer(FANS, peak.width)).ravel()}
        return cls(c, s, tuple(sorted((e - c) / s for e in edges if a < e < b and abs(e - c) < FARTHEST * s)))

    def density(self, log_density: Callable) -> Callable:
        """The log density of y where `log_density` is that of x."""
        shift = float(np.sum(np.log(self.scale)))
        return lambda y: log_density(self.centre + self.scale * y) + shift

    def support(self, support: Any) -> Any:
        """The support of y where `support` is that of x."""
        ends = (np.asarray(support, float) - np.reshape(self.centre, (-1, 1))) / np.reshape(self.scale, (-1, 1))
        return tuple(ends[0]) if np.ndim(support) == 1 else tuple(map(tuple, ends))


def peaks(log_density: Callable[[np.ndarray], np.ndarray], support: Any) -> list[Peak]:
    """The highest maxima of a log density, found from points at all scales; none where it is −∞ at all of them."""
    ends = np.atleast_2d(np.asarray(support, float))
    line = np.ndim(support) == 1

    def values(x: np.ndarray) -> np.ndarray:
        inside = np.all((x >= ends[:, 0]) & (x <= ends[:, 1]), axis=1)
        found = np.full(len(x), -math.inf)
        if inside.any():
            taken = x[inside, 0] if line else x[inside]
            found[inside] = np.nan_to_num(log_density(taken), nan=-math.inf, posinf=math.inf, neginf=-math.inf)
        return found

    axes = [_coarse(low, high, PER_OCTAVE[len(ends)]) for low, high in ends]
    shape = tuple(map(len, axes))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(ends))
    heights = values(grid).reshape(shape)
    cross = ndimage.generate_binary_structure(heights.ndim, 1)  # a point and its neighbours along each axis
    around = ndimage.maximum_filter(heights, footprint=cross, mode="constant", cval=-math.inf)
    highest = np.isfinite(heights) & (heights == around)
    starts = grid.reshape(*shape, -1)[highest][np.argsort(-heights[highest], kind="stable")][:MOST_PEAKS]
    made: list[Peak] = []
    for start in starts:
        at = _climb(values, start)
        if not any(np.all(np.abs(at - peak.at) <= peak.width) for peak in made):
            made.append(Peak(at, _width(values, at)))
    return made


def _coarse(low: float, high: float, per_octave: int) -> np.ndarray:
    sizes = 2.0 ** (np.arange(per_octave * SMALLEST, per_octave * LARGEST + 1) / per_octave)
    points = np.concatenate([-sizes[::-1], [0.0], sizes])
    if math.isfinite(high - low):
        points = np.union1d(points, np.linspace(low, high, 64 * per_octave + 2)[1:-1])
    return points[(points > low) & (points < high)]


def _around(x: np.ndarray) -> np.ndarray:
    """Points at every power of two from x along every axis, both ways: [k, d]."""
    moves = np.concatenate([np.outer(STEPS, axis) for axis in np.eye(len(x))])
    return np.concatenate([x + moves, x - moves])


def _climb(values: Callable, x: np.ndarray) -> np.ndarray:
    """The maximum that the best of ever smaller or larger moves along the axes leads to."""
    height = values(x[None])[0]
    for _ in range(MOST_MOVES):
        points = _around(x)
        heights = values(points)
        best = int(np.argmax(heights))
        if not heights[best] > height:
            break
        x, height = points[best], heights[best]
    return x


def _width(values: Callable, x: np.ndarray) -> np.ndarray:
    """The smallest power of two along each axis at which the density has fallen by e on both sides."""
    fallen = (values(_around(x)).reshape(2, len(x), len(STEPS)) < values(x[None])[0] - 1.0).all(axis=0)
    return np.where(fallen.any(axis=1), STEPS[np.argmax(fallen, axis=1)], STEPS[-1])
