"""Tasks of mutual information beyond the forty: truths by an independent oracle, margins, rotations.

The oracle of most is the mean of log p(x, z)/p(x)p(z) over fresh pairs, which must lie within four standard errors.
"""

import math

import numpy as np
import pytest
from scipy import stats

from estimators.distributions.copulas import Clayton, Gumbel
from estimators.distributions.elliptical import Gaussian
from estimators.distributions.mixture import MixtureOf
from estimators.distributions.networks import NoisyNetwork
from estimators.distributions.pairs import GammaExponential, Pairs
from estimators.distributions.product import AdditiveNoise
from estimators.exact_values.planar import planar_information
from estimators.tasks.bend_and_mix_tasks import BEND_AND_MIX_TASKS, in_the_plane, of_inliers, of_radii
from estimators.tasks.copula_tasks import COPULA_TASKS, of_normal_margins, opposed_correlations
from estimators.tasks.information_tasks import INFORMATION_TASKS
from estimators.tasks.network_tasks import NETWORK_TASKS, STEPS, by_monte_carlo
from estimators.tasks.products_of_pairs import CONVERGENCE, PRODUCTS_OF_PAIRS, correlation, noise, rotation


def assert_mean(values, expected, error=0.0):
    """The mean of independent values is the expected one, within four standard errors."""
    assert abs(values.mean() - expected) < 4.0 * math.hypot(stats.sem(values), error)


@pytest.mark.parametrize("name", INFORMATION_TASKS)
def test_tasks_draw_pairs(name):
    task = INFORMATION_TASKS[name]
    x, z = task.sample(0, 60)
    assert task.name == name and x.shape == (60, task.dim_x) and z.shape == (60, task.dim_y)
    assert x.dtype == z.dtype == np.float64 and np.isfinite(x).all() and np.isfinite(z).all()
    np.testing.assert_array_equal(x, task.sample(0, 60)[0])
    assert np.all(x != task.sample(1, 60)[0])


# --- products --------------------------------------------------------------------------------------------------------
def test_products_have_the_published_totals():
    totals = {"uniform-noise-4-0.25": 3.77, "uniform-noise-8-0.1": 13.68, "gamma-exponential-8-0.5": 5.84}
    for name, total in totals.items():
        assert PRODUCTS_OF_PAIRS[name].truth.value == pytest.approx(total, abs=0.006)
        assert PRODUCTS_OF_PAIRS[f"rotated-{name}"].truth == PRODUCTS_OF_PAIRS[name].truth


@pytest.mark.parametrize("shape", [0.5, 1.0, 3.0])
def test_gamma_exponential(shape):
    """Its information is the mean of log p(x, z)/p(x)p(z), within four standard errors; its margins are known."""
    law = GammaExponential(shape=shape)
    points = law.sample(np.random.default_rng(0), 50_000)
    lomax = stats.lomax(shape)
    ratios = law.log_prob(points) - stats.gamma.logpdf(points[:, 0], shape) - lomax.logpdf(points[:, 1])
    assert_mean(ratios, law.mutual_information())
    assert stats.kstest(points[:4000, 0], stats.gamma(shape).cdf).pvalue > 1e-3
    assert stats.kstest(points[:4000, 1], lomax.cdf).pvalue > 1e-3


def test_a_product_adds_the_densities_of_its_pairs():
    law = GammaExponential(shape=2.0)
    pairs = Pairs(law=law, copies=3)
    points = pairs.sample(np.random.default_rng(0), 5)
    each = [law.log_prob(points[:, [j, 3 + j]]) for j in range(3)]
    np.testing.assert_allclose(pairs.log_prob(points), np.sum(each, axis=0))


def test_rotations_keep_norms_and_differ_on_either_side():
    d = 4
    x = np.random.default_rng(0).standard_normal((100, d))
    first, second = rotation(d, 0)(x), rotation(d, 1)(x)
    np.testing.assert_allclose(first @ first.T, x @ x.T, atol=1e-12)
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(first, rotation(d, 0)(x))


# --- convergence -----------------------------------------------------------------------------------------------------
def test_the_grid_shares_two_nats_a_pair():
    assert all(task.truth.value == pytest.approx(2.0 * task.dim_x) for task in CONVERGENCE.values())
    assert -0.5 * math.log1p(-(correlation(2.0) ** 2)) == pytest.approx(2.0)
    assert AdditiveNoise(epsilon=noise(2.0)).mutual_information() == pytest.approx(2.0)


def test_margins_of_the_grid():
    n = 4000
    cdfs = {
        "correlated-normal-4": stats.norm.cdf,
        "correlated-uniform-4": stats.uniform.cdf,
        "correlated-half-cube-4": lambda t: stats.norm.cdf(np.cbrt(t) * np.abs(np.cbrt(t))),
    }
    for name, cdf in cdfs.items():
        x, z = CONVERGENCE[name].sample(0, n)
        assert stats.kstest(x[:, 0], cdf).pvalue > 1e-3 and stats.kstest(z[:, 3], cdf).pvalue > 1e-3
        assert stats.spearmanr(x[:, 1], z[:, 1]).statistic > 0.9 > abs(stats.spearmanr(x[:, 1], z[:, 2]).statistic)
    x, z = CONVERGENCE["smoothed-uniform-4"].sample(0, n)
    assert stats.kstest(x[:, 0], stats.uniform.cdf).pvalue > 1e-3 and np.abs(z - x).max() <= noise(2.0)


# --- copulas ---------------------------------------------------------------------------------------------------------
COPULAS = [Clayton(theta=0.5), Clayton(theta=4.0), Gumbel(theta=1.5), Gumbel(theta=3.0)]


@pytest.mark.parametrize("law", COPULAS, ids=str)
def test_copulas(law):
    """Closed forms against quadrature and a Monte Carlo mean; margins; Kendall's tau, θ/(θ + 2) or 1 − 1/θ."""
    assert law.mutual_information() == pytest.approx(of_normal_margins(law).value, abs=1e-8)
    points = law.sample(np.random.default_rng(0), 50_000)
    assert_mean(law.log_prob(points) - stats.norm.logpdf(points).sum(axis=1), law.mutual_information())
    assert all(stats.kstest(points[:4000, j], stats.norm.cdf).pvalue > 1e-3 for j in range(2))
    tau = law.theta / (law.theta + 2.0) if isinstance(law, Clayton) else 1.0 - 1.0 / law.theta
    assert stats.kendalltau(*points[:4000].T).statistic == pytest.approx(tau, abs=0.03)


@pytest.mark.parametrize("law", COPULAS, ids=str)
def test_copulas_with_uniform_margins(law):
    """The same pairs in ranks: log c of the ranks is the log-ratio of the scores."""
    uniform = type(law)(theta=law.theta, normal_margins=False)
    scores, ranks = (each.sample(np.random.default_rng(0), 2000) for each in (law, uniform))
    np.testing.assert_allclose(stats.norm.cdf(scores), ranks, rtol=1e-9)
    ratio = law.log_prob(scores) - stats.norm.logpdf(scores).sum(axis=1)
    np.testing.assert_allclose(uniform.log_prob(ranks), ratio, rtol=1e-6, atol=1e-6)
    assert np.isneginf(uniform.log_prob(np.array([[0.5, 1.2], [-0.1, 0.5]]))).all()


def test_mixtures_of_copulas():
    """By a Monte Carlo mean; a product of four has four times the information, rotated or not."""
    for name in ("gaussian-mixture-1-0.8", "clayton-gumbel-mixture-1-4.0-3.0"):
        one, four = COPULA_TASKS[name], COPULA_TASKS[name.replace("-1-", "-4-")]
        points = np.concatenate(one.sample(0, 50_000), axis=1)
        ratios = one.joint.law.log_prob(points) - stats.norm.logpdf(points).sum(axis=1)
        assert_mean(ratios, one.truth.value)
        assert four.truth.value == pytest.approx(4.0 * one.truth.value) and one.truth.how == "quadrature"
    assert COPULA_TASKS["rotated-gaussian-mixture-4-0.8"].truth == COPULA_TASKS["gaussian-mixture-4-0.8"].truth


def test_quadrature_in_the_plane():
    """A Gaussian pair exactly; a mixture alike on half the step; a grid too small is refused."""
    pair, ends = CONVERGENCE["correlated-normal-4"].joint.law, (-9.0, 9.0)
    assert planar_information(pair.log_prob, ends, ends, (0.1, 0.1)) == pytest.approx(2.0, abs=1e-10)
    mixture = opposed_correlations(0.8)
    finer = planar_information(mixture.log_prob, ends, ends, (0.025, 0.025))
    assert of_normal_margins(mixture).value == pytest.approx(finer, abs=1e-9)
    with pytest.raises(ValueError, match="has the mass"):
        planar_information(pair.log_prob, (-1.0, 1.0), ends, (0.1, 0.1))


# --- version 2 of the benchmark --------------------------------------------------------------------------------------
MIXTURES = [name for name, task in BEND_AND_MIX_TASKS.items() if task.known is not None]


def test_the_twenty_six():
    assert len(BEND_AND_MIX_TASKS) == 26 and len(MIXTURES) == 13
    values = {name: task.truth.value for name, task in BEND_AND_MIX_TASKS.items()}
    for share in (0.2, 0.5):
        pairs = [values[f"mult-sparse-w-inliers-{d}-{d}-2-2.0-{share}"] for d in (5, 25)]
        assert pairs[0] == pairs[1] < values["multinormal-sparse-5-5-2-2.0"]
    for d, components in [(3, 5), (5, 10), (25, 5)]:
        assert 0.0 < values[f"{d}v1-concentric_gaussians-{components}"] < math.log(components)


@pytest.mark.parametrize("name", MIXTURES)
def test_truths_of_mixtures(name):
    """By the log densities of the joint law and of both margins, which are mixtures too."""
    task = BEND_AND_MIX_TASKS[name]
    mixture, k = task.joint, task.split
    sides = slice(k), slice(k, None)
    points = mixture.sample(np.random.default_rng(0), 20_000)
    margins = 0.0
    for side in sides:
        components = tuple(law.marginal(side) for law in mixture.components)
        margins += MixtureOf(weights=mixture.weights, components=components).log_prob(points[:, side])
    assert_mean(mixture.log_prob(points) - margins, task.truth.value)


def test_reductions_in_their_limits():
    """No inliers, or all; equal components; far apart ones."""
    assert of_inliers(0.8, 1e-9).value == pytest.approx(-math.log1p(-0.64), abs=1e-6)
    assert of_inliers(0.8, 1.0 - 1e-9).value == pytest.approx(0.0, abs=1e-6)
    assert of_radii(3, [2.0, 2.0]).value == pytest.approx(0.0, abs=1e-9)
    assert of_radii(3, [1.0, 1000.0]).value == pytest.approx(math.log(2.0), abs=1e-4)
    one = MixtureOf(
        weights=(1.0,), components=(Gaussian(location=np.zeros(2), scatter=np.array([[4.0, 1.9], [1.9, 1.0]])),)
    )
    assert in_the_plane(one).value == pytest.approx(-0.5 * math.log1p(-(0.95**2)), abs=1e-10)


def test_bends_are_those_of_the_source():
    """The waves' second column stays Gaussian; either bend undone gives back the mixture."""
    x, z = BEND_AND_MIX_TASKS["2v1-waves-12-5.0-3.0"].sample(0, 4000)
    assert stats.kstest(2.0 * x[:, 1], stats.norm.cdf).pvalue > 1e-3
    flat = 10.0 * (x[:, 0] + 0.8) - 5.0 * np.sin(6.0 * x[:, 1])
    assert abs(flat.mean() - 1.5 * 5.5) < 4.0 * stats.sem(flat)
    assert np.mean(np.round(flat / 1.5) % 4 == np.round(z[:, 0] / 1.5)) > 0.95
    x, _ = BEND_AND_MIX_TASKS["2v1-galaxy-0.5-3.0"].sample(0, 4000)
    angle = -0.5 * np.sum(x**2, axis=1)
    back = np.cos(angle) * x[:, 0] - np.sin(angle) * x[:, 1]
    cdf = lambda t: 0.5 * (stats.norm.cdf(t - 1.5) + stats.norm.cdf(t + 1.5))  # noqa: E731
    assert stats.kstest(back, cdf).pvalue > 1e-3


# --- networks --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NETWORK_TASKS)
def test_truths_of_networks(name):
    """The stored mean against a fresh one of few terms; p(x) against an average over draws of Z, not over a grid."""
    task = NETWORK_TASKS[name]
    law, n = task.joint, 2000 if task.joint.latent == 1 else 400
    fresh = by_monte_carlo(law, n, seed=1)
    assert abs(fresh.value - task.truth.value) < 4.0 * math.hypot(fresh.standard_error, task.truth.standard_error)
    assert task.truth.how == "Monte Carlo" and task.truth.standard_error <= 0.002
    rng = np.random.default_rng(2)
    x, z = np.split(law.sample(rng, 100), [law.dim_x], axis=1)
    centres = law.network(rng.standard_normal((20_000, law.latent)))
    squares = np.sum(x**2, axis=1)[:, None] - 2.0 * x @ centres.T + np.sum(centres**2, axis=1)
    weights = np.exp(-0.5 * squares / law.sigma**2)
    constant = law.dim_x * math.log(law.sigma * math.sqrt(2.0 * math.pi))
    averages, errors = weights.mean(axis=1), stats.sem(weights, axis=1)
    exact = np.exp(law.log_marginal(x, STEPS[law.latent]) + constant)
    assert np.mean(np.abs(averages - exact) < 4.0 * errors + 1e-12) > 0.97
    joint = law.log_prob(np.concatenate([x, z], axis=1)) - stats.norm.logpdf(z).sum(axis=1)
    np.testing.assert_allclose(joint, law.log_likelihood(x, z))


def test_networks_are_fixed_and_the_rule_has_converged():
    law, again = (NoisyNetwork(dim_x=3, dim_z=5, latent=2, sigma=0.5) for _ in range(2))
    points = law.sample(np.random.default_rng(0), 20)
    np.testing.assert_array_equal(points, again.sample(np.random.default_rng(0), 20))
    x, frame = points[:, :3], law.weights[0]
    np.testing.assert_allclose(law.log_marginal(x, 0.1), law.log_marginal(x, 0.05), atol=1e-6)
    np.testing.assert_allclose(frame.T @ frame, np.eye(2), atol=1e-12)
