"""Targets against SciPy and their own samples."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import digamma, gammaln, logsumexp

from estimators.distributions.examples import FGAN_MIXTURE, RIDGE, TARGETS, TWO_MODES, normal, ring
from estimators.distributions.gaussian import Gaussian
from estimators.distributions.mixture import Mixture
from estimators.exact_values.quadrature import integrate
from estimators.samples.arrays import DataError
from estimators.tasks import targets
from estimators.tasks.divergence_tasks import BENCHMARKED, DIVERGENCE_TASKS
from estimators.tasks.mutual_information_tasks import MUTUAL_INFORMATION_TASKS, staircase_pairs

LINE = {"mixture_1d": FGAN_MIXTURE, "two_modes": TWO_MODES, "normal": normal(-0.7, 0.3)}
on_the_line = pytest.mark.parametrize("target", LINE.values(), ids=LINE)
everywhere = pytest.mark.parametrize(
    "target",
    [FGAN_MIXTURE, ring(), RIDGE, normal((1.0, -2.0, 0.5), 2.0)],
    ids=["mixture_1d", "ring", "ridge", "normal in space"],
)
KEY = jax.random.key(7)


# --- densities and samples -------------------------------------------------------------------------------------------
@on_the_line
def test_density_integrates_to_one_with_its_moments(target):
    mean, sigma = target.moments()
    powers = [lambda x: jnp.ones_like(x), lambda x: x, lambda x: x**2]
    found = [integrate(lambda x, power=power: power(x) * jnp.exp(target.log_prob(x))) for power in powers]
    assert found == pytest.approx([1.0, mean, mean**2 + sigma**2], rel=1e-9)


@everywhere
def test_density_is_scipys(target, dtype):
    points = np.random.default_rng(0).normal(size=(9, target.dim)).astype(dtype)
    parts = [
        math.log(weight) + stats.multivariate_normal(mean, sigma**2 * np.eye(target.dim)).logpdf(points)
        for weight, mean, sigma in zip(target.weights, target.means, target.sigmas)
    ]
    found = target.log_prob(jnp.asarray(points))
    assert found.shape == (9,) and found.dtype == dtype
    np.testing.assert_allclose(found, logsumexp(parts, axis=0), rtol=200 * np.finfo(dtype).eps)


@on_the_line
def test_points_on_the_line_come_with_or_without_an_axis(target, dtype):
    x = jnp.linspace(-3.0, 3.0, 7, dtype=dtype)
    np.testing.assert_array_equal(target.log_prob(x), target.log_prob(x[:, None]))
    assert target.log_prob(x[0]).shape == ()


@everywhere
def test_samples_have_the_moments_of_the_target(target):
    """Within five standard errors: means and variances per coordinate, and the mean log density."""
    n = 20_000
    x = np.asarray(target.sample(KEY, n), np.float64)
    weights, means, sigmas = (np.array(v) for v in (target.weights, target.means, target.sigmas))
    mean = weights @ means
    variance = weights @ (sigmas[:, None] ** 2 + means**2) - mean**2
    squares = (x - mean) ** 2
    assert np.all(np.abs(x.mean(0) - mean) < 5.0 * np.sqrt(variance / n))
    assert np.all(np.abs(squares.mean(0) - variance) < 5.0 * squares.std(0) / math.sqrt(n))
    centre, covariance = target.mean_and_covariance()
    np.testing.assert_allclose(centre, mean, atol=1e-12)
    np.testing.assert_allclose(np.diagonal(covariance), variance, rtol=1e-9)
    products = (x - mean)[:, :, None] * (x - mean)[:, None, :]
    assert np.all(np.abs(products.mean(0) - covariance) < 5.0 * products.std(0) / math.sqrt(n))
    if target.dim == 1:
        assert target.moments() == pytest.approx((mean[0], math.sqrt(variance[0])), rel=1e-12)
        entropy = integrate(lambda x: -target.log_prob(x) * jnp.exp(target.log_prob(x)))
        logs = -np.asarray(target.log_prob(jnp.asarray(x, jnp.float32)))
        assert abs(logs.mean() - entropy) < 5.0 * logs.std() / math.sqrt(n)


@everywhere
def test_samples_follow_from_the_key(target, dtype):
    x = target.sample(KEY, 50)
    assert x.shape == (50, target.dim) and x.dtype == np.float32  # in either precision the same
    np.testing.assert_array_equal(x, target.sample(KEY, 50))
    assert np.all(np.asarray(x) != np.asarray(target.sample(jax.random.key(8), 50)))


@pytest.mark.parametrize(("modes", "radius", "sigma"), [(8, 1.0, 0.01), (5, 3.0, 0.2)])
def test_ring(modes, radius, sigma):
    """Modes at equal angles and radius, each drawn equally often."""
    target, n = ring(modes, radius, sigma), 4000
    means = np.array(target.means)
    np.testing.assert_allclose(np.hypot(*means.T), radius)
    np.testing.assert_allclose(np.diff(np.unwrap(np.arctan2(means[:, 1], means[:, 0]))), 2.0 * np.pi / modes)
    distances = np.linalg.norm(np.asarray(target.sample(KEY, n))[:, None] - means, axis=-1)
    assert np.all(distances.min(1) < 6.0 * sigma)
    counts = np.bincount(distances.argmin(1), minlength=modes)
    assert np.all(np.abs(counts - n / modes) < 5.0 * math.sqrt(n / modes))


def test_the_grid_is_pacgans():
    target = TARGETS["grid"]
    means = np.array(target.means)
    assert len(means) == 25 and set(means.ravel()) == {-4.0, -2.0, 0.0, 2.0, 4.0} and set(target.sigmas) == {0.05}
    assert len(np.unique(means, axis=0)) == 25 and set(target.weights) == {1 / 25}


def test_targets_by_name():
    assert TARGETS["mixture_1d"] is FGAN_MIXTURE and TARGETS["two_modes"] is TWO_MODES and TARGETS["ring"] == ring()
    assert FGAN_MIXTURE.moments() == pytest.approx((1.01, 1.83067), abs=1e-5)
    assert normal((1.0, 2.0), 3.0).dim == 2 and normal(1.0, 3.0).moments() == pytest.approx((1.0, 3.0))


GOOD = {"weights": (0.5, 0.5), "means": ((0.0,), (1.0,)), "sigmas": (1.0, 2.0)}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"weights": (1.0,)}, "as many"),
        ({"sigmas": (1.0,)}, "as many"),
        ({"weights": (), "means": (), "sigmas": ()}, "at least one"),
        ({"weights": (0.5, 0.6)}, "sum to 1"),
        ({"weights": (1.5, -0.5)}, "positive"),
        ({"weights": (1.0, 0.0)}, "positive"),
        ({"weights": (math.nan, 0.5)}, "positive"),
        ({"weights": (0.5, math.nan)}, "positive"),
        ({"sigmas": (1.0, 0.0)}, "sigmas"),
        ({"sigmas": (1.0, math.nan)}, "sigmas"),
        ({"sigmas": (1.0, math.inf)}, "sigmas"),
        ({"means": ((0.0,), (1.0, 2.0))}, "coordinates"),
        ({"means": ((0.0,), (math.nan,))}, "finite"),
    ],
)
def test_bad_mixtures_are_refused(wrong, reason):
    Mixture(**GOOD)
    with pytest.raises(ValueError, match=reason):
        Mixture(**GOOD | wrong)


# --- divergence tasks ------------------------------------------------------------------------------------------------
PAIRS = {name: task for name, task in DIVERGENCE_TASKS.items() if task.map is None}
MAPPED = {name: task for name, task in DIVERGENCE_TASKS.items() if task.map is not None}
SPLITS = {split: [t for t in DIVERGENCE_TASKS.values() if t.split == split] for split in ("tuning", "reporting")}
N = 20_000


@pytest.fixture(scope="module")
def fewer_draws():
    """Truths by Monte Carlo from few draws, which their standard errors know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "DRAWS", 2**14)
        clear_truths()
        yield
    clear_truths()


def clear_truths():
    targets.true_divergence.cache_clear()
    targets._monte_carlo.cache_clear()
    targets._between_gaussians.cache_clear()


def truths(name):
    found = {divergence: DIVERGENCE_TASKS[name].truth(divergence) for divergence in BENCHMARKED}
    for truth in found.values():
        assert truth.value >= -4.0 * truth.standard_error
        assert math.isfinite(truth.standard_error) and (truth.standard_error > 0.0) == (truth.how == "Monte Carlo")
    return found


def test_halves_hold_every_kind_and_dimension(fewer_draws):
    assert len(DIVERGENCE_TASKS) >= 44
    assert all(name == task.name for name, task in DIVERGENCE_TASKS.items())
    assert {t.dim for t in DIVERGENCE_TASKS.values()} >= {1, 2, 5, 20, 50, 160}
    assert {t.kind for t in SPLITS["tuning"]} == {t.kind for t in SPLITS["reporting"]}
    for tasks in SPLITS.values():
        assert {t.kind for t in tasks if t.map is None} == {t.kind for t in tasks if t.map is not None}
        moderate = [t for t in tasks if t.dim <= 20 and t.kind != "null" and t.truth("kl").value <= 3.0]
        assert len(moderate) >= 14
    assert {t.map.name for t in MAPPED.values()} == {"asinh", "cube", "cdf", "spiral", "embedded"}
    values = sorted(v for t in PAIRS.values() if t.kind != "null" and math.isfinite(v := t.truth("kl").value))
    assert 0.05 <= values[0] < 0.08 and 39.0 < values[-1] < 40.0


def test_named_tasks():
    assert DIVERGENCE_TASKS["shift_d5"].truth("kl") == pytest.approx((0.625, 0.0, "closed form"))
    assert DIVERGENCE_TASKS["shift_d20"].truth("kl").value == pytest.approx(2.5, rel=1e-12)
    assert DIVERGENCE_TASKS["shift_d5"].truth("total_variation").value == pytest.approx(
        2.0 * stats.norm.cdf(0.5 * math.sqrt(5.0 * 0.25)) - 1.0, abs=1e-10
    )
    for d in (40, 160):
        exact = -0.25 * d * math.log1p(-(0.795**2))
        assert exact == pytest.approx(d / 4, rel=1e-3)
        for seen in ("", "_asinh", "_cube"):
            assert DIVERGENCE_TASKS[f"chasm_d{d}{seen}"].truth("kl").value == pytest.approx(exact, rel=1e-10)
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


@pytest.mark.parametrize("name", BREGMAN)
def test_truth_is_the_closed_form(name):
    assert DIVERGENCE_TASKS[name].truth("kl").value == pytest.approx(BREGMAN[name], rel=1e-8)


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


HEAVY = {("shift_d5", "pearson"), ("student_d20_gaussian", "reverse_kl"), ("student_d20_gaussian", "jeffreys")}
"""Integrands without a usable variance."""


@pytest.mark.parametrize(
    "name", ["shift_d5", "scale_d20", "student_d2_scale", "student_d20_gaussian", "exponential_d5", "uniform_d5_nested"]
)
def test_exact_truths_are_those_of_monte_carlo(name, fewer_draws):
    task = DIVERGENCE_TASKS[name]
    estimates = targets._monte_carlo(task.p, task.q)
    for divergence, truth in truths(name).items():
        if truth.how != "Monte Carlo" and math.isfinite(truth.value) and (name, divergence) not in HEAVY:
            estimate = estimates[divergence]
            assert abs(estimate.value - truth.value) <= 4.0 * estimate.standard_error + 1e-9


def test_gaussians_meet_between_p_and_q(fewer_draws):
    """The estimate from the geometric mean of P and Q is that of the defensive mixture, and exact on the line."""
    task = DIVERGENCE_TASKS["covariance_d5"]
    general = targets._monte_carlo(task.p, task.q)
    for name, found in targets._between_gaussians(task.p, task.q).items():
        error = math.hypot(found.standard_error, general[name].standard_error)
        assert abs(found.value - general[name].value) <= 4.0 * error
        assert found.standard_error < general[name].standard_error
    task = DIVERGENCE_TASKS["shift_d50"]
    for name, found in targets._between_gaussians(task.p, task.q).items():
        assert abs(found.value - task.truth(name).value) <= 4.0 * found.standard_error


@pytest.mark.parametrize("name", PAIRS)
def test_mean_log_ratio_is_kl(name, fewer_draws):
    task = DIVERGENCE_TASKS[name]
    x, _ = task.sample(1, N, 2)
    ratio, truth = task.log_ratio(x), task.truth("kl")
    if math.isinf(truth.value):
        assert np.isposinf(ratio).mean() > 0.1
    else:
        assert (
            abs(ratio.mean() - truth.value) <= 4.0 * math.hypot(ratio.std() / math.sqrt(N), truth.standard_error) + 1e-9
        )


@pytest.mark.parametrize("name", PAIRS)
def test_divergences_keep_their_inequalities(name, fewer_draws):
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
def test_declared_infinities_grow_without_bound(name, fewer_draws):
    """On the line quadrature agrees; elsewhere p²/q grows along a ray."""
    task = DIVERGENCE_TASKS[name]
    assert set(task.infinite) == {"pearson"} and task.truth("pearson").value == math.inf
    if task.p.dim == 1:
        assert targets.true_divergence(task.p, task.q, "pearson").value == math.inf
    else:
        ray = np.outer([5.0, 10.0, 20.0], np.ones(task.p.dim))
        log_integrand = 2.0 * task.p.log_prob(ray) - task.q.log_prob(ray)
        assert np.all(np.diff(log_integrand) > 0.0) and log_integrand[-1] > 0.0


@pytest.mark.parametrize("name", MAPPED)
def test_a_common_map_changes_samples_and_no_truth(name, fewer_draws):
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
    assert task.truth("kl") == pair.truth("kl") and task.truth("squared_hellinger") == pair.truth("squared_hellinger")


def test_a_spiral_keeps_norms_and_turns_by_the_squared_norm():
    turn = targets.spiral(0.5, [(0, 1)])
    x = np.random.default_rng(0).normal(size=(50, 3))
    y = turn.forward(x)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), np.linalg.norm(x, axis=1))
    np.testing.assert_array_equal(y[:, 2], x[:, 2])
    angle = np.angle((y[:, 0] + 1j * y[:, 1]) / (x[:, 0] + 1j * x[:, 1]) * np.exp(-0.5j * np.sum(x**2, axis=1)))
    np.testing.assert_allclose(angle, 0.0, atol=1e-12)


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


# --- mutual information ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MUTUAL_INFORMATION_TASKS)
def test_mutual_information_tasks_draw_pairs(name):
    task = MUTUAL_INFORMATION_TASKS[name]
    x, z = task.sample(0, 60)
    assert task.name == name and x.shape == (60, task.dim_x) and z.shape == (60, task.dim_y)
    assert x.dtype == z.dtype == np.float64 and np.isfinite(x).all() and np.isfinite(z).all()
    np.testing.assert_array_equal(x, task.sample(0, 60)[0])
    assert np.all(x != task.sample(1, 60)[0])
    if isinstance(task.joint, Gaussian):
        k, scatter = task.split, task.joint.scatter
        dets = [np.linalg.slogdet(block)[1] for block in (scatter, scatter[:k, :k], scatter[k:, k:])]
        assert task.mutual_information == pytest.approx(-0.5 * (dets[0] - dets[1] - dets[2]), rel=1e-10)


def test_mutual_information_of_the_forty():
    values = {name: task.mutual_information for name, task in MUTUAL_INFORMATION_TASKS.items()}
    assert len(values) == 40
    of_pair, of_two_pairs = -0.5 * math.log1p(-(0.75**2)), -math.log1p(-(0.8**2))
    for name, value in values.items():
        if "sparse" in name:
            assert value == pytest.approx(of_two_pairs)
        if "1v1-normal" in name or "bimodal" in name:
            assert value == pytest.approx(of_pair)
    assert values["1v1-additive-0.1"] == pytest.approx(0.1 - math.log(0.2))
    assert values["1v1-additive-0.75"] == pytest.approx(1.0 / 3.0)
    for d in (2, 3, 5, 25, 50):  # the means of x and z have the one canonical correlation
        rho = d / (d + 1.0)
        assert values[f"multinormal-dense-{d}-{d}-0.5"] == pytest.approx(-0.5 * math.log1p(-(rho**2)))
    assert values["student-identity-1-1-1"] == pytest.approx(0.2242, abs=1e-4)
    assert values["asinh-student-identity-5-5-2"] == values["student-identity-5-5-2"]


def test_maps_of_the_mutual_information_tasks():
    """Marginals are what the names say, and each map is invertible."""
    n = 4000
    x, z = MUTUAL_INFORMATION_TASKS["1v1-bimodal-0.75"].sample(0, n)
    for values, weight, low, high in ((x, 0.3, 0.0, 5.0), (z, 0.5, -1.0, 3.0)):

        def cdf(t, weight=weight, low=low, high=high):
            return weight * stats.norm.cdf(t - low) + (1.0 - weight) * stats.norm.cdf(t - high)

        assert stats.kstest(values[:, 0], cdf).pvalue > 1e-3
    for values in MUTUAL_INFORMATION_TASKS["normal_cdf-1v1-normal-0.75"].sample(0, n):
        assert stats.kstest(values[:, 0], stats.uniform.cdf).pvalue > 1e-3
    roll, _ = MUTUAL_INFORMATION_TASKS["swissroll_x-normal_cdf-1v1-normal-0.75"].sample(0, n)
    radius = 21.0 * np.linalg.norm(roll, axis=1)
    assert np.all((radius > 1.5 * math.pi) & (radius < 4.5 * math.pi))
    line = np.linspace(-8.0, 8.0, 4001)[:, None]
    wiggly, bimodal = (MUTUAL_INFORMATION_TASKS[name] for name in ("wiggly-1v1-normal-0.75", "1v1-bimodal-0.75"))
    for monotone in (wiggly.map_x, wiggly.map_y, bimodal.map_x, bimodal.map_y):
        assert np.all(np.diff(monotone(line)[:, 0]) > 0.0)


@pytest.mark.parametrize("information", [0.0, 2.0, 30.0])
def test_staircase_pairs(information):
    """Correlation √(1 − e^{−2I/d}) in every coordinate, within five standard errors."""
    n, d = 20_000, 20
    x, z = staircase_pairs(np.random.default_rng(0), n, information, dim=d)
    assert x.shape == z.shape == (n, d)
    rho = math.sqrt(-math.expm1(-2.0 * information / d))
    assert -0.5 * d * math.log1p(-(rho**2)) == pytest.approx(information)
    assert np.all(np.abs(np.mean(x * z, axis=0) - rho) < 5.0 * math.sqrt((1.0 + rho**2) / n))
    assert np.all(np.abs(np.mean(z**2, axis=0) - 1.0) < 5.0 * math.sqrt(2.0 / n))


@pytest.mark.parametrize("information", [-1.0, math.inf, math.nan])
def test_staircase_refuses(information):
    with pytest.raises(ValueError, match="finite"):
        staircase_pairs(np.random.default_rng(0), 10, information)
