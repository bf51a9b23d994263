"""Noisy curves in the plane: points uniform along arcs, moved off them by Gaussian noise.

A curve is data: arcs, and the standard deviation of the noise. Its density is the integral of a Gaussian along the
arcs; by Gauss–Legendre quadrature it is a mixture of Gaussians on the arcs, exact to rounding. Nats; float64, but for
samples.
"""

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
    """c(t) = centre + (radius + growth·t) (cos t, sin t), start ≤ t ≤ end: an arc of a circle or Archimedean spiral."""

    start: float
    end: float
    centre: tuple[float, float] = (0.0, 0.0)
    radius: float = 0.0
    growth: float = 0.0

    def speed(self) -> float:
        """The largest |c'(t)|."""
        return max(math.hypot(self.radius + self.growth * t, self.growth) for t in (self.start, self.end))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The law of c(U) + σε, ε ~ N(0, I₂), U uniform on [0, 1]: each arc has an equal share of [0, 1].

    Within an arc the angle t is uniform, not the length.
    """

    arcs: tuple[Arc, ...]
    sigma: float
    dim = 2

    def __post_init__(self):
        if not (self.arcs and 0.0 < self.sigma < math.inf):
            raise ValueError(f"a curve needs at least one arc and a positive sigma, got {self.arcs}, {self.sigma}")

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

    @cache  # noqa: B019 (equal curves share it, here and below)
    def mixture(self) -> Mixture:
        """The same law as a mixture of Gaussians at the nodes of a quadrature along the arcs, exact to rounding."""
        panels = len(self.arcs) * self.steps(PANEL)
        nodes, weights = np.polynomial.legendre.leggauss(ORDER)
        u = (np.arange(panels)[:, None] + 0.5 * (nodes + 1.0)[None]) / panels
        weights = np.tile(0.5 * weights / panels, panels)
        shares, means = (weights / weights.sum()).tolist(), map(tuple, self.at(u.ravel()).tolist())
        return Mixture(weights=tuple(shares), means=tuple(means), sigmas=(self.sigma,) * len(shares))

    @partial(jax.jit, static_argnums=0)
    def log_prob(self, x: jax.typing.ArrayLike) -> jax.Array:
        """log ∫₀¹ N(x; c(u), σ²I) du at x: [n, 2] → [n]. In the precision of x.

        In float64 exact to rounding near the curve; 100 σ away, where it is in the thousands, to 1e-5 of itself.
        """
        return jax.lax.map(self.mixture().log_prob, jnp.asarray(x), batch_size=BATCH)

    @cache  # noqa: B019
    def entropy(self) -> float:
        """−E[log p], nats, by the trapezoidal rule in the plane, which smooth densities make exact to about 1e-8."""
        means, step, margin = np.array(self.mixture().means), STEP * self.sigma, MARGIN * self.sigma
        ends = zip(means.min(axis=0) - margin, means.max(axis=0) + margin)
        grid = np.meshgrid(*(np.arange(low, high, step) for low, high in ends))
        with jax.enable_x64(True):
            log_p = np.asarray(self.log_prob(np.stack(grid, axis=-1).reshape(-1, 2)))
        return float(-(step**2) * np.sum(np.exp(log_p) * log_p))

    def nearest(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(distance from the curve [n], u of the nearest point on it [n]) of points x [n, 2].

        The search is among points at most σ/20 apart: distances are right within σ/40.
        """
        tree, u = self._points()
        distance, index = tree.query(x)
        return distance, u[index]

    @cache  # noqa: B019
    def _points(self) -> tuple[scipy.spatial.cKDTree, np.ndarray]:
        n = len(self.arcs) * self.steps(SEARCH)
        u = (np.arange(n) + 0.5) / n
        return scipy.spatial.cKDTree(self.at(u)), u

    def steps(self, spacing: float) -> int:
        """How many equal steps an arc needs for none to be longer than `spacing` sigma."""
        return max(math.ceil(a.speed() * abs(a.end - a.start) / (spacing * self.sigma)) for a in self.arcs)
