"""Telescoping: unbiased Gaussian anchors, the chain through them, and divergences no classifier could measure."""

import math

import numpy as np
import pytest
from scipy import stats

import estimators as est
from estimators.contract import Interval, Request
from estimators.density_ratio.folds import HeldOut, blocks, cross_fits
from estimators.density_ratio.plug_in import plug_in
from estimators.density_ratio.references import NormalScores, Standard
from estimators.methods import neural
from estimators.methods.telescoping import Anchored, Anchors, _anchored, unbiased
from estimators.samples.arrays import DataError
from estimators.tasks.information_tasks import INFORMATION_TASKS

N, DIM, SHIFT = 2000, 10, 4.25  # KL = 9.03 nats
KL = SHIFT**2 / 2


def normals(seed: int, n: int = N, d: int = DIM, shift: float = SHIFT):
    """x ~ N(0, I) and y ~ N(shift·e₁, I)."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n, d))
    return x, y + shift * np.eye(d)[0]


@pytest.fixture(scope="module")
def far() -> dict[str, est.Estimate]:
    """Gaussians 9 nats apart, by critics trained a tenth of the usual: there is nearly nothing to learn."""
    names = ["kl", "reverse_kl", "jeffreys", "js", "total_variation"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural, "SCHEDULE", neural.Schedule(rounds=2))
        return {e.divergence: e for e in est.estimate(*normals(0), names, method="telescoping")}


# --- anchors ----------------------------------------------------------------------------------------------------------


def test_too_few_rows_for_a_covariance_are_refused_with_the_number_needed():
    rng = np.random.default_rng(2)
    assert np.isfinite(unbiased(rng.normal(size=(6, 3))).log_peak)
    with pytest.raises(DataError, match=r"5 rows of dimension 3: .* more than 5"):
        unbiased(rng.normal(size=(5, 3)))
    with pytest.raises(DataError, match="more than 22"):
        est.estimate(*normals(0, n=50, d=20), "kl", method="telescoping")


def test_columns_that_depend_on_others_are_refused_with_a_remedy():
    rows = np.random.default_rng(3).normal(size=(50, 2))
    with pytest.raises(DataError, match="depend linearly"):
        unbiased(np.concatenate([rows, np.zeros((50, 1))], axis=1))


def log_ratio(anchors: Anchors, rows: np.ndarray) -> np.ndarray:
    """log p₀/q₀."""
    z = anchors.coordinates(rows)
    return anchors.p(z) - anchors.q(z)


def fitted(x, y) -> Anchors:
    half = len(x) // 2
    return Anchors.fit(x[:half], y[:half], x[half:], y[half:])


@pytest.mark.parametrize(
    "change, kind", [(lambda z: z, Standard), (lambda z: z**3, NormalScores), (np.exp, NormalScores)]
)
def test_the_coordinates_are_those_in_which_the_rows_are_gaussian(change, kind):
    x, y = normals(4, n=2000, d=3, shift=1.0)
    assert type(fitted(change(x), change(y)).coordinates) is kind


def test_the_log_ratio_of_anchors_is_that_of_the_gaussians():
    x, y = normals(5, n=20_000, d=3, shift=2.0)
    rows = normals(6, n=500, d=3)[0]
    np.testing.assert_allclose(log_ratio(fitted(x, y), rows), 2.0 - 2.0 * rows[:, 0], atol=0.4)


# --- chains -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name, truth", [("kl", KL), ("reverse_kl", KL), ("jeffreys", 2.0 * KL)])
def test_nine_nats_are_found_within_four_standard_errors(far, name, truth):
    e = far[name]
    assert abs(e.value - truth) < 4.0 * e.standard_error < 0.3 * truth


@pytest.mark.slow
def test_bounded_divergences_are_near_their_maxima(far):
    truth = 2.0 * stats.norm.cdf(SHIFT / 2) - 1.0
    assert far["total_variation"].value == pytest.approx(truth, abs=0.01)
    assert 0.9 * math.log(2.0) < far["js"].value < math.log(2.0)


@pytest.mark.slow
def test_the_log_ratio_of_the_chain_is_that_of_the_densities(far):
    for rows in normals(7, n=500):
        found, truth = far["kl"].log_ratio(rows), KL - SHIFT * rows[:, 0]
        assert np.corrcoef(found, truth)[0, 1] > 0.98
        assert np.sqrt(np.mean((found - truth) ** 2)) < 1.0 < np.std(truth)


@pytest.mark.slow
def test_warnings_name_what_it_rests_on(far):
    e = far["kl"]
    assert (e.method, e.n_p, e.n_q, e.dim) == ("telescoping", N, N, DIM)
    assert e.diagnostics["coordinates"] == "Standard" and "history" in e.diagnostics
    assert any("Gaussian references" in w for w in e.warnings) and any("saturated" in w for w in e.warnings)
    assert not any("separable" in w for w in e.warnings) and math.isfinite(e.high)


def through_anchors_alone(seed: int, n: int, d: int, shift: float, names) -> list[Interval]:
    """The method without its critics, which have nothing to learn between Gaussians."""
    x, y = normals(seed, n, d, shift)
    log_p, log_q = np.empty((2, n)), np.empty((2, n))
    cut = blocks(n, n, seed)
    for c, (train, validation, held) in enumerate(cross_fits(cut)):
        anchors = Anchors.fit(x[train.p], y[train.q], x[validation.p], y[validation.q])
        log_p[c % 2, held.p], log_q[c % 2, held.q] = log_ratio(anchors, x[held.p]), log_ratio(anchors, y[held.q])
    request = Request(x=x, y=y, divergences=[est.divergence(name) for name in names], method="telescoping")
    return list(plug_in(request, HeldOut(log_p, log_q, parametric=cut)).intervals)


@pytest.fixture(scope="module")
def draws() -> np.ndarray:
    """(value, standard error) of kl and reverse_kl over draws of 500 rows, 8 nats apart in 3 dimensions."""
    fits = [through_anchors_alone(seed, 500, 3, 4.0, ["kl", "reverse_kl"]) for seed in range(60)]
    return np.array([[(e.value, e.standard_error) for e in fit] for fit in fits])


@pytest.mark.slow
def test_the_mean_over_draws_is_the_truth(draws):
    """But for the error of the means, which adds about d/n to either."""
    values = draws[..., 0]
    assert (np.abs(values.mean(axis=0) - 8.0) < 4.0 * stats.sem(values, axis=0) + 0.05).all()


@pytest.mark.slow
@pytest.mark.parametrize("j", range(2), ids=["kl", "reverse_kl"])
def test_standard_errors_are_no_smaller_than_the_spread_over_draws(draws, j):
    """Within 25 %, that of a spread over 60 draws being 9 %."""
    spread = np.std(draws[:, j, 0], ddof=1)
    assert 0.75 * spread < np.mean(draws[:, j, 1]) < 2.0 * spread


def test_hundreds_of_nats_are_not_cut_off():
    """60 standard deviations, 1800 nats apart: how far e^v can be computed must not stand for the divergence."""
    kl, js = through_anchors_alone(0, 60, 2, 60.0, ["kl", "js"])
    assert abs(kl.value - 1800.0) < 4.0 * kl.standard_error or kl.high == math.inf
    assert js.value == pytest.approx(math.log(2.0))


@pytest.mark.parametrize("name", ["pearson", "neyman"])
def test_what_overflows_is_unlimited_and_does_not_warn_of_arithmetic(name):
    (e,) = through_anchors_alone(0, 60, 2, 60.0, [name])
    assert not any(math.isnan(v) for v in (e.value, e.low, e.high)) and e.high == math.inf


# --- references that do not fit ---------------------------------------------------------------------------------------
def doubted(found: tuple[float, float], lost: float = 0.0, name: str = "kl") -> Interval:
    """An interval of 8 ± 0.1 nats after what critics found, on P and on Q, ± 0.01, and what Gaussians lost."""
    interval = Interval.around(8.0, 0.1, 2.0, 0.0, math.inf)._replace(
        diagnostics={"lower_bound": 5.0, "lower_bound_standard_error": 0.5}
    )
    return _anchored(est.DIVERGENCES[name], interval, Anchored(found, (0.01, 0.01), lost), 8.0, 2.0)


def test_references_that_fit_leave_the_interval_as_it_is():
    assert doubted((0.02, -0.3), lost=-1.0)[:3] == pytest.approx((8.0, 7.8, 8.2))


def test_what_gaussians_lose_and_critics_find_moves_the_upper_end():
    interval = doubted((0.05, 0.0), lost=0.06)
    assert interval[:3] == pytest.approx((8.0, 7.8, 8.2 + 2.5 * 0.03 + 0.03)) and not interval.warnings


@pytest.mark.parametrize("found, low", [((0.4, 0.0), 7.8), ((0.0, 0.4), 4.0)])
def test_where_critics_find_much_there_is_no_upper_end(found, low):
    interval = doubted(found)
    assert interval.high == math.inf and interval.low == pytest.approx(low)
    assert any("lower bound only: critics found 0.38 nats" in warning for warning in interval.warnings)
    assert doubted(found, name="js").high == pytest.approx(math.log(2.0))
    assert doubted(found[::-1], name="reverse_kl").low == pytest.approx(low)
    assert doubted(found, name="jeffreys").low == pytest.approx(4.0)
    assert doubted((0.05, 0.0), name="pearson").high == math.inf


@pytest.mark.slow
def test_pairs_with_uniform_noise_have_no_upper_end_and_normal_ones_have():
    """8 nats in four pairs: no Gaussian fits a band of uniform density, and critics find a third of what it lacks."""
    for name, open_end in (("smoothed-uniform-4", True), ("correlated-normal-4", False)):
        task = INFORMATION_TASKS[name]
        r = est.mutual_information(*task.sample(7, 4000))
        assert r.low <= task.mutual_information <= r.high
        assert math.isinf(r.high) == open_end == ("lower bound only" in r.trust)
