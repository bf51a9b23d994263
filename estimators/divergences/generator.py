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

Function = Callable[..., jax.Array]
ActivationName = Literal["log_ratio", "paper"]

SMOOTHING = 0.2
"""Width τ, in nats of log-ratio, of the smoothed step that replaces f' where f has a kink. No comparison of widths is
recorded; the total_variation fits of `fgan reproduce modes` would show a change."""
SATURATION = 12.0  # |log-ratio| of derived activations: above it float32 cannot form e^v f'(e^v) − f(e^v)


STEPS = (1e-5, 2e-5)
"""Distances from u = 1 at which a user's generator is tried for a kink there: its rounding is 1e-11 of a slope."""


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
        kink: log u where f has its kink, if it is not smooth.
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


def _limit(function: Function, points: tuple[float, float]) -> float:
    """The limit of a monotone `function`, estimated in float64 from two `points` on the way there; ±inf if it grows.

    A growth of 1e-3 between the points counts as unbounded: log u, which grows most slowly of all, gains 46.
    """
    with jax.enable_x64(True):
        near, far = (float(function(jnp.asarray(point, jnp.float64))) for point in points)
    if math.isfinite(near) and math.isfinite(far) and abs(far - near) <= 1e-3 * (1.0 + abs(near)):
        return far
    return math.inf if not math.isfinite(far) or far > near else -math.inf


def _edge_value(d: FDivergence) -> float:
    """f*(b) = lim u b − f(u) at b = f'(∞) < ∞, as `_limit` estimates it, where the difference still has digits."""
    return _limit(lambda u: u * d.slope_at_infinity - d.f(u), (1e6, 1e8))


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
    smooth: bool = True,
) -> FDivergence:
    """An f-divergence made from the user's own generator, usable wherever a name is.

    Args:
        f: convex on (0, ∞) with f(1) = 0, written with jax.numpy, elementwise.
        value_at_zero, slope_at_infinity: f(0⁺) and f'(∞) where they are known; else estimated numerically.
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
        bends = [
            float(f(jnp.asarray(1.0 + h)) + f(jnp.asarray(1.0 - h)) - 2.0 * f(jnp.asarray(1.0))) / h for h in STEPS
        ]
        kink = 2.0 * bends[0] - bends[1]  # of a slope that jumps by J a bend is J + h f''
        wrong = float(jnp.max(-jnp.diff(chords) / (1.0 + jnp.abs(chords[1:]))))
    if not abs(at_one) < 1e-6:
        raise ValueError(f"generator {name!r}: f(1) = {at_one:g}, but a divergence needs f(1) = 0; subtract it from f")
    if not bool(jnp.all(jnp.isfinite(values))):
        raise ValueError(f"generator {name!r}: f is not finite on [e^-8, e^8]; check its domain")
    if wrong > 1e-6:
        raise ValueError(f"generator {name!r}: f is not convex (its slope falls by {wrong:.2g}); check its sign")
    if smooth and kink > 1e-3:
        raise ValueError(f"generator {name!r}: its slope jumps by {kink:.2g} at u = 1; state smooth=False")
    return FDivergence(
        name=name,
        f=f,
        source=source,
        formula="user's own",
        value_at_zero=value_at_zero,  # type: ignore[arg-type]
        slope_at_infinity=slope_at_infinity,  # type: ignore[arg-type]
        smooth=smooth,
    )
