"""The exact D_f(data‖model) of a generator whose density is known, in the units the networks see, which D_f ignores."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.exact_values.monte_carlo import defensive
from estimators.exact_values.quadrature import LogDensity, in_blocks, integrate
from fgan.data.dataset import Dataset
from fgan.networks.flows import standard_normal

ON_LINE = 1e-6
"""Largest error of an integral on the line, relative to 1 + D_f."""
IN_PLANE = 1e-4
"""Largest change of an integral in the plane when its step is halved, relative to 1 + D_f. A spline bends at its knots,
which costs seconds below this."""
MASS = 1e-4
"""Largest error of P's mass that a rule may find."""
EXTENT, POINTS = 9.0, (256, 512, 1024)
"""The square in the plane that holds all but 1e-18 of N(0, I), and the points along a side, at first and at most.
At the first, 0.07 apart, the rule resolves Gaussians of deviation 0.05."""
DRAWS = 2**16
"""From data and model each, where quadrature is no way: a standard error near 0.002 for js, in about a second."""


class Exact(NamedTuple):
    """A divergence in nats, its standard error (0 by quadrature), and how it was found: quadrature, monte_carlo, or
    'monte_carlo, heavy tail', where a few draws carry the value and both numbers are likely too small."""

    value: float
    standard_error: float
    method: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Law:
    """A Distribution from jax functions: `density` x [n, d] → log density [n], `draw` (key, n) → [n, d]."""

    dim: int
    density: Callable[[jax.Array], jax.Array]
    draw: Callable[[jax.Array, int], jax.typing.ArrayLike]
    from_normal: Callable[[jax.Array], tuple[jax.Array, jax.Array]] | None = None
    """z ~ N(0, I) → (x, log |det dx/dz|), where the distribution comes from such a map."""

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        return in_blocks(self.density, x)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return np.asarray(self.draw(jax.random.key(int(rng.integers(2**32))), n), np.float64)


def of_data(data: Dataset) -> Law:
    """The distribution of a known target, as the networks see it."""
    rows = jnp.asarray(data.rows)
    return Law(dim=data.dim, density=jax.jit(data.log_prob), draw=lambda key, n: data.draw(key, rows, n))


class OfModel:
    """Parameters of an invertible network → the distribution that it makes; compiled once for all of them."""

    def __init__(self, network: Any, dim: int):
        self.dim = dim
        self._density = jax.jit(partial(network.apply, method="log_prob"))
        self._from_normal = jax.jit(partial(network.apply, method="with_log_slope"))
        self._draw = jax.jit(lambda p, key, n: network.apply(p, jax.random.normal(key, (n, dim))), static_argnums=2)

    def __call__(self, parameters: Any) -> Law:
        with jax.enable_x64(True):
            exact = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), parameters)
        return Law(
            dim=self.dim,
            density=partial(self._density, exact),
            draw=partial(self._draw, parameters),
            from_normal=partial(self._from_normal, exact),
        )


def exact(p: Law, q: Law, *divergences: FDivergence) -> tuple[Exact, ...]:
    """Each D_f(P‖Q), Q of an invertible network: by quadrature on the line and in the plane, else, or where that does
    not settle, by Monte Carlo.

    The integral is over z, of p(x(z))|det dx/dz| against N(z; 0, I): D_f is the same in all coordinates, and in these
    the model is as smooth as can be, however thin the curves that it lies along.
    """
    log_p = partial(in_latent, p, q)
    rule = {1: from_line, 2: from_plane}.get(p.dim, lambda log_p, divergences: [None] * len(divergences))
    found = []
    for d, value in zip(divergences, rule(log_p, divergences), strict=True):
        if value is None:
            drawn = defensive(p, q, d, draws=DRAWS)
            method = "monte_carlo, heavy tail" if drawn.heavy_tailed else "monte_carlo"
            found.append(Exact(float(drawn.value), float(drawn.standard_error), method))
        else:
            found.append(Exact(value, 0.0, "quadrature"))
    return tuple(found)


def in_latent(p: Law, q: Law, z: jax.Array) -> jax.Array:
    """The log density of P in the coordinates z that Q's map starts from: [n, d] → [n]."""
    assert q.from_normal is not None
    x, log_slope = q.from_normal(z)
    return p.density(x) + log_slope


def from_line(log_p: LogDensity, divergences: Sequence[FDivergence]) -> list[float | None]:
    """Each D_f(P‖N(0, 1)) on the line, None where an integral does not settle. `log_p` takes [n, 1]."""

    def integral(log_integrand):
        try:
            return integrate(
                lambda z: jnp.exp(log_integrand(log_p(z[:, None]), standard_normal(z[:, None]))), tol=ON_LINE
            )
        except ValueError:  # a peak too narrow for the rule
            return None

    mass = integral(lambda log_p, log_q: log_p)
    if mass is None or abs(mass - 1.0) > MASS:
        return [None] * len(divergences)
    found = [integral(log_perspective(d)) for d in divergences]
    return [None if v is None else d.value_at_one + v for d, v in zip(divergences, found, strict=True)]


def from_plane(log_p: LogDensity, divergences: Sequence[FDivergence]) -> list[float | None]:
    """Each D_f(P‖N(0, I)) in the plane by the trapezoidal rule, its step halved until two values agree.

    None where they never do, or where the rule does not find P's mass of 1.
    """
    last: dict[FDivergence, float] = {}
    found: dict[FDivergence, float] = {}
    for n in POINTS:
        axis = np.linspace(-EXTENT, EXTENT, n, endpoint=False)
        z, area = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), (2.0 * EXTENT / n) ** 2
        at_z = in_blocks(log_p, z)
        off = abs(area * float(np.exp(at_z).sum()) - 1.0)
        for d in (d for d in divergences if d not in found):
            with jax.enable_x64(True):
                inside = log_perspective(d)(jnp.asarray(at_z), standard_normal(jnp.asarray(z)))
            value = area * float(np.exp(inside).sum())
            settled = math.isfinite(value) and abs(value - last.get(d, math.inf)) <= IN_PLANE * (1.0 + value)
            if settled and off <= MASS:
                found[d] = d.value_at_one + value
            last[d] = value
        if len(found) == len(divergences):
            break
    return [found.get(d) for d in divergences]
