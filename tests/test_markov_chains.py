"""Markov chains: stationary distributions, and the KL rate against KL of whole paths."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estimators.exact_values import markov_chains

RNG = np.random.default_rng(0)
P, Q = (RNG.dirichlet(np.ones(3), size=3) for _ in range(2))


def test_stationary_is_the_left_eigenvector(dtype):
    chains = RNG.dirichlet(np.ones(5), size=(2, 5))
    found = markov_chains.stationary_distribution(chains.astype(dtype))
    assert found.dtype == dtype
    for pi, chain in zip(found, chains):
        values, vectors = np.linalg.eig(chain.T)
        exact = np.real(vectors[:, np.argmax(values.real)])
        np.testing.assert_allclose(pi, exact / exact.sum(), rtol=1e-12 if dtype == np.float64 else 1e-5)


def test_periodic_slow_and_transient_chains(x64):
    stationary = markov_chains.stationary_distribution
    np.testing.assert_allclose(stationary([[0.0, 1.0], [1.0, 0.0]]), [0.5, 0.5], rtol=1e-14)
    slow = [[1.0 - 1e-8, 1e-8], [3e-8, 1.0 - 3e-8]]  # forgets in 1e8 steps
    np.testing.assert_allclose(stationary(slow), [0.75, 0.25], rtol=1e-6)
    np.testing.assert_array_equal(stationary([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), [0.0, 0.5, 0.5])


def test_reducible_chains_need_a_start(x64):
    two = np.array([[1.0, 0.0, 0.0], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]])
    with pytest.raises(ValueError, match=r"has 2 closed classes of states.*pass initial="):
        markov_chains.stationary_distribution(two)
    found = markov_chains.stationary_distribution(two, initial=[0.0, 1.0, 0.0])
    np.testing.assert_allclose(found, [1.0 / 3.0, 0.0, 2.0 / 3.0], rtol=1e-12)  # of the ways out of the middle
    assert np.all(np.isfinite(jax.jit(markov_chains.stationary_distribution)(two)))


def test_the_rate_is_the_growth_of_kl_between_paths(x64):
    """KL of paths that start as π grows by the rate with each step, exactly: by the sum over all paths."""
    pi = np.asarray(markov_chains.stationary_distribution(P))
    steps = np.arange(3), np.arange(1, 4)
    paths = np.array(list(itertools.product(range(3), repeat=4)))
    along = ([chain[paths[:, i], paths[:, j]] for i, j in zip(*steps)] for chain in (P, Q))
    p, q = (pi[paths[:, 0]] * np.prod(chain, axis=0) for chain in along)
    assert float(markov_chains.kl_rate(P, Q)) == pytest.approx(np.sum(p * np.log(p / q)) / 3.0, rel=1e-12)


def test_infinite_rates_and_steps_that_do_not_count(x64):
    rate = markov_chains.kl_rate
    never = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert rate(np.full((2, 2), 0.5), never) == math.inf
    # p leaves state 0 for good, and the step that q never makes with it
    p, q = [[0.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [0.25, 0.75]]
    assert float(rate(p, q)) == pytest.approx(-math.log(0.75))
    slope = jax.grad(lambda x: rate(jnp.array(p), jax.nn.softmax(x)))(jnp.zeros((2, 2)))
    np.testing.assert_allclose(slope, [[0.0, 0.0], [0.5, -0.5]], atol=1e-12)


@pytest.mark.parametrize(
    ("transition", "words"),
    [
        ([[0.5, 0.5]], r"p has shape \(1, 2\): transition probabilities are"),
        ([[0.5, 0.5], [0.5, 0.6]], "p sums to 1.1"),
        ([[1.5, -0.5], [0.5, 0.5]], "p holds -0.5"),
    ],
)
def test_bad_input_is_named(transition, words):
    with pytest.raises(ValueError, match=words):
        markov_chains.kl_rate(transition, [[0.5, 0.5], [0.5, 0.5]])


def test_a_double_well_is_left_in_time():
    """Detailed balance of a birth–death chain that needs 10^18 steps from one well to the other."""
    n = 42
    t = np.zeros((n, n))
    for i in range(n):
        up, down = (0.1, 0.8) if i < n // 2 else (0.8, 0.1)
        up, down = (0.05 if i == 0 else up) * (i < n - 1), down * (i > 0)
        t[i, min(i + 1, n - 1)] += up
        t[i, max(i - 1, 0)] += down
        t[i, i] += 1.0 - up - down
    ratios = [t[i, i + 1] / t[i + 1, i] for i in range(n - 1)]
    expected = np.concatenate([[1.0], np.cumprod(ratios)])
    with jax.enable_x64(True):
        found = markov_chains.stationary_distribution(t)
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-4)
