"""The perspective q f̃(p/q) of a divergence, whose integral is D_f: the one integrand behind every exact value.

    D_f(P‖Q) = f(1) + ∫ q f̃(p/q),    f̃(u) = f(u) − f(1) − f'(1)(u − 1) ≥ 0.

f̃ has the same integral as f − f(1) and no tails that cancel. Where p > 0 = q the perspective is p f̃'(∞), where
q > 0 = p it is q f̃(0): D_f is infinite by these rules and, in float64, never by overflow. The functions returned here
compute in the precision of their arguments, float32 at least. In float32 terms have a relative error of about 1e-5
(1e-3 beyond ratios of e^40; where f has a kink, as total_variation at p = q, an absolute error of 1e-7 q).
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from estimators.divergences.generator import FDivergence

CLOSE = {"float64": (1e-3, 2), "float32": (0.25, 3)}
"""Precision → (|log p/q| below which f̃ is integrated from f'', since its formula cancels; nodes of the rule). At that
bound the formula keeps ten digits of float64, five of float32, and the rule is exact to as many for u⁵."""
FAR = {"float64": (300.0, 150.0, 75.0, 30.0), "float32": (80.0, 40.0, 25.0)}
"""|log p/q| from which on f̃ is its asymptote, in each precision: the first that the formula and its slope reach without
overflow."""
LEVEL = 1e-11  # of a cost or of its growth, what is rounding
NEAR = (10.0, 5.0, 2.5, 1.25)
"""The same for steep powers, such as alpha(100): the largest of these that fits, the last if none does."""


@lru_cache(maxsize=256)
def log_perspective(d: FDivergence) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(log p, log q) → log [q f̃(p/q)] ≥ −∞, elementwise: densities that underflow still meet in the right ratio."""

    def log_integrand(log_p, log_q):
        f = _excess(d, _precision(log_p, log_q))
        both = jnp.isfinite(log_p) & jnp.isfinite(log_q)
        ratio = jnp.where(both, log_p - log_q, 0.0)
        within = (ratio <= f.high.start) & (ratio >= -f.low.start)
        f_tilde = f.at(jnp.where(within, ratio, 0.0))  # not clipped: at an end a clip has half the gradient
        positive = f_tilde > 0.0  # the logarithm of 0 would leave a gradient of NaN
        inner = jnp.where(positive, log_q + jnp.log(jnp.where(positive, f_tilde, 1.0)), -jnp.inf)
        only_p, only_q = jnp.isfinite(log_p) & ~both, jnp.isfinite(log_q) & ~both
        value = jnp.where(both, jnp.where(within, inner, _log_beyond(f, ratio, log_p, log_q)), -jnp.inf)
        value = jnp.where(only_p, log_p + _log(f.at_infinity), value)
        return jnp.where(only_q, log_q + _log(f.at_zero), value)

    return log_integrand


def _log_beyond(f: "_Excess", ratio: jax.Array, log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """log [q f̃(p/q)] at ratios beyond both starts."""
    return jnp.where(ratio > 0.0, log_p + f.high.log_value(ratio), log_q + f.low.log_value(-ratio))


def _log(cost: float) -> float:
    return math.log(cost) if cost > 0.0 else -math.inf


@lru_cache(maxsize=256)
def integrand(d: FDivergence) -> Callable[..., jax.Array]:
    """(log p, log q, ℓ = log p − log q) → q f̃(p/q) ≥ 0, elementwise, with gradients free of NaN.

    It is exp of `log_perspective`, and right to second derivatives at p = q, where that has none. A caller that knows
    log p/q better than the difference of two rounded logarithms passes it. A mass of 0 has gradient 0, so that it stays
    0, and so has an infinite value, so that other entries of a sum keep theirs. NaN gives NaN.
    """

    def value(log_p, log_q, log_ratio=None):
        f, most = _excess(d, _precision(log_p, log_q)), jnp.log(jnp.finfo(_precision(log_p, log_q)).max)
        has_p, has_q = jnp.isfinite(log_p), jnp.isfinite(log_q)
        both = has_p & has_q
        safe_p, safe_q = jnp.where(both, log_p, 0.0), jnp.where(both, log_q, 0.0)
        ratio = safe_p - safe_q if log_ratio is None else jnp.where(both, log_ratio, 0.0)
        within = (ratio <= f.high.start) & (ratio >= -f.low.start)
        inner = jnp.where(within, ratio, 0.0)  # not clipped: at an end a clip has half the gradient
        # a unit of the larger mass costs f̃(u) or f̃(u)/u: the smaller one may underflow
        near = jnp.exp(jnp.where(inner > 0.0, safe_p, safe_q)) * f.at(inner) * jnp.exp(-jnp.maximum(inner, 0.0))
        log_far = _log_beyond(f, ratio, safe_p, safe_q)
        fits = log_far < most
        far = jnp.where(fits, jnp.exp(jnp.where(fits, log_far, 0.0)), jnp.inf)
        found = jnp.where(both, jnp.where(within, near, far), 0.0)
        found = jnp.where(has_p & ~has_q, _mass(log_p, has_p & ~has_q, f.at_infinity), found)
        found = jnp.where(has_q & ~has_p, _mass(log_q, has_q & ~has_p, f.at_zero), found)
        return jnp.where(jnp.isnan(log_p) | jnp.isnan(log_q), jnp.nan, found)

    return value


def _mass(log_mass: jax.Array, there: jax.Array, cost: float) -> jax.Array:
    """cost · e^{log mass} where mass is `there`; infinite without a gradient if the cost is."""
    return jnp.exp(jnp.where(there, log_mass, 0.0)) * cost if math.isfinite(cost) else jnp.asarray(jnp.inf)


@lru_cache(maxsize=256)
def perspective(d: FDivergence) -> Callable[..., jax.Array]:
    """(ℓ, π = ½) → f̃(r)/(πr + 1 − π) ≥ 0 at r = e^ℓ, elementwise: q f̃(p/q) over the density of πP + (1 − π)Q.

    Its mean under that mixture is D_f − f(1). ℓ may be infinite: then one of p and q is 0.
    """
    term = integrand(d)

    def share_of_mixture(log_ratio, weight=0.5):
        log_p = -jnp.logaddexp(jnp.log(weight), jnp.log1p(-weight) - log_ratio)
        log_q = -jnp.logaddexp(jnp.log(weight) + log_ratio, jnp.log1p(-weight))
        return term(log_p, log_q, log_ratio)

    return share_of_mixture


def growth(d: FDivergence) -> tuple[float, float]:
    """(κ₀, κ) ≥ 0 with f̃(u) ~ u^{−κ₀} as u → 0 and f̃(u) ~ u^{1+κ} as u → ∞, but for logarithms: q f̃(p/q) grows so.

    >>> from estimators.divergences.table import divergence
    >>> [growth(divergence(name)) for name in ("kl", "pearson", "neyman", "alpha(0.5)")]
    [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0)]
    """
    f = _excess(d, "float64")
    low, high = (round(max(tail.k, 0.0), 3) for tail in (f.low, f.high))
    return low, high


def _precision(*logs) -> str:
    """The float type in which arguments meet, float32 at least."""
    return jnp.promote_types(jnp.result_type(*logs), jnp.float32).name


class _Tail(NamedTuple):
    """The cost c(r) = f̃(e^{−r}) of a unit of q, or e^{−r} f̃(e^r) of a unit of p, at r > L = start.

    Its slope is c'(L) e^{kd} where d = r − L: then c(r) = c(L) + c'(L) (e^{kd} − 1)/k, which is exact for every
    divergence of the table, whether c grows as a power of u (k > 0) or as log u (k = 0), or stops at a limit (k < 0).
    A slope with a power of r beside e^{kd} makes c(r) = c(L) e^{kd} (1 + bd)^m. A cost is added to the logarithm of
    its own density: log q + r would lose log p where log q is huge.
    """

    start: float
    height: float  # log c(L)
    k: float
    gain: float  # c'(L)/c(L); k where m > 0
    m: int
    b: float

    @classmethod
    def of(cls, cost: Callable[[jax.Array], jax.Array], limit: float, precision: str) -> Self:
        compiled = jax.jit(jax.value_and_grad(cost))  # one program; operation by operation it would be thirty

        def value(r):
            return tuple(map(float, compiled(jnp.float64(r))))

        def fits(r):
            return all(map(math.isfinite, map(float, compiled(jnp.asarray(r, precision)))))

        start = next(filter(fits, (*FAR[precision], *NEAR)), NEAR[-1])
        (_, early), (_, later), (height, slope) = (value(share * start) for share in (0.5, 0.75, 1.0))
        if math.isfinite(limit):
            if not (slope * start > LEVEL * limit and limit > height):
                return cls(start, _log(limit), 0.0, 0.0, 0, 0.0)
            return cls(start, math.log(height), -slope / (limit - height), slope / height, 0, 0.0)
        rises = math.log(later / early), math.log(slope / later)
        m = round((rises[0] - rises[1]) / math.log(1.5 / (4.0 / 3.0)))
        k = max(rises[1] - m * math.log(4.0 / 3.0), 0.0) / (0.25 * start)
        k = 0.0 if k * start < LEVEL else k
        if m <= 0:
            return cls(start, math.log(height), k, slope / height, 0, 0.0)
        k = round(k, 3)
        return cls(start, math.log(height), k, k, m + (k == 0.0), (slope / height - k) / (m + (k == 0.0)))

    def log_value(self, r):
        d, grown = jnp.maximum(r - self.start, 0.0), max(self.k, 0.0)
        rise = jnp.expm1(-abs(self.k) * d) / -abs(self.k) if self.k else d
        return (
            self.height + grown * d + self.m * jnp.log1p(self.b * d) + jnp.log(jnp.exp(-grown * d) + self.gain * rise)
        )


class _Excess(NamedTuple):
    """ℓ → f̃(e^ℓ) ≥ 0, computed for −low.start ≤ ℓ ≤ high.start, where it fits the precision; its tails outside."""

    at: Callable[[jax.Array], jax.Array]
    at_zero: float  # f̃(0)
    at_infinity: float  # f̃'(∞)
    low: _Tail
    high: _Tail


@lru_cache(maxsize=512)
def _excess(d: FDivergence, precision: str) -> _Excess:
    near, nodes = CLOSE[precision]
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        slope = float(jax.jit(d.prime)(jnp.float64(1.0)))  # at a kink a subgradient, which serves as well

        @jax.custom_jvp
        def formula(ratio):
            return jnp.maximum(d.f(jnp.exp(ratio)) - d.value_at_one - slope * jnp.expm1(ratio), 0.0)

        @formula.defjvp
        def _(primals, tangents):  # by f' in one product: a chain through f would underflow between its factors
            u = jnp.exp(primals[0])
            return formula(primals[0]), u * (d.prime(u) - slope) * tangents[0]

        def at(ratio):
            exact = formula(ratio)
            if not d.smooth:
                return exact
            close = jnp.abs(ratio) < near
            return jnp.where(close, _integrated(d, jnp.where(close, ratio, 0.0), nodes), exact)

        at_zero, at_infinity = d.value_at_zero - d.value_at_one + slope, d.slope_at_infinity - slope
        low = _Tail.of(lambda r: at(-r), at_zero, precision)
        high = _Tail.of(lambda r: jnp.exp(-r) * at(r), at_infinity, precision)
    return _Excess(at, at_zero, at_infinity, low, high)


def _integrated(d: FDivergence, ratio: jax.Array, nodes: int) -> jax.Array:
    """f̃(e^ℓ) = ∫₀^ℓ (e^ℓ − e^s) e^s f''(e^s) ds by Gauss–Legendre: no term is negative, so that nothing cancels."""
    total = jnp.zeros_like(ratio)
    for node, weight in zip(*(part.tolist() for part in np.polynomial.legendre.leggauss(nodes)), strict=True):
        s = 0.5 * (1.0 + node) * ratio
        u = jnp.exp(s)
        total += 0.5 * weight * jnp.expm1(ratio - s) * u * u * d.second(u)
    return total * ratio
