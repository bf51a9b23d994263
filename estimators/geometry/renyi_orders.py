"""Rényi's divergence as a function of its order, D_α(P‖Q) = log E_Q[(p/q)^α] / (α − 1), with its limits.

    α → 0    −log Q(p > 0)            how much of Q lies where P has mass
    α = ½    −2 log ∫√(pq)            symmetric in P and Q
    α → 1    KL(P‖Q)
    α = 2    log(1 + χ²)
    α → ∞    log ess sup p/q          the worst case

It grows with α; (1 − α) D_α is concave in α; and D_α(P‖Q) = α/(1 − α) D_{1−α}(Q‖P) for 0 < α < 1 (skew symmetry).
Here for categoricals at all orders at once, and for Gaussians; `exact_values.gaussian.renyi` is the differentiable and
traceable form for the orders between. `renyi_bound` is the variational bound that a critic trains on.

Source: Rényi 1961; van Erven & Harremoës 2014.
"""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from estimators.divergences.bounds import Expectation, log_mean_exp, mean
from estimators.divergences.generator import as_float
from estimators.exact_values import gaussian
from estimators.plot_style import EXACT, PALETTE, STYLE, save

CLOSE = 0.5
"""|α − 1| max |log p/q| below which log E_P[(p/q)^{α−1}] is computed as log(1 + E_P[expm1 …]): the sum of powers loses
digits as it nears 1, that of their distances from 1 overflows far away."""


def renyi(log_p: ArrayLike, log_q: ArrayLike, alpha: ArrayLike) -> jax.Array:
    """D_α(P‖Q), [*a, ...], of normalised log-probabilities [..., k] and orders α [*a] in [0, ∞], both ends included.

    inf where Q misses a value of P and α ≥ 1, or where no value has mass in both. Differentiable for 0 < α < ∞.

    Raises:
        ValueError: a negative order (not where it is traced), or shapes that do not fit.

    >>> log_p, log_q = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    >>> [round(float(v), 4) for v in renyi(log_p, log_q, np.array([0.0, 0.5, 1.0, 2.0, np.inf]))]
    [0.0, 0.0693, 0.1438, 0.2877, 0.6931]
    """
    return _over_orders(*_aligned(log_p, log_q, alpha))


@jax.jit
def _over_orders(log_p: jax.Array, log_q: jax.Array, order: jax.Array) -> jax.Array:
    """D_α, [...], of log-probabilities [..., k] and orders [...]."""
    in_p, both = jnp.isfinite(log_p), jnp.isfinite(log_p) & jnp.isfinite(log_q)
    missed = jnp.sum(jnp.where(in_p & ~both, jnp.exp(log_p), 0.0), axis=-1)
    ratio = jnp.where(both, jnp.where(both, log_p, 0.0) - jnp.where(both, log_q, 0.0), 0.0)
    p = jnp.where(both, jnp.exp(log_p), 0.0)
    s = jnp.where(jnp.isinf(order), 1.0, order - 1.0)
    power = s[..., None] * ratio
    near = jnp.max(jnp.abs(power), axis=-1) < CLOSE
    close = jnp.log1p(jnp.sum(p * jnp.expm1(jnp.where(near[..., None], power, 0.0)), axis=-1) - missed)
    far = logsumexp(jnp.where(both, log_p, -jnp.inf) + power, axis=-1)
    value = jnp.where(near, close, far) / jnp.where(s == 0.0, 1.0, s)
    mean = jnp.sum(p * ratio, axis=-1)
    spread = jnp.sum(p * (ratio - mean[..., None]) ** 2, axis=-1)
    value = jnp.where(s == 0.0, mean + 0.5 * s * spread, value)  # with the slope that D_α has at α = 1
    value = jnp.where(jnp.isinf(order), jnp.max(jnp.where(both, ratio, -jnp.inf), axis=-1), value)
    return jnp.where((order >= 1.0) & (missed > 0.0), jnp.inf, value)


def _aligned(log_p: ArrayLike, log_q: ArrayLike, alpha: ArrayLike) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Log-probabilities of shape [*a, ..., k], and orders [*a, ...]."""
    first, second = as_float(jnp.asarray(log_p)), as_float(jnp.asarray(log_q))
    if first.ndim == 0 or second.ndim == 0 or first.shape[-1] != second.shape[-1]:
        raise ValueError(f"log-probabilities of shape {first.shape} and {second.shape}: both are [..., k] with one k")
    order = jnp.asarray(alpha, jnp.result_type(first, second))
    if not isinstance(order, jax.core.Tracer) and not bool(jnp.all(order >= 0.0)):
        raise ValueError(f"alpha = {alpha}: orders lie in [0, ∞]; swap P and Q for what a negative one would say")
    shape = order.shape + jnp.broadcast_shapes(first.shape, second.shape)
    order = jnp.broadcast_to(order.reshape(order.shape + (1,) * (len(shape) - 1 - order.ndim)), shape[:-1])
    return jnp.broadcast_to(first, shape), jnp.broadcast_to(second, shape), order


def renyi_gaussian(mean_p, cov_p, mean_q, cov_q, alpha: float) -> jax.Array:
    """D_α(P‖Q) of two Gaussians, [], for any order in [0, ∞]; arguments as in `gaussian`.

    D_0 = 0, since both live everywhere. D_∞ is finite only where Q is wider than P in every direction in which they
    differ; an eigenvalue of the relative covariance within rounding of 1 counts as 1.

    Raises:
        ValueError: a negative order.

    >>> args = np.zeros(1), np.ones(1), np.zeros(1), np.full(1, 4.0)
    >>> [round(float(renyi_gaussian(*args, a)), 4) for a in (0.0, 0.5, 1.0, 2.0, math.inf)]
    [0.0, 0.2231, 0.3181, 0.4133, 0.6931]
    """
    if not alpha >= 0.0:
        raise ValueError(f"alpha = {alpha}: orders lie in [0, ∞]; swap P and Q for what a negative one would say")
    if alpha == 0.0:
        return 0.0 * gaussian.kl(mean_p, cov_p, mean_q, cov_q)
    if alpha == 1.0:
        return gaussian.kl(mean_p, cov_p, mean_q, cov_q)
    if math.isinf(alpha):
        return _largest_log_ratio(mean_p, cov_p, mean_q, cov_q)
    return gaussian.renyi(mean_p, cov_p, mean_q, cov_q, alpha)


def _largest_log_ratio(mean_p, cov_p, mean_q, cov_q) -> jax.Array:
    """sup log p/q = Σ [−½ log λ + w²/(2(1 − λ))], λ and w P's variances and means on axes where Q = N(0, I)."""
    cov_p, cov_q = (jnp.diag(c) if c.ndim == 1 else c for c in (as_float(jnp.asarray(c)) for c in (cov_p, cov_q)))
    factor = jnp.linalg.cholesky(cov_q)
    gap = as_float(jnp.asarray(mean_p)) - as_float(jnp.asarray(mean_q))
    half = solve_triangular(factor, jnp.column_stack([cov_p, gap]), lower=True)
    variances, axes = jnp.linalg.eigh(solve_triangular(factor, half[:, :-1].T, lower=True))
    w = axes.T @ half[:, -1]
    slack = 64.0 * jnp.finfo(w.dtype).eps
    equal = jnp.abs(variances - 1.0) <= slack
    shift = w**2 / (2.0 * jnp.where(equal, 1.0, 1.0 - variances))
    shift = jnp.where(equal, jnp.where(jnp.abs(w) <= slack, 0.0, jnp.inf), jnp.where(variances < 1.0, shift, jnp.inf))
    return jnp.sum(shift - 0.5 * jnp.where(equal, 0.0, jnp.log(variances)))


def renyi_bound(v_p: jax.Array, v_q: jax.Array, alpha: float, *, expectation: Expectation = mean) -> jax.Array:
    """α/(α − 1) log E_P[e^{(α−1)v}] − log E_Q[e^{αv}] ≤ D_α(P‖Q), tight where v = log p/q + constant; α → 1 is DV's.

    Both logarithms of means are biased on samples, as Donsker and Varadhan's is; α > 1 has the variance of e^{αv}.

    Args:
        v_p, v_q: a critic's values on samples of P [n] and of Q [m].
        alpha: the order, positive and finite.

    Raises:
        ValueError: an order that is not positive and finite.

    Source: Birrell, Dupuis, Katsoulakis, Rey-Bellet, Wang 2021, whose R_α is D_α/α.

    >>> log_ratio = jnp.log(jnp.asarray([2.0, 2.0 / 3.0]))      # P = (½, ½), Q = (¼, ¾), by their frequencies
    >>> v_p, v_q = log_ratio, log_ratio[jnp.asarray([0, 1, 1, 1])]
    >>> round(float(renyi_bound(v_p, v_q, 2.0)), 4)
    0.2877
    """
    if not 0.0 < alpha < math.inf:
        raise ValueError(f"alpha = {alpha}: the bound needs a positive, finite order")
    of_q = log_mean_exp(alpha * v_q, expectation)
    if alpha == 1.0:
        return expectation(v_p) - of_q
    return alpha / (alpha - 1.0) * log_mean_exp((alpha - 1.0) * v_p, expectation) - of_q


def draw(path: Path) -> Path:
    """Draw D_α over all orders for pairs that differ in kind, with the limits as dots; return `path`."""
    import matplotlib.pyplot as plt

    place = np.linspace(0.0, 1.0, 201)  # α/(1 + α), which takes [0, ∞] to [0, 1]
    with np.errstate(divide="ignore"):
        orders = place / (1.0 - place)
        categorical = {
            "(½, ½) and (¼, ¾)": np.log([[0.5, 0.5], [0.25, 0.75]]),
            "P is Q given an event": np.log([[0.5, 0.5, 0.0], [0.3, 0.3, 0.4]]),
            "Q misses a value of P": np.log([[0.5, 0.45, 0.05], [0.3, 0.7, 0.0]]),
        }
    gaussians = {
        "N(0, 1) and N(0, 2²)": (np.zeros(1), np.ones(1), np.zeros(1), np.full(1, 4.0)),
        "N(0, 1) and N(0.7, 1)": (np.zeros(1), np.ones(1), np.full(1, 0.7), np.ones(1)),
    }
    with jax.enable_x64(True):
        curves = {name: np.asarray(renyi(pair[0], pair[1], orders)) for name, pair in categorical.items()}
        for name, args in gaussians.items():
            curves[name] = np.array([float(renyi_gaussian(*args, float(a))) for a in orders])
    named = {0.0: "0", 0.5: "½", 1.0: "1\n(KL)", 2.0: "2", 5.0: "5", math.inf: "∞"}
    ticks = [1.0 if math.isinf(a) else a / (1.0 + a) for a in named]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.0, 4.2))
        for (name, curve), colour in zip(curves.items(), PALETTE):
            shown = np.where(np.isfinite(curve) & (curve < 2.0), curve, np.nan)
            axis.plot(place, shown, color=colour, lw=2, label=name)
            at = np.rint(200 * np.array(ticks)).astype(int)
            axis.plot(place[at], shown[at], "o", color=colour, ms=5, mec="white", mew=0.6)
        axis.axvline(0.5, **EXACT)
        axis.set_xticks(ticks, list(named.values()))
        axis.set(xlim=(-0.01, 1.01), ylim=(-0.02, 1.3), xlabel="order α", ylabel="Rényi divergence (nats)")
        figure.legend(loc="outside right upper")
        return save(figure, path)
