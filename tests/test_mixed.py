"""Categories beside numbers: shares, indicators, codes that mean nothing, and methods that cannot take them."""

import math

import numpy as np
import pandas as pd
import pytest

import estimators as est
from estimators import permutation
from estimators.contract import METHODS, Request
from estimators.density_ratio.mixed import HALF, MOST, RARE, Encoding, Shares, of_categories
from estimators.samples.arrays import DataError

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
WORDS = np.array(["b", "a", "c"])


def codes(seed: int, n: int = 4000):
    """A category, a number, and a category that is independent of both and the same in both sets: [n, 3] each."""
    rng = np.random.default_rng(seed)
    columns = [(rng.choice(3, n, p=p), rng.normal(size=n), rng.integers(0, 2, n)) for p in (P, Q)]
    return [np.column_stack(c).astype(float) for c in columns]


# --- tables -----------------------------------------------------------------------------------------------------------


def test_shares_are_those_of_counts():
    p, q = (np.repeat([3.0, 7.0, 9.0], counts)[:, None] for counts in ((10, 0, 30), (4, 6, 20)))
    table = Shares.fit(p, q, (0,))
    shares = [(np.array(c) + HALF) / (sum(c) + 3 * HALF) for c in ((10, 0, 30), (4, 6, 20))]
    points = np.array([[9.0], [3.0], [7.0], [5.0], [-1e9]])
    np.testing.assert_allclose(table(points), [*np.log(shares[0] / shares[1])[[2, 0, 1]], 0.0, 0.0])
    assert np.sum(shares[1] * np.exp(table(points)[[1, 2, 0]])) == pytest.approx(1.0)
    np.testing.assert_allclose(Shares.fit(q, p, (0,))(points), -table(points))


def test_shares_of_several_columns_are_those_of_their_pairs():
    """Two columns of fair coins, equal in P and independent in Q: log 2 where equal, and nothing in either alone."""
    p = np.repeat([[0.0, 0.0], [1.0, 1.0]], 1000, axis=0)
    q = np.repeat([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], 500, axis=0)
    np.testing.assert_allclose(Shares.fit(p, q, (0, 1))(q[[0, -1]]), math.log(2.0), atol=0.01)
    assert Shares.fit(p, q, (0, 1))(q[[500]])[0] < -6.0
    np.testing.assert_allclose(Shares.fit(p, q, (1,))(q), 0.0, atol=1e-12)


# --- indicators -------------------------------------------------------------------------------------------------------


def test_all_frequent_categories_but_the_first_have_an_indicator():
    rng = np.random.default_rng(0)
    often = np.r_[np.repeat([5.0, 2.0, 8.0], [500, 300, 180]), np.full(20, 7.0), np.full(19, 1.0)]  # 2 % are 20.38
    rows = np.column_stack([rng.normal(size=len(often)), often])
    found = Encoding.of(rows, (1,))
    assert found.numbers == (0,) and found.shown == ((1, 2.0), (1, 8.0))
    np.testing.assert_array_equal(found(rows), np.column_stack([rows[:, 0], often == 2.0, often == 8.0]))
    many = np.column_stack([rows[:, 0], np.arange(len(rows)) % 40])
    assert len(Encoding.of(many, (1,)).shown) == min(MOST, int(1.0 / RARE))
    rare = np.arange(300.0)[:, None]  # nothing frequent, and no numbers: something must be shown
    assert Encoding.of(rare, (0,))(rare).shape == (300, 1)


def test_references_hold_the_tables_and_those_of_the_numbers():
    p, q = codes(0)
    phi, points = of_categories(np.concatenate([p, q]), (0, 2))(p, q)(q)
    truth = np.log(P / Q)[q[:, 0].astype(int)]
    error = 5.0 * math.sqrt(2.0 / (P.min() * len(p)))  # of the log-ratio of two shares, in standard errors
    np.testing.assert_allclose(phi[:, -2], truth, atol=error)
    np.testing.assert_allclose(phi[:, -1], truth, atol=2.0 * error)
    np.testing.assert_allclose(points[:, -2], truth, atol=error)
    np.testing.assert_allclose(points[:, -1], 0.0, atol=error)
    assert np.corrcoef(phi[:, 0], truth)[0, 1] > 0.9  # a discriminant, of the indicators


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 0, 2]])
def test_codes_mean_nothing(order):
    """Other names for the categories, in another order, change no reference."""
    p, q = codes(1, 600)
    there = [np.column_stack([np.array(order)[s[:, 0].astype(int)] * 7.0, s[:, 1:]]) for s in (p, q)]
    one, other = (of_categories(np.concatenate(s), (0, 2))(*s)(s[0]) for s in ([p, q], there))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


# --- at the door ------------------------------------------------------------------------------------------------------


def frames(kind: str, n: int = 1000):
    """Two frames and KL: of independent columns, of equal laws, and of numbers whose sign the category decides."""
    rng, found = np.random.default_rng(3), []
    for side, (shares, shift) in enumerate(((P, 0.5), (Q, 0.0))):
        at = rng.choice(3, n, p=P if kind != "independent" else shares)
        mean = {"independent": shift, "equal": 0.0, "together": (at - 1.0) * (1.0 if side else -1.0)}[kind]
        found.append(pd.DataFrame({"word": WORDS[at], "x": mean + rng.normal(size=n)}))
    truth = {"independent": 0.125 + np.sum(P * np.log(P / Q)), "equal": 0.0, "together": 2.0 * (P[0] + P[2])}
    return *found, truth[kind]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["independent", *(pytest.param(k, marks=pytest.mark.slow) for k in ("equal", "together"))]
)
def test_a_category_and_a_number_beside_each_other(kind):
    x, y, truth = frames(kind)
    e = est.estimate(x, y, "kl")
    assert e.method == "neural" and e.low <= truth <= e.high < math.inf
    assert e.high - e.low < 0.3 + 0.3 * truth
    assert all("column 0 (word) holds text: taken as 3 categories" in w for w in e.warnings)


@pytest.mark.parametrize("method", METHODS)
def test_methods_take_categories_or_refuse_them_with_the_remedy(method):
    x, y = codes(2, 60)
    request = Request(x=x, y=y, divergences=[est.divergence("kl")], method=method, categories=(0,))
    if method in ("auto", "neural", "nwj", "dv", "counts"):
        return  # auto is tested above, counts by codes
    with pytest.raises(
        DataError, match=r"column 0 holds categories.*choose auto, neural or counts, or drop the column"
    ):
        METHODS[method](request)


def test_the_refusal_counts_columns_as_the_user_does():
    x, y, _ = frames("independent", 60)
    there = [pd.DataFrame({"one": 1.0, "x": frame.x, "word": frame.word}) for frame in (x, y)]
    with pytest.raises(DataError, match=r"column (2|word) .*holds categories"):
        est.estimate(*there, method="knn")
    assert math.isfinite(est.estimate(*there, method="knn", drop=["word"]).value)


def test_numbers_need_no_remedy():
    x, y = codes(2, 60)
    Request(x=x, y=y, divergences=[], method="knn").require_numbers()


# --- the permutation test ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_size_is_exact_with_a_category(monkeypatch):
    """Whatever is learned: for equal laws P(p ≤ α) = α, with 39 relabellings of a continuous statistic."""
    monkeypatch.setattr(
        permutation, "fit_critics", lambda *_, **__: ([lambda rows: rows[:, 1] * (1.0 + rows[:, 0])] * 2, {})
    )
    p, draws = [], 200
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        sides = [pd.DataFrame({"word": WORDS[rng.choice(3, 50, p=P)], "x": rng.normal(size=50)}) for _ in range(2)]
        p.append(est.permutation_test(*sides, seed=seed, permutations=39).p_value)
    for level in (0.05, 0.25):
        error = math.sqrt(level * (1.0 - level) / draws)
        assert abs(np.mean(np.array(p) <= level + 1e-12) - level) < 3.5 * error


@pytest.mark.slow
def test_categories_of_other_shares_are_told_apart():
    x, y, _ = frames("together", 400)
    found = est.permutation_test(x, y, permutations=199)
    assert found.p_value == 1 / 200 and found.statistic > 0.1
