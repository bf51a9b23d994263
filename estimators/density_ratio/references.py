"""References: parametric log-ratios, closed form or nearly, from which the training of a critic starts.

discriminant   of two fitted Gaussians, covariances shrunk to the pooled one (Friedman 1989): quadratic to linear
student        of two fitted multivariate t laws: as the discriminant, where tails are heavy in either set
additive       Σ_j log p_j/q_j of the columns, each a smoothed histogram (naive Bayes): exact for products
radial         of the Mahalanobis distance from the pooled mean: exact for elliptical laws with one centre
boxes          of the shares outside the box that either set fills: exact for uniform laws on boxes
stack          the combination of these, in two kinds of coordinates, that fits validation rows best

Exact but for the bins of the histograms. Every f-divergence is unchanged by an invertible map common to P and Q, so
each is fitted in coordinates that suit it: standardised, or normal scores, which undo any increasing map of a column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.linalg import solve_triangular, solveh_banded
from scipy.optimize import minimize_scalar
from scipy.special import expit, gammaln, ndtr, ndtri

from estimators.contract import LogRatio
from estimators.density_ratio.entropies import HALF

FARTHEST = 1e6  # standard deviations to which coordinates are clipped; float32 can still square it
KNOTS = 129  # quantiles between which a normal score interpolates
EDGE = 3.2  # normal score of the outermost quantiles; the map is linear beyond
LIMIT = 8.0  # largest normal score; the map is constant beyond
DEGREES_OF_FREEDOM = np.array([1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0, 1000.0])
"""Of the t densities among which a fit chooses, from Cauchy to nearly Gaussian."""
RIDGE = 1e-6  # added to a covariance, relative to its diagonal, so that columns may depend on each other
TINY = 1e-12  # least variance of a column to which the ridge is relative
STEEPEST = 300.0  # |log-ratio| of one reference at most, so that an outlier does not outweigh the rest
SHRINKAGES = (0.0, 1.0)  # of the quadratic and of the linear discriminant
WIDE = 64  # columns up to which t laws are fitted
CHUNK = 2000  # rows evaluated at once: their arrays stay in the processor's cache
WIDEST = 3.6  # normal score at the edge of the outermost bin of a histogram
SMOOTH, FINE = (48, 20.0), (144, 0.5)
"""Bins of a column and the weight of their second differences: for smooth densities, and for edges and spikes."""


@dataclass(frozen=True, eq=False)
class Standard:
    """(x − mean) / standard deviation of the pooled rows, column by column, in float64."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def fit(cls, p: np.ndarray, q: np.ndarray) -> Standard:
        pooled = np.concatenate([p, q])
        deviation = pooled.std(axis=0)
        return cls(pooled.mean(axis=0), np.where(deviation > 0.0, deviation, 1.0))

    def log_slope(self, rows: np.ndarray) -> np.ndarray:
        """log |det dz/dx| at each row [k]."""
        return np.full(len(rows), -np.log(self.deviation).sum())

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return np.clip((rows - self.mean) / self.deviation, -FARTHEST, FARTHEST)


@dataclass(frozen=True, eq=False)
class NormalScores:
    """Φ⁻¹(F̂(x)) with F̂ the pooled empirical distribution of a column: increasing, piecewise linear, linear beyond.

    For each column `knots` has increasing values and their scores, fewer than `KNOTS` where values repeat.
    """

    knots: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def fit(cls, p: np.ndarray, q: np.ndarray) -> NormalScores:
        pooled = np.concatenate([p, q])
        outermost = 1.5 / len(pooled)
        levels = np.unique(np.clip(ndtr(np.linspace(-EDGE, EDGE, KNOTS)), outermost, 1.0 - outermost))
        quantiles = np.quantile(pooled, levels, axis=0)
        return cls(tuple(_extended(column, ndtri(levels)) for column in quantiles.T))

    def log_slope(self, rows: np.ndarray) -> np.ndarray:
        """log |det dz/dx| at each row [k], of the outermost pieces beyond the knots."""
        total = np.zeros(len(rows))
        for x, (at, score) in zip(rows.T, self.knots, strict=True):
            piece = np.clip(np.searchsorted(at, x, side="right") - 1, 0, len(at) - 2)
            total += np.log(np.diff(score) / np.diff(at))[piece]
        return total

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(x, *knots) for x, knots in zip(rows.T, self.knots, strict=True)], axis=1)


def _extended(values: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots without repeated values (which share their mean score), and one on either side where the score ends."""
    knots, inverse = np.unique(values, return_inverse=True)
    at = np.bincount(inverse, scores) / np.bincount(inverse)
    if len(knots) < 2:
        return np.array([knots[0] - 1.0, knots[0], knots[0] + 1.0]), np.array([at[0] - 1.0, at[0], at[0] + 1.0])
    c = max(1, len(knots) // 32)
    slopes = (at[c] - at[0]) / (knots[c] - knots[0]), (at[-1] - at[-1 - c]) / (knots[-1] - knots[-1 - c])
    below = knots[0] - (at[0] + LIMIT) / slopes[0]
    above = knots[-1] + (LIMIT - at[-1]) / slopes[1]
    return np.r_[below, knots, above], np.r_[-LIMIT, at, LIMIT]


Coordinates = tuple[Standard, NormalScores]


@dataclass(frozen=True, eq=False)
class GaussianDensity:
    """log N(x; mean, Σ) at rows x [k, d]: [k], as log_peak − ½ ‖W(x − mean)‖² with WᵀW = Σ⁻¹.

    A fitted density, where `distributions.elliptical.Gaussian` is a known distribution: it holds W (`whiten`), so that
    many rows cost one matrix product, and W and log_peak may be corrected (`GaussianFit.unbiased_density`).
    """

    mean: np.ndarray
    whiten: np.ndarray
    log_peak: float

    @classmethod
    def of(cls, mean: np.ndarray, covariance: np.ndarray) -> GaussianDensity:
        """Raises numpy.linalg.LinAlgError where the covariance is singular."""
        factor = np.linalg.cholesky(covariance)
        whiten = solve_triangular(factor, np.eye(len(factor)), lower=True)
        return cls(mean, whiten, float(np.log(np.diag(whiten)).sum() - 0.5 * len(mean) * math.log(2.0 * math.pi)))

    @classmethod
    def with_ridge(cls, mean: np.ndarray, covariance: np.ndarray) -> GaussianDensity:
        """The density of a covariance that may be singular."""
        return cls.of(mean, covariance + RIDGE * np.diag(np.maximum(np.diag(covariance), TINY)))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.log_peak - 0.5 * self.square_distance(rows)

    def square_distance(self, rows: np.ndarray) -> np.ndarray:
        """The squared Mahalanobis distance from the mean, ‖W(x − mean)‖² [k]."""
        return np.sum(((rows - self.mean) @ self.whiten.T) ** 2, axis=1)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n points [n, d] of N(mean, Σ)."""
        return self.mean + np.linalg.solve(self.whiten, rng.standard_normal((len(self.mean), n))).T


@dataclass(frozen=True, eq=False)
class StudentDensity:
    """log t_ν(x; mean, Σ) at rows x [k, d]: [k], with the Gaussian of the same mean and Σ, the t law's scatter."""

    gaussian: GaussianDensity
    df: float

    @classmethod
    def fit(cls, rows: np.ndarray, dfs: np.ndarray = DEGREES_OF_FREEDOM, iterations: int = 7) -> StudentDensity:
        """Maximum likelihood by ECME, ν one of `dfs`, from a Cauchy law of median and median deviation.

        So an outlier, however far, never weighs on the first fit.
        Source: Liu & Rubin 1995.
        """
        mean = np.median(rows, axis=0)
        deviation = np.median(np.abs(rows - mean), axis=0)
        scale = np.where(deviation > 0.0, deviation, rows.std(axis=0) + TINY)
        gaussian, df = GaussianDensity.of(mean, np.diag(scale**2)), 1.0
        d = rows.shape[1]
        for _ in range(iterations):
            gaussian, square = _reweighted(rows, gaussian, df)
            df = float(dfs[np.argmin([_loss(square, d, nu) for nu in dfs])])
        return cls(gaussian, df)

    def refined(self, rows: np.ndarray, most: float, iterations: int) -> Self:
        """The fit to the rows after further iterations, with any ν from 1 to `most`."""
        gaussian, df = self.gaussian, self.df
        for _ in range(iterations):
            gaussian, square = _reweighted(rows, gaussian, df)
            found = minimize_scalar(
                lambda log_nu, square=square: _loss(square, rows.shape[1], math.exp(log_nu)),
                bounds=(0.0, math.log(most)),
                method="bounded",
            )
            df = math.exp(found.x)
        return type(self)(gaussian, df)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        nu, d = self.df, rows.shape[1]
        tails = 0.5 * (nu + d) * np.log1p(self.gaussian.square_distance(rows) / nu)
        return self.gaussian.log_peak + _peak_ratio(nu, d) - tails


def _reweighted(rows: np.ndarray, gaussian: GaussianDensity, df: float) -> tuple[GaussianDensity, np.ndarray]:
    """A step of ECME at a given ν: (the next mean and scatter, the squared distances of the rows from it [n])."""
    weight = (df + rows.shape[1]) / (df + gaussian.square_distance(rows))
    mean = weight @ rows / weight.sum()
    centred = (rows - mean) * np.sqrt(weight / len(rows))[:, None]
    gaussian = GaussianDensity.with_ridge(mean, centred.T @ centred)
    return gaussian, gaussian.square_distance(rows)


def _loss(square: np.ndarray, d: int, nu: float) -> float:
    """Minus the mean log-likelihood of ν, up to what does not depend on it, at squared distances [n]."""
    return 0.5 * (nu + d) * float(np.mean(np.log1p(square / nu))) - _peak_ratio(nu, d)


def _peak_ratio(df: Any, d: int) -> Any:
    """log of the t density at its mean, less that of the Gaussian of the same scatter."""
    return gammaln(0.5 * (df + d)) - gammaln(0.5 * df) - 0.5 * d * np.log(0.5 * df)


def discriminant(p: np.ndarray, q: np.ndarray, shrinkage: float) -> LogRatio:
    """The log-ratio of the Gaussians of p [n, d] and q [m, d], with covariances (1 − s) Σ + s Σ_pooled.

    It is quadratic at s = 0 and linear at s = 1.
    """
    covariances = [np.cov(rows, rowvar=False, ddof=0).reshape(rows.shape[1], -1) for rows in (p, q)]
    pooled = np.average(covariances, axis=0, weights=[len(p), len(q)])
    floor = (1e-6 + 1.0 / (len(p) + len(q))) * np.diag(np.maximum(np.diag(pooled), 1e-12))
    shrunk = [(1.0 - shrinkage) * c + shrinkage * pooled + floor for c in covariances]
    in_p, in_q = (GaussianDensity.of(rows.mean(axis=0), c) for rows, c in zip((p, q), shrunk, strict=True))
    return lambda rows: in_p(rows) - in_q(rows)


def student(p: np.ndarray, q: np.ndarray) -> LogRatio:
    """The log-ratio of the t laws of p [n, d] and q [m, d]."""
    in_p, in_q = StudentDensity.fit(p), StudentDensity.fit(q)
    return lambda rows: in_p(rows) - in_q(rows)


def additive(p: np.ndarray, q: np.ndarray, bins: int = SMOOTH[0], smoothness: float = SMOOTH[1]) -> LogRatio:
    """Σ_j g_j(z_j) [k] at rows z [k, d] of normal scores, each g_j the log p_j/q_j of its column, linear between bins.

    A binomial fit to the counts in bins, second differences penalised,

        Σ count_p log σ(g + offset) + count_q log σ(−g − offset) − ½ gᵀ penalty g.

    Source: P-splines (Eilers & Marx 1996), of degree zero.
    """
    d = p.shape[1]

    def counts(rows: np.ndarray) -> np.ndarray:  # in each bin of each column [d, bins]
        index = np.clip(((rows + WIDEST) * (bins / (2.0 * WIDEST))).astype(np.intp), 0, bins - 1)
        found = np.bincount((index + bins * np.arange(d)).ravel(), minlength=d * bins)
        return found.reshape(d, bins).astype(np.float64)

    count_p, count_q = counts(p), counts(q)
    bend = np.diff(np.eye(bins), n=2, axis=0)
    penalty = smoothness * bend.T @ bend + 1e-3 * np.eye(bins)
    banded = np.stack([np.r_[np.zeros(k), np.diag(penalty, k)] for k in (2, 1, 0)])
    offset = np.log(len(p) / len(q))
    total, g = count_p + count_q, np.zeros(count_p.shape)
    for _ in range(20):  # Newton's method, for all columns at once: their bands side by side
        share = expit(g + offset)
        curvature = np.tile(banded, len(g))
        curvature[2] += (total * share * (1.0 - share)).ravel()
        step = solveh_banded(curvature, (count_p - total * share - g @ penalty).ravel())
        g = g + np.clip(step, -2.0, 2.0).reshape(g.shape)
        if np.abs(step).max() < 1e-4:
            break

    def log_ratio(rows: np.ndarray) -> np.ndarray:
        position = np.clip((rows + WIDEST) * (bins / (2.0 * WIDEST)) - 0.5, 0.0, bins - 1.0)
        left = np.minimum(position.astype(np.intp), bins - 2)
        columns = np.arange(d)
        low, high = g[columns, left], g[columns, left + 1]
        return np.sum(low + (position - left) * (high - low), axis=1)

    return log_ratio


@dataclass(frozen=True, eq=False)
class Radial:
    """g(‖W(x − mean)‖) at rows x [k, d]: [k], a log-ratio that depends on the distance from the pooled mean alone."""

    distance: Callable[[np.ndarray], np.ndarray]
    scores: NormalScores
    of_score: LogRatio

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.of_score(self.score(rows))

    def score(self, rows: np.ndarray) -> np.ndarray:
        """The normal score of the distance [k, 1]."""
        return self.scores(self.distance(rows))


def radial(p: np.ndarray, q: np.ndarray) -> Radial:
    """The additive log-ratio of one column, the Mahalanobis distance from the mean of p [n, d] and q [m, d] pooled."""
    both = np.concatenate([p, q])
    covariance = np.cov(both, rowvar=False, ddof=0).reshape(both.shape[1], -1)
    pooled = GaussianDensity.with_ridge(both.mean(axis=0), covariance)

    def distance(rows: np.ndarray) -> np.ndarray:
        return np.sqrt(pooled.square_distance(rows))[:, None]

    scores = NormalScores.fit(distance(p), distance(q))
    return Radial(distance, scores, additive(scores(distance(p)), scores(distance(q))))


@dataclass(frozen=True, eq=False)
class Boxes:
    """log p/q of four regions: inside both sets' boxes, outside one or the other, outside both. For supports that end.

    A box is what a training set spans in each column. Its own share outside is that of rows which, left out, would lie
    outside the box of the others.
    """

    ends: tuple[np.ndarray, np.ndarray]  # [2, d] of P and of Q
    log_ratios: np.ndarray  # [outside P's, outside Q's]

    @classmethod
    def fit(cls, p: np.ndarray, q: np.ndarray) -> Boxes:
        ends = [np.stack([rows.min(axis=0), rows.max(axis=0)]) for rows in (p, q)]
        own = [len(_extreme(rows)) for rows in (p, q)]
        other = [_outside(p, ends[1]).sum(), _outside(q, ends[0]).sum()]
        rows = np.array([len(p), len(q)]) + 2.0 * HALF
        outside_p, outside_q = (np.array(counts) + HALF for counts in ((own[0], other[1]), (other[0], own[1])))
        inside = np.log(rows - np.array(other) - HALF)
        shares = [[inside, np.log(outside_q)], [np.log(outside_p), np.log(rows)]]  # of P and of Q in each region
        ratios = [[np.subtract(*(share - np.log(rows))) for share in of] for of in shares]
        return cls((ends[0], ends[1]), np.array(ratios))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        outside = [_outside(rows, ends).astype(np.intp) for ends in self.ends]
        return self.log_ratios[outside[0], outside[1]]


def _outside(rows: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return ((rows < ends[0]) | (rows > ends[1])).any(axis=1)


def _extreme(rows: np.ndarray) -> set[int]:
    """The rows that alone hold the least or the greatest value of a column."""
    found = set()
    for order in (rows, -rows):
        two = np.argpartition(order, 1, axis=0)[:2]
        least, next_least = np.take_along_axis(order, two, axis=0)
        found |= set(two[0][least < next_least].tolist())
    return found


@dataclass(frozen=True, eq=False)
class References:
    """Several log-ratios fitted to one set of training rows: rows [k, d] → ([k, references], points [k, d + 1]).

    Points are the inputs of a network: normal scores of the columns, and of the distance from the pooled mean, which is
    that of `centre`. Log-ratios take rows in either kind of coordinates: `of_standard`, `of_scores`.
    """

    standard: Standard
    scores: NormalScores
    of_standard: tuple[LogRatio, ...]
    of_scores: tuple[LogRatio, ...]
    centre: Radial

    @classmethod
    def fit(cls, p: np.ndarray, q: np.ndarray, coordinates: Coordinates | None = None) -> References:
        standard, scores = coordinates or (Standard.fit(p, q), NormalScores.fit(p, q))
        z, s = (standard(p), standard(q)), (scores(p), scores(q))
        centre = radial(*z)
        heavy_tailed = (student(*z),) if p.shape[1] <= WIDE else ()
        gaussian = [[discriminant(*rows, shrinkage) for shrinkage in SHRINKAGES] for rows in (z, s)]
        histograms = (additive(*s, *bins) for bins in (SMOOTH, FINE))
        of_standard: tuple[LogRatio, ...] = (*gaussian[0], *heavy_tailed, centre, Boxes.fit(*z))
        of_scores: tuple[LogRatio, ...] = (*gaussian[1], *histograms, radial(*s))
        return cls(standard, scores, of_standard, of_scores, centre)

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(rows) > CHUNK:
            chunks = [self(rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK)]
            phi, points = map(np.concatenate, zip(*chunks, strict=True))
            return phi, points
        z, s = self.standard(rows), self.scores(rows)
        log_ratios = [f(z) for f in self.of_standard] + [f(s) for f in self.of_scores]
        points = np.concatenate([s, self.centre.score(z)], axis=1)
        return np.clip(np.stack(log_ratios, axis=1), -STEEPEST, STEEPEST), points


class Logistic(NamedTuple):
    """A fitted model of log p/q: its coefficients, and the inverse of the penalised information matrix."""

    theta: np.ndarray
    covariance: np.ndarray


def logistic(
    phi_p: np.ndarray, phi_q: np.ndarray, *, start: Sequence[float], ridge: Sequence[float], iterations: int = 40
) -> Logistic:
    """argmin_θ of the logistic loss of log p/q = φ·θ, plus ½ Σ ridge (θ − start)², by damped Newton steps.

    Args:
        phi_p, phi_q: features of the rows of P [n, k] and of Q [m, k].
        start: where the iterations begin, and what the ridge draws θ to.
        ridge: weights of the penalty, in rows.
    """
    phi = np.concatenate([phi_p, phi_q])
    label = np.arange(len(phi)) < len(phi_p)
    offset = np.log(len(phi_p) / len(phi_q))
    origin, weight = np.asarray(start, np.float64), np.asarray(ridge, np.float64)

    def loss(theta):
        eta = phi @ theta + offset
        return np.logaddexp(0.0, eta).sum() - eta[label].sum() + 0.5 * weight @ (theta - origin) ** 2

    theta, value = origin, loss(origin)
    for _ in range(iterations):
        share = expit(phi @ theta + offset)
        gradient = phi.T @ (share - label) + weight * (theta - origin)
        hessian = (phi * (share * (1.0 - share))[:, None]).T @ phi + np.diag(weight)
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while (next_value := loss(theta - scale * step)) > value + 1e-9 * abs(value) and scale > 1e-6:
            scale *= 0.5
        theta, gain, value = theta - scale * step, value - next_value, next_value
        if gain < 1e-8 * (1.0 + abs(value)):
            break
    return Logistic(theta, np.linalg.inv(hessian))


def stack(phi_p: np.ndarray, phi_q: np.ndarray) -> np.ndarray:
    """Weights θ of (1, references): the logistic fit on rows that trained none of them [n, k], [m, k] → [1 + k]."""
    with_one = [np.concatenate([np.ones((len(phi), 1)), phi], axis=1) for phi in (phi_p, phi_q)]
    k = phi_p.shape[1]
    return logistic(*with_one, start=[0.0] + [1.0 / k] * k, ridge=[1e-6] + [3.0] * k).theta
