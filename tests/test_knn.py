"""Nearest-neighbour divergences against exact ones, and what no choice of coordinates or copies may change."""

import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

from estimators.contract import Fit, Request
from estimators.distributions.examples import normal
from estimators.divergences.generator import from_generator
from estimators.divergences.table import DIVERGENCES
from estimators.exact_values import gaussian
from estimators.exact_values.quadrature import exact_divergence
from estimators.methods import knn
from estimators.samples.arrays import DataError

DRAWS = 20
NAMES = ("kl", "reverse_kl", "jeffreys", "js", "total_variation", "squared_hellinger", "triangular", "pearson")
ROWS = [DIVERGENCES[name] for name in NAMES]
SWAPPED = [DIVERGENCES[name] for name in ("kl", "js", "total_variation", "pearson")]
"""One of each kind: a logarithm, bounded, with a kink, a power. Each reversed generator is compiled anew."""
SHIFT, SCALE = 0.7, 0.8


@cache
def exact(name: str) -> float:
    return exact_divergence(normal(SHIFT, SCALE).log_prob, normal(0.0, 1.0).log_prob, name)


def draw(seed: int, n: int = 1000, d: int = 1, shift: float = SHIFT, scale: float = SCALE, m: int | None = None):
    """x ~ N(shift, scale²) and y ~ N(0, 1) in the first coordinate, N(0, 1) both in the others."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m or n, d))
    x[:, 0] = shift + scale * x[:, 0]
    return x, y


def fit(x, y, divergences=ROWS, **options) -> Fit:
    return knn.estimate(Request(x=x, y=y, divergences=divergences, method="knn", **options))


def numbers(fitted: Fit):
    return [interval[:4] for interval in fitted.intervals]


@pytest.fixture(scope="module")
def repeated():
    return {d: [fit(*draw(seed, 1000, d)).intervals for seed in range(DRAWS)] for d in (1, 2)}


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_the_truth_is_within_four_standard_errors(repeated, d, name):
    found = [intervals[NAMES.index(name)] for intervals in repeated[d]]
    assert all(abs(e.value - exact(name)) < 4.0 * e.standard_error for e in found)
    assert all(e.low <= e.value <= e.high <= DIVERGENCES[name].upper_limit() for e in found)
    assert np.mean([e.standard_error for e in found]) < (0.7 if name == "pearson" else 0.25) * exact(name)


@pytest.mark.parametrize("d", [1, 2])
def test_intervals_cover_the_truth(repeated, d):
    """Nine in ten of those of 95 %, over all divergences, and seven in ten of the least covered (reverse_kl)."""
    held = np.array([[e.low <= exact(name) <= e.high for name, e in zip(NAMES, fitted)] for fitted in repeated[d]])
    assert held.mean() >= 0.9 and held.mean(axis=0).min() >= 0.7


def test_between_samples_of_one_distribution_intervals_hold_zero():
    found = [dict(zip(NAMES, fit(*draw(seed, 500, 2, 0.0, 1.0)).intervals)) for seed in range(8)]
    assert all(e.low == 0.0 <= e.high for fits in found for name, e in fits.items() if name != "total_variation")
    assert sum(fits["total_variation"].low == 0.0 for fits in found) >= 7


@pytest.mark.slow
def test_swapping_the_sets_reverses_the_divergence():
    x, y = draw(0, 400, 2, m=600)
    there = fit(x, y, SWAPPED).intervals
    back = fit(y, x, [row.reversed() for row in SWAPPED]).intervals
    assert [e.value for e in there] == pytest.approx([e.value for e in back], rel=1e-6)


def test_affine_maps_change_nothing():
    x, y = draw(0, 400, 3)
    turn = np.array([[3.0, 1.0, 0.0], [0.0, 0.01, 0.2], [1.0, 0.0, 50.0]])
    before, after = (fit(*sets) for sets in ((x, y), (x @ turn + 7.0, y @ turn + 7.0)))
    assert np.allclose(numbers(before), numbers(after), rtol=1e-6, atol=1e-9)


def test_a_flat_embedding_changes_only_the_warnings():
    x, y = draw(0, 400, 2)
    turn = np.random.default_rng(1).normal(size=(2, 5))
    flat = fit(x @ turn, y @ turn)
    assert np.allclose(numbers(fit(x, y)), numbers(flat), rtol=1e-6, atol=1e-9)
    assert any("2 of 5 dimensions" in w for w in flat.intervals[0].warnings)


def test_the_plain_estimate_is_that_of_wang_kulkarni_and_verdu():
    """By brute force, in coordinates where the mean covariance is I."""
    x, y = draw(0, 60, 2, m=80)
    diagnostics = fit(x, y, ROWS[:1]).diagnostics
    space = knn.Whitening.fit(x, y)
    u, v = space(x), space(y)
    rho = np.sort(np.linalg.norm(u[:, None] - u, axis=-1), axis=1)[:, 1 : knn.WANG + 1]
    nu = np.sort(np.linalg.norm(u[:, None] - v, axis=-1), axis=1)[:, : knn.WANG]
    assert diagnostics["wang_kl"] == pytest.approx(np.mean(2.0 * np.log(nu / rho)) + math.log(80 / 59))


@pytest.mark.parametrize("orders", [(-1.0,), (-1.0, 0.8), (-1.0, 4.0)])
def test_weights_cancel_the_orders_they_are_given(orders):
    sizes = np.array([6, 8, 11, 20, 40, 64])
    w = knn.weights(sizes, orders)
    assert w.sum() == pytest.approx(1.0)
    assert [w @ (sizes / 64) ** a for a in orders] == pytest.approx([0.0] * len(orders), abs=1e-12)


def test_repeating_every_row_with_its_group_keeps_value_and_error():
    x, y = draw(0, 1000, 2)
    groups = tuple(np.repeat(np.arange(1000) + offset, 2) for offset in (0, 1000))
    repeated = np.repeat(x, 2, axis=0), np.repeat(y, 2, axis=0)
    once, twice, blind = (f.intervals for f in (fit(x, y), fit(*repeated, groups=groups), fit(*repeated)))
    for a, b in zip(once[:-1], twice[:-1], strict=True):  # pearson feels the noise of half as many neighbours
        assert abs(a.value - b.value) < 2.0 * a.standard_error
    kl = [e[0] for e in (once, twice, blind)]
    assert not kl[1].warnings and "coincide" in kl[2].warnings[0]
    assert 0.7 < kl[1].standard_error / kl[0].standard_error < 1.5


@pytest.mark.slow
def test_copies_give_finite_numbers_and_a_warning():
    x, y = draw(0, 300, 2)
    x[:100], y[:40] = x[0], x[0]
    for e in fit(x, y).intervals:
        assert np.isfinite([e.value, e.low, e.standard_error]).all() and "coincide" in e.warnings[0]
    for e in fit(np.round(x), np.round(y)).intervals:
        assert np.isfinite([e.value, e.low, e.standard_error]).all()


def test_the_same_seed_gives_the_same_numbers(monkeypatch):
    monkeypatch.setattr(knn, "EVALUATED", 200)
    one, two, other = (numbers(fit(*draw(0, 400, 2), seed=seed)) for seed in (1, 1, 2))
    assert one == two != other


def test_the_log_ratio_is_near_that_of_the_densities():
    x, y = draw(0, 4000)
    points = np.linspace(-1.0, 2.0, 31)[:, None]
    found = fit(x, y, ROWS[:1]).log_ratio(points)
    true = stats.norm.logpdf(points[:, 0], SHIFT, SCALE) - stats.norm.logpdf(points[:, 0])
    assert np.abs(found - true).mean() < 3.0 * math.sqrt(2.0 / 25.0 / 3.0)  # ℓ averages sizes of about 25 neighbours


def test_many_dimensions_are_warned_of():
    (kl,) = fit(*draw(0, 300, 12), ROWS[:1]).intervals
    assert any("12 dimensions" in w for w in kl.warnings)


@pytest.mark.slow
def test_users_own_generator_works():
    mine = from_generator("mine", lambda u: 0.5 * (u - 1.0) ** 2 / (u + 1.0))
    own, listed = fit(*draw(0, 300), [mine, DIVERGENCES["triangular"]]).intervals
    assert own.value == pytest.approx(0.5 * listed.value, rel=1e-4)


def test_too_few_rows_or_groups_are_refused():
    x, y = draw(0, 12)
    with pytest.raises(DataError, match="12 rows"):
        fit(x, y)
    x, y = draw(0, 40)
    with pytest.raises(DataError, match="largest group"):
        fit(x, y, groups=(np.arange(40) // 30, np.arange(40)))


def test_closed_form_in_five_dimensions():
    x, y = draw(3, 2000, 5, 1.0, 1.0)
    (kl,) = fit(x, y, ROWS[:1]).intervals
    mean = np.eye(5)[0]
    assert abs(kl.value - float(gaussian.kl(mean, np.ones(5), np.zeros(5), np.ones(5)))) < 3.0 * kl.standard_error
