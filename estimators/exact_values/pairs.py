"""What is known of a pair of named distributions: their moments, their overlap, whether they share their support."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from estimators.distributions.compound import Product, base_and_map
from estimators.distributions.counts import Bernoulli, Categorical
from estimators.distributions.exponential_family import ExponentialFamily
from estimators.distributions.location_scale import Uniform
from estimators.distributions.normal import MultivariateNormal, Normal
from estimators.divergences.families import alpha
from estimators.divergences.generator import FDivergence
from estimators.divergences.table import DIVERGENCES
from estimators.exact_values import exponential_families, gaussian
from estimators.exact_values.counting import summed
from estimators.exact_values.log_ratio_law import NotThisWay, Overlap, gaussian_overlap
from estimators.exact_values.moments import Moments, of_product
from estimators.exact_values.quadrature import exact_divergence, integrate, line_rule

Method = Literal["closed form", "sum", "quadrature", "Monte Carlo", "support"]
FINITE = 2**12  # values of a finite support up to which sums stand for closed forms
PANELS = 256  # of Gauss–Legendre on which the overlap of two densities on the line is summed
LARGEST_LOG = 690.0  # of a float64 that is neither infinite nor subnormal, as is its inverse
CLOSE = 1e-10  # relative, between the overlap at 0 on these panels and by adaptive quadrature


class Known(NamedTuple):
    """Moments and how they were found."""

    moments: Moments
    method: Method


def without_common_maps(p: Any, q: Any) -> tuple[Any, Any]:
    """The pair of bases where both are images under one map, which changes no f-divergence."""
    while type(p) is not type(q) or not isinstance(p, ExponentialFamily):
        sides = base_and_map(p), base_and_map(q)
        if sides[0] is None or sides[1] is None or sides[0][1] != sides[1][1]:
            return p, q
        p, q = sides[0][0], sides[1][0]
    return p, q


def outcomes(p: Any, q: Any) -> int | None:
    """How many values a finite common range of integers has; None if it is infinite, or no integers."""
    ends = integer_range(p, q)
    return None if ends is None or math.isinf(ends[1]) else int(ends[1]) - int(ends[0]) + 1


def integer_range(p: Any, q: Any) -> tuple[int, float] | None:
    """The least range of integers that holds both supports; None unless both are of integers."""
    if p.support.kind != "integers" or q.support.kind != "integers":
        return None
    low = min(float(np.min(np.asarray(side.support.low, float))) for side in (p, q))
    high = max(float(np.max(np.asarray(side.support.high, float))) for side in (p, q))
    return (int(low), high) if math.isfinite(low) else None


def _integers(p: Any, q: Any) -> jax.Array:
    """The values of a finite common range."""
    low, high = integer_range(p, q) or (0, -1)
    return jnp.arange(low, int(high) + 1, dtype=float)


def known_moments(p: Any, q: Any) -> Known | None:
    """The moments of one pair, or of a batch in closed form; None where no way is known. Under x64.

    Closed forms of one exponential family; sums over finitely many values; by coordinate for products.
    """
    p, q = without_common_maps(p, q) if not (p.batch_shape or q.batch_shape) else (p, q)
    if isinstance(p, (Normal, MultivariateNormal)) and type(p) is type(q) and p.event_shape == q.event_shape:
        return Known(_of_gaussians(p, q), "closed form")
    if isinstance(p, Categorical) and isinstance(q, Categorical) and p.size == q.size:
        return Known(_of_log_probs(p.log_probs, q.log_probs), "sum")
    if isinstance(p, ExponentialFamily) and isinstance(q, ExponentialFamily) and p.same_family(q) and _finite(p, q):
        return Known(_of_family(p, q), "closed form")
    if isinstance(p, Product) and isinstance(q, Product) and not (p.batch_shape or q.batch_shape):
        return _of_marginals(p, q)
    return None


def _of_gaussians(p: Any, q: Any) -> Moments:
    """By `gaussian`, over the batch."""
    if isinstance(p, Normal):
        sides = [[jnp.asarray(v)[..., None] for v in (d.loc, jnp.asarray(d.scale) ** 2)] for d in (p, q)]
        ndims = (1, 1)
    else:
        sides = [[jnp.asarray(d.mean), d.covariance_or_diagonal()] for d in (p, q)]
        ndims = tuple(1 if d.diagonal is not None else 2 for d in (p, q))  # type: ignore[assignment]
    batch = np.broadcast_shapes(p.batch_shape, q.batch_shape)

    def flat(v: jax.Array, ndim: int) -> jax.Array:
        event = v.shape[v.ndim - ndim :]
        return jnp.broadcast_to(v, (*batch, *event)).reshape(-1, *event)

    arrays = [flat(v, n) for side, ndim in zip(sides, ndims) for v, n in zip(side, (1, ndim))]

    def over(moment: Callable[[Moments], jax.Array]) -> jax.Array:
        return jax.vmap(lambda *pair: moment(gaussian.moments_between(*pair)))(*arrays).reshape(batch)

    return Moments(
        lambda: over(lambda m: m.kl()),
        lambda: over(lambda m: m.reverse_kl()),
        lambda order: over(lambda m: m.log(order)),
    )


def _of_family(p: ExponentialFamily, q: ExponentialFamily) -> Moments:
    def log(order: Any) -> jax.Array:
        return exponential_families.log_moment(p, q, order)

    return Moments(lambda: exponential_families.kl(p, q), lambda: exponential_families.kl(q, p), log)


def _of_log_probs(log_p: jax.Array, log_q: jax.Array) -> Moments:
    """From log probabilities [*batch, K] of the same values: 0 · log 0 = 0, and ∞ where a sum has p > 0 = q."""
    rank = max(log_p.ndim, log_q.ndim)
    log_p, log_q = (jnp.expand_dims(v, tuple(range(rank - v.ndim))) for v in (log_p, log_q))

    def kl(a: jax.Array, b: jax.Array) -> jax.Array:
        held = jnp.isfinite(a)
        terms = jnp.exp(a) * (jnp.where(held, a, 0.0) - jnp.where(held, b, 0.0))
        return jnp.sum(jnp.where(held, terms, 0.0), axis=-1)

    def log(order: Any) -> jax.Array:
        missing_p, missing_q = jnp.isneginf(log_p), jnp.isneginf(log_q)
        a, b = jnp.where(missing_p, 0.0, log_p), jnp.where(missing_q, 0.0, log_q)
        terms = order * a + (1.0 - order) * b
        only_p = jnp.where(order > 1.0, jnp.inf, -jnp.inf)
        only_q = jnp.where(order < 0.0, jnp.inf, -jnp.inf)
        terms = jnp.where(missing_q, only_p, jnp.where(missing_p, only_q, terms))
        terms = jnp.where(missing_p & missing_q, -jnp.inf, terms)
        return logsumexp(terms, axis=-1)

    return Moments(lambda: kl(log_p, log_q), lambda: kl(log_q, log_p), log)


def _finite(p: ExponentialFamily, q: ExponentialFamily) -> bool:
    """Whether no natural parameter is infinite, as that of a probability 0 or 1 is."""
    return all(bool(np.isfinite(v).all()) for side in (p, q) for v in side.natural_parameters())


def _of_marginals(p: Product, q: Product) -> Known | None:
    """Of products with parts of the same shapes."""
    if [m.event_shape for m in p.marginals] != [m.event_shape for m in q.marginals]:
        return None
    parts = [known_moments(*pair) or on_one_coordinate(*pair) for pair in zip(p.marginals, q.marginals)]
    if any(part is None for part in parts):
        return None
    found = [part for part in parts if part is not None]
    worst = max((part.method for part in found), key=["closed form", "sum", "quadrature"].index)
    return Known(of_product([part.moments for part in found]), worst)


def on_one_coordinate(p: Any, q: Any) -> Known | None:
    """Moments of two numbers by a sum over integers or by quadrature; None if they are of two kinds, or no numbers."""
    if p.event_shape or q.event_shape or kind_of(p) != kind_of(q):
        return None

    def of(d: FDivergence) -> float:
        return by_summation(p, q, d) if kind_of(p) == "integers" else by_quadrature(p, q, d)

    def log(order: float) -> float:
        if order in (0.0, 1.0):
            return 0.0
        d = alpha(float(order))
        moment = order * (order - 1.0) * of(d)
        return math.inf if math.isinf(moment) and moment > 0.0 else float(np.log1p(max(moment, -1.0)))

    how: Method = "sum" if kind_of(p) == "integers" else "quadrature"
    return Known(Moments(lambda: of(DIVERGENCES["kl"]), lambda: of(DIVERGENCES["reverse_kl"]), log), how)


def kind_of(p: Any) -> str:
    """The kind of the support, the circle counting as a piece of the line."""
    return "reals" if p.support.kind == "circle" else p.support.kind


def by_summation(p: Any, q: Any, d: FDivergence) -> float:
    """D_f of two distributions on the integers. Raises NotThisWay."""
    ends = integer_range(p, q)
    if ends is None:
        raise NotThisWay("not both are on integers that have a least one")
    return summed(p.log_prob, q.log_prob, d, *ends)


def line_support(p: Any, q: Any) -> tuple[float, float]:
    """The least interval that holds both supports."""
    low = min(float(np.asarray(side.support.low)) for side in (p, q))
    return low, max(float(np.asarray(side.support.high)) for side in (p, q))


def by_quadrature(p: Any, q: Any, d: FDivergence) -> float:
    """D_f of two densities on the line. Raises NotThisWay.

    Between distributions of one half-line it integrates over the logarithm of the distance from its end, where a pole
    of a density is flat; the map changes no divergence.
    """
    low, high = line_support(p, q)
    ends = [tuple(float(np.asarray(end)) for end in (side.support.low, side.support.high)) for side in (p, q)]
    log_p, log_q, support = p.log_prob, q.log_prob, (low, high)
    if ends[0] == ends[1] and math.isfinite(low) and math.isinf(high):
        log_p, log_q = (_over_logarithm(side, low) for side in (log_p, log_q))
        support = (-math.inf, math.inf)
    try:
        return exact_divergence(log_p, log_q, d, support)
    except ValueError as error:
        raise NotThisWay(str(error)) from None


def _over_logarithm(log_prob: Callable[[Any], Any], low: float) -> Callable[[Any], Any]:
    """The log density of log(X − low); straight where the exponential leaves float64, as powers of X − low are."""

    def at(y):
        return jnp.asarray(log_prob(low + jnp.exp(y))) + y

    ends = {
        sign: [float(at(jnp.full(1, sign * y))[0]) for y in (LARGEST_LOG, LARGEST_LOG - 1.0)] for sign in (-1.0, 1.0)
    }
    (bottom, below), (top, under) = ends[-1.0], ends[1.0]

    def line(value: float, inner: float, distance: Any) -> Any:
        return value + (value - inner) * distance if math.isfinite(value) and math.isfinite(inner) else -jnp.inf

    def log_density(y):
        held = jnp.clip(y, -LARGEST_LOG, LARGEST_LOG)
        beyond = jnp.where(y < held, line(bottom, below, held - y), line(top, under, y - held))
        return jnp.where(y == held, at(held), beyond)

    return log_density


def overlap(p: Any, q: Any) -> Overlap:
    """∫ p^{½+it} q^{½−it}. Raises NotThisWay. Under x64."""
    p, q = without_common_maps(p, q)
    if isinstance(p, Product) and isinstance(q, Product):
        if [m.event_shape for m in p.marginals] != [m.event_shape for m in q.marginals]:
            raise NotThisWay("the parts of the two products have other shapes")
        parts = [overlap(*pair) for pair in zip(p.marginals, q.marginals)]
        zero = np.zeros(1, complex)
        return Overlap(lambda t: sum((part.log(t) for part in parts), zero), sum(part.terms for part in parts))
    if isinstance(p, (Normal, MultivariateNormal)) and type(p) is type(q) and p.event_shape == q.event_shape:
        return _overlap_of_gaussians(p, q)
    if (count := outcomes(p, q)) is not None and count <= FINITE:
        x = _integers(p, q)
        return _overlap_of_values(np.asarray(p.log_prob(x)), np.asarray(q.log_prob(x)), np.zeros(len(x)))
    if isinstance(p, ExponentialFamily) and isinstance(q, ExponentialFamily) and p.same_family(q) and p.complex_ready:
        return _overlap_of_family(p, q)
    if not p.event_shape and not q.event_shape and kind_of(p) == kind_of(q) == "reals":
        return _overlap_on_the_line(p, q)
    raise NotThisWay("their overlap ∫ p^{½+it} q^{½−it} has no closed form here")


def _overlap_of_gaussians(p: Any, q: Any) -> Overlap:
    if isinstance(p, Normal):
        return gaussian_overlap(*(np.atleast_1d(np.asarray(v, float)) for d in (p, q) for v in (d.loc, d.scale**2)))
    return gaussian_overlap(*(np.asarray(v) for d in (p, q) for v in (d.mean, d.covariance_or_diagonal())))


def _overlap_of_values(log_p: np.ndarray, log_q: np.ndarray, log_weights: np.ndarray) -> Overlap:
    """Σ w √(pq) e^{itℓ} over values where both are positive."""
    both = np.isfinite(log_p) & np.isfinite(log_q)
    ratio, height = (log_p - log_q)[both], (0.5 * (log_p + log_q) + log_weights)[both]
    if not both.any():
        return Overlap(lambda t: np.full(len(t), -np.inf, complex))
    top = height.max()
    mass = np.exp(height - top)
    return Overlap(lambda t: top + np.log(np.exp(1j * t[:, None] * ratio) @ mass), len(mass))


def _overlap_of_family(p: ExponentialFamily, q: ExponentialFamily) -> Overlap:
    if not _finite(p, q):
        raise NotThisWay("a natural parameter is infinite")
    theta, eta = p.natural_parameters(), q.natural_parameters()
    ends = [np.asarray(d.log_partition(d.natural_parameters())) for d in (p, q)]

    def log_h(t: np.ndarray) -> np.ndarray:
        def between(a: jax.Array, b: jax.Array) -> jax.Array:
            times = jnp.asarray(t).reshape((-1,) + (1,) * a.ndim)
            return 0.5 * (a + b)[None] + 1j * times * (a - b)[None]

        middle = np.asarray(p.log_partition(jax.tree.map(between, theta, eta)))
        return middle - (0.5 + 1j * t) * ends[0] - (0.5 - 1j * t) * ends[1]

    return Overlap(log_h)


def _overlap_on_the_line(p: Any, q: Any) -> Overlap:
    """On fixed panels, whose sum at t = 0 must be ∫ √(pq) by adaptive quadrature."""
    low, high = line_support(p, q)
    s, w = line_rule((-1.0, 1.0), PANELS)
    x, slope = _onto(low, high, s)
    log_p, log_q = (np.asarray(jnp.asarray(side.log_prob(jnp.asarray(x)), jnp.float64)) for side in (p, q))
    found = _overlap_of_values(log_p, log_q, np.log(w * slope))

    def root(x: jax.Array) -> jax.Array:
        return jnp.exp(0.5 * (jnp.asarray(p.log_prob(x)) + jnp.asarray(q.log_prob(x))))

    exact = integrate(root, (low, high))
    if not abs(math.exp(found.log(np.zeros(1))[0].real) - exact) <= CLOSE * max(exact, CLOSE):
        raise NotThisWay("their overlap is not resolved on fixed panels")
    return found


def _onto(low: float, high: float, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """s in (−1, 1) → (x in (low, high), dx/ds), close to an end in steps that shrink with the distance."""
    bent, bend = 1.5 * s - 0.5 * s**3, 1.5 * (1.0 - s**2)
    if math.isfinite(low) and math.isfinite(high):
        half = 0.5 * (high - low)
        return 0.5 * (low + high) + half * bent, half * bend
    if math.isinf(low) and math.isinf(high):
        return bent / (1.0 - bent**2), bend * (1.0 + bent**2) / (1.0 - bent**2) ** 2
    u = 0.5 * (1.0 + bent)
    distance, slope = u / (1.0 - u), 0.5 * bend / (1.0 - u) ** 2
    return (low + distance, slope) if math.isfinite(low) else (high - distance, slope)


def uniform_pair(p: Any, q: Any, d: FDivergence) -> float:
    """D_f of two uniform distributions by lengths. Raises NotThisWay."""
    if not (isinstance(p, Uniform) and isinstance(q, Uniform)):
        raise NotThisWay("not both are uniform")
    ends = [(float(np.asarray(side.low)), float(np.asarray(side.high))) for side in (p, q)]
    shared = max(0.0, min(ends[0][1], ends[1][1]) - max(ends[0][0], ends[1][0]))
    lengths = [high - low for low, high in ends]
    only_p, only_q = (1.0 - shared / length for length in lengths)
    inside = (1.0 - only_q) * float(d.f(jnp.float64(lengths[1] / lengths[0]))) if shared else 0.0
    costs = ((only_p, d.slope_at_infinity), (only_q, d.value_at_zero))
    return inside + sum(share * cost for share, cost in costs if share > 0.0)


def mass_outside(p: Any, q: Any) -> bool | None:
    """Whether P has mass where Q has none, by their supports; None if they do not say.

    Not told apart are sets of measure 0, so only intervals and finite lists count.
    """
    if (count := outcomes(p, q)) is not None and count <= FINITE and isinstance(p, (Categorical, Bernoulli)):
        x = _integers(p, q)
        return bool((np.isfinite(p.log_prob(x)) & np.isneginf(np.asarray(q.log_prob(x)))).any())
    if p.event_shape or q.event_shape or kind_of(p) != kind_of(q):
        return None
    ends = [[float(np.asarray(end)) for end in (side.support.low, side.support.high)] for side in (p, q)]
    return ends[0][0] < ends[1][0] or ends[0][1] > ends[1][1]
