"""Mutual-information tasks: exact values against closed forms written out here, samples against their marginals."""

import math

import numpy as np
import pytest
from scipy import stats

from estimators.distributions.elliptical import Gaussian
from estimators.tasks.mutual_information_tasks import MUTUAL_INFORMATION_TASKS, staircase_pairs


@pytest.mark.parametrize(
    "name", [n for n, task in MUTUAL_INFORMATION_TASKS.items() if isinstance(task.joint, Gaussian)]
)
def test_gaussian_tasks_have_the_closed_form(name):
    task = MUTUAL_INFORMATION_TASKS[name]
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
    """Marginals are what the names promise."""
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
