"""Are P and Q the same? A test of D_f = 0 that is exact in finite samples, whatever the critic learned.

Rows of full precision that occur in both sets, or again in one, are copies. They are left out, for they say nothing of
a difference and cannot be relabelled alone.

Three fifths of the rows train two critics, each validated on the other's rows. On the rest, which they never saw, the
statistic is the variational bound of their mean. Under P = Q the labels of those rows are exchangeable, so the rank of
the statistic among its values under random relabellings is uniform: p ≤ α has probability at most α for every n.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from estimators.density_ratio.folds import MINIMUM, Rows, blocks, union, unthreaded
from estimators.density_ratio.plug_in import variational
from estimators.divergences.generator import FDivergence
from estimators.divergences.table import functional
from estimators.estimation import BadArgument, cautions, check_settings, labelled
from estimators.methods.neural import Fold, fit_critics, references
from estimators.samples.arrays import (
    DataError,
    Groups,
    Samples,
    as_samples,
    check_pair,
    constant_columns,
    discrete,
    own_rows,
    same_content,
)
from estimators.samples.matching import matched


@dataclass(frozen=True, kw_only=True)
class PermutationTest:
    """The outcome of a test of D_f(P‖Q) = 0.

    Attributes:
        p_value: (1 + relabellings with a statistic at least as large) / (1 + relabellings).
        statistic: the held-out bound on D_f on the n_p + n_q rows that test, nats.
        null: its values under the relabellings.
        warnings: what limits the test, in plain language.
    """

    divergence: str
    p_value: float
    statistic: float
    null: np.ndarray = field(repr=False)
    n_p: int
    n_q: int
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, d: FDivergence, values: np.ndarray, n_p: int, n_q: int, notes: Sequence[str]) -> Self:
        """The outcome of the statistic, first of `values`, among those under relabellings."""
        return cls(
            divergence=d.name,
            p_value=float(np.mean(values >= values[0] - 1e-12 * (1.0 + abs(values[0])))),
            statistic=float(values[0]),
            null=values[1:],
            n_p=n_p,
            n_q=n_q,
            warnings=tuple(notes),
        )


def permutation_test(
    x: Any,
    y: Any,
    divergence: str | FDivergence = "js",
    *,
    seed: int = 0,
    permutations: int = 999,
    nan_policy: str = "raise",
    groups: tuple[Any, Any] | None = None,
    dependence: str | None = None,
    drop: Sequence[Any] = (),
    categorical: Sequence[Any] = (),
) -> PermutationTest:
    """A test of D_f(P‖Q) = 0, exact for every number of samples.

    Args:
        x, y, nan_policy, groups, dependence, drop, categorical: as in `estimate`; here a group holds rows of one set
            only, which are relabelled together.
        divergence: whose held-out bound is the statistic.
        permutations: relabellings; p is at least 1/(permutations + 1).

    Raises:
        DataError, UnknownDivergence, ValueError: all ValueErrors, saying what to change.
    """
    d = functional(divergence).divergence
    check_settings(seed, 0.95)
    if permutations < 1:
        raise BadArgument(f"permutations = {permutations}: at least 1 is needed, 999 for p down to 0.001")
    options: dict[str, Any] = {"nan_policy": nan_policy, "drop": drop, "categorical": categorical}
    p, q = matched(*(as_samples(v, name=n, absent_ok=True, **options) for v, n in ((x, "x"), (y, "y"))))
    notes = [*p.notes, *q.notes, *check_pair(p, q)]
    if same_content(p.values, q.values):
        return PermutationTest.of(d, np.zeros(1 + permutations), len(p.values), len(q.values), notes)
    labels = labelled(p, q, groups, dependence)
    if labels is not None and np.intersect1d(*labels).size:
        raise BadArgument("a group with rows of both sets cannot be relabelled; give each set its own labels")
    notes += cautions(p, q, groups, dependence)
    if labels is None and not discrete(p.values, q.values):
        p, q, left_out = without_copies(p, q)
        notes += left_out
    varying = np.setdiff1d(np.arange(p.values.shape[1]), constant_columns(p.values, q.values).equal)
    if not len(varying):
        raise DataError("every column is constant and equal in both sets: there is nothing to test")
    categories = tuple(np.flatnonzero(np.isin(varying, list(p.levels))).tolist())
    with unthreaded(len(varying)):
        log_p, log_q, testing = _held_out(p.values[:, varying], q.values[:, varying], seed, labels, categories)
    units = np.arange(len(log_p) + len(log_q))  # what is relabelled together: a row, or a group
    if labels is not None:
        _, units = np.unique(np.concatenate([labels[0][testing.p], labels[1][testing.q]]), return_inverse=True)
    values = _statistics(d, log_p, log_q, units, seed, permutations)
    return PermutationTest.of(d, values, len(log_p), len(log_q), notes)


def without_copies(p: Samples, q: Samples) -> tuple[Samples, Samples, list[str]]:
    """The sets without rows of the other and without repeated rows, and what was left out, in words."""
    kept = own_rows(p.values, q.values)
    words = [
        f"{side.name}: {int((~own).sum())} of {len(own)} rows left out, which repeat another or occur in both sets"
        for side, own in zip((p, q), kept, strict=True)
        if not own.all()
    ]
    if words and min(own.sum() for own in kept) < MINIMUM:
        raise DataError(f"{'; '.join(words)}: {MINIMUM} a side are needed")
    first, second = (replace(side, values=side.values[own]) for side, own in zip((p, q), kept, strict=True))
    return first, second, words


def _held_out(
    x: np.ndarray, y: np.ndarray, seed: int, groups: Groups | None, categories: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, Rows]:
    """The mean critic's log-ratios of the testing rows of x and of y, and which rows these are: two fifths of all."""
    a, b, c, d, e = blocks(len(x), len(y), seed, groups)
    testing = union(a, b)
    if groups is None:  # half of the fifth block joins the rows of either critic
        p, q = len(e.p) // 2, len(e.q) // 2
        c, d = union(c, Rows(e.p[:p], e.q[:q])), union(d, Rows(e.p[p:], e.q[q:]))
    else:  # a group must not be cut: the fifth block joins the rows that test
        testing = union(testing, e)
    one, other = ((x[rows.p], y[rows.q]) for rows in (c, d))
    folds, fit = [Fold(*one, *other), Fold(*other, *one)], references(x, y, categories)
    critics, _ = fit_critics(folds, seed, fit_references=fit)
    log_p, log_q = (np.mean([f(rows) for f in critics], axis=0) for rows in (x[testing.p], y[testing.q]))
    return log_p, log_q, testing


def _statistics(
    d: FDivergence, log_p: np.ndarray, log_q: np.ndarray, units: np.ndarray, seed: int, permutations: int
) -> np.ndarray:
    """E_P[T] − E_Q[f*(T)] with the rows labelled as they are, then with their units relabelled; −∞ where that leaves a
    side empty."""
    pooled = np.concatenate([log_p, log_q])
    t, f_t = variational(d, pooled, pooled)
    rng, labels = np.random.default_rng(seed), np.arange(len(pooled)) < len(log_p)
    of_unit = np.zeros(units.max() + 1, bool)
    of_unit[units] = labels

    def statistic(labels: np.ndarray) -> float:
        return -np.inf if labels.all() or not labels.any() else float(t[labels].mean() - f_t[~labels].mean())

    return np.array([statistic(labels)] + [statistic(rng.permutation(of_unit)[units]) for _ in range(permutations)])
