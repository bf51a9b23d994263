"""The joint range of two divergences: every point (D_f(P‖Q), D_g(P‖Q)), over all pairs of distributions on any space.

Harremoës & Vajda 2011 show that it is the convex hull of the same range over pairs on two points. Equivalently, since
only the distribution of the ratio u = p/q under Q counts, it is all (E f(u), E g(u)) with E u = 1. So the best bound
of D_g for a value of D_f is a linear programme over the weights of the ratios, with three constraints,

    minimise or maximise  Σ w_k g_k    where  Σ w_k q_k = 1,  Σ w_k p_k = 1,  Σ w_k f_k = D_f,  w ≥ 0,

and f_k = q_k f̃(p_k/q_k). It is solved on a grid of log p/q, which is then refined where the solution has its mass
(three ratios at most). Where both f_k and g_k grow without bound as p/q → 0 or ∞, vanishing masses may carry any amount
of D_f, and D_g in proportion to it: one more column with q = p = 0, f = 1 and g = lim g_k/f_k. Float64 throughout.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linprog

from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.divergences.table import divergence
from estimators.exact_values.quadrature import exact_divergence
from estimators.geometry.categorical import between, costs
from estimators.geometry.inequalities import INEQUALITIES
from estimators.plot_style import DATA, PALETTE, STYLE, save

SMALLEST, LARGEST = 1e-6, 40.0
"""Least and greatest |log p/q| on the grid; 0 and ±∞ are on it too. Divergences of ratios below are 1e-12; masses of
ratios beyond are e⁻⁴⁰."""
GRID = 201
"""Points of the grid on either side: 9 % apart, so that a bound is right to 1e-3 of itself before refinement."""
ROUNDS = 3
"""Refinements; each makes the grid 20 times finer where it matters, and the error is of the square of the distance."""
TOLERANCES = (1e-10, 1e-9, 1e-7)
"""Of the solver, HiGHS, which may give up where columns are nearly equal: the finest at which it does not. Its own
default is the last."""
FAR = 1e5
"""|log p/q| at which, and at its double, the ratio of two costs is computed to extrapolate to its limit, in powers of
1/|log p/q|. The error is of order 1e-10."""
FASTER = math.log(1.2)
"""Growth of the logarithm of that ratio from `FAR` to its double from which the ratio counts as unbounded. One cost
grows faster by a factor |log p/q| at least, as KL's does over a bounded one: that is a growth of log 2."""


class Bounds(NamedTuple):
    """The least and the greatest value of one divergence, given that of another; nats."""

    low: float
    high: float


class Boundary(NamedTuple):
    """The joint range between D_f = x, [n] each: D_g takes every value from `low` to `high`, which may be inf."""

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray


def best_bounds(known: str | FDivergence, value: float, bounded: str | FDivergence) -> Bounds:
    """The least and greatest D_g(P‖Q) of all P and Q with D_f(P‖Q) = value; to six digits, from a value of 1e-6 on.

    Args:
        known: f, whose value is given.
        value: D_f in nats, at least 0 and at most sup D_f; it must be finite.
        bounded: g.

    Raises:
        ValueError: a value that D_f cannot take, or a divergence with f(1) ≠ 0.

    Source: Harremoës & Vajda 2011.

    >>> low, high = best_bounds("squared_hellinger", 1.0, "total_variation")
    >>> round(low, 6), round(high, 6)      # H²/2 and H √(1 − H²/4)
    (0.5, 0.866025)
    >>> best_bounds("total_variation", 0.5, "kl").high
    inf
    """
    d_x, d_y = _without_offset(known), _without_offset(bounded)
    if not 0.0 <= value <= d_x.upper_limit() or not math.isfinite(value):
        raise ValueError(f"{d_x.name} = {value:g}: give a finite number in [0, {d_x.upper_limit():g}]")
    if value == 0.0 and d_x.smooth:
        return Bounds(0.0, 0.0)
    if math.isclose(value, d_x.upper_limit(), rel_tol=1e-12):  # only mutually singular distributions attain it
        return Bounds(d_y.upper_limit(), d_y.upper_limit())
    free = costs(d_x, np.array([-math.inf, 0.0]), np.array([0.0, -math.inf])) == 0.0  # as below a hockey stick's kink
    rates = [_rate(d_x, d_y, end) for end in (-1.0, 1.0)]
    unbounded = any(rate == math.inf and (value > 0.0 or at_no_cost) for rate, at_no_cost in zip(rates, free))
    rays = [rate for rate in rates if rate is not None and math.isfinite(rate)]
    low = max(0.0, _extreme(d_x, value, d_y, 1.0, rays)) if value > 0.0 else 0.0
    return Bounds(low, math.inf if unbounded else max(low, -_extreme(d_x, value, d_y, -1.0, rays)))


def boundary(
    known: str | FDivergence, bounded: str | FDivergence, *, largest: float = 3.0, points: int = 41
) -> Boundary:
    """The boundary of the joint range as curves D_g(D_f), with D_f from 0 to `largest` or to its own supremum.

    >>> edge = boundary("total_variation", "squared_hellinger", points=3)
    >>> edge.x.round(6).tolist(), edge.low.round(6).tolist(), edge.high.round(6).tolist()
    ([0.0, 0.5, 1.0], [0.0, 0.267949, 2.0], [0.0, 1.0, 2.0])
    """
    top = min(largest, divergence(known).upper_limit())
    x = top * np.linspace(0.0, 1.0, points) ** 2  # bounds such as √ bend most at 0
    if math.isfinite(divergence(known).upper_limit()):  # and at the other end
        x = top * 0.5 * (1.0 - np.cos(np.pi * np.linspace(0.0, 1.0, points)))
    low, high = np.transpose([best_bounds(known, value, bounded) for value in x])
    return Boundary(x, low, high)


def _without_offset(d: str | FDivergence) -> FDivergence:
    d = divergence(d)
    if d.value_at_one != 0.0:
        raise ValueError(f"{d.name} has f(1) = {d.value_at_one:g}, so it is not 0 at P = Q; use js")
    return d


def _rate(d_x: FDivergence, d_y: FDivergence, end: float) -> float | None:
    """D_g for a unit of D_f of vanishing masses with log p/q → ±∞ (`end` = ±1); None where both costs are finite."""
    of_x, of_y = (math.isinf(d.slope_at_infinity if end > 0.0 else d.value_at_zero) for d in (d_x, d_y))
    if not (of_x and of_y):
        return (math.inf if of_y else 0.0) if of_x or of_y else None
    at = end * np.array([FAR, 2.0 * FAR])
    with jax.enable_x64(True):
        masses = jnp.asarray(np.minimum(at, 0.0)), jnp.asarray(-np.maximum(at, 0.0))
        near, far = (np.asarray(log_perspective(d_y)(*masses)) - np.asarray(log_perspective(d_x)(*masses))).tolist()
    if abs(far - near) > FASTER:
        return math.inf if far > near else 0.0
    return 2.0 * math.exp(far) - math.exp(near)


def _extreme(d_x: FDivergence, value: float, d_y: FDivergence, sign: float, rays: list[float]) -> float:
    """min sign · D_g given D_f = value, on a grid refined around the ratios that carry the minimum."""
    side = np.geomspace(SMALLEST, LARGEST, GRID)
    step = math.log(side[1] / side[0])
    grid = np.concatenate([-side, side, [-math.inf, 0.0, math.inf, d_x.kink, d_y.kink]])
    least, carriers = _programme(d_x, value, d_y, sign, grid, rays)
    for _ in range(ROUNDS):
        inner = carriers[np.isfinite(carriers) & (carriers != 0.0)]
        grid = np.concatenate([grid, (inner[:, None] * np.exp(step * np.linspace(-1.0, 1.0, 41))).ravel()])
        step /= 20.0
        found, carriers = _programme(d_x, value, d_y, sign, grid, rays)
        least = min(least, found)
    return least


def _programme(d_x: FDivergence, value: float, d_y: FDivergence, sign: float, grid: np.ndarray, rays: list[float]):
    """(min sign · D_g over weights of the ratios of `grid` and of the rays, the log-ratios that have weight).

    Masses have p + q = 1, so the first two constraints are Σ w = 2 and Σ w (p − q) = 0. In the upper half of a bounded
    D_f the third is of what D_f lacks to its supremum, so that either end of the range is resolved. Rows and objective
    are scaled to the mass that a small value needs, of log-ratios about its root; columns to their largest entry.
    """
    grid = np.unique(grid)
    log_p, log_q = -np.logaddexp(0.0, -grid), -np.logaddexp(0.0, grid)
    cost_x, cost_y = costs(d_x, log_p, log_q), costs(d_y, log_p, log_q)
    kept = np.isfinite(cost_x) & np.isfinite(cost_y) & ((value > 0.0) | (cost_x == 0.0))
    grid, cost_x, cost_y = grid[kept], cost_x[kept], cost_y[kept]
    target, third, unit_x, unit_y = value, cost_x, value or 1.0, 1.0
    if value > 0.5 * d_x.upper_limit():
        singular = costs(d_x, np.array([-np.inf, 0.0]), np.array([0.0, -np.inf]))
        target = unit_x = d_x.upper_limit() - value
        third = np.exp(log_q[kept]) * singular[0] + np.exp(log_p[kept]) * singular[1] - cost_x
        balance = np.tanh(0.5 * grid)
    else:
        if value > 0.0:
            unit_y = float(cost_y[np.argmin(np.abs(cost_x - 0.5 * value))]) or 1.0
        balance = np.tanh(0.5 * grid) / math.sqrt(min(unit_x, 1.0))
    columns = np.stack([np.full(len(grid), 0.5), balance, third / unit_x, cost_y / unit_y])
    vanishing = np.array([[0.0, 0.0, 1.0 / unit_x, rate / unit_y] for rate in rays]).reshape(-1, 4)
    columns = np.hstack([columns, vanishing.T])
    columns = columns / np.abs(columns).max(axis=0)
    sums = [1.0, 0.0, target / unit_x]
    for tolerance in TOLERANCES:
        options = {"primal_feasibility_tolerance": tolerance, "dual_feasibility_tolerance": tolerance}
        done = linprog(sign * columns[3], A_eq=columns[:3], b_eq=sums, method="highs-ds", options=options)
        if done.success:
            break
    if not done.success:
        raise RuntimeError(f"the joint range of {d_x.name} = {value:g} and {d_y.name} was not found: {done.message}")
    return float(done.fun) * unit_y, grid[done.x[: len(grid)] > 0.0]


PAIRS: dict[str, Sequence[tuple[Any, Any]]] = {
    "Gaussians, shifted": [((0.0, 1.0), (shift, 1.0)) for shift in (0.25, 0.5, 1.0, 1.5, 2.0, 2.5)],
    "Gaussians, widened": [((0.0, 1.0), (0.0, scale)) for scale in (1.2, 1.5, 2.0, 3.0, 5.0)],
    "Bernoullis from ½": [((0.5,), (b,)) for b in (0.6, 0.7, 0.8, 0.9, 0.97)],
    "Bernoullis from 0.9": [((0.9,), (b,)) for b in (0.75, 0.6, 0.4, 0.2, 0.05)],
}
"""Name → parameters of P and of Q, (mean, deviation) or (probability,), whose exact values a picture shows."""


def exact_pair(p: tuple[float, ...], q: tuple[float, ...], d: str | FDivergence) -> float:
    """D_f between two Gaussians (mean, deviation) by quadrature, or between two Bernoullis (probability,) as a sum.

    >>> round(exact_pair((0.0, 1.0), (1.0, 1.0), "kl"), 9), round(exact_pair((0.5,), (0.25,), "tv"), 9)
    (0.5, 0.25)
    """
    if len(p) == 1:
        return float(between([p[0], 1.0 - p[0]], [q[0], 1.0 - q[0]], d))
    from estimators.distributions.examples import normal

    return exact_divergence(normal(*p).log_prob, normal(*q).log_prob, d, tol=1e-8)


def draw(known: str, bounded: str, path: Path, *, largest: float = 3.0, points: int = 41) -> Path:
    """Draw the joint range of two divergences, the inequalities known between them, and exact values of `PAIRS`.

    Args:
        known: on the horizontal axis, up to `largest` or its supremum.
        bounded: on the vertical axis.
        path: where the picture is saved, and what is returned.
        points: of each boundary curve.
    """
    import matplotlib.pyplot as plt

    edge = boundary(known, bounded, largest=largest, points=points)
    top = divergence(bounded).upper_limit()
    if math.isinf(top):
        ends = edge.high if np.isfinite(edge.high).all() else edge.low
        tallest = float(np.max(ends[np.isfinite(ends)]))
        top = min(largest, tallest) if tallest > 0.0 else largest  # a whole quadrant has no curve to show
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.6, 4.8))
        high = np.where(np.isfinite(edge.high), edge.high, 10.0 * top)
        axis.fill_between(edge.x, edge.low, high, color=DATA, alpha=0.22, lw=0, label="joint range")
        for curve in (edge.low, high):
            axis.plot(edge.x, curve, color="black", lw=1.2, clip_on=True)
        _draw_inequalities(axis, known, bounded, edge.x[-1], top)
        for (name, pairs), marker, colour in zip(PAIRS.items(), "osD^", PALETTE[:4]):
            values = [(exact_pair(*pair, known), exact_pair(*pair, bounded)) for pair in pairs]
            shown = [point for point in values if point[0] <= edge.x[-1] and point[1] <= top]
            axis.plot(*np.array(shown).reshape(-1, 2).T, marker, color=colour, ms=5.5, mec="white", mew=0.6, label=name)
        axis.set(xlim=(0.0, edge.x[-1]), ylim=(0.0, 1.02 * top))
        axis.set(xlabel=known.replace("_", " "), ylabel=bounded.replace("_", " "))
        figure.legend(loc="outside right upper")
        return save(figure, path)


def _draw_inequalities(axis: Any, known: str, bounded: str, right: float, top: float) -> None:
    """Draw each inequality between the two, in either direction, over the axes' ranges."""
    styles = iter((("--", PALETTE[4]), ("-.", PALETTE[5]), (":", PALETTE[0]), ((0, (6, 1, 1, 1, 1, 1)), PALETTE[2])))
    for name, row in INEQUALITIES.items():
        if (row.known, row.bounded) == (known, bounded):
            x = np.linspace(0.0, right, 400)
            y = np.asarray(row.bound(x))
        elif (row.known, row.bounded) == (bounded, known):
            y = np.linspace(0.0, top, 400)
            x = np.asarray(row.bound(y))
        else:
            continue
        style, colour = next(styles)
        axis.plot(x, y, ls=style, lw=1.8, color=colour, label=name)
