"""Policies: closed forms, brute force, the identity between the gap and the KL to the optimum."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import brentq, minimize
from scipy.special import rel_entr, softmax

from estimators.objectives.policies import (
    adapted_coefficient,
    categorical_kl,
    entropy,
    fisher_product,
    gaussian_kl,
    line_search,
    natural_step,
    policy_value,
    regularised_optimum,
    soft_value_iteration,
    squashed_gaussian_kl,
    squashed_log_prob,
    visits,
)

BETA, DISCOUNT = 0.5, 0.8
best_of = jax.jit(regularised_optimum)
solved = jax.jit(soft_value_iteration, static_argnames=("discount", "tolerance"))
value_of = jax.jit(policy_value, static_argnames="discount")
visited = jax.jit(visits, static_argnames="discount")


@pytest.fixture
def process(x64):
    """(rewards [3, 2], transitions [3, 2, 3], prior logits [3, 2]) of a random MDP."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, 2)), rng.dirichlet(np.ones(3), size=(3, 2)), rng.normal(size=(3, 2))


# --- divergences ------------------------------------------------------------------------------------------------------


def test_categorical_kl_and_entropy_are_scipys():
    m, n = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    p, q = (softmax(x.astype(float), axis=-1) for x in (m, n))
    np.testing.assert_allclose(categorical_kl(m, n), rel_entr(p, q).sum(axis=-1), rtol=1e-5)
    np.testing.assert_allclose(entropy(m), stats.entropy(p, axis=-1), rtol=1e-5)


def test_actions_that_are_not_allowed_count_for_nothing_or_make_it_infinite():
    p, q = jnp.array([0.0, 1.0, -jnp.inf]), jnp.array([1.0, 0.0, -jnp.inf])
    gradient = jax.jit(jax.grad(categorical_kl, argnums=(0, 1)))(p, q)
    assert float(categorical_kl(p, q)) == pytest.approx(float(categorical_kl(p[:2], q[:2])), rel=1e-6)
    assert np.isfinite(gradient).all() and float(entropy(p)) == pytest.approx(float(entropy(p[:2])), rel=1e-6)
    assert float(categorical_kl(jnp.zeros(3), q)) == math.inf


def test_gaussian_kl_is_the_sum_of_scalar_ones():
    a, b, c, d = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    s, t = np.exp(b.astype(float)), np.exp(d.astype(float))
    expected = (np.log(t / s) + (s**2 + (a - c) ** 2) / (2.0 * t**2) - 0.5).sum(axis=-1)
    np.testing.assert_allclose(gaussian_kl(a, b, c, d), expected, rtol=1e-5)


def test_squashing_changes_the_density_and_not_the_divergence(x64):
    """KL of the densities of tanh(u) by quadrature over the actions in (−1, 1)."""
    pair = (0.3, -0.2), (-0.4, 0.1)

    log_prob = jax.jit(squashed_log_prob)

    def density(a, mean, log_std):
        return math.exp(log_prob(np.array([math.atanh(a)]), np.array([mean]), np.array([log_std])))

    def integrand(a):
        p, q = (density(a, *law) for law in pair)
        return p * math.log(p / q)

    edge = math.tanh(6.0)
    assert quad(lambda a: density(a, *pair[0]), -edge, edge)[0] == pytest.approx(1.0, abs=1e-8)
    arrays = [np.array([x]) for law in pair for x in law]
    assert float(squashed_gaussian_kl(*arrays)) == pytest.approx(quad(integrand, -edge, edge)[0], abs=1e-7)
    far = squashed_log_prob(np.float32([40.0]), np.float32([39.0]), np.float32([0.0]))  # tanh is 1 in float32 here
    assert float(far) == pytest.approx(stats.norm.logpdf(1.0) + 80.0 - 2.0 * math.log(2.0), rel=1e-6)


# --- steps ------------------------------------------------------------------------------------------------------------


def test_the_fisher_product_is_that_of_the_categorical(x64):
    """diag(π) − ππᵀ, of a mean over states."""
    logits = np.random.default_rng(0).normal(size=(3, 4))
    product = fisher_product(lambda theta: categorical_kl(logits, theta).mean(), logits, damping=0.1)
    v = np.random.default_rng(1).normal(size=(3, 4))
    p = softmax(logits, axis=-1)
    expected = (p * v - p * np.sum(p * v, axis=-1, keepdims=True)) / 3.0 + 0.1 * v
    np.testing.assert_allclose(product(jnp.asarray(v)), expected, atol=1e-12)


def test_the_natural_step_solves_the_quadratic_problem(x64):
    """max gᵀs with ½ sᵀFs ≤ δ, by a dense solve; the parameters are a tree."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    fisher, g, limit = root @ root.T + np.eye(5), rng.normal(size=5), 0.02
    split = lambda x: {"a": jnp.asarray(x[:2]), "b": jnp.asarray(x[2:])}  # noqa: E731
    joined = lambda tree: np.concatenate([tree["a"], tree["b"]])  # noqa: E731
    step = joined(natural_step(split(g), lambda v: split(fisher @ jnp.concatenate([v["a"], v["b"]])), limit=limit))
    direction = np.linalg.solve(fisher, g)
    np.testing.assert_allclose(step, direction * math.sqrt(2.0 * limit / (direction @ g)), rtol=1e-5)
    assert 0.5 * step @ fisher @ step == pytest.approx(limit)
    nothing = natural_step(jnp.zeros(2), lambda v: v, limit=limit)
    assert nothing.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("length, limit, worst", [(0.5, 0.1, 0.0), (3.0, 0.1, 0.0), (3.0, 1e9, 1.2), (-1.0, 1.0, 0.0)])
def test_the_line_search_takes_the_largest_step_that_is_allowed(x64, length, limit, worst):
    """By brute force over all fractions; the objective falls beyond `worst`, where there is one."""

    def objective(x):
        return jnp.where((worst > 0.0) & (x["w"] > worst), -x["w"], x["w"])

    def kl(x):
        return 0.5 * x["w"] ** 2

    fractions = 0.8 ** np.arange(15)
    allowed = [f for f in fractions if kl({"w": f * length}) <= limit and objective({"w": f * length}) > 0.0]
    found = jax.jit(lambda s: line_search(objective, kl, {"w": 0.0}, {"w": s}, limit=limit))(length)
    assert float(found.fraction) == pytest.approx(max(allowed, default=0.0))
    assert float(found.parameters["w"]) == pytest.approx(max(allowed, default=0.0) * length)
    assert found.kl <= limit and (found.improvement > 0.0) == bool(allowed)


def test_the_line_search_refuses_what_is_not_finite_and_serves_members_apart():
    steps = jnp.array([1.0, 4.0, -1.0])
    search = jax.vmap(lambda s: line_search(lambda x: jnp.log(x), lambda x: (x - 1.0) ** 2, 1.0, s, limit=1.0))
    found = search(steps)
    assert found.fraction[0] == 1.0 and 0.0 < found.fraction[1] <= 0.25 and found.fraction[2] == 0.0
    lost = line_search(lambda x: x, lambda x: jnp.nan * x, 0.0, 1.0, limit=1.0)
    assert float(lost.parameters) == 0.0 == float(lost.fraction)


@pytest.mark.slow
def test_a_natural_step_keeps_its_kl_and_beats_the_plain_gradient(x64):
    """On a softmax policy: at equal KL the natural direction gains more, to first order."""
    rng = np.random.default_rng(0)
    logits, r = jnp.asarray(2.0 * rng.normal(size=6)), jnp.asarray(rng.normal(size=6))
    kl = lambda theta: categorical_kl(logits, theta)  # noqa: E731
    reward = lambda theta: jax.nn.softmax(theta) @ r  # noqa: E731
    g, product = jax.grad(reward)(logits), fisher_product(kl, logits, damping=1e-9)
    natural = natural_step(g, product, limit=1e-5, iterations=30)
    plain = g * jnp.sqrt(2e-5 / (g @ product(g)))
    assert float(kl(logits + natural)) == pytest.approx(1e-5, rel=0.01) == float(kl(logits + plain))
    assert reward(logits + natural) > 1.01 * (reward(logits + plain) - reward(logits)) + reward(logits)


def test_the_coefficient_settles_within_a_factor_of_two_of_the_one_that_meets_the_target(x64):
    """In a closed loop with the optimum under the penalty. KL falls as 1/β², so that a factor of 2 may overshoot."""
    prior, r = np.random.default_rng(0).normal(size=(2, 8))
    kl = jax.jit(lambda beta: categorical_kl(regularised_optimum(prior, r, beta).log_policy, prior))
    exact = brentq(lambda beta: kl(beta) - 0.1, 0.05, 50.0)
    for start in (1e-3, 50.0):
        path = [start]
        for _ in range(30):
            path.append(float(adapted_coefficient(path[-1], kl(path[-1]), 0.1)))
        assert all(0.5 <= beta / exact <= 2.0 for beta in path[-5:])


# --- the optimum ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1e-3, 0.3, 1e4])
def test_the_regularised_optimum_by_brute_force(beta):
    rng = np.random.default_rng(0)
    prior, r = rng.normal(size=(2, 5)).astype(np.float32)
    found = best_of(prior, r, beta)
    log_prior = np.log(softmax(prior.astype(float)))
    exact = beta * math.log(np.sum(np.exp(log_prior + (r.astype(float) - r.max()) / beta))) + r.max()
    assert float(found.value) == pytest.approx(exact, rel=1e-5, abs=1e-6), "also for large β, where float32 would round"
    assert float(jnp.sum(jnp.exp(found.log_policy))) == pytest.approx(1.0, abs=1e-5)

    def lost(logits):
        pi = softmax(logits)
        return -(pi @ r - beta * rel_entr(pi, np.exp(log_prior)).sum())

    if beta < 1e3:
        assert -minimize(lost, prior.astype(float), tol=1e-10).fun == pytest.approx(exact, abs=1e-3 * beta + 1e-4)


def test_its_value_spans_the_prior_mean_and_the_best_reward(x64):
    prior, r = np.random.default_rng(0).normal(size=(2, 5))
    values = [float(best_of(prior, r, beta).value) for beta in (1e-4, 0.1, 1.0, 10.0, 1e6)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(r.max(), abs=1e-3) and values[-1] == pytest.approx(softmax(prior) @ r, abs=1e-5)


def test_what_a_policy_lacks_is_beta_times_its_kl_to_the_optimum(x64):
    prior, r, other = np.random.default_rng(0).normal(size=(3, 4, 5))
    best = best_of(prior, r, BETA)
    reached = np.sum(softmax(other, axis=-1) * r, axis=-1) - BETA * categorical_kl(other, prior)
    np.testing.assert_allclose(best.value - reached, BETA * categorical_kl(other, best.log_policy), rtol=1e-10)


def test_soft_value_iteration_reaches_the_fixed_point(process):
    found = solved(*process, beta=BETA, discount=DISCOUNT, tolerance=1e-12)
    r, p, prior = process
    backed = best_of(prior, r + DISCOUNT * p @ np.asarray(found.value), BETA)
    np.testing.assert_allclose(backed.value, found.value, atol=1e-11)
    own = value_of(found.log_policy, *process, beta=BETA, discount=DISCOUNT)
    np.testing.assert_allclose(own, found.value, atol=1e-10)


def test_no_policy_of_the_mdp_is_better(process):
    """Brute force over the logits of all states."""
    best = solved(*process, beta=BETA, discount=DISCOUNT, tolerance=1e-12)
    value = jax.jit(lambda x: value_of(x.reshape(3, 2), *process, beta=BETA, discount=DISCOUNT).mean())
    slope = jax.jit(jax.grad(value))
    found = minimize(lambda x: -value(x), np.zeros(6), jac=lambda x: -slope(x), tol=1e-12)
    assert -found.fun == pytest.approx(float(best.value.mean()), abs=1e-8)
    reached = softmax(found.x.reshape(3, 2), axis=-1)
    np.testing.assert_allclose(reached, jnp.exp(best.log_policy), atol=1e-4)


def test_the_gap_in_an_mdp_is_the_kl_over_the_states_that_are_visited(process):
    """J* − J(π) = β E_s KL(π‖π*) / (1 − γ), s from the discounted visits of π."""
    start, other = np.array([0.2, 0.5, 0.3]), np.random.default_rng(9).normal(size=(3, 2))
    options = {"beta": BETA, "discount": DISCOUNT}
    best = solved(*process, **options, tolerance=1e-13)
    gap = start @ (best.value - value_of(other, *process, **options))
    seen = visited(other, process[1], start, discount=DISCOUNT)
    assert float(seen.sum()) == pytest.approx(1.0)
    kl = seen @ categorical_kl(other, best.log_policy)
    assert float(gap) == pytest.approx(BETA * float(kl) / (1.0 - DISCOUNT), rel=1e-9)


def test_a_large_price_keeps_the_prior_and_a_small_one_is_plain_value_iteration(process):
    r, p, prior = process
    near = solved(*process, beta=1e6, discount=DISCOUNT)
    np.testing.assert_allclose(jnp.exp(near.log_policy), softmax(prior, axis=-1), atol=1e-5)
    value = np.zeros(3)
    for _ in range(200):
        value = (r + DISCOUNT * p @ value).max(axis=1)
    far = solved(*process, beta=1e-4, discount=DISCOUNT)
    np.testing.assert_allclose(far.value, value, atol=5e-3)


def test_without_a_future_it_is_the_bandit_and_it_is_differentiable(process):
    r, p, prior = process
    found = solved(r, p, prior, beta=BETA, discount=0.0)
    np.testing.assert_allclose(found.value, best_of(prior, r, BETA).value)
    value = lambda r: solved(r, p, prior, beta=BETA, discount=DISCOUNT).value.sum()  # noqa: E731
    gradient = jax.jit(jax.grad(value))(r)
    best = solved(r, p, prior, beta=BETA, discount=DISCOUNT)
    seen = 3.0 * visited(best.log_policy, p, np.full(3, 1 / 3), discount=DISCOUNT) / (1.0 - DISCOUNT)
    np.testing.assert_allclose(gradient, seen[:, None] * jnp.exp(best.log_policy), atol=1e-6)  # envelope theorem


STAY, TWO = np.ones((1, 2, 1)), np.zeros((1, 2))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: categorical_kl(np.zeros(2), np.zeros(3)), ["(2,)", "(3,)"]),
        (lambda: regularised_optimum(np.zeros(2), np.zeros(2), 0.0), ["beta = 0.0", "positive"]),
        (lambda: regularised_optimum(np.zeros(2), np.zeros(3), 1.0), ["(2,)", "(3,)"]),
        (lambda: adapted_coefficient(1.0, 1.0, 0.0), ["target = 0.0"]),
        (lambda: natural_step(jnp.ones(1), lambda v: v, limit=-1.0), ["limit = -1.0"]),
        (lambda: line_search(sum, sum, 0.0, 1.0, limit=1.0, shrink=1.0), ["shrink = 1.0"]),
        (lambda: soft_value_iteration(TWO, STAY, TWO, beta=1, discount=1.0), ["discount = 1"]),
        (lambda: soft_value_iteration(TWO, 2 * STAY, TWO, beta=1, discount=0.5), ["transitions", "sums to 1"]),
        (lambda: policy_value(TWO, np.zeros((1, 3)), STAY, np.zeros((1, 3)), beta=1, discount=0.5), ["(1, 3)"]),
        (lambda: visits(TWO, STAY, np.array([2.0]), discount=0.5), ["start", "divide it by its sum"]),
        (lambda: visits(TWO, STAY, np.ones(2), discount=0.5), ["(2,)", "1 states"]),
    ],
)
def test_bad_input_is_refused_with_the_remedy(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value


def test_numbers_that_are_none_stay_none_and_forbidden_rewards_do_not_count():
    assert np.isnan(categorical_kl(jnp.array([jnp.nan, 0.0]), jnp.zeros(2)))
    found = regularised_optimum(jnp.array([0.0, 0.0, -jnp.inf]), jnp.array([1.0, 0.0, 1e9]), 1.0)
    np.testing.assert_allclose(found.value, np.log(0.5 * (np.e + 1.0)), rtol=1e-5)
    np.testing.assert_allclose(np.exp(found.log_policy).sum(), 1.0, rtol=1e-5)


@pytest.mark.slow
def test_without_a_price_a_policy_outside_the_prior_has_its_reward(dtype):
    """β = 0, γ = ½, one state: r/(1 − γ) = 2; at β > 0 it is −∞. An action that π leaves out may be forbidden."""
    stay = np.ones((1, 2, 1), dtype)
    away, prior = jnp.asarray([[0.0, -jnp.inf]], dtype), jnp.asarray([[-jnp.inf, 0.0]], dtype)
    for beta, expected in ((0.0, 2.0), (1.0, -math.inf)):
        found = policy_value(away, jnp.asarray([[1.0, 0.0]], dtype), stay, prior, beta=beta, discount=0.5)
        assert found.tolist() == [expected]
    forbidden = jnp.asarray([[1.0, -jnp.inf]], dtype)
    value, slope = jax.value_and_grad(
        lambda policy: policy_value(policy, forbidden, stay, policy, beta=0.0, discount=0.5)[0]
    )(away)
    assert float(value) == 2.0 and np.all(np.isfinite(slope))
