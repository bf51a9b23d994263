"""Families: densities against SciPy's, samples against their own densities, mutual information against closed forms."""

import itertools
import math

import jax
import numpy as np
import pytest
from scipy import integrate, special, stats

from estimators.distributions.elliptical import Elliptical, Gaussian, StudentT
from estimators.distributions.examples import FGAN_MIXTURE, ring
from estimators.distributions.mixture import MixtureOf, in_numpy
from estimators.distributions.product import AdditiveNoise, Box, Product

SCATTER = np.array([[2.0, 0.6, 0.1], [0.6, 1.0, -0.3], [0.1, -0.3, 0.5]])
CENTRE = np.array([1.0, -2.0, 0.5])
GAUSSIAN = Gaussian(location=CENTRE, scatter=SCATTER)
STUDENT = StudentT(location=CENTRE, scatter=SCATTER, df=3.0)
PRODUCT = Product(marginals=(stats.norm(1.0, 2.0), stats.gamma(2.5), stats.beta(2.0, 3.0)))
BOX = Box(low=(-1.0, 0.0, 2.0), high=(1.0, 0.5, 5.0))
MIXTURE = MixtureOf(weights=(0.3, 0.7), components=(GAUSSIAN, STUDENT))
LINE = Gaussian(location=[0.5], scatter=[[4.0]])
NOISE = AdditiveNoise(epsilon=0.2)


def oracle_product(x):
    return sum(law.logpdf(column) for law, column in zip(PRODUCT.marginals, x.T))


def oracle_mixture(x):
    return np.log(0.3 * np.exp(ORACLES["gaussian"][1](x)) + 0.7 * np.exp(ORACLES["student"][1](x)))


ORACLES = {
    "gaussian": (GAUSSIAN, lambda x: stats.multivariate_normal(CENTRE, SCATTER).logpdf(x)),
    "student": (STUDENT, lambda x: stats.multivariate_t(CENTRE, SCATTER, df=3.0).logpdf(x)),
    "product": (PRODUCT, oracle_product),
    "box": (BOX, lambda x: stats.uniform(BOX.low, np.subtract(BOX.high, BOX.low)).logpdf(x).sum(axis=1)),
    "mixture": (MIXTURE, oracle_mixture),
    "line": (LINE, lambda x: stats.norm(0.5, 2.0).logpdf(x[:, 0])),
}
every = pytest.mark.parametrize(("law", "oracle"), ORACLES.values(), ids=ORACLES)


@every
def test_density_is_scipys(law, oracle):
    x = np.concatenate([law.sample(np.random.default_rng(0), 20), np.random.default_rng(1).normal(size=(20, law.dim))])
    found = law.log_prob(x)
    assert found.shape == (40,) and found.dtype == np.float64
    np.testing.assert_allclose(found, oracle(x), rtol=1e-10)
    np.testing.assert_allclose(law.log_prob(x[:1]), found[:1], rtol=1e-12)


INSIDE = {
    "gaussian": (GAUSSIAN, Gaussian(location=CENTRE + 0.2, scatter=0.5 * SCATTER)),
    "student": (STUDENT, Gaussian(location=CENTRE + 0.2, scatter=0.5 * SCATTER)),
    "product": (PRODUCT, Box(low=(0.0, 1.0, 0.2), high=(2.0, 3.0, 0.8))),
    "box": (BOX, Box(low=(-0.5, 0.1, 3.0), high=(0.6, 0.4, 4.5))),
    "mixture": (MIXTURE, Gaussian(location=CENTRE + 0.2, scatter=0.5 * SCATTER)),
    "line": (LINE, Gaussian(location=[0.0], scatter=[[1.0]])),
    "noise": (NOISE, Box(low=(0.3, 0.35), high=(0.45, 0.4))),
}


@pytest.mark.parametrize(("law", "inner"), INSIDE.values(), ids=INSIDE)
def test_samples_follow_the_density(law, inner):
    """E_P[q/p] = 1 for any q within the support: a wrong sampler or normalisation moves it, p here and q shifted."""
    n = 40_000
    x = law.sample(np.random.default_rng(3), n)
    assert x.shape == (n, law.dim) and x.dtype == np.float64
    ratio = np.exp(inner.log_prob(x) - law.log_prob(x))
    assert abs(ratio.mean() - 1.0) < 4.0 * ratio.std() / math.sqrt(n)
    back = law.log_prob(inner.sample(np.random.default_rng(4), 100))
    assert np.isfinite(back).all()


@every
def test_samples_follow_from_the_generator(law, oracle):
    draws = [law.sample(np.random.default_rng(seed), 5) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.all(draws[0] != draws[2])
    assert law.sample(np.random.default_rng(0), 1).shape == (1, law.dim)


def test_nothing_outside_the_support():
    outside = np.array([[0.0, 0.6, 3.0], [0.0, 0.3, 1.9]])
    assert np.all(BOX.log_prob(outside) == -np.inf)
    assert PRODUCT.log_prob(np.array([[0.0, -1.0, 0.5]]))[0] == -np.inf
    assert np.all(NOISE.log_prob(np.array([[0.5, 0.71], [1.1, 1.0]])) == -np.inf)


def test_overlap_of_boxes():
    unit = Box(low=(0.0, 0.0), high=(1.0, 1.0))
    assert unit.log_overlap(Box(low=(0.5, -1.0), high=(3.0, 0.25))) == pytest.approx(math.log(0.125))
    assert unit.log_overlap(Box(low=(2.0, 0.0), high=(3.0, 1.0))) == -math.inf
    assert BOX.log_volume() == pytest.approx(math.log(3.0))


@pytest.mark.parametrize("mixture", [FGAN_MIXTURE, ring(3, 1.0, 0.4)], ids=["line", "plane"])
def test_mixture_in_numpy_is_the_mixture(mixture, x64):
    x = np.random.default_rng(0).normal(size=(50, mixture.dim))
    np.testing.assert_allclose(in_numpy(mixture).log_prob(x), mixture.log_prob(jax.numpy.asarray(x)), rtol=1e-12)


# --- mutual information ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("k", [1, 2])
def test_mutual_information_of_gaussians(k):
    """½ log |Sx| |Sz| / |S|."""
    dets = [np.linalg.det(block) for block in (SCATTER[:k, :k], SCATTER[k:, k:], SCATTER)]
    assert GAUSSIAN.mutual_information(k) == pytest.approx(0.5 * math.log(dets[0] * dets[1] / dets[2]), rel=1e-10)


@pytest.mark.parametrize("k", [1, 2])
def test_mutual_information_of_students(k):
    """The Gaussian's, plus the term of the common divisor by log-gamma and digamma functions."""

    def entropy(d, df):  # of the standard t in d dimensions
        half = 0.5 * (df + d)
        shape = special.gammaln(0.5 * df) - special.gammaln(half) + 0.5 * d * math.log(df * math.pi)
        return shape + half * (special.digamma(half) - special.digamma(0.5 * df))

    extra = entropy(k, 3.0) + entropy(3 - k, 3.0) - entropy(3, 3.0)
    assert extra > 0.0
    assert STUDENT.mutual_information(k) == pytest.approx(GAUSSIAN.mutual_information(k) + extra, rel=1e-10)


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 0.75, 2.0])
def test_mutual_information_of_additive_noise(epsilon):
    """H(Z) − H(N), Z the sum of two uniforms."""

    def minus_entropy(z):
        density = (min(1.0, z + epsilon) - max(0.0, z - epsilon)) / (2.0 * epsilon)
        return special.xlogy(density, density)

    kinks = sorted({-epsilon, epsilon, 1.0 - epsilon, 1.0 + epsilon})
    entropy = -sum(integrate.quad(minus_entropy, a, b)[0] for a, b in itertools.pairwise(kinks))
    found = AdditiveNoise(epsilon=epsilon).mutual_information()
    assert found == pytest.approx(entropy - math.log(2.0 * epsilon), abs=1e-7)


# --- refusals --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Gaussian(location=CENTRE, scatter=np.eye(2)), "must be \\[d\\] and \\[d, d\\]"),
        (
            lambda: Gaussian(location=[0.0, 0.0], scatter=[[1.0, 2.0], [2.0, 1.0]]).log_prob(np.zeros((1, 2))),
            "positive",
        ),
        (lambda: Box(low=(0.0,), high=(0.0,)), "below"),
        (lambda: Box(low=(0.0,), high=(1.0, 2.0)), "below"),
        (lambda: MixtureOf(weights=(1.0,), components=()), "as many"),
        (lambda: MixtureOf(weights=(0.5, 0.5), components=(GAUSSIAN, LINE)), "one dimension"),
        (lambda: MixtureOf(weights=(0.5, 0.6), components=(GAUSSIAN, STUDENT)), "sum to 1"),
    ],
)
def test_bad_parameters_are_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


def test_an_elliptical_law_is_abstract():
    with pytest.raises(NotImplementedError):
        Elliptical(location=CENTRE, scatter=SCATTER).log_prob(np.zeros((1, 3)))
