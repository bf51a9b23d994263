"""The one table of f-divergences, from which everything else follows.

An f-divergence between P (data, first argument) and Q (model, second argument) is

    D_f(P‖Q) = E_Q[f(p/q)],    f convex on (0, ∞),  f(1) = 0,    in nats,

and its variational form (Nguyen, Wainwright, Jordan 2010; Nowozin, Cseke, Tomioka 2016) is

    D_f(P‖Q) = sup_T  E_P[T] − E_Q[f*(T)],    f*(t) = sup_{u ≥ 0} {u t − f(u)},    tight at T = f'(p/q).

A row of `DIVERGENCES` is data: `name`, `f` and `source` are required, the rest is derived from f by automatic
differentiation or stated, for float32, in a form the tests prove equal to the derived one. A critic's raw output v is
any real number; an `Activation` turns it into a T inside the domain of f*, and carries f*(T(v)) *fused*, since the
composed form overflows (the usual GAN loss gives inf at v = 20 in float32, where the truth is 20).

Layer 0: imports jax only.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, sigmoid, softplus
from jax.scipy.special import xlogy

Function = Callable[..., jax.Array]
ActivationName = Literal["log_ratio", "paper"]
LOG2 = math.log(2.0)

SMOOTHING = 0.2
"""Width τ, in nats of log-ratio, of the smoothed step that stands in for f' where f has a kink."""

SATURATION = 12.0
"""|log-ratio| at which the derived activations level off: beyond it float32 cannot form e^v f'(e^v) − f(e^v)."""


@dataclass(frozen=True, kw_only=True)
class Activation:
    """How a raw critic output v ∈ ℝ becomes a variational function T.

    Attributes:
        output: v → T(v), always inside the domain of f*.
        conjugate: v → f*(T(v)), in one fused expression, finite with finite gradient for |v| ≤ 30 in float32.
        log_ratio: v → ℓ(v) = log (f*)'(T(v)), the estimate of log p/q that v stands for.
    """

    output: Function
    conjugate: Function
    log_ratio: Function


@dataclass(frozen=True, kw_only=True, eq=False)
class FDivergence:
    """One f-divergence: everything the project knows about it.

    Attributes:
        name: as typed by users, such as `kl` or `alpha(0.5)`.
        f: the generator on (0, ∞), elementwise on arrays.
        source: where it is defined, and the normalisation used.
        formula: f in words for tables.
        aliases: other names users type.
        prime, second: f' and f''.
        conjugate: f*, +inf outside its domain.
        value_at_zero: f(0⁺), the cost of a point where p = 0 < q; may be inf.
        slope_at_infinity: f'(∞) = sup dom f*, the cost of a point where q = 0 < p; may be inf.
        closed: whether f* is finite at that supremum.
        value_at_one: f(1); zero for a divergence, −log 4 for the GAN objective.
        paper: the output activation g_f of the f-GAN paper (the log-ratio one where the paper has no row).
        log_ratio: T(v) = f'(e^v): the raw output estimates log p/q. Smoothed by `SMOOTHING` where f has a kink.
        default: which of the two trains unless told otherwise.
        smooth: whether f is differentiable, so that a ratio can be read back from T.
        kink: log u where f bends, for rows that are not smooth.
    """

    name: str
    f: Function
    source: str
    formula: str = ""
    aliases: tuple[str, ...] = ()
    prime: Function = None  # type: ignore[assignment]
    second: Function = None  # type: ignore[assignment]
    conjugate: Function = None  # type: ignore[assignment]
    value_at_zero: float = None  # type: ignore[assignment]
    slope_at_infinity: float = None  # type: ignore[assignment]
    closed: bool = None  # type: ignore[assignment]
    value_at_one: float = 0.0
    paper: Activation = None  # type: ignore[assignment]
    log_ratio: Activation = None  # type: ignore[assignment]
    default: ActivationName = "log_ratio"
    smooth: bool = True
    kink: float = 0.0

    def __post_init__(self):
        def derive(field, value):
            if getattr(self, field) is None:
                object.__setattr__(self, field, value())

        derive("prime", lambda: derivative(self.f))
        derive("second", lambda: derivative(self.prime))
        derive("value_at_zero", lambda: _limit(self.f, (1e-40, 1e-60)))
        derive("slope_at_infinity", lambda: _limit(self.prime, (1e40, 1e60)))
        derive("closed", lambda: math.isfinite(self.slope_at_infinity) and math.isfinite(_edge_value(self)))
        derive("conjugate", lambda: legendre(self))
        derive("log_ratio", lambda: composed_activation(self))
        derive("paper", lambda: self.log_ratio)

    def activation(self, name: ActivationName | None = None) -> Activation:
        """The activation called `name`, this row's default if None. Raises ValueError for any other name."""
        choice = self.default if name is None else name
        if choice not in ("log_ratio", "paper"):
            raise ValueError(f"unknown activation {choice!r}; choose log_ratio or paper")
        return self.log_ratio if choice == "log_ratio" else self.paper

    def reversed(self) -> FDivergence:
        """The divergence D_g with D_g(P‖Q) = D_f(Q‖P): g(u) = u f(1/u)."""
        return FDivergence(
            name=f"reversed {self.name}",
            f=lambda u: u * self.f(1.0 / u),
            source=f"reversal of {self.name}",
            value_at_zero=self.slope_at_infinity,
            slope_at_infinity=self.value_at_zero,
            value_at_one=self.value_at_one,
            smooth=self.smooth,
        )

    def upper_limit(self) -> float:
        """sup D_f = f(0) + f'(∞), reached by mutually singular P and Q (Liese & Vajda 2006, theorem 5); may be inf."""
        return self.value_at_zero + self.slope_at_infinity

    def __repr__(self):
        return f"FDivergence({self.name})"


# ---------------------------------------------------------------------------------------------------------------------
# What follows from f alone
# ---------------------------------------------------------------------------------------------------------------------


def _as_float(u) -> jax.Array:
    """u in its own precision, float32 at least; a bare number in the precision that is on."""
    return jnp.asarray(u, dtype=jnp.promote_types(jnp.result_type(u, float), jnp.float32))


def derivative(function: Function) -> Function:
    """The elementwise derivative of `function`, by forward-mode automatic differentiation."""

    def prime(u):
        u = _as_float(u)
        return jax.jvp(function, (u,), (jnp.ones_like(u),))[1]

    return prime


def _limit(function: Function, points: tuple[float, float]) -> float:
    """The limit of a monotone `function` judged in float64 from two points, each 10²⁰ further out; ±inf if it grows.

    A growth of 1e-3 between the points counts as unbounded: log u, the slowest divergence of any row, gains 46.
    """
    with jax.enable_x64(True):
        near, far = (float(function(jnp.asarray(point, jnp.float64))) for point in points)
    if math.isfinite(near) and math.isfinite(far) and abs(far - near) <= 1e-3 * (1.0 + abs(near)):
        return far
    return math.inf if not math.isfinite(far) or far > near else -math.inf


def _edge_value(divergence: FDivergence) -> float:
    """f*(b) = lim u b − f(u) at b = f'(∞) < ∞, judged as in `_limit` from points where the difference has digits."""
    return _limit(lambda u: u * divergence.slope_at_infinity - divergence.f(u), (1e6, 1e8))


def legendre(divergence: FDivergence) -> Function:
    """f*(t) = sup_{u ≥ 0} {u t − f(u)}, by bisection on f'(e^s) = t; +inf above f'(∞), −f(0) below f'(0).

    Differentiable to second order: ds/dt = 1/(u f''(u)). Exact to rounding in float64; in float32 the difference
    u t − f(u) keeps about seven digits *of u t*, so state a closed form where one exists.
    """
    f, prime, second, at_zero = divergence.f, divergence.prime, divergence.second, divergence.value_at_zero

    edge = _edge_value(divergence) if divergence.closed else math.inf

    def reach(t):
        return 40.0 if t.dtype == jnp.float32 else 300.0

    def bisect(t):
        def halve(_, bracket):
            low, high = bracket
            middle = 0.5 * (low + high)
            below = prime(jnp.exp(middle)) < t
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        low, high = jax.lax.fori_loop(0, 64, halve, (jnp.full_like(t, -reach(t)), jnp.full_like(t, reach(t))))
        return 0.5 * (low + high)

    @jax.custom_jvp
    def log_maximiser(t):
        return bisect(t)

    @log_maximiser.defjvp
    def _(primals, tangents):
        (t,), (dt,) = primals, tangents
        s = log_maximiser(t)
        curvature = jnp.exp(s) * second(jnp.exp(s))
        bends = curvature > 0.0  # at a kink the maximiser stands still
        return s, jnp.where(bends, dt / jnp.where(bends, curvature, 1.0), 0.0)

    def conjugate(t):
        t = _as_float(t)
        s = log_maximiser(t) if divergence.smooth else jax.lax.stop_gradient(bisect(t))  # f'' is no help at a kink
        u = jnp.exp(s)
        value = u * t - f(u)
        if math.isfinite(at_zero):
            value = jnp.where(s < 1.0 - reach(t), -at_zero, jnp.maximum(value, -at_zero))
        value = jnp.where(t == divergence.slope_at_infinity, edge, value)
        return jnp.where(t > divergence.slope_at_infinity, jnp.inf, value)

    return conjugate


def composed_activation(divergence: FDivergence) -> Activation:
    """The log-ratio activation by composition: T = f'(e^ℓ), f*(T) = e^ℓ f'(e^ℓ) − f(e^ℓ), ℓ = c·tanh(v/c).

    For generators without a fused form. ℓ saturates at c = `SATURATION`, where float32 still holds the difference.
    Where f has a kink, T is the slope of its chord over ℓ ± `SMOOTHING`: inside the domain of f*, and never flat at
    the kink.
    """

    def log_ratio(v):
        return SATURATION * jnp.tanh(v / SATURATION)

    def chord(v):
        low, high = (jnp.exp(log_ratio(v) + side) for side in (-SMOOTHING, SMOOTHING))
        slope = (divergence.f(high) - divergence.f(low)) / (high - low)
        return jnp.clip(slope, None, divergence.slope_at_infinity)  # rounding must not leave the domain of f*

    def output(v):
        return divergence.prime(jnp.exp(log_ratio(v))) if divergence.smooth else chord(v)

    def conjugate(v):
        if not divergence.smooth:
            return divergence.conjugate(chord(v))
        u = jnp.exp(log_ratio(v))
        return u * divergence.prime(u) - divergence.f(u)

    return Activation(output=output, conjugate=conjugate, log_ratio=log_ratio)


def from_generator(
    name: str,
    f: Function,
    *,
    source: str = "user",
    value_at_zero: float | None = None,
    slope_at_infinity: float | None = None,
    smooth: bool = True,
) -> FDivergence:
    """An f-divergence made from the user's own generator, usable wherever a name is.

    f', f'', the conjugate (numerical Legendre transform), both limits and the activation are derived from `f`.

    Args:
        name: how results are labelled.
        f: convex on (0, ∞) with f(1) = 0, written with jax.numpy, elementwise.
        value_at_zero, slope_at_infinity: f(0⁺) and f'(∞) where they are known; else judged numerically.
        smooth: False if f has a kink.

    Raises:
        ValueError: f(1) ≠ 0, or f is not finite and convex on [e⁻⁸, e⁸].

    >>> import jax.numpy as jnp
    >>> mine = from_generator("mine", lambda u: (u - 1) ** 2)
    >>> float(mine.conjugate(1.0))
    1.25
    """
    with jax.enable_x64(True):
        at_one = float(f(jnp.asarray(1.0)))
        u = jnp.exp(jnp.linspace(-8.0, 8.0, 401))
        values = f(u)
        chords = jnp.diff(values) / jnp.diff(u)
        wrong = float(jnp.max(-jnp.diff(chords) / (1.0 + jnp.abs(chords[1:]))))
    if not abs(at_one) < 1e-6:
        raise ValueError(f"generator {name!r}: f(1) = {at_one:g}, but a divergence needs f(1) = 0; subtract it from f")
    if not bool(jnp.all(jnp.isfinite(values))):
        raise ValueError(f"generator {name!r}: f is not finite on [e^-8, e^8]; check its domain")
    if wrong > 1e-6:
        raise ValueError(f"generator {name!r}: f is not convex (its slope falls by {wrong:.2g}); check its sign")
    return FDivergence(
        name=name,
        f=f,
        source=source,
        formula="user's own",
        value_at_zero=value_at_zero,  # type: ignore[arg-type]
        slope_at_infinity=slope_at_infinity,  # type: ignore[arg-type]
        smooth=smooth,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Numerics shared by rows
# ---------------------------------------------------------------------------------------------------------------------


def _inside(t, holds, value: Function, safe: float):
    """value(t) where `holds`, +inf elsewhere; the inner `where` keeps the gradient finite on both branches."""
    return jnp.where(holds, value(jnp.where(holds, t, safe)), jnp.inf)


def _log1mexp(a):
    """log(1 − e^{−a}) for a > 0, without cancellation at either end (Mächler 2012)."""
    small = a < LOG2
    low = jnp.log(-jnp.expm1(-jnp.where(small, a, 1.0)))
    high = jnp.log1p(-jnp.exp(-jnp.where(small, 1.0, a)))
    return jnp.where(small, low, high)


@jax.custom_jvp
def log_lambert(z):
    """y = log W(e^z), the solution of y + e^y = z (W: Lambert), for any real z; dy/dz = 1/(1 + e^y).

    y + e^y is convex and increasing, so Newton's steps from a point above the root fall onto it monotonically.
    """
    z = _as_float(z)
    start = jnp.where(z > 1.0, jnp.log(jnp.maximum(z, 1.0)), z)

    def newton(_, y):
        return y - (y + jnp.exp(y) - z) / (1.0 + jnp.exp(y))

    return jax.lax.fori_loop(0, 8, newton, start)


@log_lambert.defjvp
def _(primals, tangents):
    (z,), (dz,) = primals, tangents
    y = log_lambert(z)
    return y, dz / (1.0 + jnp.exp(y))


def _jeffreys_conjugate(t):
    y = log_lambert(1.0 - t)
    return jnp.exp(-y) + jnp.exp(y) + t - 2.0


def _identity(v):
    return v


# ---------------------------------------------------------------------------------------------------------------------
# Parametric families
# ---------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def alpha(a: float) -> FDivergence:
    """The α-divergence f(u) = (u^α − 1 − α(u − 1)) / (α(α − 1)), α ∉ {0, 1}, with f''(1) = 1.

    α → 1 is KL, α → 0 reverse KL, α = 2 half of Pearson's χ², α = ½ twice the squared Hellinger distance.
    Source: Cichocki & Amari 2010; activation for α < 1 from Nowozin et al. 2016, table 6.
    """
    if a in (0.0, 1.0) or not math.isfinite(a):
        raise ValueError(f"alpha({a:g}) is a limit, not a row: use {'kl' if a == 1 else 'reverse_kl'}")
    power = a / (a - 1.0)
    edge = 1.0 / (1.0 - a)

    def conjugate(t):
        base = (a - 1.0) * t + 1.0
        positive = base > 0.0
        branch = jnp.expm1(power * jnp.log(jnp.where(positive, base, 1.0))) / a
        if a > 1.0:  # below the edge the maximiser is u = 0
            return jnp.where(positive, branch, -1.0 / a)
        at_edge = -1.0 / a if a < 0.0 else jnp.inf
        return jnp.where(positive, branch, jnp.where(base == 0.0, at_edge, jnp.inf))

    def log_base(v):  # log((α−1)T + 1) under the paper's activation
        return jnp.log1p(-a) + jnp.log(softplus(-v)) if a < 1.0 else jnp.log(jnp.maximum((a - 1.0) * v + 1.0, 1e-30))

    if a < 1.0:
        paper = Activation(
            output=lambda v: edge - softplus(-v),
            conjugate=lambda v: jnp.expm1(power * log_base(v)) / a,
            log_ratio=lambda v: log_base(v) / (a - 1.0),
        )
    else:
        paper = Activation(output=_identity, conjugate=conjugate, log_ratio=lambda v: log_base(v) / (a - 1.0))
    return FDivergence(
        name=f"alpha({a:.15g})",
        f=lambda u: (u**a - 1.0 - a * (u - 1.0)) / (a * (a - 1.0)),
        source="Cichocki & Amari 2010; f''(1) = 1, so alpha(2) is half of pearson, alpha(0.5) twice squared_hellinger",
        formula="(u^α − 1 − α(u−1)) / (α(α−1))",
        prime=lambda u: (u ** (a - 1.0) - 1.0) / (a - 1.0),
        second=lambda u: u ** (a - 2.0),
        conjugate=conjugate,
        value_at_zero=1.0 / a if a > 0.0 else math.inf,
        slope_at_infinity=edge if a < 1.0 else math.inf,
        closed=a < 0.0,
        paper=paper,
        log_ratio=Activation(
            output=lambda v: jnp.expm1((a - 1.0) * v) / (a - 1.0),
            conjugate=lambda v: jnp.expm1(a * v) / a,
            log_ratio=_identity,
        ),
    )


@lru_cache(maxsize=256)
def js_weighted(pi: float) -> FDivergence:
    """The Jensen–Shannon divergence with prior π on P: π KL(P‖M) + (1 − π) KL(Q‖M), M = πP + (1 − π)Q.

    Source: Lin 1991; Nowozin et al. 2016, table 6. π = ½ is the textbook js. Requires 0 < π < 1.
    """
    if not 0.0 < pi < 1.0:
        raise ValueError(f"js_weighted({pi:g}): the weight of P must lie strictly between 0 and 1")
    rest, entropy = 1.0 - pi, -pi * math.log(pi)

    def conjugate(t):
        holds = t < entropy
        return _inside(t, holds, lambda s: -rest * jnp.log((1.0 - pi * jnp.exp(s / pi)) / rest), 0.0)

    def surprise(v):  # −log of π e^{T/π}, which is σ(v)^{1/π}
        return softplus(-v) / pi

    return FDivergence(
        name=f"js_weighted({pi:.15g})",
        f=lambda u: pi * xlogy(u, u) - (rest + pi * u) * jnp.log(rest + pi * u),
        source="Lin 1991; π is the weight of P, js_weighted(0.5) is the textbook js",
        formula="π u log u − (1−π+πu) log(1−π+πu)",
        prime=lambda u: pi * (jnp.log(u) - jnp.log(rest + pi * u)),
        second=lambda u: pi * rest / (u * (rest + pi * u)),
        conjugate=conjugate,
        value_at_zero=-rest * math.log(rest),
        slope_at_infinity=entropy,
        closed=False,
        paper=Activation(
            output=lambda v: entropy - softplus(-v),
            conjugate=lambda v: rest * (math.log(rest) - _log1mexp(surprise(v))),
            log_ratio=lambda v: math.log(rest) - math.log(pi) - surprise(v) - _log1mexp(surprise(v)),
        ),
        log_ratio=Activation(
            output=lambda v: -pi * jnp.logaddexp(math.log(pi), math.log(rest) - v),
            conjugate=lambda v: rest * jnp.logaddexp(math.log(rest), math.log(pi) + v),
            log_ratio=_identity,
        ),
    )


@lru_cache(maxsize=256)
def hockey_stick(gamma: float) -> FDivergence:
    """The hockey-stick divergence E_γ(P‖Q) = E_Q[(p/q − γ)₊], γ ≥ 1: the δ of (log γ, δ)-differential privacy.

    Source: Sason & Verdú 2016, eq. 53. γ = 1 is total variation.
    """
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
        paper=Activation(output=sigmoid, conjugate=lambda v: gamma * sigmoid(v), log_ratio=_identity),
        log_ratio=Activation(
            output=lambda v: sigmoid(2.0 * (v - centre) / SMOOTHING),
            conjugate=lambda v: gamma * sigmoid(2.0 * (v - centre) / SMOOTHING),
            log_ratio=_identity,
        ),
        default="paper",
        smooth=False,
        kink=centre,
    )


FAMILIES: Mapping[str, Callable[[float], FDivergence]] = MappingProxyType(
    {"alpha": alpha, "js_weighted": js_weighted, "hockey_stick": hockey_stick}
)

# ---------------------------------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------------------------------

_TABLE: tuple[FDivergence, ...] = (
    FDivergence(
        name="kl",
        f=lambda u: xlogy(u, u),
        source="Kullback & Leibler 1951; mode covering: P is the data",
        formula="u log u",
        aliases=("forward_kl", "kullback_leibler"),
        prime=lambda u: jnp.log(u) + 1.0,
        second=lambda u: 1.0 / u,
        conjugate=lambda t: jnp.exp(t - 1.0),
        value_at_zero=0.0,
        slope_at_infinity=math.inf,
        paper=Activation(output=_identity, conjugate=lambda v: jnp.exp(v - 1.0), log_ratio=lambda v: v - 1.0),
        log_ratio=Activation(output=lambda v: v + 1.0, conjugate=jnp.exp, log_ratio=_identity),
    ),
    FDivergence(
        name="reverse_kl",
        f=lambda u: -jnp.log(u),
        source="Kullback & Leibler 1951, arguments swapped; mode seeking",
        formula="−log u",
        aliases=("rkl",),
        prime=lambda u: -1.0 / u,
        second=lambda u: 1.0 / u**2,
        conjugate=lambda t: _inside(t, t < 0.0, lambda s: -1.0 - jnp.log(-s), -1.0),
        value_at_zero=math.inf,
        slope_at_infinity=0.0,
        closed=False,
        paper=Activation(output=lambda v: -jnp.exp(-v), conjugate=lambda v: v - 1.0, log_ratio=_identity),
        log_ratio=Activation(output=lambda v: -jnp.exp(-v), conjugate=lambda v: v - 1.0, log_ratio=_identity),
    ),
    FDivergence(
        name="jeffreys",
        f=lambda u: (u - 1.0) * jnp.log(u),
        source="Jeffreys 1946: KL(P‖Q) + KL(Q‖P), no factor ½",
        formula="(u − 1) log u",
        aliases=("symmetric_kl",),
        prime=lambda u: jnp.log(u) + 1.0 - 1.0 / u,
        second=lambda u: 1.0 / u + 1.0 / u**2,
        conjugate=_jeffreys_conjugate,
        value_at_zero=math.inf,
        slope_at_infinity=math.inf,
        paper=Activation(output=_identity, conjugate=_jeffreys_conjugate, log_ratio=lambda v: -log_lambert(1.0 - v)),
        log_ratio=Activation(
            output=lambda v: v - jnp.expm1(-v), conjugate=lambda v: jnp.expm1(v) + v, log_ratio=_identity
        ),
    ),
    FDivergence(
        name="js",
        f=lambda u: 0.5 * (xlogy(u, u) - (u + 1.0) * jnp.log((u + 1.0) / 2.0)),
        source="Lin 1991, textbook normalisation (at most log 2); the f-GAN paper's JS is twice this",
        formula="½[u log u − (u+1) log((u+1)/2)]",
        aliases=("jsd", "jensen_shannon"),
        prime=lambda u: 0.5 * (LOG2 + jnp.log(u) - jnp.log1p(u)),
        second=lambda u: 0.5 / (u * (u + 1.0)),
        conjugate=lambda t: _inside(t, t < 0.5 * LOG2, lambda s: -0.5 * jnp.log(2.0 - jnp.exp(2.0 * s)), 0.0),
        value_at_zero=0.5 * LOG2,
        slope_at_infinity=0.5 * LOG2,
        closed=False,
        paper=Activation(
            output=lambda v: 0.5 * (LOG2 + log_sigmoid(v)),
            conjugate=lambda v: 0.5 * (softplus(v) - LOG2),
            log_ratio=_identity,
        ),
        log_ratio=Activation(
            output=lambda v: 0.5 * (LOG2 + log_sigmoid(v)),
            conjugate=lambda v: 0.5 * (softplus(v) - LOG2),
            log_ratio=_identity,
        ),
    ),
    js_weighted(0.3),
    FDivergence(
        name="gan",
        f=lambda u: xlogy(u, u) - (u + 1.0) * jnp.log1p(u),
        source="Goodfellow et al. 2014: 2 js − log 4, so f(1) = −log 4 and not 0",
        formula="u log u − (u+1) log(u+1)",
        prime=lambda u: jnp.log(u) - jnp.log1p(u),
        second=lambda u: 1.0 / (u * (u + 1.0)),
        conjugate=lambda t: _inside(t, t < 0.0, lambda s: -jnp.log(-jnp.expm1(s)), -1.0),
        value_at_zero=0.0,
        slope_at_infinity=0.0,
        closed=False,
        value_at_one=-2.0 * LOG2,
        paper=Activation(output=log_sigmoid, conjugate=softplus, log_ratio=_identity),
        log_ratio=Activation(output=log_sigmoid, conjugate=softplus, log_ratio=_identity),
    ),
    FDivergence(
        name="total_variation",
        f=lambda u: 0.5 * jnp.abs(u - 1.0),
        source="½∫|p − q|; under log_ratio T is the smoothed step ½ tanh(v/τ), τ = 0.2",
        formula="½|u − 1|",
        aliases=("tv",),
        prime=lambda u: 0.5 * jnp.sign(u - 1.0),
        second=jnp.zeros_like,
        conjugate=lambda t: jnp.where(t <= 0.5, jnp.maximum(t, -0.5), jnp.inf),
        value_at_zero=0.5,
        slope_at_infinity=0.5,
        closed=True,
        paper=Activation(
            output=lambda v: 0.5 * jnp.tanh(v), conjugate=lambda v: 0.5 * jnp.tanh(v), log_ratio=_identity
        ),
        log_ratio=Activation(
            output=lambda v: 0.5 * jnp.tanh(v / SMOOTHING),
            conjugate=lambda v: 0.5 * jnp.tanh(v / SMOOTHING),
            log_ratio=_identity,
        ),
        default="paper",
        smooth=False,
    ),
    FDivergence(
        name="pearson",
        f=lambda u: (u - 1.0) ** 2,
        source="Pearson 1900: χ²(P‖Q) = ∫(p−q)²/q",
        formula="(u − 1)²",
        aliases=("chi_squared", "chi2", "pearson_chi2"),
        prime=lambda u: 2.0 * (u - 1.0),
        second=lambda u: jnp.full_like(u, 2.0),
        conjugate=lambda t: jnp.where(t >= -2.0, 0.25 * t * t + t, -1.0),  # below −2 the maximiser is u = 0
        value_at_zero=1.0,
        slope_at_infinity=math.inf,
        paper=Activation(
            output=_identity,
            conjugate=lambda v: jnp.where(v >= -2.0, 0.25 * v * v + v, -1.0),
            log_ratio=lambda v: jnp.log(jnp.maximum(0.5 * v + 1.0, 1e-30)),
        ),
        log_ratio=Activation(
            output=lambda v: 2.0 * jnp.expm1(v), conjugate=lambda v: jnp.expm1(2.0 * v), log_ratio=_identity
        ),
    ),
    FDivergence(
        name="neyman",
        f=lambda u: (1.0 - u) ** 2 / u,
        source="Neyman 1949: χ²(Q‖P) = ∫(p−q)²/p",
        formula="(1 − u)² / u",
        aliases=("neyman_chi2", "reverse_chi_squared"),
        prime=lambda u: 1.0 - 1.0 / u**2,
        second=lambda u: 2.0 / u**3,
        conjugate=lambda t: _inside(t, t <= 1.0, lambda s: 2.0 - 2.0 * jnp.sqrt(1.0 - s), 0.0),
        value_at_zero=math.inf,
        slope_at_infinity=1.0,
        closed=True,
        paper=Activation(
            output=lambda v: -jnp.expm1(-v), conjugate=lambda v: -2.0 * jnp.expm1(-0.5 * v), log_ratio=lambda v: 0.5 * v
        ),
        log_ratio=Activation(
            output=lambda v: -jnp.expm1(-2.0 * v), conjugate=lambda v: -2.0 * jnp.expm1(-v), log_ratio=_identity
        ),
    ),
    FDivergence(
        name="squared_hellinger",
        f=lambda u: (jnp.sqrt(u) - 1.0) ** 2,
        source="Hellinger 1909: ∫(√p−√q)², no factor ½, so at most 2",
        formula="(√u − 1)²",
        aliases=("hellinger",),
        prime=lambda u: 1.0 - 1.0 / jnp.sqrt(u),
        second=lambda u: 0.5 * u**-1.5,
        conjugate=lambda t: _inside(t, t < 1.0, lambda s: s / (1.0 - s), 0.0),
        value_at_zero=1.0,
        slope_at_infinity=1.0,
        closed=False,
        paper=Activation(output=lambda v: -jnp.expm1(-v), conjugate=jnp.expm1, log_ratio=lambda v: 2.0 * v),
        log_ratio=Activation(
            output=lambda v: -jnp.expm1(-0.5 * v), conjugate=lambda v: jnp.expm1(0.5 * v), log_ratio=_identity
        ),
    ),
    FDivergence(
        name="triangular",
        f=lambda u: (u - 1.0) ** 2 / (u + 1.0),
        source="Topsøe 2000: ∫(p−q)²/(p+q), twice Le Cam's",
        formula="(u − 1)² / (u + 1)",
        aliases=("le_cam", "triangular_discrimination"),
        prime=lambda u: (u - 1.0) * (u + 3.0) / (u + 1.0) ** 2,
        second=lambda u: 8.0 / (u + 1.0) ** 3,
        conjugate=lambda t: _inside(
            t, t <= 1.0, lambda s: jnp.where(s >= -3.0, 4.0 - s - 4.0 * jnp.sqrt(1.0 - s), -1.0), 0.0
        ),
        value_at_zero=1.0,
        slope_at_infinity=1.0,
        closed=True,
        log_ratio=Activation(
            output=lambda v: 1.0 - 4.0 * sigmoid(-v) ** 2,
            conjugate=lambda v: 3.0 - 8.0 * sigmoid(-v) + 4.0 * sigmoid(-v) ** 2,
            log_ratio=_identity,
        ),
    ),
    alpha(0.5),
    FDivergence(
        name="geometric_js",
        f=lambda u: 0.25 * (u - 1.0) * jnp.log(u) + jnp.sqrt(u) - 1.0,
        source="Nielsen 2025, extended (unnormalised) form ¼ Jeffreys + BC − 1, with BC = ∫√(pq)",
        formula="¼(u − 1) log u + √u − 1",
        aliases=("gjs", "geometric_jsd"),
        prime=lambda u: 0.25 * (jnp.log(u) + 1.0 - 1.0 / u) + 0.5 / jnp.sqrt(u),
        second=lambda u: 0.25 * (u + 1.0 - jnp.sqrt(u)) / u**2,
        value_at_zero=math.inf,
        slope_at_infinity=math.inf,
        log_ratio=Activation(
            output=lambda v: 0.25 * (v - jnp.expm1(-v)) + 0.5 * jnp.exp(-0.5 * v),
            conjugate=lambda v: 0.25 * (jnp.expm1(v) + v) - 0.5 * jnp.expm1(0.5 * v) + 0.5,
            log_ratio=_identity,
        ),
    ),
    hockey_stick(2.0),
)

DIVERGENCES: Mapping[str, FDivergence] = MappingProxyType({row.name: row for row in _TABLE})
"""Every divergence by name, parametric families by one example each; other parameters parse, as in `alpha(0.3)`."""

_ALIASES: Mapping[str, str] = MappingProxyType({alias: row.name for row in _TABLE for alias in row.aliases})


class UnknownDivergence(ValueError):
    """A name that is no row, alias or parametric family of the table."""


def divergence(name: str | FDivergence) -> FDivergence:
    """The row called `name`: a name, an alias, a family with its parameter, or an FDivergence, returned as it is.

    >>> divergence("chi_squared").name
    'pearson'
    >>> divergence("alpha(0.3)").name
    'alpha(0.3)'

    Raises:
        UnknownDivergence: a ValueError listing the choices and the nearest name.
    """
    if isinstance(name, FDivergence):
        return name
    family, bracket, rest = str(name).strip().lower().partition("(")
    key = family.replace("-", "_") + bracket + rest  # a minus inside the brackets is a sign
    key = _ALIASES.get(key, key)
    if key in DIVERGENCES:
        return DIVERGENCES[key]
    parsed = re.fullmatch(r"(\w+)\(\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*\)", key)
    if parsed and parsed[1] in FAMILIES:
        try:
            parameter = float(parsed[2])
        except ValueError:
            raise UnknownDivergence(f"{name!r}: {parsed[2]!r} is not a number") from None
        try:
            made = FAMILIES[parsed[1]](parameter)
        except ValueError as error:
            raise UnknownDivergence(str(error)) from None
        return DIVERGENCES.get(made.name, made)
    choices = [*DIVERGENCES, *_ALIASES, *FAMILIES]
    near = difflib.get_close_matches(key, choices, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    if key.startswith("renyi"):
        hint = "Rényi divergences are estimated (fgan estimate -d 'renyi(2)'), not trained; "
    families = ", ".join(f"{family}(x)" for family in FAMILIES)
    raise UnknownDivergence(
        f"unknown divergence {name!r}: {hint}choose from {', '.join(DIVERGENCES)}, or {families} with your own x"
    )
