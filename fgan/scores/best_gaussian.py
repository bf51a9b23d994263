"""The Gaussian closest to a mixture under any divergence, exact by quadrature."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from estimators.distributions.examples import Mixture
from estimators.exact_values.quadrature import best_fit


def log_gaussian(theta: jax.Array, x: jax.Array) -> jax.Array:
    """log N(x; μ, σ²) with θ = (μ, log σ): the family that LocationScale generates."""
    return -0.5 * ((x - theta[0]) / jnp.exp(theta[1])) ** 2 - theta[1] - 0.5 * math.log(2.0 * math.pi)


def best_gaussian(target: Mixture, d, start: tuple[float, float] | None = None) -> dict[str, float]:
    """{mu, sigma, value} of the Gaussian closest to `target` under D_d(target‖·), exact by quadrature.

    Args:
        start: (μ, σ) to descend from; the target's moments, narrowed so that every row is finite there, if None.
    """
    mean, spread = target.moments()
    mu, sigma = start or (mean, 0.9 * spread)
    fit = best_fit(
        target.log_prob, log_gaussian, (mu, math.log(sigma)), d, support=(mean - 12 * spread, mean + 12 * spread)
    )
    return {"mu": float(fit.parameters[0]), "sigma": math.exp(fit.parameters[1]), "value": fit.value}


def log_gaussian_plane(theta: jax.Array, x: jax.Array) -> jax.Array:
    """log N(x; μ, LLᵀ), [n] at x [n, 2], with θ = (μ₁, μ₂, log L₁₁, L₂₁, log L₂₂): the family that Affine generates."""
    z_1 = (x[:, 0] - theta[0]) / jnp.exp(theta[2])
    z_2 = (x[:, 1] - theta[1] - theta[3] * z_1) / jnp.exp(theta[4])
    return -0.5 * (z_1**2 + z_2**2) - theta[2] - theta[4] - math.log(2.0 * math.pi)


def best_gaussian_plane(target: Mixture, d) -> dict[str, Any]:
    """{mu [2], covariance [2][2], value} of the Gaussian closest to `target` under D_d(target‖·), exact by quadrature.

    The best of the local optima reached from the target's mean and 0.8 of its covariance, and from each of its
    components, half as wide again.
    """
    mean, covariance = target.mean_and_covariance()
    reach = 8.0 * math.sqrt(np.trace(covariance))
    low, high = (mean - reach).tolist(), (mean + reach).tolist()
    box = ((low[0], high[0]), (low[1], high[1]))
    begin = [(mean, np.linalg.cholesky(0.8 * covariance))]
    begin += [(np.array(m), 1.5 * s * np.eye(2)) for m, s in zip(target.means, target.sigmas, strict=True)]
    starts = [[*m, math.log(root[0, 0]), root[1, 0], math.log(root[1, 1])] for m, root in begin]
    fit = best_fit(target.log_prob, log_gaussian_plane, starts, d, support=box, tol=1e-7)
    a, b, c = fit.parameters[2:]
    factor = np.array([[math.exp(a), 0.0], [b, math.exp(c)]])
    return {"mu": fit.parameters[:2].tolist(), "covariance": (factor @ factor.T).tolist(), "value": fit.value}
