"""Named distributions against SciPy: densities, moments, entropies and samples; batches, transformations, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from estimators import distributions as dist
from estimators.distributions.foreign import named_as

KEY = jax.random.key(0)
SAME = {
    "Normal": (dist.Normal(1.0, 2.0), stats.norm(1, 2)),
    "LogNormal": (dist.LogNormal(0.3, 0.5), stats.lognorm(0.5, scale=np.exp(0.3))),
    "Laplace": (dist.Laplace(1.0, 2.0), stats.laplace(1, 2)),
    "Logistic": (dist.Logistic(1.0, 2.0), stats.logistic(1, 2)),
    "StudentT": (dist.StudentT(5.0, 1.0, 2.0), stats.t(5, 1, 2)),
    "Cauchy": (dist.Cauchy(1.0, 2.0), stats.cauchy(1, 2)),
    "Gumbel": (dist.Gumbel(1.0, 2.0), stats.gumbel_r(1, 2)),
    "Uniform": (dist.Uniform(1.0, 3.0), stats.uniform(1, 2)),
    "Exponential": (dist.Exponential(2.0), stats.expon(scale=0.5)),
    "Gamma": (dist.Gamma(2.5, 3.0), stats.gamma(2.5, scale=1 / 3)),
    "InverseGamma": (dist.InverseGamma(4.5, 3.0), stats.invgamma(4.5, scale=3)),
    "Weibull": (dist.Weibull(2.0, 1.5), stats.weibull_min(1.5, scale=2)),
    "Beta": (dist.Beta(2.0, 3.0), stats.beta(2, 3)),
    "VonMises": (dist.VonMises(1.0, 2.0), stats.vonmises(2, 1)),
    "Bernoulli": (dist.Bernoulli(0.3), stats.bernoulli(0.3)),
    "Binomial": (dist.Binomial(7, 0.3), stats.binom(7, 0.3)),
    "Poisson": (dist.Poisson(3.0), stats.poisson(3)),
    "Geometric": (dist.Geometric(0.3), stats.geom(0.3, loc=-1)),
    "NegativeBinomial": (dist.NegativeBinomial(2.5, 0.3), stats.nbinom(2.5, 0.3)),
}
OUTSIDE = {"LogNormal": -1.0, "Uniform": 3.5, "Exponential": -0.1, "Gamma": -1.0, "InverseGamma": -1.0, "Weibull": -1.0}
OUTSIDE |= {"Beta": 1.5, "VonMises": 4.0, "Bernoulli": 2.0, "Binomial": 8.0, "Poisson": -1.0, "Geometric": 0.5}
DRAWS = 4000


def _log(theirs):
    return theirs.logpmf if hasattr(theirs, "logpmf") else theirs.logpdf


@pytest.mark.parametrize("name", SAME)
def test_density_moments_and_entropy_are_scipys(name, x64):
    ours, theirs = SAME[name]
    x = theirs.rvs(size=(50, 1), random_state=np.random.default_rng(1))
    np.testing.assert_allclose(ours.log_prob(x), _log(theirs)(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(float(ours.mean), theirs.mean(), rtol=1e-12)
    if name != "VonMises":  # its variance here is the circular one
        np.testing.assert_allclose(float(ours.variance), theirs.var(), rtol=1e-11)
    np.testing.assert_allclose(float(ours.entropy()), theirs.entropy(), rtol=1e-11, atol=1e-11)
    if name in OUTSIDE:
        assert ours.log_prob(OUTSIDE[name]) == -np.inf


def test_circular_variance_and_entropy_of_the_uniform_angle(x64):
    flat = dist.VonMises(0.5, 0.0)
    np.testing.assert_allclose(float(flat.variance), 1.0)
    np.testing.assert_allclose(float(flat.entropy()), np.log(2.0 * np.pi))
    np.testing.assert_allclose(jax.grad(lambda k: dist.VonMises(0.5, k).entropy())(0.0), 0.0, atol=1e-12)


@pytest.mark.parametrize("name", SAME)
def test_samples_follow_the_law(name):
    """Kolmogorov–Smirnov of continuous ones, χ² of counts, each at level 1e-4."""
    ours, theirs = SAME[name]
    x = np.asarray(ours.sample(jax.random.key(3), DRAWS), np.float64)
    if hasattr(theirs.dist, "pdf"):
        where = (lambda v: theirs.cdf(v) - theirs.cdf(-np.pi)) if name == "VonMises" else theirs.cdf
        assert stats.kstest(x, where).pvalue > 1e-4
    else:
        values, counts = np.unique(x, return_counts=True)
        expected = DRAWS * theirs.pmf(values)
        often = expected > 5.0
        observed, expected = (np.append(v[often], DRAWS - v[often].sum()) for v in (counts, expected))
        rest = expected > 1e-3
        assert (
            stats.chisquare(observed[rest], expected[rest] * observed[rest].sum() / expected[rest].sum()).pvalue > 1e-4
        )


def test_vectors_and_matrices_are_scipys(x64):
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    rows = {
        "covariance": dist.MultivariateNormal([1.0, 2.0], covariance),
        "cholesky": dist.MultivariateNormal([1.0, 2.0], cholesky=np.linalg.cholesky(covariance)),
    }
    theirs = stats.multivariate_normal([1, 2], covariance)
    x = theirs.rvs(size=20, random_state=0)
    for p in rows.values():
        np.testing.assert_allclose(p.log_prob(x), theirs.logpdf(x), rtol=1e-12)
        np.testing.assert_allclose(float(p.entropy()), theirs.entropy(), rtol=1e-12)
        np.testing.assert_allclose(p.variance, [2.0, 1.0])
    a = np.array([2.0, 3.0, 0.5])
    x = stats.dirichlet(a).rvs(20, random_state=0)
    np.testing.assert_allclose(dist.Dirichlet(a).log_prob(x), stats.dirichlet(a).logpdf(x.T), rtol=1e-10)
    np.testing.assert_allclose(float(dist.Dirichlet(a).entropy()), stats.dirichlet(a).entropy(), rtol=1e-12)
    np.testing.assert_allclose(dist.Dirichlet(a).variance, stats.dirichlet(a).var(), rtol=1e-12)
    p, theirs = dist.Wishart(5.5, covariance), stats.wishart(5.5, covariance)
    x = theirs.rvs(size=20, random_state=0)
    np.testing.assert_allclose(p.log_prob(x), theirs.logpdf(np.moveaxis(x, 0, -1)), rtol=1e-12)
    np.testing.assert_allclose(float(p.entropy()), theirs.entropy(), rtol=1e-12)
    np.testing.assert_allclose(p.variance, theirs.var(), rtol=1e-12)
    assert p.log_prob(np.diag([1.0, -1.0])) == -np.inf


@pytest.mark.parametrize(
    "p",
    [
        dist.MultivariateNormal([1.0, 2.0], [[2.0, 0.5], [0.5, 1.0]]),
        dist.MultivariateNormal([1.0, 2.0], diagonal=[2.0, 0.5]),
        dist.Dirichlet([2.0, 3.0, 0.5]),
        dist.Wishart(5.5, [[2.0, 0.5], [0.5, 1.0]]),
        dist.Product([dist.Gamma(2.0, 1.0), dist.MultivariateNormal([0.0, 1.0], diagonal=[1.0, 4.0])]),
        dist.Mixture([0.3, 0.7], [dist.Normal(-1.0, 1.0), dist.Normal(2.0, 0.5)]),
        dist.Transformed(dist.Normal(0.0, 1.0), dist.Affine(1.0, -2.0)),
        dist.Categorical(probs=[0.1, 0.2, 0.7]),
    ],
    ids=lambda p: type(p).__name__,
)
def test_mean_and_variance_are_those_of_samples(p):
    x = np.asarray(p.sample(KEY, DRAWS), np.float64)
    assert x.shape == (DRAWS, *p.event_shape)
    error = x.std(axis=0) / np.sqrt(DRAWS)
    np.testing.assert_array_less(np.abs(x.mean(axis=0) - p.mean), 4.5 * error)
    spread = ((x - x.mean(axis=0)) ** 2).std(axis=0) / np.sqrt(DRAWS)
    np.testing.assert_array_less(np.abs(x.var(axis=0) - p.variance), 4.5 * spread)


def test_mean_of_minus_log_density_is_the_entropy():
    for p in (
        dist.Product([dist.Gamma(2.0, 1.0), dist.Laplace(0.0, 3.0)]),
        dist.Categorical(logits=[0.0, 1.0, -np.inf]),
    ):
        values = -np.asarray(p.log_prob(p.sample(KEY, DRAWS)), np.float64)
        assert abs(values.mean() - float(p.entropy())) < 4.5 * values.std() / np.sqrt(DRAWS)


@pytest.mark.parametrize(
    "map_, base",
    [
        (dist.EXP, dist.Normal(0.2, 1.0)),
        (dist.RECIPROCAL, dist.Gamma(2.0, 1.0)),
        (dist.TANH, dist.Normal(0.2, 1.0)),
        (dist.SIGMOID, dist.Normal(0.2, 1.0)),
        (dist.Affine(1.0, -2.0), dist.Gumbel(0.2, 1.0)),
        (dist.Power(3.0), dist.Exponential(1.0)),
        (dist.NegativeLog(2.0), dist.Exponential(1.0)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_an_image_has_the_density_that_the_slope_of_its_map_gives(map_, base, x64):
    p = dist.Transformed(base, map_)
    x = base.sample(KEY, 9)
    slope = jax.vmap(jax.grad(map_.forward))(x)
    np.testing.assert_allclose(map_.inverse(map_.forward(x)), x, rtol=1e-9)
    np.testing.assert_allclose(p.log_prob(map_.forward(x)), base.log_prob(x) - jnp.log(jnp.abs(slope)), rtol=1e-9)
    low, high = p.support.low, p.support.high
    assert np.all((map_.forward(x) > low) & (map_.forward(x) < high))
    assert p.log_prob(np.inf) == -np.inf


def test_batches_broadcast_and_index():
    p = dist.Normal(np.zeros((3, 1)), np.arange(1.0, 5.0))
    assert p.batch_shape == (3, 4)
    assert p.sample(KEY, 5).shape == (5, 3, 4)
    assert p.log_prob(np.zeros((7, 3, 4))).shape == (7, 3, 4)
    assert p.mean.shape == p.variance.shape == p.entropy().shape == (3, 4)
    assert float(p[1, 2].scale) == 3.0
    mixed = dist.Product([dist.Normal(0.0, np.ones(3)), dist.Gamma(2.0, 1.0)])
    draws = mixed.sample(KEY, 5)
    assert draws.shape == (5, 3, 2) and mixed.log_prob(draws).shape == (5, 3)
    assert len(np.unique(draws)) == 30  # a marginal without a batch has its own draws along it
    assert mixed[1].batch_shape == ()


def test_parts_of_a_product_draw_apart_along_axes_of_length_one():
    x = np.asarray(dist.Product([dist.Normal(np.zeros((3, 1))), dist.Gamma(2.0, np.ones(2))]).sample(KEY, 500))
    assert abs(np.corrcoef(x[:, 0, 0, 0], x[:, 0, 1, 0])[0, 1]) < 0.2


def test_sharp_angles_are_drawn():
    x = np.asarray(dist.VonMises(0.5, 1e8).sample(KEY, 2000), np.float64)
    assert abs(x.std() / 1e-4 - 1.0) < 0.1


def test_go_through_jit_grad_and_vmap():
    p = dist.Gamma(jnp.array([1.0, 2.0]), 1.0)
    jitted = jax.jit(lambda p, x: p.log_prob(x))(p, jnp.array(2.0))
    np.testing.assert_allclose(jitted, p.log_prob(2.0), rtol=1e-5)
    np.testing.assert_allclose(
        jax.vmap(lambda one: one.entropy())(dist.Gamma(jnp.ones(3), jnp.ones(3))), 1.0, rtol=1e-5
    )
    slope = jax.grad(lambda rate: dist.Gamma(2.0, rate).log_prob(-1.0))(1.0)  # outside the support
    assert slope == 0.0


@pytest.mark.parametrize(
    "make, bad, x",
    [
        (lambda v: dist.Normal(0.0, v), -1.0, 0.3),
        (lambda v: dist.Gamma(2.0, v), jnp.nan, 0.3),
        (lambda v: dist.Bernoulli(v), 1.5, 1.0),
        (lambda v: dist.Dirichlet(v * jnp.ones(3)), -1.0, np.array([0.2, 0.3, 0.5])),
        (lambda v: dist.MultivariateNormal(np.zeros(2), v * jnp.eye(2)), -1.0, np.zeros(2)),
    ],
)
def test_traced_parameters_out_of_their_domain_give_no_nan(make, bad, x):
    """−∞ for log densities, ∞ for the rest, gradients 0."""
    assert jax.jit(lambda v: make(v).log_prob(x))(bad) == -np.inf
    assert jax.jit(lambda v: make(v).entropy())(bad) == np.inf
    assert jax.jit(jax.grad(lambda v: make(v).log_prob(x)))(bad) == 0.0
    assert np.isfinite(jax.jit(lambda v: make(v).log_prob(x))(0.5))


def test_keep_the_digits_of_python_numbers(x64):
    np.testing.assert_allclose(dist.Normal(0.1, 0.3).log_prob(0.2), stats.norm(0.1, 0.3).logpdf(0.2), rtol=1e-15)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: dist.Normal(0.0, -1.0), "scale = -1: it must be positive"),
        (lambda: dist.Normal(0.0, [1.0, 0.0]), r"scale\[1\] = 0: it must be positive"),
        (lambda: dist.Gamma(np.nan), "concentration = nan"),
        (lambda: dist.Beta("a", 1.0), "no array of numbers"),
        (lambda: dist.Normal(np.zeros(3), np.ones(2)), r"do not broadcast: loc \(3,\), scale \(2,\)"),
        (lambda: dist.MultivariateNormal([0.0, 1.0], [[1.0, 2.0], [2.0, 1.0]]), "symmetric and positive definite"),
        (lambda: dist.MultivariateNormal([0.0, 1.0], [[1.0, 0.5], [0.0, 1.0]]), "symmetric and positive definite"),
        (lambda: dist.MultivariateNormal([0.0, 1.0], cholesky=[[1.0, 1.0], [0.0, 1.0]]), "lower triangular"),
        (lambda: dist.MultivariateNormal([0.0], np.eye(2)), "give as many"),
        (lambda: dist.MultivariateNormal([0.0], np.eye(1), diagonal=[1.0]), "one of covariance, diagonal, cholesky"),
        (lambda: dist.Categorical(probs=[0.2, 0.3]), "sum 1"),
        (lambda: dist.Categorical(probs=[1.2, -0.2]), "not negative"),
        (lambda: dist.Categorical(), "one of probs, logits"),
        (lambda: dist.Bernoulli(1.5), "between 0 and 1"),
        (lambda: dist.Binomial(2.5, 0.1), "whole number"),
        (lambda: dist.Uniform(3.0, 1.0), "low must lie below high"),
        (lambda: dist.Wishart(0.5, np.eye(2)), "above 1"),
        (lambda: dist.Dirichlet(1.0), "at least a vector"),
        (lambda: dist.Mixture([0.5, 0.5], [dist.Normal()]), "as many weights as components"),
        (lambda: dist.Product([]), "at least one marginal"),
        (lambda: dist.Affine(0.0, 0.0), "scale not 0"),
        (lambda: dist.Product([dist.Normal()]).log_prob(np.zeros(3)), "last axis must be 1"),
        (lambda: named_as(3.0), "give a distribution"),
        (lambda: named_as(dist.Normal), "give one with its parameters"),
        (lambda: named_as(stats.binom(3, 0.5, loc=0.5)), "no integers"),
        (lambda: dist.Gamma(dist.Normal(), 1.0), "no array of numbers"),
        (lambda: dist.Mixture([1.0], [3.0]), "is no distribution"),
        (lambda: dist.Mixture([0.5, 0.5], [dist.Poisson(2.0), dist.Normal()]), "integers and reals"),
        (lambda: dist.Product([dist.Normal(np.zeros(2)), dist.Normal(np.zeros(3))]), "do not broadcast"),
        (lambda: dist.Transformed(dist.Normal(), 3), "give a Map"),
        (lambda: dist.Transformed(dist.Normal(), dist.Power(2.0)), "maps numbers above 0"),
        (lambda: dist.Transformed(dist.Poisson(2.0), dist.Affine(0.0, 2.0)), "map continuous ones"),
        (lambda: dist.Power(0.0), "other than 0"),
        (lambda: dist.NegativeLog(-1.0), "positive and finite"),
    ],
)
def test_bad_input_is_named_with_its_value_and_remedy(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_moments_that_do_not_exist_are_not_numbers():
    assert np.isnan(dist.Cauchy().mean) and np.isnan(dist.StudentT(1.0).mean)
    assert dist.StudentT(1.5).variance == np.inf and dist.InverseGamma(1.5).variance == np.inf


@pytest.mark.parametrize("name", SAME)
def test_scipys_frozen_distributions_become_named_ones(name):
    ours, theirs = SAME[name]
    found = named_as(theirs)
    assert type(found) is type(ours)
    for mine, same in zip(found.parameters().values(), ours.parameters().values()):
        assert mine is same is None or np.allclose(mine, same, rtol=1e-12)


def test_what_has_no_name_here_is_evaluated_by_its_own_library():
    shifted = named_as(stats.gamma(2.0, loc=1.0))
    assert shifted.support.low == 1.0
    np.testing.assert_allclose(shifted.log_prob(2.0), stats.gamma(2.0, loc=1.0).logpdf(2.0))
    assert shifted.sample(KEY, 3).shape == (3,)
    wide = named_as(stats.multivariate_t([0.0, 1.0], np.eye(2), df=4.0))
    assert wide.event_shape == (2,) and wide.sample(KEY, 3).shape == (3, 2)


@pytest.mark.slow
def test_numpyros_distributions_become_named_ones():
    theirs = pytest.importorskip("numpyro.distributions")
    for made, kind in (
        (theirs.Gamma(2.0, 3.0), dist.Gamma),
        (theirs.MultivariateNormal(np.zeros(2), np.eye(2)), dist.MultivariateNormal),
        (theirs.Categorical(logits=np.zeros(3)), dist.Categorical),
        (theirs.Beta(2.0, 3.0), dist.Beta),
    ):
        ours = named_as(made)
        assert type(ours) is kind
        x = ours.sample(KEY, 4)
        with jax.numpy_rank_promotion("allow"):
            np.testing.assert_allclose(ours.log_prob(x), made.log_prob(x), rtol=1e-4, atol=1e-5)
    half = named_as(theirs.HalfNormal(1.0))
    assert (half.support.low, half.support.high, half.support.kind) == (0.0, np.inf, "reals")
    assert named_as(theirs.ZeroInflatedPoisson(0.3, 2.0)).support.kind == "integers"


@pytest.mark.parametrize(
    ("p", "scipys"),
    [
        (dist.Poisson(5e8), stats.poisson(5e8)),
        (dist.Geometric(1e-6), stats.geom(1e-6, loc=-1)),
        (dist.Binomial(1e7, 0.5), stats.binom(10**7, 0.5)),
    ],
)
def test_large_counts_follow_the_law(p, scipys, dtype):
    """By SciPy's quantiles: each of 16 cells of equal mass holds its share, to five standard errors."""
    n = 20_000
    x = np.asarray(p.sample(jax.random.key(0), n))
    assert np.issubdtype(x.dtype, np.integer)
    edges = scipys.ppf(np.linspace(0.0, 1.0, 17)[1:-1])
    held = np.bincount(np.searchsorted(edges, x), minlength=16) / n
    mass = np.diff(np.concatenate([[0.0], scipys.cdf(edges), [1.0]]))
    assert np.all(np.abs(held - mass) < 5.0 * np.sqrt(mass / n))
    assert np.max(np.abs(x - scipys.mean())) < (6.0 if p.support.high != np.inf else 15.0) * scipys.std()


def test_large_rates_have_no_tails_of_their_own(dtype):
    """The fourth moment of 20 000 standardised counts, 3 with a standard error of √(96/n)."""
    x = np.asarray(dist.Poisson(5e8).sample(jax.random.key(1), 20_000)).astype(float)
    assert np.mean(((x - 5e8) / 5e8**0.5) ** 4) == pytest.approx(3.0, abs=5.0 * (96.0 / 20_000) ** 0.5)


@pytest.mark.parametrize("rate", [5e3, 2e4, 1e5, 9.9e5])
def test_the_spread_of_large_rates_is_theirs(rate, dtype):
    """Variance and fourth moment of 100 000 counts; their standard errors are √(2/n) and √(96/n)."""
    n = 100_000
    z = (np.asarray(dist.Poisson(rate).sample(jax.random.key(2), n)).astype(float) - rate) / rate**0.5
    assert np.mean(z**2) == pytest.approx(1.0, abs=5.0 * (2.0 / n) ** 0.5)
    assert np.mean(z**4) == pytest.approx(3.0, abs=5.0 * (96.0 / n) ** 0.5)


LARGE_COUNTS = {
    "Poisson": (dist.Poisson, stats.poisson, [(0.3,), (14.0,), (100.0,), (1e6,), (1e8,)]),
    "Binomial": (
        dist.Binomial,
        stats.binom,
        [(2, 0.3), (50, 0.9), (3e6, 0.5), (3e6, 0.3), (1.6e7, 1e-6), (1e7, 0.9999)],
    ),
    "NegativeBinomial": (
        dist.NegativeBinomial,
        stats.nbinom,
        [(0.01, 0.3), (20.7, 0.1), (1e5, 0.5), (100_000.3, 0.3), (1e6, 0.9), (5.0, 1e-6)],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_COUNTS)
def test_log_probabilities_of_large_counts_keep_their_digits(name, dtype):
    """Within eight deviations of the mean and at the ends, by SciPy in float64 at the parameters as rounded."""
    law, scipys, cases = LARGE_COUNTS[name]
    for case in cases:
        parameters = tuple(float(np.asarray(v, dtype)) for v in case)
        theirs = scipys(*parameters)
        x = np.round(theirs.mean() + theirs.std() * np.array([-8.0, -3.0, -1.0, 0.0, 0.3, 1.0, 3.0, 8.0]))
        top = case[0] if name == "Binomial" else np.inf
        x = np.clip(np.concatenate([x, [0.0, 1.0, 7.0, 8.0, top if top < np.inf else 2.0]]), 0.0, top).astype(dtype)
        expected = theirs.logpmf(x.astype(float))
        found = law(*parameters).log_prob(x)
        error = np.abs(np.asarray(found, float) - expected) / np.maximum(1.0, np.abs(expected))
        assert np.max(error) < (1e-6 if dtype == np.float32 else 1e-7), (parameters, x[np.argmax(error)])
        # SciPy’s Poisson in float64 is a difference of terms of 2e9, good to 4e-7 over |log p| > 10
        slopes = jax.jacfwd(lambda v, x=x, case=case: law(*case[:-1], v).log_prob(x))(np.asarray(parameters[-1], dtype))
        assert np.all(np.isfinite(slopes)), parameters
    score = {"Poisson": (1e6,), "Binomial": (3e6, 0.25), "NegativeBinomial": (1e5, 0.25)}[name]
    x = float(scipys(*score).mean()) + 1024.0
    slope = jax.grad(lambda v: law(*score[:-1], v).log_prob(x))(score[-1])
    by_hand = {
        "Poisson": lambda: x / 1e6 - 1.0,
        "Binomial": lambda: (x - 3e6 * 0.25) / (0.25 * 0.75),
        "NegativeBinomial": lambda: 1e5 / 0.25 - x / 0.75,
    }[name]()
    assert float(slope) == pytest.approx(by_hand, rel=1e-4)


@pytest.mark.slow
def test_ends_of_counts_are_exact(dtype):
    """No chance, certainty, none: one power stands alone, or nothing does."""
    np.testing.assert_array_equal(dist.Binomial(3, np.array([0.0, 1.0])).log_prob(0), [0.0, -np.inf])
    np.testing.assert_array_equal(dist.Binomial(3, np.array([0.0, 1.0])).log_prob(2), [-np.inf, -np.inf])
    np.testing.assert_array_equal(dist.Binomial(3, np.array([0.0, 1.0])).log_prob(3), [-np.inf, 0.0])
    assert float(dist.Poisson(2.5).log_prob(0)) == -2.5
    np.testing.assert_array_equal(dist.NegativeBinomial(2.0, 1.0).log_prob(np.array([0.0, 1.0])), [0.0, -np.inf])


@pytest.mark.parametrize(
    "law",
    [
        lambda: dist.Poisson(1e10),
        lambda: dist.NegativeBinomial(4.0, 1e-10),
        lambda: dist.NegativeBinomial(0.01, 1.0 / (1.0 + 2e9 / 4.02)),  # its tail outreaches its deviation
        lambda: dist.Geometric(1e-10),
    ],
)
def test_counts_beyond_int32_are_refused_and_fit_int64(law):
    with pytest.raises(ValueError, match=r": counts up to .* are beyond 2.15e\+09, .*; take smaller .*switch on x64"):
        law().sample(jax.random.key(0), 3)
    with jax.enable_x64(True):
        p = law()
        x = np.asarray(p.sample(jax.random.key(0), 2000)).astype(float)
        assert abs(x.mean() - float(p.mean)) < 5.0 * (float(p.variance) / 2000) ** 0.5


@pytest.mark.slow
def test_more_tries_than_float32_counts_are_refused():
    with pytest.raises(ValueError, match=r"Binomial: counts up to 1e\+09 are beyond 1.68e\+07"):
        dist.Binomial(1e9, 0.5).sample(jax.random.key(0), 3)
