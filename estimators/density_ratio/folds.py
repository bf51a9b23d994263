"""Cross-fitting: the five blocks that the samples are cut into, and log-ratios of rows that their critics never saw.

Samples of one group are not independent: a block holds all or none of them. For each held-out block, the other four
make two pairs. One critic is trained on either pair and validated (stopped early, chosen) on the other. So

    no reported number rests on a row that trained or chose its critic,
    the two critics of a block share no training row: their errors are independent, as `plug_in` assumes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from estimators.contract import NOTHING, LogRatio, Request, Scores
from estimators.samples.arrays import DataError, Groups

BLOCKS = 5
MINIMUM = 2 * BLOCKS  # rows a side
FEW_COLUMNS = 256  # whose products of matrices one thread finishes in a millisecond
WORTH_A_THREAD = 10_000  # rows from which threads gain more than they get in each other's way


class Rows(NamedTuple):
    """Indices of rows of x and of y."""

    p: np.ndarray
    q: np.ndarray


class CrossFit(NamedTuple):
    """One critic's rows: those that train it, those that validate it, and the block for which it is reported."""

    train: Rows
    validation: Rows
    held_out: Rows


def blocks(n: int, m: int, seed: int, groups: Groups | None = None) -> list[Rows]:
    """Five random blocks of the rows of x and of y, as even as can be; rows of one group stay together.

    Args:
        groups: integer labels of the rows of x [n] and of y [m]; one label in both sets is one group.

    Raises DataError: fewer than ten rows a side, or groups that do not spread over five blocks with rows of both sets.
    """
    if min(n, m) < MINIMUM:
        raise DataError(f"{n} and {m} rows: cross-fitting over {BLOCKS} blocks needs {MINIMUM} a side")
    rng = np.random.default_rng(seed)
    if groups is None:
        cut_p, cut_q = (np.array_split(rng.permutation(size), BLOCKS) for size in (n, m))
        return [Rows(p, q) for p, q in zip(cut_p, cut_q, strict=True)]
    in_p, in_q = _deal(groups, rng)
    made = [Rows(np.flatnonzero(in_p == k), np.flatnonzero(in_q == k)) for k in range(BLOCKS)]
    if min(min(len(b.p), len(b.q)) for b in made) < 2:
        raise DataError(
            f"the groups do not spread over {BLOCKS} blocks with rows of both sets; use more, smaller groups"
        )
    return made


def subsample(index: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """`most` of the rows at random, or all where there are no more."""
    return index if len(index) <= most else rng.choice(index, most, replace=False)


def _deal(groups: Groups, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Block numbers of the rows of x and of y: each group, largest first, goes to the block that lacks it most."""
    labels, inverse = np.unique(np.concatenate(groups), return_inverse=True)
    n = len(groups[0])
    sizes = np.stack([np.bincount(part, minlength=len(labels)) for part in (inverse[:n], inverse[n:])], axis=1)
    share = sizes / np.maximum(sizes.sum(axis=0), 1)
    block, filled = np.empty(len(labels), np.int64), np.zeros((BLOCKS, 2))
    order = rng.permutation(len(labels))
    for g in order[np.argsort(-share[order].max(axis=1), kind="stable")]:
        block[g] = np.argmin((filled + share[g]).max(axis=1) + filled.sum(axis=1))
        filled[block[g]] += share[g]
    return block[inverse[:n]], block[inverse[n:]]


def cross_fits(cut: list[Rows]) -> list[CrossFit]:
    """The critics 2k and 2k + 1 of each block k: trained on two of the other blocks and validated on the other two.

    A pair of blocks trains the critics of two held-out blocks, and is the same object in both.
    """
    pairs = [union(cut[k], cut[(k + 1) % BLOCKS]) for k in range(BLOCKS)]
    either = [(pairs[(k + 1) % BLOCKS], pairs[(k + 3) % BLOCKS], cut[k]) for k in range(BLOCKS)]
    return [part for a, b, held_out in either for part in (CrossFit(a, b, held_out), CrossFit(b, a, held_out))]


def union(*parts: Rows) -> Rows:
    return Rows(np.concatenate([part.p for part in parts]), np.concatenate([part.q for part in parts]))


def unthreaded(columns: int) -> threadpool_limits:
    """Within it, linear algebra of rows with few columns runs in one thread.

    Beside another busy process, threads that wait for each other made an estimate of 20 columns six times slower.
    """
    return threadpool_limits(1 if columns <= FEW_COLUMNS else None, user_api="blas")


def side_by_side(work: Callable[[Any], Any], items: Iterable[Any], rows: int) -> list[Any]:
    """`work` of each item of about `rows` rows, in threads where NumPy has enough to do outside the interpreter."""
    if rows < WORTH_A_THREAD:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        return list(threads.map(work, items))


class HeldOut(NamedTuple):
    """Log-ratios of samples from critics that did not train on them.

    Attributes:
        log_p, log_q: log p/q of the samples of P [critics, n] and of Q [critics, m]; critics have independent errors.
        log_ratio: the mean of all critics.
        parametric: the held-out blocks, if the log-ratios are to be taken as they are, where sets that hardly overlap
            could not calibrate them. The disagreement of a block's critics then tells the error of their parameters.
        learning: how much the last half of the training rows taught the critics.
        fitted: log-ratios from the references of some critics, on the rows that they were fitted to and on others.
        units: rows of the smaller set that train a critic; groups of rows where rows depend on each other.
    """

    log_p: np.ndarray
    log_q: np.ndarray
    log_ratio: LogRatio | None = None
    diagnostics: Mapping[str, Any] = NOTHING
    parametric: list[Rows] | None = None
    learning: Learning | None = None
    fitted: Sequence[tuple[Scores, Scores]] = ()
    units: int = 0

    @classmethod
    def of(
        cls, request: Request, parts: list[CrossFit], critics: Sequence[Callable[..., np.ndarray]], **options: Any
    ) -> HeldOut:
        """Each sample's two log-ratios from the critics of its block, called with `options`: critics[c] of parts[c]."""
        log_p, log_q = np.empty((2, len(request.x))), np.empty((2, len(request.y)))

        def score(c: int) -> None:
            p, q = parts[c].held_out
            log_p[c % 2, p] = critics[c](request.x[p], **options)
            log_q[c % 2, q] = critics[c](request.y[q], **options)

        side_by_side(score, range(len(parts)), max(max(map(len, part.held_out)) for part in parts))
        return cls(log_p, log_q, lambda points: np.mean([f(points) for f in critics], axis=0))

    def mean(self) -> Scores:
        return Scores(self.log_p.mean(axis=0), self.log_q.mean(axis=0))

    def each(self) -> list[Scores]:
        return [Scores(p, q) for p, q in zip(self.log_p, self.log_q, strict=True)]

    def at(self, rows: Rows) -> HeldOut:
        """The log-ratios of some rows alone."""
        return HeldOut(self.log_p[:, rows.p], self.log_q[:, rows.q])


class Learning(NamedTuple):
    """Log-ratios of some `rows` from critics that trained on every second of their rows, from those of all, and from
    the references of these alone."""

    rows: Rows
    before: HeldOut
    now: HeldOut
    references: HeldOut
