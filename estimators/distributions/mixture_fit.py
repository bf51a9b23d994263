"""A mixture of Gaussians fitted to rows: expectation–maximisation, the number of components by Schwarz's criterion."""

from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.special

STARTS = 4
"""Starts by k-means++ (Arthur, Vassilvitskii 2007) for each number of components. Of a cluster with 2 % of the rows, 8
deviations from the rest, three starts of ten find it with two components."""
FIRST, STEPS = 10, 100
"""Steps from each start, and at most of the best one."""
SETTLED = 1e-5  # nats a row: a step that gains less is the last
SLACK = 2  # how many more components may fail to improve the criterion before the search ends


class MixtureFit(NamedTuple):
    """Σ_k w_k N(μ_k, L_k L_kᵀ) on d-dimensional rows, by falling weight."""

    weights: np.ndarray  # [k]
    means: np.ndarray  # [k, d]
    roots: np.ndarray  # [k, d, d], lower triangular

    def log_joint(self, x: np.ndarray) -> np.ndarray:
        """log w_k + log N(x; μ_k, L_k L_kᵀ), nats: [n, d] → [n, k]."""
        found = np.empty((len(x), len(self.weights)))
        for k, (weight, mean, root) in enumerate(zip(*self, strict=True)):
            z = scipy.linalg.solve_triangular(root, (x - mean).T, lower=True)
            found[:, k] = np.log(weight) - np.log(np.diagonal(root)).sum() - 0.5 * np.sum(z**2, axis=0)
        return found - 0.5 * x.shape[1] * np.log(2.0 * np.pi)


def mixture_fit(rows: np.ndarray, most: int, floor: float) -> MixtureFit:
    """The mixture of at most so many Gaussians for rows [n, d].

    Fewer components are taken where more do not lower −2 log L + p log n, p the number of parameters (Schwarz 1978). A
    covariance has `floor`² on its diagonal beside what the rows say. A component of n_k < 2d rows keeps n_k/2d of its
    correlations, which would fit noise; more keep all, for thin directions are thin by their correlations.
    """
    n, d = rows.shape
    best, least, failed = None, np.inf, 0
    for k in range(1, most + 1):
        if n < 2 * k * (d + 1):  # a component needs rows to tell its covariance
            break
        fit, log_likelihood = _best_of(rows, k, floor)
        criterion = -2.0 * log_likelihood + (k - 1 + k * d * (d + 3) / 2) * np.log(n)
        if best is None or criterion < least:
            best, least, failed = fit, criterion, 0
        else:
            failed += 1
        if failed == SLACK:
            break
    if best is None:
        best = _maximised(rows, np.ones((n, 1)), floor)
    order = np.argsort(-best.weights)
    return MixtureFit(*(part[order] for part in best))


def _best_of(rows: np.ndarray, k: int, floor: float) -> tuple[MixtureFit, float]:
    """(the likeliest mixture of k components, its log-likelihood)."""
    rng = np.random.default_rng(k)
    starts = [_climb(rows, _seeded(rng, rows, k), floor, FIRST) for _ in range(STARTS if k > 1 else 1)]
    _, joint = max(starts, key=lambda start: start[1].max(axis=1).sum())
    fit, joint = _climb(rows, scipy.special.softmax(joint, axis=1), floor, STEPS)
    return fit, float(scipy.special.logsumexp(joint, axis=1).sum())


def _climb(rows: np.ndarray, shares: np.ndarray, floor: float, steps: int) -> tuple[MixtureFit, np.ndarray]:
    """(the mixture, its `log_joint`) after at most so many steps from each row's shares [n, k] in the components."""
    last = -np.inf
    for _ in range(steps):
        fit = _maximised(rows, shares, floor)
        joint = fit.log_joint(rows)
        mean = float(np.mean(scipy.special.logsumexp(joint, axis=1)))
        if mean - last < SETTLED:
            break
        last, shares = mean, scipy.special.softmax(joint, axis=1)
    return fit, joint


def _seeded(rng: np.random.Generator, rows: np.ndarray, k: int) -> np.ndarray:
    """Shares [n, k] of rows in the nearest of k of them, each drawn by its squared distance from those before it."""
    centres = [rows[rng.integers(len(rows))]]
    nearest = np.full(len(rows), np.inf)
    while len(centres) < k:
        nearest = np.minimum(nearest, np.sum((rows - centres[-1]) ** 2, axis=1))
        total = nearest.sum()
        centres.append(rows[rng.choice(len(rows), p=nearest / total if total else None)])
    distances = np.stack([np.sum((rows - centre) ** 2, axis=1) for centre in centres], axis=1)
    return np.eye(k)[np.argmin(distances, axis=1)]


def _maximised(rows: np.ndarray, shares: np.ndarray, floor: float) -> MixtureFit:
    """The likeliest mixture where each row belongs to the components by its shares [n, k]."""
    d, counts = rows.shape[1], shares.sum(axis=0) + 1e-9
    means = shares.T @ rows / counts[:, None]
    roots = np.empty((len(counts), d, d))
    for k, (count, mean) in enumerate(zip(counts, means, strict=True)):
        centred = (rows - mean) * np.sqrt(shares[:, k] / count)[:, None]
        covariance = centred.T @ centred
        diagonal = np.diagonal(covariance)
        kept = min(1.0, count / (2 * d))
        roots[k] = np.linalg.cholesky(kept * covariance + np.diag((1.0 - kept) * diagonal + floor**2))
    return MixtureFit(counts / counts.sum(), means, roots)
