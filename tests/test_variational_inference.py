"""Variational inference: gradients against quadrature, values with their error and bias, fits against exact ones."""

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estimators.distributions.examples import FGAN_MIXTURE
from estimators.distributions.mixture import Mixture
from estimators.divergences.generator import from_generator
from estimators.divergences.perspective import log_perspective
from estimators.divergences.table import divergence
from estimators.exact_values.fits import best_gaussian
from estimators.exact_values.quadrature import exact_divergence, line_rule
from estimators.objectives.families import GAUSSIAN, GaussianParameters
from estimators.objectives.variational_inference import Objective, _estimate, estimate, fit, gradient

TARGET = Mixture(weights=(0.6, 0.4), means=((-1.0,), (1.2,)), sigmas=(0.8, 0.6))
LOG_Z = 1.3
WIDE = GaussianParameters.of([0.2], [[2.0]])  # r = p/q is bounded, so that the weights r² of pearson have a variance
MINE = from_generator("mine", lambda u: (u - 1.0) ** 2 / (u + 2.0))
FORMS = ("doubly_reparameterised", "reparameterised", "score")
PAIRS = [(d, FORMS[0]) for d in ("kl", "js", MINE)] + [("kl", form) for form in FORMS[1:]]
SLOW = [(d, FORMS[0]) for d in ("pearson", "alpha(0.5)")] + [("js", form) for form in FORMS[1:]]
PAIRS += [pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW]


def unnormalised(x):
    return TARGET.log_prob(x) + LOG_Z


def problem(d, target=unnormalised, **options) -> Objective:
    return Objective(log_target=target, family=GAUSSIAN, divergence=d, **options)


def flat(theta) -> jax.Array:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in theta])


@cache
def exact_gradient(d) -> np.ndarray:
    """∇ D_f at WIDE by quadrature: (of the mean, of log σ)."""
    with jax.enable_x64(True):
        x, weights = line_rule((-12.0, 12.0), 2048)  # nodes close enough for a kink
        log_p, points = TARGET.log_prob(x), jnp.asarray(x)[:, None]

        def value(theta):
            return weights @ jnp.exp(log_perspective(divergence(d))(log_p, GAUSSIAN.log_prob(theta, points)))

        return np.asarray(
            flat(jax.jit(jax.grad(value))(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), WIDE)))
        )


def repeats(objective, n: int, samples: int, theta=WIDE, **options) -> np.ndarray:
    """n gradients, [n, 2] at WIDE."""
    keys = jax.random.split(jax.random.key(0), n)
    return np.asarray(jax.jit(jax.vmap(lambda k: flat(gradient(objective, theta, k, samples, **options))))(keys))


def assert_mean_is(found: np.ndarray, expected: np.ndarray) -> None:
    error = found.std(axis=0, ddof=1) / math.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - expected) <= 4.0 * error).all(), (found.mean(axis=0), expected, error)
    assert (error < 0.1 * np.abs(expected).max()).all()  # or it would not see a wrong one


# --- gradients -------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(("d", "form"), PAIRS, ids=str)
def test_with_z_known_every_gradient_is_without_bias(d, form):
    assert_mean_is(repeats(problem(d, log_normaliser=LOG_Z, estimator=form), 4000, 8), exact_gradient(d))


@pytest.mark.parametrize("d", ["total_variation", "hockey_stick(1.2)"])
def test_where_f_has_a_kink_the_score_form_is_without_bias_and_the_others_are_refused(d):
    assert problem(d).form == "score"
    assert_mean_is(repeats(problem(d, log_normaliser=LOG_Z), 8000, 8), exact_gradient(d))
    with pytest.raises(ValueError, match=r"misses the kink of f.*use score"):
        problem(d, estimator="reparameterised")


@pytest.mark.parametrize("d", ["kl", pytest.param("js", marks=pytest.mark.slow), "total_variation"])
def test_with_z_estimated_they_are_consistent(d):
    """The bias, of order 1/n, is far below the standard error of 200 repeats of 1024 samples."""
    assert_mean_is(repeats(problem(d), 200, 1024), exact_gradient(d))


def test_reverse_kl_needs_no_z_at_all():
    """Two samples: where an estimated Z would bias most, there is none in it."""
    assert problem("reverse_kl").form == "doubly_reparameterised"
    assert_mean_is(repeats(problem("reverse_kl"), 8000, 2), exact_gradient("reverse_kl"))


@pytest.mark.parametrize(
    ("d", "form"), [("reverse_kl", FORMS[0]), ("reverse_kl", FORMS[1]), (MINE, FORMS[0]), (MINE, FORMS[2])], ids=str
)
def test_at_the_target_itself_no_gradient_has_a_variance(d, form):
    at_optimum = problem(d, lambda x: GAUSSIAN.log_prob(WIDE, x) + LOG_Z, estimator=form)
    assert np.abs(repeats(at_optimum, 20, 32)).max() < 5e-6


@pytest.mark.slow
def test_near_the_target_the_doubly_reparameterised_one_has_the_least():
    """In ten dimensions, where q is a little off and too wide: less than half the deviation of the other two."""
    theta = GaussianParameters.of(np.full(10, 0.2), 1.2 * np.eye(10))
    standard = GaussianParameters.of(np.zeros(10), np.eye(10))
    target = partial(GAUSSIAN.log_prob, standard)
    found = [repeats(problem("kl", target, estimator=form), 200, 32, theta=theta) for form in FORMS]
    best, *others = (math.sqrt(gradients.var(axis=0).sum()) for gradients in found)
    assert best < 0.5 * min(others)


@pytest.mark.parametrize(("d", "power"), [("kl", 1.0), pytest.param("neyman", -1.0, marks=pytest.mark.slow)])
def test_a_relative_gradient_is_that_of_renyi_and_free_of_z(d, power):
    """∇ log E_q[w^α]/(α(α − 1)) = −Σ ω_i ∂_x log w · ∂T/∂θ, ω = softmax(α log w): the limit at α = 1."""
    first, other = (repeats(problem(d, log_normaliser=z), 3, 16, relative=True) for z in (LOG_Z, LOG_Z + 2.0))
    np.testing.assert_allclose(first, other, rtol=1e-4, atol=1e-6)

    @jax.jit
    @jax.vmap
    def weighted(key):
        fixed = jax.lax.stop_gradient

        def value(theta):
            x = GAUSSIAN.sample(theta, key, 16)
            log_w = unnormalised(x) - GAUSSIAN.log_prob(fixed(theta), x)
            return -jax.nn.softmax(power * fixed(log_w)) @ log_w

        return flat(jax.grad(value)(WIDE))

    expected = weighted(jax.random.split(jax.random.key(0), 3))
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-6)


# --- values ----------------------------------------------------------------------------------------------------------
def test_the_value_is_that_of_quadrature():
    found = estimate(problem("js"), WIDE, jax.random.key(2), 2**15)
    exact = exact_divergence(TARGET.log_prob, lambda x: GAUSSIAN.log_prob(WIDE, x[:, None]), "js", tol=1e-8)
    assert abs(float(found.value) - exact) < 4.0 * float(found.standard_error)
    assert float(found.standard_error) < 0.05 * exact
    assert float(found.log_normaliser) == pytest.approx(LOG_Z, abs=0.05)


def test_swap_is_the_divergence_in_the_other_order():
    u = jnp.asarray([0.1, 0.7, 1.0, 3.0])
    np.testing.assert_allclose(problem("kl", swap=True).d.f(u), divergence("reverse_kl").f(u), rtol=1e-6, atol=1e-7)


def test_its_error_and_its_bias_are_those_of_repeats(x64):
    narrow = GaussianParameters.of([-1.0], [[1.5]])
    keys, several = jax.random.split(jax.random.key(3), 2000), jax.tree.map(lambda leaf: leaf[None], narrow)
    objective = problem("kl")
    found = jax.jit(jax.vmap(lambda key: _estimate(objective, narrow, several, key, 128)))(keys)
    exact = exact_divergence(TARGET.log_prob, lambda x: GAUSSIAN.log_prob(narrow, x[:, None]), "kl", tol=1e-9)
    value, bias = np.asarray(found.value), float(jnp.mean(found.bias))
    error = value.std() / math.sqrt(len(keys))
    assert abs(bias) > 4.0 * error  # there is one to see
    assert value.mean() - exact == pytest.approx(bias, abs=4.0 * error)
    assert float(jnp.sqrt(jnp.mean(found.standard_error**2))) == pytest.approx(value.std(), rel=0.1)


def test_samples_outside_the_support_of_p_make_reverse_kl_infinite():
    inside = lambda x: jnp.where(jnp.abs(x[:, 0]) < 1.0, 0.0, -jnp.inf)  # noqa: E731
    found = estimate(problem("reverse_kl", inside), WIDE, jax.random.key(0), 100)
    assert np.isinf(found.value) and found.standard_error == 0.0


def test_a_mode_that_is_never_visited_is_seen_through_the_fits_of_others():
    """reverse_kl of half a target is log 2; its own samples, whose Ẑ is half of Z, say 0."""
    apart = Mixture(weights=(0.5, 0.5), means=((-9.0,), (9.0,)), sigmas=(1.0, 1.0))
    left, right = (GaussianParameters.of([m], [[1.0]]) for m in (-9.0, 9.0))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), left, right)
    objective = problem("reverse_kl", apart.log_prob)
    alone = estimate(objective, left, jax.random.key(0), 1000)
    together = estimate(objective, left, jax.random.key(0), 1000, proposals=both)
    assert float(alone.value) == pytest.approx(0.0, abs=1e-9)
    assert float(alone.effective_sample_size) == pytest.approx(1000.0)
    assert float(alone.log_normaliser) == pytest.approx(-math.log(2.0))
    assert float(together.value) == pytest.approx(math.log(2.0), abs=1e-9)
    narrow = estimate(objective, GaussianParameters.of([-9.0], [[0.04]]), jax.random.key(0), 1000)
    assert narrow.heavy_tailed and not alone.heavy_tailed and not together.heavy_tailed


# --- fits ------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_fit_from_two_starts_reaches_the_exact_optimum():
    best = best_gaussian(FGAN_MIXTURE, "js")
    starts = [GaussianParameters.of([m], [[s]]) for m, s in ((-1.0, 0.1), (2.0, 1.0))]
    found = fit(
        problem("js", lambda x: FGAN_MIXTURE.log_prob(x) - 2.0),
        starts,
        jax.random.key(0),
        seeds=2,
        samples=256,
        steps=500,
    )
    assert found.all_estimates.value.shape == (2, 2) and found.estimate.value.shape == (2,)
    for i in range(2):
        mean, sigma = float(found.parameters.mean[i, 0]), math.exp(float(found.parameters.log_scale[i, 0]))
        model = GaussianParameters.of([mean], [[sigma**2]])
        exact = exact_divergence(
            FGAN_MIXTURE.log_prob, lambda x, m=model: GAUSSIAN.log_prob(m, x[:, None]), "js", tol=1e-7
        )
        assert 0.0 <= exact - best["value"] + 1e-6 < 5e-4
        assert abs(found.estimate.value[i] - exact) < 4.0 * found.estimate.standard_error[i]
        assert (found.estimate.value[i] <= found.all_estimates.value[i]).all()


@pytest.mark.slow
def test_a_family_that_holds_the_target_finds_it_exactly():
    """The variance of the gradient vanishes there, so a fit ends on the target to rounding, under any smooth f."""
    truth = GaussianParameters.of([1.0, -0.5], [[1.5, 0.6], [0.6, 0.8]])
    objective = problem("kl", lambda x: GAUSSIAN.log_prob(truth, x) + LOG_Z)
    found = fit(objective, [GaussianParameters.of([0.0, 0.0], np.eye(2))], jax.random.key(0), samples=64, steps=1500)
    for leaf, expected in zip(found.parameters, truth):
        np.testing.assert_allclose(leaf[0], expected, atol=2e-4)


# --- the Gaussian family, and bad input ------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_gaussian_family_is_that_of_scipy(x64):
    from scipy.stats import multivariate_normal

    covariance = np.array([[2.0, 0.3, -0.5], [0.3, 1.0, 0.2], [-0.5, 0.2, 0.7]])
    theta = GaussianParameters.of([0.1, -1.0, 2.0], covariance)
    x = GAUSSIAN.sample(theta, jax.random.key(0), 5)
    assert x.dtype == "float64" and x.shape == (5, 3)
    expected = multivariate_normal([0.1, -1.0, 2.0], covariance).logpdf(np.asarray(x, np.float64))
    np.testing.assert_allclose(GAUSSIAN.log_prob(theta, x), expected, rtol=1e-12)
    np.testing.assert_allclose(theta.covariance(), covariance, rtol=1e-12, atol=1e-12)
    many = np.asarray(GAUSSIAN.sample(theta, jax.random.key(1), 20_000), np.float64)
    np.testing.assert_allclose(np.cov(many.T), covariance, atol=0.08)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: problem("kl", estimator="sticky"), "estimator = 'sticky': choose from auto"),
        (lambda: problem("no such"), "unknown divergence"),
        (lambda: gradient(problem("kl"), WIDE, jax.random.key(0), 1), "samples = 1"),
        (lambda: estimate(problem("kl"), WIDE, jax.random.key(0), 9, proposals=WIDE), "one axis in front"),
        (lambda: fit(problem("kl"), [], jax.random.key(0)), "0 starts"),
        (lambda: fit(problem("kl"), [WIDE], jax.random.key(0), learning_rate=0.0), "a positive rate"),
        (partial(GaussianParameters.of, [0.0, 1.0], [[1.0, 2.0], [2.0, 1.0]]), "positive definite"),
        (partial(GaussianParameters.of, [0.0, 1.0], [[1.0]]), r"give \[d\] and \[d, d\]"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
