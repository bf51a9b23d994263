"""References for dependence: log-ratios between the joint law P of two variables and the product Q of its marginals.

Columns have the same law under both, so no reference is additive; instead there are, beside those of `references`,

canonical        of a Gaussian dependence, in its leading canonical pairs
student_copula   of two variables that share one scale, whatever their marginals
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from estimators.contract import LogRatio
from estimators.density_ratio.references import (
    WIDE,
    Coordinates,
    NormalScores,
    References,
    Standard,
    StudentDensity,
    discriminant,
    radial,
)

RANKS = (1, 2, 4, 8)  # numbers of canonical pairs of which a Gaussian dependence is built; all pairs are tried too
LARGEST = 10.0  # standard deviations to which coordinates are clipped before a fit, so that no outlier decides it
COPULA_DEGREES = (1.0, 2.0, 3.0, 5.0, 8.0, 15.0)  # of the t copulas that are tried
HIGHEST_SCORE = 4.0  # normal score beyond which the quantiles of a t copula are constant
SUBSAMPLE = 600  # rows that choose the degrees of freedom: with two iterations they distinguish one from the next


@dataclass(frozen=True, eq=False)
class Canonical:
    """log N(a, b; correlations ρ) − log N(a) N(b) summed over the leading canonical pairs (a, b) of two variables.

    `to_a` [d_x, k] and `to_b` [d_z, k] map centred coordinates to canonical ones; `correlations` are ρ [k], decreasing;
    the first variable has `split` coordinates.
    """

    mean: np.ndarray
    to_a: np.ndarray
    to_b: np.ndarray
    correlations: np.ndarray
    split: int

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        centred = rows - self.mean
        a, b = centred[:, : self.split] @ self.to_a, centred[:, self.split :] @ self.to_b
        rho, left = self.correlations, 1.0 - self.correlations**2
        return np.sum((rho * a * b - 0.5 * rho**2 * (a**2 + b**2)) / left - 0.5 * np.log(left), axis=1)


def canonical(joint: np.ndarray, split: int, rank: int | None) -> Canonical:
    """The canonical correlations of rows (x, z) [n, d_x + d_z] (Hotelling 1936), the leading `rank` of them.

    Sample correlations are too large by chance, so ρ² is corrected to 1 − (1 − ρ²)(n − 1)/(n − d − 1), not below 0.
    """
    n, d = joint.shape
    mean = joint.mean(axis=0)
    centred = joint - mean
    sides = centred[:, :split], centred[:, split:]
    (u_x, s_x, v_x), (u_z, s_z, v_z) = (np.linalg.svd(side, full_matrices=False) for side in sides)
    keep_x, keep_z = (s > 1e-6 * s[0] for s in (s_x, s_z))
    left, rho, right = np.linalg.svd(u_x[:, keep_x].T @ u_z[:, keep_z], full_matrices=False)
    corrected = np.clip(1.0 - (1.0 - rho**2) * (n - 1.0) / max(n - d - 1.0, 1.0), 0.0, 0.9999)[:rank]
    to_a = math.sqrt(n) * (v_x[keep_x].T / s_x[keep_x]) @ left[:, :rank]
    to_b = math.sqrt(n) * (v_z[keep_z].T / s_z[keep_z]) @ right.T[:, :rank]
    return Canonical(mean, to_a, to_b, np.sqrt(corrected), split)


def student_copula(scores: np.ndarray, split: int, df: float, iterations: int = 5) -> LogRatio:
    """log t_ν(u, w) − log t_ν(u) − log t_ν(w): two variables that share one scale, whatever their marginals.

    u and w are the quantiles of t_ν at the levels of normal scores, of rows (x, z) [n, d_x + d_z].
    Source: Demarta & McNeil 2005.
    """
    levels = np.linspace(-HIGHEST_SCORE, HIGHEST_SCORE, 401)
    knots = levels, stdtrit(df, ndtr(levels))
    columns = slice(None), slice(None, split), slice(split, None)
    u = np.interp(scores, *knots)
    joint, first, second = (StudentDensity.fit(u[:, c], np.array([df]), iterations) for c in columns)

    def log_ratio(scores: np.ndarray) -> np.ndarray:
        u = np.interp(scores, *knots)
        return joint(u) - first(u[:, :split]) - second(u[:, split:])

    return log_ratio


def degrees_of_freedom(scores: np.ndarray, split: int) -> float:
    """The ν of the t copula whose log-ratio is largest on average."""
    some = scores[:SUBSAMPLE]
    gains = [float(np.mean(student_copula(some, split, df, 2)(some))) for df in COPULA_DEGREES]
    return COPULA_DEGREES[int(np.argmax(gains))]


def of_pairs(split: int) -> Callable[[np.ndarray, np.ndarray, Coordinates | None], References]:
    """How to fit `References` for a joint law P and the product Q of its marginals; the first `split` columns are X.

    A single column has the same law under both, so no reference is additive.
    """

    def fit(p: np.ndarray, q: np.ndarray, coordinates: Coordinates | None = None) -> References:
        standard, scores = coordinates or (Standard.fit(p, q), NormalScores.fit(p, q))
        ranks = [r for r in RANKS if r < min(split, p.shape[1] - split)] + [None]

        def of(kind: Standard | NormalScores) -> tuple[LogRatio, ...]:
            z_p, z_q = (np.clip(kind(rows), -LARGEST, LARGEST) for rows in (p, q))
            return (discriminant(z_p, z_q, 0.0), radial(z_p, z_q), *(canonical(z_p, split, r) for r in ranks))

        ranked = of(scores)
        if p.shape[1] <= WIDE:
            ranked += (student_copula(scores(p), split, degrees_of_freedom(scores(p), split)),)
        return References(standard, scores, of(standard), ranked, radial(standard(p), standard(q)))

    return fit
