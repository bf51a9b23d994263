"""The coordinates of a table's columns: each way there and back, and what the networks see."""

import json

import numpy as np
import pytest
import scipy

from estimators.samples.arrays import DataError
from estimators.samples.columns import decimals
from fgan.data.columns import Categories, Constant, Linear, Parts, Scores
from fgan.data.coordinates import Coordinates, Known, coordinates, straightness, uniforms

RNG = np.random.default_rng(5)
N = 4000
COLUMNS = {
    "log-normal": np.exp(RNG.normal(np.log(100.0), 1.0, N)),
    "student 1.2": RNG.standard_t(1.2, N),
    "uniform": RNG.uniform(-3.0, 5.0, N),
    "counts": RNG.poisson(1.5, N).astype(float),
    "rounded": np.round(40.0 + 12.0 * RNG.normal(size=N)),
    "cents": np.round(np.exp(RNG.normal(size=N)), 2),
    "zeros": np.where(RNG.random(N) < 0.4, 0.0, np.exp(RNG.normal(size=N))),
    "numbers": np.arange(N, dtype=float),
}


def maps(table: np.ndarray) -> Coordinates:
    return coordinates([known(column) for column in table.T])


def known(column: np.ndarray, **said) -> Known:
    facts = column.min(), column.max(), column.mean(), column.std()
    return Known(column, *map(float, facts), decimals=decimals(column), **said)


@pytest.mark.parametrize("name", COLUMNS)
def test_scores_are_normal_and_come_back(name):
    column = COLUMNS[name]
    made = maps(column[:, None])
    assert isinstance(made.columns[0], Scores) and made == Coordinates.from_json(json.loads(json.dumps(made.to_json())))
    z = made.encode(column[:, None], np.arange(N))
    assert z.dtype == np.float32 and scipy.stats.kstest(z[:, 0], "norm").statistic < 1.36 / np.sqrt(N)  # its 95 % point
    np.testing.assert_allclose(made.decode(z)[:, 0], column, rtol=2e-3, atol=2e-3 * np.median(np.abs(column)))


@pytest.mark.parametrize("name", COLUMNS)
def test_normal_samples_become_the_column(name):
    """Of a generator that makes normal numbers: the distribution, its range, its kind of numbers, its atoms."""
    column = COLUMNS[name]
    x = maps(column[:, None]).decode(np.random.default_rng(9).normal(size=(N, 1)))[:, 0]
    assert scipy.stats.ks_2samp(x, column).pvalue > 0.01
    assert column.min() <= x.min() and x.max() <= column.max()
    if name in ("counts", "rounded", "numbers"):
        np.testing.assert_array_equal(x, np.round(x))
    if name == "zeros":
        assert np.mean(x == 0.0) == pytest.approx(0.4, abs=4.0 * np.sqrt(2 * 0.24 / N))
    if name == "cents":
        np.testing.assert_array_equal(x, np.round(x, 2))


def test_gaussian_columns_are_linear_and_constants_leave():
    table = np.column_stack([RNG.normal(5.0, 1e-6, N), np.full(N, 3e-6), RNG.normal(1e9, 1e4, N)])
    made = maps(table)
    assert [type(c) for c in made.columns] == [Linear, Constant, Linear] and made.dim == 2
    z = made.encode(table, np.arange(N))
    np.testing.assert_allclose(z.std(axis=0), 1.0, rtol=1e-5)
    back = made.decode(10.0 * z)
    assert (back[:, 1] == 3e-6).all() and back[:, 0].max() > table[:, 0].max()
    assert made.notes(["a", "b", "c"]) == ("columns: b left out and put back",)


@pytest.mark.parametrize(
    ("draw", "straight"),
    [("normal", True), ("logistic", True), ("uniform", False), ("laplace", False), ("lognormal", False)],
)
def test_the_shape_of_a_column_decides(draw, straight):
    rng = np.random.default_rng(2)
    columns = np.stack([getattr(rng, draw)(size=1000) for _ in range(50)])
    assert np.mean([straightness(c) >= 0.98 for c in columns]) * (1 if straight else -1) >= (0.8 if straight else -0.1)


def test_values_never_seen_have_a_place():
    made = Scores.of(np.array([0.0, 0.0, 1.0, 4.0, 4.0, 4.0]), decimals=None)
    x = np.array([-9.0, 0.5, 2.0, 9.0])
    z = made.encode(x, np.full(4, 0.5))
    assert np.isfinite(z).all() and (np.diff(z[:, 0]) > 0).all()
    np.testing.assert_allclose(made.decode(z), [0.0, 0.5, 2.0, 4.0], atol=1e-12)


def test_the_numbers_of_rows_are_uniform_and_their_own():
    u = np.stack([uniforms(np.arange(20_000), j) for j in range(3)])
    assert all(scipy.stats.kstest(row, "uniform").pvalue > 0.001 for row in u)
    assert np.abs(np.corrcoef(u) - np.eye(3)).max() < 5.0 / np.sqrt(20_000)
    assert abs(np.corrcoef(u[0, 1:], u[0, :-1])[0, 1]) < 5.0 / np.sqrt(20_000)
    np.testing.assert_array_equal(uniforms(np.array([7, 3]), 1), u[1, [7, 3]])
    assert u.min() > 0.0 and u.max() < 1.0


@pytest.mark.parametrize("n, share", [(400, 0.05), (5000, 0.05), (5000, 0.02)])
def test_a_column_with_a_gap_is_taken_in_parts(n, share):
    few = int(share * n)
    column = np.concatenate([RNG.normal(size=n - few), RNG.normal(8.0, 0.3, few)])
    made = maps(column[:, None])
    assert isinstance(made.columns[0], Parts) and made == Coordinates.from_json(json.loads(json.dumps(made.to_json())))
    z = made.encode(column[:, None], np.arange(n))[:, 0]
    for part, centre in ((z[: n - few], 0.0), (z[n - few :], 8.0)):
        assert scipy.stats.kstest(part - centre, "norm").statistic < 1.36 / np.sqrt(len(part))
    np.testing.assert_allclose(made.decode(z[:, None])[:, 0], column, atol=2e-3)
    between = made.decode(np.linspace(3.5, 4.5, 50)[:, None])[:, 0]
    assert ((between <= column[: n - few].max()) | (between >= column[n - few :].min())).all()


@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "numbers"])
def test_a_column_without_a_gap_stays_whole(name):
    assert isinstance(maps(COLUMNS[name][:, None]).columns[0], Scores)


def test_categories_are_one_hot_and_come_back():
    codes = RNG.integers(4, size=N).astype(float)
    made = coordinates([known(codes, levels=4), known(RNG.normal(size=N))])
    assert isinstance(made.columns[0], Categories) and made.one_hot == ((0, 4),) and made.dim == 5
    z = made.encode(np.column_stack([codes, codes]), np.arange(N))
    np.testing.assert_array_equal(z[:, :4], np.eye(4)[codes.astype(int)])
    np.testing.assert_array_equal(made.decode(z + RNG.uniform(0.0, 0.49, z.shape))[:, 0], codes)
    assert made == Coordinates.from_json(json.loads(json.dumps(made.to_json())))


@pytest.mark.parametrize(
    "kind, expected", [("linear", Linear), ("scores", Scores), ("parts", Scores), ("whole", Scores)]
)
def test_the_user_may_say_of_which_kind_a_column_is(kind, expected):
    made = coordinates([known(RNG.normal(size=N), kind=kind)])
    assert isinstance(made.columns[0], expected)
    x = made.decode(RNG.normal(size=(100, 1)))
    assert np.array_equal(x, np.round(x)) == (kind == "whole")


def test_numbers_keep_their_decimals():
    tenths = np.round(RNG.normal(20.0, 3.0, N), 1)
    made = coordinates([known(tenths, kind="linear")])
    x = made.decode(RNG.normal(size=(100, 1)))
    np.testing.assert_array_equal(x, np.round(x, 1))


def test_a_table_without_anything_to_learn_is_refused():
    with pytest.raises(DataError, match="all columns are constant"):
        maps(np.tile([1.0, 2.0], (100, 1)))


def test_mixed_coordinates_are_uncorrelated_and_come_back():
    """Of columns that nearly depend on each other, and of one that is their sum."""
    a = RNG.normal(size=N)
    table = np.column_stack([a, a + 0.01 * RNG.normal(size=N), np.exp(RNG.normal(size=N)), RNG.integers(3, size=N)])
    table = np.insert(table, 2, table[:, 0] + table[:, 1], axis=1)
    made = coordinates([*(known(column) for column in table.T[:4]), known(table[:, 4], levels=3)])
    assert made == Coordinates.from_json(json.loads(json.dumps(made.to_json())))
    z = made.encode(table, np.arange(N))
    covariance = np.cov(z[:, :4].T)
    values = np.linalg.eigvalsh(covariance)
    assert values[0] < 1e-2 and np.allclose(values[1:], 1.0, atol=0.01)  # the sum leaves a flat direction
    np.testing.assert_allclose(made.decode(z)[:, [0, 1, 2]], table[:, :3], atol=1e-4)
    np.testing.assert_array_equal(made.decode(z)[:, 4], table[:, 4])
    np.testing.assert_allclose(made.unmixed(z), made.by_column(table, np.arange(N)), atol=1e-4)
