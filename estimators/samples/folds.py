"""Cross-fitting: the five blocks of rows that every cross-fitted method cuts the samples into.

For each held-out block, the other four make two pairs. One critic is trained on either pair and validated (stopped
early, chosen) on the other. So

    no reported number rests on a row that trained or chose its critic,
    the two critics of a block share no training row: their errors are independent, as `density_ratio.plug_in` assumes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from estimators.samples.arrays import DataError

BLOCKS = 5
MINIMUM = 2 * BLOCKS  # rows a side

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

    Raises:
        DataError: fewer than ten rows a side, or groups too few or too uneven for five blocks with rows of both sets.
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

    Raises:
        DataError: fewer than two groups.
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


def cross_fits(cut: list[Rows]) -> Iterator[tuple[CrossFit, CrossFit]]:
    """The two critics of each block: each trained on two of the other blocks and validated on the other two.

    A pair of blocks trains the critics of two held-out blocks, and is the same object in both.
    """
    pairs = [_union(cut[k], cut[(k + 1) % BLOCKS]) for k in range(BLOCKS)]
    for k, held_out in enumerate(cut):
        one, other = pairs[(k + 1) % BLOCKS], pairs[(k + 3) % BLOCKS]
        yield CrossFit(one, other, held_out), CrossFit(other, one, held_out)


def _union(a: Rows, b: Rows) -> Rows:
    return Rows(np.concatenate([a.p, b.p]), np.concatenate([a.q, b.q]))
