"""Kernel logistic log-ratios: held out, near the densities', and plugged in like a critic's."""

from functools import cache

import numpy as np
import pytest
from scipy import stats

from estimators.contract import Fit, Request
from estimators.density_ratio.folds import blocks
from estimators.distributions.examples import normal
from estimators.divergences.table import DIVERGENCES
from estimators.exact_values.quadrature import exact_divergence
from estimators.methods import ratio
from estimators.samples.arrays import DataError

DRAWS = 5
NAMES = ("kl", "reverse_kl", "jeffreys", "js", "total_variation", "squared_hellinger", "triangular", "pearson")
ROWS = [DIVERGENCES[name] for name in NAMES]
SHIFT, SCALE = 0.7, 0.8


@cache
def exact(name: str) -> float:
    return exact_divergence(normal(SHIFT, SCALE).log_prob, normal(0.0, 1.0).log_prob, name)


@pytest.fixture(autouse=True, scope="module")
def short():
    """Half the widths and ridges."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ratio, "WIDTHS", (1.0, 2.0))
        patch.setattr(ratio, "RIDGES", (1e-2, 1.0))
        yield


def draw(seed: int, n: int = 600, d: int = 2, shift: float = SHIFT, scale: float = SCALE, m: int | None = None):
    """x ~ N(shift, scale²) and y ~ N(0, 1) in the first coordinate, N(0, 1) both in the others."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m or n, d))
    x[:, 0] = shift + scale * x[:, 0]
    return x, y


def request(x, y, divergences=ROWS, **options) -> Request:
    return Request(x=x, y=y, divergences=divergences, method="ratio", **options)


def fit(*samples, **options) -> Fit:
    return ratio.estimate(request(*samples, **options))


def numbers(fitted: Fit):
    return [interval[:4] for interval in fitted.intervals]


@pytest.fixture(scope="module")
def repeated():
    return [fit(*draw(seed, 1000), seed=seed).intervals for seed in range(DRAWS)]


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_is_within_errors(repeated, name):
    """3.5 standard errors for each draw, 2.5 of the mean's for all, which the bias must not use up."""
    found = [intervals[NAMES.index(name)] for intervals in repeated]
    assert all(abs(e.value - exact(name)) < 3.5 * e.standard_error for e in found)
    assert all(e.low <= e.value <= e.high <= DIVERGENCES[name].upper_limit() for e in found)
    error = np.mean([e.standard_error for e in found])
    assert abs(np.mean([e.value for e in found]) - exact(name)) < 2.5 * error / np.sqrt(DRAWS) + 0.05 * exact(name)
    assert error < 0.3 * exact(name)


@pytest.mark.slow
def test_between_samples_of_one_distribution_intervals_hold_zero():
    smooth = [d for d in ROWS if d.smooth]
    found = [fit(*draw(seed, 300, 2, 0.0, 1.0), smooth, seed=seed).intervals for seed in range(4)]
    assert all(e.low <= 0.0 <= e.high for fits in found for e in fits)


def test_no_row_is_scored_by_a_fit_that_saw_it(monkeypatch):
    x, y = draw(0, 60)

    def memory(x, y, part, rng):
        known = np.concatenate([x[part.train.p], x[part.validation.p], y[part.train.q], y[part.validation.q]])
        return ratio.KernelRatio(lambda rows: np.isin(rows[:, :1], known[:, :1]).astype(float), np.ones(1), 1.0, 1.0)

    monkeypatch.setattr(ratio, "fit", memory)
    held_out = ratio.cross_fit(request(x, y))
    assert held_out.log_p.shape == held_out.log_q.shape == (2, 60) and len(held_out.diagnostics["widths"]) == 10
    assert not held_out.log_p.any() and not held_out.log_q.any() and np.allclose(held_out.log_ratio(x), 0.8)


def test_swapping_the_sets_reverses_the_divergence():
    x, y = draw(0, 1000)
    there, back = (dict(zip(NAMES, fit(*sets).intervals)) for sets in ((x, y), (y, x)))
    swapped = {"kl": "reverse_kl", "reverse_kl": "kl"}
    for name in NAMES[:-1]:  # pearson's reverse is neyman
        a, b = there[name], back[swapped.get(name, name)]
        assert abs(a.value - b.value) < 2.0 * a.standard_error


def test_affine_maps_change_nothing():
    x, y = draw(0, 300, 3)
    turn = np.array([[3.0, 1.0, 0.0], [0.0, 0.1, 0.2], [1.0, 0.0, 50.0]])
    before, after = (fit(*sets) for sets in ((x, y), (x @ turn + 7.0, y @ turn + 7.0)))
    assert np.allclose(numbers(before), numbers(after), rtol=1e-4, atol=1e-6)


def test_repeating_every_row_with_its_group_keeps_the_error():
    x, y = draw(0, 500)
    copies = np.repeat(np.arange(500), 2)
    some = ROWS[:5]
    once = fit(x, y, some, groups=(np.arange(500), 500 + np.arange(500)))
    twice = fit(x[copies], y[copies], some, groups=(copies, 500 + copies))
    blind = fit(x[copies], y[copies], some)
    for d, a, b, c in zip(some, once.intervals, twice.intervals, blind.intervals, strict=True):
        assert abs(a.value - b.value) < 2.0 * a.standard_error
        assert 0.7 < b.standard_error / a.standard_error < 1.4
        if d.smooth:  # else the error there is mostly that of the extrapolation
            assert c.standard_error < 0.9 * b.standard_error
        grouped, naive = (e.diagnostics["lower_bound_standard_error"] for e in (b, c))
        assert naive < 0.85 * grouped  # as if there were twice the rows: 0.71


def test_groups_stay_whole():
    labels = np.arange(60) // 6, 100 + np.arange(90) // 9
    for part in blocks(60, 90, 0, labels):
        assert len(np.intersect1d(labels[0][part.p], np.delete(labels[0], part.p))) == 0


def test_copies_give_finite_numbers():
    x, y = draw(0, 300)
    x[:200], y[:150] = x[0], x[0]
    assert np.isfinite([e.value for e in fit(x, y).intervals]).all()
    assert np.isfinite([e.value for e in fit(np.round(x), np.round(y)).intervals]).all()


def test_the_same_seed_gives_the_same_numbers():
    one, two, other = (numbers(fit(*draw(0, 200), seed=seed)) for seed in (1, 1, 2))
    assert one == two != other


def test_the_log_ratio_is_near_that_of_the_densities():
    points = np.linspace(-1.0, 2.0, 31)[:, None]
    found = fit(*draw(0, 3000, 1), ROWS[:1]).log_ratio(points)
    true = stats.norm.logpdf(points[:, 0], SHIFT, SCALE) - stats.norm.logpdf(points[:, 0])
    assert np.abs(found - true).mean() < 0.15


def test_too_few_rows_are_refused():
    with pytest.raises(DataError, match="9 and 9 rows"):
        fit(*draw(0, 9))
