"""The fits measured: every seed by quadrature against exact values, the numbers of the median seed on top."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from estimators.distributions.elliptical import Gaussian
from estimators.distributions.examples import TWO_MODES, normal
from estimators.distributions.mixture import Mixture
from estimators.divergences.generator import SMOOTHING, FDivergence
from estimators.exact_values.fits import best_gaussian, best_gaussian_plane
from estimators.exact_values.quadrature import PLANE, exact_bound, exact_divergence
from fgan.experiments.modes.training import PLANE_START, Fit, PlaneFit, critic_for

FRESH = 200_000  # samples for the bound as a user without densities would measure it
NUMBERS = ("mu", "sigma", "bound", "exact", "excess", "bound_samples", "bound_standard_error")
"""What is measured of a fit on the line."""


def measure(target: Mixture, d: FDivergence, fitted: Fit, seeds: Sequence[int], optimum: dict) -> dict[str, Any]:
    """The row of modes.json for one divergence: every seed measured exactly, the median seed's numbers on top."""
    measured = [
        {"seed": int(seed)} | _measure_one(target, d, fitted, i, optimum["value"]) for i, seed in enumerate(seeds)
    ]
    smoothed = f"smoothed ratio of a js-trained critic, -1/2 E_Q tanh(l/{SMOOTHING})"
    return {
        "divergence": d.name,
        **_middle(measured),
        "optimum": optimum,
        "skipped_steps": float(fitted.skipped.sum()),
        "generator_objective": "minimax" if d.smooth else smoothed,
        "seeds": measured,
    }


def _middle(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of the seed with the median excess; those without one, the diverged, count as the worst."""
    ranked = sorted(measured, key=lambda m: (math.isnan(m["excess"]), m["excess"]))
    return {name: value for name, value in ranked[(len(ranked) - 1) // 2].items() if name != "seed"}


def _measure_one(target: Mixture, d: FDivergence, fitted: Fit, i: int, best: float) -> dict[str, float]:
    mu, sigma = float(fitted.mu[i]), float(fitted.sigma[i])
    if not (math.isfinite(mu) and math.isfinite(sigma)):
        return dict.fromkeys(NUMBERS, math.nan)
    model = normal(mu, sigma)
    network: Any = critic_for(d)
    wide = jax.tree.map(lambda w: np.asarray(w[i], np.float64), fitted.critic)
    exact = exact_divergence(target.log_prob, model.log_prob, d)
    bound = exact_bound(target.log_prob, model.log_prob, lambda x: network.apply(wide, x[:, None]), d)
    g = d.activation()
    p_key, q_key = jax.random.split(jax.random.key(10_000 + i))
    critic = jax.tree.map(lambda w: w[i], fitted.critic)
    t_p = np.asarray(g.output(network.apply(critic, target.sample(p_key, FRESH))), np.float64)
    t_q = np.asarray(g.conjugate(network.apply(critic, model.sample(q_key, FRESH))), np.float64)
    error = float(math.sqrt((t_p.var() + t_q.var()) / FRESH))
    numbers = (mu, sigma, bound, exact, exact - best, float(t_p.mean() - t_q.mean()), error)
    return dict(zip(NUMBERS, numbers, strict=True))


def measure_plane(target: Mixture, d: FDivergence, fitted: PlaneFit, seeds: Sequence[int]) -> dict[str, Any]:
    """The row of `plane` for one divergence: every seed measured exactly, the median seed's numbers on top."""
    optimum = best_gaussian_plane(target, d)

    def one(seed, mu, covariance):
        exact = math.nan
        if np.isfinite(covariance).all() and np.isfinite(mu).all():
            model = Gaussian(location=mu, scatter=covariance)
            exact = exact_divergence(target.log_prob, model.log_prob, d, PLANE, tol=1e-7)  # type: ignore[arg-type]
        numbers = {"mu": mu.tolist(), "covariance": covariance.tolist()}
        return {"seed": int(seed)} | numbers | {"exact": exact, "excess": exact - optimum["value"]}

    measured = [one(*seed) for seed in zip(seeds, fitted.mu, fitted.covariance, strict=True)]
    return {
        "divergence": d.name,
        **_middle(measured),
        "start": dict(zip(("mu", "sigma"), PLANE_START, strict=True)),
        "optimum": optimum,
        "skipped_steps": float(fitted.skipped.sum()),
        "seeds": measured,
    }


def cross_table(target: Mixture, rows: Sequence[dict[str, Any]]) -> list[list[float]]:
    """[i][j]: the exact divergence j of the fit trained under divergence i; NaN where that fit diverged."""

    def exact(trained, tested):
        if not math.isfinite(trained["mu"]):
            return math.nan
        return exact_divergence(target.log_prob, normal(trained["mu"], trained["sigma"]).log_prob, tested["divergence"])

    return [[exact(trained, tested) for tested in rows] for trained in rows]


def two_modes_row(d: FDivergence, start: tuple[float, float], fitted: Fit) -> dict[str, Any]:
    """A fit to two equal modes from the start `mu`: the median seed, the exact local optimum beside it."""
    middle = int(np.argsort(fitted.mu)[len(fitted.mu) // 2])
    return {
        "divergence": d.name,
        "start": {"mu": start[0], "sigma": start[1]},
        "mu": float(fitted.mu[middle]),
        "sigma": float(fitted.sigma[middle]),
        "optimum": best_gaussian(TWO_MODES, d, start=start),
    }
