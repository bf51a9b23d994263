"""Families of f-divergences with one parameter. A function of `FAMILIES` turns the number into the divergence."""

import math
from collections.abc import Callable
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
from jax.nn import log1mexp, sigmoid, softplus
from jax.scipy.special import xlogy

from estimators.divergences.generator import SMOOTHING, Activation, FDivergence, identity, inside

NO_POWER = 1e-30
"""|k| up to which (e^{kx} − 1)/k is x to rounding for every x of float64's logarithms, and kx fits float32 above."""


@lru_cache(maxsize=256)
def alpha(a: float) -> FDivergence:
    """The α-divergence f(u) = (u^α − 1 − α(u − 1)) / (α(α − 1)), α ∉ {0, 1}, with f''(1) = 1.

    α → 1 is KL, α → 0 reverse KL. The activation for α < 1 is from Nowozin et al. 2016, table 6. By powers of u less 1
    over their exponents, (u^k − 1)/k → log u, nothing cancels near those two orders: f(u) is (u log u − (u − 1))/α with
    the power α − 1 for the logarithm, and as well (u − 1 − log u)/(1 − α) with the power α for it.
    """
    if a in (0.0, 1.0) or not math.isfinite(a):
        raise ValueError(f"alpha({a:g}) is defined only as a limit: use {'kl' if a == 1 else 'reverse_kl'}")
    edge = 1.0 / (1.0 - a)

    def f(u):
        if a <= 0.5:
            return (u - 1.0 - _power(a, u)) / (1.0 - a)
        there = u > 0.0
        return (jnp.where(there, u * _power(a - 1.0, jnp.where(there, u, 1.0)), 0.0) - (u - 1.0)) / a

    def conjugate(t):
        excess = (a - 1.0) * t
        positive = excess > -1.0
        branch = _rise(a, jnp.log1p(jnp.where(positive, excess, 0.0)) / (a - 1.0))
        if a > 1.0:  # below the edge the maximiser is u = 0
            return jnp.where(positive, branch, -1.0 / a)
        at_edge = -1.0 / a if a < 0.0 else jnp.inf
        return jnp.where(positive, branch, jnp.where(excess == -1.0, at_edge, jnp.inf))

    def log_base(v):  # log((α−1)T + 1) under the paper's activation
        if a < 1.0:
            return jnp.log1p(-a) + jnp.log(softplus(-v))
        positive = (a - 1.0) * v > -1.0
        return jnp.where(positive, jnp.log1p(jnp.where(positive, (a - 1.0) * v, 0.0)), math.log(1e-30))

    if a < 1.0:
        paper = Activation(
            output=lambda v: edge - softplus(-v),
            conjugate=lambda v: _rise(a, log_base(v) / (a - 1.0)),
            log_ratio=lambda v: log_base(v) / (a - 1.0),
        )
    else:
        paper = Activation(output=identity, conjugate=conjugate, log_ratio=lambda v: log_base(v) / (a - 1.0))
    return FDivergence(
        name=f"alpha({a:.15g})",
        f=f,
        source="Cichocki & Amari 2010; f''(1) = 1, so alpha(2) is half of pearson, alpha(0.5) twice squared_hellinger",
        formula="(u^α − 1 − α(u−1)) / (α(α−1))",
        prime=lambda u: _power(a - 1.0, u),
        second=lambda u: u ** (a - 2.0),
        conjugate=conjugate,
        value_at_zero=1.0 / a if a > 0.0 else math.inf,
        slope_at_infinity=edge if a < 1.0 else math.inf,
        closed=a < 0.0,
        paper=paper,
        log_ratio=Activation(
            output=lambda v: _rise(a - 1.0, v),
            conjugate=lambda v: _rise(a, v),
        ),
    )


# Both state their derivatives: that of JAX's expm1 is expm1 + 1, which is 0 where a power of u is below rounding.
@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _power(k: float, u):
    """(u^k − 1)/k, which tends to log u as k → 0 and has its digits all the way."""
    return _rise(k, jnp.log(u))


@_power.defjvp
def _(k, primals, tangents):
    return _power(k, primals[0]), primals[0] ** (k - 1.0) * tangents[0]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _rise(k: float, x):
    """(e^{kx} − 1)/k, which tends to x as k → 0."""
    return jnp.expm1(k * x) / k if abs(k) > NO_POWER else x


@_rise.defjvp
def _(k, primals, tangents):
    return _rise(k, primals[0]), jnp.exp(k * primals[0]) * tangents[0]


@lru_cache(maxsize=256)
def js_weighted(pi: float) -> FDivergence:
    """The Jensen–Shannon divergence with prior π on P: π KL(P‖M) + (1 − π) KL(Q‖M), M = πP + (1 − π)Q, 0 < π < 1.

    The activation is from Nowozin et al. 2016, table 6.
    """
    if not 0.0 < pi < 1.0:
        raise ValueError(f"js_weighted({pi:g}): the weight of P must lie strictly between 0 and 1")
    rest, entropy = 1.0 - pi, -pi * math.log(pi)

    def surprise(v):  # −log of π e^{T/π}, which is σ(v)^{1/π}
        return softplus(-v) / pi

    return FDivergence(
        name=f"js_weighted({pi:.15g})",
        f=lambda u: pi * xlogy(u, u) - (rest + pi * u) * jnp.log(rest + pi * u),
        source="Lin 1991; π is the weight of P, js_weighted(0.5) is the textbook js",
        formula="π u log u − (1−π+πu) log(1−π+πu)",
        prime=lambda u: pi * (jnp.log(u) - jnp.log(rest + pi * u)),
        second=lambda u: pi * rest / (u * (rest + pi * u)),
        conjugate=lambda t: inside(t, t < entropy, lambda s: -rest * jnp.log((1.0 - pi * jnp.exp(s / pi)) / rest), 0.0),
        value_at_zero=-rest * math.log(rest),
        slope_at_infinity=entropy,
        closed=False,
        paper=Activation(
            output=lambda v: entropy - softplus(-v),
            conjugate=lambda v: rest * (math.log(rest) - log1mexp(surprise(v))),
            log_ratio=lambda v: math.log(rest) - math.log(pi) - surprise(v) - log1mexp(surprise(v)),
        ),
        log_ratio=Activation(
            output=lambda v: -pi * jnp.logaddexp(math.log(pi), math.log(rest) - v),
            conjugate=lambda v: rest * jnp.logaddexp(math.log(rest), math.log(pi) + v),
        ),
    )


@lru_cache(maxsize=256)
def hockey_stick(gamma: float) -> FDivergence:
    """The hockey-stick divergence E_γ(P‖Q) = E_Q[(p/q − γ)₊], γ ≥ 1: the δ of (log γ, δ)-differential privacy."""
    if not gamma >= 1.0 or not math.isfinite(gamma):
        raise ValueError(f"hockey_stick({gamma:g}): needs a finite γ ≥ 1, else f(1) is not 0")
    centre = math.log(gamma)
    return FDivergence(
        name=f"hockey_stick({gamma:.15g})",
        f=lambda u: jnp.maximum(u - gamma, 0.0),
        source="Sason & Verdú 2016, eq. 53; γ = 1 is total variation",
        formula="max(u − γ, 0)",
        prime=lambda u: jnp.where(u > gamma, jnp.ones_like(u), 0.0),
        second=jnp.zeros_like,
        conjugate=lambda t: jnp.where(t <= 1.0, gamma * jnp.maximum(t, 0.0), jnp.inf),
        value_at_zero=0.0,
        slope_at_infinity=1.0,
        closed=True,
        paper=Activation(output=sigmoid, conjugate=lambda v: gamma * sigmoid(v)),
        log_ratio=Activation(
            output=lambda v: sigmoid(2.0 * (v - centre) / SMOOTHING),
            conjugate=lambda v: gamma * sigmoid(2.0 * (v - centre) / SMOOTHING),
        ),
        default="paper",
        smooth=False,
        kink=centre,
    )


FAMILIES: dict[str, Callable[[float], FDivergence]] = {
    "alpha": alpha,
    "js_weighted": js_weighted,
    "hockey_stick": hockey_stick,
}
"""Every family by name; users type the name with a parameter, as in `alpha(0.3)`."""
