"""What is known of a pair of named distributions: their moments, their overlap, whether they share their support."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from estimators.distributions.beta import Beta, Dirichlet
from estimators.distributions.circle import VonMises
from estimators.distributions.compound import Mixture, Product, base_and_map
from estimators.distributions.counts import Bernoulli, Categorical
from estimators.distributions.exponential_family import ExponentialFamily
from estimators.distributions.gamma import Exponential, Gamma, Weibull
from estimators.distributions.location_scale import Gumbel, Uniform
from estimators.distributions.normal import MultivariateNormal, Normal
from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.divergences.table import DIVERGENCES
from estimators.exact_values import exponential_families, gaussian
from estimators.exact_values.counting import log_summed
from estimators.exact_values.line_integrals import checked_mass, landmarks, log_integral
from estimators.exact_values.log_ratio_law import NotThisWay, Overlap, gaussian_overlap
from estimators.exact_values.moments import Moments, of_product
from estimators.exact_values.quadrature import integrate, line_rule

Method = Literal["closed form", "sum", "quadrature", "Monte Carlo", "support"]
SHARPEST = 1e4  # concentration of a von Mises law up to which log I₀, of that size, keeps twelve digits of KL
FINITE = 2**12  # values of a finite support up to which sums stand for closed forms
PANELS = 256  # of Gauss–Legendre on which the overlap of two densities on the line is summed
SUM_TO_ONE = 1e-8  # how far masses on the points of an overlap may be from 1
LARGEST = 709.7  # log of the largest float
CLOSE = 1e-10  # relative, between the overlap at 0 on these panels and by adaptive quadrature


class Known(NamedTuple):
    """Moments and how they were found."""

    moments: Moments
    method: Method


def without_common_maps(p: Any, q: Any) -> tuple[Any, Any]:
    """The pair of bases where both are images under one map, which changes no f-divergence."""
    while type(p) is not type(q) or not isinstance(p, ExponentialFamily):
        if (hidden := _hidden_exponentials(p, q)) is not None:
            return hidden
        sides = base_and_map(p), base_and_map(q)
        if sides[0] is None or sides[1] is None or sides[0][1] != sides[1][1]:
            return _of_one_family(p, q)
        p, q = sides[0][0], sides[1][0]
    return _of_one_family(p, q)


def _hidden_exponentials(p: Any, q: Any) -> tuple[Any, Any] | None:
    """Weibull laws of one shape, or Gumbel laws of one scale, as images of exponential ones, P's rate being 1."""
    if isinstance(p, Weibull) and isinstance(q, Weibull) and float(p.concentration) == float(q.concentration):
        log_rate = float(p.concentration) * (math.log(float(p.scale)) - math.log(float(q.scale)))
    elif isinstance(p, Gumbel) and isinstance(q, Gumbel) and float(p.scale) == float(q.scale):
        log_rate = (float(q.loc) - float(p.loc)) / float(p.scale)
    else:
        return None
    return (Exponential(1.0), Exponential(math.exp(log_rate))) if abs(log_rate) < 600.0 else None


def _of_one_family(p: Any, q: Any) -> tuple[Any, Any]:
    """A uniform law on [0, 1] beside a beta law is one, and so is an exponential law beside a gamma law."""

    def as_other(one: Any, other: Any) -> Any:
        if isinstance(other, Beta) and isinstance(one, Uniform) and (float(one.low), float(one.high)) == (0.0, 1.0):
            return Beta(1.0, 1.0)
        return Gamma(1.0, one.rate) if isinstance(other, Gamma) and isinstance(one, Exponential) else one

    one, other = as_other(p, q), as_other(q, p)
    if isinstance(one, Beta) and isinstance(other, Beta):
        return _turned(one, other)
    return one, other


def _turned(p: Beta, q: Beta) -> tuple[Beta, Beta]:
    """Both under x → 1 − x if the steeper pole is at 1, since numbers have all their digits near 0 alone."""
    at_zero, at_one = (min(float(getattr(side, name)) for side in (p, q)) for name in ("a", "b"))
    return (Beta(p.b, p.a), Beta(q.b, q.a)) if at_one < min(at_zero, 1.0) else (p, q)


def kinds(p: Any) -> tuple[str, ...] | None:
    """The kind of support of each coordinate, as far as the type says; None where it does not."""
    if isinstance(p, Product):
        parts = [kinds(m) for m in p.marginals]
        return None if None in parts else tuple(kind for part in parts for kind in part or ())
    if isinstance(p, Mixture):
        return kinds(p.components[0])
    if isinstance(p, MultivariateNormal):
        return ("reals",) * p.event_shape[0]
    if isinstance(p, Dirichlet):
        return ("simplex",) * p.event_shape[0]
    return None if p.event_shape else (kind_of(p),)


def singular(p: Any, q: Any) -> bool:
    """Whether the kinds of their supports make P and Q mutually singular, as integers and reals are."""
    first, second = kinds(p), kinds(q)
    return first is not None and second is not None and first != second


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
        z, ratio = (jnp.asarray(v)[..., None] for v in _relative_to(p, q))
        sides = [[z, ratio**2], [jnp.zeros_like(z), jnp.ones_like(z)]]
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


def _relative_to(p: Normal, q: Normal) -> tuple[np.ndarray, np.ndarray]:
    """(location, scale) of P where Q is N(0, 1): no square of a scale leaves float64."""
    loc_p, scale_p, loc_q, scale_q = (np.asarray(v, float) for v in (p.loc, p.scale, q.loc, q.scale))
    z, ratio = np.broadcast_arrays((loc_p - loc_q) / scale_q, scale_p / scale_q)
    return z, ratio


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
        return logsumexp(_log_power(order, log_p, log_q), axis=-1)

    return Moments(lambda: kl(log_p, log_q), lambda: kl(log_q, log_p), log)


def _finite(p: ExponentialFamily, q: ExponentialFamily) -> bool:
    """Whether no natural parameter is infinite, as that of a probability 0 or 1 is, or loses its digits."""
    sharp = any(isinstance(side, VonMises) and np.max(np.asarray(side.concentration)) > SHARPEST for side in (p, q))
    return not sharp and all(bool(np.isfinite(v).all()) for side in (p, q) for v in side.natural_parameters())


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

    counts = kind_of(p) == "integers"
    of, log_of = (by_summation, log_moment_by_summation) if counts else (by_quadrature, log_moment_by_quadrature)

    def log(order: float) -> float:
        return 0.0 if order in (0.0, 1.0) else log_of(p, q, float(order))

    how: Method = "sum" if counts else "quadrature"
    kl, reverse = (partial(of, p, q, DIVERGENCES[name]) for name in ("kl", "reverse_kl"))
    return Known(Moments(kl, reverse, log), how)


def kind_of(p: Any) -> str:
    """The kind of the support, the circle counting as a piece of the line."""
    return "reals" if p.support.kind == "circle" else p.support.kind


def by_summation(p: Any, q: Any, d: FDivergence) -> float:
    """D_f of two distributions on the integers. Raises NotThisWay."""
    cost = log_perspective(d)
    return d.value_at_one + _exp(_log_sum_of(p, q, lambda *logs: cost(*_without_underflow(*logs))), d)


def log_moment_by_summation(p: Any, q: Any, order: float) -> float:
    """log Σ p^α q^{1−α} of two distributions on the integers; ∞ where it diverges. Raises NotThisWay."""
    return _log_sum_of(p, q, lambda *logs: _log_power(order, *_without_underflow(*logs)))


def _log_sum_of(p: Any, q: Any, log_term: Callable[..., jax.Array]) -> float:
    ends = integer_range(p, q)
    if ends is None:
        raise NotThisWay("not both are on integers that have a least one")
    return log_summed(_in_float64(p.log_prob), _in_float64(q.log_prob), log_term, *ends)


def line_support(p: Any, q: Any) -> tuple[float, float]:
    """The least interval that holds both supports."""
    low = min(float(np.asarray(side.support.low)) for side in (p, q))
    return low, max(float(np.asarray(side.support.high)) for side in (p, q))


def by_quadrature(p: Any, q: Any, d: FDivergence) -> float:
    """D_f of two densities on the line. Raises NotThisWay."""
    cost = log_perspective(d)
    return d.value_at_one + _exp(_log_integral_of(p, q, lambda *logs: cost(*_without_underflow(*logs))), d)


def log_moment_by_quadrature(p: Any, q: Any, order: float) -> float:
    """log ∫ p^α q^{1−α} of two densities on the line; ∞ where it diverges. Raises NotThisWay."""
    return _log_integral_of(p, q, lambda *logs: _log_power(order, *_without_underflow(*logs)))


def _exp(log_value: float, d: FDivergence) -> float:
    """e^{log value}. Raises ValueError where it is finite and no float."""
    if LARGEST < log_value < math.inf:
        raise ValueError(f"{d.name} is e^{log_value:.6g}, beyond the largest float; renyi(α) is a logarithm, and fits")
    return math.exp(log_value)


def _log_power(order: float, log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """log p^α q^{1−α}, elementwise: ∞ where the density with a negative power is 0 alone, −∞ where either else is 0."""
    both = jnp.isfinite(log_p) & jnp.isfinite(log_q)
    inner = order * jnp.where(both, log_p, 0.0) + (1.0 - order) * jnp.where(both, log_q, 0.0)
    endless = (jnp.isfinite(log_p) & (order > 1.0)) | (jnp.isfinite(log_q) & (order < 0.0))
    return jnp.where(both, inner, jnp.where(endless, jnp.inf, -jnp.inf))


def _log_integral_of(p: Any, q: Any, log_term: Callable[..., jax.Array]) -> float:
    """log ∫ e^{log_term(log p, log q)}, once both densities have a mass of 1."""
    ends = line_support(p, q)
    points = landmarks([p, q], ends)
    log_p, log_q = (_in_float64(side.log_prob) for side in (p, q))
    for name, log_density in (("P", log_p), ("Q", log_q)):
        checked_mass(log_density, name, ends, points)
    return log_integral(lambda x: log_term(log_p(x), log_q(x)), ends, points)


def _in_float64(log_prob: Callable[[Any], Any]) -> Callable[[jax.Array], jax.Array]:
    return lambda x: jnp.asarray(log_prob(x), jnp.float64)


def _without_underflow(log_p: jax.Array, log_q: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both, but −∞ for a density below the least float64 where the other, smaller still, has underflowed to −∞."""
    least = -745.0
    faint_p, faint_q = jnp.isneginf(log_q) & (log_p < least), jnp.isneginf(log_p) & (log_q < least)
    return jnp.where(faint_p, -jnp.inf, log_p), jnp.where(faint_q, -jnp.inf, log_q)


def overlap(p: Any, q: Any) -> Overlap:
    """∫ p^{½+it} q^{½−it}. Raises NotThisWay. Under x64."""
    p, q = without_common_maps(p, q)
    if isinstance(p, Product) and isinstance(q, Product):
        if [m.event_shape for m in p.marginals] != [m.event_shape for m in q.marginals]:
            raise NotThisWay("the parts of the two products have other shapes")
        parts = [overlap(*pair) for pair in zip(p.marginals, q.marginals)]
        zero = np.zeros(1, complex)
        total, lattice = sum(part.terms for part in parts), any(part.lattice for part in parts)
        return Overlap(lambda t: sum((part.log(t) for part in parts), zero), total, lattice)
    if isinstance(p, (Normal, MultivariateNormal)) and type(p) is type(q) and p.event_shape == q.event_shape:
        return _overlap_of_gaussians(p, q)
    if (count := outcomes(p, q)) is not None and count <= FINITE:
        x = _integers(p, q)
        logs = np.asarray(p.log_prob(x)), np.asarray(q.log_prob(x))
        return _overlap_of_values(*logs, np.zeros(len(x)))._replace(lattice=True)
    if isinstance(p, ExponentialFamily) and isinstance(q, ExponentialFamily) and p.same_family(q) and p.complex_ready:
        return _overlap_of_family(p, q)._replace(lattice=kind_of(p) == "integers")
    if not p.event_shape and not q.event_shape and kind_of(p) == kind_of(q) == "reals":
        return _overlap_on_the_line(p, q)
    raise NotThisWay("their overlap ∫ p^{½+it} q^{½−it} has no closed form here")


def _overlap_of_gaussians(p: Any, q: Any) -> Overlap:
    if isinstance(p, Normal):
        z, ratio = (np.atleast_1d(v) for v in _relative_to(p, q))
        return gaussian_overlap(z, ratio**2, np.zeros(1), np.ones(1))
    return gaussian_overlap(*(np.asarray(v) for d in (p, q) for v in (d.mean, d.covariance_or_diagonal())))


def _overlap_of_values(log_p: np.ndarray, log_q: np.ndarray, log_weights: np.ndarray) -> Overlap:
    """Σ w √(pq) e^{itℓ} over values where both are positive."""
    for name, logs in (("P", log_p), ("Q", log_q)):
        mass = float(np.sum(np.exp(logs + log_weights)))
        if not abs(mass - 1.0) <= SUM_TO_ONE:
            raise NotThisWay(f"{name} has a mass of {mass:.9g} on the points of its overlap, not of 1")
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
