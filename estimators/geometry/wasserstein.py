"""Wasserstein distances beside KL: what they cost, W_p = (inf E‖X − Y‖^p)^{1/p} over couplings, in units of the data.

    on_the_line         exact between samples on the line, any p, any two sizes
    of_quantiles        exact between distributions on the line, from their quantile functions
    by_assignment       exact between equally many samples in any dimension
    sinkhorn            entropic, with its bias removed; through ott-jax, the extra `ot`
    `exact_values.gaussian.wasserstein2`    between Gaussians (Bures)

A divergence compares densities at the same point; Wasserstein's distance asks how far mass must move. They disagree
where supports do not meet: between points a distance ε apart KL = ∞ and JS = log 2 for every ε > 0, while W_p = ε.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from estimators.divergences.generator import as_float
from estimators.exact_values import gaussian
from estimators.exact_values.line_integrals import log_integral
from estimators.exact_values.log_ratio_law import NotThisWay
from estimators.plot_style import EXACT, PALETTE, STYLE, save

MOST = 1000
"""Samples of each set that `beside_kl` matches in more than one dimension. The assignment takes some tenths of a
second, and its time grows with the cube."""


@partial(jax.jit, static_argnames="p")
def on_the_line(x: ArrayLike, y: ArrayLike, p: float = 1.0) -> jax.Array:
    """W_p, [...], between samples x [..., n] and y [..., m] on the line, matched in sorted order; p ≥ 1 or ∞.

    Differentiable where W_p > 0 and no samples tie.

    Raises:
        ValueError: p below 1, or no samples.

    Source: Villani 2003, theorem 2.18.

    >>> float(on_the_line([0.0, 1.0], [0.5, 0.5, 2.0, 2.0]))
    0.75
    """
    _check_order(p)
    x, y = as_float(jnp.asarray(x)), as_float(jnp.asarray(y))
    if x.ndim == 0 or y.ndim == 0 or 0 in (x.shape[-1], y.shape[-1]):
        raise ValueError(
            f"samples of shape {x.shape} and {y.shape}: they are [..., n] and [..., m], n and m at least 1"
        )
    n, m = x.shape[-1], y.shape[-1]
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)  # of both empirical distributions, times n·m
    from_x, from_y = levels[:-1] // m, levels[:-1] // n
    distance = jnp.abs(jnp.sort(x, axis=-1)[..., from_x] - jnp.sort(y, axis=-1)[..., from_y])
    largest = jnp.max(distance, axis=-1)
    if math.isinf(p):
        return largest
    unit = jax.lax.stop_gradient(jnp.where(largest > 0.0, largest, 1.0))  # so that no power leaves the float type
    shares = jnp.asarray(np.diff(levels) / (n * m), distance.dtype)
    powers = (distance / unit[..., None]) ** p
    return unit * jnp.einsum("...k,k->...", powers, shares, precision="highest") ** (1.0 / p)


def of_quantiles(quantile_p: Callable[[Any], Any], quantile_q: Callable[[Any], Any], p: float = 1.0) -> float:
    """W_p = (∫₀¹ |F⁻¹(u) − G⁻¹(u)|^p du)^{1/p} of quantile functions F⁻¹ and G⁻¹; p ≥ 1, finite.

    To about six digits for smooth quantile functions. Their steps are resolved to 1 % of u, so use samples for laws on
    few values. A tail so heavy that much of the integral lies where u rounds to 1 is refused.

    Source: Villani 2003, theorem 2.18.

    >>> from scipy import stats
    >>> round(of_quantiles(stats.norm(1.0, 2.0).ppf, stats.norm(0.0, 1.0).ppf, 2.0), 6)      # √(1² + (2 − 1)²)
    1.414214
    """
    _check_order(p)
    if math.isinf(p):
        raise ValueError("p = inf: the largest distance of quantiles is no integral; give a finite p")

    def cost(u):
        gap = np.abs(np.asarray(quantile_p(np.asarray(u))) - np.asarray(quantile_q(np.asarray(u))))
        with np.errstate(divide="ignore"):
            return jnp.asarray(p * np.log(gap))

    try:
        with jax.enable_x64(True):
            return math.exp(log_integral(cost, (0.0, 1.0), np.linspace(0.005, 0.995, 199)) / p)
    except NotThisWay:
        raise ValueError(
            f"p = {p}: much of the integral lies where u rounds to 1, or it does not settle; give a smaller p, or "
            "samples to on_the_line"
        ) from None


def by_assignment(x: ArrayLike, y: ArrayLike, p: float = 2.0) -> float:
    """W_p between x and y, both [n, d], by the best matching of their samples; Euclidean distances, p ≥ 1, finite.

    Time grows as n³: some tenths of a second for a thousand samples.

    Raises:
        ValueError: p below 1 or infinite, or shapes that differ.

    >>> by_assignment([[0.0, 0.0], [3.0, 0.0]], [[3.0, 4.0], [0.0, 0.0]])      # 0 and 4, √(16/2)
    2.8284271247461903
    """
    _check_order(p)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or x.shape != y.shape or math.isinf(p):
        raise ValueError(f"samples {x.shape} and {y.shape}, p = {p}: give two sets [n, d] of one size, and a finite p")
    distances = cdist(x, y)
    tiny = np.finfo(float).tiny
    matched = distances[linear_sum_assignment((distances / max(float(distances.max(initial=0.0)), tiny)) ** p)]
    unit = max(float(matched.max(initial=0.0)), tiny)  # so that no power leaves the float type
    return unit * float(((matched / unit) ** p).mean() ** (1.0 / p))


class Sinkhorn(NamedTuple):
    """The Sinkhorn divergence, in squared units of the data, and whether all of its three transports converged."""

    squared: float
    converged: bool


def sinkhorn(x: ArrayLike, y: ArrayLike, *, epsilon: float | None = None) -> Sinkhorn:
    """S_ε = OT_ε(x, y) − ½ OT_ε(x, x) − ½ OT_ε(y, y) of x [n, d] and y [m, d]: ≥ 0, and W₂² as ε → 0.

    OT_ε is the entropy-regularised transport cost of squared distances; by ott-jax: `pip install "fgan[ot]"`.

    Args:
        epsilon: strength of the regularisation, in squared units of the data; 5 % of the mean cost if None.

    Raises:
        ImportError: ott-jax is not installed.
        ValueError: sets that are not [n, d] and [m, d].

    Source: Cuturi 2013; Feydy et al. 2019 for the divergence.
    """
    x, y = as_float(jnp.asarray(x)), as_float(jnp.asarray(y))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"samples {x.shape} and {y.shape}: they must be [n, d] and [m, d]; use x[:, None] on the line")
    try:
        from ott.tools.sinkhorn_divergence import sinkdiv
    except ImportError as error:
        raise ImportError('Sinkhorn transport needs ott-jax: pip install "fgan[ot]"') from error
    with jax.numpy_rank_promotion("allow"):  # ott broadcasts so, which a user may have forbidden
        squared, details = sinkdiv(x, y, epsilon=epsilon)
    return Sinkhorn(float(squared), bool(np.all(details.converged)))


class Beside(NamedTuple):
    """Distances in units of the data, and divergences in nats, of the same samples."""

    wasserstein1: float
    wasserstein2: float
    kl: float
    js: float


def beside_kl(x: ArrayLike, y: ArrayLike, estimate: Callable[..., Any]) -> Beside:
    """W₁, W₂, KL and JS of the same samples x [n, d] ~ P and y [m, d] ~ Q.

    The distances are exact between the samples on the line; in more dimensions, between the first `MOST` of each at
    most, equally many. They exceed those of P and Q, by the distance between two sets of samples of one distribution.

    Args:
        estimate: `est.estimate`, or any function of (x, y, names) that returns results with a `value`.

    Raises:
        ValueError: sets that are not [n, d] and [m, d].

    >>> from types import SimpleNamespace
    >>> from estimators.geometry.categorical import between
    >>> def of_points(x, y, names):      # exact where the two sets are one point each
    ...     apart = float(x[0, 0] != y[0, 0])
    ...     return [SimpleNamespace(value=float(between([1, 0], [1 - apart, apart], name))) for name in names]
    >>> beside_kl(np.zeros((5, 1)), np.full((9, 1), 0.25), of_points)      # a quarter apart
    Beside(wasserstein1=0.25, wasserstein2=0.25, kl=inf, js=0.6931471805599453)
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"samples {x.shape} and {y.shape}: they must be [n, d] and [m, d]; use x[:, None] on the line")
    if x.shape[1] == 1:
        first, second = (float(on_the_line(x[:, 0], y[:, 0], p)) for p in (1.0, 2.0))
    else:
        n = min(len(x), len(y), MOST)
        first, second = (by_assignment(x[:n], y[:n], p) for p in (1.0, 2.0))
    kl, js = (float(found.value) for found in estimate(x, y, ["kl", "js"]))
    return Beside(first, second, kl, js)


def _check_order(p: float) -> None:
    if not p >= 1.0:
        raise ValueError(f"p = {p}: Wasserstein's distance needs p ≥ 1")


def draw(path: Path) -> Path:
    """Draw W, KL and JS of N(0, s²) and N(ε, s²) as s shrinks and as ε grows, exact; return `path`."""
    import matplotlib.pyplot as plt

    def panel(axis, along, gaps, widths, label):
        pairs = [(jnp.zeros(1), jnp.full(1, s**2), jnp.full(1, e), jnp.full(1, s**2)) for e, s in zip(gaps, widths)]
        curves = {
            "KL (nats)": [float(gaussian.kl(*pair)) for pair in pairs],
            "JS (nats)": [float(gaussian.js_equal_covariance(pair[0], pair[2], pair[1])) for pair in pairs],
            "W (units of the data)": [float(jnp.sqrt(gaussian.wasserstein2(*pair))) for pair in pairs],
        }
        for (name, curve), colour in zip(curves.items(), PALETTE):
            axis.plot(along, curve, color=colour, lw=2, label=name)
        axis.axhline(math.log(2.0), label="log 2", **EXACT)
        axis.set(ylim=(0.0, 2.0), xlabel=label)

    widths, gaps = np.geomspace(0.01, 2.0, 80), np.linspace(0.0, 1.5, 80)
    with plt.rc_context(STYLE), jax.enable_x64(True):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.8), sharey=True)
        panel(left, widths, np.full(80, 0.5), widths, "width s, at ε = 0.5")
        left.set_xscale("log")
        panel(right, gaps, gaps, np.full(80, 0.1), "distance ε, at s = 0.1")
        handles, names = left.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4)
        return save(figure, path)
