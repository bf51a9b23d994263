"""Divergence tasks: their truths against closed forms and inequalities, their samples and maps against each other."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import digamma, gammaln

from estimators.exact_values import monte_carlo
from estimators.exact_values.truth import true_divergence
from estimators.samples.arrays import DataError
from estimators.tasks.divergence_tasks import BENCHMARKED, DIVERGENCE_TASKS

PAIRS = {name: task for name, task in DIVERGENCE_TASKS.items() if task.map is None}
MAPPED = {name: task for name, task in DIVERGENCE_TASKS.items() if task.map is not None}
SPLITS = {split: [t for t in DIVERGENCE_TASKS.values() if t.split == split] for split in ("tuning", "reporting")}
FEW = {task.kind: name for name, task in PAIRS.items() if task.dim <= 20}.values()
each_pair = pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in PAIRS]
)
N = 4000


@pytest.fixture(scope="module", autouse=True)
def fewer_draws():
    """Truths by Monte Carlo from few draws, which their standard errors take into account."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monte_carlo, "DRAWS", 2**14)
        true_divergence.cache_clear()
        yield
    true_divergence.cache_clear()


def truths(name):
    found = {divergence: DIVERGENCE_TASKS[name].truth(divergence) for divergence in BENCHMARKED}
    for truth in found.values():
        assert truth.value >= -4.0 * truth.standard_error
        assert math.isfinite(truth.standard_error) and (truth.standard_error > 0.0) == (truth.how == "Monte Carlo")
    return found


def test_both_splits_hold_every_kind_and_dimension():
    assert len(DIVERGENCE_TASKS) >= 44
    assert all(name == task.name for name, task in DIVERGENCE_TASKS.items())
    assert {t.dim for t in DIVERGENCE_TASKS.values()} >= {1, 2, 5, 20, 50, 160}
    assert {t.kind for t in SPLITS["tuning"]} == {t.kind for t in SPLITS["reporting"]}
    for tasks in SPLITS.values():
        assert {t.kind for t in tasks if t.map is None} == {t.kind for t in tasks if t.map is not None}
        moderate = [t for t in tasks if t.dim <= 20 and t.kind != "null" and t.truth("kl").value <= 3.0]
        assert len(moderate) >= 14
    assert {t.map.name for t in MAPPED.values()} == {"asinh", "cube", "cdf", "spiral", "embedded"}
    near = [t.truth("kl").value for t in PAIRS.values() if t.kind != "null" and t.dim <= 20]
    assert 0.05 <= min(near) < 0.08 and 39.0 < DIVERGENCE_TASKS["chasm_d160"].truth("kl").value < 40.0


def test_named_tasks():
    assert DIVERGENCE_TASKS["shift_d5"].truth("kl") == pytest.approx((0.625, 0.0, "closed form"))
    assert DIVERGENCE_TASKS["shift_d20"].truth("kl").value == pytest.approx(2.5, rel=1e-12)
    assert DIVERGENCE_TASKS["shift_d5"].truth("total_variation").value == pytest.approx(
        2.0 * stats.norm.cdf(0.5 * math.sqrt(5.0 * 0.25)) - 1.0, abs=1e-10
    )
    for d in (40, 160):
        exact = -0.25 * d * math.log1p(-(0.795**2))
        assert exact == pytest.approx(d / 4, rel=1e-3)
        for map_name in ("", "_asinh", "_cube"):
            assert DIVERGENCE_TASKS[f"chasm_d{d}{map_name}"].truth("kl").value == pytest.approx(exact, rel=1e-10)
    assert all(DIVERGENCE_TASKS[name].split == "reporting" for name in ("shift_d5", "shift_d20"))


BREGMAN = {  # KL(p‖q) = F(θq) − F(θp) − (θq − θp) F'(θp), summed over independent coordinates
    "gamma_d1": gammaln(4.5) - gammaln(2.0) - 2.5 * digamma(2.0),
    "gamma_d5": 5.0 * (gammaln(2.0) - gammaln(3.0) + 1.0 * digamma(3.0)),
    "exponential_d5": 5.0 * (math.log(1.8) + 1.0 / 1.8 - 1.0),
    "beta_d2": 2.0 * ((gammaln(3) - gammaln(5)) - (gammaln(5) - gammaln(7)) + 2.0 * (digamma(5) - digamma(7))),
    "laplace_d1_shift": math.exp(-1.0),
    "laplace_d5_scale": 5.0 * (math.log(1.7) + 1.0 / 1.7 - 1.0),
    "uniform_d2_nested": 2.0 * math.log(1.5),
}


def test_truths_are_the_closed_forms():
    for name, exact in BREGMAN.items():
        assert DIVERGENCE_TASKS[name].truth("kl").value == pytest.approx(exact, rel=1e-8), name


def test_truths_along_the_radius_are_the_closed_form():
    """KL(t‖N(0, I)) = ½ d (log 2π + df/(df − 2)) − H(t)."""
    for name, divergence, df in (("student_d5_gaussian", "kl", 5.0), ("student_d20_gaussian", "reverse_kl", 3.0)):
        d = DIVERGENCE_TASKS[name].dim
        entropy = stats.multivariate_t(np.zeros(d), np.eye(d), df=df).entropy()
        exact = 0.5 * d * (math.log(2.0 * math.pi) + df / (df - 2.0)) - entropy
        assert DIVERGENCE_TASKS[name].truth(divergence).value == pytest.approx(exact, rel=1e-8)


def test_reversed_laplace_scales_are_finite():
    """Far out one density underflows long before the other; the ratio stays moderate and the integral finite."""
    exact = 5.0 * (-math.log(1.7) + 1.7 - 1.0)
    assert DIVERGENCE_TASKS["laplace_d5_scale"].truth("reverse_kl").value == pytest.approx(exact, rel=1e-8)


@each_pair
def test_mean_log_ratio_is_kl(name):
    task = DIVERGENCE_TASKS[name]
    x, _ = task.sample(1, N, 2)
    ratio, truth = task.log_ratio(x), task.truth("kl")
    if math.isinf(truth.value):
        assert np.isposinf(ratio).mean() > 0.1
    else:
        assert (
            abs(ratio.mean() - truth.value) <= 4.0 * math.hypot(ratio.std() / math.sqrt(N), truth.standard_error) + 1e-9
        )


@each_pair
def test_divergences_keep_their_inequalities(name):
    """Pinsker, Bretagnolle–Huber, Hellinger, Topsøe, JS by TV, KL by χ², and Jeffreys as a sum."""
    found = truths(name)
    slack = 1e-7 + 6.0 * max(truth.standard_error for truth in found.values())
    kl, reverse, jeffreys, js, tv, hellinger, triangular, pearson = (truth.value for truth in found.values())
    assert jeffreys == pytest.approx(kl + reverse, rel=1e-8, abs=slack)
    for either in (kl, reverse):
        assert 2.0 * tv**2 <= either + slack and hellinger <= either + slack
        assert tv <= math.sqrt(-math.expm1(-either)) + slack
    assert 0.5 * hellinger <= tv + slack and tv <= math.sqrt(hellinger * (1.0 - 0.25 * hellinger)) + slack
    assert hellinger <= triangular + slack and triangular <= min(2.0 * hellinger, 2.0 * tv) + slack
    assert tv**2 <= 0.5 * triangular + slack
    assert 0.25 * triangular <= js + slack and js <= math.log(2.0) * min(0.5 * triangular, tv) + slack
    assert kl <= math.log1p(pearson) + slack


@pytest.mark.parametrize("name", [name for name, task in PAIRS.items() if task.infinite])
def test_declared_infinities_grow_without_bound(name):
    """On the line quadrature agrees; elsewhere p²/q grows along a ray."""
    task = DIVERGENCE_TASKS[name]
    assert set(task.infinite) == {"pearson"} and task.truth("pearson").value == math.inf
    if task.p.dim == 1:
        assert true_divergence(task.p, task.q, "pearson").value == math.inf
    else:
        ray = np.outer([5.0, 10.0, 20.0], np.ones(task.p.dim))
        log_integrand = 2.0 * task.p.log_prob(ray) - task.q.log_prob(ray)
        assert np.all(np.diff(log_integrand) > 0.0) and log_integrand[-1] > 0.0


@pytest.mark.parametrize("name", MAPPED)
def test_a_common_map_changes_samples_and_no_truth(name):
    task = DIVERGENCE_TASKS[name]
    pair = PAIRS[name.removesuffix(f"_{task.map.name}")]
    points, mapped = pair.sample(3, 200, 300), task.sample(3, 200, 300)
    for before, after, n in zip(points, mapped, (200, 300)):
        assert after.shape == (n, task.dim) and after.dtype == np.float64 and np.isfinite(after).all()
        np.testing.assert_array_equal(after, task.map.forward(before))
        np.testing.assert_allclose(task.map.inverse(after), before, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(task.log_ratio(after), pair.log_ratio(before), rtol=1e-6, atol=1e-6)
    assert not np.array_equal(points[0], mapped[0])
    assert (task.p, task.q) == (pair.p, pair.q) and task.infinite == pair.infinite
    assert task.truth("kl") == pair.truth("kl")


def test_samples_of_tasks_follow_from_the_seed():
    task = DIVERGENCE_TASKS["null_d5_gaussian"]
    x, y = task.sample(0, 50)
    assert x.shape == y.shape == (50, 5) and np.all(x != y)  # P = Q, drawn independently
    np.testing.assert_array_equal(x, task.sample(0, 50)[0])
    assert np.all(x != task.sample(1, 50)[0])
    assert all(task.truth(name) == (0.0, 0.0, "closed form") for name in BENCHMARKED)


def test_tasks_refuse_what_they_do_not_know():
    task = DIVERGENCE_TASKS["shift_d5"]
    with pytest.raises(DataError, match=r"\[k, 5\]"):
        task.log_ratio(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="choose from kl"):
        task.truth("neyman")
