"""Divergences of discrete laws from counts: sums, coverage, what was never seen, and what makes `auto` count."""

import math

import numpy as np
import pytest

import estimators as est
from estimators.contract import Request
from estimators.density_ratio.entropies import information
from estimators.divergences.table import DIVERGENCES
from estimators.methods import counts
from estimators.methods.counts import Counts, plugged_in
from estimators.samples.arrays import discrete
from estimators.samples.columns import decimals

NAMES = ("kl", "reverse_kl", "js", "total_variation", "squared_hellinger", "pearson")
ROWS = [DIVERGENCES[name] for name in NAMES]
LEVELS = 40
UP, DOWN = np.where(np.arange(LEVELS) % 2 == 0, [[9.0], [1.0]], [[1.0], [9.0]]) * 2.0 / (10.0 * LEVELS)
RARE = 1.0 / np.arange(1, 301)


def draw(p, q, seed: int, n: int = 2000, m: int | None = None):
    """Codes of the values, whose order means nothing."""
    rng = np.random.default_rng(seed)
    return tuple(rng.choice(len(w), k, p=w / w.sum())[:, None].astype(float) for w, k in ((p, n), (q, m or n)))


def fit(x, y, divergences=ROWS, **options):
    return counts.estimate(Request(x=x, y=y, divergences=divergences, method="counts", **options))


def truths(p, q):
    return [float(counts.of_shares(d, p / p.sum(), q / q.sum())) for d in ROWS]


@pytest.mark.parametrize("d", DIVERGENCES.values(), ids=repr)
def test_shares_are_plugged_into_the_sum(d):
    n, m = np.array([3.0, 0.0, 5.0, 2.0]), np.array([1.0, 4.0, 5.0, 0.0])
    p, q = n[[0, 2]] / 8, m[[0, 2]] / 6
    expected = float(np.sum(q * np.asarray(d.f(p / q), np.float64)))
    assert float(plugged_in(d, Counts(n[[0, 2]], m[[0, 2]]))) == pytest.approx(expected, rel=2e-6, abs=2e-6)
    atoms = float(counts.of_shares(d, n / n.sum(), m / m.sum()))  # a value of one set alone costs q f(0) or p f'(∞)
    both = float(np.sum(0.1 * m[[0, 2]] * np.asarray(d.f(n[[0, 2]] / m[[0, 2]]), np.float64)))
    assert atoms == pytest.approx(both + 0.4 * d.value_at_zero + 0.2 * d.slope_at_infinity, rel=1e-5)
    assert math.isfinite(float(plugged_in(d, Counts(n, m))))


@pytest.fixture(scope="module")
def repeated():
    """24 fits of laws far apart, of equal ones, and of ones with many rare values."""
    laws = {"apart": (UP, DOWN, 2000), "equal": (UP, UP, 500), "rare": (RARE, RARE**1.2, 2000)}
    return {
        name: (truths(p, q), [fit(*draw(p, q, seed, n)).intervals for seed in range(24)])
        for name, (p, q, n) in laws.items()
    }


@pytest.mark.parametrize("law", ["apart", "equal", "rare"])
def test_intervals_cover_the_truth(repeated, law):
    """Of 144 intervals of 95 % nine in ten, and of each divergence four in five."""
    truth, found = repeated[law]
    held = np.array([[e.low <= t <= e.high for t, e in zip(truth, intervals)] for intervals in found])
    assert held.mean() >= 0.9 and held.mean(axis=0).min() >= 0.8
    for intervals in found:
        assert all(d.value_at_one <= e.low <= e.value <= e.high for d, e in zip(ROWS, intervals))


@pytest.mark.parametrize("name", NAMES[:-1])  # pearson: a few rare values carry it
def test_values_have_little_bias_and_their_own_error(repeated, name):
    j, (truth, found) = NAMES.index(name), repeated["apart"]
    values, errors = (np.array([getattr(i[j], what) for i in found]) for what in ("value", "standard_error"))
    assert values.mean() == pytest.approx(truth[j], abs=4.0 * values.std(ddof=1) / math.sqrt(len(values)) + 0.01)
    assert 0.7 < errors.mean() / values.std(ddof=1) < 1.4


def test_a_share_of_zero_has_an_error_too():
    """Two values, one at 3 % of 30 rows: in four of ten samples it does not occur. Nine in ten of 60 intervals hold."""
    p, q = np.array([0.03, 0.97]), np.array([0.3, 0.7])
    truth, bounded = truths(p, q), [2, 3, 4]
    held = [
        [found[j].low <= truth[j] <= found[j].high for j in bounded]
        for found in (fit(*draw(p, q, seed, 30, 1000)).intervals for seed in range(60))
    ]
    assert np.mean(held, axis=0).min() >= 0.85


def test_what_one_set_never_took_leaves_kl_without_an_upper_end():
    p, q = np.array([0.25, 0.25, 0.25, 0.2, 0.05]), np.array([0.3, 0.3, 0.2, 0.2, 0.0])
    kl, reverse, js, tv, *_ = fit(*draw(p, q, 0, 5000)).intervals
    assert kl.high == math.inf and 0.0 < kl.low < kl.value and "5" in kl.warnings[0] and "infinite" in kl.warnings[0]
    assert reverse.low < truths(p, q)[1] < reverse.high < math.inf and not reverse.warnings
    assert js.high < 0.1 and tv.low < 0.1 < tv.high
    back = fit(*reversed(draw(p, q, 0, 5000))).intervals[1]
    assert back.high == math.inf and back.low == pytest.approx(kl.low, abs=0.01)


def test_more_rows_of_the_other_set_raise_what_is_certified():
    p, q = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    low = [fit(*draw(p, q, 0, 2000, m), [DIVERGENCES["kl"]]).intervals[0].low for m in (200, 2000, 20000)]
    assert low == sorted(low) and low[-1] - low[0] == pytest.approx(math.log(10), abs=0.5)


def test_names_and_order_of_the_values_mean_nothing():
    x, y = draw(UP, DOWN, 3)
    names = np.random.default_rng(0).permutation(LEVELS) * 7.0 - 3.0
    there = [np.column_stack([names[s.astype(int)], s % 2]) for s in (x, y)]  # a column that another decides
    for one, other in zip(fit(x, y).intervals, fit(*there).intervals):
        assert one[:4] == pytest.approx(other[:4], rel=1e-12)


def test_swapping_the_sets_reverses_the_divergence():
    x, y = draw(UP, DOWN, 4)
    one, other = fit(x, y).intervals, fit(y, x).intervals
    assert one[0].value == pytest.approx(other[1].value, abs=0.3 * one[0].standard_error)
    assert one[2].value == pytest.approx(other[2].value, abs=0.3 * one[2].standard_error)


def test_repeating_every_row_with_its_group_keeps_value_and_error():
    x, y = draw(UP, DOWN, 5)
    label = np.arange(len(x)), 10_000 + np.arange(len(y))
    alone = fit(x, y).intervals
    copied = fit(*(np.repeat(s, 4, axis=0) for s in (x, y)), groups=tuple(np.repeat(k, 4) for k in label)).intervals
    for d, one, other in zip(NAMES[:5], alone, copied):
        assert other.value == pytest.approx(one.value, abs=one.standard_error), d
        assert other.standard_error == pytest.approx(one.standard_error, rel=0.25), d


def test_the_log_ratio_is_that_of_the_shares():
    x, y = draw(UP, DOWN, 6)
    ratio = fit(x, y).log_ratio
    at = np.array([[0.0], [1.0], [999.0]])
    expected = [math.log((x == v).sum() / (y == v).sum()) for v in (0.0, 1.0)]
    assert ratio(at)[:2] == pytest.approx(expected) and ratio(at)[2] == 0.0


def test_rows_that_do_not_repeat_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(est.DataError, match="40 rows have 40 values"):
        fit(rng.normal(size=(20, 2)), rng.normal(size=(20, 2)))


# --- auto ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["codes", "one decimal", "float32", "two columns"])
def test_auto_counts_what_is_discrete(kind):
    x, y = draw(UP, DOWN, 8, 1000)
    if kind != "codes":
        x, y = x / 10.0, y / 10.0
    if kind == "float32":
        x, y = (s.astype(np.float32) for s in (x, y))
    if kind == "two columns":
        x, y = (np.column_stack([s, np.round(10 * s) % 3]) for s in (x, y))
    e = est.estimate(x, y, "js")
    assert e.method == "counts" and "discrete" in e.diagnostics["choice"] and e.low < truths(UP, DOWN)[2] < e.high
    assert not any("independent" in w for w in e.warnings)


def test_copies_of_measurements_are_not_counted():
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(30, 2))[rng.integers(0, 30, 400)] for _ in range(2))
    assert not discrete(x, y) and discrete(np.round(x), np.round(y))


@pytest.mark.parametrize(
    "values, digits",
    [([3.0, -7.0], 0), ([0.1, 2.0], 1), (np.float32([0.1, 2.25]), 2), ([1 / 3], None), ([1e12, 2e12 + 1 / 3], None)],
)
def test_decimals(values, digits):
    assert decimals(np.asarray(values, np.float64)) == digits
    assert decimals(np.array([1e30, 3e30])) is None  # whole numbers all, for want of digits
    assert decimals(np.arange(20_000.0)) == 0 and decimals(np.round(np.arange(3e3) / 7, 2).astype(np.float32)) == 2


def test_different_grids_are_named():
    rng = np.random.default_rng(2)
    x, y = rng.normal(20, 3, (4000, 1)), rng.normal(20, 3, (4000, 1))
    e = est.estimate(np.round(x, 1), np.round(y, 2), "kl")
    assert e.low < math.log(10) < e.high
    (warning,) = (w for w in e.warnings if "rounded differently" in w)
    assert "x to 1 decimals and y to 2 decimals" in warning and "--round 1" in warning
    same = est.estimate(np.round(x, 1), np.round(y, 2), "js", decimals=1)
    assert same.low <= 0.0 <= same.high < 0.05 and not any("differently" in w for w in same.warnings)
    assert any("rounded to 1 decimals" in w for w in same.warnings)


def test_mutual_information_of_codes():
    """log k for a relabelling, 0 for independent columns and for a constant, between for a noisy code."""
    rng = np.random.default_rng(6)
    x = rng.integers(0, 30, 3000)
    e = est.mutual_information(x, rng.permutation(30)[x])
    assert e.method == "counts" and e.low < math.log(30) < e.high and e.high - e.low < 0.1
    assert est.mutual_information(x, rng.integers(0, 30, 3000)).low == 0.0
    z = np.where(rng.random(3000) < 0.5, x, rng.integers(0, 30, 3000))
    share = np.full(30, 0.5 / 30) + 0.5 * (np.arange(30) == 0)
    noisy = est.mutual_information(x, z)
    assert noisy.low < math.log(30) + float(np.sum(share * np.log(share))) < noisy.high
    nothing = est.mutual_information(rng.normal(size=50), np.full(50, 7.0))
    assert (nothing.value, nothing.low, nothing.method) == (0.0, 0.0, "exact") and 0.0 < nothing.high < 0.6
    assert any("constant" in w for w in nothing.warnings)


@pytest.mark.parametrize("n", [300, 3000])
def test_independent_counts_have_no_information(n):
    """Ages, Poisson counts, rare values, rounded numbers: laws whose pairs are rare, where corrections fail."""
    laws = {
        "ages": lambda rng: rng.integers(18, 90, n),
        "Poisson": lambda rng: rng.poisson(10, n),
        "geometric": lambda rng: rng.geometric(0.05, n),
        "one decimal": lambda rng: np.round(rng.normal(size=n), 1),
        "Zipf": lambda rng: rng.choice(300, n, p=RARE / RARE.sum()),
    }
    for name, draws in laws.items():
        low = [
            information(*(np.unique(draws(rng), return_inverse=True)[1] for rng in seeds), 1.96).low
            for seeds in ((np.random.default_rng(i), np.random.default_rng(100 + i)) for i in range(20))
        ]
        assert np.mean(np.array(low) > 0.0) <= 0.1, name


def test_mutual_information_of_codes_covers_the_truth():
    """Forty tables of each kind: few rows a pair, and many."""
    law = np.eye(20) + 0.1
    law /= law.sum()
    truth = float(np.sum(law * np.log(law * 400)))
    for n in (800, 8000):
        held = []
        for seed in range(40):
            pair = np.random.default_rng(seed).choice(400, n, p=law.ravel())
            e = est.mutual_information(pair // 20, pair % 20)
            held.append(e.low <= truth <= e.high)
        assert np.mean(held) >= 0.9
