"""References for dependence: log-ratios between the joint law P of two variables and the product Q of its marginals.

Columns have the same law under both, so no reference is additive; instead there are, beside those of `references`,

canonical        of a Gaussian dependence, in its leading canonical pairs
student_copula   of two variables that share one scale, whatever their marginals
"""

from __future__ import annotations

import math
from collections.abc import Callable

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


def canonical(joint: np.ndarray, split: int, rank: int | None) -> LogRatio:
    """log N(a, b; correlations ρ) − log N(a) N(b), summed over canonical pairs (a, b) of rows (x, z) [n, d_x + d_z].

    They are the `rank` leading pairs (Hotelling 1936); the first variable has `split` coordinates. Sample correlations
    are too large by chance, so ρ² is corrected to 1 − (1 − ρ²)(n − 1)/(n − d − 1), not below 0.
    """
    n, d = joint.shape
    mean = joint.mean(axis=0)
    centred = joint - mean
    (u_x, s_x, v_x), (u_z, s_z, v_z) = (
        np.linalg.svd(side, full_matrices=False) for side in np.split(centred, [split], axis=1)
    )
    keep_x, keep_z = (s > 1e-6 * s[0] for s in (s_x, s_z))
    left, sample, right = np.linalg.svd(u_x[:, keep_x].T @ u_z[:, keep_z], full_matrices=False)
    corrected = np.clip(1.0 - (1.0 - sample**2) * (n - 1.0) / max(n - d - 1.0, 1.0), 0.0, 0.9999)[:rank]
    to_a = math.sqrt(n) * (v_x[keep_x].T / s_x[keep_x]) @ left[:, :rank]
    to_b = math.sqrt(n) * (v_z[keep_z].T / s_z[keep_z]) @ right.T[:, :rank]
    rho = np.sqrt(corrected)
    rest = 1.0 - rho**2

    def log_ratio(rows: np.ndarray) -> np.ndarray:
        centred = rows - mean
        a, b = centred[:, :split] @ to_a, centred[:, split:] @ to_b
        return np.sum((rho * a * b - 0.5 * rho**2 * (a**2 + b**2)) / rest - 0.5 * np.log(rest), axis=1)

    return log_ratio


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
