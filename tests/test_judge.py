"""The judge of generated rows: what it finds of rows of the same law, and of rows that lack something."""

import numpy as np
import pytest
import scipy.stats

from estimators.divergences.table import divergence
from estimators.samples.arrays import as_samples
from estimators.samples.files import SampleSlice
from fgan.data.own_samples import of_slice
from fgan.data.tables import Form
from fgan.scores.judge import Judge, Table, column_distance, correlation_error, histograms, lines, missing

RNG = np.random.default_rng(8)
N = 2000


def clusters(share: float, n: int = N) -> np.ndarray:
    few = int(share * n)
    return RNG.permutation(np.concatenate([RNG.normal(size=(n - few, 2)), RNG.normal(8.0, 0.3, (few, 2))]))


def table(rows: np.ndarray) -> Table:
    return Table(rows, rows)


def test_a_column_is_as_far_as_scipy_says_and_categories_by_their_shares():
    x, y = RNG.normal(size=300), RNG.normal(0.3, 1.0, 500)
    assert column_distance(x, y, False) == pytest.approx(scipy.stats.ks_2samp(x, y).statistic)
    assert column_distance(np.repeat([0.0, 1.0, 2.0], [5, 3, 2]), np.repeat([0.0, 3.0], [4, 6]), True) == pytest.approx(
        0.6
    )


def test_the_error_of_correlations_leaves_constants_out():
    x = np.column_stack([RNG.normal(size=N), np.ones(N)])
    x = np.column_stack([x, x[:, 0] + RNG.normal(size=N)])
    y = RNG.normal(size=(N, 3))
    assert correlation_error(x, y) == pytest.approx(np.sqrt(0.5), abs=5.0 / np.sqrt(N))
    assert correlation_error(x, x) == 0.0 == correlation_error(x[:, :1], y[:, :1])


def test_a_lost_group_is_seen_and_an_equal_law_loses_nothing():
    real, held_out, same = clusters(0.05), clusters(0.05), clusters(0.05)
    without = RNG.normal(size=(N, 2))
    assert missing(held_out, real, same) < 0.004 > missing(same, same, real)
    assert missing(held_out, real, without) == pytest.approx(0.05, abs=0.005)
    between = np.concatenate([without[: N // 10] * 0.1 + 4.0, same[N // 10 :]])
    assert missing(between, between, real) == pytest.approx(0.1, abs=0.01)


def test_few_rows_have_no_places():
    assert missing(RNG.normal(size=(5, 2)), RNG.normal(size=(11, 2)), RNG.normal(size=(50, 2))) == 0.0


def test_histograms_are_of_the_columns_that_differ_most():
    real, made = RNG.normal(size=(N, 20)), RNG.normal(size=(N, 20))
    distances = np.linspace(0.0, 1.0, 20)
    shown = histograms(table(real[:100]), table(made), table(real[100:]), distances.tolist(), Form(levels={}))
    assert [column["name"] for column in shown] == [str(j + 1) for j in range(8, 20)]
    assert all(sum(column["real"]) == pytest.approx(0.99, abs=2e-3) for column in shown)


def test_categories_are_counted_one_by_one():
    codes = RNG.integers(3, size=(N, 1)).astype(float)
    form = Form(names=("site",), levels={0: ("a", "b", "c")})
    (column,) = histograms(table(codes[:100]), table(np.zeros((50, 1))), table(codes), [0.6], form)
    assert column["categories"] == ("a", "b", "c") and column["generated"] == [1.0, 0.0, 0.0]
    assert sum(column["real"]) == pytest.approx(1.0)


@pytest.mark.parametrize("lost", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_judge_tells_the_same_law_from_one_without_a_group(judged_in_full, lost):
    rows = clusters(0.1, 1500)
    samples = as_samples(rows)
    data = of_slice(SampleSlice(samples, 0, samples.values))
    judge = Judge(data, divergence("kl"))
    fresh = RNG.normal(size=(1200, 2)) if lost else clusters(0.1, 1200)
    found = judge(data.coordinates.encode(fresh, np.arange(len(fresh))), True)
    assert [d.name for d in judge.divergences] == ["kl", "js", "total_variation"]
    own = found["training_rows"]
    assert own["js_low"] <= 0.0 <= own["js_high"]
    truth = 0.5 * (0.1 * np.log(2.0) + 0.9 * np.log(2.0 * 0.9 / 1.9) + np.log(2.0 / 1.9)) if lost else 0.0
    assert found["js_low"] <= truth <= found["js_high"]
    assert (found["p_value"] < 0.01) == lost
    in_group = np.linalg.norm(data.own[1].own(slice(None)) - 8.0, axis=1) < 2.0
    assert found["lost_mass"] == pytest.approx(in_group.mean() if lost else 0.0, abs=0.01)
    assert found["ks"] == pytest.approx(0.1 if lost else 0.02, abs=0.03)
    said = lines(found)
    assert said[0].startswith("judged     kl ") and "mass lost" in said[-1] and "p = " in said[-1]
