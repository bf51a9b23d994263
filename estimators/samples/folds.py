"""Cross-fitting: the five blocks of rows that every cross-fitted method cuts the samples into; and standard errors.

Samples of one group are not independent: a block holds all or none of them, and the standard error counts them as one.
For each held-out block, the other four make two pairs. One critic is trained on either pair and validated (stopped
early, chosen) on the other. So

    no reported number rests on a row that trained or chose its critic,
    the two critics of a block share no training row: their errors are independent, as `density_ratio.plug_in` assumes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from estimators.samples.arrays import DataError

BLOCKS = 5
MINIMUM = 2 * BLOCKS  # rows a side
WORTH_A_THREAD = 10_000  # rows from which threads gain more than they get in each other's way

Groups = tuple[np.ndarray, np.ndarray]


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
        n, m: rows of x and of y.
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
    made = [Rows(p, q) for p, q in zip(_members(in_p, BLOCKS), _members(in_q, BLOCKS), strict=True)]
    if min(min(len(b.p), len(b.q)) for b in made) < 2:
        raise DataError(
            f"the groups do not spread over {BLOCKS} blocks with rows of both sets; use more, smaller groups"
        )
    return made


def jackknife_blocks(n: int, most: int, seed: int, labels: np.ndarray | None = None) -> list[np.ndarray]:
    """At most `most` random blocks that make up n rows, to be left out in turn; rows of one label stay together.

    Raises DataError: fewer than two groups.
    """
    _, group = np.unique(np.arange(n) if labels is None else labels, return_inverse=True)
    groups = group.max() + 1
    if groups < 2:
        raise DataError("one group only: nothing can be left out; give at least two groups a set, or none")
    block = np.random.default_rng(seed).permutation(groups) % min(most, groups)
    return _members(block[group], min(most, groups))


def subsample(index: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """`most` of the rows at random, or all where there are no more."""
    return index if len(index) <= most else rng.choice(index, most, replace=False)


def _members(block: np.ndarray, number: int) -> list[np.ndarray]:
    """The rows of each block, given the block of each row."""
    return [np.flatnonzero(block == k) for k in range(number)]


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


def side_by_side(work: Callable[[Any], Any], items: Iterable[Any], rows: int) -> list[Any]:
    """`work` of each item of about `rows` rows, in threads where NumPy has enough to do outside the interpreter."""
    if rows < WORTH_A_THREAD:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        return list(threads.map(work, items))


def standard_error(influence: np.ndarray, n: int, groups: Groups | None = None) -> float:
    """Of the mean of `influence` [n + m] over draws of both sets, n and m fixed; over draws of groups if given.

    A row that belongs to several groups, [rows, k] labels, counts in the sum of each.
    """
    centred = influence - np.where(np.arange(len(influence)) < n, influence[:n].mean(), influence[n:].mean())
    if groups is not None:
        columns = [labels.reshape(len(labels), -1) for labels in groups]
        _, inverse = np.unique(np.concatenate([c.ravel() for c in columns]), return_inverse=True)
        sides = zip(np.split(centred, [n]), columns, strict=True)
        sums = np.bincount(inverse, np.concatenate([np.repeat(side, c.shape[1]) for side, c in sides]))
        return math.sqrt(len(sums) / max(len(sums) - 1.0, 1.0) * float(sums @ sums)) / len(influence)
    p, q = centred[:n], centred[n:]
    return math.sqrt(float(p @ p) * n / (n - 1.0) + float(q @ q) * len(q) / (len(q) - 1.0)) / len(influence)


def influence_of_means(on_p: np.ndarray, on_q: np.ndarray) -> np.ndarray:
    """The influence [n + m] of the samples on E_P[a] + E_Q[b], given a on P's samples [n] and b on Q's [m]."""
    n, m = len(on_p), len(on_q)
    return np.concatenate([on_p / n, on_q / m]) * (n + m)
