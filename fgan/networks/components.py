"""A generator that begins as a mixture of Gaussians fitted to the rows, and learns what these lack."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from estimators.critics.networks import MLP
from estimators.distributions.mixture_fit import MixtureFit, mixture_fit

ROWS = 4000
"""Rows that the mixture is fitted to: of a group of 2 %, eighty."""
NARROW = 0.03
"""Least deviation of a component, where a coordinate of the data has one near 1."""


@dataclass(frozen=True, eq=False)
class Start:
    """The mixture that the parameters begin at; without one they are zeros, which a checkpoint replaces."""

    mixture: MixtureFit


class Components(nn.Module):
    """x = μ_c + L_c ε + g·m(z, ε, c), the component c drawn by fixed shares w, (z, ε) ~ N(0, I).

    A rare group of rows has a component and a share of its own, so that no divergence can lose it by chance, and no
    continuous path leads from one group to another. At the start g = 0: the law is the mixture that was fitted. μ, L, g
    and the network m are trained; c is not a function that a gradient sees, so w stays.

    The input is (z, ε, t) with t ~ N(0, 1): c is the component in whose share of (0, 1) Φ(t) falls.
    """

    network: MLP
    dim: int
    components: int
    noise: int  # the dimension of z
    start: Start | None = None

    @property
    def latent(self) -> int:
        """The dimension of the input."""
        return self.noise + self.dim + 1

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        k, d = self.components, self.dim
        weights, means, roots = (
            self.param(name, lambda _, i=i, shape=shape: self._first(i, shape))
            for i, (name, shape) in enumerate({"weights": (k,), "means": (k, d), "roots": (k, d, d)}.items())
        )
        below = jnp.cumsum(jax.lax.stop_gradient(weights))[:-1]
        chosen = jnp.sum(jax.scipy.stats.norm.cdf(inputs[:, -1:]) >= below[None], axis=1)
        one_hot = jax.nn.one_hot(chosen, k)
        epsilon = inputs[:, self.noise : -1]
        spread = jnp.einsum("nk,kde,ne->nd", one_hot, jnp.tril(roots), epsilon, precision="highest")
        bent = self.network(jnp.concatenate([inputs[:, :-1], one_hot], axis=1))
        gate = self.param("gate", nn.initializers.zeros, (d,))
        return jnp.matmul(one_hot, means, precision="highest") + spread + gate[None] * bent

    def _first(self, part: int, shape: tuple[int, ...]) -> jax.Array:
        """A parameter's first value; components that the fit does not have get a share of 0."""
        values = np.zeros(shape, np.float32)
        if self.start is not None:
            fitted = self.start.mixture[part]
            values[: len(fitted)] = fitted
        return jnp.asarray(values)


def components(network: MLP, most: int, noise: int, data: Any) -> Components:
    """The generator for the rows of a data set; for one without rows, as a restored run has it, one without a start."""
    start = Start(mixture_fit(data.reference(ROWS).astype(np.float64), most, NARROW)) if len(data.rows) else None
    return Components(network, data.dim, most, noise, start)
