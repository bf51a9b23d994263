"""The perspective q f̃(p/q) of a divergence, whose integral is D_f: the one integrand behind every exact value.

    D_f(P‖Q) = f(1) + ∫ q f̃(p/q),    f̃(u) = f(u) − f(1) − f'(1)(u − 1) ≥ 0.

f̃ has the same integral as f − f(1) and no tails that cancel. Where p > 0 = q the perspective is p f̃'(∞), where
q > 0 = p it is q f̃(0): D_f is infinite by these rules and never by overflow. The functions returned here compute in
float64, so call them where x64 is on.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp

from estimators.divergences.generator import FDivergence

CLOSE = 1e-5  # |log p/q| below which f̃ is ½ f''(1)(p/q − 1)²: its formula would cancel to fewer digits than that


@lru_cache(maxsize=256)
def log_perspective(d: FDivergence) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(log p, log q) → log [q f̃(p/q)] ≥ −∞, elementwise: densities that underflow still meet in the right ratio."""
    f = _excess(d)
    at_zero = math.log(zero) if (zero := d.value_at_zero - d.value_at_one + f.slope) > 0.0 else -math.inf
    at_infinity = math.log(steep) if (steep := d.slope_at_infinity - f.slope) > 0.0 else -math.inf

    def log_integrand(log_p, log_q):
        both = jnp.isfinite(log_p) & jnp.isfinite(log_q)
        ratio = jnp.where(both, log_p - log_q, 0.0)
        f_tilde = f.at(jnp.clip(ratio, -f.low.start, f.high.start))
        positive = f_tilde > 0.0  # the logarithm of 0 would leave a gradient of NaN
        inner = jnp.where(positive, log_q + jnp.log(jnp.where(positive, f_tilde, 1.0)), -jnp.inf)
        above = log_p + (at_infinity if math.isfinite(at_infinity) else f.high.log_value(ratio))
        below = log_q + (at_zero if math.isfinite(at_zero) else f.low.log_value(-ratio))
        value = jnp.where(ratio > f.high.start, above, jnp.where(ratio < -f.low.start, below, inner))
        only_p, only_q = jnp.isfinite(log_p) & ~both, jnp.isfinite(log_q) & ~both
        value = jnp.where(both, value, -jnp.inf)
        value = jnp.where(only_p, log_p + at_infinity, value)
        return jnp.where(only_q, log_q + at_zero, value)

    return log_integrand


@lru_cache(maxsize=256)
def perspective(d: FDivergence) -> Callable[..., jax.Array]:
    """(ℓ, π = ½) → f̃(r)/(πr + 1 − π) ≥ 0 at r = e^ℓ, elementwise: q f̃(p/q) over the density of πP + (1 − π)Q.

    Its mean under that mixture is D_f − f(1). ℓ may be infinite: then one of p and q is 0.
    """
    f, log_integrand = _excess(d), log_perspective(d)

    def share_of_mixture(log_ratio, weight=0.5):
        inner = jnp.clip(log_ratio, -f.low.start, f.high.start)
        value = f.at(inner) / (weight * jnp.exp(inner) + 1.0 - weight)
        log_p = -jnp.logaddexp(jnp.log(weight), jnp.log1p(-weight) - log_ratio)
        log_q = -jnp.logaddexp(jnp.log(weight) + log_ratio, jnp.log1p(-weight))
        return jnp.where(inner == log_ratio, value, jnp.exp(log_integrand(log_p, log_q)))

    return share_of_mixture


class _Tail(NamedTuple):
    """e^{height + k(r − L)} (1 + c(r − L))^m, r > L = start: the cost f̃(e^{−r}) of a unit of q, or e^{−r} f̃(e^r) of p.

    Exact for m ≤ 1, hence for every divergence of the table. A cost is added to the logarithm of its own density:
    log q + r would lose log p where log q is huge.
    """

    start: float
    height: float
    k: float
    m: int
    c: float

    @classmethod
    def of(cls, cost: Callable[[jax.Array], jax.Array]) -> Self:
        compiled = jax.jit(cost)  # one program; operation by operation it would be thirty

        def value(r):
            return float(compiled(jnp.float64(r)))

        start = next((r for r in (300.0, 150.0, 75.0, 30.0) if math.isfinite(value(r))), 10.0)
        if not value(start) > 0.0:  # f̃ vanishes on this side, as below for the hockey stick
            return cls(start=start, height=-math.inf, k=0.0, m=0, c=0.0)
        near, far = (math.log(value(r) / value(r - 2.0)) for r in (0.5 * start, start))
        m = round(0.5 * (near - far) * start)
        k = round(0.5 * far - m / start, 3 if m else 9)
        c = -0.5 * math.expm1((2.0 * k - far) / m) if m else 0.0
        return cls(start=start, height=math.log(value(start)), k=k, m=m, c=c)

    def log_value(self, r):
        distance = jnp.maximum(r - self.start, 0.0)
        return self.height + self.k * distance + self.m * jnp.log1p(self.c * distance)


class _Excess(NamedTuple):
    """ℓ → f̃(e^ℓ) ≥ 0, computed for −low.start ≤ ℓ ≤ high.start, where e^|ℓ| fits float64; and its tails outside."""

    at: Callable[[jax.Array], jax.Array]
    slope: float  # f'(1)
    low: _Tail
    high: _Tail


@lru_cache(maxsize=256)
def _excess(d: FDivergence) -> _Excess:
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        slope = float(jax.jit(d.prime)(jnp.float64(1.0)))  # at a kink a subgradient, which serves as well
        curvature = float(jax.jit(d.second)(jnp.float64(1.0))) if d.smooth else 0.0

        def at(ratio):
            shift = jnp.expm1(ratio)
            exact = jnp.maximum(d.f(jnp.exp(ratio)) - d.value_at_one - slope * shift, 0.0)
            return jnp.where((jnp.abs(ratio) < CLOSE) & d.smooth, 0.5 * curvature * shift**2, exact)

        low, high = _Tail.of(lambda r: at(-r)), _Tail.of(lambda r: jnp.exp(-r) * at(r))
    return _Excess(at, slope, low, high)
