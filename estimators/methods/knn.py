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

Distances are Euclidean after `whitening.Whitening`.
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

from estimators.contract import Fit, Interval, Request, Scores
from estimators.density_ratio.folds import subsample
from estimators.density_ratio.plug_in import influence_of_means, standard_error
from estimators.density_ratio.whitening import Whitening
from estimators.divergences.generator import FDivergence
from estimators.samples.arrays import DataError, Groups

METHODS = {"knn": "distances to nearest neighbours: no training, for few dimensions"}
MINIMUM = 20  # rows a side
FEWEST, MOST, SIZES = 6, 64, 10  # neighbours, and how many numbers of them are combined
WANG = 5
"""Neighbours that the plain estimate of Wang et al. averages over, in the diagnostics."""
COPIES = 4  # rows a group, up to which the numbers of neighbours grow with it
STEEPEST = 25.0  # |log-ratio| up to which float64 holds the tangents
BIAS_ERROR = 1.25  # share of a slower order's cancellation that is added to the standard error
EVALUATED = 40_000  # rows a side at which ratios are taken, all rows being neighbours
CHUNK = 2**22  # distances computed at once
MANY_DIMENSIONS = 8
"""Dimensions beyond which the curvature of the densities biases nearest-neighbour ratios by a tenth and more."""
FAR_APART = (
    "nearest neighbours lie far apart and the value is biased, mostly downwards (in 20 dimensions by a tenth to a "
    "half); the interval need not cover that bias, use method='neural'"
)


def estimate(request: Request) -> Fit:
    """D_f(P‖Q) for each divergence of `request`, from nearest-neighbour density ratios.

    Random are only the rows evaluated, where there are more than `EVALUATED`. Rows of one group are not neighbours.

    Raises DataError: fewer than `MINIMUM` rows a side, or in one set outside its largest group.
    """
    request.require_numbers()
    x, y, groups = request.x, request.y, request.groups
    space = Whitening.fit(x, y)
    labels = groups or (None, None)
    p, q = Neighbours.of(space(x), labels[0], "P"), Neighbours.of(space(y), labels[1], "Q")
    sizes = _sizes(p, q)
    every = np.union1d(sizes, np.arange(1, WANG + 1))
    rng = np.random.default_rng(request.seed)
    in_p, in_q = (np.sort(subsample(np.arange(len(rows)), EVALUATED, rng)) for rows in (x, y))
    at_p = p.log_density(p.points[in_p], every, p.group[in_p]) - q.log_density(p.points[in_p], every)
    at_q = p.log_density(q.points[in_q], every) - q.log_density(q.points[in_q], every, q.group[in_q])
    evaluated = None if groups is None else (groups[0][in_p], groups[1][in_q])
    log_p, log_q = (np.clip(at[:, np.isin(every, sizes)], -STEEPEST, STEEPEST) for at in (at_p, at_q))
    many = f"{space.rank} dimensions: {FAR_APART}" * (space.rank > MANY_DIMENSIONS)
    cautions = tuple(filter(None, (many, space.flatness(), _coinciding(p, q))))

    def interval(d: FDivergence) -> Interval:
        value, error = ensemble(d, log_p, log_q, sizes, space.rank, evaluated)
        around = Interval.around(value, error, request.quantile, d.value_at_one, d.upper_limit())
        return around._replace(warnings=cautions)

    def log_ratio(points: np.ndarray) -> np.ndarray:
        white = space(points)
        return (p.log_density(white, sizes) - q.log_density(white, sizes)).mean(axis=1)

    wang = {"wang_kl": float(at_p[:, :WANG].mean()), "wang_reverse_kl": -float(at_q[:, :WANG].mean())}
    scores = Scores(log_p.mean(axis=1), log_q.mean(axis=1))
    intervals = [interval(d) for d in request.divergences]
    return Fit(request.method, intervals, log_ratio, scores, {"neighbors": sizes.tolist(), **wang})


def ensemble(
    d: FDivergence, log_p: np.ndarray, log_q: np.ndarray, sizes: np.ndarray, dim: int, groups: Groups | None = None
) -> tuple[float, float]:
    """(D̂_f, standard error) from log r̂_k at the rows of P [n, sizes] and of Q [m, sizes], left-one-out.

    The error is that of the variational function's two means, and `BIAS_ERROR` times what it would change to cancel
    order k^{2/d} (k at most: the share of Q's rows that lie beyond P's) instead of k^{4/d}.
    """
    t_p, t_q = tangent(d, log_p)[0], tangent(d, log_q)[1]
    values = t_p.mean(axis=0) - t_q.mean(axis=0)
    error = standard_error(influence_of_means(t_p.mean(axis=1), -t_q.mean(axis=1)), len(t_p), groups)
    cancelled = (-1.0, 4.0 / dim), (-1.0, min(1.0, 2.0 / dim)), (-1.0,)
    value, steep, plain = (float(weights(sizes, orders) @ values) for orders in cancelled)
    return value, math.hypot(error, BIAS_ERROR * (steep - plain))


def tangent(d: FDivergence, log_ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f'(u) and f*(f'(u)) = u f'(u) − f(u) at u = e^ℓ in float64, by definition: f* may be infinite one rounding error
    too far."""
    with jax.enable_x64(True):
        u = jnp.exp(jnp.asarray(log_ratio))
        slope = d.prime(u)
        return np.asarray(slope), np.asarray(u * slope - d.f(u))


def weights(sizes: np.ndarray, orders: Sequence[float]) -> np.ndarray:
    """The shortest w with Σ w = 1 and Σ w k^a = 0 for each a of `orders`, k in `sizes`."""
    relative = sizes / sizes[-1]
    conditions = np.stack([np.ones(len(sizes)), *(relative**a for a in orders)])
    target = np.zeros(len(conditions))
    target[0] = 1.0
    return np.linalg.lstsq(conditions, target, rcond=None)[0]


def _sizes(p: Neighbours, q: Neighbours) -> np.ndarray:
    """The numbers of neighbours that are combined, 6 to 64 where there are rows enough; more where rows are copies."""
    copies = min(side.size.mean() for side in (p, q))
    most = min(MOST * min(copies, COPIES), min(p.others, q.others) // 2)
    return np.unique(np.round(np.geomspace(max(2.0, most * FEWEST / MOST), most, SIZES)).astype(int))


class Neighbours(NamedTuple):
    """One whitened sample set as a search tree, with the number of each row's group, and each group's size."""

    points: np.ndarray
    group: np.ndarray
    size: np.ndarray
    tree: cKDTree

    @classmethod
    def of(cls, points: np.ndarray, label: np.ndarray | None, name: str) -> Neighbours:
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

    def log_density(self, points: np.ndarray, sizes: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
        """ψ(k) − d log(distance to the k-th neighbour) − log N at points [j, d]: a log-density but for a constant.

        If the points are of this set, `own` are their groups, which are passed over.
        """
        most = int(sizes[-1])
        passed_over = 0 if own is None else int(self.size.max())
        asked = range(1, min(most + passed_over, len(self.points)) + 1)
        found = []
        for rows in np.array_split(np.arange(len(points)), math.ceil(len(points) * len(asked) / CHUNK)):
            distance, index = self.tree.query(points[rows], asked, workers=-1)
            if own is not None:
                distance = np.sort(np.where(self.group[index] == own[rows, None], math.inf, distance), axis=1)
            found.append(_power_law(distance[:, :most], sizes, points.shape[1]))
        count = len(self.points) - (np.zeros(len(points)) if own is None else self.size[own])
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


def _coinciding(p: Neighbours, q: Neighbours) -> str:
    """A warning of rows that coincide with another row of another group, in either set."""
    pooled = np.concatenate([p.points, q.points])
    group = np.concatenate([p.group, q.group + len(p.points)])
    _, place = np.unique(pooled, axis=0, return_inverse=True)
    taken = np.unique(np.stack([place, group], axis=1), axis=0)[:, 0]
    rows = int((np.bincount(taken)[place] > 1).sum())
    text = (
        f"{rows} rows coincide with others: at distance 0 the next neighbour that lies apart was used, which "
        "suits continuous data with a few repeated rows, not discrete data"
    )
    return text if rows else ""
