"""How well a variational autoencoder explains rows it was not trained on: bounds on log p(x), rate, distortion."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from estimators.objectives import elbo
from fgan.models.vae import VAE

DRAWS = 64
"""Draws of z for each row, as is usual for reported importance-weighted bounds (Burda et al. 2016 used 50 and 5,000).
The ELBO averages over the same ones."""
MOST = 1000  # rows: the standard error of the ELBO is below 0.2 nats on the digits


class Bounds:
    """state → the bounds of `model` on rows [n, d], the same noise every time."""

    def __init__(self, model: VAE, rows: np.ndarray):
        self.model, self.rows = model, rows
        self._terms = jax.jit(self._of_each)

    def __call__(self, state: Any) -> dict[str, Any]:
        """Means over the rows in nats, the standard error of the ELBO over rows, and how many coordinates are used."""
        distortion, rate, weighted, mean = self._terms(state.parameters)
        bound = -np.asarray(distortion + rate, np.float64)
        return {
            "elbo": float(bound.mean()),
            "elbo_standard_error": float(bound.std(ddof=1) / len(bound) ** 0.5) if len(bound) > 1 else None,
            f"importance_weighted_{DRAWS}": float(np.mean(weighted)),
            "rate": float(np.mean(rate)),
            "distortion": float(np.mean(distortion)),
            "active_units": int(elbo.active_units(mean)),
            "latent": self.model.latent,
        }

    def _of_each(self, parameters: Any) -> tuple[jax.Array, ...]:
        """(distortion, rate, importance-weighted bound, mean of q) of each row, one draw of z after another."""
        rows = jnp.asarray(self.rows)

        def draw(key):
            noise = jax.random.normal(key, (len(rows), 1, self.model.latent))
            terms = self.model.terms(parameters, noise, rows)
            return terms.log_likelihood[:, 0], terms.log_weights()[:, 0]

        log_likelihood, logs = jax.lax.map(draw, jax.random.split(jax.random.key(0), DRAWS))
        mean, variance = self.model.encode(parameters, rows)
        rate = jnp.sum(elbo.kl_rate(mean, variance), axis=-1)
        return -jnp.mean(log_likelihood, axis=0), rate, elbo.importance_weighted(logs.T), mean
