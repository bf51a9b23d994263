"""The exact D_f(data‖model) of a generator whose density is known, in the units the networks see, which D_f ignores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from estimators.divergences.generator import FDivergence
from estimators.exact_values.monte_carlo import defensive
from estimators.exact_values.quadrature import PLANE, REAL_LINE, exact_divergence, in_blocks
from fgan.data.dataset import Dataset

TOLERANCE = 1e-4
"""Of a quadrature, relative to 1 + D_f. A spline bends at its knots, which in the plane costs seconds below this."""

DRAWS = 2**16
"""From data and model each, where quadrature is no way: a standard error near 0.002 for js, in about a second."""


class Exact(NamedTuple):
    """A divergence in nats, its standard error (0 by quadrature), and how it was found."""

    value: float
    standard_error: float
    method: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Law:
    """A Distribution from jax functions: `density` x [n, d] → log density [n], `draw` (key, n) → [n, d]."""

    dim: int
    density: Callable[[jax.Array], jax.Array]
    draw: Callable[[jax.Array, int], jax.typing.ArrayLike]

    def log_density(self, x: jax.Array) -> jax.Array:
        """log density of points as a quadrature has them: [n] on the line, [n, d] elsewhere."""
        return self.density(x[:, None] if x.ndim == 1 else x)

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
        self._draw = jax.jit(lambda p, key, n: network.apply(p, jax.random.normal(key, (n, dim))), static_argnums=2)

    def __call__(self, parameters: Any) -> Law:
        with jax.enable_x64(True):
            exact = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), parameters)
        return Law(dim=self.dim, density=partial(self._density, exact), draw=partial(self._draw, parameters))


def exact(p: Law, q: Law, d: FDivergence) -> Exact:
    """D_f(P‖Q) by quadrature on the line and in the plane, else, or where it does not settle, by Monte Carlo."""
    if p.dim <= 2:
        try:
            support: Any = REAL_LINE if p.dim == 1 else PLANE
            return Exact(exact_divergence(p.log_density, q.log_density, d, support, tol=TOLERANCE), 0.0, "quadrature")
        except ValueError:  # a peak too narrow for the rule, or a kink in the plane
            pass
    value, error = defensive(p, q, d, draws=DRAWS)
    return Exact(float(value), float(error), "monte_carlo")
