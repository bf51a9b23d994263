"""Are P and Q the same? A test of D_f = 0 that is exact in finite samples, whatever the critic learned.

Three fifths of the rows train two critics, each judged by the other's rows. On the rest, which they never saw, the
statistic is the variational bound of their mean. Under P = Q the labels of those rows are exchangeable, so the rank of
the statistic among its values under random relabellings is uniform: p ≤ α has probability at most α for every n.

Layer 5: imports divergences, folds, functionals, neural.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from estimators.density_ratio.plug_in import variational
from estimators.divergences.table import FDivergence
from estimators.methods.neural import Fold, fit_critics
from estimators.samples.folds import Groups, Rows, blocks


@dataclass(frozen=True, kw_only=True)
class PermutationTest:
    """The outcome of a test of D_f(P‖Q) = 0.

    Attributes:
        p_value: (1 + relabellings with a statistic at least as large) / (1 + relabellings).
        statistic: the held-out bound on D_f on the testing rows, nats.
        null: its values under the relabellings.
        n_p, n_q: rows that test.
    """

    divergence: str
    p_value: float
    statistic: float
    null: np.ndarray
    n_p: int
    n_q: int


def permutation_test(
    x: np.ndarray,
    y: np.ndarray,
    divergence: FDivergence,
    *,
    seed: int = 0,
    permutations: int = 999,
    groups: Groups | None = None,
) -> PermutationTest:
    """A test of D_f(P‖Q) = 0 from samples x [n, d] of P and y [m, d] of Q.

    Args:
        divergence: whose bound is the statistic.
        permutations: relabellings.
        groups: labels of rows that are relabelled together; a group then holds rows of one set only.

    Raises:
        DataError: fewer than ten rows a side, or groups that do not spread.
    """
    testing, one, other = _split(len(x), len(y), seed, groups)
    critics, _ = fit_critics([Fold(*_rows(x, y, a), *_rows(x, y, b)) for a, b in ((one, other), (other, one))], seed)
    log_p, log_q = (np.mean([f(rows) for f in critics], axis=0) for rows in _rows(x, y, testing))
    pooled = np.concatenate([log_p, log_q])
    t, f_t = variational(divergence, pooled, pooled)
    null = np.random.default_rng(seed)
    labels = np.arange(len(pooled)) < len(log_p)
    units = _units(groups, testing)
    found = [_statistic(t, f_t, labels)]
    found += [_statistic(t, f_t, _relabelled(labels, units, null)) for _ in range(permutations)]
    values = np.array(found)
    return PermutationTest(
        divergence=divergence.name,
        p_value=float(np.mean(values >= values[0] - 1e-12 * (1.0 + abs(values[0])))),
        statistic=values[0],
        null=values[1:],
        n_p=len(log_p),
        n_q=len(log_q),
    )


def _split(n: int, m: int, seed: int, groups: Groups | None) -> tuple[Rows, Rows, Rows]:
    """Rows that test (two fifths of them all), and two halves of the rest."""
    a, b, c, d, e = blocks(n, m, seed, groups)
    half = len(e.p) // 2, len(e.q) // 2
    joined = [_join(a, b), c, d]
    halves = Rows(e.p[: half[0]], e.q[: half[1]]), Rows(e.p[half[0] :], e.q[half[1] :])
    if groups is not None:  # a group must not be cut: the fifth block joins the rows that test
        return _join(joined[0], e), c, d
    return joined[0], _join(c, halves[0]), _join(d, halves[1])


def _join(*parts: Rows) -> Rows:
    return Rows(np.concatenate([part.p for part in parts]), np.concatenate([part.q for part in parts]))


def _rows(x: np.ndarray, y: np.ndarray, index: Rows) -> tuple[np.ndarray, np.ndarray]:
    return x[index.p], y[index.q]


def _units(groups: Groups | None, testing: Rows) -> np.ndarray | None:
    """Which unit each testing row is relabelled with; None where each is its own."""
    if groups is None:
        return None
    return np.unique(np.concatenate([groups[0][testing.p], groups[1][testing.q]]), return_inverse=True)[1]


def _relabelled(labels: np.ndarray, units: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    if units is None:
        return rng.permutation(labels)
    of_unit = np.zeros(units.max() + 1, bool)
    of_unit[units] = labels
    return rng.permutation(of_unit)[units]


def _statistic(t: np.ndarray, f_t: np.ndarray, labels: np.ndarray) -> float:
    """E_P[T] − E_Q[f*(T)] with the rows labelled so; −∞ where a relabelling leaves a side empty."""
    if labels.all() or not labels.any():
        return -np.inf
    return float(t[labels].mean() - f_t[~labels].mean())
