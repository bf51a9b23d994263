"""From log-ratios to numbers: exact log-ratios, noisy ones, wrong ones, handed over in place of any critic's."""

import math
from functools import cache
from typing import NamedTuple

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

import estimators as est
from estimators.contract import Interval, Request, Scores
from estimators.density_ratio.folds import HeldOut, Rows
from estimators.density_ratio.plug_in import (
    REST,
    STEEPEST,
    UNCHANGED,
    UNSEEN,
    Calibrated,
    _fallen_short,
    _followed,
    lower_bound,
    plug_in,
)
from estimators.estimation import Estimate

SUPPORT = (-14.0, 14.0)
SHIFT = 0.5
N, DRAWS, NOISE = 1000, 200, 0.3
DIVERGENCES = ("kl", "js", "total_variation", "squared_hellinger", "pearson")
ASYMMETRIC = ("kl", "reverse_kl", "jeffreys", "js", "total_variation", "squared_hellinger", "triangular", "pearson")
TRAINABLE = [name for name in est.DIVERGENCES if name != "gan"]


@cache
def truth(mean: float, spread: float, name: str) -> float:
    log_p, log_q = (lambda x: jax.scipy.stats.norm.logpdf(x), lambda x: jax.scipy.stats.norm.logpdf(x, mean, spread))
    return est.exact_divergence(log_p, log_q, est.divergence(name), support=SUPPORT)


class Pair(NamedTuple):
    """N(0, 1) and N(mean, spread²)."""

    mean: float
    spread: float

    def log_ratio(self, x):
        return stats.norm.logpdf(x) - stats.norm.logpdf(x, self.mean, self.spread)

    def draw(self, rng, n: int, m: int | None = None):
        return rng.normal(size=n), self.mean + self.spread * rng.normal(size=m or n)

    def truth(self, name: str) -> float:
        return truth(*self, name)


WIDER, SHIFTED = Pair(0.5, 1.5), Pair(SHIFT, 1.0)


def plugged(log_p, log_q, names, log_ratio=None, parametric=None, **options) -> list[Estimate]:
    """The estimates from log-ratios of one critic [n], or of several [critics, n]."""
    held_out = HeldOut(np.atleast_2d(log_p), np.atleast_2d(log_q), log_ratio, parametric=parametric)
    x, y = (np.zeros((rows.shape[1], 1)) for rows in held_out[:2])
    request = Request(x=x, y=y, divergences=[est.divergence(name) for name in names], method="given", **options)
    fit = plug_in(request, held_out)
    return [
        Estimate.of(d.name, interval, fit, request, dim=1, notes=())
        for d, interval in zip(request.divergences, fit.intervals, strict=True)
    ]


def warned(e: est.Estimate, word: str) -> bool:
    return any(word in w for w in e.warnings)


# --- the truth, from the true log-ratio -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exact():
    """Every divergence from the true log-ratio of 30,000 and 20,000 rows, for both pairs."""
    found = {}
    for pair, names in ((WIDER, ASYMMETRIC), (SHIFTED, TRAINABLE)):
        x, y = pair.draw(np.random.default_rng(7), 30_000, 20_000)
        estimates = plugged(pair.log_ratio(x), pair.log_ratio(y), names)
        found |= {(pair, e.divergence): e for e in estimates}
    return found


@pytest.mark.parametrize("pair, name", [*((WIDER, n) for n in ASYMMETRIC), *((SHIFTED, n) for n in TRAINABLE)])
def test_the_true_log_ratio_gives_the_truth(exact, pair, name):
    e, truth = exact[pair, name], pair.truth(name)
    assert abs(e.value - truth) < 4.0 * e.standard_error < 0.6 * truth
    bound, error = (e.diagnostics[k] for k in ("lower_bound", "lower_bound_standard_error"))
    assert abs(bound - truth) < 4.0 * error


def test_the_true_log_ratio_passes_its_own_checks(exact):
    facts = exact[WIDER, "kl"].diagnostics
    assert facts["mean_ratio_on_q"] == pytest.approx(1.0, abs=0.02)
    assert facts["mean_inverse_ratio_on_p"] == pytest.approx(1.0, abs=0.1)
    np.testing.assert_allclose(facts["calibration"], [0.0, 1.0, 0.0], atol=0.15)
    assert exact[WIDER, "kl"].warnings == ()


def test_jeffreys_is_the_sum_of_both_ways(exact):
    both = exact[WIDER, "kl"].value + exact[WIDER, "reverse_kl"].value
    assert exact[WIDER, "jeffreys"].value == pytest.approx(both, rel=1e-6)


@pytest.mark.parametrize("shift, slope", [(0.5, 1.0), (0.0, 0.6), (-0.3, 1.5)])
def test_a_log_ratio_shifted_and_scaled_is_calibrated_back(shift, slope):
    """The value returns to what the true log-ratio gives; the bound, which is not calibrated, is lower for it."""
    x, y = SHIFTED.draw(np.random.default_rng(1), 5000)
    log_p, log_q = (SHIFTED.log_ratio(rows) for rows in (x, y))
    (plain,) = plugged(log_p, log_q, ["kl"])
    (bent,) = plugged(shift + slope * log_p, shift + slope * log_q, ["kl"])
    assert bent.value == pytest.approx(plain.value, rel=0.02)
    assert bent.diagnostics["lower_bound"] < plain.diagnostics["lower_bound"] - 0.005


def test_the_ratio_handed_back_is_the_calibrated_one():
    x, y = SHIFTED.draw(np.random.default_rng(1), 5000)
    (e,) = plugged(
        *(2.0 * SHIFTED.log_ratio(rows) for rows in (x, y)),
        ["kl"],
        log_ratio=lambda z: 2.0 * SHIFTED.log_ratio(z[:, 0]),
    )
    np.testing.assert_allclose(e.log_ratio(x), e.scores.log_p, atol=1e-9)
    np.testing.assert_allclose(e.log_ratio(x), SHIFTED.log_ratio(x), atol=0.25)


# --- over repeated draws ----------------------------------------------------------------------------------------------


class Draws(NamedTuple):
    """Figures [draws, divergences of DIVERGENCES]."""

    value: np.ndarray
    error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bound: np.ndarray

    @classmethod
    def of(cls, fits: list[list[est.Estimate]]) -> "Draws":
        def figures(e):
            return e.value, e.standard_error, e.low, e.high, e.diagnostics["lower_bound"]

        return cls(*np.moveaxis([[figures(e) for e in fit] for fit in fits], 2, 0))


@pytest.fixture(scope="module")
def draws() -> dict[str, Draws]:
    """The same draws scored by the true log-ratio, by a critic that adds noise, and by two, each with its own noise."""
    fits: dict[str, list] = {"clean": [], "one": [], "two": []}
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        clean = [WIDER.log_ratio(rows) for rows in WIDER.draw(rng, N)]
        noisy = [truth + NOISE * rng.normal(size=(2, N)) for truth in clean]
        fits["clean"].append(plugged(*clean, DIVERGENCES))
        fits["one"].append(plugged(*(critics[0] for critics in noisy), DIVERGENCES))
        fits["two"].append(plugged(*noisy, DIVERGENCES))
    return {name: Draws.of(found) for name, found in fits.items()}


each_divergence = pytest.mark.parametrize("j", range(len(DIVERGENCES)), ids=DIVERGENCES)


@pytest.mark.slow
@each_divergence
@pytest.mark.parametrize("critic", ["clean", "one"])
def test_standard_errors_are_the_spread_over_draws(draws, critic, j):
    found = draws[critic]
    assert np.mean(found.error[:, j]) == pytest.approx(np.std(found.value[:, j], ddof=1), rel=0.2)


@pytest.mark.slow
@each_divergence
def test_standard_errors_of_two_noisy_critics_are_not_too_small(draws, j):
    """They hold a part for what extrapolation may leave, so they may exceed the spread."""
    found = draws["two"]
    assert 0.85 < np.mean(found.error[:, j]) / np.std(found.value[:, j], ddof=1) < 1.7


@pytest.mark.slow
@each_divergence
def test_extrapolation_removes_most_of_what_noise_takes(draws, j):
    """Draw by draw against the true log-ratio on the same rows, so that chance of the rows plays no part."""
    lost_by_one, lost_by_two = (np.mean(draws["clean"].value[:, j] - draws[k].value[:, j]) for k in ("one", "two"))
    scatter = stats.sem(draws["clean"].value[:, j] - draws["one"].value[:, j])
    assert lost_by_one > 10.0 * scatter and abs(lost_by_two) < 0.4 * lost_by_one


@pytest.mark.slow
@each_divergence
def test_intervals_cover_the_truth(draws, j):
    found = draws["two"]
    covered = (found.low[:, j] <= WIDER.truth(DIVERGENCES[j])) & (WIDER.truth(DIVERGENCES[j]) <= found.high[:, j])
    assert np.mean(covered) >= 0.9


@pytest.mark.slow
@each_divergence
@pytest.mark.parametrize("critic", ["clean", "one", "two"])
def test_the_bound_is_below_the_truth_and_tight_at_the_true_log_ratio(draws, critic, j):
    bound, truth = draws[critic].bound[:, j], WIDER.truth(DIVERGENCES[j])
    assert np.mean(bound) <= truth + 4.0 * stats.sem(bound)
    assert critic != "clean" or np.mean(bound) >= truth - 4.0 * stats.sem(bound)


WRONG = {
    "twice": lambda x: 2.0 * WIDER.log_ratio(x),
    "the wrong way round": lambda x: -WIDER.log_ratio(x),
    "shifted": lambda x: WIDER.log_ratio(x) + 0.7,
    "a wave": lambda x: np.sin(3.0 * x),
    "nothing": np.zeros_like,
}


@pytest.mark.parametrize("critic", WRONG)
@pytest.mark.parametrize("name", [*ASYMMETRIC, "hockey_stick(2)"])
def test_the_bound_is_below_the_truth_whatever_the_critic(critic, name):
    """In expectation: of 100,000 rows a side, within four standard errors; and well below, the critic being far off."""
    x, y = WIDER.draw(np.random.default_rng(5), 100_000)
    bound, error = lower_bound(est.divergence(name), Scores(*(WRONG[critic](rows) for rows in (x, y))))
    assert bound <= WIDER.truth(name) + 4.0 * error
    assert critic != "the wrong way round" or bound < 0.0 or name.startswith("hockey")


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.999])
def test_the_interval_reaches_as_far_as_its_confidence_says(confidence):
    rng = np.random.default_rng(0)
    (e,) = plugged(rng.normal(size=200) + 0.5, rng.normal(size=200) - 0.5, ["kl"], confidence=confidence)
    reach = stats.norm.ppf(0.5 + confidence / 2) * e.standard_error
    assert (e.low, e.high) == pytest.approx((e.value - reach, e.value + reach)) and e.confidence == confidence


# --- laws -------------------------------------------------------------------------------------------------------------

SWAPS = {"kl": "reverse_kl", "reverse_kl": "kl", "pearson": "neyman"} | {
    name: name for name in ("jeffreys", "js", "total_variation", "squared_hellinger", "triangular")
}


@pytest.mark.parametrize("critics", [1, 2])
@pytest.mark.parametrize("parametric", [False, True])
def test_exchanging_p_and_q_reverses_the_divergence(critics, parametric):
    rng = np.random.default_rng(2)
    log_p, log_q = rng.normal(size=(critics, 300)) + 0.6, rng.normal(size=(critics, 500)) - 0.4
    cut = [Rows(p, q) for p, q in zip(np.split(np.arange(300), 5), np.split(np.arange(500), 5), strict=True)]
    here = plugged(log_p, log_q, SWAPS, parametric=cut if parametric else None)
    swapped = [Rows(rows.q, rows.p) for rows in cut]
    there = plugged(-log_q, -log_p, SWAPS.values(), parametric=swapped if parametric else None)
    for a, b in zip(here, there, strict=True):
        assert (b.value, b.standard_error) == pytest.approx((a.value, a.standard_error), rel=1e-4)
        assert b.diagnostics["lower_bound"] == pytest.approx(a.diagnostics["lower_bound"], rel=1e-4)


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "total_variation", "pearson", "alpha(0.5)"])
def test_a_row_and_its_bare_generator_agree(name):
    """What is stated for a row, and what is derived from its f alone, up to ratios of e^20: one row of each kind."""
    row = est.divergence(name)
    mine = est.from_generator("mine", row.f, smooth=row.smooth)
    rng = np.random.default_rng(0)
    log_p, log_q = (np.clip(4.0 * rng.normal(size=(2, 100)) + s, -20.0, 20.0) for s in (4.0, -4.0))
    stated, derived = plugged(log_p, log_q, [row, mine])
    assert (derived.value, derived.standard_error) == pytest.approx((stated.value, stated.standard_error), rel=1e-5)
    assert derived.diagnostics["lower_bound"] == pytest.approx(stated.diagnostics["lower_bound"], rel=1e-5)


def test_critics_that_agree_are_not_extrapolated():
    rng = np.random.default_rng(3)
    log_p, log_q = rng.normal(size=200) + 0.5, rng.normal(size=200) - 0.5
    one, two = (plugged(np.tile(log_p, (k, 1)), np.tile(log_q, (k, 1)), DIVERGENCES) for k in (1, 2))
    for a, b in zip(one, two, strict=True):
        assert (b.value, b.standard_error) == pytest.approx((a.value, a.standard_error), rel=1e-9)


def test_parametric_log_ratios_are_taken_as_they_are():
    """Where calibration would have no optimum: KL is the mean log-ratio, and what the critics dispute its error.

    Each has two fifths of the rows: a difference of 1 in every block is a standard error of 1/√5 for a fit to all.
    """
    log_p, log_q = np.full((2, 50), 10.0), np.full((2, 50), -12.0)
    log_p[1] += 1.0
    log_p[:, 0], log_q[:, 0] = -1.0, 1.0  # so that they are not separable
    cut = [Rows(rows, rows) for rows in np.split(np.arange(50), 5)]
    (kl,) = plugged(log_p, log_q, ["kl"], parametric=cut)
    noise = np.std(np.r_[-1.0, np.full(49, 10.5)], ddof=1) / math.sqrt(50)
    assert kl.value == pytest.approx(0.02 * -1.0 + 0.98 * 10.5, abs=0.1)
    assert kl.standard_error == pytest.approx(math.hypot(noise, math.sqrt((4 + 0.9**2) / 25)), rel=0.1)
    assert kl.low < kl.value < kl.high < math.inf and not warned(kl, "separable") and warned(kl, "saturated")


# --- warnings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap, separable", [(0.5, True), (-0.5, False)])
def test_samples_are_separable_where_no_ratio_of_q_reaches_one_of_p(gap, separable):
    kl, js = plugged(np.linspace(gap / 2, 9.0, 100), np.linspace(-9.0, -gap / 2, 100), ["kl", "js"])
    assert warned(kl, "separable") == warned(js, "separable") == (kl.high == math.inf) == separable
    assert kl.low <= kl.value < math.inf and js.high <= math.log(2.0)
    assert not separable or kl.low <= math.log(100)


@pytest.mark.parametrize("level, warns", [(3.0, False), (6.0, True)])
def test_more_than_the_samples_can_certify_is_called_saturated(level, warns):
    kl, js = plugged(np.linspace(level - 1, level + 1, 100), np.full(100, -level), ["kl", "js"])
    assert warned(kl, "saturated") == warns == (kl.value > math.log(100)) and not warned(js, "saturated")


@pytest.mark.parametrize("heaviest, warns", [(0.0, False), (12.0, True)])
def test_a_value_that_rests_on_few_rows_says_so(heaviest, warns):
    (e,) = plugged(np.zeros(100), np.r_[heaviest, np.zeros(99)], ["pearson"], parametric=[])
    assert warned(e, "effective sample size") == warns == (e.diagnostics["effective_sample_size_q"] < 2.0)
    assert e.diagnostics["effective_sample_size_p"] == pytest.approx(100.0)


@pytest.mark.parametrize("freedom, heavy", [(5.0, True), (20.0, False)])
def test_a_value_that_rests_on_ratios_beyond_n_is_heavy_tailed_and_less_sure(freedom, heavy):
    """P a t law, Q normal: log p/q grows with x², which draws of Q cannot check where there are none."""
    rng = np.random.default_rng(12)
    p, q = stats.t(freedom), stats.norm
    x, y = p.rvs((3000, 5), random_state=rng), rng.normal(size=(3000, 5))
    log_p, log_q = (np.sum(p.logpdf(rows) - q.logpdf(rows), axis=1) for rows in (x, y))
    kl, js = plugged(log_p, log_q, ["kl", "js"])
    assert warned(kl, "heavy tails") == heavy and not warned(js, "heavy tails")
    excess = np.sum(np.maximum(log_p - math.log(3000), 0.0)) / 3000
    assert kl.standard_error > 0.9 * excess and (excess > 0.1 * kl.value) == heavy
    truth, _ = quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -np.inf, np.inf)
    assert kl.low < 5.0 * truth < kl.high


def test_a_critic_that_tells_the_wrong_way_round_is_turned_by_calibration_and_its_bound_is_the_least():
    log_p, log_q = -np.linspace(-1.0, 3.0, 50), np.linspace(-1.0, 3.0, 50)
    (e,) = plugged(log_p, log_q, ["kl"])
    assert e.diagnostics["lower_bound"] == 0.0 < e.value and e.diagnostics["calibration"][1] < 0.0


@pytest.mark.parametrize("name, negative", [("total_variation", True), ("kl", False)])
def test_a_negative_value_is_reported_and_explained(name, negative):
    """Critics of pure noise: a bound may fall below zero; a plug-in not, since no more is taken off than there is."""
    rng = np.random.default_rng(11)
    fits = [plugged(rng.normal(size=(2, 200)), rng.normal(size=(2, 200)), [name])[0] for _ in range(20)]
    assert any(e.value < 0.0 for e in fits) == negative
    assert all(warned(e, "negative") == (e.value < 0.0) for e in fits)
    assert np.mean([e.low <= 0.0 <= e.high for e in fits]) >= 0.8


@pytest.mark.parametrize("size", [STEEPEST, 200.0, 5000.0])
@pytest.mark.parametrize("name", TRAINABLE)
def test_steep_log_ratios_give_numbers_or_infinities_but_never_nan(name, size):
    rng = np.random.default_rng(6)
    log_p, log_q = (size * np.tanh(rng.normal(size=(2, 60)) + s) for s in (0.5, -0.5))
    (e,) = plugged(log_p, log_q, [name])
    figures = e.value, e.low, e.high, e.diagnostics["lower_bound"], e.diagnostics["lower_bound_standard_error"]
    assert not any(math.isnan(v) for v in figures) and math.isfinite(e.value)


# --- the learning curve -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kl", "js"])
@pytest.mark.parametrize("before", ["the same", "by chance", "a little less", "much less", "more", "much more"])
def test_the_interval_goes_on_where_critics_of_twice_the_rows_took_the_value(name, before):
    """True log-ratios now, shrunken or stretched ones before; what moved is the difference of two means over rows."""
    d, rng = est.divergence(name), np.random.default_rng(4)
    log_ratio = np.concatenate([SHIFTED.log_ratio(rows) for rows in SHIFTED.draw(rng, N)])
    scale = {"a little less": 0.99, "much less": 0.5, "more": 1.1, "much more": 1.3}.get(before, 1.0)
    earlier = np.where(np.arange(2 * N) < 2 * (before == "by chance"), 0.0, scale * log_ratio)
    scales = earlier, log_ratio, 0.9 * log_ratio  # half of the rows, all, the references alone
    stages = [[Calibrated.of(Scores(*np.split(s, 2)), UNCHANGED)] for s in scales]
    r = np.exp(scales)
    f = {"kl": lambda r: r * np.log(r) - r + 1.0, "js": lambda r: 0.5 * (r * np.log(r) - (1 + r) * np.log((1 + r) / 2))}
    was, now, alone = np.mean(f[name](r) / (0.5 * r + 0.5), axis=1)
    x = np.zeros((N, 1))
    asked, interval = Request(x=x, y=x, divergences=[d], method="given"), Interval(now, now - 0.01, now + 0.01, 0.005)
    e = _followed(d, interval, Rows(np.arange(N), np.arange(N)), stages, asked)
    assert e.diagnostics["learned_from_second_half"] == pytest.approx(now - was, rel=1e-3, abs=1e-9)
    assert e.diagnostics["found_by_networks"] == pytest.approx(now - alone, rel=1e-3)
    assert (e.value, e.standard_error) == (now, 0.005)
    by_chance = now + math.hypot(0.01, REST * max(now - was, 0.0))
    farther = {"a little less": now + 0.01 + REST * (now - was), "much less": d.upper_limit(), "by chance": by_chance}
    high = farther.get(before, now + 0.01)
    low = max(now - 0.01 + (REST * (now - was) if "more" in before else 0.0), 0.0)
    assert (e.low, e.high) == pytest.approx((low, high), rel=1e-5)
    assert any("lower bound only" in w for w in e.warnings) == (before == "much less") and len(e.warnings) <= 1


# --- what rows are too few for ----------------------------------------------------------------------------------------


def fallen_short(name: str, gain: float, rows: int = 400, columns: int = 4, high: float = 0.5) -> Interval:
    """The interval [0.1, high], where a reference fitted to its own rows separates them by `gain` more than others."""
    rng = np.random.default_rng(5)
    p, q = rng.normal(0.5, 1.0, rows), rng.normal(-0.5, 1.0, rows)
    fitted = [(Scores(p + gain, q - gain), Scores(p, q))] * 2
    return _fallen_short(est.divergence(name), Interval(0.3, 0.1, high, 0.1), fitted, columns, rows)


def test_the_upper_end_goes_as_much_farther_as_references_lack_and_the_lower_stays():
    plain, lacking = (fallen_short("kl", gain) for gain in (0.0, 0.5))
    unseen = UNSEEN * 2.0 / 400.0
    assert plain.high == pytest.approx(0.5 + unseen) and plain.diagnostics["lacking_of_references"] == 0.0
    assert lacking.high == pytest.approx(0.5 + unseen + lacking.diagnostics["lacking_of_references"])
    assert 0.1 < lacking.diagnostics["lacking_of_references"] < 1.0
    assert plain[:2] == lacking[:2] == (0.3, 0.1)
    assert fallen_short("kl", -0.5).high == plain.high


def test_what_no_reference_shows_is_in_proportion_to_the_curvature_and_falls_with_the_rows():
    def unseen(name, **options):
        return fallen_short(name, 0.0, **options).high - 0.5

    assert unseen("js") == pytest.approx(0.25 * unseen("kl"))
    assert unseen("kl", rows=1600) == pytest.approx(0.25 * unseen("kl"))
    assert unseen("kl", columns=16) == pytest.approx(2.0 * unseen("kl"))


def test_half_of_what_a_fit_gains_on_its_own_rows_is_what_it_lacks_on_others():
    """The linear discriminant of k columns lacks about k/2n of kl on each side: the law the allowance rests on."""
    k, n, draws = 8, 200, 60
    own, others = [], []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(0.2, 1.0, (n, k)), rng.normal(0.0, 1.0, (n, k))
        means = x.mean(axis=0), y.mean(axis=0)
        slope, centre = means[0] - means[1], 0.5 * (means[0] + means[1])
        fresh = rng.normal(0.2, 1.0, (4 * n, k)), rng.normal(0.0, 1.0, (4 * n, k))
        for rows, into in (((x, y), own), (fresh, others)):
            into.append(lower_bound(est.divergence("kl"), Scores(*((side - centre) @ slope for side in rows)))[0])
    truth = 0.5 * k * 0.2**2
    lacking = 0.5 * (np.mean(own) - np.mean(others))
    assert np.mean(others) + lacking == pytest.approx(truth, abs=3.0 * np.std(own) / math.sqrt(draws))
    assert lacking > 5.0 * np.std(others) / math.sqrt(draws)


@pytest.mark.parametrize("name", ["kl", "js"])
def test_with_very_few_rows_a_column_there_is_no_upper_end(name):
    found = fallen_short(name, 0.0, rows=19, columns=4)
    assert found.high == est.divergence(name).upper_limit() and "lower bound only" in found.warnings[-1]
    assert fallen_short("kl", 0.0, rows=20, columns=4).high < 1.0


def test_no_interval_ends_below_what_a_divergence_can_be():
    """A critic that is wrong everywhere: the bound of total variation is far below 0, where the truth cannot be."""
    rng = np.random.default_rng(8)
    wrong = plugged(rng.normal(-1.0, 1.0, 400), rng.normal(1.0, 1.0, 400), ["total_variation"])[0]
    assert wrong.value < -0.5 and wrong.high > 0.0
