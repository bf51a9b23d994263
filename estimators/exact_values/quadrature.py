"""Integrals on the line and in the plane to a checked error, and what they make exact: divergences and bounds.

Everything here is float64, whatever the precision of the caller: these are the truths with which estimates and trained
generators are compared.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.divergences.table import divergence
from estimators.exact_values.peaks import LARGEST, Frame, peaks

Integrand = Callable[..., jax.typing.ArrayLike]  # float64 [n], or [n, 2] on the plane → float64 [n]
LogDensity = Callable[[jax.Array], jax.Array]  # the same, written with jax.numpy or numpy; −inf outside its support
Interval = tuple[float, float]
Rectangle = tuple[Interval, Interval]
Support = Interval | Rectangle
REAL_LINE: Interval = (-math.inf, math.inf)
PLANE: Rectangle = (REAL_LINE, REAL_LINE)

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
BLOCK = 4096  # points a call of an integrand: one shape, so that every jax operation compiles once
PANELS = 64  # of the line, to start from
DEPTH = 36  # bisections of a panel: further ones would round an end of the line to infinity
COARSEST, FINEST = 64, 2048  # points along an axis of the plane, at first and at most
EXTENT = 3.0  # largest |t| of the rule on an axis of the plane, which takes x to 3·10⁶


def integrate(
    function: Integrand, support: Support = REAL_LINE, *, tol: float = 1e-11, edges: Sequence[float] = ()
) -> float:
    """∫ function(x) dx over `support`, in float64, to a checked error.

    On the line: adaptive 16-point Gauss–Legendre panels. An infinite end is mapped to a finite one (x = t/(1 − t²), or
    x = end ± t/(1 − t)). A panel is halved until its halves agree; kinks and narrow peaks only cost more panels.

    On the plane: the trapezoidal rule in t, x = sinh(½π sinh t) on each axis (tanh on a finite one), its step halved
    until two values agree. It converges geometrically for smooth functions, algebraically across a kink, and is finest
    where |x| is at most a few units.

    The integral is inf or −inf if the integrand is infinite somewhere or the panels at an end never settle.

    Args:
        support: an interval, or a pair of intervals; ends may be infinite, but on the plane both of an axis or none.
        tol: absolute error aimed at, relative to 1 + |integral|.
        edges: points of the line where further panels end, as around a narrow peak.

    Raises:
        ValueError: an empty support, an integrand that is NaN, or on the plane one that never settles.

    Source: Takahasi, Mori 1974, for the rule on the plane; Trefethen, Weideman 2014, for its convergence.
    """
    if np.ndim(support) == 2:
        return _integrate_plane(function, support, tol)  # type: ignore[arg-type]
    low, high = _ends(support)  # type: ignore[arg-type]
    change, inverse, start, stop = _change_of_variable(low, high)

    def panels(a, b):
        t = 0.5 * (b + a)[:, None] + 0.5 * (b - a)[:, None] * NODES
        x, jacobian = change(t.ravel())
        values = in_blocks(function, x) * jacobian
        if np.isnan(values).any():
            raise ValueError(f"the integrand is NaN at x = {x[np.isnan(values)][0]:g}")
        return (values.reshape(t.shape) @ WEIGHTS) * 0.5 * (b - a)

    at = np.union1d(np.linspace(start, stop, PANELS + 1), inverse(np.asarray(edges, float)))
    a, b = at[:-1], at[1:]
    whole, total, unsettled = panels(a, b), 0.0, []
    for _ in range(DEPTH):
        if not np.isfinite(whole).all():
            return float(np.sum(whole[~np.isfinite(whole)]))
        middle = 0.5 * (a + b)
        halves = panels(np.concatenate([a, middle]), np.concatenate([middle, b])).reshape(2, -1)
        settled = np.abs(halves.sum(0) - whole) <= tol * (1.0 + abs(total)) / PANELS
        total += float(halves[:, settled].sum())
        rest = ~settled
        if not rest.any():
            return total
        a, b = np.concatenate([a[rest], middle[rest]]), np.concatenate([middle[rest], b[rest]])
        whole = halves[:, rest].ravel()
        unsettled.append(np.abs(whole).sum())
    left = float(whole.sum())
    negligible = unsettled[-1] <= 1e-8 * (1.0 + abs(total))  # as at a jump
    shrinking = unsettled[-1] <= 0.5 * unsettled[-9]  # as at an integrable pole, x^{−0.8} or milder
    return total + left if negligible or shrinking else math.copysign(math.inf, left)


def _ends(line: Interval) -> Interval:
    low, high = (float(end) for end in line)
    if not low < high:
        raise ValueError(f"support {line}: the lower end must lie below the upper end")
    return low, high


def _change_of_variable(low: float, high: float):
    """(t → (x, dx/dt), x → t, start, stop) taking a finite interval onto (low, high)."""
    if math.isinf(low) and math.isinf(high):
        there = lambda t: (t / (1.0 - t * t), (1.0 + t * t) / (1.0 - t * t) ** 2)  # noqa: E731
        return there, lambda x: 2.0 * x / (1.0 + np.sqrt(1.0 + 4.0 * x * x)), -1.0, 1.0
    if math.isinf(high - low):
        end, sign = (low, 1.0) if math.isinf(high) else (high, -1.0)
        there = lambda t: (end + sign * t / (1.0 - t), 1.0 / (1.0 - t) ** 2)  # noqa: E731
        return there, lambda x: np.abs(x - end) / (1.0 + np.abs(x - end)), 0.0, 1.0
    return lambda t: (t, np.ones_like(t)), lambda x: x, low, high


def in_blocks(function: Integrand, x: np.ndarray) -> np.ndarray:
    """function(x) in float64 at x, called on blocks of one fixed length."""
    padded = np.resize(x, (-(-len(x) // BLOCK), BLOCK, *x.shape[1:]))
    with jax.enable_x64(True):
        values = [np.asarray(function(jnp.asarray(block)), np.float64) for block in padded]
    return np.concatenate(values)[: len(x)]


def _integrate_plane(function: Integrand, rectangle: Rectangle, tol: float) -> float:
    last, n = math.inf, COARSEST
    while n <= FINEST:
        x, weights = plane_rule(rectangle, n)
        values = in_blocks(function, x)
        if np.isnan(values).any():
            raise ValueError(f"the integrand is NaN at x = {x[np.isnan(values)][0]}")
        with np.errstate(over="ignore"):
            total = float(weights @ values)
        if math.isinf(total) or abs(total - last) <= tol * (1.0 + abs(total)):
            return total
        last, n = total, 2 * n
    raise ValueError(
        f"the integral over {rectangle} does not settle to {tol:g} on {FINEST}² points: tails too heavy, a kink, or a "
        "peak too narrow; shift and scale both densities towards N(0, I), which changes no divergence, or give a "
        "larger tol"
    )


def line_rule(line: Interval, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(points, weights) of n Gauss–Legendre panels on a finite interval."""
    edges = np.linspace(*line, n + 1)
    half = 0.5 * np.diff(edges)[:, None]
    x = 0.5 * (edges[1:] + edges[:-1])[:, None] + half * NODES
    return x.ravel(), (half * WEIGHTS).ravel()


def plane_rule(rectangle: Rectangle, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(points [n², 2], weights [n²]) of the trapezoidal rule with n steps an axis."""
    axes = [_axis_rule(*_ends(line), n) for line in rectangle]
    points, weights = (np.stack(np.meshgrid(*pair, indexing="ij"), axis=-1).reshape(-1, 2) for pair in zip(*axes))
    return points, weights.prod(axis=1)


def _axis_rule(low: float, high: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    step = 2.0 * EXTENT / n
    t = (np.arange(n) - 0.5 * (n - 1)) * step
    u, slope = 0.5 * math.pi * np.sinh(t), 0.5 * math.pi * np.cosh(t) * step
    if (low, high) == REAL_LINE:
        return np.sinh(u), np.cosh(u) * slope
    if math.isinf(high - low):
        raise ValueError(f"support {(low, high)}: an axis of the plane is the whole line or a finite interval")
    half = 0.5 * (high - low)
    return 0.5 * (low + high) + half * np.tanh(u), half * slope / np.cosh(u) ** 2


@lru_cache(maxsize=512)
def mass(log_density: LogDensity, support: Support = REAL_LINE, tol: float = 1e-6) -> float:
    """∫ p dx over `support`, to about `tol`."""
    return integrate(_exp_of(log_density), support, tol=tol)


def _exp_of(log_density: LogDensity) -> Integrand:
    return lambda x: jnp.exp(log_density(x))


def exact_divergence(
    log_p: LogDensity,
    log_q: LogDensity,
    d: str | FDivergence,
    support: Support = REAL_LINE,
    *,
    tol: float = 1e-11,
) -> float:
    """D_f(P‖Q) = ∫ q f(p/q) dx in nats, by float64 quadrature (`integrate`); inf where it is infinite.

    Args:
        log_p, log_q: log densities, [n] → [n], on the plane [n, 2] → [n]; −inf outside their support.
        support: `PLANE` for the plane; the finite interval where both densities live if there is one.
        tol: absolute error aimed at; on the plane, where f has a kink, about 1e-5 is possible.

    Raises:
        ValueError: a density that does not integrate to 1 over the support, or as `integrate`.

    >>> from estimators.distributions.examples import normal
    >>> round(exact_divergence(normal(0.0, 1.0).log_prob, normal(1.0, 1.0).log_prob, "kl"), 9)
    0.5
    """
    d = divergence(d)
    normalised = all(_has_mass(mass(log_density, support, max(tol, 1e-6)), tol) for log_density in (log_p, log_q))
    value = _divergence(log_p, log_q, d, support, tol) if normalised else math.inf
    if math.isfinite(value) or (normalised and np.ndim(support) == 2):
        return value
    frame, missing = _frame(log_p, log_q, support, tol)  # far from 0 mass is missed, and integrals may never settle
    if not missing:
        there = frame.density(log_p), frame.density(log_q), d, frame.support(support)
        return _divergence(*there, tol, frame.edges)
    if normalised:
        return value
    raise ValueError(missing)


def _divergence(log_p, log_q, d: FDivergence, support: Support, tol: float, edges: Sequence[float] = ()) -> float:
    log_integrand = log_perspective(d)

    def integrand(x):
        return jnp.exp(log_integrand(jnp.asarray(log_p(x)), jnp.asarray(log_q(x))))

    return d.value_at_one + integrate(integrand, support, tol=tol, edges=edges)


def _has_mass(total: float, tol: float) -> bool:
    """Whether a density of that integral counts as normalised."""
    return abs(total - 1.0) < max(tol, 1e-4)


def _frame(log_p: LogDensity, log_q: LogDensity, support: Support, tol: float) -> tuple[Frame, str]:
    """(the frame of the peaks of both, which density still has no mass of 1 in it and where it was looked for)."""
    found = {name: peaks(partial(in_blocks, density), support) for name, density in (("p", log_p), ("q", log_q))}
    frame = Frame.around([peak for each in found.values() for peak in each], support)
    for name, log_density in (("p", log_p), ("q", log_q)):
        there = _exp_of(frame.density(log_density)), frame.support(support)
        total = integrate(*there, tol=max(tol, 1e-6), edges=frame.edges)
        if not _has_mass(total, tol):
            seen = ", ".join(peak.words for peak in found[name]) or "none"
            return frame, (
                f"density {name} integrates to {total:.6g} over {support}, not to 1. Peaks found there, from points "
                f"at every power of two up to {2.0**LARGEST:.0g} away from 0: {seen}. Normalise it, or give a finite "
                "support that holds its mass closely"
            )
    return frame, ""


def exact_bound(
    log_p: LogDensity,
    log_q: LogDensity,
    critic: Callable[[jax.Array], jax.Array],
    d: str | FDivergence,
    *,
    activation: str | None = None,
    support: Support = REAL_LINE,
) -> float:
    """E_P[T(v)] − E_Q[f*(T(v))] of a critic v(x), integrated against both exact densities, in nats.

    Give a finite support where the critic has a meaning only there, as a network does near its samples; infinite ends
    are fine if T and f*∘T stay bounded.
    """
    g = divergence(d).activation(activation)  # type: ignore[arg-type]

    def integrand(x):
        v = jnp.asarray(critic(x), jnp.float64)
        p, q = jnp.exp(log_p(x)), jnp.exp(log_q(x))
        on_p = jnp.where(p > 0.0, p * g.output(v), 0.0)  # far out a density is 0 before T leaves float64
        return on_p - jnp.where(q > 0.0, q * g.conjugate(v), 0.0)

    return integrate(integrand, support, tol=1e-9)
