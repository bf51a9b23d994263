"""The divergence between two distributions of estimators.distributions, by the most exact way there is for the pair."""

import math
from contextlib import suppress
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from scipy import stats

from estimators.distributions.elliptical import Distribution, Elliptical, Gaussian
from estimators.distributions.product import Box, Product
from estimators.divergences.families import alpha
from estimators.divergences.generator import FDivergence
from estimators.divergences.table import DIVERGENCES, divergence
from estimators.exact_values.gaussian import closed_form
from estimators.exact_values.log_ratio_law import NotThisWay, from_overlap, gaussian_overlap
from estimators.exact_values.moments import Moments, of_moments, of_product
from estimators.exact_values.monte_carlo import defensive
from estimators.exact_values.quadrature import REAL_LINE, Interval, LogDensity, exact_divergence


class Truth(NamedTuple):
    """A divergence or a mutual information: nats, its standard error (0 unless Monte Carlo), how it was computed."""

    value: float
    standard_error: float
    how: Literal["closed form", "quadrature", "Monte Carlo"]


@cache
def true_divergence(p: Distribution, q: Distribution, name: str | FDivergence) -> Truth:
    """D_f(P‖Q), nats, by the most exact of these that applies.

    Closed forms (P = Q, boxes by volumes, Gaussians); quadrature on the line, for one-dimensional distributions and for
    pairs whose log-ratio is a function of one coordinate (`on_the_line`) or a sum over independent ones
    (`moments.of_product`), and of the law of the log-ratio between Gaussians; Monte Carlo with the exact log-ratio.
    """
    d = divergence(name)
    if p is q:
        return Truth(d.value_at_one, 0.0, "closed form")
    if isinstance(p, Box) and isinstance(q, Box):
        return Truth(_of_boxes(p, q, d), 0.0, "closed form")
    if isinstance(p, Gaussian) and isinstance(q, Gaussian) and (form := closed_form(d)):
        with jax.enable_x64(True):
            return Truth(float(form(p.location, p.scatter, q.location, q.scatter)), 0.0, "closed form")
    if (line := on_the_line(p, q)) is not None:
        return Truth(exact_divergence(line.log_p, line.log_q, d, line.support), 0.0, "quadrature")
    formula = of_moments(d)
    if isinstance(p, Product) and isinstance(q, Product) and formula:
        parts = [_moments_of_marginals(*pair) for pair in zip(p.marginals, q.marginals)]
        with jax.enable_x64(True):
            return Truth(float(formula(of_product(parts))), 0.0, "quadrature")
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        with suppress(NotThisWay), jax.enable_x64(True):
            overlap = gaussian_overlap(p.location, p.scatter, q.location, q.scatter)
            return Truth(from_overlap(overlap, d), 0.0, "quadrature")
    value, error, _ = defensive(p, q, d)
    return Truth(float(value), float(error), "Monte Carlo")


def _of_boxes(p: Box, q: Box, d: FDivergence) -> float:
    """|Q∖P|/|Q| f(0) + |P∖Q|/|P| f'(∞) + |P∩Q|/|Q| f(|Q|/|P|); infinite by the first two terms only."""
    share_p, share_q = (math.exp(p.log_overlap(q) - box.log_volume()) for box in (p, q))
    with jax.enable_x64(True):
        inside = share_q * float(d.f(np.exp(q.log_volume() - p.log_volume())))
    only_q = (1.0 - share_q) * d.value_at_zero if share_q < 1.0 - 1e-12 else 0.0
    only_p = (1.0 - share_p) * d.slope_at_infinity if share_p < 1.0 - 1e-12 else 0.0
    return inside + only_p + only_q


class Densities(NamedTuple):
    """Two log densities on the line, and the interval that holds both; arguments of `exact_divergence`."""

    log_p: LogDensity
    log_q: LogDensity
    support: Interval


@cache
def on_the_line(p: Distribution, q: Distribution) -> Densities | None:
    """Two densities on the line between which every D_f is that between p and q; None if this module knows none.

    The coordinate is x itself, the one along μp − μq between Gaussians of equal covariance, or the Mahalanobis radius
    between elliptical distributions of one centre and of proportional scatters. It is sufficient, so D_f stays.
    """
    if isinstance(p, Product) and isinstance(q, Product) and p.dim == 1:
        return _marginal(p.marginals[0], q.marginals[0])
    if p.dim == 1:
        log_p, log_q = (lambda x, law=law: law.log_prob(np.asarray(x)[:, None]) for law in (p, q))
        return Densities(log_p, log_q, REAL_LINE)
    if not (isinstance(p, Elliptical) and isinstance(q, Elliptical)):
        return None
    if isinstance(p, Gaussian) and isinstance(q, Gaussian) and np.array_equal(p.scatter, q.scatter):
        delta = float(np.linalg.norm(np.linalg.solve(p.factor, p.location - q.location)))
        return _marginal(stats.norm(delta), stats.norm())
    ratio = q.scatter[0, 0] / p.scatter[0, 0]
    if np.array_equal(p.location, q.location) and np.allclose(q.scatter, ratio * p.scatter, rtol=1e-13, atol=0.0):
        return Densities(_radial(p, p), _radial(q, p), (0.0, math.inf))
    return None


@cache
def _marginal(law_p: Any, law_q: Any) -> Densities:
    """Of two frozen SciPy distributions."""
    (low_p, high_p), (low_q, high_q) = law_p.support(), law_q.support()
    support = float(min(low_p, low_q)), float(max(high_p, high_q))
    return Densities(lambda x: law_p.logpdf(np.asarray(x)), lambda x: law_q.logpdf(np.asarray(x)), support)


def _moments_of_marginals(law_p: Any, law_q: Any) -> Moments:
    """Of two frozen SciPy distributions, by quadrature."""

    def log(order: float) -> float:
        return math.log1p(order * (order - 1.0) * _of_marginals(law_p, law_q, alpha(order)))

    kl, reverse = (partial(_of_marginals, law_p, law_q, DIVERGENCES[name]) for name in ("kl", "reverse_kl"))
    return Moments(kl, reverse, log)


@cache
def _of_marginals(law_p: Any, law_q: Any, d: FDivergence) -> float:
    if law_p is law_q:
        return d.value_at_one
    line = _marginal(law_p, law_q)
    return exact_divergence(line.log_p, line.log_q, d, line.support)


def _radial(law: Elliptical, frame: Elliptical) -> LogDensity:
    """log density of ρ = √((x − m)ᵀ S⁻¹ (x − m)), m and S those of `frame`: surface of the sphere, times ρ^{d−1} p."""
    d, ray = law.dim, frame.factor[:, 0]
    surface = math.log(2.0) + 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d)
    constant = surface + float(np.log(np.diagonal(frame.factor)).sum())

    def log_density(radius):
        rho = np.asarray(radius)
        return constant + (d - 1) * np.log(rho) + law.log_prob(frame.location + rho[:, None] * ray)

    return log_density
