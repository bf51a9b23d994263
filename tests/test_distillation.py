"""Distillation losses: gradients that are KL's, limits of temperature, optimal transport by linear programming."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import linprog
from scipy.spatial.distance import pdist, squareform
from scipy.special import log_softmax, rel_entr, softmax

from estimators.divergences.generator import from_generator
from estimators.divergences.table import DIVERGENCES
from estimators.objectives import distillation
from estimators.objectives.distillation import (
    class_costs,
    class_means,
    decoupled_kl,
    divergence_loss,
    entropic_transport,
    improved_kl,
    sinkhorn_divergence,
    softened_kl,
    temperature_loss,
    wasserstein_loss,
)

ROWS, CLASSES = 6, 5
KINDS = ("kl", "neyman", "js", "gan", "hockey_stick(2)")
"""Divergences that differ in kind: no limit on one side, on neither, bounded, f(1) ≠ 0, a kink. The others are slow."""


@pytest.fixture
def logits():
    """(teacher, student) [6, 5] in float32, some rows far apart; where numbers must be exact, tests use float64."""
    rng = np.random.default_rng(3)
    scale = np.array([0.1, 1.0, 1.0, 3.0, 3.0, 8.0])[:, None]
    return tuple(jnp.asarray(scale * rng.normal(size=(ROWS, CLASSES)), jnp.float32) for _ in range(2))


CLOSE = {"rtol": 2e-5, "atol": 2e-6}  # to what float32 holds


# --- the softened KL and the temperature loss -------------------------------------------------------------------------


def test_the_softened_kl_is_scipys(logits):
    temperature = 4.0
    p, q = (softmax(np.asarray(x, float) / temperature, axis=-1) for x in logits)
    expected = temperature**2 * rel_entr(p, q).sum(axis=-1)
    np.testing.assert_allclose(softened_kl(*logits, temperature), expected, **CLOSE)
    missing = jnp.full((ROWS, 1), -jnp.inf)  # a class that cannot occur
    wider = (jnp.concatenate([x, missing], axis=1) for x in logits)
    np.testing.assert_allclose(softened_kl(*wider, temperature), expected, **CLOSE)


def test_the_temperature_loss_blends_labels_and_teacher(logits):
    labels = jnp.arange(ROWS) % CLASSES
    hard = -log_softmax(np.asarray(logits[1], float), axis=-1)[np.arange(ROWS), labels]
    soft = np.asarray(softened_kl(*logits, 2.0), float)
    found = temperature_loss(labels, *logits, 2.0, weight=0.3)
    np.testing.assert_allclose(found, 0.3 * hard + 0.7 * soft, **CLOSE)
    other = temperature_loss(labels, *logits, 2.0, weight=0.0, loss=divergence_loss)
    np.testing.assert_array_equal(other, divergence_loss(*logits, 2.0))


@pytest.mark.parametrize("name", ["js", pytest.param("reverse_kl", marks=pytest.mark.slow)])
def test_hot_losses_tend_to_half_the_curvature_times_the_variance_of_logit_differences(x64, name):
    m, n = np.random.default_rng(0).normal(size=(2, 4, 7))
    expected = 0.5 * float(DIVERGENCES[name].second(1.0)) * (m - n).var(axis=-1)
    np.testing.assert_allclose(divergence_loss(m, n, 1e3, d=name), expected, rtol=5e-3)
    gradient = jax.jit(jax.grad(lambda n, t: divergence_loss(m, n, t, d=name).sum()))
    sizes = [float(jnp.linalg.norm(gradient(n, t))) for t in (50.0, 1e3)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1), "T² keeps the size of the gradient"


# --- decoupled and improved KL ----------------------------------------------------------------------------------------


def test_the_decoupled_kl_has_the_gradients_of_kl_in_both_arguments(x64):
    """Theorem 1 of Cui et al. 2024, at random logits and temperatures."""
    gradients = [
        jax.jit(jax.grad(lambda m, n, t, loss=loss: loss(m, n, t).sum(), argnums=(0, 1)))
        for loss in (decoupled_kl, softened_kl)
    ]
    for seed in range(20):
        m, n = 3.0 * np.random.default_rng(seed).normal(size=(2, 4, 6))
        found, expected = (gradient(m, n, 1.0 + seed % 3) for gradient in gradients)
        np.testing.assert_allclose(found[0], expected[0], atol=1e-12)
        np.testing.assert_allclose(found[1], expected[1], atol=1e-12)
        assert np.abs(expected[0]).max() > 1e-3 < np.abs(expected[1]).max(), "zeros would prove nothing"


@pytest.mark.parametrize("stopped", ["neither", "weights"])
def test_other_stops_break_the_equality(x64, stopped):
    """The stops are what makes it: with Δn free, or the weights free, a gradient differs."""
    m, n = 3.0 * np.random.default_rng(0).normal(size=(2, 6))

    def without(m, n):
        s = jax.nn.softmax(m) if stopped == "neither" else jax.lax.stop_gradient(jax.nn.softmax(m))
        differences = (m - n)[:, None] - (m - n)[None, :]
        soft = optax.softmax_cross_entropy(n, jax.lax.stop_gradient(jax.nn.softmax(m)))
        return 0.25 * jnp.sum(s[:, None] * s[None, :] * differences**2) + soft

    found, expected = (jax.jit(jax.grad(f, argnums=(0, 1)))(m, n) for f in (without, softened_kl))
    assert max(np.abs(a - b).max() for a, b in zip(found, expected)) > 1e-2


def test_values_are_the_double_sums_of_the_source(logits):
    m, n = (np.asarray(x, float) for x in logits)
    means = softmax(np.random.default_rng(1).normal(size=CLASSES))
    differences = (m - n)[:, :, None] - (m - n)[:, None, :]
    soft = -(softmax(m, axis=-1) * log_softmax(n, axis=-1)).sum(axis=-1)
    s = softmax(m, axis=-1)
    own = 0.25 * np.einsum("rj,rk,rjk->r", s, s, differences**2)
    shared = 0.25 * np.einsum("j,k,rjk->r", means, means, differences**2)
    np.testing.assert_allclose(decoupled_kl(*logits), own + soft, **CLOSE)
    np.testing.assert_allclose(improved_kl(*logits, means=means, pull=0.5), 0.5 * shared + soft, **CLOSE)


def test_the_improved_kl_pulls_the_student_towards_the_teachers_logits(x64):
    """Its gradient in n is s(n) − s(m) plus w(d − E_w d) with the other sign; KL's lacks the second part."""
    m, n = np.random.default_rng(5).normal(size=(2, 6))
    means = softmax(np.random.default_rng(6).normal(size=6))
    d = n - m
    expected = softmax(n) - softmax(m) + means * (d - means @ d)
    gradient = jax.jit(jax.grad(lambda n: improved_kl(m, n, means=means)))(n)
    np.testing.assert_allclose(gradient, expected, atol=1e-12)


def test_class_means_are_means_of_softened_rows():
    m = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)), jnp.float32)
    labels = jnp.array([0, 0, 0, 1, 1, 0, 1])
    found = np.asarray(class_means(m, labels, 2.0))
    s = softmax(np.asarray(m, float) / 2.0, axis=-1)
    for c in (0, 1):
        np.testing.assert_allclose(found[c], s[np.asarray(labels) == c].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found[2], 1.0 / 3.0, rtol=1e-6)  # no rows of that class


# --- any divergence ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n if n in KINDS else pytest.param(n, marks=pytest.mark.slow) for n in DIVERGENCES])
def test_every_divergence_of_the_table_is_the_sum_over_classes(logits, name):
    p, q = (softmax(np.asarray(x, float), axis=-1) for x in logits)
    with jax.enable_x64(True):
        expected = np.sum(q * np.asarray(jax.jit(DIVERGENCES[name].f)(jnp.asarray(p / q))), axis=-1)

    def both(m, n):
        return divergence_loss(m, n, d=name), jax.grad(lambda n: divergence_loss(m, n, d=name).sum())(n)

    found, gradients = jax.jit(both)(*logits)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.isfinite(gradients).all()


def test_its_gradient_is_that_of_the_sum(x64):
    m, n = np.random.default_rng(2).normal(size=(2, 6))
    mine = from_generator("mine", lambda u: (u - 1.0) ** 2 / (u + 1.0))

    def direct(m, n):
        p, q = jax.nn.softmax(m), jax.nn.softmax(n)
        return jnp.sum((p - q) ** 2 / (p + q))

    losses = (lambda m, n: divergence_loss(m, n, d=mine)), direct
    for found, expected in zip(*(jax.jit(jax.grad(loss, (0, 1)))(m, n) for loss in losses)):
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "neyman", "total_variation"])
def test_far_apart_it_is_a_finite_lower_bound_with_a_gradient_that_helps(name):
    """Also where a class cannot occur: no inf − inf, no overflow in float32."""
    m, n = jnp.array([0.0, -80.0, -jnp.inf, -jnp.inf]), jnp.array([-80.0, 0.0, -jnp.inf, -90.0])
    value, gradient = jax.jit(jax.value_and_grad(lambda n: divergence_loss(m, n, d=name)))(n)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    tangent = distillation.WIDEST + 1.0  # of u log u and of −log u, where the ratio would be e^80 and e^−80
    expected = {"kl": tangent, "reverse_kl": tangent, "js": np.log(2.0), "total_variation": 1.0}
    if name in expected:
        assert float(value) == pytest.approx(expected[name], rel=1e-5)
    if name != "total_variation":
        assert gradient[0] <= 0.0 <= gradient[1]


# --- transport --------------------------------------------------------------------------------------------------------


def exact_transport(p: np.ndarray, q: np.ndarray, cost: np.ndarray) -> float:
    """The Wasserstein distance by linear programming."""
    k = len(p)
    rows, columns = np.kron(np.eye(k), np.ones((1, k))), np.kron(np.ones((1, k)), np.eye(k))
    found = linprog(cost.ravel(), A_eq=np.concatenate([rows, columns]), b_eq=np.concatenate([p, q]))
    assert found.success
    return found.fun


@pytest.fixture
def simplex(x64):
    """(p [4, 5], q [4, 5], a metric cost [5, 5]); one p has a class of probability 0."""
    rng = np.random.default_rng(7)
    p, q = rng.dirichlet(np.ones(CLASSES), size=(2, 4))
    p[3, 1], p[3] = 0.0, p[3] / (1.0 - p[3, 1])
    p[3] /= p[3].sum()
    points = rng.normal(size=(CLASSES, 2))
    return p, q, np.linalg.norm(points[:, None] - points[None, :], axis=-1)


def test_entropic_transport_lies_within_its_bracket_of_the_linear_program(simplex):
    p, q, cost = simplex
    exact = np.array([exact_transport(*pair, cost) for pair in zip(p, q)])
    entropy = np.minimum(*(-np.sum(np.where(x > 0, x * np.log(np.where(x > 0, x, 1.0)), 0.0), axis=1) for x in (p, q)))
    with np.errstate(divide="ignore"):
        logs = np.log(p), np.log(q)
    for epsilon in (0.5, 0.05):
        found = np.asarray(entropic_transport(*logs, cost, regularisation=epsilon, iterations=2000))
        assert (found >= exact - 1e-6).all() and (found <= exact + epsilon * entropy + 1e-9).all()
    close = np.asarray(sinkhorn_divergence(*logs, cost, regularisation=0.005, iterations=5000))
    np.testing.assert_allclose(close, exact, atol=0.01)


def test_unit_cost_is_total_variation(x64):
    p, q = np.random.default_rng(0).dirichlet(np.ones(4), size=2)
    assert exact_transport(p, q, 1.0 - np.eye(4)) == pytest.approx(0.5 * np.abs(p - q).sum())
    found = sinkhorn_divergence(np.log(p), np.log(q), 1.0 - np.eye(4), regularisation=0.01, iterations=3000)
    assert float(found) == pytest.approx(0.5 * np.abs(p - q).sum(), abs=0.01)


def test_its_gradient_is_that_of_finite_differences(simplex):
    p, q, cost = simplex
    m, n = np.log(p[0]), np.log(q[0])

    @jax.jit
    def loss(n):
        return wasserstein_loss(m, n, 1.5, cost=cost, regularisation=1.0, iterations=500)

    gradient = np.asarray(jax.jit(jax.grad(loss))(n))
    for k in range(CLASSES):
        step = 1e-5 * np.eye(CLASSES)[k]
        assert gradient[k] == pytest.approx(float(loss(n + step) - loss(n - step)) / 2e-5, abs=1e-7)


def test_the_sinkhorn_divergence_is_least_at_the_teacher_and_the_entropic_cost_is_not(simplex):
    _, q, cost = simplex
    options = {"cost": cost, "regularisation": 0.5, "iterations": 500}
    teacher = np.log(q[0])
    own = jax.jit(jax.grad(lambda n: wasserstein_loss(teacher, n, **options)))(teacher)
    np.testing.assert_allclose(own, 0.0, atol=1e-9)
    for row in q[1:]:
        assert float(wasserstein_loss(teacher, np.log(row), **options)) > 1e-3

    def entropic(n):
        return entropic_transport(teacher, jax.nn.log_softmax(n), cost, regularisation=0.5, iterations=500)

    assert np.abs(jax.jit(jax.grad(entropic))(teacher)).max() > 1e-2


def test_similar_classes_are_cheaper_and_f_divergences_cannot_tell():
    """The teacher says 0; the student puts the same mass on class 1 (near) or on class 2 (far)."""
    cost = np.array([[0.0, 0.1, 1.0], [0.1, 0.0, 1.0], [1.0, 1.0, 0.0]])
    teacher, near, far = jnp.log(jnp.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]))
    assert wasserstein_loss(teacher, near, cost=cost) < 0.3 * wasserstein_loss(teacher, far, cost=cost)
    assert float(softened_kl(teacher, near)) == pytest.approx(float(softened_kl(teacher, far)), rel=1e-5)


def test_costs_are_cosine_distances_of_the_centred_class_means():
    rng = np.random.default_rng(0)
    labels = np.arange(30) % 3
    features = rng.normal(size=(3, 4))[labels] + 0.1 * rng.normal(size=(30, 4))
    means = np.stack([features[labels == c].mean(axis=0) for c in range(3)])
    expected = squareform(pdist(means - means.mean(axis=0), "cosine"))
    np.testing.assert_allclose(class_costs(features, labels, 3), expected, atol=1e-12)


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kl", "js", "improved_kl", "wasserstein"])
def test_one_compiled_program_serves_every_temperature(name):
    m, n = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    more = {"improved_kl": {"means": np.full(3, 1 / 3)}, "wasserstein": {"cost": 1.0 - np.eye(3)}}.get(name, {})
    compiled = jax.jit(lambda m, n, t: distillation.LOSSES[name](m, n, t, **more))
    hot = compiled(m, n, 4.0)
    np.testing.assert_allclose(hot, distillation.LOSSES[name](m, n, 4.0, **more), rtol=1e-4, atol=1e-6)
    assert not np.allclose(hot, compiled(m, n, 1.0))
    np.testing.assert_allclose(compiled(m, m + 1.0, 2.0) - compiled(m, m, 2.0), 0.0, atol=1e-5)  # a shift is no change
    batched = jax.vmap(compiled, in_axes=(None, None, 0))(m, n, jnp.array([1.0, 4.0]))
    np.testing.assert_allclose(batched[1], hot, rtol=1e-5, atol=1e-6)
    assert compiled._cache_size() == 1


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: softened_kl(np.zeros(3), np.zeros(2)), ["(3,)", "(2,)", "[..., classes]"]),
        (lambda: softened_kl(np.zeros(3), np.zeros(3), 0.0), ["temperature = 0.0", "positive"]),
        (lambda: temperature_loss(np.zeros(1), np.zeros((1, 2)), np.zeros((1, 2))), ["float", "integer"]),
        (lambda: temperature_loss(np.array([2]), np.zeros((1, 2)), np.zeros((1, 2))), ["to 2", "below 2"]),
        (lambda: temperature_loss(np.array([0]), np.zeros((1, 2)), np.zeros((1, 2)), weight=2.0), ["weight = 2.0"]),
        (lambda: divergence_loss(np.zeros(2), np.zeros(2), d="klx"), ["klx"]),
        (lambda: wasserstein_loss(np.zeros(2), np.zeros(2), cost=np.zeros((3, 3))), ["(3, 3)", "(2, 2)"]),
        (lambda: wasserstein_loss(np.zeros(2), np.zeros(2), cost=-np.ones((2, 2))), ["negative"]),
        (
            lambda: entropic_transport(np.log([0.5, 0.5]), np.log([0.5, 0.5]), np.eye(2), regularisation=0.0),
            ["regularisation"],
        ),
        (lambda: entropic_transport(np.zeros(2), np.log([0.5, 0.5]), np.eye(2)), ["exp(log_p)", "sums to 1"]),
        (lambda: improved_kl(np.zeros(2), np.zeros(2), means=np.ones(2)), ["means", "divide it by its sum"]),
        (lambda: improved_kl(np.zeros((2, 3)), np.zeros((2, 3)), means=np.ones(2)), ["(2,)", "(3,)"]),
        (lambda: class_costs(np.zeros((2, 2)), np.array([0, 1]), 3), ["class 2"]),
        (lambda: class_means(np.zeros((2, 2)), np.array([0])), ["(2, 2)", "(1,)"]),
        (lambda: class_means(np.zeros((2, 2)), np.array([0, 2])), ["labels from 0 to 2", "below 2"]),
        (lambda: class_costs(np.zeros((2, 2)), np.array([0, 3]), 2), ["labels from 0 to 3", "below 2"]),
    ],
)
def test_bad_input_is_refused_with_the_remedy(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.slow
def test_a_term_without_weight_may_be_infinite(dtype):
    """The teacher holds what the student rules out: KL is infinite, and at weight 1 the labels alone count: log 2."""
    teacher = jnp.zeros((1, 3), dtype)
    student = jnp.asarray([[0.0, 0.0, -jnp.inf]], dtype)
    loss = jax.value_and_grad(lambda n: temperature_loss(jnp.array([0]), teacher, n, weight=1.0)[0])
    value, slope = loss(student)
    assert float(value) == pytest.approx(math.log(2.0), rel=1e-6)
    np.testing.assert_allclose(slope, [[-0.5, 0.5, 0.0]], atol=1e-6)
    assert float(temperature_loss(jnp.array([0]), teacher, student, weight=0.5)[0]) == math.inf
    ruled_out = temperature_loss(jnp.array([2]), student, student, weight=0.0)  # H is infinite, KL is 0
    assert float(ruled_out[0]) == pytest.approx(0.0, abs=1e-6)
