"""What an f-divergence is, and all that follows from its generator f.

An f-divergence between P (data, first argument) and Q (model, second argument) is

    D_f(P‖Q) = E_Q[f(p/q)],    f convex on (0, ∞),  f(1) = 0,    in nats,

and its variational form (Nguyen, Wainwright, Jordan 2010; Nowozin, Cseke, Tomioka 2016) is

    D_f(P‖Q) = sup_T  E_P[T] − E_Q[f*(T)],    f*(t) = sup_{u ≥ 0} {u t − f(u)},    tight at T = f'(p/q).

An `FDivergence` is data: `name`, `f` and `source` are required; the rest is derived from f by automatic
differentiation, or stated in a form that float32 can hold, and tests prove the two equal. A critic's raw output v is
any real number; an `Activation` maps it to a T inside the domain of f*, and computes f*(T(v)) in one *fused*
expression, since the composed one overflows (the usual GAN loss gives inf at v = 20 in float32, where the truth is 20).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

Function = Callable[..., jax.Array]
ActivationName = Literal["log_ratio", "paper"]

SMOOTHING = 0.2
"""Width τ, in nats of log-ratio, of the smoothed step that replaces f' where f has a kink. No comparison of widths is
recorded; the total_variation fits of `fgan reproduce modes` would show a change."""
SATURATION = 12.0  # |log-ratio| of derived activations: above it float32 cannot form e^v f'(e^v) − f(e^v)

OUTWARDS = (140.0, 70.0, 35.0, 17.5)
"""|log u| from which a limit of f is estimated: the first at which u⁵ and u⁻⁵, and more of milder generators, fit
float64."""
ROUNDING = 1e-13  # of values of order 1 in float64, and of what was computed from some of them
LIMIT_ERROR = 1e-6  # of an estimated limit beyond which it is refused: a tenth of what float32 holds of f̃
EDGE = 18.4  # log u at which u f'(∞) − f(u) still has eight digits: u = 1e8
KINK = 1e-6  # jump of f', as a share of 1 + |f'|, above which f has a kink: rounding of f' by derivation is 1e-10


def identity(v):
    return v


def as_float(u) -> jax.Array:
    """u in its own precision, float32 at least; a bare number in the precision that is on."""
    return jnp.asarray(u, dtype=jnp.promote_types(jnp.result_type(u, float), jnp.float32))


def inside(t, holds, value: Callable[..., jax.Array], safe: float):
    """value(t) where `holds`, +inf elsewhere; the inner `where` keeps the gradient finite on both branches."""
    return jnp.where(holds, value(jnp.where(holds, t, safe)), jnp.inf)


@dataclass(frozen=True, kw_only=True)
class Activation:
    """How a raw critic output v ∈ ℝ becomes a variational function T.

    Attributes:
        output: v → T(v), always inside the domain of f*.
        conjugate: v → f*(T(v)), in one fused expression, finite with finite gradient for |v| ≤ 30 in float32.
        log_ratio: v → ℓ(v) = log (f*)'(T(v)), the estimate of log p/q that v stands for; v itself by default.
    """

    output: Function
    conjugate: Function
    log_ratio: Function = identity


@dataclass(frozen=True, kw_only=True, eq=False)
class FDivergence:
    """One f-divergence: everything the project knows about it.

    Attributes:
        name: what users type, such as `kl` or `alpha(0.5)`.
        f: the generator on (0, ∞), elementwise on arrays.
        source: where it is defined, and the normalisation used.
        formula: f as text, for tables.
        aliases: other names that users type.
        prime, second: f' and f''.
        conjugate: f*, +inf outside its domain.
        value_at_zero: f(0⁺), the cost of a point where p = 0 < q; may be inf.
        slope_at_infinity: f'(∞) = sup dom f*, the cost of a point where q = 0 < p; may be inf.
        closed: whether f* is finite at that supremum.
        value_at_one: f(1); zero for a divergence, −log 4 for the GAN objective.
        paper: the output activation g_f of the f-GAN paper; the log-ratio one where they agree or the paper has none.
        log_ratio: T(v) = f'(e^v): the raw output estimates log p/q. Smoothed by `SMOOTHING` where f has a kink.
        default: the activation that trains unless the user names another.
        smooth: whether f is differentiable, so that T determines the ratio.
        kink: log u where f has its kink, the largest of several, if it is not smooth.
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
        derive("value_at_zero", lambda: _estimated(self, "value_at_zero", lambda r: self.f(jnp.exp(-r))))
        derive(
            "slope_at_infinity",
            lambda: _estimated(self, "slope_at_infinity", lambda r: self.f(jnp.exp(r)) / jnp.exp(r)),
        )
        derive("closed", lambda: math.isfinite(self.slope_at_infinity) and math.isfinite(_edge_value(self)))
        derive("conjugate", lambda: legendre(self))
        derive("log_ratio", lambda: composed_activation(self))
        derive("paper", lambda: self.log_ratio)

    def activation(self, name: ActivationName | None = None) -> Activation:
        """The activation called `name`, the divergence's default if None. Raises ValueError for any other name."""
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
            kink=-self.kink,
        )

    def upper_limit(self) -> float:
        """sup D_f = f(0) + f'(∞), attained by mutually singular P and Q (Liese & Vajda 2006, theorem 5); may be inf."""
        return self.value_at_zero + self.slope_at_infinity

    def __repr__(self):
        return f"FDivergence({self.name})"


def derivative(function: Function) -> Function:
    """The elementwise derivative of `function`, by forward-mode automatic differentiation."""

    def prime(u):
        u = as_float(u)
        return jax.jvp(function, (u,), (jnp.ones_like(u),))[1]

    return prime


def _estimated(d: FDivergence, field: str, value: Function) -> float:
    """The limit of value(r) for r → ∞, which is that `field` of d. Raises ValueError where it cannot be told."""
    limit = _limit(value, OUTWARDS, ROUNDING)
    if limit is None:
        raise ValueError(f"generator {d.name!r}: its limit is approached too slowly to be estimated; state {field}=")
    return 0.0 if abs(limit) < ROUNDING else limit


def _limit(value: Function, distances: tuple[float, ...], rounding: float) -> float | None:
    """The limit of value(r) for r → ∞, in float64 from its slopes at r = s/4, s/2, s; None where they do not tell it.

    s is the first of `distances` at which they are finite. A slope that does not fall makes the limit infinite. One
    that falls as e^{−kr}, as that of u^k does, leaves slope/k to go; the two rates found differ by about its error.
    """
    with jax.enable_x64(True):
        for s in distances:
            r = jnp.asarray([0.25 * s, 0.5 * s, s])
            values, slopes = (np.asarray(x) for x in jax.jvp(value, (r,), (jnp.ones_like(r),)))
            if np.isfinite(values).all() and np.isfinite(slopes).all():
                break
        else:
            return math.inf if _grows_past_floats(values, slopes) else None
    reached, (near, middle, far) = float(values[-1]), slopes.tolist()
    scale = 1.0 + abs(reached)
    if abs(far) * s <= rounding * s * scale:
        return reached
    if far > 0.0 and far >= middle * (1.0 - 1e-9):
        return math.inf
    if not min(near / far, middle / far) > 0.0:
        return None
    rates = math.log(near / middle) / (0.25 * s), math.log(middle / far) / (0.5 * s)
    to_go = far / rates[1] if rates[1] > 0.0 else math.inf
    return reached + to_go if abs(to_go * (rates[0] / rates[1] - 1.0)) <= LIMIT_ERROR * scale else None


def _grows_past_floats(values: np.ndarray, slopes: np.ndarray) -> bool:
    """Whether values at three distances rise ever faster, the last of them to overflow, as those of u⁵⁰ do.

    A formula that overflows on its way to a limit, as log(1 + eᵘ)/u, does not rise so before.
    """
    finite = np.isfinite(values[:2]).all() and np.isfinite(slopes[:2]).all()
    return bool(finite and values[2] == np.inf and 0.0 < slopes[0] < slopes[1])


def _edge_value(d: FDivergence) -> float:
    """f*(b) = lim u b − f(u) at b = f'(∞) < ∞; ∞ where the difference, of few digits, does not show a limit."""
    limit = _limit(lambda r: jnp.exp(r) * d.slope_at_infinity - d.f(jnp.exp(r)), (EDGE,), 1e-6)
    return math.inf if limit is None else limit


def _kinks(f: Function) -> list[tuple[float, float]]:
    """(log u, jump of f') of every kink of a convex f between e⁻⁸ and e⁸, the largest jump last.

    Cells of a grid are halved, each time to the half over which f' rises more, until nothing is left of a smooth rise.
    """
    prime = jax.jit(lambda s: derivative(f)(jnp.exp(s)))
    edges = np.linspace(-8.0, 8.0, 402) + 0.01 / math.pi  # no edge at a simple number, where f' is one of two slopes
    low, high = edges[:-1], edges[1:]
    at_low, at_high = np.asarray(prime(low)), np.asarray(prime(high))
    for _ in range(45):
        middle = 0.5 * (low + high)
        at_middle = np.asarray(prime(middle))
        right = at_high - at_middle > at_middle - at_low
        low, at_low = np.where(right, middle, low), np.where(right, at_middle, at_low)
        high, at_high = np.where(right, high, middle), np.where(right, at_high, at_middle)
    jumps = at_high - at_low
    found = np.flatnonzero(jumps > KINK * (1.0 + np.abs(at_low) + np.abs(at_high)))
    return sorted(((float(high[k]), float(jumps[k])) for k in found), key=lambda kink: kink[1])


def legendre(d: FDivergence) -> Function:
    """f*(t) = sup_{u ≥ 0} {u t − f(u)}, by bisection on f'(e^s) = t; +inf above f'(∞), −f(0) below f'(0).

    Differentiable to second order: ds/dt = 1/(u f''(u)). Exact to rounding in float64; in float32 the difference
    u t − f(u) keeps about seven digits *of u t*, so state a closed form where one exists.
    """
    edge = _edge_value(d) if d.closed else math.inf

    def widest(t):  # |s| up to which e^s and f(e^s) fit the precision
        return 40.0 if t.dtype == jnp.float32 else 300.0

    @jax.custom_jvp
    def log_maximiser(t):
        def halve(_, bracket):
            low, high = bracket
            middle = 0.5 * (low + high)
            below = d.prime(jnp.exp(middle)) < t
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        low, high = jax.lax.fori_loop(0, 64, halve, (jnp.full_like(t, -widest(t)), jnp.full_like(t, widest(t))))
        return 0.5 * (low + high)

    @log_maximiser.defjvp
    def _(primals, tangents):
        (t,), (dt,) = primals, tangents
        s = log_maximiser(t)
        curvature = jnp.exp(s) * d.second(jnp.exp(s))
        bends = curvature > 0.0  # at a kink the maximiser stands still
        return s, jnp.where(bends, dt / jnp.where(bends, curvature, 1.0), 0.0)

    def conjugate(t):
        t = as_float(t)
        s = log_maximiser(t) if d.smooth else jax.lax.stop_gradient(log_maximiser(t))  # f'' is no help at a kink
        u = jnp.exp(s)
        value = u * t - d.f(u)
        if math.isfinite(d.value_at_zero):
            value = jnp.where(s < 1.0 - widest(t), -d.value_at_zero, jnp.maximum(value, -d.value_at_zero))
        value = jnp.where(t == d.slope_at_infinity, edge, value)
        return jnp.where(t > d.slope_at_infinity, jnp.inf, value)

    return conjugate


def composed_activation(d: FDivergence) -> Activation:
    """The log-ratio activation by composition: T = f'(e^ℓ), f*(T) = e^ℓ f'(e^ℓ) − f(e^ℓ), ℓ = c·tanh(v/c).

    For generators without a fused form. ℓ saturates at c = `SATURATION`, where float32 still holds the difference.
    Where f has a kink, T is the slope of its chord over ℓ ± `SMOOTHING`: inside the domain of f*, and never flat at
    the kink.
    """

    def log_ratio(v):
        return SATURATION * jnp.tanh(v / SATURATION)

    def chord(v):
        low, high = (jnp.exp(log_ratio(v) + side) for side in (-SMOOTHING, SMOOTHING))
        slope = (d.f(high) - d.f(low)) / (high - low)
        return jnp.clip(slope, None, d.slope_at_infinity)  # rounding must not leave the domain of f*

    def conjugate(v):
        u = jnp.exp(log_ratio(v))
        return u * d.prime(u) - d.f(u)

    if not d.smooth:
        return Activation(output=chord, conjugate=lambda v: d.conjugate(chord(v)), log_ratio=log_ratio)
    return Activation(output=lambda v: d.prime(jnp.exp(log_ratio(v))), conjugate=conjugate, log_ratio=log_ratio)


def from_generator(
    name: str,
    f: Function,
    *,
    source: str = "user",
    value_at_zero: float | None = None,
    slope_at_infinity: float | None = None,
    smooth: bool | None = True,
    formula: str = "user's own",
) -> FDivergence:
    """An f-divergence made from the user's own generator, usable wherever a name is.

    Args:
        f: convex on (0, ∞) with f(1) = 0, written with jax.numpy, elementwise.
        value_at_zero, slope_at_infinity: f(0⁺) and f'(∞) where they are known; else estimated numerically.
        smooth: False if f has a kink, None if that is to be found out. The largest one between e⁻⁸ and e⁸ becomes
            `kink`.
        formula: f as text, for tables.

    Raises:
        ValueError: f(1) ≠ 0, f is not finite and convex on [e⁻⁸, e⁸], or straight, it has a kink there that is not
            stated, or a limit is not stated that it approaches too slowly, as 1/log u does.

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
        bend = float(jnp.ptp(chords) / (1.0 + jnp.abs(chords[0])))
    if not abs(at_one) < 1e-6:
        raise ValueError(f"generator {name!r}: f(1) = {at_one:g}, but a divergence needs f(1) = 0; subtract it from f")
    if not bool(jnp.all(jnp.isfinite(values))):
        raise ValueError(f"generator {name!r}: f is not finite on [e^-8, e^8]; check its domain")
    if wrong > 1e-6:
        raise ValueError(f"generator {name!r}: f is not convex (its slope falls by {wrong:.2g}); check its sign")
    if bend <= 1e-9:
        raise ValueError(f"generator {name!r}: f is a straight line, so the divergence is 0 everywhere; let it bend")
    with jax.enable_x64(True):
        kinks = _kinks(f)
    if smooth and kinks:
        at, jump = kinks[-1]
        raise ValueError(
            f"generator {name!r}: its slope jumps by {jump:.2g} at u = {math.exp(at):.6g}; state smooth=False"
        )
    made = FDivergence(
        name=name,
        f=f,
        source=source,
        formula=formula,
        value_at_zero=value_at_zero,  # type: ignore[arg-type]
        slope_at_infinity=slope_at_infinity,  # type: ignore[arg-type]
        smooth=not kinks if smooth is None else smooth,
        kink=kinks[-1][0] if kinks else 0.0,
    )
    first = float(values[0]), float(u[0]), float(chords[0])
    _refuse_dips(made, first[0] - first[1] * first[2], float(chords[-1]))  # the line through two values, at u = 0
    return made


def _refuse_dips(d: FDivergence, at_zero: float, slope: float) -> None:
    """Raise ValueError where a limit lies below what convexity demands of it, f(0⁺) ≥ at_zero and f'(∞) ≥ slope."""
    demanded = ((d.value_at_zero, at_zero), (d.slope_at_infinity, slope))
    if any(limit < least - 1e-6 * (1.0 + abs(least)) for limit, least in demanded):
        raise ValueError(
            f"generator {d.name!r}: f is not convex (its limits f(0) = {d.value_at_zero:.4g} and f'(∞) = "
            f"{d.slope_at_infinity:.4g} lie below the lines through its values on [e^-8, e^8]); check it far out"
        )
