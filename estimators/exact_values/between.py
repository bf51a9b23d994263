"""`exact(P, Q, divergence)`: any divergence between any two named distributions, by the most exact way there is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from estimators.distributions.compound import Product
from estimators.distributions.foreign import Foreign, named_as
from estimators.divergences.generator import FDivergence
from estimators.divergences.table import Functional, everything, functional
from estimators.exact_values import log_densities, pairs
from estimators.exact_values import moments as of
from estimators.exact_values.log_ratio_law import NotThisWay, from_overlap
from estimators.exact_values.monte_carlo import defensive, draws_of, log_ratios
from estimators.exact_values.quadrature import PLANE, exact_divergence

HEAVY = "few draws carry the mean: its standard error, and the mean itself, may be too small"
ORDERS = {"pearson": 2.0, "neyman": -1.0}
"""Divergences of the table that overflow where the Rényi divergence they are an exponential of does not → its α."""
PLANE_TOLERANCE = 1e-8  # absolute error that quadrature on the plane aims at


class Exact(NamedTuple):
    """A divergence in nats: a float, or an array over the batch.

    Attributes:
        standard_error: of Monte Carlo; 0 of every other method.
        method: how: "closed form", "sum", "quadrature", "Monte Carlo" or "support", where the supports alone decide.
        note: why a value is infinite, or what to know of it.
    """

    value: Any
    standard_error: Any
    method: str
    note: str = ""


def exact(P: Any, Q: Any, divergence: str | FDivergence | Sequence[str | FDivergence] = "kl") -> Any:
    """D_f(P‖Q) of two distributions whose densities are known, in nats, in float64.

    The first of these that applies: the supports, where one has mass that the other lacks; closed forms (exponential
    families, by coordinate for products, after maps that both share); sums over integers to a bounded tail; quadrature
    on the line, or through the law of the log-ratio (`log_ratio_law`, any dimension, bounded divergences), or on the
    plane; Monte Carlo from ½(P + Q).

    Args:
        P, Q: distributions of `estimators.distributions`, frozen ones of scipy.stats, or objects with log_prob and
            support. Batches broadcast.
        divergence: a name, an FDivergence, `renyi(α)`; a sequence of them, or "all" (then a list is returned).

    Raises:
        UnknownDivergence: a name of none.
        ValueError: P or Q is no distribution, they are of two spaces, or no way applies: it says which were tried.

    >>> from estimators import distributions as dist
    >>> exact(dist.Gamma(2.0, 1.0), dist.Gamma(3.0, 2.0), "kl").method
    'closed form'
    >>> [round(each.value, 4) for each in exact(dist.Normal(0, 1), dist.Laplace(0, 2), ["js", "tv", "renyi(2)"])]
    [0.1119, 0.3397, 0.4273]
    """
    many = divergence == "all" if isinstance(divergence, str) else not isinstance(divergence, FDivergence)
    if not isinstance(divergence, (str, FDivergence, Sequence)):
        raise ValueError(f"divergence = {divergence!r}: give a name, an FDivergence, or a list of them")
    names: Any = divergence if many else [divergence]
    asked = everything() if isinstance(names, str) else [functional(name) for name in names]
    p, q = named_as(P, "P"), named_as(Q, "Q")
    if p.event_shape != q.event_shape:
        raise ValueError(
            f"P is over points of shape {p.event_shape}, Q of shape {q.event_shape}: give two on one space"
        )
    with jax.enable_x64(True):
        results = [_over_batch(p, q, each, same=P is Q) for each in asked]
    return results if many else results[0]


def _over_batch(p: Any, q: Any, asked: Functional, *, same: bool) -> Exact:
    """A batch at once in closed form, else pair by pair."""
    try:
        batch = np.broadcast_shapes(p.batch_shape, q.batch_shape)
    except ValueError:
        raise ValueError(f"P is a batch of {p.batch_shape}, Q of {q.batch_shape}: they do not broadcast") from None
    if not batch:
        return _of_pair(p, q, asked, same=same)
    if (known := pairs.known_moments(p, q)) and (value := _by_moments(known.moments, asked)) is not None:
        note = _about_infinite(value, known.moments, asked)
        return Exact(np.broadcast_to(np.asarray(value), batch), np.zeros(batch), known.method, note)
    one, other = (_singles(side, batch) for side in (p, q))
    found = [_of_pair(one(index), other(index), asked, same=same) for index in np.ndindex(batch)]
    columns = zip(*((each.value, each.standard_error) for each in found))
    values, errors = (np.reshape(column, batch) for column in columns)
    notes = dict.fromkeys(each.note for each in found if each.note)
    return Exact(values, errors, " and ".join(dict.fromkeys(each.method for each in found)), "; ".join(notes))


def _singles(p: Any, batch: tuple[int, ...]) -> Callable[[tuple[int, ...]], Any]:
    """index → the distribution there. Raises ValueError for a batch of another library's."""
    if not isinstance(p, Foreign):
        wide = p.expand(batch)
        return lambda index: wide[index]
    if p.batch_shape:
        raise ValueError(f"a batch of shape {p.batch_shape} of another library's distributions: give them one by one")
    return lambda index: p


def _of_pair(p: Any, q: Any, asked: Functional, *, same: bool) -> Exact:
    """Of two single distributions."""
    d = asked.divergence
    if same:
        return Exact(d.value_at_one if asked.transform is None else 0.0, 0.0, "closed form")
    if (certain := _by_support(p, q, d)) is not None:
        return _transformed(certain, asked)
    why: list[str] = []
    for name, way in _ways(p, q, asked):
        try:
            return way()
        except NotThisWay as reason:
            why.append(f"{name} ({reason})")
    titles = [type(side).__name__ for side in (p, q)]
    raise ValueError(f"no way to compute {asked.name} of {titles[0]} and {titles[1]}: tried {'; '.join(why)}")


def _ways(p: Any, q: Any, asked: Functional) -> Iterator[tuple[str, Callable[[], Exact]]]:
    """(name, computation) in the order in which they are tried; each may raise NotThisWay."""
    d = asked.divergence

    def found(value: float, method: str, error: float = 0.0, note: str = "") -> Exact:
        if math.isnan(value) or math.isnan(error):
            raise NotThisWay("it gives no number")
        return _transformed(Exact(float(value), error, method, note or _about_infinite(value)), asked)

    def closed() -> Exact:
        known = pairs.known_moments(p, q)
        if known is None:
            raise NotThisWay("not two of one exponential family, nor products of such")
        value = _by_moments(known.moments, asked)
        if value is None:
            raise NotThisWay(f"{asked.name} is no function of KL and of ∫ p^α q^{{1−α}}")
        if math.isnan(float(value)):
            raise NotThisWay("it gives no number")
        return Exact(float(value), 0.0, known.method, _about_infinite(value, known.moments, asked))

    def line() -> Exact:
        if p.event_shape or pairs.kind_of(p) != "reals" or pairs.kind_of(q) != "reals":
            raise NotThisWay("not both are densities of a number")
        return on_coordinate("quadrature", pairs.by_quadrature)

    def counted() -> Exact:
        if p.event_shape or pairs.integer_range(p, q) is None:
            raise NotThisWay("not both are on integers that have a least one")
        return on_coordinate("sum", pairs.by_summation)

    def on_coordinate(method: str, direct: Callable[..., float]) -> Exact:
        one, other = pairs.without_common_maps(p, q)
        if asked.order is None:
            return found(direct(one, other, d), method)
        known = pairs.on_one_coordinate(one, other)
        if known is None:
            raise NotThisWay("they are of two kinds")
        value = float(of.renyi(known.moments, asked.order))
        return Exact(value, 0.0, method, _about_infinite(value))

    def plane() -> Exact:
        if p.event_shape != (2,) or not all(_whole_plane(side) for side in (p, q)):
            raise NotThisWay("not both are densities on the whole plane")
        try:
            value = exact_divergence(p.log_prob, q.log_prob, d, PLANE, tol=PLANE_TOLERANCE)
        except ValueError as error:
            raise NotThisWay(str(error)) from None
        return found(value, "quadrature")

    def sampled() -> Exact:
        with np.errstate(invalid="ignore"):  # a draw where neither has a density gives no number, and is found below
            sides = _Sampled.of(p, "P"), _Sampled.of(q, "Q")
            result = defensive(*sides, d)
        unbounded = math.isinf(d.upper_limit()) and math.isfinite(result.value)
        note = HEAVY if result.heavy_tailed or (unbounded and _heavy_tailed(*sides, d)) else ""
        return found(float(result.value), "Monte Carlo", float(result.standard_error), note)

    yield "lengths", lambda: found(pairs.uniform_pair(p, q, d), "closed form")
    yield "a closed form", closed
    yield "a sum", counted
    yield "quadrature on the line", line
    yield "the law of the log-ratio", lambda: found(from_overlap(pairs.overlap(p, q), d), "quadrature")
    yield "quadrature on the plane", plane
    yield "Monte Carlo", sampled


def _by_moments(known: of.Moments, asked: Functional) -> Any:
    """The divergence from the two integrals; None where they do not determine it."""
    if asked.order is not None:
        return of.renyi(known, asked.order)
    formula = of.of_moments(asked.divergence)
    return None if formula is None else formula(known)


def _by_support(p: Any, q: Any, d: FDivergence) -> Exact | None:
    """What the supports decide alone: mutually singular distributions, and mass outside where it costs ∞."""
    if pairs.singular(p, q):
        return Exact(d.upper_limit(), 0.0, "support", "one has a density where the other has none, as integers have")
    for first, second, cost, names in ((p, q, d.slope_at_infinity, "P Q"), (q, p, d.value_at_zero, "Q P")):
        if math.isinf(cost) and pairs.mass_outside(first, second):
            one, other = names.split()
            return Exact(math.inf, 0.0, "support", f"{one} has mass where {other} has none")
    return None


def _transformed(result: Exact, asked: Functional) -> Exact:
    """The functional of D_f, its standard error by the delta method."""
    if asked.transform is None or asked.slope is None:
        return result
    error = result.standard_error and abs(asked.slope(result.value)) * result.standard_error
    return result._replace(value=asked.transform(result.value), standard_error=error)


def _about_infinite(value: Any, known: of.Moments | None = None, asked: Functional | None = None) -> str:
    """Why a value is infinite: since its integral is, or since e^{log ∫ p^α q^{1−α}} is beyond the largest float."""
    if not np.isinf(np.asarray(value)).any():
        return ""
    order = ORDERS.get(asked.divergence.name) if asked else None
    if known and order and np.isfinite(np.asarray(known.log(order))).all():
        return f"beyond the largest float; renyi({max(order, 1.0 - order):g}) is its logarithm, but for the order"
    return "the integral diverges"


def _heavy_tailed(p: Any, q: Any, d: FDivergence) -> bool:
    """Whether the terms of a mean over ½(P + Q), at the draws it was taken of, have too heavy a tail to rely on."""
    ratios = np.concatenate(log_ratios(p, q, draws_of(p)))  # of p/q, all that such terms depend on
    average = log_densities.divergence(np.minimum(ratios, 0.0), np.minimum(-ratios, 0.0), d, samples_of="mixture")
    return any(warning.startswith("heavy tail") for warning in average.warnings)


def _whole_plane(p: Any) -> bool:
    """Whether the density is positive on all of ℝ², as far as its type says."""
    if isinstance(p, Foreign):
        return False
    parts = p.marginals if isinstance(p, Product) else [p]
    spans = [(float(np.asarray(m.support.low)), float(np.asarray(m.support.high))) for m in parts if not m.event_shape]
    return all(m.support.kind in ("reals", "vectors") for m in parts) and all(
        math.isinf(low) and math.isinf(high) for low, high in spans
    )


class _Sampled:
    """A named distribution with the methods of `elliptical.Distribution`; equal where it is of the same object.

    So the draws of a pair serve every divergence that is asked of it.
    """

    def __init__(self, p: Any):
        self.p, self.dim = p, max(1, math.prod(p.event_shape))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sampled) and self.p is other.p

    def __hash__(self) -> int:
        return id(self.p)

    @classmethod
    def of(cls, p: Any, name: str) -> Any:
        if getattr(p, "draw", True) is None:
            raise NotThisWay(f"{name} has no method to sample from it")
        return cls(p)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return np.asarray(self.p.sample(jax.random.key(int(rng.integers(2**31))), n))

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.p.log_prob(x), np.float64)
