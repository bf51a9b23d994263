"""Barycentres: each is the minimiser that it claims to be, and supports, weights, batches and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from estimators.exact_values import barycentres, discrete

MEMBERS = np.array([[0.7, 0.2, 0.1, 0.0], [0.1, 0.3, 0.2, 0.4], [0.25, 0.25, 0.0, 0.5]])
WEIGHTS = np.array([0.5, 0.3, 0.2])
KINDS = {  # barycentre → Σ w D(p_k, b), a formula of its own
    "arithmetic": lambda b, p: discrete.divergence(p, b, "kl"),
    "geometric": lambda b, p: discrete.divergence(b, p, "kl"),
    "jensen_shannon": lambda b, p: discrete.divergence(p, b, "js"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_minimises_its_mean_divergence(kind, x64):
    """Found anew by a general optimiser over logits; the geometric one among members of full support."""
    members = MEMBERS if kind != "geometric" else 0.9 * MEMBERS + 0.025

    @jax.jit
    @jax.value_and_grad
    def mean(logits):
        b = jax.nn.softmax(logits)
        return sum(w * KINDS[kind](b, p) for w, p in zip(WEIGHTS, members))

    found = getattr(barycentres, kind)(members, WEIGHTS)
    best = minimize(mean, np.zeros(4), jac=True, method="BFGS", options={"gtol": 1e-10})
    np.testing.assert_allclose(found, jax.nn.softmax(best.x), atol=1e-7)
    assert float(mean(jnp.log(found))[0]) <= best.fun + 1e-14


@pytest.mark.slow
def test_closed_forms_and_supports(dtype):
    members, weights = MEMBERS.astype(dtype), WEIGHTS.astype(dtype)
    np.testing.assert_allclose(barycentres.arithmetic(members, weights), WEIGHTS @ MEMBERS, rtol=1e-6)
    expected = np.array([np.prod(MEMBERS[:, i] ** WEIGHTS) for i in range(4)])
    found = barycentres.geometric(members, weights)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-6)
    alone = barycentres.geometric(members, [1.0, 0.0, 0.0])  # a member of no weight takes no mass away
    np.testing.assert_allclose(alone, MEMBERS[0], atol=1e-7)
    apart = np.eye(3, dtype=dtype)[:2]
    np.testing.assert_allclose(barycentres.jensen_shannon(apart), [0.5, 0.5, 0.0], atol=1e-6)
    for kind in KINDS:
        np.testing.assert_allclose(getattr(barycentres, kind)(members[[1, 1]]), MEMBERS[1], rtol=1e-5)


def test_many_members_settle():
    """Twenty sparse members, where the iteration is slowest."""
    rng = np.random.default_rng(0)
    members = rng.dirichlet(np.full(6, 0.1), size=20).astype(np.float32)
    b = barycentres.jensen_shannon(members, iterations=500)
    midpoints = np.log(0.5 * (members + np.asarray(b)))
    fixed = np.exp(midpoints.mean(0))
    np.testing.assert_allclose(b, fixed / fixed.sum(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_axes_logits_and_gradients(kind, x64):
    make, logits = getattr(barycentres, kind), np.random.default_rng(1).normal(size=(3, 2, 5))
    each = np.stack([make(np.asarray(jax.nn.softmax(logits[:, i]))) for i in range(2)])
    np.testing.assert_allclose(make(logits, logits=True), each, atol=1e-12)
    np.testing.assert_allclose(make(logits.swapaxes(1, 2), axis=1, logits=True), each.T, atol=1e-12)
    slope = jax.jit(jax.grad(lambda w: make(jnp.asarray(MEMBERS), w)[0]))(jnp.asarray(WEIGHTS))
    assert np.all(np.isfinite(slope))
    step = 1e-6 * np.array([1.0, -1.0, 0.0])
    numeric = (make(MEMBERS, WEIGHTS + step)[0] - make(MEMBERS, WEIGHTS - step)[0]) / 2e-6
    np.testing.assert_allclose(slope[0] - slope[1], numeric, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    ("members", "options", "words"),
    [
        ([[0.5, 0.6], [0.5, 0.5]], {}, "members sums to 1.1"),
        ([0.5, 0.5], {}, r"members of shape \(2,\).*the first axis counts"),
        ([[0.5, 0.5]], {"weights": [0.5, 0.5]}, r"weights have shape \(2,\): pass one for each of the 1 members"),
        ([[0.5, 0.5]], {"weights": [2.0]}, "weights sums to 2"),
    ],
)
def test_bad_input_is_named(members, options, words):
    with pytest.raises(ValueError, match=words):
        barycentres.arithmetic(members, **options)


def test_what_has_no_barycentre():
    with pytest.raises(ValueError, match="share no outcome"):
        barycentres.geometric(np.eye(3))
    assert np.all(jax.jit(barycentres.geometric)(np.eye(3)) == 0.0)
    with pytest.raises(ValueError, match="iterations = 1: the last step still changed b by"):
        barycentres.jensen_shannon(MEMBERS, iterations=1)


@pytest.mark.parametrize("kind", ["apart", "random", "one against many"])
def test_many_sharp_members_settle_where_the_gradient_vanishes(kind, dtype):
    """Forty to a hundred, at the defaults: Σ w log(1 + p/b) is the same for every outcome, in float64 by the result."""
    logits = {
        "apart": 20.0 * np.eye(100),
        "random": 15.0 * np.random.default_rng(0).normal(size=(60, 30)),
        "one against many": np.concatenate([30.0 * np.eye(3), np.zeros((40, 3))]),
    }[kind]
    b = np.asarray(barycentres.jensen_shannon(logits.astype(dtype), logits=True), float)
    p = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    level = np.mean(np.log1p(p / b), axis=0)
    np.testing.assert_allclose(b.sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(level, np.sum(b * level), rtol=1e-4 if dtype == np.float32 else 1e-9)


def test_an_outcome_of_members_without_weight_has_no_mass(x64):
    b = barycentres.jensen_shannon([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0], [0.0, 0.0, 1.0]], [0.5, 0.5, 0.0])
    np.testing.assert_allclose(b, [*barycentres.jensen_shannon([[0.5, 0.5], [0.2, 0.8]]), 0.0], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("depths", [(200.0, 300.0), (88.0, 110.0), (750.0, 800.0)])
def test_an_outcome_that_all_members_all_but_miss(depths, dtype):
    """Its mass e^{−200} in one member and less in another: b has about none of it, and no NaN."""
    logits = np.array([[0.0, -depth] for depth in depths], dtype)
    b = barycentres.jensen_shannon(logits, logits=True)
    np.testing.assert_allclose(b, [1.0, 0.0], atol=1e-30)
    slope = jax.grad(lambda x: barycentres.jensen_shannon(x, logits=True)[0])(jnp.asarray(logits))
    assert np.all(np.isfinite(slope))
