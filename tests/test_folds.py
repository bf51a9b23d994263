"""Cross-fitting: blocks are partitions, the rows of a critic are kept apart, groups stay whole and count once."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from threadpoolctl import threadpool_info, threadpool_limits

from estimators.density_ratio.folds import BLOCKS, FEW_COLUMNS, Rows, blocks, cross_fits, unthreaded
from estimators.density_ratio.plug_in import influence_of_means, standard_error
from estimators.samples.arrays import DataError

SIZES = st.integers(2 * BLOCKS, 90)


def both(rows: Rows) -> set[tuple[str, int]]:
    """Rows of x and of y, told apart by side."""
    return {("p", int(i)) for i in rows.p} | {("q", int(i)) for i in rows.q}


def everyone(n: int, m: int) -> list[tuple[str, int]]:
    return sorted([("p", i) for i in range(n)] + [("q", i) for i in range(m)])


def labelled(n: int, m: int, groups: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, groups, n), rng.integers(0, groups, m)


@given(SIZES, SIZES, st.integers(0, 2**32 - 1))
def test_every_row_is_in_exactly_one_block_and_blocks_are_even(n, m, seed):
    cut = blocks(n, m, seed)
    assert len(cut) == BLOCKS
    assert sorted(row for block in cut for row in both(block)) == everyone(n, m)
    assert max(np.ptp([len(b.p) for b in cut]), np.ptp([len(b.q) for b in cut])) <= 1


@given(SIZES, SIZES, st.booleans())
def test_training_validation_and_held_out_rows_are_apart_and_all_there_are(n, m, grouped):
    groups = (np.arange(n) // 2, 1000 + np.arange(m) // 2) if grouped and min(n, m) >= 20 else None
    held_out = []
    parts = cross_fits(blocks(n, m, 0, groups))
    for part in parts:
        train, validation, held = map(both, part)
        assert sorted([*train, *validation, *held]) == everyone(n, m)
    for one, other in zip(parts[::2], parts[1::2], strict=True):
        assert both(one.train).isdisjoint(both(other.train)) and both(one.validation).isdisjoint(both(other.validation))
        assert both(one.held_out) == both(other.held_out)
        held_out += both(one.held_out)
    assert sorted(held_out) == everyone(n, m)


@given(st.integers(25, 60), st.integers(0, 1000))
def test_groups_are_whole_even_across_the_two_sets(groups, seed):
    labels = labelled(300, 400, groups, seed)
    cut = blocks(300, 400, seed, labels)
    assert sorted(row for block in cut for row in both(block)) == everyone(300, 400)
    seen = [set(labels[0][b.p]) | set(labels[1][b.q]) for b in cut]
    assert sum(map(len, seen)) == len(set.union(*seen)), "a label is in two blocks"


def test_small_groups_make_blocks_nearly_even():
    cut = blocks(200, 100, 3, (np.arange(200) // 2, 1000 + np.arange(100) // 2))
    assert {len(b.p) for b in cut} == {40} and {len(b.q) for b in cut} == {20}


def test_the_seed_decides_the_blocks():
    one, again, other = (blocks(50, 40, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.p, again.p)
    assert both(one) != both(other)
    grouped = [blocks(200, 200, seed, (np.arange(200) // 2, 200 + np.arange(200) // 2))[0] for seed in (1, 1, 2)]
    assert both(grouped[0]) == both(grouped[1]) != both(grouped[2])


@pytest.mark.parametrize("n, m", [(9, 50), (50, 9), (0, 0)])
def test_too_few_rows_are_refused_with_the_number_needed(n, m):
    with pytest.raises(DataError, match=f"{n} and {m} rows.* 10 a side"):
        blocks(n, m, 0)


@pytest.mark.parametrize(
    "labels",
    [
        (np.zeros(50, int), np.zeros(50, int)),
        (np.arange(50) % 4, np.arange(50) % 4),
        (np.zeros(50, int), 1 + np.arange(50)),
    ],
    ids=["one", "four", "all of P in one"],
)
def test_groups_that_leave_a_block_without_rows_of_both_sets_are_refused(labels):
    with pytest.raises(DataError, match=r"groups do not spread over 5 blocks.* smaller groups"):
        blocks(50, 50, 0, labels)


# --- standard errors --------------------------------------------------------------------------------------------------


def influence(n: int, m: int) -> np.ndarray:
    return np.random.default_rng(4).normal(size=n + m)


def test_the_standard_error_is_that_of_two_means():
    values, n, m = influence(40, 60), 40, 60
    share = n / (n + m)
    expected = math.hypot(share * stats.sem(values[:n]), (1.0 - share) * stats.sem(values[n:]))
    assert standard_error(values, n) == pytest.approx(expected)


def test_groups_of_one_row_are_rows():
    values = influence(400, 600)
    groups = np.arange(400), 400 + np.arange(600)
    assert standard_error(values, 400, groups) == pytest.approx(standard_error(values, 400), rel=5e-3)


def test_rows_repeated_within_a_group_count_once():
    values = influence(400, 600)
    groups = np.repeat(np.arange(400), 3), 400 + np.repeat(np.arange(600), 3)
    thrice = np.repeat(values, 3)
    plain = standard_error(values, 400)
    assert standard_error(thrice, 1200, groups) == pytest.approx(plain, rel=5e-3)
    assert standard_error(thrice, 1200) == pytest.approx(plain / math.sqrt(3.0), rel=5e-3)


def test_a_label_in_both_sets_is_one_group():
    """Influences of a pair that cancel leave no error; as two groups they would."""
    noise = influence(300, 0)
    values, shared = np.r_[noise, -noise], (np.arange(300), np.arange(300))
    assert standard_error(values, 300, shared) < 1e-12 < standard_error(values, 300, (shared[0], 300 + shared[1]))


def test_a_row_of_two_groups_counts_in_both():
    """Pairs (i, j) of 30 and 20: the error is that of both effects."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=30), rng.normal(size=20)
    i, j = (index.ravel() for index in np.indices((30, 20)))
    labels = np.stack([i, 30 + j], axis=1)
    values = np.r_[a[i] - a.mean() + b[j] - b.mean(), np.zeros(50)]
    q = 50 + np.stack([np.arange(50), 50 + np.arange(50)], axis=1)
    found = standard_error(values, 600, (labels, q)) * (650 / 600)
    assert found == pytest.approx(math.hypot(stats.sem(a), stats.sem(b)), rel=0.1)


def test_the_influence_on_a_difference_of_means():
    """Its mean is the difference, and its standard error that of two means."""
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=40), 3.0 + rng.normal(size=60)
    found = influence_of_means(a, -b)
    assert found.mean() == pytest.approx(a.mean() - b.mean())
    assert standard_error(found, 40) == pytest.approx(math.hypot(stats.sem(a), stats.sem(b)))


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns, inside", [(8, 1), (FEW_COLUMNS, 1), (FEW_COLUMNS + 1, 2)])
def test_small_matrices_are_multiplied_in_one_thread_and_the_others_as_before(columns, inside):
    def threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        with unthreaded(columns):
            assert threads() == {inside}
        assert threads() == {2}
