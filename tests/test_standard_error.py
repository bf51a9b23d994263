"""Standard errors of two means: of independent rows, of groups, and of rows that belong to two groups."""

import math

import numpy as np
import pytest
from scipy import stats

from estimators.density_ratio.standard_error import influence_of_means, standard_error


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
