"""The member of a family that is closest to a target under a divergence: the truth behind every mode-covering plot."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from scipy.optimize import OptimizeResult, minimize

from estimators.distributions.mixture import Mixture
from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.divergences.table import divergence
from estimators.exact_values.quadrature import (
    PLANE,
    REAL_LINE,
    LogDensity,
    Support,
    exact_divergence,
    line_rule,
    plane_rule,
)

PANELS = 256  # of Gauss–Legendre, on which a search on the line evaluates D_f; the result is integrated anew
POINTS = 160  # along an axis, on which a search in the plane does


class BestFit(NamedTuple):
    """The minimiser of D_f(P‖Q_θ) over θ, and the divergence there."""

    parameters: np.ndarray
    value: float


def best_fit(
    log_p: LogDensity,
    family: Callable[[jax.Array, jax.Array], jax.Array],
    start: Sequence[float] | Sequence[Sequence[float]],
    d: str | FDivergence,
    *,
    support: Support,
    swap: bool = False,
    tol: float = 1e-11,
) -> BestFit:
    """argmin_θ D_f(P‖Q_θ), by quadrature on fixed points.

    On the line by Nelder–Mead; on the plane, where families have more parameters, by BFGS on log(1 + D_f).

    Args:
        family: (θ [k], x [n] or [n, 2]) → log q_θ(x) [n], with jax.numpy.
        start: θ where the search starts, or several, the best of whose local optima is returned.
        support: finite interval, or rectangle, that holds all but a negligible mass of both, for the search; the value
            returned is integrated over the whole line or plane.
        swap: minimise D_f(Q_θ‖P) instead.
        tol: absolute error aimed at in the value returned.

    Raises:
        RuntimeError: the search converged from no start.
    """
    d = divergence(d)
    log_integrand = log_perspective(d)
    plane = np.ndim(support) == 2
    x, w = plane_rule(PLANE, POINTS) if plane else line_rule(support, PANELS)  # type: ignore[arg-type]
    if plane:  # outside the rectangle there is nothing to sum
        low, high = np.transpose(support)
        held = np.all((low <= x) & (x <= high), axis=1)
        x, w = x[held], w[held]
    with jax.enable_x64(True):
        grid, weights = jnp.asarray(x), jnp.asarray(w)
        target = jnp.asarray(log_p(grid))

        def log_terms(theta):
            pair = (target, family(theta, grid))
            return log_integrand(*(pair[::-1] if swap else pair))

        search = (_bfgs if plane else _nelder_mead)(log_terms, weights)
        ends = [search(theta) for theta in np.atleast_2d(np.asarray(start, np.float64))]
    if not any(end.success for end in ends):
        raise RuntimeError(f"best fit under {d.name} from {start} did not converge: {ends[0].message}")
    theta = min((end for end in ends if end.success), key=lambda end: end.fun).x

    def log_q(points):
        return family(jnp.asarray(theta), points)

    first, second = (log_q, log_p) if swap else (log_p, log_q)
    value = exact_divergence(first, second, d, PLANE if plane else REAL_LINE, tol=tol)
    return BestFit(parameters=theta, value=value)


Search = Callable[[np.ndarray], OptimizeResult]


def _nelder_mead(log_terms: Callable[[jax.Array], jax.Array], weights: jax.Array) -> Search:
    """start → the minimum of Σ weights exp(log_terms(θ))."""
    value = jax.jit(lambda theta: weights @ jnp.exp(log_terms(theta)))
    options = {"xatol": 1e-8, "fatol": 1e-13, "maxiter": 4000, "maxfev": 4000}
    return partial(minimize, lambda t: float(value(jnp.asarray(t))), method="Nelder-Mead", options=options)


def _bfgs(log_terms: Callable[[jax.Array], jax.Array], weights: jax.Array) -> Search:
    """start → the minimum of log(1 + Σ weights exp(log_terms(θ))), whose gradient no term can overflow."""

    @jax.jit
    @jax.value_and_grad
    def value(theta):
        return logsumexp(jnp.append(log_terms(theta) + jnp.log(weights), 0.0))

    def evaluate(theta):
        loss, gradient = value(jnp.asarray(theta))
        return float(loss), np.asarray(gradient)

    return partial(minimize, evaluate, method="BFGS", jac=True, options={"gtol": 1e-7, "maxiter": 1000})


def log_gaussian(theta: jax.Array, x: jax.Array) -> jax.Array:
    """log N(x; μ, σ²), [n] at x [n], with θ = (μ, log σ)."""
    return -0.5 * ((x - theta[0]) / jnp.exp(theta[1])) ** 2 - theta[1] - 0.5 * math.log(2.0 * math.pi)


def best_gaussian(target: Mixture, d: str | FDivergence, start: tuple[float, float] | None = None) -> dict[str, float]:
    """{mu, sigma, value} of the Gaussian closest to `target` under D_f(target‖·), exact by quadrature.

    Args:
        start: (μ, σ) where the search starts; the target's own mean and 0.9 of its deviation if None, since every
            divergence of the table is finite there.
    """
    mean, deviation = target.moments()
    mu, sigma = start or (mean, 0.9 * deviation)
    support = (mean - 12 * deviation, mean + 12 * deviation)
    fit = best_fit(target.log_prob, log_gaussian, (mu, math.log(sigma)), d, support=support)
    return {"mu": float(fit.parameters[0]), "sigma": math.exp(fit.parameters[1]), "value": fit.value}


def log_gaussian_plane(theta: jax.Array, x: jax.Array) -> jax.Array:
    """log N(x; μ, LLᵀ), [n] at x [n, 2], with θ = (μ₁, μ₂, log L₁₁, L₂₁, log L₂₂)."""
    z_1 = (x[:, 0] - theta[0]) / jnp.exp(theta[2])
    z_2 = (x[:, 1] - theta[1] - theta[3] * z_1) / jnp.exp(theta[4])
    return -0.5 * (z_1**2 + z_2**2) - theta[2] - theta[4] - math.log(2.0 * math.pi)


def best_gaussian_plane(target: Mixture, d: str | FDivergence) -> dict[str, Any]:
    """{mu [2], covariance [2][2], value} of the Gaussian closest to `target` under D_f(target‖·), exact by quadrature.

    The best of the local optima found from the target's mean and 0.8 of its covariance, and from each of its
    components, 1.5 times as wide.
    """
    mean, covariance = target.mean_and_covariance()
    margin = 8.0 * math.sqrt(np.trace(covariance))
    begin = [(mean, np.linalg.cholesky(0.8 * covariance))]
    begin += [(np.array(m), 1.5 * s * np.eye(2)) for m, s in zip(target.means, target.sigmas)]
    starts = [[*m, math.log(root[0, 0]), root[1, 0], math.log(root[1, 1])] for m, root in begin]
    first, second = zip((mean - margin).tolist(), (mean + margin).tolist())
    fit = best_fit(target.log_prob, log_gaussian_plane, starts, d, support=(first, second), tol=1e-7)
    a, b, c = fit.parameters[2:]
    factor = np.array([[math.exp(a), 0.0], [b, math.exp(c)]])
    return {"mu": fit.parameters[:2].tolist(), "covariance": (factor @ factor.T).tolist(), "value": fit.value}
