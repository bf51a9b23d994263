"""What one set never shows of the other: found where it is so, none where both have the same support, certified."""

import math

import numpy as np
import pytest
from scipy import stats

import estimators as est
from estimators import estimation
from estimators.contract import Fit, Interval, Request
from estimators.unseen import allowed_for, certified, hard_end, regions

NAMES = ("kl", "reverse_kl", "jeffreys", "js", "total_variation")
UNBOUNDED = {"x": {"kl", "jeffreys"}, "y": {"reverse_kl", "jeffreys"}}  # by the set that has what the other lacks
FOUND = Interval(0.3, 0.2, 0.4, 0.05)


def request(x, y, **options) -> Request:
    return Request(x=x, y=y, divergences=[est.divergence(name) for name in NAMES], method="neural", **options)


def alarms(x, y, **options) -> list[list[str]]:
    """What x has and y lacks, and the other way round."""
    asked, sides = request(x, y, **options), [("x", "y"), ("y", "x")]
    return [[r.why for r in regions(*rows, asked, of)] for rows, of in zip(((x, y), (y, x)), sides, strict=True)]


def binary_kl(p: float, q: float) -> float:
    return float(stats.entropy([p, 1.0 - p], [q, 1.0 - q]))


# --- where there is something -----------------------------------------------------------------------------------------


def mixed(seed: int, kind: str, n: int = 1000):
    """x with something that y lacks in its second column, and what that is in words."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n, 2))
    if kind == "category":
        x[:, 1], y[:, 1] = rng.choice(3, n, p=[0.5, 0.45, 0.05]), rng.integers(0, 2, n)
        return x, y, {"categories": (1,)}, "have a category of column 1"
    if kind == "atom":
        x[:, 1] = np.where(rng.random(n) < 0.3, 0.0, x[:, 1])
        return x, y, {}, "have the value 0 in column 1"
    x[:, 1], y[:, 1] = rng.uniform(0.0, 10.0, n), rng.uniform(0.0, 1.0, n)
    return x, y, {}, "(column 1)"


KINDS = ["category", "atom", "end"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_other_set_lacks_leaves_no_upper_end(kind):
    """Only of divergences that may be infinite for it, from either side; the rest stay as they were."""
    x, y, options, words = mixed(0, kind)
    lacking, none = alarms(x, y, **options)
    assert len(lacking) == 1 and words in lacking[0] and none == []
    for side, pair in (("x", (x, y)), ("y", (y, x))):
        fit = Fit("neural", [FOUND] * len(NAMES))
        for name, e in zip(NAMES, allowed_for(fit, request(*pair, **options)).intervals, strict=True):
            if name not in UNBOUNDED[side]:
                assert e is FOUND
                continue
            assert e.high == math.inf and 0.0 < e.low <= e.value and words in e.warnings[0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_both_sets_have_raises_no_alarm(kind):
    x, _, options, _ = mixed(0, kind)
    y = mixed(1, kind)[0]
    fit = Fit("neural", [FOUND] * len(NAMES))
    assert alarms(x, y, **options) == [[], []] and allowed_for(fit, request(x, y, **options)) is fit


def test_normal_laws_have_no_end():
    """N(0, 1) and N(½, 1) in five columns: of 100 draws two may seem to have one, either way."""
    found = np.zeros(2)
    for seed in range(100):
        x, y = np.random.default_rng(seed).normal(size=(2, 1000, 5))
        found += [bool(side) for side in alarms(x, y + 0.5)]
    assert found.max() <= 2


ENDS = {"uniform": (stats.uniform, 1.0), "beta": (stats.beta(2, 1), 1.0), "normal": (stats.norm, None)}
ENDS |= {"t": (stats.t(3), None), "exponential": (stats.expon, None)}


@pytest.mark.parametrize("law, end", ENDS.values(), ids=ENDS)
def test_an_end_is_hard_where_the_density_stops(law, end):
    """Just beyond it: ten gaps of the rows there, each 1/(n f(end))."""
    n, found = 1000, []
    for seed in range(40):
        found.append(hard_end(law.rvs(size=n, random_state=seed)))
    found = np.array(found)
    assert np.isinf(found).mean() <= 0.05 if end else np.isinf(found).mean() >= 0.9
    if end:
        assert (found[np.isfinite(found)] > end).mean() > 0.95 and np.median(found) < end + 20.0 / (n * law.pdf(0.999))


# --- what is certified ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("side, name", [(0, "kl"), (1, "reverse_kl")])
def test_the_certified_value_is_that_of_shares_at_their_ends(side, name, confidence):
    """Wilson's end of the share in one set, and the most that the other may have; groups count, not their rows."""
    d, rows = est.divergence(name), np.zeros((400, 1))
    expected = binary_kl(stats.binomtest(120, 400).proportion_ci(confidence, "wilson").low, 0.004)
    asked = request(rows, rows, confidence=confidence)
    assert certified(d, 0.3, 0.004, side, asked) == pytest.approx(expected, rel=1e-5)
    assert certified(d, 0.3, 0.3, side, asked) == d.value_at_one
    labels, four = np.repeat(np.arange(400), 4), np.repeat(rows, 4, axis=0)
    asked = request(four, four, confidence=confidence, groups=(labels, 400 + labels))
    assert certified(d, 0.3, 0.004, side, asked) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["category", "atom"])
@pytest.mark.parametrize("expected_rows", [0.3, 1.0, 3.0])
def test_a_share_too_small_to_be_seen_costs_no_coverage(kind, expected_rows):
    """The other set has the value after all, in so many rows of 500: one low end in twenty may lie above the truth."""
    n, p, q = 500, 0.1, expected_rows / 500
    truth, rng, above = binary_kl(p, q), np.random.default_rng(0), []
    options = {"categories": (0,)} if kind == "category" else {}
    for _ in range(300):
        x, y = (np.where(rng.random((n, 1)) < share, 0.0, rng.normal(size=(n, 1))) for share in (p, q))
        x, y = ((x == 0.0) * 1.0, (y == 0.0) * 1.0) if kind == "category" else (x, y)
        fit = Fit("neural", [FOUND._replace(low=0.0)] * len(NAMES))
        above.append(allowed_for(fit, request(x, y, **options)).intervals[0].low > truth)
    assert np.mean(above) <= 0.05 + 3.0 * math.sqrt(0.05 * 0.95 / 300)


# --- at the door ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_uniform_laws_one_within_the_other():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.0, 10.0, (1500, 1)), rng.uniform(0.0, 1.0, (1500, 1))
    kl, reverse, tv = est.estimate(x, y, ["kl", "reverse_kl", "total_variation"])
    most = (math.log(20.0) + math.log(2.0)) / 1500  # of two ends that may be; nine tenths lie beyond, less their error
    assert kl.high == math.inf and binary_kl(0.87, most) <= kl.low <= kl.value
    assert any("where y seems to end" in w and "no upper end" in w for w in kl.warnings)
    assert reverse.low <= math.log(10.0) <= reverse.high < math.inf and tv.low <= 0.9 <= tv.high
    assert not any("seems to end" in w for e in (reverse, tv) for w in e.warnings)


def test_warnings_count_columns_as_the_user_does(monkeypatch):
    """A constant column before it, which no method sees, does not shift the number."""
    monkeypatch.setattr(estimation, "METHODS", {"auto": lambda asked: Fit("stub", [FOUND])})
    for kind in KINDS[1:]:
        x, y, _, words = mixed(0, kind)
        there = [np.column_stack([np.ones(len(rows)), rows]) for rows in (x, y)]
        warning = est.estimate(*there).warnings[-1]
        assert words.replace("column 1", "column 2") in warning
