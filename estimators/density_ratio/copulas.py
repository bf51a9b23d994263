"""References for dependence: log-ratios between the joint law P of two variables and the product Q of its marginals.

Columns have the same law under both, so no reference is additive; instead there are, beside those of `references`,

canonical        of a Gaussian dependence, in its leading canonical pairs
student_copula   of two variables that share one scale, whatever their marginals
paired           of columns that depend on each other in pairs, whatever their copulas, in the columns as they are and
                 in the independent components of X and of Z, which undo a mixing of the columns
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import ndtr, stdtrit

from estimators.contract import LogRatio
from estimators.density_ratio.entropies import HALF
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
GRIDS = (8, 16, 32)
"""Bins of a column in the copulas of pairs: for smooth densities, and for edges; validation rows weigh them."""
MATCHING = 8  # bins by which pairs are found
MOST_PAIRS = 256  # of columns to choose from: the histograms of more cost longer than the critics
TURNS = 60  # steps of FastICA: it converges in about ten where there are components to find
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


def matched(u: np.ndarray, split: int) -> list[tuple[int, int]]:
    """The pairs of a column of X and one of Z, each in one pair at most, whose informations have the largest sum.

    By histograms of ranks u [n, d_x + d_z] in (0, 1); a pair that shows no more than chance would is left out.
    """
    n, d = u.shape
    cells = np.minimum((u * MATCHING).astype(np.intp), MATCHING - 1)
    found = np.zeros((split, d - split))
    for j, k in np.ndindex(found.shape):
        counts = np.bincount(cells[:, j] * MATCHING + cells[:, split + k], minlength=MATCHING**2)
        margins = [np.bincount(cells[:, c], minlength=MATCHING) for c in (j, split + k)]
        expected = np.outer(*margins).ravel() / n
        seen = counts > 0
        found[j, k] = counts[seen] @ np.log(counts[seen] / expected[seen]) / n
    chance = (MATCHING - 1) ** 2 / (2 * n)  # its mean where nothing depends, and two deviations above it
    found -= chance + 2.0 * math.sqrt((MATCHING - 1) ** 2 / 2) / n
    return [(int(j), split + int(k)) for j, k in zip(*linear_sum_assignment(-found)) if found[j, k] > 0.0]


def paired(z: np.ndarray, pairs: list[tuple[int, int]], bins: int) -> LogRatio:
    """Σ log c(u_j, u_k) over pairs of columns, c the histogram, bins × bins, of ranks u = Φ(z) of the joint law.

    Both z [n, d], of its rows, and what it is given are normal scores. Exact, but for the bins, where pairs do not
    depend on each other.
    """

    def place(z: np.ndarray, j: int, k: int) -> np.ndarray:
        at = np.minimum((ndtr(z[:, [j, k]]) * bins).astype(np.intp), bins - 1)
        return at[:, 0] * bins + at[:, 1]

    tables = []
    for j, k in pairs:
        counts = np.bincount(place(z, j, k), minlength=bins**2).reshape(bins, bins)
        expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / len(z)
        tables.append(np.log((counts + HALF) / (expected + HALF)).ravel())
    return lambda rows: sum((t[place(rows, *pair)] for t, pair in zip(tables, pairs, strict=True)), np.zeros(len(rows)))


def in_pairs(z: np.ndarray, split: int) -> tuple[LogRatio, ...]:
    """`paired` on each of `GRIDS`, for the pairs that normal scores z [n, d] of the joint law show."""
    pairs = matched(ndtr(z), split)
    return tuple(paired(z, pairs, bins) for bins in GRIDS)


def in_components(z: np.ndarray, split: int) -> tuple[LogRatio, ...]:
    """`in_pairs` of the independent components of X and of Z, whose standardised rows z [n, d] are the joint law's."""
    mean = z.mean(axis=0)
    maps = [components(side) for side in np.split(z - mean, [split], axis=1)]

    def of(rows: np.ndarray) -> np.ndarray:
        return np.column_stack([side @ to for side, to in zip(np.split(rows - mean, [split], axis=1), maps)])

    scores = NormalScores.fit(of(z), of(z)[:0])
    return tuple(lambda rows, f=f: f(scores(of(rows))) for f in in_pairs(scores(of(z)), maps[0].shape[1]))


def components(rows: np.ndarray) -> np.ndarray:
    """The map [d, k] of centred rows [n, d] to their k most independent directions, each of variance 1.

    Source: FastICA with the contrast log cosh, all directions at once (Hyvärinen 1999).
    """
    variances, directions = np.linalg.eigh(rows.T @ rows / len(rows))
    kept = variances > 1e-10 * variances[-1]
    whiten = directions[:, kept] / np.sqrt(variances[kept])
    white, turn = rows @ whiten, np.eye(int(kept.sum()))
    for _ in range(TURNS):
        found = np.tanh(white @ turn)
        left, _, right = np.linalg.svd(white.T @ found / len(rows) - turn * (1.0 - found**2).mean(axis=0))
        before, turn = turn, left @ right
        if np.abs(np.sum(before * turn, axis=0)).min() > 1.0 - 1e-5:
            break
    return whiten @ turn


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

        plain, ranked = of(standard), of(scores)
        if p.shape[1] <= WIDE:
            ranked += (student_copula(scores(p), split, degrees_of_freedom(scores(p), split)),)
        if split * (p.shape[1] - split) <= MOST_PAIRS:
            ranked += in_pairs(scores(p), split)
            if p.shape[1] > 2:
                plain += in_components(standard(p), split)
        return References(standard, scores, plain, ranked, radial(standard(p), standard(q)))

    return fit
