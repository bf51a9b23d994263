"""Rows in the order of time: correlation times against theory, no alarm for independent rows, blocks, the warning."""

import math

import numpy as np
import pytest

import estimators as est
from estimators.estimation import BadArgument
from estimators.methods import neural
from estimators.samples.series import (
    FALSE_ALARM,
    FEWEST_GROUPS,
    block_length,
    caution,
    correlation_time,
    time_blocks,
    too_short,
)


def ar(seed: int, n: int, rho: float, d: int = 1) -> np.ndarray:
    """A stationary AR(1) series of standard normal rows."""
    rng = np.random.default_rng(seed)
    noise, rows = rng.normal(size=(n, d)) * math.sqrt(1.0 - rho**2), np.empty((n, d))
    rows[0] = rng.normal(size=d)
    for i in range(1, n):
        rows[i] = rho * rows[i - 1] + noise[i]
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.5, 0.9, 0.98])
def test_the_correlation_time_is_that_of_theory(rho):
    """τ = (1 + ρ)/(1 − ρ); the ranks of a Gaussian have correlations 6/π asin(ρ/2), a little smaller."""
    lags = np.arange(1, 2000)
    expected = 1.0 + 2.0 * np.sum(6.0 / math.pi * np.arcsin(0.5 * rho**lags))
    found = [correlation_time(ar(seed, 40_000, rho)) for seed in range(6)]
    assert np.mean(found) == pytest.approx(expected, rel=0.15)
    assert correlation_time(np.exp(ar(0, 40_000, rho))) == found[0]  # ranks
    both = np.column_stack([np.random.default_rng(0).normal(size=40_000), ar(0, 40_000, rho)])
    assert correlation_time(both) == found[0]


def test_independent_rows_raise_no_alarm():
    rng = np.random.default_rng(0)
    alarms = sum(correlation_time(rng.normal(size=(200, 3))) > 1.0 for _ in range(1000))
    assert alarms <= 1000 * FALSE_ALARM + 3
    assert correlation_time(np.ones((50, 1))) == 1.0 and correlation_time(rng.normal(size=(5, 2)).cumsum(0)) == 1.0


def test_a_trend_or_sorted_rows_are_one_long_dependence():
    assert correlation_time(np.sort(np.random.default_rng(0).normal(size=(500, 1)), axis=0)) > 50
    assert "shuffle" in caution(np.arange(500.0)[:, None], "x") and caution(ar(0, 500, 0.0), "x") == ""


def test_blocks_are_stretches_of_two_correlation_times():
    rows = ar(1, 20_000, 0.9)
    length = block_length(rows, ar(3, 10_000, 0.5))
    assert length == math.ceil(2.0 * correlation_time(rows)) and too_short(rows, length, "x") == ""
    sizes = np.bincount(time_blocks(20_000, length))
    assert sizes[0] == sizes[:-1].min() == length <= sizes[-1] < 2 * length
    short = ar(2, 200, 0.98)
    assert block_length(rows, short) == 200 // FEWEST_GROUPS and "too short" in too_short(short, 20, "x")
    assert np.array_equal(time_blocks(5, block_length(ar(3, 60, 0.0))), [0, 0, 1, 1, 1])


# --- front doors -----------------------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch, short_training):
    monkeypatch.setattr(neural, "SCHEDULE", neural.Schedule(rounds=3, round_steps=20, batch=32))


@pytest.mark.slow
def test_two_stretches_of_one_series_are_told_to_depend_and_intervals_in_time_hold_zero(short):
    x, y = ar(0, 2000, 0.95), ar(1, 2000, 0.95)
    plain = est.estimate(x, y, "js")
    assert sum("independent ones" in w and "dependence='time'" in w for w in plain.warnings) == 2
    held = est.estimate(x, y, "js", dependence="time")
    assert held.low <= 0.0 <= held.high and held.standard_error > 1.5 * plain.standard_error
    assert not any("independent ones" in w for w in held.warnings)
    rounded = est.estimate(np.round(x, 2), np.round(y, 2), "js")  # equal rows are no groups of the user's
    assert sum("independent ones" in w for w in rounded.warnings) == 2
    with pytest.raises(BadArgument, match="give one of them"):
        est.estimate(x, y, "js", dependence="time", groups=(np.arange(2000), np.arange(2000)))
    with pytest.raises(BadArgument, match="'time'"):
        est.estimate(x, y, "js", dependence="space")


@pytest.mark.slow
def test_two_independent_series_have_no_information_in_time(short):
    x, z = ar(10, 1500, 0.97), ar(11, 1500, 0.97)
    assert sum("independent ones" in w for w in est.mutual_information(x, z).warnings) == 2
    held = est.mutual_information(x, z, dependence="time")
    assert held.low <= 0.0 <= held.high and not any("independent ones" in w for w in held.warnings)
    alone = est.mutual_information(np.round(x), np.random.default_rng(0).integers(0, 3, 1500))
    assert not any("independent ones" in w for w in alone.warnings)  # one series beside independent rows
    with pytest.raises(BadArgument, match="without groups"):
        est.mutual_information(x, z, dependence="time", groups=np.arange(1500))


@pytest.mark.slow
def test_in_time_intervals_cover_zero_and_tests_reject_no_more_than_they_may():
    """AR(1) with 0.98: four pairs of one law; without `dependence` every test rejects."""
    held, p = [], []
    for seed in range(4):
        x, y = ar(2 * seed, 4000, 0.98), ar(2 * seed + 1, 4000, 0.98)
        e = est.estimate(x, y, "js", dependence="time")
        held.append(e.low <= 0.0 <= e.high)
        p.append(est.permutation_test(x, y, permutations=199, dependence="time").p_value)
    assert sum(held) >= 3 and sum(v <= 0.05 for v in p) <= 1
