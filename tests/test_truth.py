"""True divergences: each way of computing one against another, and against closed forms written out here."""

import math

import numpy as np
import pytest
from scipy import stats

from estimators.distributions.elliptical import Gaussian, StudentT
from estimators.distributions.product import Box, Product
from estimators.divergences.generator import from_generator
from estimators.divergences.table import divergence
from estimators.exact_values import monte_carlo
from estimators.exact_values.moments import OF_MOMENTS
from estimators.exact_values.monte_carlo import defensive
from estimators.exact_values.truth import on_the_line, true_divergence

STANDARD = Gaussian(location=np.zeros(3), scatter=np.eye(3))
SHIFTED = Gaussian(location=np.full(3, 0.4), scatter=np.eye(3))
NARROW = Gaussian(location=np.full(3, 0.1), scatter=np.array([[0.8, 0.2, 0.0], [0.2, 0.9, 0.1], [0.0, 0.1, 0.7]]))
HEAVY = StudentT(location=np.zeros(3), scatter=np.eye(3), df=5.0)
WIDE = StudentT(location=np.zeros(3), scatter=1.7 * np.eye(3), df=5.0)
P, Q = (
    Product(marginals=(stats.norm(mean), stats.gamma(shape), stats.beta(2.0, 3.0)))
    for mean, shape in ((0.0, 2.0), (0.3, 2.4))
)
UNIT, MOVED = Box(low=(0.0, 0.0), high=(1.0, 1.0)), Box(low=(0.2, -0.1), high=(1.2, 1.1))


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    """Monte Carlo from few draws, which the standard errors take into account."""
    monkeypatch.setattr(monte_carlo, "DRAWS", 2**14)
    true_divergence.cache_clear()
    yield
    true_divergence.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("p", "q", "name", "how"),
    [
        (STANDARD, STANDARD, "kl", "closed form"),
        (UNIT, MOVED, "js", "closed form"),
        (STANDARD, NARROW, "alpha(1.5)", "closed form"),
        (STANDARD, SHIFTED, "js", "quadrature"),
        (HEAVY, WIDE, "kl", "quadrature"),
        (P, Q, "kl", "quadrature"),
        (STANDARD, NARROW, "js", "quadrature"),
        (P, Q, "js", "Monte Carlo"),
        (STANDARD, HEAVY, "jeffreys", "quadrature"),
    ],
)
def test_the_most_exact_way_is_the_average_of_monte_carlo(p, q, name, how):
    truth, (value, error, _) = true_divergence(p, q, name), defensive(p, q, divergence(name))
    assert truth.how == how and (truth.standard_error > 0.0) == (how == "Monte Carlo")
    assert abs(truth.value - value) <= 4.0 * math.hypot(error, truth.standard_error) + 1e-12


def test_gaussians_of_one_covariance_meet_on_the_line():
    """2Φ(δ/2) − 1 for total variation, at the Mahalanobis distance δ."""
    exact = 2.0 * stats.norm.cdf(0.5 * 0.4 * math.sqrt(3.0)) - 1.0
    assert true_divergence(STANDARD, SHIFTED, "total_variation").value == pytest.approx(exact, abs=1e-8)


def test_no_line_is_known_for_others():
    assert on_the_line(STANDARD, NARROW) is None and on_the_line(P, Q) is None and on_the_line(SHIFTED, HEAVY) is None


@pytest.mark.parametrize("name", OF_MOMENTS)
def test_independent_coordinates_combine(name):
    """Two coordinates by their combination, against quadrature in the plane of Gaussians by closed form."""
    p, q = (Product(marginals=(stats.norm(0.0), stats.norm(mean, 0.9))) for mean in (0.0, 0.4))
    q = Product(marginals=(stats.norm(0.2, 0.8), q.marginals[1]))
    gaussians = [
        Gaussian(
            location=np.array([m.mean() for m in law.marginals]), scatter=np.diag([m.var() for m in law.marginals])
        )
        for law in (p, q)
    ]
    truth, exact = true_divergence(p, q, name), true_divergence(*gaussians, name)
    assert (truth.how, exact.how) == ("quadrature", "closed form")
    assert truth.value == pytest.approx(exact.value, rel=1e-8)


def test_hardly_overlapping_gaussians_are_at_their_greatest_distance():
    far = Gaussian(location=np.full(3, 30.0), scatter=NARROW.scatter)
    assert true_divergence(STANDARD, far, "js").value == pytest.approx(math.log(2.0), abs=1e-13)


@pytest.mark.slow
def test_a_divergence_of_the_user_has_a_truth():
    mine = from_generator("mine", lambda u: (u - 1.0) ** 2)
    assert true_divergence(STANDARD, SHIFTED, mine).how == "quadrature"
    exact = true_divergence(STANDARD, SHIFTED, "pearson")
    assert exact.how == "closed form"
    assert true_divergence(STANDARD, SHIFTED, mine).value == pytest.approx(exact.value, rel=1e-9)
    named = from_generator("kl", lambda u: (u - 1.0) ** 2)  # the name of another
    assert true_divergence(STANDARD, SHIFTED, named).value == pytest.approx(exact.value, rel=1e-9)


def test_mass_outside_the_support_makes_it_infinite_by_rule():
    outside = Product(marginals=(stats.norm(), stats.norm(), stats.norm()))
    assert defensive(outside, P, divergence("kl"))[:2] == (math.inf, 0.0)
    assert math.isfinite(defensive(outside, P, divergence("js")).value)
