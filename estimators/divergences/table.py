"""The one table of f-divergences, and the look-up of a name: of a divergence, or of Rényi's, a function of one.

Adding a divergence is one entry of `DIVERGENCES`: its name, its generator, a source. Whatever else an entry states (f',
f*, limits, activations) is a form that float32 can hold; tests prove it equal to what follows from f. Where the paper's
activation is the log-ratio one (reverse_kl, js, gan), it is stated once.
"""

import difflib
import math
import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid, sigmoid, softplus
from jax.scipy.special import xlogy

from estimators.divergences.families import FAMILIES, alpha, hockey_stick, js_weighted
from estimators.divergences.formulas import formula
from estimators.divergences.generator import SMOOTHING, Activation, FDivergence, as_float, identity, inside

LOG2 = math.log(2.0)


@jax.custom_jvp
def log_lambert(z):
    """y = log W(e^z), the solution of y + e^y = z (W: Lambert), for any real z; dy/dz = 1/(1 + e^y).

    y + e^y is convex and increasing, so Newton's steps from a point above the root fall onto it monotonically.
    """
    z = as_float(z)
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


DIVERGENCES: dict[str, FDivergence] = {
    "kl": FDivergence(
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
        paper=Activation(output=identity, conjugate=lambda v: jnp.exp(v - 1.0), log_ratio=lambda v: v - 1.0),
        log_ratio=Activation(output=lambda v: v + 1.0, conjugate=jnp.exp),
    ),
    "reverse_kl": FDivergence(
        name="reverse_kl",
        f=lambda u: -jnp.log(u),
        source="Kullback & Leibler 1951, arguments swapped; mode seeking",
        formula="−log u",
        aliases=("rkl",),
        prime=lambda u: -1.0 / u,
        second=lambda u: 1.0 / u**2,
        conjugate=lambda t: inside(t, t < 0.0, lambda s: -1.0 - jnp.log(-s), -1.0),
        value_at_zero=math.inf,
        slope_at_infinity=0.0,
        closed=False,
        log_ratio=Activation(output=lambda v: -jnp.exp(-v), conjugate=lambda v: v - 1.0),
    ),
    "jeffreys": FDivergence(
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
        paper=Activation(output=identity, conjugate=_jeffreys_conjugate, log_ratio=lambda v: -log_lambert(1.0 - v)),
        log_ratio=Activation(output=lambda v: v - jnp.expm1(-v), conjugate=lambda v: jnp.expm1(v) + v),
    ),
    "js": FDivergence(
        name="js",
        f=lambda u: 0.5 * (xlogy(u, u) - (u + 1.0) * jnp.log((u + 1.0) / 2.0)),
        source="Lin 1991, textbook normalisation (at most log 2); the f-GAN paper's JS is twice this",
        formula="½[u log u − (u+1) log((u+1)/2)]",
        aliases=("jsd", "jensen_shannon"),
        prime=lambda u: 0.5 * (LOG2 + jnp.log(u) - jnp.log1p(u)),
        second=lambda u: 0.5 / (u * (u + 1.0)),
        conjugate=lambda t: inside(t, t < 0.5 * LOG2, lambda s: -0.5 * jnp.log(2.0 - jnp.exp(2.0 * s)), 0.0),
        value_at_zero=0.5 * LOG2,
        slope_at_infinity=0.5 * LOG2,
        closed=False,
        log_ratio=Activation(
            output=lambda v: 0.5 * (LOG2 + log_sigmoid(v)), conjugate=lambda v: 0.5 * (softplus(v) - LOG2)
        ),
    ),
    "js_weighted(0.3)": js_weighted(0.3),
    "gan": FDivergence(
        name="gan",
        f=lambda u: xlogy(u, u) - (u + 1.0) * jnp.log1p(u),
        source="Goodfellow et al. 2014: 2 js − log 4, so f(1) = −log 4 and not 0",
        formula="u log u − (u+1) log(u+1)",
        prime=lambda u: jnp.log(u) - jnp.log1p(u),
        second=lambda u: 1.0 / (u * (u + 1.0)),
        conjugate=lambda t: inside(t, t < 0.0, lambda s: -jnp.log(-jnp.expm1(s)), -1.0),
        value_at_zero=0.0,
        slope_at_infinity=0.0,
        closed=False,
        value_at_one=-2.0 * LOG2,
        log_ratio=Activation(output=log_sigmoid, conjugate=softplus),
    ),
    "total_variation": FDivergence(
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
        paper=Activation(output=lambda v: 0.5 * jnp.tanh(v), conjugate=lambda v: 0.5 * jnp.tanh(v)),
        log_ratio=Activation(
            output=lambda v: 0.5 * jnp.tanh(v / SMOOTHING), conjugate=lambda v: 0.5 * jnp.tanh(v / SMOOTHING)
        ),
        default="paper",
        smooth=False,
    ),
    "pearson": FDivergence(
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
            output=identity,
            conjugate=lambda v: jnp.where(v >= -2.0, 0.25 * v * v + v, -1.0),
            log_ratio=lambda v: jnp.log(jnp.maximum(0.5 * v + 1.0, 1e-30)),
        ),
        log_ratio=Activation(output=lambda v: 2.0 * jnp.expm1(v), conjugate=lambda v: jnp.expm1(2.0 * v)),
    ),
    "neyman": FDivergence(
        name="neyman",
        f=lambda u: (1.0 - u) ** 2 / u,
        source="Neyman 1949: χ²(Q‖P) = ∫(p−q)²/p",
        formula="(1 − u)² / u",
        aliases=("neyman_chi2", "reverse_chi_squared"),
        prime=lambda u: 1.0 - 1.0 / u**2,
        second=lambda u: 2.0 / u**3,
        conjugate=lambda t: inside(t, t <= 1.0, lambda s: 2.0 - 2.0 * jnp.sqrt(1.0 - s), 0.0),
        value_at_zero=math.inf,
        slope_at_infinity=1.0,
        closed=True,
        paper=Activation(
            output=lambda v: -jnp.expm1(-v), conjugate=lambda v: -2.0 * jnp.expm1(-0.5 * v), log_ratio=lambda v: 0.5 * v
        ),
        log_ratio=Activation(output=lambda v: -jnp.expm1(-2.0 * v), conjugate=lambda v: -2.0 * jnp.expm1(-v)),
    ),
    "squared_hellinger": FDivergence(
        name="squared_hellinger",
        f=lambda u: (jnp.sqrt(u) - 1.0) ** 2,
        source="Hellinger 1909: ∫(√p−√q)², no factor ½, so at most 2",
        formula="(√u − 1)²",
        aliases=("hellinger",),
        prime=lambda u: 1.0 - 1.0 / jnp.sqrt(u),
        second=lambda u: 0.5 * u**-1.5,
        conjugate=lambda t: inside(t, t < 1.0, lambda s: s / (1.0 - s), 0.0),
        value_at_zero=1.0,
        slope_at_infinity=1.0,
        closed=False,
        paper=Activation(output=lambda v: -jnp.expm1(-v), conjugate=jnp.expm1, log_ratio=lambda v: 2.0 * v),
        log_ratio=Activation(output=lambda v: -jnp.expm1(-0.5 * v), conjugate=lambda v: jnp.expm1(0.5 * v)),
    ),
    "triangular": FDivergence(
        name="triangular",
        f=lambda u: (u - 1.0) ** 2 / (u + 1.0),
        source="Topsøe 2000: ∫(p−q)²/(p+q), twice Le Cam's",
        formula="(u − 1)² / (u + 1)",
        aliases=("le_cam", "triangular_discrimination"),
        prime=lambda u: (u - 1.0) * (u + 3.0) / (u + 1.0) ** 2,
        second=lambda u: 8.0 / (u + 1.0) ** 3,
        conjugate=lambda t: inside(
            t, t <= 1.0, lambda s: jnp.where(s >= -3.0, 4.0 - s - 4.0 * jnp.sqrt(1.0 - s), -1.0), 0.0
        ),
        value_at_zero=1.0,
        slope_at_infinity=1.0,
        closed=True,
        log_ratio=Activation(
            output=lambda v: 1.0 - 4.0 * sigmoid(-v) ** 2,
            conjugate=lambda v: 3.0 - 8.0 * sigmoid(-v) + 4.0 * sigmoid(-v) ** 2,
        ),
    ),
    "alpha(0.5)": alpha(0.5),
    "geometric_js": FDivergence(
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
        ),
    ),
    "hockey_stick(2)": hockey_stick(2.0),
}
"""Every divergence by name; each family by one example, its other parameters by `divergence("alpha(0.3)")`."""


def aliases() -> dict[str, str]:
    """Other names that users type → names in `DIVERGENCES`."""
    return {alias: name for name, d in DIVERGENCES.items() for alias in d.aliases}


OWN: dict[str, FDivergence] = {}
"""Divergences of the user's own that this process knows by name."""


def known_as(d: str | FDivergence) -> str:
    """The name by which `divergence` finds d in this process; a name itself is returned.

    Raises ValueError where another divergence has this name.
    """
    if not isinstance(d, FDivergence):
        return d
    try:
        other = divergence(d.name)
    except UnknownDivergence:
        OWN[d.name] = d
        return d.name
    if other is not d and (d.name not in OWN or signature(other) != signature(d)):
        raise ValueError(f"a divergence of your own is called {d.name!r}, as another one is; give it another name")
    return d.name


def signature(d: FDivergence) -> str:
    """What tells divergences apart: f at some points, to six digits."""
    return " ".join(f"{float(d.f(u)):.6g}" for u in (0.02, 0.1, 0.3, 0.7, 1.4, 3.0, 10.0, 50.0))


class UnknownDivergence(ValueError):
    """A name that is no divergence, alias or family of the tables."""


def divergence(name: str | FDivergence) -> FDivergence:
    """The FDivergence called `name`: a name, an alias, a family with its parameter, or a formula of u.

    An FDivergence itself is returned.

    >>> divergence("chi_squared").name
    'pearson'
    >>> divergence("alpha(0.3)").name
    'alpha(0.3)'
    >>> divergence("(u-1)**2 / (u+1)").upper_limit()
    2.0

    Raises:
        UnknownDivergence: a ValueError that lists the choices and the nearest name.
    """
    if isinstance(name, FDivergence):
        return name
    word, bracket, rest = str(name).strip().lower().partition("(")
    key = word.replace("-", "_") + bracket + rest  # a minus inside the brackets is a sign
    key = aliases().get(key, key)
    if key in DIVERGENCES:
        return DIVERGENCES[key]
    if name in OWN:
        return OWN[name]
    parsed = re.fullmatch(r"(\w+)\(\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*\)", key)
    if not parsed or parsed[1] not in FAMILIES:
        if re.search(r"\bu\b", str(name)):
            return _of_formula(str(name))
        raise _unknown(name, key)
    try:
        parameter = float(parsed[2])
    except ValueError:
        raise UnknownDivergence(f"{name!r}: {parsed[2]!r} is not a number") from None
    try:
        made = FAMILIES[parsed[1]](parameter)
    except ValueError as error:
        raise UnknownDivergence(str(error)) from None
    return DIVERGENCES.get(made.name, made)


def _of_formula(text: str) -> FDivergence:
    try:
        return formula(text)
    except ValueError as error:
        raise UnknownDivergence(str(error)) from None


def _unknown(name: str, key: str) -> UnknownDivergence:
    """The error that lists the choices and the one nearest to `key`."""
    near = difflib.get_close_matches(key, [*DIVERGENCES, *aliases(), *FAMILIES], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    if key.startswith("renyi"):
        hint = "Rényi divergences are estimated (fgan estimate -d 'renyi(2)'), not trained; "
    if ".py:" in name:
        hint = f"a function of a file is named on the command line alone: --divergence {name}; "
    families = ", ".join(f"{family}(x)" for family in FAMILIES)
    return UnknownDivergence(
        f"unknown divergence {name!r}: {hint}choose from {', '.join(DIVERGENCES)}, or {families} with your own x, or "
        "write f as a formula of u, such as '(u - 1)**2'"
    )


class Functional(NamedTuple):
    """What an estimate may be of: transform(D_f), `slope` its derivative; D_f itself where both are None.

    `order` is that of a Rényi divergence, for those who compute it from masses instead.
    """

    name: str
    divergence: FDivergence
    transform: Callable[[float], float] | None = None
    slope: Callable[[float], float] | None = None
    order: float | None = None


def renyi(a: float) -> Functional:
    """Rényi's D_α = log(1 + α(α−1) D_{alpha(α)}) / (α−1), α > 0, a monotone function of the α-divergence.

    Source: Rényi 1961; van Erven & Harremoës 2014. α = 1 is kl.
    """
    if not a > 0.0 or not math.isfinite(a):
        raise UnknownDivergence(f"renyi({a:g}): the order must be positive and finite")
    if a == 1.0:
        return Functional("renyi(1)", DIVERGENCES["kl"])
    factor, d = a * (a - 1.0), alpha(a)

    def transform(value):
        inside = 1.0 + factor * value
        if value >= d.upper_limit():
            return math.inf
        if a > 1.0 and inside < 0.5:  # a negative estimate: the tangent there, since the logarithm soon ends
            return (2.0 * inside - 1.0 - math.log(2.0)) / (a - 1.0)
        return math.log(inside) / (a - 1.0)

    def slope(value):
        inside = 1.0 + factor * value
        return a / (max(inside, 0.5) if a > 1.0 else inside)

    return Functional(f"renyi({a:g})", d, transform, slope, a)


def functional(name: str | FDivergence) -> Functional:
    """The functional called `name`: any divergence of the table, the user's own, or `renyi(α)`.

    Raises:
        UnknownDivergence: as `divergence`, or an order that is not a positive number.
    """
    if isinstance(name, str) and (parsed := re.fullmatch(r"\s*renyi\(\s*([\d.e+-]+)\s*\)\s*", name.lower())):
        try:
            return renyi(float(parsed[1]))
        except ValueError as error:
            raise UnknownDivergence(str(error)) from None
    d = divergence(name)
    return Functional(d.name, d)


def everything() -> list[Functional]:
    """What "all" stands for: every divergence of the table but gan, and renyi(2)."""
    return [functional(name) for name in DIVERGENCES if name != "gan"] + [renyi(2.0)]
