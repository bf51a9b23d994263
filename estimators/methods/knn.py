"""Divergences from distances to nearest neighbours: no training, nothing to tune, for few dimensions.

With ρ_k(z), ν_k(z) the distances from z to its k-th neighbour among the rows of P and of Q (z itself, or its group,
left out), the density ratio is estimated as

    log r̂_k(z) = d log(ν_k/ρ_k) + log(N_q/N_p),     N: the rows that could have been neighbours,

the mean of which over P's rows is the estimate of KL(P‖Q) of Wang, Kulkarni & Verdú (2009). The noise of r̂_k costs an
order of 1/k, the curvature of the densities one of k^{4/d}. For every f the variational function of r̂_k gives a value,

    D_k = E_P[f'(r̂_k)] − E_Q[f*(f'(r̂_k))],

that errs only by the square of r̂_k's error; several k are combined with weights that add to 1 and cancel both orders
(ensemble estimators: Moon & Hero 2014; Noshad, Moon, Sekeh & Hero 2017). For KL this is less biased than the plain
estimate, which stands in the diagnostics. What cancelling a slower order would change counts as error: the interval
widens with the bias, and still misses some where f feels the tails of one set beyond the other (reverse_kl of a narrow
P against a wide Q is covered in 80 % of draws at n = 1000).

Distances are Euclidean after `coordinates.Whitening`.

Layer 3: imports divergences, folds, moments, result, samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma
from scipy.stats import norm

from estimators.density_ratio.coordinates import Whitening
from estimators.divergences.table import FDivergence
from estimators.result import Estimate, Scores
from estimators.samples.arrays import DataError
from estimators.samples.folds import Groups

MINIMUM = 20  # rows a side
FEWEST, MOST, SIZES = 6, 64, 10  # neighbours, and how many numbers of them are combined
WANG = 5  # neighbours that the plain estimate of Wang et al. averages over, in the diagnostics
COPIES = 4  # rows a group, up to which the numbers of neighbours grow with it
STEEPEST = 25.0  # |log-ratio| up to which float64 holds the tangents
DOUBT = 1.25  # share of a slower order's cancellation that is added to the standard error
MANY = 8  # dimensions beyond which the curvature bias is large
EVALUATED = 40_000  # rows a side at which ratios are taken, all rows being neighbours
CHUNK = 2**22  # distances looked up at once


def estimate(
    x: np.ndarray,
    y: np.ndarray,
    divergences: Sequence[FDivergence],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    groups: Groups | None = None,
) -> list[Estimate]:
    """D_f(P‖Q) of each of `divergences` from nearest-neighbour density ratios, in nats.

    Args:
        x, y: samples of P [n, d] and Q [m, d], float64, finite.
        divergences: rows of the table, or the user's own.
        seed: of the rows evaluated, where there are more than `EVALUATED`; nothing else is random.
        confidence: level of the interval.
        groups: integer labels [n] and [m]; rows of one group are not neighbours of each other, and the standard error
            is that of group sums.

    Raises:
        DataError: fewer than `MINIMUM` rows a side, or in one set outside its largest group.
    """
    space = Whitening.fit(x, y)
    labels = groups or (None, None)
    p, q = _Side.of(space(x), labels[0], "P"), _Side.of(space(y), labels[1], "Q")
    sizes = _sizes(p, q)
    every = np.union1d(sizes, np.arange(1, WANG + 1))
    rng = np.random.default_rng(seed)
    in_p, in_q = (_some(len(rows), rng) for rows in (x, y))
    at_p = _log_density(p.points[in_p], p.group[in_p], p, every) - _log_density(p.points[in_p], None, q, every)
    at_q = _log_density(q.points[in_q], None, p, every) - _log_density(q.points[in_q], q.group[in_q], q, every)
    seen_groups = None if groups is None else (groups[0][in_p], groups[1][in_q])
    log_p, log_q = (np.clip(at[:, np.isin(every, sizes)], -STEEPEST, STEEPEST) for at in (at_p, at_q))
    wang = {"wang_kl": float(at_p[:, :WANG].mean()), "wang_reverse_kl": -float(at_q[:, :WANG].mean())}
    warnings = _warnings(space.rank, x.shape[1], p, q)

    def ratio(points: np.ndarray) -> np.ndarray:
        seen = space(points)
        return (_log_density(seen, None, p, sizes) - _log_density(seen, None, q, sizes)).mean(axis=1)

    made = []
    for row in divergences:
        value, error = ensemble(row, log_p, log_q, sizes, space.rank, seen_groups)
        reach = float(norm.ppf(0.5 + 0.5 * confidence)) * error
        low, value, high = np.clip([value - reach, value, value + reach], row.value_at_one, row.upper_limit())
        made.append(
            Estimate(
                divergence=row.name,
                value=float(value),
                low=float(low),
                high=float(high),
                standard_error=error,
                confidence=confidence,
                method="knn",
                n_p=len(x),
                n_q=len(y),
                dim=x.shape[1],
                warnings=warnings,
                diagnostics={"neighbors": sizes.tolist(), **wang},
                ratio=ratio,
                scores=Scores(log_p.mean(axis=1), log_q.mean(axis=1)),
            )
        )
    return made


def _some(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(n) if n <= EVALUATED else np.sort(rng.choice(n, EVALUATED, replace=False))


def ensemble(
    row: FDivergence,
    log_p: np.ndarray,
    log_q: np.ndarray,
    sizes: np.ndarray,
    dim: int,
    groups: Groups | None = None,
) -> tuple[float, float]:
    """(D̂_f, standard error) from log r̂_k at the rows of P [n, sizes] and of Q [m, sizes], left-one-out.

    The error is that of the variational function's two means, and `DOUBT` times what it would change to cancel order
    k^{2/d} (k at most: the share of Q's rows that lie beyond P's) instead of k^{4/d}.
    """
    terms = [tangent(row, at) for at in (log_p, log_q)]
    values = terms[0].output.mean(axis=0) - terms[1].conjugate.mean(axis=0)
    error = _standard_error(terms[0].output.mean(axis=1), terms[1].conjugate.mean(axis=1), groups)
    value, steep, plain = (
        float(weights(sizes, orders) @ values) for orders in ((-1.0, 4.0 / dim), (-1.0, min(1.0, 2.0 / dim)), (-1.0,))
    )
    return value, math.hypot(error, DOUBT * (steep - plain))


class Tangent(NamedTuple):
    """f'(u) and f*(f'(u)) = u f'(u) − f(u), the slope and minus the intercept of f's tangent at u."""

    output: np.ndarray
    conjugate: np.ndarray


def tangent(row: FDivergence, log_ratio: np.ndarray) -> Tangent:
    """The tangent of f at u = e^ℓ in float64, by its definition: f* may be infinite one rounding error too far."""
    with jax.enable_x64(True):
        u = jnp.exp(jnp.asarray(log_ratio))
        slope = row.prime(u)
        return Tangent(np.asarray(slope), np.asarray(u * slope - row.f(u)))


def _standard_error(t_p: np.ndarray, t_q: np.ndarray, groups: Groups | None) -> float:
    """Of mean t_p − mean t_q; with groups (one label in both sets is one group) that of their sums."""
    n, m = len(t_p), len(t_q)
    if groups is None:
        return math.sqrt(t_p.var(ddof=1) / n + t_q.var(ddof=1) / m)
    _, group = np.unique(np.concatenate(groups), return_inverse=True)
    sums = np.bincount(group, np.concatenate([(t_p - t_p.mean()) / n, (t_q.mean() - t_q) / m]))
    return math.sqrt(len(sums) / (len(sums) - 1.0) * float(sums @ sums))


def weights(sizes: np.ndarray, orders: Sequence[float]) -> np.ndarray:
    """The shortest w with Σ w = 1 and Σ w k^a = 0 for each a of `orders`, k in `sizes`."""
    relative = sizes / sizes[-1]
    conditions = np.stack([np.ones(len(sizes)), *(relative**a for a in orders)])
    target = np.zeros(len(conditions))
    target[0] = 1.0
    return np.linalg.lstsq(conditions, target, rcond=None)[0]


def _sizes(p: _Side, q: _Side) -> np.ndarray:
    """The numbers of neighbours that are combined, 6 to 64 where there are rows enough; more where rows are copies."""
    copies = min(side.size.mean() for side in (p, q))
    most = min(MOST * min(copies, COPIES), min(p.others, q.others) // 2)
    return np.unique(np.round(np.geomspace(max(2.0, most * FEWEST / MOST), most, SIZES)).astype(int))


# --- distances -------------------------------------------------------------------------------------------------------


class _Side(NamedTuple):
    """One whitened sample set as a search tree, with the number of each row's group."""

    points: np.ndarray
    group: np.ndarray
    size: np.ndarray
    tree: cKDTree

    @classmethod
    def of(cls, points: np.ndarray, label: np.ndarray | None, name: str) -> _Side:
        rows = np.arange(len(points))
        _, group, size = np.unique(rows if label is None else label, return_inverse=True, return_counts=True)
        if (others := len(points) - int(size.max())) < MINIMUM - 1:
            lacking = "; give more rows" if label is None else " outside its largest group; give more groups"
            raise DataError(f"{name} has {others + (label is None)} rows{lacking}: neighbours need {MINIMUM}")
        return cls(points, group, size, cKDTree(points))

    @property
    def others(self) -> int:
        """Rows that could be neighbours of any row."""
        return len(self.points) - int(self.size.max())


def _log_density(points: np.ndarray, own: np.ndarray | None, side: _Side, sizes: np.ndarray) -> np.ndarray:
    """ψ(k) − d log(distance to the k-th neighbour) − log N at points [j, d]: [j, sizes], a density but for a constant.

    Args:
        own: each point's group, if the points are `side`'s own: their groups are passed over.
    """
    most = int(sizes[-1])
    passed_over = 0 if own is None else int(side.size.max())
    asked = range(1, min(most + passed_over, len(side.points)) + 1)
    found = []
    for rows in np.array_split(np.arange(len(points)), math.ceil(len(points) * len(asked) / CHUNK)):
        distance, index = side.tree.query(points[rows], asked, workers=-1)
        if own is not None:
            distance = np.sort(np.where(side.group[index] == own[rows, None], math.inf, distance), axis=1)
        found.append(_power_law(distance[:, :most], sizes, points.shape[1]))
    count = len(side.points) - (np.zeros(len(points)) if own is None else side.size[own])
    return np.concatenate(found) - np.log(count)[:, None]


def _power_law(distance: np.ndarray, sizes: np.ndarray, dim: int) -> np.ndarray:
    """ψ(k) − d log distance_k; where rows coincide, at the first that lies apart, as Wang et al. let k vary."""
    apart = np.argmax(distance > 0.0, axis=1)
    at = np.maximum(sizes[None] - 1, apart[:, None])
    chosen = np.take_along_axis(distance, at, axis=1)
    stuck = chosen == 0.0  # more copies than neighbours
    if stuck.any():
        positive = distance[distance > 0.0]
        at, chosen = np.where(stuck, sizes[-1] - 1, at), np.where(stuck, positive.min(initial=1.0), chosen)
    return digamma(at + 1.0) - dim * np.log(chosen)


def _coincidences(p: _Side, q: _Side) -> int:
    """Rows that coincide with another row of another group, in either set."""
    pooled = np.concatenate([p.points, q.points])
    group = np.concatenate([p.group, q.group + len(p.points)])
    _, place = np.unique(pooled, axis=0, return_inverse=True)
    taken = np.unique(np.stack([place, group], axis=1), axis=0)[:, 0]
    return int((np.bincount(taken)[place] > 1).sum())


def _warnings(rank: int, dim: int, p: _Side, q: _Side) -> tuple[str, ...]:
    said = []
    if rank > MANY:
        said.append(
            f"{rank} dimensions: nearest neighbours lie far apart and the value is biased, mostly downwards (in 20 "
            "dimensions by a tenth to a half); the interval need not cover that bias, use method='neural'"
        )
    if rank < dim:
        said.append(f"the two sets fill {rank} of {dim} dimensions; distances are taken there")
    if count := _coincidences(p, q):
        said.append(
            f"{count} rows coincide with others: at distance 0 the next neighbour that lies apart was used, which "
            "suits continuous data with a few repeated rows, not discrete data"
        )
    return tuple(said)
