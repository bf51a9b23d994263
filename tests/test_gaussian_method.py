"""Gaussian plug-in divergences: unbiased, covered by their intervals, and honest about what is not Gaussian."""

import math
from functools import cache

import numpy as np
import pytest

from estimators.contract import Fit, Request
from estimators.density_ratio.references import GaussianDensity
from estimators.distributions.examples import normal
from estimators.divergences.families import alpha
from estimators.divergences.generator import from_generator
from estimators.divergences.table import DIVERGENCES
from estimators.exact_values import gaussian as closed_forms
from estimators.exact_values.quadrature import exact_divergence
from estimators.methods import gaussian
from estimators.samples.arrays import DataError

DRAWS = 60
NAMES = ("kl", "reverse_kl", "jeffreys", "js", "total_variation", "squared_hellinger", "triangular", "pearson")
ROWS = [DIVERGENCES[name] for name in NAMES]
SWAPPED = [DIVERGENCES[name] for name in ("kl", "js", "total_variation", "pearson")]
"""One of each kind: a logarithm, bounded, with a kink, a power. Each reversed generator is compiled anew."""
SHIFT, SCALE = 0.7, 0.8


@cache
def exact(name: str) -> float:
    return exact_divergence(normal(SHIFT, SCALE).log_prob, normal(0.0, 1.0).log_prob, name)


def draw(seed: int, n: int = 400, d: int = 2, shift: float = SHIFT, scale: float = SCALE, m: int | None = None):
    """x ~ N(shift, scale²) and y ~ N(0, 1) in the first coordinate, N(0, 1) both in the others."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m or n, d))
    x[:, 0] = shift + scale * x[:, 0]
    return x, y


def fit(x, y, divergences=ROWS, **options) -> Fit:
    return gaussian.estimate(Request(x=x, y=y, divergences=divergences, method="gaussian", **options))


def numbers(intervals):
    return [interval[:4] for interval in intervals]


@pytest.fixture(scope="module")
def repeated():
    return [fit(*draw(seed), seed=seed).intervals for seed in range(DRAWS)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_values_are_unbiased_and_intervals_cover_the_truth(repeated, name):
    """The mean of 60 within 3.5 of its standard errors, 52 of 60 intervals of 95 % (fewer: 1 % of such tests)."""
    found = [intervals[NAMES.index(name)] for intervals in repeated]
    values = np.array([e.value for e in found])
    assert abs(values.mean() - exact(name)) < 3.5 * values.std() / math.sqrt(DRAWS)
    assert sum(e.low <= exact(name) <= e.high for e in found) >= 52
    assert 0.7 < np.mean([e.standard_error for e in found]) / values.std() < 1.4
    assert all(e.low <= e.value <= e.high <= DIVERGENCES[name].upper_limit() for e in found)


@pytest.mark.slow
@pytest.mark.parametrize("d, n, m", [(1, 8, 9), (4, 12, 30)])
def test_kl_is_unbiased_even_for_few_rows(d, n, m):
    """E of `unbiased_kl` is the truth, where the plug-in is off by many standard errors."""
    rng = np.random.default_rng(0)
    mean, deviations = np.full(d, 0.5), np.linspace(0.7, 1.2, d)
    truth = float(closed_forms.kl(mean, deviations**2, np.zeros(d), np.ones(d)))
    found, plug_in = [], []
    for _ in range(3000):
        p, q = (
            gaussian.fit(rows, "") for rows in (mean + deviations * rng.normal(size=(n, d)), rng.normal(size=(m, d)))
        )
        found.append(gaussian.unbiased_kl(p, q))
        trace = np.trace(np.linalg.solve(q.covariance, p.covariance + np.outer(p.mean - q.mean, p.mean - q.mean)))
        plug_in.append(0.5 * (trace - d + np.linalg.slogdet(q.covariance)[1] - np.linalg.slogdet(p.covariance)[1]))
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found) - truth) < 3.5 * error < abs(np.mean(plug_in) - truth)


def test_between_samples_of_one_distribution_intervals_hold_zero():
    found = [fit(*draw(seed, 200, 2, 0.0, 1.0)).intervals for seed in range(12)]
    held = [all(e.low <= 0.0 <= e.high for e in intervals) for intervals in found]
    assert sum(held) >= 10


def test_forty_nats_in_160_dimensions():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10_000, 160)), rng.normal(size=(10_000, 160))
    x[:, 1::2] = 0.795 * x[:, ::2] + math.sqrt(1.0 - 0.795**2) * x[:, 1::2]
    truth = -40.0 * math.log(1.0 - 0.795**2)
    (kl,) = fit(x, y, ROWS[:1]).intervals
    assert abs(kl.value / truth - 1.0) < 0.02 and kl.low <= truth <= kl.high


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pearson", "squared_hellinger", "geometric_js", "alpha(0.5)", "alpha(-0.3)"])
def test_closed_forms_and_draws_agree(name):
    row = DIVERGENCES.get(name) or alpha(float(name[6:-1]))
    mine = from_generator("mine", row.f, value_at_zero=row.value_at_zero, slope_at_infinity=row.slope_at_infinity)
    x, y = draw(0)
    closed, drawn = fit(x, y, [row, mine]).intervals
    assert closed.diagnostics["draw_error"] == 0.0 < drawn.diagnostics["draw_error"] < 0.05 * closed.standard_error
    assert drawn.value == pytest.approx(closed.value, abs=0.1 * closed.standard_error)
    assert drawn.standard_error == pytest.approx(closed.standard_error, rel=0.1)
    assert any("miss tails" in w for w in drawn.warnings) == math.isinf(row.upper_limit())


@pytest.mark.slow
def test_swapping_the_sets_reverses_the_divergence():
    x, y = draw(0, m=300)
    there = fit(x, y, SWAPPED).intervals
    back = fit(y, x, [row.reversed() for row in SWAPPED]).intervals
    for a, b in zip(there, back, strict=True):  # the blocks and the bias corrections differ
        assert abs(a.value - b.value) < 0.25 * a.standard_error and abs(a.standard_error / b.standard_error - 1.0) < 0.3


@pytest.mark.slow
def test_affine_maps_change_nothing():
    x, y = draw(0, d=3)
    turn = np.array([[3.0, 1.0, 0.0], [0.0, 0.01, 0.2], [1.0, 0.0, 50.0]])
    before, after = (fit(*sets).intervals for sets in ((x, y), (x @ turn + 7.0, y @ turn + 7.0)))
    for a, b in zip(before, after, strict=True):  # the draws turn with the axes
        assert abs(a.value - b.value) < 0.1 * a.standard_error
    assert np.allclose(numbers(before[:3]), numbers(after[:3]), rtol=1e-6)


def test_collinear_columns_are_left_out_where_both_sets_are_flat():
    x, y = draw(0)
    twice = [0, 1, 0]
    (before,), (after,) = (fit(*sets, ROWS[:1]).intervals for sets in ((x, y), (x[:, twice], y[:, twice])))
    assert after.value == pytest.approx(before.value) and any("2 of 3 dimensions" in w for w in after.warnings)


def test_what_cannot_be_fitted_is_refused():
    x, y = draw(0)
    with pytest.raises(DataError, match="do not vary in a direction"):
        fit(np.column_stack([x, np.zeros(400)]), np.column_stack([y, y[:, 0] ** 2]))
    with pytest.raises(DataError, match="4 rows of P in 2 dimensions"):
        fit(x[:4], y)
    with pytest.raises(DataError, match="one group only"):
        fit(x, y, groups=(np.zeros(400, int), np.arange(400)))
    with pytest.raises(DataError, match="constant"):
        fit(np.ones((9, 2)), np.ones((9, 2)))


def test_repeating_every_row_with_its_group_keeps_value_and_error():
    x, y = draw(0)
    copies = np.repeat(np.arange(400), 2)
    once = fit(x, y, groups=(np.arange(400), np.arange(400)))
    twice, blind = fit(x[copies], y[copies], groups=(copies, copies)), fit(x[copies], y[copies])
    for a, b, c in zip(once.intervals, twice.intervals, blind.intervals, strict=True):
        assert abs(a.value - b.value) < 0.2 * a.standard_error
        assert 0.9 < b.standard_error / a.standard_error < 1.1
        assert c.standard_error < 0.9 * a.standard_error


def test_infinite_divergences_of_the_fits_are_infinite():
    x, y = draw(0, shift=0.0, scale=2.0)
    pearson, neyman, kl = fit(x, y, [DIVERGENCES[name] for name in ("pearson", "neyman", "kl")]).intervals
    assert pearson.value == pearson.high == pearson.standard_error == math.inf and pearson.low == 0.0
    assert any("infinite" in w for w in pearson.warnings) and math.isfinite(neyman.high) and math.isfinite(kl.high)


@pytest.mark.slow
def test_the_log_ratio_is_that_of_the_densities():
    x, y = draw(0, 20_000, 1)
    points = np.linspace(-1.0, 2.0, 31)[:, None]
    true = np.asarray(normal(SHIFT, SCALE).log_prob(points) - normal(0.0, 1.0).log_prob(points))
    assert np.abs(fit(x, y, ROWS[:1]).log_ratio(points) - true).max() < 0.1


@pytest.mark.parametrize("bend, warned", [(lambda z: z, False), (np.exp, True), (np.tanh, True)])
def test_data_that_are_not_gaussian_are_called_so(bend, warned):
    found = fit(*map(bend, draw(0, 1000)), ROWS[:1])
    assert any("not Gaussian" in w for w in found.intervals[0].warnings) == warned
    assert (min(found.diagnostics["mardia_p"], found.diagnostics["mardia_q"]) < gaussian.UNLIKELY) == warned


def test_mardias_p_values_are_uniform_for_gaussian_data():
    rng = np.random.default_rng(0)
    sets = (rng.normal(size=(500, 3)) for _ in range(200))
    fits = ((rows, gaussian.fit(rows, "")) for rows in sets)
    small = sum(gaussian.mardia(rows, GaussianDensity.of(g.mean, g.covariance)) < 0.2 for rows, g in fits)
    assert abs(small - 40) < 3.5 * math.sqrt(200 * 0.2 * 0.8)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers():
    one, two, other = (numbers(fit(*draw(0), seed=seed).intervals) for seed in (1, 1, 2))
    assert one == two != other
