"""Noisy curves in the plane: points uniform along arcs, moved off them by Gaussian noise.

A curve is data: arcs, and the standard deviation of the noise. Its density is the integral of a Gaussian along the
arcs; by Gauss–Legendre quadrature it is a mixture of Gaussians on the arcs, exact to rounding. Nats; float64, but for
samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from estimators.distributions.mixture import Mixture

PANEL, ORDER = 8.0, 32
"""Longest panel of the quadrature, in σ along the arc, and its Gauss–Legendre points: four points a σ."""
BATCH = 1024  # points whose distances to all nodes are in memory at once
STEP, MARGIN = 0.7, 9.0  # of the grid for entropies, around the nodes, in σ
SEARCH = 0.05  # longest distance between the points on the curve among which `nearest` searches, in σ


@dataclass(frozen=True, kw_only=True)
class Arc:
    """c(t) = centre + (radius + growth·t) (cos t, sin t): an arc of a circle or of an Archimedean spiral.

    Attributes:
        start, end: the angles t of its ends, radians.
    """

    start: float
    end: float
    centre: tuple[float, float] = (0.0, 0.0)
    radius: float = 0.0
    growth: float = 0.0

    def speed(self) -> float:
        """The largest |c'(t)|."""
        radii = (self.radius + self.growth * t for t in (self.start, self.end))
        return max(math.hypot(radius, self.growth) for radius in radii)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The law of c(U) + σε, ε ~ N(0, I₂), U uniform on [0, 1]: each arc has an equal share of [0, 1].

    Within an arc the angle t is uniform, not the length.

    Attributes:
        arcs: one or more.
        sigma: σ > 0.
    """

    arcs: tuple[Arc, ...]
    sigma: float

    def __post_init__(self):
        if not (self.arcs and 0.0 < self.sigma < math.inf):
            raise ValueError(f"a curve needs at least one arc and a positive sigma, got {self.arcs}, {self.sigma}")

    @property
    def dim(self) -> int:
        return 2

    def at(self, u: Any, xp: Any = np) -> Any:
        """c(u), [n, 2] at u [n] in [0, 1), with the arrays of `xp`, numpy or jax.numpy."""
        k = len(self.arcs)
        rows = xp.asarray([(*a.centre, a.start, a.end, a.radius, a.growth) for a in self.arcs], u.dtype)
        arc = xp.clip(xp.floor(k * u), 0, k - 1).astype("int32")
        x, y, start, end, radius, growth = rows[arc].T
        t = start + (k * u - arc) * (end - start)
        r = radius + growth * t
        return xp.stack([x + r * xp.cos(t), y + r * xp.sin(t)], axis=-1)

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """n points [n, 2], float32."""
        along, noise = jax.random.split(key)
        on_curve = self.at(jax.random.uniform(along, (n,), jnp.float32), jnp)
        return on_curve + self.sigma * jax.random.normal(noise, (n, 2), jnp.float32)

    def mixture(self) -> Mixture:
        """The same law as a mixture of Gaussians at the nodes of a quadrature along the arcs, exact to rounding."""
        return _as_mixture(self)

    def log_prob(self, x: jax.typing.ArrayLike) -> jax.Array:
        """log ∫₀¹ N(x; c(u), σ²I) du at x: [n, 2] → [n]. In the precision of x.

        In float64 exact to rounding near the curve; 100 σ away, where it is in the thousands, to 1e-5 of itself.
        """
        return _log_prob(self, x)

    def entropy(self) -> float:
        """−E[log p], nats, by the trapezoidal rule in the plane, which smooth densities make exact to about 1e-8."""
        return _entropy(self)

    def nearest(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(distance from the curve [n], u of the nearest point on it [n]) of points x [n, 2].

        The search is among points at most σ/20 apart: distances are right within σ/40.
        """
        tree, u = _tree(self)
        distance, index = tree.query(x)
        return distance, u[index]

    def steps(self, spacing: float) -> int:
        """How many equal steps an arc needs for none to be longer than `spacing` sigma."""
        return max(math.ceil(a.speed() * abs(a.end - a.start) / (spacing * self.sigma)) for a in self.arcs)


@cache
def _as_mixture(curve: Curve) -> Mixture:
    panels = len(curve.arcs) * curve.steps(PANEL)
    nodes, weights = np.polynomial.legendre.leggauss(ORDER)
    u = (np.arange(panels)[:, None] + 0.5 * (nodes + 1.0)[None]) / panels
    weights = np.tile(0.5 * weights / panels, panels)
    means = curve.at(u.ravel())
    return Mixture(
        weights=tuple((weights / weights.sum()).tolist()),
        means=tuple(map(tuple, means.tolist())),
        sigmas=(curve.sigma,) * len(means),
    )


@partial(jax.jit, static_argnums=0)
def _log_prob(curve: Curve, x: jax.typing.ArrayLike) -> jax.Array:
    return jax.lax.map(curve.mixture().log_prob, jnp.asarray(x), batch_size=BATCH)


@cache
def _entropy(curve: Curve) -> float:
    means, step = np.array(curve.mixture().means), STEP * curve.sigma
    margin = MARGIN * curve.sigma
    ends = zip(means.min(axis=0) - margin, means.max(axis=0) + margin)
    grid = np.meshgrid(*(np.arange(low, high, step) for low, high in ends))
    with jax.enable_x64(True):
        log_p = np.asarray(curve.log_prob(np.stack(grid, axis=-1).reshape(-1, 2)))
    return float(-(step**2) * np.sum(np.exp(log_p) * log_p))


@cache
def _tree(curve: Curve) -> tuple[scipy.spatial.cKDTree, np.ndarray]:
    n = len(curve.arcs) * curve.steps(SEARCH)
    u = (np.arange(n) + 0.5) / n
    return scipy.spatial.cKDTree(curve.at(u)), u
