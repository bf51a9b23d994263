"""Exact f-divergences between densities on the line or the plane, and the exact best fit of a family under any of them.

Everything here is float64, whatever the precision of the caller: the truths that estimates and trained generators are
held against. D_f is infinite where it is infinite, by rules and not by overflow:

    where p > 0 = q the integrand is p f'(∞),   where q > 0 = p it is q f(0),

and elsewhere q f̃(p/q) with f̃(u) = f(u) − f(1) − f'(1)(u − 1) ≥ 0, which has the same integral and no cancelling
tails. It is formed from logarithms, so densities that underflow still meet in the right ratio.

Stands on estimators.divergences.table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.scipy.special import logsumexp

from estimators.divergences.table import FDivergence, divergence

LogDensity = Callable[[jax.Array], jax.Array]
Line = tuple[float, float]
Box = tuple[Line, Line]
REAL_LINE: Line = (-math.inf, math.inf)
PLANE: Box = (REAL_LINE, REAL_LINE)

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
BLOCK = 4096  # points a call: one shape, so every jax operation compiles once
PANELS = 64  # to start from
DEPTH = 36  # bisections of a panel: further ones would round an end of the line to infinity

COARSEST, SEARCH, FINEST = 64, 160, 2048  # points an axis of the plane: at first, in searches, and before giving up
REACH = 3.0  # of the plane's own variable t, which takes x to 3·10⁶


def integrate(
    function: Callable[..., jax.typing.ArrayLike], support: Line | Box = REAL_LINE, *, tol: float = 1e-11
) -> float:
    """∫ function(x) dx over `support`, in float64, to a checked error.

    On the line: adaptive 16-point Gauss–Legendre panels, all panels of a level at once. An infinite end is mapped to a
    finite one (x = t/(1 − t²), or x = end ± t/(1 − t)). A panel is halved until its halves agree with it; kinks and
    narrow peaks only cost more panels.

    On the plane: the trapezoidal rule in t, x = sinh(½π sinh t) on each axis (tanh on a finite one), its step halved
    until two values agree. It converges geometrically for smooth functions, algebraically across a kink, and is finest
    where |x| is at most a few units.

    Args:
        function: float64 [n], or [n, 2] on the plane → float64 [n].
        support: an interval, or a pair of intervals; ends may be infinite, but on the plane both of an axis or none.
        tol: absolute error aimed at, relative to 1 + |integral|.

    Returns:
        The integral; inf or −inf if the integrand is infinite somewhere or the panels at an end never settle.

    Raises:
        ValueError: an empty support, an integrand that is NaN, or on the plane one that never settles.

    Source: Takahasi, Mori 1974, for the rule on the plane; Trefethen, Weideman 2014, for its convergence.
    """
    if np.ndim(support) == 2:
        return _integrate_plane(function, support, tol)  # type: ignore[arg-type]
    low, high = _ends(support)  # type: ignore[arg-type]
    change, start, stop = _change_of_variable(low, high)

    def panels(a, b):
        t = 0.5 * (b + a)[:, None] + 0.5 * (b - a)[:, None] * NODES
        x, jacobian = change(t.ravel())
        values = _in_blocks(function, x) * jacobian
        if np.isnan(values).any():
            raise ValueError(f"the integrand is NaN at x = {x[np.isnan(values)][0]:g}")
        return (values.reshape(t.shape) @ WEIGHTS) * 0.5 * (b - a)

    edges = np.linspace(start, stop, PANELS + 1)
    a, b = edges[:-1], edges[1:]
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


def _ends(line: Line) -> Line:
    low, high = (float(end) for end in line)
    if not low < high:
        raise ValueError(f"support {line}: the lower end must lie below the upper end")
    return low, high


def _change_of_variable(low: float, high: float):
    """(t → (x, dx/dt), start, stop) taking a finite interval onto (low, high)."""
    if math.isinf(low) and math.isinf(high):
        return lambda t: (t / (1.0 - t * t), (1.0 + t * t) / (1.0 - t * t) ** 2), -1.0, 1.0
    if math.isinf(high):
        return lambda t: (low + t / (1.0 - t), 1.0 / (1.0 - t) ** 2), 0.0, 1.0
    if math.isinf(low):
        return lambda t: (high - t / (1.0 - t), 1.0 / (1.0 - t) ** 2), 0.0, 1.0
    return lambda t: (t, np.ones_like(t)), low, high


def _in_blocks(function, x: np.ndarray) -> np.ndarray:
    """function(x) in float64 at x [n] or [n, 2], called on blocks of one fixed length."""
    padded = np.resize(x, (-(-len(x) // BLOCK), BLOCK, *x.shape[1:]))
    with jax.enable_x64(True):
        values = [np.asarray(function(jnp.asarray(block)), np.float64) for block in padded]
    return np.concatenate(values)[: len(x)]


def _integrate_plane(function: Callable[..., jax.typing.ArrayLike], box: Box, tol: float) -> float:
    last, n = math.inf, COARSEST
    while n <= FINEST:
        x, weights = _plane_rule(box, n)
        values = _in_blocks(function, x)
        if np.isnan(values).any():
            raise ValueError(f"the integrand is NaN at x = {x[np.isnan(values)][0]}")
        with np.errstate(over="ignore"):
            total = float(weights @ values)
        if math.isinf(total) or abs(total - last) <= tol * (1.0 + abs(total)):
            return total
        last, n = total, 2 * n
    raise ValueError(
        f"the integral over {box} does not settle to {tol:g} on {FINEST}² points: tails too heavy, a kink, or a peak "
        "too narrow; shift and scale both densities towards N(0, I), which changes no divergence, or give a larger tol"
    )


def _plane_rule(box: Box, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(points [n², 2], weights [n²]) of the trapezoidal rule with n steps an axis."""
    axes = [_axis_rule(*_ends(line), n) for line in box]
    points, weights = (np.stack(np.meshgrid(*parts, indexing="ij"), axis=-1).reshape(-1, 2) for parts in zip(*axes))
    return points, weights.prod(axis=1)


def _axis_rule(low: float, high: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    step = 2.0 * REACH / n
    t = (np.arange(n) - 0.5 * (n - 1)) * step
    u, slope = 0.5 * math.pi * np.sinh(t), 0.5 * math.pi * np.cosh(t) * step
    if (low, high) == REAL_LINE:
        return np.sinh(u), np.cosh(u) * slope
    if math.isinf(high - low):
        raise ValueError(f"support {(low, high)}: an axis of the plane is the whole line or a finite interval")
    half = 0.5 * (high - low)
    return 0.5 * (low + high) + half * np.tanh(u), half * slope / np.cosh(u) ** 2


@lru_cache(maxsize=256)
def log_perspective(d: FDivergence) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(log p, log q) → log [q f̃(p/q)] ≥ −∞, elementwise in float64, by the module's rules where p or q vanishes.

    f̃ is evaluated while |log p/q| ≤ L, where e^L still fits float64. Beyond, a finite f'(∞) or f(0) gives the limit;
    an infinite one is continued as a `_Tail`.
    """
    with jax.enable_x64(True):
        slope = float(d.prime(jnp.float64(1.0)))  # at a kink a subgradient, which serves as well
        curvature = float(d.second(jnp.float64(1.0))) if d.smooth else 0.0

        def excess(ratio):  # f̃(e^ratio) ≥ 0; the difference cancels near ratio = 0, its Taylor term does not
            shift = jnp.expm1(ratio)
            exact = jnp.maximum(d.f(jnp.exp(ratio)) - d.value_at_one - slope * shift, 0.0)
            return jnp.where((jnp.abs(ratio) < 1e-5) & d.smooth, 0.5 * curvature * shift**2, exact)

        low, high = _Tail.of(lambda r: excess(-r)), _Tail.of(lambda r: jnp.exp(-r) * excess(r))
    at_zero = math.log(zero) if (zero := d.value_at_zero - d.value_at_one + slope) > 0.0 else -math.inf
    at_infinity = math.log(steep) if (steep := d.slope_at_infinity - slope) > 0.0 else -math.inf

    def log_integrand(log_p, log_q):
        both = jnp.isfinite(log_p) & jnp.isfinite(log_q)
        ratio = jnp.where(both, log_p - log_q, 0.0)
        f_tilde = excess(jnp.clip(ratio, -low.reach, high.reach))
        positive = f_tilde > 0.0  # the logarithm of 0 would leave a gradient of NaN
        inner = jnp.where(positive, log_q + jnp.log(jnp.where(positive, f_tilde, 1.0)), -jnp.inf)
        above = log_p + (at_infinity if math.isfinite(at_infinity) else high.log_value(ratio))
        below = log_q + (at_zero if math.isfinite(at_zero) else low.log_value(-ratio))
        value = jnp.where(ratio > high.reach, above, jnp.where(ratio < -low.reach, below, inner))
        only_p, only_q = jnp.isfinite(log_p) & ~both, jnp.isfinite(log_q) & ~both
        value = jnp.where(both, value, -jnp.inf)
        value = jnp.where(only_p, log_p + at_infinity, value)
        return jnp.where(only_q, log_q + at_zero, value)

    return log_integrand


class _Tail(NamedTuple):
    """e^{height + k(r − L)} (1 + c(r − L))^m, r > L = reach: the cost f̃(e^{−r}) of a unit of q, or e^{−r} f̃(e^r) of p.

    Exact for m ≤ 1, hence for every row of the table. A cost is added to the logarithm of its own density: log q + r
    would lose log p where log q is huge.
    """

    reach: float
    height: float
    k: float
    m: int
    c: float

    @classmethod
    def of(cls, cost: Callable[[jax.Array], jax.Array]) -> _Tail:
        def value(r):
            return float(cost(jnp.float64(r)))

        reach = next((r for r in (300.0, 150.0, 75.0, 30.0) if math.isfinite(value(r))), 10.0)
        if not value(reach) > 0.0:  # f̃ vanishes on this side, as below for the hockey stick
            return cls(reach=reach, height=-math.inf, k=0.0, m=0, c=0.0)
        near, far = (math.log(value(r) / value(r - 2.0)) for r in (0.5 * reach, reach))
        m = round(0.5 * (near - far) * reach)
        k = round(0.5 * far - m / reach, 3 if m else 9)
        c = -0.5 * math.expm1((2.0 * k - far) / m) if m else 0.0
        return cls(reach=reach, height=math.log(value(reach)), k=k, m=m, c=c)

    def log_value(self, r):
        beyond = jnp.maximum(r - self.reach, 0.0)
        return self.height + self.k * beyond + self.m * jnp.log1p(self.c * beyond)


@lru_cache(maxsize=512)
def mass(log_density: LogDensity, support: Line | Box = REAL_LINE) -> float:
    """∫ p dx over `support`, to about 1e-6."""
    return integrate(lambda x: jnp.exp(log_density(x)), support, tol=1e-6)


def exact_divergence(
    log_p: LogDensity, log_q: LogDensity, d: str | FDivergence, support: Line | Box = REAL_LINE, *, tol: float = 1e-11
) -> float:
    """D_f(P‖Q) = ∫ q f(p/q) dx in nats, by float64 quadrature (`integrate`); inf where it is infinite.

    Args:
        log_p, log_q: log densities, [n] → [n], on the plane [n, 2] → [n], written with jax.numpy or numpy; −inf outside
            their support.
        d: a name, or an FDivergence.
        support: where to integrate, `PLANE` for the plane; give the finite interval where both densities live if there
            is one.
        tol: absolute error aimed at; about 1e-5 is in reach on the plane where f has a kink.

    Raises:
        ValueError: a density that does not integrate to 1 over the support, or as `integrate`.

    >>> from estimators.distributions.examples import normal
    >>> round(exact_divergence(normal(0.0, 1.0).log_prob, normal(1.0, 1.0).log_prob, "kl"), 9)
    0.5
    """
    row = divergence(d)
    for name, log_density in (("p", log_p), ("q", log_q)):
        if not abs((found := mass(log_density, support)) - 1.0) < 1e-4:
            raise ValueError(
                f"density {name} integrates to {found:.6g} over {support}, not to 1: normalise it, or give a finite "
                "support that holds its mass closely, so that no narrow peak falls between the nodes"
            )
    log_integrand = log_perspective(row)

    def integrand(x):
        return jnp.exp(log_integrand(jnp.asarray(log_p(x)), jnp.asarray(log_q(x))))

    return row.value_at_one + integrate(integrand, support, tol=tol)


def exact_bound(
    log_p: LogDensity,
    log_q: LogDensity,
    critic: Callable[[jax.Array], jax.Array],
    d: str | FDivergence,
    *,
    activation: str | None = None,
    support: Line | Box = REAL_LINE,
) -> float:
    """E_P[T(v)] − E_Q[f*(T(v))] of a critic v(x), integrated against both exact densities, in nats.

    Args:
        critic: [n] → [n] raw outputs v.
        activation: `log_ratio` or `paper`; the row's default if None.
        support: finite where the critic is only meaningful there (a network is cheap to trust in the far tails of
            neither); infinite ends are fine if T and f*∘T stay bounded.
    """
    g = divergence(d).activation(activation)  # type: ignore[arg-type]

    def integrand(x):
        v = jnp.asarray(critic(x), jnp.float64)
        p, q = jnp.exp(log_p(x)), jnp.exp(log_q(x))
        on_p = jnp.where(p > 0.0, p * g.output(v), 0.0)  # far out a density is 0 before T leaves float64
        return on_p - jnp.where(q > 0.0, q * g.conjugate(v), 0.0)

    return integrate(integrand, support, tol=1e-9)


class BestFit(NamedTuple):
    """The minimiser of D_f(P‖Q_θ) over θ, and the divergence there."""

    parameters: np.ndarray
    value: float


def best_fit(
    log_p: LogDensity,
    family: Callable[[jax.Array, jax.Array], jax.Array],
    start: Sequence[float] | Sequence[Sequence[float]],
    d: str | FDivergence,
    *,
    support: Line | Box,
    swap: bool = False,
    tol: float = 1e-11,
) -> BestFit:
    """argmin_θ D_f(P‖Q_θ), the truth behind every mode-covering/mode-seeking plot, by quadrature on fixed points.

    On the line by Nelder–Mead; on the plane, where families have more parameters, by BFGS on log(1 + D_f), which stays
    tame however large D_f is at the start.

    Args:
        log_p: log density of the target.
        family: (θ [k], x [n] or [n, 2]) → log q_θ(x) [n], with jax.numpy.
        start: θ to descend from, or several, the best of whose local optima is returned.
        support: finite interval, or box, that holds all but a negligible mass of both, for the search; the value
            returned is integrated over the whole line or plane.
        swap: minimise D_f(Q_θ‖P) instead.
        tol: absolute error aimed at in the value returned.

    Raises:
        RuntimeError: the search converged from no start.
    """
    row = divergence(d)
    log_integrand = log_perspective(row)
    plane = np.ndim(support) == 2
    x, w = _points_in(support) if plane else _line_rule(support)  # type: ignore[arg-type]
    with jax.enable_x64(True):
        grid, weights = jnp.asarray(x), jnp.asarray(w)
        target = jnp.asarray(log_p(grid))

        def log_terms(theta):
            pair = (target, family(theta, grid))
            return log_integrand(*(pair[::-1] if swap else pair))

        search = (_bfgs if plane else _nelder_mead)(log_terms, weights)
        ends = [search(theta) for theta in np.atleast_2d(np.asarray(start, np.float64))]
    if not any(end.success for end in ends):
        raise RuntimeError(f"best fit under {row.name} from {start} did not converge: {ends[0].message}")
    theta = min((end for end in ends if end.success), key=lambda end: end.fun).x

    def log_q(points):
        return family(jnp.asarray(theta), points)

    first, second = (log_q, log_p) if swap else (log_p, log_q)
    value = exact_divergence(first, second, row, PLANE if plane else REAL_LINE, tol=tol)
    return BestFit(parameters=theta, value=value)


def _line_rule(line: Line) -> tuple[np.ndarray, np.ndarray]:
    """(points [n], weights [n]) of 256 Gauss–Legendre panels."""
    edges = np.linspace(*line, 257)
    x = 0.5 * (edges[1:] + edges[:-1])[:, None] + 0.5 * np.diff(edges)[:, None] * NODES
    return x.ravel(), (0.5 * np.diff(edges)[:, None] * WEIGHTS).ravel()


def _points_in(box: Box) -> tuple[np.ndarray, np.ndarray]:
    """(points [n, 2], weights [n]) of the rule on the plane, those in `box`: outside it there is nothing to sum."""
    x, weights = _plane_rule(PLANE, SEARCH)
    inside = np.all([(low <= x[:, i]) & (x[:, i] <= high) for i, (low, high) in enumerate(box)], axis=0)
    return x[inside], weights[inside]


Search = Callable[[np.ndarray], "scipy.optimize.OptimizeResult"]


def _nelder_mead(log_terms: Callable[[jax.Array], jax.Array], weights: jax.Array) -> Search:
    """start → the minimum of Σ weights exp(log_terms(θ))."""
    value = jax.jit(lambda theta: weights @ jnp.exp(log_terms(theta)))
    options = {"xatol": 1e-8, "fatol": 1e-13, "maxiter": 4000, "maxfev": 4000}
    return lambda start: scipy.optimize.minimize(
        lambda t: float(value(jnp.asarray(t))), start, method="Nelder-Mead", options=options
    )


def _bfgs(log_terms: Callable[[jax.Array], jax.Array], weights: jax.Array) -> Search:
    """start → the minimum of log(1 + Σ weights exp(log_terms(θ))), whose gradient no term can overflow."""

    @jax.jit
    @jax.value_and_grad
    def value(theta):
        return logsumexp(jnp.append(log_terms(theta) + jnp.log(weights), 0.0))

    def evaluate(theta):
        found, gradient = value(jnp.asarray(theta))
        return float(found), np.asarray(gradient)

    return lambda start: scipy.optimize.minimize(
        evaluate, start, method="BFGS", jac=True, options={"gtol": 1e-7, "maxiter": 1000}
    )
