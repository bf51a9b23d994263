"""Integrals of named densities on the line, to a relative error, over tails and poles of any power.

    log_integral(log_f, ends, landmarks)    log ∫ e^{log_f} dx

Between the landmarks, points where the densities have their mass, it is adaptive quadrature on panels that end there.
To either side the distance from the outermost landmark (or from a finite end of the support) is e^y, and the integral
runs over y: a tail x^{−1−c} or a pole x^{c−1} is e^{−c|y|} there. What lies beyond the largest |y| is that exponential
continued, times a straight line in y where a logarithm bends it: it diverges where the integrand does not fall.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from estimators.distributions.compound import Mixture
from estimators.exact_values.log_ratio_law import NotThisWay
from estimators.exact_values.quadrature import in_blocks, integrate, line_rule

LogFunction = Callable[[jax.Array], jax.Array]  # x [n] → log f(x) [n], float64; −∞ where f = 0
Ends = tuple[float, float]

FARTHEST = 340.0  # log of the largest distance: its square still fits float64
NEAREST = -690.0  # log of the smallest distance from an end at 0
DIGITS = 22.0  # bits that x keeps of its distance from an end that is not 0, at the smallest distance
STEP = 2.0  # in y, between the three points that give the slope and the bend of a tail
ROUNDING = 1e-8  # of a bend, below which it counts as 0
ENDLESS = 1e-7  # rate of a tail below which it counts as constant
COARSE = 1e-6  # share that may lie beyond the smallest distance from an end that is not 0
SLOWEST = 0.01  # rate of a tail below which it is not told apart from one that diverges, as 1/(x log x) does
NEGLIGIBLE = -60.0  # log of the share of the whole that a tail may have and be left out
CLOSE = 1e-7  # to 1, the mass of a density; poles at an end that is not 0 keep no more
PANELS = 48  # of the first, rough estimate on each piece
MARGINS = 2.0 ** np.arange(-4.0, 7.0)
"""Further landmarks beyond the outermost draws, in widths of their range: a narrow component of a mixture has its own
tails between the landmarks of a wide one."""
DRAWS, QUANTILES = 4000, 64  # of a distribution, from which its landmarks are taken


def log_integral(log_f: LogFunction, ends: Ends, landmarks: np.ndarray) -> float:
    """log ∫ e^{log_f} over the support (low, high), to a relative error of about 1e-10; ∞ where it diverges.

    Raises:
        NotThisWay: a tail that falls too slowly to tell, or an integral that does not settle.
    """
    pieces = [_core(landmarks), *_side(ends[0], landmarks[0], -1.0), *_side(ends[1], landmarks[-1], 1.0)]
    total = float(logsumexp([piece.rough(log_f) for piece in pieces]))
    if math.isinf(total):
        return total
    parts = [piece.integral(log_f, total) for piece in pieces]
    return total + math.log(sum(parts)) if math.isfinite(sum(parts)) else math.inf


class _Piece:
    """x(s) for s from `start` to `stop`, where `outer` is the end of s beyond which a tail goes on, if any."""

    def __init__(self, x: Any, log_slope: Any, start: float, stop: float, edges: Any = (), outer: float | None = None):
        self.x, self.log_slope, self.start, self.stop, self.edges, self.outer = x, log_slope, start, stop, edges, outer
        self.coarse = outer is not None and NEAREST < outer < 0.0

    def log_values(self, log_f: LogFunction, s: Any) -> jax.Array:
        return jnp.asarray(log_f(self.x(s)), jnp.float64) + self.log_slope(s)

    def rough(self, log_f: LogFunction) -> float:
        """log of the integral on fixed panels."""
        if not self.start < self.stop:
            return -math.inf
        inner = [edge for edge in self.edges if self.start < edge < self.stop]
        ends = np.unique([self.start, *inner, self.stop]) if inner else np.linspace(self.start, self.stop, PANELS + 1)
        rules = [line_rule(pair, 1) for pair in itertools.pairwise(ends)]
        s, w = (np.concatenate(column) for column in zip(*rules))
        values = in_blocks(lambda block: self.log_values(log_f, block), s)
        if np.isnan(values).any():
            raise NotThisWay(f"a density is NaN at x = {float(self.x(s[np.isnan(values)][0])):g}")
        with np.errstate(divide="ignore"):
            return float(logsumexp(values + np.log(w)))

    def integral(self, log_f: LogFunction, log_scale: float) -> float:
        """The integral over e^{log_scale}, its tail included."""
        if not self.start < self.stop:
            return 0.0

        def scaled(s):
            return jnp.exp(jnp.minimum(self.log_values(log_f, s) - log_scale, 700.0))

        value = integrate(scaled, (self.start, self.stop), edges=self.edges)
        if not math.isfinite(value):
            raise NotThisWay("the integral does not settle")
        return value + (self._tail(log_f, log_scale) if self.outer is not None else 0.0)

    def _tail(self, log_f: LogFunction, log_scale: float) -> float:
        """What lies beyond `outer`, over e^{log_scale}: ∫ e^{−ct}(A + Bt) dt, as densities and their logarithms fall.

        Slope −c + ρ and bend −ρ² of its logarithm, ρ = B/(A + Bt), give f · (1/c + ρ/c²).
        """
        assert self.outer is not None
        inward = -STEP if self.outer == self.stop else STEP
        points = self.outer + inward * np.arange(3.0)
        at_end, inside, further = (float(v) - log_scale for v in in_blocks(lambda s: self.log_values(log_f, s), points))
        if not at_end > NEGLIGIBLE:
            return 0.0
        bend = (at_end - 2.0 * inside + further) / STEP**2
        rho = math.sqrt(-bend) if bend < -ROUNDING else 0.0
        slope = (at_end - inside) / STEP + 0.5 * STEP * bend  # at the end itself
        fall = rho - slope
        if fall < ENDLESS:
            return math.inf
        if fall < SLOWEST:
            raise NotThisWay("a tail falls too slowly to tell whether its integral is finite")
        tail = math.exp(at_end) * (1.0 / fall + rho / fall**2)
        if self.coarse and tail > COARSE:
            raise NotThisWay("a pole lies at an end that is not 0, where x has too few digits; shift or turn both to 0")
        return tail


def _core(landmarks: np.ndarray) -> _Piece:
    """Between the outermost landmarks."""
    return _Piece(lambda s: s, jnp.zeros_like, float(landmarks[0]), float(landmarks[-1]), landmarks)


def _side(end: float, landmark: float, sign: float) -> list[_Piece]:
    """From the outermost landmark to the end of the support on its side, over logarithms of distances.

    That from the landmark, and where the end is finite, for the further half of the way that from the end.
    """
    start = math.log(np.spacing(abs(landmark)) + 1e-300)

    def outwards(stop: float, outer: float | None = None) -> _Piece:
        return _Piece(lambda y: landmark + sign * jnp.exp(y), lambda y: y, start, stop, outer=outer)

    if math.isinf(end):
        return [outwards(FARTHEST, FARTHEST)]
    nearest = max(NEAREST, math.log(np.spacing(abs(end))) + DIGITS * math.log(2.0)) if end else NEAREST
    half = math.log(0.5 * sign * (end - landmark))
    return [
        outwards(half),
        _Piece(lambda y: end - sign * jnp.exp(y), lambda y: y, nearest, half, outer=nearest),
    ]


def landmarks(sides: list[Any], ends: Ends) -> np.ndarray:
    """Points between which the distributions have nearly all their mass, sorted, inside the support."""
    found = np.unique(np.concatenate([_quantiles(side, ends) for side in sides]))
    low, high = ends
    gaps = [0.0 if math.isinf(end) or not end else np.spacing(abs(end)) * 2.0 ** (DIGITS + 2.0) for end in ends]
    inside = found[(found > low + gaps[0]) & (found < high - gaps[1]) & (np.abs(found) < 1e140)]
    if len(inside) < 2:
        raise NotThisWay("their mass lies too close to an end of the support")
    return inside


def _quantiles(p: Any, ends: Ends) -> np.ndarray:
    """Quantiles of draws, of every component of a mixture; of a density that cannot be sampled those on a grid."""
    if isinstance(p, Mixture):
        return np.concatenate([_quantiles(component, ends) for component in p.components])
    levels = np.linspace(0.0, 1.0, QUANTILES + 1)
    if getattr(p, "draw", True) is not None:
        draws = np.asarray(p.sample(jax.random.key(0), DRAWS), np.float64)
        inner = np.quantile(draws[np.isfinite(draws)], levels)
        margin = (inner[-1] - inner[0]) * MARGINS
        return np.concatenate([inner[0] - margin, inner, inner[-1] + margin])
    low, high = ends
    grid = np.sinh(np.linspace(-40.0, 40.0, 4001))
    if math.isfinite(low) and math.isfinite(high):
        grid = np.linspace(low, high, 4003)[1:-1]
    elif math.isfinite(low) or math.isfinite(high):
        grid = np.sort(low + np.exp(grid[1600:2400]) if math.isfinite(low) else high - np.exp(grid[1600:2400]))
    heights = np.exp(in_blocks(lambda x: jnp.asarray(p.log_prob(x), jnp.float64), grid))
    mass = np.concatenate([[0.0], np.cumsum(0.5 * (heights[1:] + heights[:-1]) * np.diff(grid))])
    if not mass[-1] > 0.0:
        raise NotThisWay("no mass of a density is found, which has no method to sample from it")
    return np.interp(levels, mass / mass[-1], grid)


def checked_mass(log_density: LogFunction, name: str, ends: Ends, points: np.ndarray) -> None:
    """Raise NotThisWay unless the density has a mass of 1."""
    mass = math.exp(min(log_integral(log_density, ends, points), 700.0))
    if abs(mass - 1.0) > CLOSE:
        raise NotThisWay(f"the density of {name} integrates to {mass:.9g} over {ends}, not to 1")
